"""The timer window: a bounded view of the timers that are due soon. It fires each until the store has responded.

Theory of operation. The timers table is authoritative. A *claim* assigns the rows that are due within `WINDOW_MS` to
this replica and returns them, including those it owns already. So a row whose arming was lost is found by the next
claim. A timer that is created with a due time within the window is claimed at creation, and armed by `arm` after its
commit. If the window is full, the timers due last are dropped from memory. This replica keeps their rows, and a later
claim returns them.

A loaded timer is ARMED (a job of the scheduler), READY (due, and waiting for a free slot) or FIRING (submitted). A
FIRING timer is not armed or submitted again before the response. After it, the timer is removed, armed again because
it is not due yet, or armed again with a backoff after an error.

Must not: decide what a firing does (the engine's) or keep time (the scheduler's).
"""

from __future__ import annotations

import asyncio
import enum
import heapq
import logging
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from perdure_server.engine.rejections import Rejection, TimerNotDue
from perdure_server.runtime.background import BackgroundLoop
from perdure_server.runtime.clock import SYSTEM_CLOCK, SYSTEM_RNG, Clock, Rng
from perdure_server.runtime.errors import OwnershipLostError, ServerStoppingError
from perdure_server.runtime.ports import SubmitCommand
from perdure_server.store.protocol import StoreError, TimerRow
from perdure_server.telemetry.counters import Histogram
from perdure_server.timers.firing import fire_command, fire_guard
from perdure_server.timers.scheduler import SILENT_MS_MAX, TimerScheduler

log = logging.getLogger(__name__)

WINDOW_MS: Final = 30_000
"""Length of the window, in milliseconds: timers due within it are claimed."""

WINDOW_TIMERS_MAX: Final = 25_000
"""Maximum number of loaded timers. The latest are dropped when there are 10 % more."""

FIRINGS_MAX: Final = 512
"""Maximum number of timers that are FIRING at the same time. Others wait in the window."""

CLAIM_ROWS_MIN: Final = 1_000
"""Minimum number of new rows that a claim asks for. A window that fills asks for as many again as it has loaded."""

CLAIM_MS_MIN: Final = 1_000
CLAIM_MS_MAX: Final = 10_000
"""Pause between two claims, in milliseconds. It doubles from the minimum to the maximum while claims find nothing
new.
"""

CLAIM_MS_MAX_SHARED: Final = 2_000
"""Maximum pause between two claims on a store with several replicas, which can leave timers behind."""

BACKOFF_MS_MIN: Final = 100
BACKOFF_MS_MAX: Final = 5_000
"""Pause after a failed claim or firing, in milliseconds. It doubles from the minimum to the maximum."""

TICK_MS: Final = 1_000
"""Interval of `TimerWindow.tick`, in milliseconds."""

JUMP_MS: Final = 100
"""A clock that differs this much from the monotonic one has jumped, and every job is scheduled again."""

LATE_MS_MAX: Final = 1_000
"""Maximum lateness of a healthy window's timers, in milliseconds."""

LOST_MS: Final = 5_000
"""A job that is this late was lost by the scheduler, and is scheduled again."""

CLAIM_JOB_ID: Final = "perdure.claim"
"""Job ID of the next claim. It cannot be a timer's, which ends in a revision."""

LATENESS_SECONDS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0)
"""Bounds of the histogram of lateness, in seconds."""


class TimerStore(Protocol):
    """The window's part of the store."""

    @property
    def shared(self) -> bool: ...
    def now_ms(self) -> int: ...
    async def claim_timers(self, owner: str, *, due_before: int, limit: int) -> Sequence[TimerRow]: ...


class _Phase(enum.Enum):
    ARMED = enum.auto()
    READY = enum.auto()
    FIRING = enum.auto()


@dataclass(slots=True, eq=False)
class LoadedTimer:
    """A timer in memory."""

    row: TimerRow
    phase: _Phase
    at: int
    """Time at which its job is due, by the store's clock: its due time, or later after an error."""
    scheduled_at: int = 0
    """Time at which its job was scheduled. It can only be late from then on."""
    failures: int = 0

    def late_ms(self, now: int) -> int:
        return now - max(self.at, self.scheduled_at)


class TimerWindow:
    """Fires this replica's timers. The `TimerPort` of the command processor. Belongs to one event loop."""

    def __init__(
        self,
        store: TimerStore,
        scheduler: TimerScheduler,
        submit: SubmitCommand,
        replica_id: str,
        *,
        clock: Clock = SYSTEM_CLOCK,
        rng: Rng = SYSTEM_RNG,
        window_ms: int = WINDOW_MS,
        max_timers: int = WINDOW_TIMERS_MAX,
        max_firings: int = FIRINGS_MAX,
        max_claim_ms: int | None = None,
    ) -> None:
        """``max_claim_ms`` is the maximum pause between claims. Its default depends on whether the store is shared."""
        self._store = store
        self._scheduler = scheduler
        self._submit = submit
        self._replica_id = replica_id
        self._clock = clock
        self._rng = rng
        self._window_ms = window_ms
        self._max_timers = max_timers
        self._max_firings = max_firings
        self._max_claim_ms = max_claim_ms or (CLAIM_MS_MAX_SHARED if store.shared else CLAIM_MS_MAX)
        self._loaded: dict[str, LoadedTimer] = {}
        self._ready: deque[LoadedTimer] = deque()
        self._firing = 0
        self._has_more_rows = False
        self._claim_pause_ms = CLAIM_MS_MIN
        self._claim_failures = 0
        self._claimed_at = 0
        self._ticked_at = 0
        self._late_ms = 0
        self._failures = 0
        self._failure: BaseException | None = None
        self._offsets = (0, 0)
        self._quiet = asyncio.Event()
        self._open = False
        self._claims = BackgroundLoop(
            log,
            "timer claim failed",
            self._claim_and_plan,
            name="perdure-timer-claims",
            failure_pause_seconds=BACKOFF_MS_MIN / 1000,
            on_idle=self._quiet.set,
        )
        self._ticks = BackgroundLoop(
            log, "timer tick failed", self._tick, name="perdure-timer-tick", interval_seconds=TICK_MS / 1000
        )
        self.lateness_seconds = Histogram(LATENESS_SECONDS)
        """Time from the due time of each timer that fired here to the response for its commit."""

    # --- for the command processor ---------------------------------------------------------------------------

    def assign_owner(self, due_at: int) -> str:
        """See `TimerPort.assign_owner`."""
        return self._replica_id if self._open and due_at < self._horizon() else ""

    def arm(self, row: TimerRow) -> None:
        """See `TimerPort.arm`."""
        if not self._open:
            return
        if row.owner == self._replica_id:
            self._load(row)
            self._shrink()
        elif row.timer.due_at < self._horizon():
            self._claims.wake()

    def disarm(self, reference: str) -> None:
        """See `TimerPort.disarm`."""
        timer = self._loaded.get(reference)
        if timer is not None and timer.phase is not _Phase.FIRING:
            self._drop(timer)

    # --- start and stop --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start to claim and to fire. The first claim, which is the recovery after a stop, starts at once."""
        self._open = True
        self._claimed_at = self._ticked_at = self._clock.monotonic_ms()
        self._offsets = self._read_offsets()
        self._scheduler.start()
        self._claims.wake()
        self._claims.start()
        self._ticks.start()

    async def stop(self, shutdown_timeout_seconds: float = 10.0) -> None:
        """Fire no more timers, and wait for those that are firing, up to the timeout. Can be called twice."""
        self._open = False
        await self._claims.stop()
        await self._ticks.stop()
        await self._scheduler.stop()
        self._ready.clear()
        try:
            async with asyncio.timeout(shutdown_timeout_seconds):
                await self._firings_done()
        except TimeoutError:
            log.warning("shutdown timeout, timers still firing", extra={"timers": self._firing})
        self._loaded.clear()

    def replica_changed(self, replica_id: str) -> None:
        """Continue under a new replica ID. The lease of the old one was lost, so other replicas can own its timers."""
        self._replica_id = replica_id
        self._scheduler.clear()
        self._ready.clear()
        self._loaded = {ref: timer for ref, timer in self._loaded.items() if timer.phase is _Phase.FIRING}
        self._claims.wake()

    def late_ms(self) -> int:
        """Return the maximum lateness of jobs in the last second, or of those that are overdue now."""
        return max(self._late_ms, self._scheduler.silent_ms() - SILENT_MS_MAX, 0)

    def healthy(self) -> bool:
        """Return True if timers are claimed and fired on time. A stop is noticed within a second."""
        now = self._clock.monotonic_ms()
        return (
            self._open
            and self._claims.alive
            and self._ticks.alive
            and self._scheduler.silent_ms() <= SILENT_MS_MAX
            and self._late_ms <= LATE_MS_MAX
            and now - self._ticked_at <= 3 * TICK_MS
            and now - self._claimed_at <= self._max_claim_ms + 2 * BACKOFF_MS_MAX
        )

    @property
    def timers(self) -> int:
        """Number of loaded timers."""
        return len(self._loaded)

    @property
    def firings(self) -> int:
        """Number of timers that are firing or wait for a free slot."""
        return self._firing + len(self._ready)

    async def quiesce(self) -> None:
        """Return when `quiet` is true. Virtual time can advance then."""
        while not self.quiet:
            self._quiet.clear()
            await self._quiet.wait()

    @property
    def quiet(self) -> bool:
        """True if no claim and no firing is in progress."""
        return not (self._claims.busy or self._firing)

    # --- claiming --------------------------------------------------------------------------------------------

    async def _claim_and_plan(self) -> None:
        try:
            found_new = await self._claim()
        except Exception:
            self._claim_failures += 1
            self._plan_claim(_backoff_ms(self._claim_failures))
            raise
        self._claim_failures = 0
        self._claim_pause_ms = (
            CLAIM_MS_MIN if found_new else min(2 * self._claim_pause_ms, self._max_claim_ms)
        )
        self._plan_claim(self._claim_pause_ms)

    def _plan_claim(self, pause_ms: int) -> None:
        self._scheduler.schedule(CLAIM_JOB_ID, pause_ms, self._on_claim_due)

    def _on_claim_due(self, _job_id: str) -> None:
        self._claims.wake()

    async def _claim(self) -> bool:
        """Load the soonest rows. Returns True if any was new."""
        found_new = False
        while True:
            room = self._max_timers
            limit = min(room, len(self._loaded) + max(CLAIM_ROWS_MIN, len(self._loaded)))
            owner = self._replica_id
            rows = await self._store.claim_timers(owner, due_before=self._horizon(), limit=limit)
            if owner != self._replica_id:
                # The lease was lost meanwhile. Other replicas can own these rows, and another claim is due already.
                return found_new
            self._claimed_at = self._clock.monotonic_ms()
            for row in rows:
                found_new |= self._load(row)
            self._has_more_rows = len(rows) >= limit
            self._shrink()
            if limit >= room or not self._has_more_rows:
                return found_new

    def _horizon(self) -> int:
        return self._store.now_ms() + self._window_ms

    def _load(self, row: TimerRow) -> bool:
        """Load and arm a timer. Returns False if it was loaded already."""
        if row.reference in self._loaded:
            return False
        timer = self._loaded[row.reference] = LoadedTimer(row, _Phase.ARMED, row.timer.due_at)
        self._schedule(timer)
        return True

    def _shrink(self) -> None:
        """Drop the timers due last if too many are loaded. Their rows remain owned by this replica."""
        excess = len(self._loaded) - self._max_timers
        if excess <= self._max_timers // 10:
            return
        for timer in heapq.nlargest(excess, self._armed(), key=lambda timer: timer.at):
            self._drop(timer)
        self._has_more_rows = True

    def _drop(self, timer: LoadedTimer) -> None:
        del self._loaded[timer.row.reference]
        if timer.phase is _Phase.ARMED:
            self._scheduler.cancel(timer.row.reference)
        self._refill()

    def _refill(self) -> None:
        if self._has_more_rows and len(self._loaded) <= self._max_timers // 2:
            self._has_more_rows = False
            self._claims.wake()

    # --- arming and firing -----------------------------------------------------------------------------------

    def _schedule(self, timer: LoadedTimer) -> None:
        now = self._store.now_ms()
        timer.phase, timer.scheduled_at = _Phase.ARMED, now
        self._scheduler.schedule(timer.row.reference, timer.at - now, self._on_due)

    def _on_due(self, reference: str) -> None:
        timer = self._loaded.get(reference)
        if timer is None or timer.phase is not _Phase.ARMED or not self._open:
            return
        self._late_ms = max(self._late_ms, timer.late_ms(self._store.now_ms()))
        timer.phase = _Phase.READY
        self._ready.append(timer)
        self._fire_ready()

    def _fire_ready(self) -> None:
        while self._ready and self._firing < self._max_firings and self._open:
            timer = self._ready.popleft()
            if self._loaded.get(timer.row.reference) is timer:
                self._fire(timer)

    def _fire(self, timer: LoadedTimer) -> None:
        timer.phase = _Phase.FIRING
        self._firing += 1
        row = timer.row
        try:
            command = fire_command(row, now_ms=self._store.now_ms(), jitter=self._rng())
            response = self._submit(row.instance_id, command, guards=(fire_guard(row),))
        except Exception as error:  # noqa: BLE001 - no error may lose the timer
            self._on_response(timer, error)
        else:
            response.add_done_callback(partial(self._on_done, timer))

    def _on_done(self, timer: LoadedTimer, done: asyncio.Future[Any]) -> None:
        self._on_response(timer, asyncio.CancelledError() if done.cancelled() else done.exception())
        self._fire_ready()

    def _on_response(self, timer: LoadedTimer, error: BaseException | None) -> None:
        self._firing -= 1
        self._quiet.set()
        if error is None:
            self.lateness_seconds.add((self._store.now_ms() - timer.row.timer.due_at) / 1000)
        if not self._open or timer.row.owner != self._replica_id:
            # Under a new replica ID, the row is claimed again, now that nothing fires it.
            self._remove(timer)
            if self._open:
                self._claims.wake()
            return
        match error:
            case None:
                self._remove(timer)
            case TimerNotDue(due_at=due_at):
                # The clocks differ, or a jump shortened the wait.
                timer.at = max(due_at, self._store.now_ms() + 1)
                self._schedule(timer)
            case OwnershipLostError() | ServerStoppingError() | Rejection():
                # The timer or its instance is gone, or another replica owns it now or soon.
                self._remove(timer)
            case _:
                timer.failures += 1
                timer.at = self._store.now_ms() + _backoff_ms(timer.failures)
                self._schedule(timer)
                self._failures += 1
                self._failure = error

    def _remove(self, timer: LoadedTimer) -> None:
        if self._loaded.get(timer.row.reference) is timer:
            del self._loaded[timer.row.reference]
        self._refill()

    async def _firings_done(self) -> None:
        while self._firing:
            self._quiet.clear()
            await self._quiet.wait()

    # --- liveness --------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        self.tick()

    def tick(self) -> None:
        """Wake the scheduler, reschedule after a clock jump, and find late and lost jobs. Called every second."""
        self._ticked_at = self._clock.monotonic_ms()
        self._scheduler.wakeup()
        self._log_failures()
        if self._ticked_at - self._claimed_at > self._max_claim_ms:
            self._claims.wake()
        offsets = self._read_offsets()
        jump_ms = max(abs(new - old) for new, old in zip(offsets, self._offsets, strict=True))
        if jump_ms > JUMP_MS:
            log.warning("clock jump detected, rescheduling timers", extra={"jump_ms": jump_ms})
            self._offsets = offsets
            self._plan_claim(0)
            for timer in self._armed():
                self._schedule(timer)
        now = self._store.now_ms()
        self._late_ms = 0
        for timer in self._armed():
            late_ms = timer.late_ms(now)
            self._late_ms = max(self._late_ms, late_ms)
            if late_ms > LOST_MS:
                log.error("timer job lost, rescheduling", extra={"reference": timer.row.reference})
                self._schedule(timer)

    def _log_failures(self) -> None:
        # One log event a second, regardless of the number of timers that an unavailable database delays.
        error, self._failure = self._failure, None
        count, self._failures = self._failures, 0
        if error is not None:
            expected = isinstance(error, StoreError)
            log.warning(
                "timer firings failed, retrying",
                extra={"timers": count, "reason": str(error) if expected else type(error).__name__},
                exc_info=None if expected else error,
            )

    def _armed(self) -> Iterator[LoadedTimer]:
        return (timer for timer in self._loaded.values() if timer.phase is _Phase.ARMED)

    def _read_offsets(self) -> tuple[int, int]:
        """Return the differences of the store's clock and of the system clock from the monotonic clock."""
        monotonic = self._clock.monotonic_ms()
        return self._store.now_ms() - monotonic, self._clock.now_ms() - monotonic


def _backoff_ms(failures: int) -> int:
    pause_ms = min(BACKOFF_MS_MAX, BACKOFF_MS_MIN << min(failures - 1, 10))
    return max(1, int(pause_ms * random.uniform(0.5, 1.0)))
