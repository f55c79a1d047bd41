"""Committing: what one batch writes, and that nothing of a loser is written."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from perdure_server.store.protocol import COMMITTED, Conflict, ConflictKind, Store
from support.factories import (
    ORDER,
    a_change,
    a_fact,
    a_request,
    a_state,
    a_task,
    a_timer,
    instance_id,
)


async def test_an_empty_batch_does_nothing(store: Store) -> None:
    assert list(await store.commit([])) == []


async def test_a_committed_state_is_loaded_as_it_was(store: Store) -> None:
    state = a_state(business_key="b-1", labels={"region": "eu"})
    assert list(await store.commit([a_change(state)])) == [COMMITTED]
    assert await store.load(state.instance_id) == state


async def test_a_later_revision_takes_the_place_of_the_earlier_one(store: Store) -> None:
    first = a_state()
    second = replace(first, revision=2, updated_at=first.updated_at + 5)
    await store.commit([a_change(first)])
    await store.commit([a_change(second)])
    assert await store.load(first.instance_id) == second


async def test_a_change_writes_every_kind_of_row(store: Store) -> None:
    state = a_state(revision=2)
    request = a_request()
    change = a_change(
        state,
        facts=(a_fact("validate"), a_fact("charge")),
        payloads={1: '{"input":1}', 2: '{"two":2}'},
        tasks=(a_task(state, "charge"),),
        timers=(a_timer(state, 2),),
        request=request,
    )
    assert list(await store.commit([change])) == [COMMITTED]
    assert list(await store.history(state.instance_id, after_revision=0, limit=10)) == list(change.entries)
    assert await store.payloads(state.instance_id, [1, 2]) == change.payloads
    assert list(await store.claimable_tasks(code=ORDER, limit=10)) == list(change.tasks)
    assert list(await store.list_timers(state.instance_id, limit=10)) == list(change.timers)
    assert await store.find_request(request.key) == request


async def test_a_batch_of_many_instances_is_written_whole(store: Store) -> None:
    states = [a_state() for _ in range(300)]
    outcomes = await store.commit([a_change(state) for state in states])
    assert list(outcomes) == [COMMITTED] * 300
    assert [await store.load(state.instance_id) for state in states] == states


async def test_a_change_of_many_rows_is_written_whole(store: Store) -> None:
    state = a_state(revision=700)
    change = a_change(
        state,
        expected=0,
        facts=tuple(a_fact(f"step_{number}") for number in range(700)),
        payloads={number: f'{{"n":{number}}}' for number in range(1, 701)},
    )
    assert list(await store.commit([change])) == [COMMITTED]
    assert len(await store.history(state.instance_id, after_revision=0, limit=1_000)) == 700
    assert len(await store.payloads(state.instance_id, range(1, 701))) == 700


async def test_the_outcomes_stand_in_the_order_of_the_changes(store: Store) -> None:
    known = a_state()
    await store.commit([a_change(known)])
    stale = a_change(replace(known, revision=8))
    outcomes = await store.commit([a_change(a_state()), stale, a_change(a_state())])
    assert list(outcomes) == [COMMITTED, Conflict(ConflictKind.REVISION), COMMITTED]


async def test_a_loser_leaves_no_row_behind_and_its_neighbours_win(store: Store) -> None:
    known = a_state()
    await store.commit([a_change(known)])
    stale_state = replace(known, revision=8)
    stale = a_change(
        stale_state,
        payloads={8: "{}"},
        tasks=(a_task(known),),
        timers=(a_timer(known, 8),),
        request=a_request("lost"),
    )
    neighbour = a_state()
    await store.commit([stale, a_change(neighbour)])
    assert await store.load(known.instance_id) == known
    assert await store.load(neighbour.instance_id) == neighbour
    assert len(await store.history(known.instance_id, after_revision=0, limit=10)) == 1
    assert await store.payloads(known.instance_id, [8]) == {}
    assert not await store.claimable_tasks(code=ORDER, limit=10)
    assert not await store.list_timers("", limit=10)
    assert stale.request is not None
    assert await store.find_request(stale.request.key) is None


async def test_a_change_that_breaks_a_rule_of_the_database_is_rejected_alone(store: Store) -> None:
    known = a_state()
    await store.commit([a_change(known)])
    # Revision 1 of its history exists: no decision writes it again.
    broken = a_change(replace(known, revision=2), facts=(a_fact(),), expected=1)
    broken = replace(broken, entries=(replace(broken.entries[0], revision=1),))
    first, last = a_state(), a_state()
    outcomes = await store.commit([a_change(first), broken, a_change(last)])
    assert [outcomes[0], outcomes[2]] == [COMMITTED, COMMITTED]
    assert outcomes[1] not in {COMMITTED, *(Conflict(kind) for kind in ConflictKind)}
    assert await store.load(known.instance_id) == known
    assert await store.load(first.instance_id) == first
    assert await store.load(last.instance_id) == last


async def test_a_change_that_cannot_be_written_down_is_rejected_alone(store: Store) -> None:
    broken = a_state(workflow="lone \ud800 surrogate")
    neighbour = a_state()
    outcomes = await store.commit([a_change(broken), a_change(neighbour)])
    assert outcomes[1] == COMMITTED
    assert outcomes[0] != COMMITTED
    assert await store.load(broken.instance_id) is None
    assert await store.load(neighbour.instance_id) == neighbour


async def test_commits_that_are_under_way_together_all_count(store: Store, other: Store) -> None:
    states = [a_state() for _ in range(20)]
    outcomes = await asyncio.gather(
        *((store, other)[number % 2].commit([a_change(state)]) for number, state in enumerate(states))
    )
    assert [list(outcome) for outcome in outcomes] == [[COMMITTED]] * 20


async def test_a_commit_is_seen_by_every_read_after_its_answer(store: Store, other: Store) -> None:
    state = a_state()
    await store.commit([a_change(state)])
    for revision in range(2, 20):
        state = replace(state, revision=revision)
        await store.commit([a_change(state)])
        assert await other.load(state.instance_id) == state


async def test_an_unknown_instance_is_none_everywhere(store: Store) -> None:
    nobody = instance_id()
    assert await store.load(nobody) is None
    assert await store.get_instance(nobody) is None
    assert list(await store.history(nobody, after_revision=0, limit=10)) == []
    assert await store.payloads(nobody, [1]) == {}
    assert await store.get_timer(nobody, 1) is None
