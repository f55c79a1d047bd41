"""`TimerScheduler` over virtual time: nothing happens until a test says how far time goes on, and then in one order.

What lives here: a clock that stands still, and an alarm that moves it from job to job by (time, id). Give the
same clock to the store, so that due times and waiting agree.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable
from typing import Final

from perdure_server.timers.scheduler import OnDue

EPOCH_MS: Final = 1_767_225_600_000
"""Where virtual time begins unless told otherwise: the start of 2026."""


class VirtualClock:
    """A clock that stands still. A `Clock`; its `now_ms` can be a store's as well."""

    def __init__(self, now_ms: int = EPOCH_MS) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_ms(self) -> int:
        return self._now_ms

    def set(self, now_ms: int) -> None:
        """Move to a time that is not before now. Raises ``ValueError`` otherwise."""
        if now_ms < self._now_ms:
            raise ValueError(f"virtual time cannot go back from {self._now_ms} to {now_ms}")
        self._now_ms = now_ms


class VirtualScheduler:
    """Calls back while `advance` runs. ``quiesce`` returns when nothing that a call began is still under way."""

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
        """Nothing to look at: virtual time moves by `advance` only."""

    def silent_ms(self) -> int:
        return 0

    async def advance(self, delta_ms: int) -> None:
        """Let ``delta_ms`` pass, with everything that comes due on the way, and return when all is quiet."""
        if not self._started:
            raise RuntimeError("the alarm is not started")
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
            # A job that was cancelled, replaced or fired leaves its place in the heap behind.
            if planned is not None and planned[0] == at:
                del self._jobs[job_id]
                return at, job_id, planned[1]
        return None
