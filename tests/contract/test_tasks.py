"""Tasks: rows of work, oldest first, free when their owner is gone."""

from __future__ import annotations

from dataclasses import replace

from perdure_server.engine.state import State
from perdure_server.store.protocol import Store, TaskRow
from support.factories import ORDER, STEPS, a_change, a_definition, a_state, a_task
from support.stores import Clock


async def keep(store: Store, *owners: str) -> list[TaskRow]:
    """Store one instance per owner, each with one task."""
    rows = []
    for owner in owners:
        state = a_state()
        rows.append(a_task(state, attempt=1 if owner else 0, owner=owner))
        await store.commit([a_change(state, tasks=(rows[-1],))])
    return rows


async def take(store: Store, state: State, row: TaskRow) -> None:
    await store.commit([a_change(state, tasks=(row,))])


async def test_unowned_tasks_are_claimable_oldest_first(store: Store) -> None:
    rows = await keep(store, "", "", "")
    assert list(await store.claimable_tasks(code=ORDER, limit=10)) == rows
    assert list(await store.claimable_tasks(code=ORDER, limit=2)) == rows[:2]


async def test_only_tasks_that_there_is_code_for_are_claimable(store: Store) -> None:
    await store.put_definition(a_definition(version=2))
    await store.put_definition(a_definition("refund"))
    states = [a_state(), a_state(version=2), a_state(workflow="refund")]
    rows = [a_task(state) for state in states]
    await store.commit([a_change(state, tasks=(row,)) for state, row in zip(states, rows, strict=True)])
    assert list(await store.claimable_tasks(code={("order", 2): STEPS}, limit=9)) == [rows[1]]
    both = {("refund", 1): STEPS, ("order", 1): STEPS}
    assert list(await store.claimable_tasks(code=both, limit=9)) == [rows[0], rows[2]]
    assert list(await store.claimable_tasks(code={}, limit=9)) == []


async def test_only_tasks_of_the_steps_asked_for_are_claimable(store: Store) -> None:
    await store.put_definition(a_definition("refund"))
    states = [a_state(), a_state(workflow="refund"), a_state()]
    rows = [a_task(state, step) for state in states for step in ("charge", "reserve")]
    await store.commit(
        [a_change(state, tasks=tuple(rows[2 * n : 2 * n + 2])) for n, state in enumerate(states)]
    )
    charge, reserve = frozenset({"charge"}), frozenset({"reserve"})
    crossed = {("order", 1): charge, ("refund", 1): reserve}
    assert list(await store.claimable_tasks(code=crossed, limit=9)) == [rows[0], rows[3], rows[4]]
    assert list(await store.claimable_tasks(code={("order", 1): charge | reserve}, limit=9)) == [
        *rows[:2],
        *rows[4:],
    ]
    assert list(await store.claimable_tasks(code={("order", 1): frozenset()}, limit=9)) == []


async def test_tasks_of_other_steps_hide_none_of_those_asked_for(store: Store) -> None:
    for step in ("charge", "reserve"):
        for _ in range(5):
            state = a_state()
            last = a_task(state, step)
            await store.commit([a_change(state, tasks=(last,))])
    found = await store.claimable_tasks(code={("order", 1): frozenset({"reserve"})}, limit=5)
    assert [row.step_ref for row in found] == ["reserve"] * 5
    assert found[-1] == last


async def test_a_task_that_a_live_replica_owns_is_not_claimable(
    store: Store, other: Store, clock: Clock
) -> None:
    await store.register_replica("replica-a", lease_ms=1_000)
    rows = await keep(store, "replica-a", "")
    assert list(await other.claimable_tasks(code=ORDER, limit=9)) == rows[1:]
    clock.advance(1_000)
    assert list(await other.claimable_tasks(code=ORDER, limit=9)) == rows


async def test_a_task_of_a_replica_that_ended_or_never_was_is_claimable(store: Store, other: Store) -> None:
    await store.register_replica("replica-a", lease_ms=1_000)
    rows = await keep(store, "replica-a", "a-stranger")
    await store.end_replica("replica-a")
    assert list(await other.claimable_tasks(code=ORDER, limit=9)) == rows


async def test_a_task_that_changes_hands_keeps_its_age(store: Store) -> None:
    state = a_state()
    await store.commit([a_change(state, tasks=(a_task(state),))])
    (younger,) = await keep(store, "")
    for revision, row in (
        (2, a_task(state, attempt=1, owner="replica-a")),
        (3, a_task(state, attempt=1)),
    ):
        await take(store, replace(state, revision=revision), row)
    assert list(await store.claimable_tasks(code=ORDER, limit=9)) == [a_task(state, attempt=1), younger]


async def test_a_removed_task_is_gone(store: Store) -> None:
    state = a_state()
    rows = (a_task(state, "charge"), a_task(state, "reserve"))
    await store.commit([a_change(state, tasks=rows)])
    await store.commit([a_change(replace(state, revision=2), tasks_removed=("charge",))])
    assert list(await store.claimable_tasks(code=ORDER, limit=9)) == [rows[1]]


async def test_owned_tasks_are_reported_by_owner(store: Store, other: Store) -> None:
    rows = await keep(store, "replica-a", "", "replica-b", "replica-a")
    assert list(await store.owned_tasks("replica-a")) == [rows[0], rows[3]]
    assert list(await other.owned_tasks("replica-b")) == [rows[2]]
    assert list(await other.owned_tasks("replica-c")) == []
