"""Group commit: many changes in one transaction.

While the store commits one batch, the changes for the next one queue. A busy server therefore pays less for each
change, and an idle server commits at once. This works on any store. A change has callbacks and no task of its own.

Owns: the queue, and the choice of the changes that share a transaction. Must not: interpret a change.
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
    CommitResult,
    CommitUnknownError,
    Conflict,
    InvalidChange,
    InvalidChangeError,
    Store,
    StoreUnavailableError,
)
from perdure_server.telemetry.counters import Histogram

BATCH_CHANGES_MAX: Final = 256
"""Maximum number of changes in one transaction."""

BATCH_BYTES_MAX: Final = 8 << 20
"""Maximum size of the payloads in one transaction, as bytes of memory, unless its first change alone has more."""

QUEUE_CHANGES_MAX: Final = 10_000
"""Maximum number of queued changes. Further changes are rejected with `CommitQueueFullError`."""

QUEUE_BYTES_MAX: Final = 64 << 20
"""Maximum size of the payloads of queued changes, as bytes of memory. A text takes up to four bytes for each character.
Once it is written, a text that is not ASCII keeps its UTF-8 as well, which takes up to as much again."""

BATCH_FILL_SECONDS_MAX: Final = 0.006
"""Maximum time to wait for a batch to become as large as the previous one. A transaction costs a thread switch and a
sync, whatever its size. With the wait, 64 callers got a fifth more starts per second. The cost is higher latency on
servers that are busy but not saturated: at 2,000 starts per second the median was two milliseconds longer
(docs/performance.md)."""

BATCH_FILL_CHANGES_MIN: Final = 4
"""Minimum size of a batch for the next one to wait. A single caller therefore waits at most once, after many others."""

PASSED_OVER_MAX: Final = BATCH_CHANGES_MAX
"""Maximum number of changes that one batch leaves for a later one because they conflict with its own."""

BATCH_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Bucket bounds of the commit time in seconds."""


class _QueuedChange:
    """A change that is queued for a batch."""

    __slots__ = ("change", "future", "size_bytes")

    def __init__(self, change: Change, future: asyncio.Future[CommitResult], size_bytes: int) -> None:
        self.change = change
        self.future = future
        self.size_bytes = size_bytes


class GroupCommitter:
    """Commits changes to one store in batches, one batch at a time. Belongs to one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: deque[_QueuedChange] = deque()
        self._queue_bytes = 0
        self._busy = False
        self._closed = False
        self._commit: asyncio.Task[Sequence[CommitResult | InvalidChange]] | None = None
        self._idle: asyncio.Future[None] | None = None
        self._fill_target = 0
        self._fill_timer: asyncio.TimerHandle | None = None
        self.seconds = Histogram(BATCH_SECONDS)
        """Time to commit a batch, in seconds (all results)."""
        self.results = dict.fromkeys(
            ("committed", "conflict", "invalid", "unavailable", "unknown", "overloaded"), 0
        )
        """Number of changes by result. Changes counted as ``overloaded`` were not queued."""

    @property
    def queue_length(self) -> int:
        """Number of queued changes."""
        return len(self._queue)

    def submit(self, change: Change) -> asyncio.Future[CommitResult]:
        """Queue a change. The future returns its result or raises a `StoreError`.

        If the future is cancelled, a queued change is dropped. One that is already at the store is not.

        Raises:
            CommitQueueFullError: The queue is full.
            StoreUnavailableError: The committer is closed.
        """
        if self._closed:
            raise StoreUnavailableError("the store is closing")
        size_bytes = sum(map(getsizeof, change.payloads.values())) if change.payloads else 0
        if len(self._queue) >= QUEUE_CHANGES_MAX or (
            self._queue and self._queue_bytes + size_bytes > QUEUE_BYTES_MAX
        ):
            self.results["overloaded"] += 1
            raise CommitQueueFullError(f"{len(self._queue)} changes are queued for the database")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[CommitResult] = loop.create_future()
        self._queue.append(_QueuedChange(change, future, size_bytes))
        self._queue_bytes += size_bytes
        if not self._busy:
            # Not at once, so that changes of the same turn of the loop share the batch.
            self._busy = True
            loop.call_soon(self._next)
        elif self._fill_timer is not None and len(self._queue) >= self._fill_target:
            self._stop_filling()
        return future

    async def close(self) -> None:
        """Reject new changes and return once the queued ones have results."""
        self._closed = True
        self._stop_filling()
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
            self._commit_on_store([queued.change for queued in batch])
        )
        self._commit = commit
        started = perf_counter()
        commit.add_done_callback(lambda done: self._committed(batch, started, done))

    async def _commit_on_store(self, changes: Sequence[Change]) -> Sequence[CommitResult | InvalidChange]:
        return await self._store.commit(changes)

    def _take(self) -> list[_QueuedChange]:
        """Take the next batch: in order, except for changes that would conflict with another one in it."""
        queue = self._queue
        batch: list[_QueuedChange] = []
        passed_over: list[_QueuedChange] = []
        taken: set[Hashable] = set()
        size_bytes = 0
        while queue and len(batch) < BATCH_CHANGES_MAX and len(passed_over) < PASSED_OVER_MAX:
            queued = queue[0]
            if batch and size_bytes + queued.size_bytes > BATCH_BYTES_MAX:
                break
            queue.popleft()
            if queued.future.cancelled():
                self._queue_bytes -= queued.size_bytes
                continue
            keys = _exclusive_keys(queued.change)
            if taken.isdisjoint(keys):
                taken.update(keys)
                batch.append(queued)
                size_bytes += queued.size_bytes
            else:
                # A later change with the same keys must not overtake it.
                taken.update(keys)
                passed_over.append(queued)
        queue.extendleft(reversed(passed_over))
        self._queue_bytes -= size_bytes
        return batch

    def _committed(
        self,
        batch: Sequence[_QueuedChange],
        started: float,
        done: asyncio.Task[Sequence[CommitResult | InvalidChange]],
    ) -> None:
        self._commit = None
        self.seconds.add(perf_counter() - started)
        if done.cancelled():
            error: BaseException | None = CommitUnknownError("the commit was cancelled")
        else:
            error = done.exception()
        if error is not None:
            self.results["unavailable" if isinstance(error, StoreUnavailableError) else "unknown"] += len(
                batch
            )
            for queued in batch:
                if not queued.future.done():
                    queued.future.set_exception(error)
        else:
            self._count(done.result())
            for queued, result in zip(batch, done.result(), strict=True):
                if queued.future.done():
                    continue
                if isinstance(result, InvalidChange):
                    queued.future.set_exception(InvalidChangeError(result.reason))
                else:
                    queued.future.set_result(result)
        # After the futures' callbacks, so that what those submit is in the next batch.
        asyncio.get_running_loop().call_soon(self._fill_next, len(batch))

    def _count(self, results: Sequence[CommitResult | InvalidChange]) -> None:
        committed = results.count(COMMITTED)
        self.results["committed"] += committed
        if committed < len(results):
            conflicts = sum(isinstance(result, Conflict) for result in results)
            self.results["conflict"] += conflicts
            self.results["invalid"] += len(results) - committed - conflicts

    def _fill_next(self, previous: int) -> None:
        """Start the next batch, at once or when it is as large as the previous one."""
        if previous < BATCH_FILL_CHANGES_MIN or len(self._queue) >= previous or self._closed:
            self._next()
        else:
            self._fill_target = previous
            self._fill_timer = asyncio.get_running_loop().call_later(
                BATCH_FILL_SECONDS_MAX, self._fill_time_over
            )

    def _fill_time_over(self) -> None:
        self._fill_timer = None
        self._next()

    def _stop_filling(self) -> None:
        if self._fill_timer is not None:
            self._fill_timer.cancel()
            self._fill_timer = None
            asyncio.get_running_loop().call_soon(self._next)


def _exclusive_keys(change: Change) -> tuple[Hashable, ...]:
    """Return the keys that only one change of a batch can have."""
    state = change.state
    request = change.request
    if request is None and not state.business_key:
        return (state.instance_id,)
    keys: list[Hashable] = [state.instance_id]
    if request is not None:
        keys.append((request.key.rpc, request.key.instance_id, request.key.request_id))
    if state.business_key:
        keys.append((state.workflow, state.business_key))
    return tuple(keys)
