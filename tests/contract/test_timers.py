"""Timers: pending rows, who owns them, and how windows claim them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from perdure_server.engine.facts import TimerKind
from perdure_server.store.protocol import Store, TimerCursor, TimerRow
from support.factories import T0, a_change, a_state, a_timer
from support.stores import Clock

LEASE_MS = 1_000


async def keep(store: Store, *due: int, owner: str = "") -> list[TimerRow]:
    """Store one instance per due time, each with one timer."""
    rows = []
    for due_at in due:
        state = a_state()
        rows.append(a_timer(state, due_at=due_at, owner=owner))
        await store.commit([a_change(state, timers=(rows[-1],))])
    return rows


def owned(rows: Sequence[TimerRow], owner: str) -> list[TimerRow]:
    return [replace(row, owner=owner) for row in rows]


async def test_a_timer_comes_back_as_it_was(store: Store) -> None:
    state = a_state(revision=3)
    rows = [
        a_timer(
            state,
            number,
            kind=kind,
            due_at=T0 + number,
            client_requested=kind is TimerKind.TIMEOUT,
            owner="me",
        )
        for number, kind in enumerate(TimerKind, 1)
    ]
    await store.commit([a_change(state, expected=0, timers=tuple(rows))])
    for row in rows:
        assert await store.get_timer(state.instance_id, row.timer.revision) == row
    assert await store.get_timer(state.instance_id, 99) is None
    assert list(await store.list_timers(state.instance_id, limit=10)) == rows


async def test_a_removed_timer_is_gone(store: Store) -> None:
    state = a_state()
    rows = (a_timer(state, 1), a_timer(state, 2))
    await store.commit([a_change(state, timers=rows)])
    await store.commit([a_change(replace(state, revision=2), timers_removed=(1,))])
    assert list(await store.list_timers("", limit=10)) == [rows[1]]


async def test_a_timer_may_be_removed_and_another_written_by_one_change(store: Store) -> None:
    state = a_state()
    await store.commit([a_change(state, timers=(a_timer(state, 1),))])
    later = a_timer(state, 2, due_at=T0 + 9)
    await store.commit([a_change(replace(state, revision=2), timers_removed=(1,), timers=(later,))])
    assert list(await store.list_timers("", limit=10)) == [later]


async def test_timers_are_listed_soonest_first_by_pages(store: Store) -> None:
    rows = await keep(store, T0 + 5, T0 + 1, T0 + 3, T0 + 3, T0 + 2)
    wanted = sorted(rows, key=lambda row: (row.timer.due_at, row.instance_id))
    seen: list[TimerRow] = []
    after = None
    while page := await store.list_timers("", limit=2, after=after):
        seen += page
        last = seen[-1]
        after = TimerCursor(last.timer.due_at, last.instance_id, last.timer.revision)
    assert seen == wanted


async def test_timers_of_one_instance_are_listed_by_pages(store: Store) -> None:
    state = a_state(revision=5)
    rows = [a_timer(state, revision, due_at=T0 + 10 - revision // 2) for revision in range(1, 6)]
    await keep(store, T0)
    await store.commit([a_change(state, expected=0, timers=tuple(rows))])
    wanted = sorted(rows, key=lambda row: (row.timer.due_at, row.timer.revision))
    assert list(await store.list_timers(state.instance_id, limit=2)) == wanted[:2]
    last = wanted[1]
    after = TimerCursor(last.timer.due_at, last.instance_id, last.timer.revision)
    assert list(await store.list_timers(state.instance_id, limit=9, after=after)) == wanted[2:]


async def test_the_soonest_due_time_is_reported(store: Store) -> None:
    assert await store.next_timer_due_at() is None
    await keep(store, T0 + 5, T0 + 2, T0 + 9)
    assert await store.next_timer_due_at() == T0 + 2


async def test_a_claim_takes_what_is_due_before_soonest_first(store: Store) -> None:
    rows = await keep(store, T0 + 30, T0 + 10, T0 + 20, T0 + 40)
    claimed = await store.claim_timers("me", due_before=T0 + 40, limit=2)
    assert list(claimed) == owned([rows[1], rows[2]], "me")
    assert await store.get_timer(rows[1].instance_id, 1) == replace(rows[1], owner="me")
    assert (await store.get_timer(rows[0].instance_id, 1)) == rows[0]


async def test_a_claim_returns_what_is_the_claimants_already(store: Store) -> None:
    rows = await keep(store, T0 + 10, T0 + 20)
    for _ in range(2):
        assert list(await store.claim_timers("me", due_before=T0 + 99, limit=9)) == owned(rows, "me")


async def test_a_claim_leaves_the_timers_of_a_live_replica(store: Store, other: Store, clock: Clock) -> None:
    await store.register_replica("replica-a", lease_ms=LEASE_MS)
    await other.register_replica("replica-b", lease_ms=10 * LEASE_MS)
    mine = await keep(store, T0 + 10)
    assert await store.claim_timers("replica-a", due_before=T0 + 99, limit=9)
    assert not await other.claim_timers("replica-b", due_before=T0 + 99, limit=9)
    clock.advance(LEASE_MS - 1)
    assert not await other.claim_timers("replica-b", due_before=T0 + 99, limit=9)
    clock.advance(1)
    assert list(await other.claim_timers("replica-b", due_before=T0 + 99, limit=9)) == owned(
        mine, "replica-b"
    )


async def test_a_claim_takes_from_a_replica_that_never_registered(store: Store) -> None:
    rows = await keep(store, T0 + 10, owner="a-stranger")
    assert list(await store.claim_timers("me", due_before=T0 + 99, limit=9)) == owned(rows, "me")


async def test_two_windows_never_hold_the_same_timer(store: Store, other: Store) -> None:
    await store.register_replica("replica-a", lease_ms=LEASE_MS)
    await other.register_replica("replica-b", lease_ms=LEASE_MS)
    rows = await keep(store, *(T0 + number for number in range(30)))
    held: list[TimerRow] = []
    for _ in range(3):
        held += await store.claim_timers("replica-a", due_before=T0 + 99, limit=len(rows) // 2)
        held += await other.claim_timers("replica-b", due_before=T0 + 99, limit=len(rows))
    owners = {(row.reference, row.owner) for row in held}
    assert len(owners) == len(rows) == len({reference for reference, _ in owners})


async def test_ten_thousand_timers_are_claimed_at_once(store: Store) -> None:
    state = a_state()
    timers = tuple(a_timer(state, number, due_at=T0) for number in range(1, 10_001))
    await store.commit([a_change(state, timers=timers)])
    assert len(await store.claim_timers("me", due_before=T0 + 1, limit=20_000)) == 10_000
