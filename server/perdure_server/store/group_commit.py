"""Group commit: many changes, one transaction.

While the store makes one batch durable, changes gather for the next; so the more there is to do, the cheaper each
becomes, and an idle server answers at once. Works on any store. There is no task per change, only callbacks.

What lives here: which changes go together, and who hears of it. What may not: what a change means.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable, Sequence
from sys import getsizeof
from time import perf_counter
from typing import Final

from perdure_server.store.protocol import (
    COMMITTED,
    Change,
    CommitQueueFullError,
    CommitUnknownError,
    Conflict,
    InvalidChangeError,
    Outcome,
    Refused,
    Store,
    StoreUnavailableError,
)
from perdure_server.telemetry.counters import Histogram

BATCH_CHANGES_MAX: Final = 256
"""How many changes one transaction makes."""

BATCH_BYTES_MAX: Final = 8 << 20
"""How many bytes of payloads, as they lie in memory, one transaction writes, unless its first change brings more."""

QUEUE_CHANGES_MAX: Final = 10_000
"""How many changes may wait."""

QUEUE_BYTES_MAX: Final = 64 << 20
"""How many bytes of memory the payloads may take that wait: a text takes up to four for each of its characters. One
that is not ASCII takes up to as much again from when it is written on, since it then keeps its UTF-8 too."""

GATHER_SECONDS: Final = 0.006
"""How long a batch waits at the most for company when the one before it had some and it has less. A transaction costs
a hand-over to another thread and a sync, whatever it holds: 64 callers got a fifth more starts a second by it. Who
pays is a server that is busy but not full: at 2,000 starts a second the median took two milliseconds longer than
without waiting (docs/performance.md)."""

GATHER_CHANGES_MIN: Final = 4
"""The size of a batch from which on the next one waits for company. A lone caller waits once, behind a crowd."""

PASSED_OVER_MAX: Final = BATCH_CHANGES_MAX
"""How many changes one batch may leave for a later one because they fight with its own, before it stops looking."""

BATCH_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""The bounds between which batches are counted by how long the store took."""


class _Waiting:
    """A change that waits for its batch."""

    __slots__ = ("change", "future", "size_bytes")

    def __init__(self, change: Change, future: asyncio.Future[Outcome], size_bytes: int) -> None:
        self.change = change
        self.future = future
        self.size_bytes = size_bytes


class GroupCommitter:
    """Gathers changes into batches for one store, one batch at a time. Belongs to one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: deque[_Waiting] = deque()
        self._queue_bytes = 0
        self._busy = False
        self._closed = False
        self._commit: asyncio.Task[Sequence[Outcome | Refused]] | None = None
        self._idle: asyncio.Future[None] | None = None
        self._company = 0
        self._gathering: asyncio.TimerHandle | None = None
        self.seconds = Histogram(BATCH_SECONDS)
        """How long the store took for each batch, whatever became of it."""
        self.outcomes = dict.fromkeys(
            ("committed", "conflict", "refused", "unavailable", "unknown", "overloaded"), 0
        )
        """What became of changes; those that were overloaded were not taken."""

    @property
    def queue_length(self) -> int:
        """How many changes wait for a batch."""
        return len(self._queue)

    def submit(self, change: Change) -> asyncio.Future[Outcome]:
        """Have a change made durable. The future tells what became of it, or raises a `StoreError`.

        Cancelling the future withdraws a change that still waits; one that has gone to the database goes on.
        Raises `CommitQueueFullError` when too much waits, `StoreUnavailableError` when closed.
        """
        if self._closed:
            raise StoreUnavailableError("the store is closing")
        size_bytes = sum(map(getsizeof, change.payloads.values())) if change.payloads else 0
        if len(self._queue) >= QUEUE_CHANGES_MAX or (
            self._queue and self._queue_bytes + size_bytes > QUEUE_BYTES_MAX
        ):
            self.outcomes["overloaded"] += 1
            raise CommitQueueFullError(f"{len(self._queue)} changes wait for the database")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        self._queue.append(_Waiting(change, future, size_bytes))
        self._queue_bytes += size_bytes
        if not self._busy:
            # Not at once: whatever else is ready in this turn of the loop comes along.
            self._busy = True
            loop.call_soon(self._next)
        elif self._gathering is not None and len(self._queue) >= self._company:
            self._stop_gathering()
        return future

    async def close(self) -> None:
        """Refuse new changes and return when those that were accepted are answered."""
        self._closed = True
        self._stop_gathering()
        if self._busy:
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)

    def _next(self) -> None:
        batch = self._take()
        if not batch:
            self._busy = False
            if self._idle is not None and not self._idle.done():
                self._idle.set_result(None)
            return
        commit = asyncio.get_running_loop().create_task(
            self._commit_on_store([waiting.change for waiting in batch])
        )
        self._commit = commit
        began = perf_counter()
        commit.add_done_callback(lambda done: self._done(batch, began, done))

    async def _commit_on_store(self, changes: Sequence[Change]) -> Sequence[Outcome | Refused]:
        return await self._store.commit(changes)

    def _take(self) -> list[_Waiting]:
        """Take the next batch: in order, but for changes that would fight inside it."""
        queue = self._queue
        batch: list[_Waiting] = []
        passed_over: list[_Waiting] = []
        taken: set[Hashable] = set()
        size_bytes = 0
        while queue and len(batch) < BATCH_CHANGES_MAX and len(passed_over) < PASSED_OVER_MAX:
            waiting = queue[0]
            if batch and size_bytes + waiting.size_bytes > BATCH_BYTES_MAX:
                break
            queue.popleft()
            if waiting.future.cancelled():
                self._queue_bytes -= waiting.size_bytes
                continue
            wanted = _wanted(waiting.change)
            if taken.isdisjoint(wanted):
                taken.update(wanted)
                batch.append(waiting)
                size_bytes += waiting.size_bytes
            else:
                # What it wants stays in order too: nobody behind it may overtake it.
                taken.update(wanted)
                passed_over.append(waiting)
        queue.extendleft(reversed(passed_over))
        self._queue_bytes -= size_bytes
        return batch

    def _done(
        self, batch: Sequence[_Waiting], began: float, done: asyncio.Task[Sequence[Outcome | Refused]]
    ) -> None:
        self._commit = None
        self.seconds.add(perf_counter() - began)
        if done.cancelled():
            error: BaseException | None = CommitUnknownError("the commit was cancelled")
        else:
            error = done.exception()
        if error is not None:
            self.outcomes["unavailable" if isinstance(error, StoreUnavailableError) else "unknown"] += len(
                batch
            )
            for waiting in batch:
                if not waiting.future.done():
                    waiting.future.set_exception(error)
        else:
            self._count(done.result())
            for waiting, outcome in zip(batch, done.result(), strict=True):
                if waiting.future.done():
                    continue
                if isinstance(outcome, Refused):
                    waiting.future.set_exception(InvalidChangeError(outcome.reason))
                else:
                    waiting.future.set_result(outcome)
        # Behind the futures' callbacks, so that what those submit is in the next batch.
        asyncio.get_running_loop().call_soon(self._gather, len(batch))

    def _count(self, outcomes: Sequence[Outcome | Refused]) -> None:
        committed = outcomes.count(COMMITTED)
        self.outcomes["committed"] += committed
        if committed < len(outcomes):
            conflicts = sum(isinstance(outcome, Conflict) for outcome in outcomes)
            self.outcomes["conflict"] += conflicts
            self.outcomes["refused"] += len(outcomes) - committed - conflicts

    def _gather(self, company: int) -> None:
        """Begin the next batch, at once or when it has as much company as the last one had."""
        if company < GATHER_CHANGES_MIN or len(self._queue) >= company or self._closed:
            self._next()
        else:
            self._company = company
            self._gathering = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        self._next()

    def _stop_gathering(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
            asyncio.get_running_loop().call_soon(self._next)


def _wanted(change: Change) -> tuple[Hashable, ...]:
    """Return what only one change of a batch can have."""
    state = change.state
    request = change.request
    if request is None and not state.business_key:
        return (state.instance_id,)
    wanted: list[Hashable] = [state.instance_id]
    if request is not None:
        wanted.append((request.key.rpc, request.key.instance_id, request.key.request_id))
    if state.business_key:
        wanted.append((state.workflow, state.business_key))
    return tuple(wanted)
