"""Business keys: at most one live instance of a workflow holds one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perdure_server.engine.facts import InstanceRetried
from perdure_server.engine.state import InstanceState
from perdure_server.store.protocol import COMMITTED, Conflict, ConflictKind, Store
from support.factories import a_change, a_definition, a_fact, a_state

HELD = Conflict(ConflictKind.BUSINESS_KEY)
LIVE = [InstanceState.PENDING, InstanceState.RUNNING, InstanceState.WAITING]
OVER = [InstanceState.COMPLETED, InstanceState.CANCELLED, InstanceState.FAILED]


@pytest.mark.parametrize("status", LIVE)
async def test_a_live_instance_holds_its_key(store: Store, other: Store, status: InstanceState) -> None:
    holder = a_state(business_key="b-1", status=status)
    await store.commit([a_change(holder)])
    assert await other.find_business_key("order", "b-1") == holder.instance_id
    assert list(await other.commit([a_change(a_state(business_key="b-1"))])) == [HELD]


@pytest.mark.parametrize("status", OVER)
async def test_an_instance_that_is_over_lets_go_of_its_key(store: Store, status: InstanceState) -> None:
    holder = a_state(business_key="b-1")
    await store.commit([a_change(holder)])
    await store.commit([a_change(replace(holder, status=status, revision=2))])
    assert await store.find_business_key("order", "b-1") is None
    heir = a_state(business_key="b-1")
    assert list(await store.commit([a_change(heir)])) == [COMMITTED]
    assert await store.find_business_key("order", "b-1") == heir.instance_id


async def test_another_key_and_another_workflow_are_free(store: Store) -> None:
    await store.put_definition(a_definition("refund"))
    states = [
        a_state(business_key="b-1"),
        a_state(business_key="b-2"),
        a_state(workflow="refund", business_key="b-1"),
        a_state(),
        a_state(),
    ]
    assert list(await store.commit([a_change(state) for state in states])) == [COMMITTED] * 5


async def test_a_holder_keeps_its_key_while_it_continues(store: Store) -> None:
    holder = a_state(business_key="b-1")
    await store.commit([a_change(holder)])
    later = replace(holder, revision=2, status=InstanceState.WAITING)
    assert list(await store.commit([a_change(later)])) == [COMMITTED]
    assert await store.find_business_key("order", "b-1") == holder.instance_id


async def test_a_retry_takes_the_key_again_or_loses(store: Store) -> None:
    failed = a_state(business_key="b-1", status=InstanceState.FAILED)
    retried = replace(failed, revision=2, status=InstanceState.RUNNING)
    retry = a_change(retried, facts=(InstanceRetried(),))
    rival = a_state(business_key="b-1")
    await store.commit([a_change(failed)])
    await store.commit([a_change(rival)])
    assert list(await store.commit([retry])) == [HELD]
    await store.commit([a_change(replace(rival, revision=2, status=InstanceState.COMPLETED))])
    assert list(await store.commit([retry])) == [COMMITTED]
    assert await store.find_business_key("order", "b-1") == failed.instance_id


async def test_of_two_that_want_a_key_in_one_batch_the_first_gets_it(store: Store) -> None:
    first, second, bystander = a_state(business_key="b-1"), a_state(business_key="b-1"), a_state()
    outcomes = await store.commit([a_change(first), a_change(second), a_change(bystander)])
    assert list(outcomes) == [COMMITTED, HELD, COMMITTED]
    assert await store.find_business_key("order", "b-1") == first.instance_id


async def test_a_key_that_is_freed_and_wanted_in_one_batch_is_never_held_twice(store: Store) -> None:
    holder, heir = a_state(business_key="b-1"), a_state(business_key="b-1")
    await store.commit([a_change(holder)])
    over = replace(holder, revision=2, status=InstanceState.COMPLETED)
    outcomes = await store.commit([a_change(over, facts=(a_fact(),)), a_change(heir)])
    assert outcomes[0] == COMMITTED
    expected = heir.instance_id if outcomes[1] == COMMITTED else None
    assert await store.find_business_key("order", "b-1") == expected
