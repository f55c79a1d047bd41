"""Opening and closing: what was answered is there again, and nothing works while closed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from perdure_server.store.protocol import COMMITTED, Store, StoreUnavailableError
from support.factories import ORDER, a_change, a_definition, a_request, a_state, a_task, a_timer
from support.stores import Clock, Kind


async def test_a_store_answers_a_ping(store: Store) -> None:
    await store.ping()


async def test_a_store_may_be_closed_twice_and_then_rejects(store: Store) -> None:
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailableError):
        await store.load("x")
    with pytest.raises(StoreUnavailableError):
        await store.commit([a_change(a_state())])
    with pytest.raises(StoreUnavailableError):
        await store.ping()


async def test_closing_finishes_what_was_accepted(store: Store) -> None:
    commits = [asyncio.ensure_future(store.commit([a_change(a_state())])) for _ in range(5)]
    await asyncio.sleep(0)
    await store.close()
    assert [list(await commit) for commit in commits] == [[COMMITTED]] * 5


async def test_what_was_answered_is_there_after_a_restart(kind: Kind, tmp_path: Path, clock: Clock) -> None:
    if not kind.durable:
        pytest.skip("keeps no promise about restarts")
    state = a_state(labels={"region": "eu"}, business_key="b-1")
    timer, task, request = a_timer(state), a_task(state), a_request()
    change = a_change(state, payloads={1: '{"a":1}'}, timers=(timer,), tasks=(task,), request=request)
    first = kind.make(tmp_path, clock)
    await first.open()
    await first.put_definition(a_definition())
    await first.register_replica("replica-a", lease_ms=1_000)
    await first.commit([change])
    await first.close()

    second = kind.make(tmp_path, clock)
    await second.open()
    found = await second.get_instance(state.instance_id)
    assert found is not None
    assert (found.state, found.payloads) == (state, {1: '{"a":1}'})
    assert list(await second.history(state.instance_id, after_revision=0, limit=9)) == list(change.entries)
    assert list(await second.list_timers("", limit=9)) == [timer]
    assert list(await second.claimable_tasks(code=ORDER, limit=9)) == [task]
    assert await second.find_request(request.key) == request
    assert await second.find_business_key("order", "b-1") == state.instance_id
    assert await second.get_definition("order", 0) == a_definition()
    # If only one process can have the database, the previous one is gone, and so is its lease.
    assert await second.heartbeat("replica-a", lease_ms=1_000) == second.shared
    await second.close()
