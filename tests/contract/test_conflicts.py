"""Conflicts: two servers on one database, and the order of the reasons."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from perdure_server.engine.facts import InstanceRetried
from perdure_server.engine.state import InstanceState
from perdure_server.store.protocol import (
    COMMITTED,
    CommitResult,
    Conflict,
    ConflictKind,
    InvalidChange,
    ReplicaGuard,
    Store,
    TimerGuard,
)
from support.factories import a_change, a_definition, a_request, a_state, a_timer
from support.stores import Clock

REVISION = Conflict(ConflictKind.REVISION)


async def one(store: Store, *changes: object) -> CommitResult | InvalidChange:
    (outcome,) = await store.commit(changes)  # type: ignore[arg-type]
    return outcome


async def test_an_instance_is_created_once(store: Store, other: Store) -> None:
    state = a_state()
    assert await one(store, a_change(state)) == COMMITTED
    assert await one(other, a_change(state)) == REVISION


async def test_an_instance_that_is_not_there_cannot_change(store: Store) -> None:
    assert await one(store, a_change(a_state(revision=4))) == REVISION


@pytest.mark.parametrize("expected", [1, 3, 7])
async def test_a_change_on_another_revision_loses(store: Store, expected: int) -> None:
    state = a_state()
    await store.commit([a_change(state)])
    await store.commit([a_change(replace(state, revision=2))])
    assert await one(store, a_change(replace(state, revision=expected + 1))) == REVISION


async def test_of_two_runners_on_one_revision_one_wins(store: Store, other: Store) -> None:
    state = a_state()
    await store.commit([a_change(state)])
    mine, theirs = (replace(state, revision=2, updated_at=at) for at in (11, 22))
    outcomes = await asyncio.gather(one(store, a_change(mine)), one(other, a_change(theirs)))
    assert sorted(map(str, outcomes)) == sorted(map(str, [COMMITTED, REVISION]))
    winner = mine if outcomes[0] == COMMITTED else theirs
    assert await store.load(state.instance_id) == winner


async def test_a_request_id_is_reported_before_the_revision(store: Store) -> None:
    state = a_state(business_key="b")
    await store.commit([a_change(state, request=a_request())])
    assert await one(store, a_change(state, request=a_request())) == Conflict(ConflictKind.REQUEST)


async def test_an_existing_instance_is_reported_before_the_business_key(store: Store) -> None:
    state = a_state(business_key="b")
    await store.commit([a_change(state)])
    assert await one(store, a_change(state)) == REVISION


async def test_the_business_key_is_reported_before_the_definition(store: Store) -> None:
    await store.commit([a_change(a_state(business_key="b"))])
    rival = a_state(business_key="b", digest="another")
    assert await one(store, a_change(rival)) == Conflict(ConflictKind.BUSINESS_KEY)


async def test_the_definition_is_reported_before_a_guard(store: Store) -> None:
    change = a_change(a_state(digest="another"), guards=(ReplicaGuard("nobody"),))
    assert await one(store, change) == Conflict(ConflictKind.DEFINITION)


async def test_an_instance_starts_only_on_the_stored_definition(store: Store) -> None:
    assert await one(store, a_change(a_state(digest="another"))) == Conflict(ConflictKind.DEFINITION)
    assert await one(store, a_change(a_state(version=2))) == Conflict(ConflictKind.DEFINITION)
    assert await one(store, a_change(a_state())) == COMMITTED


async def test_a_failed_instance_is_retried_only_on_its_own_definition(store: Store) -> None:
    failed = a_state(status=InstanceState.FAILED)
    await store.commit([a_change(failed)])
    await store.put_definition(a_definition(digest="digest-2"))
    retried = replace(failed, status=InstanceState.RUNNING, revision=2)
    change = a_change(retried, facts=(InstanceRetried(),))
    assert await one(store, change) == Conflict(ConflictKind.DEFINITION)


async def test_a_timer_guard_holds_for_the_owner_of_a_pending_timer(store: Store, other: Store) -> None:
    state = a_state()
    await store.commit([a_change(state, timers=(a_timer(state, owner="replica-a"),))])
    fired = replace(state, revision=2)
    for owner in ("replica-b", ""):
        change = a_change(fired, timers_removed=(1,), guards=(TimerGuard(1, owner),))
        assert await one(other, change) == Conflict(ConflictKind.GUARD)
    change = a_change(fired, timers_removed=(1,), guards=(TimerGuard(1, "replica-a"),))
    assert await one(store, change) == COMMITTED
    again = a_change(replace(state, revision=3), guards=(TimerGuard(1, "replica-a"),))
    assert await one(store, again) == Conflict(ConflictKind.GUARD)


async def test_a_replica_guard_holds_while_the_lease_lasts(store: Store, clock: Clock) -> None:
    await store.register_replica("replica-a", lease_ms=1_000)
    state = a_state()
    guards = (ReplicaGuard("replica-a"),)
    clock.advance(999)
    assert await one(store, a_change(state, guards=guards)) == COMMITTED
    clock.advance(1)
    change = a_change(replace(state, revision=2), guards=guards)
    assert await one(store, change) == Conflict(ConflictKind.GUARD)


async def test_every_guard_of_a_change_must_hold(store: Store) -> None:
    await store.register_replica("replica-a", lease_ms=1_000)
    state = a_state()
    await store.commit([a_change(state, timers=(a_timer(state, owner="replica-a"),))])
    change = a_change(
        replace(state, revision=2), guards=(TimerGuard(1, "replica-a"), ReplicaGuard("replica-b"))
    )
    assert await one(store, change) == Conflict(ConflictKind.GUARD)


async def test_one_lost_lease_costs_only_the_changes_behind_it(store: Store) -> None:
    await store.register_replica("replica-a", lease_ms=1_000)
    outcomes = await store.commit(
        [
            a_change(a_state(), guards=(ReplicaGuard("replica-a"),)),
            a_change(a_state(), guards=(ReplicaGuard("gone"),)),
            a_change(a_state()),
            a_change(a_state(), guards=(ReplicaGuard("gone"),)),
        ]
    )
    lost = Conflict(ConflictKind.GUARD)
    assert list(outcomes) == [COMMITTED, lost, COMMITTED, lost]
