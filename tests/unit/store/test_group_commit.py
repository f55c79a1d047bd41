"""Group commit: who goes together, who waits, and who hears of what. On a real store, with a gate before it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from perdure_server.store import group_commit
from perdure_server.store.group_commit import BATCH_CHANGES_MAX, GroupCommitter
from perdure_server.store.protocol import (
    COMMITTED,
    Change,
    CommitQueueFullError,
    CommitResult,
    CommitUnknownError,
    Conflict,
    ConflictKind,
    InvalidChange,
    InvalidChangeError,
    StoreError,
    StoreUnavailableError,
)
from perdure_server.store.sqlite import SqliteStore
from support.factories import a_change, a_definition, a_request, a_state


class GatedStore(SqliteStore):
    """A store whose commits wait for the test to let them through, and can be made to fail."""

    def __init__(self) -> None:
        super().__init__(None)
        self.batches: list[Sequence[Change]] = []
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.errors: list[StoreError] = []

    async def commit(self, changes: Sequence[Change]) -> Sequence[CommitResult | InvalidChange]:
        self.batches.append(changes)
        self.entered.set()
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        return await super().commit(changes)

    def hold(self) -> None:
        self.gate.clear()
        self.entered.clear()

    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]


@pytest.fixture
async def store() -> AsyncIterator[GatedStore]:
    made = GatedStore()
    await made.open()
    await made.put_definition(a_definition())
    yield made
    made.gate.set()
    await made.close()


async def held(store: GatedStore, committer: GroupCommitter) -> asyncio.Future[CommitResult]:
    """Put one change into a commit that is held at the gate, so that all others queue."""
    store.hold()
    first = committer.submit(a_change(a_state()))
    await store.entered.wait()
    return first


async def test_what_is_submitted_in_one_turn_of_the_loop_goes_together(store: GatedStore) -> None:
    committer = GroupCommitter(store)
    outcomes = await asyncio.gather(*(committer.submit(a_change(a_state())) for _ in range(10)))
    assert outcomes == [COMMITTED] * 10
    assert store.sizes() == [10]


async def test_what_comes_during_a_commit_goes_together_after_it(store: GatedStore) -> None:
    committer = GroupCommitter(store)
    first = await held(store, committer)
    others = [committer.submit(a_change(a_state())) for _ in range(10)]
    assert committer.queue_length == 10
    store.gate.set()
    assert await asyncio.gather(first, *others) == [COMMITTED] * 11
    assert store.sizes() == [1, 10]
    assert committer.queue_length == 0


async def test_under_load_a_batch_waits_for_the_company_that_the_last_one_had(
    store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "BATCH_FILL_SECONDS_MAX", 3_600)
    committer = GroupCommitter(store)
    await asyncio.gather(*(committer.submit(a_change(a_state())) for _ in range(5)))
    early = [committer.submit(a_change(a_state())) for _ in range(4)]
    await asyncio.sleep(0)
    assert store.sizes() == [5]
    last = committer.submit(a_change(a_state()))
    assert await asyncio.gather(*early, last) == [COMMITTED] * 5
    assert store.sizes() == [5, 5]
    await committer.close()


async def test_a_batch_does_not_wait_for_company_for_long(store: GatedStore) -> None:
    committer = GroupCommitter(store)
    await asyncio.gather(*(committer.submit(a_change(a_state())) for _ in range(5)))
    assert await committer.submit(a_change(a_state())) == COMMITTED


async def test_a_lone_caller_never_waits_for_company(
    store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "BATCH_FILL_SECONDS_MAX", 3_600)
    committer = GroupCommitter(store)
    for _ in range(3):
        assert await committer.submit(a_change(a_state())) == COMMITTED
    assert store.sizes() == [1, 1, 1]


async def test_a_batch_is_bounded_in_number(store: GatedStore) -> None:
    committer = GroupCommitter(store)
    count = BATCH_CHANGES_MAX + 7
    await asyncio.gather(*(committer.submit(a_change(a_state())) for _ in range(count)))
    assert store.sizes() == [BATCH_CHANGES_MAX, 7]


async def test_a_batch_is_bounded_in_bytes(store: GatedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "BATCH_BYTES_MAX", 150)
    committer = GroupCommitter(store)
    bodies = ['"1234567"', '"1234567"', '"1234567"', f'"{"x" * 100}"', "1"]
    await asyncio.gather(*(committer.submit(a_change(a_state(), payloads={1: body})) for body in bodies))
    assert store.sizes() == [2, 1, 1, 1]


async def test_two_changes_of_an_instance_are_never_in_one_batch_and_keep_their_order(
    store: GatedStore,
) -> None:
    committer = GroupCommitter(store)
    states = [replace(a_state(id="the-one"), revision=revision) for revision in (1, 2, 3)]
    neighbours = [committer.submit(a_change(a_state())) for _ in range(2)]
    outcomes = await asyncio.gather(*(committer.submit(a_change(state)) for state in states), *neighbours)
    assert outcomes == [COMMITTED] * 5
    assert store.sizes() == [3, 1, 1]


async def test_rivals_for_a_request_id_or_a_business_key_wait_for_the_next_batch(store: GatedStore) -> None:
    committer = GroupCommitter(store)
    outcomes = await asyncio.gather(
        committer.submit(a_change(a_state(), request=a_request())),
        committer.submit(a_change(a_state(), request=a_request())),
        committer.submit(a_change(a_state(business_key="b"))),
        committer.submit(a_change(a_state(business_key="b"))),
    )
    assert outcomes == [
        COMMITTED,
        Conflict(ConflictKind.REQUEST),
        COMMITTED,
        Conflict(ConflictKind.BUSINESS_KEY),
    ]
    assert store.sizes() == [2, 2]


@pytest.mark.parametrize("error", [StoreUnavailableError("away"), CommitUnknownError("who knows")])
async def test_a_failing_commit_fails_its_batch_and_no_other(store: GatedStore, error: StoreError) -> None:
    committer = GroupCommitter(store)
    store.errors.append(error)
    doomed = await held(store, committer)
    later = committer.submit(a_change(a_state()))
    store.gate.set()
    with pytest.raises(type(error)):
        await doomed
    assert await later == COMMITTED


async def test_a_rejected_change_fails_alone(store: GatedStore) -> None:
    committer = GroupCommitter(store)
    broken = committer.submit(a_change(a_state(workflow="\ud800")))
    neighbour = committer.submit(a_change(a_state()))
    with pytest.raises(InvalidChangeError):
        await broken
    assert await neighbour == COMMITTED


async def test_a_cancelled_future_that_waits_is_withdrawn_and_its_neighbours_continue(
    store: GatedStore,
) -> None:
    committer = GroupCommitter(store)
    first = await held(store, committer)
    withdrawn_state = a_state()
    withdrawn = committer.submit(a_change(withdrawn_state))
    neighbour = committer.submit(a_change(a_state()))
    withdrawn.cancel()
    store.gate.set()
    assert await asyncio.gather(first, neighbour) == [COMMITTED] * 2
    assert await store.load(withdrawn_state.instance_id) is None


async def test_a_cancelled_future_whose_commit_is_running_does_not_affect_others(store: GatedStore) -> None:
    committer = GroupCommitter(store)
    store.hold()
    cancelled_state = a_state()
    cancelled = committer.submit(a_change(cancelled_state))
    neighbour = committer.submit(a_change(a_state()))
    await store.entered.wait()
    cancelled.cancel()
    store.gate.set()
    assert await neighbour == COMMITTED
    assert await store.load(cancelled_state.instance_id) == cancelled_state


async def test_a_full_queue_rejects_more_and_recovers(
    store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "QUEUE_CHANGES_MAX", 3)
    committer = GroupCommitter(store)
    accepted = [await held(store, committer)]
    accepted += [committer.submit(a_change(a_state())) for _ in range(3)]
    with pytest.raises(CommitQueueFullError):
        committer.submit(a_change(a_state()))
    store.gate.set()
    assert await asyncio.gather(*accepted) == [COMMITTED] * 4
    assert await committer.submit(a_change(a_state())) == COMMITTED


@pytest.mark.parametrize(("letter", "count"), [("x", 6_000), ("😀", 1_500)])
async def test_a_queue_full_of_bytes_rejects_more_and_recovers(
    letter: str, count: int, store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "QUEUE_BYTES_MAX", 10_000)
    committer = GroupCommitter(store)
    accepted = [await held(store, committer)]
    large = '"' + letter * count + '"'
    accepted.append(committer.submit(a_change(a_state(), payloads={1: large})))
    with pytest.raises(CommitQueueFullError):
        committer.submit(a_change(a_state(), payloads={1: large}))
    store.gate.set()
    assert await asyncio.gather(*accepted) == [COMMITTED] * 2
    assert await committer.submit(a_change(a_state(), payloads={1: large})) == COMMITTED


async def test_closing_answers_what_was_accepted_and_rejects_more(store: GatedStore) -> None:
    committer = GroupCommitter(store)
    accepted = [await held(store, committer), committer.submit(a_change(a_state()))]
    closing = asyncio.ensure_future(committer.close())
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailableError):
        committer.submit(a_change(a_state()))
    assert not closing.done()
    store.gate.set()
    await closing
    assert [future.result() for future in accepted] == [COMMITTED] * 2
    await committer.close()


async def test_many_runners_on_few_instances_lose_no_change(store: GatedStore) -> None:
    committer = GroupCommitter(store)
    ids = [f"shared-{number}" for number in range(3)]
    await asyncio.gather(*(committer.submit(a_change(a_state(id=name))) for name in ids))

    async def runner(number: int) -> int:
        wins = 0
        for turn in range(10):
            state = await store.load(ids[(number + turn) % 3])
            assert state is not None
            outcome = await committer.submit(a_change(replace(state, revision=state.revision + 1)))
            wins += outcome == COMMITTED
        return wins

    wins = sum(await asyncio.gather(*(runner(number) for number in range(8))))
    revisions = [state.revision for name in ids if (state := await store.load(name))]
    assert sum(revisions) == wins + len(ids)


# --- counts ------------------------------------------------------------------------------------------------------


async def test_batches_and_what_became_of_their_changes_are_counted(store: GatedStore) -> None:
    committer = GroupCommitter(store)
    state = a_state()
    await committer.submit(a_change(state))
    await asyncio.gather(committer.submit(a_change(a_state())), committer.submit(a_change(state)))
    for error in (StoreUnavailableError("away"), CommitUnknownError("away")):
        store.errors.append(error)
        with pytest.raises(type(error)):
            await committer.submit(a_change(a_state()))

    told = {outcome: count for outcome, count in committer.results.items() if count}
    assert told == {"committed": 2, "conflict": 1, "unavailable": 1, "unknown": 1}
    assert sum(committer.seconds.counts()) == len(store.batches)


async def test_changes_that_find_no_room_are_counted_and_take_none(
    store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "QUEUE_CHANGES_MAX", 1)
    committer = GroupCommitter(store)
    committer.submit(a_change(a_state()))

    with pytest.raises(CommitQueueFullError):
        committer.submit(a_change(a_state()))

    assert committer.results["overloaded"] == 1
    await committer.close()
