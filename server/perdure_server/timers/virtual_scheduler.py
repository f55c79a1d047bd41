"""A `TimerScheduler` over virtual time, for tests: time moves only in `VirtualScheduler.advance`, in a fixed order.

Pass the same clock to the store, so that due times and waits agree.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable
from typing import Final

from perdure_server.timers.scheduler import OnDue

EPOCH_MS: Final = 1_767_225_600_000
"""Default start of virtual time: 2026-01-01, in milliseconds since the Unix epoch."""


class VirtualClock:
    """A `Clock` that moves only by `set`. A store can use its `now_ms` too."""

    def __init__(self, now_ms: int = EPOCH_MS) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_ms(self) -> int:
        return self._now_ms

    def set(self, now_ms: int) -> None:
        """Set the time, in milliseconds since the Unix epoch. Raises ``ValueError`` if it is in the past."""
        if now_ms < self._now_ms:
            raise ValueError(f"virtual time cannot move back from {self._now_ms} to {now_ms}")
        self._now_ms = now_ms


class VirtualScheduler:
    """Calls back while `advance` runs, in the order of (time, job ID).

    ``quiesce`` returns when all work that a callback started has ended.
    """

    def __init__(self, clock: VirtualClock, quiesce: Callable[[], Awaitable[None]]) -> None:
        self._clock = clock
        self._quiesce = quiesce
        self._jobs: dict[str, tuple[int, OnDue]] = {}
        self._heap: list[tuple[int, str]] = []
        self._started = False

    def start(self) -> None:
        self._started = True

    async def stop(self) -> None:
        self._started = False
        self.clear()

    def schedule(self, job_id: str, delay_ms: int, on_due: OnDue) -> None:
        at = self._clock.now_ms() + delay_ms
        self._jobs[job_id] = (at, on_due)
        heapq.heappush(self._heap, (at, job_id))

    def cancel(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)

    def clear(self) -> None:
        self._jobs.clear()
        self._heap.clear()

    def wakeup(self) -> None:
        """Does nothing: virtual time moves only in `advance`."""

    def silent_ms(self) -> int:
        return 0

    async def advance(self, delta_ms: int) -> None:
        """Advance time by ``delta_ms``, call everything that is due until then, and return when all work has ended."""
        if not self._started:
            raise RuntimeError("the scheduler is not started")
        until = self._clock.now_ms() + delta_ms
        await self._quiesce()
        while (job := self._next(until)) is not None:
            at, job_id, on_due = job
            self._clock.set(max(at, self._clock.now_ms()))
            on_due(job_id)
            await self._quiesce()
        self._clock.set(max(until, self._clock.now_ms()))

    def _next(self, until: int) -> tuple[int, str, OnDue] | None:
        while self._heap and self._heap[0][0] <= until:
            at, job_id = heapq.heappop(self._heap)
            planned = self._jobs.get(job_id)
            # A job that was cancelled, replaced or fired leaves its entry in the heap.
            if planned is not None and planned[0] == at:
                del self._jobs[job_id]
                return at, job_id, planned[1]
        return None
