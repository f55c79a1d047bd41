"""The timer window: the rows that are due soon, each armed as one job of the alarm, each fired until the
store answers.

Theory of operation. The table is the truth; this is a bounded view of its soonest rows. A *claim round* gives
rows due within `WINDOW_MS` to this replica and returns them, its own included, so that a row whose arming was
lost is found again by the next round. A timer born due within that time is born owned and is armed by `arm`
right after its commit. When the window is full, the latest jobs are let go: their rows stay this replica's,
and a later round returns them.

A timer held here is ARMED (a job of the alarm), READY (its time has come, it waits for its turn) or FIRING
(submitted). A FIRING timer is never armed or submitted again before it was answered. What comes back decides:
done, gone, not due yet (armed anew), or trouble (armed anew after a pause).

What lives here: claiming, arming, firing, and whether all that is alive. What may not: what a firing does
(the engine's), who may fire (a guard of the commit), what keeps time (the alarm).
"""

from __future__ import annotations

import asyncio
import enum
import heapq
import logging
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from perdure_server.engine.rejections import Rejection, TimerNotDue
from perdure_server.runtime.clock import SYSTEM_CLOCK, Clock
from perdure_server.runtime.errors import OwnershipLostError, ServerStoppingError
from perdure_server.store.protocol import StoreError, TimerRow
from perdure_server.telemetry.counters import Histogram
from perdure_server.timers.scheduler import SILENT_MS_MAX, TimerScheduler

log = logging.getLogger(__name__)

WINDOW_MS: Final = 30_000
"""How far ahead rows are claimed."""

WINDOW_TIMERS_MAX: Final = 25_000
"""How many timers the window aims to hold. It lets the latest go when a tenth more have gathered."""

FIRINGS_MAX: Final = 512
"""How many firings are under way at once; the others wait in the window."""

CLAIM_ROWS_MIN: Final = 1_000
"""How many new rows a round asks for at least; a window that fills asks for as many again as it holds."""

CLAIM_MS_MIN: Final = 1_000
CLAIM_MS_MAX: Final = 10_000
"""The pause between rounds: it grows from the one to the other while rounds find nothing new."""

CLAIM_MS_MAX_SHARED: Final = 2_000
"""The longest pause where other replicas may leave timers behind."""

BACKOFF_MS_MIN: Final = 100
BACKOFF_MS_MAX: Final = 5_000
"""The pause after trouble, of a round or of one timer: it doubles from the one to the other."""

BEAT_MS: Final = 1_000
"""How often the alarm is woken and the clocks are compared."""

JUMP_MS: Final = 100
"""A clock that moved this much against the monotonic one has jumped: every job is planned anew."""

LATE_MS_MAX: Final = 1_000
"""The lateness from which the loop counts as late."""

LOST_MS: Final = 5_000
"""A job this late was lost by the alarm: it is armed anew."""

CLAIM_JOB_ID: Final = "perdure.claim"
"""The alarm's job that begins the next round. No timer has this id: theirs end in a revision."""

LATENESS_SECONDS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0)
"""The bounds between which firings are counted by how late they were."""

SubmitTimer: TypeAlias = Callable[[TimerRow], asyncio.Future[Any]]
"""Fires a timer: `FireTimer` under a `TimerGuard` for the row's owner. Resolves after the commit."""


class TimerStore(Protocol):
    """What the window needs of the store."""

    @property
    def shared(self) -> bool: ...
    def now_ms(self) -> int: ...
    async def claim_timers(self, owner: str, *, due_before: int, limit: int) -> Sequence[TimerRow]: ...


class _Phase(enum.Enum):
    ARMED = enum.auto()
    READY = enum.auto()
    FIRING = enum.auto()


@dataclass(slots=True, eq=False)
class _Held:
    row: TimerRow
    phase: _Phase
    at: int
    """When its job should call, by the store's clock: its due time, or later after trouble."""
    planned_at: int = 0
    """When its job was handed to the alarm: from then on it can be late."""
    troubles: int = 0

    def late_ms(self, now: int) -> int:
        return now - max(self.at, self.planned_at)


class TimerWindow:
    """Fires this replica's timers. A `TimerPort` for the runner; belongs to one event loop."""

    def __init__(
        self,
        store: TimerStore,
        alarm: TimerScheduler,
        submit_timer: SubmitTimer,
        replica_id: str,
        *,
        clock: Clock = SYSTEM_CLOCK,
        window_ms: int = WINDOW_MS,
        timers_max: int = WINDOW_TIMERS_MAX,
        firings_max: int = FIRINGS_MAX,
        claim_ms_max: int | None = None,
    ) -> None:
        self._store = store
        self._alarm = alarm
        self._submit_timer = submit_timer
        self._replica_id = replica_id
        self._clock = clock
        self._window_ms = window_ms
        self._timers_max = timers_max
        self._firings_max = firings_max
        self._claim_ms_max = claim_ms_max or (CLAIM_MS_MAX_SHARED if store.shared else CLAIM_MS_MAX)
        self._held: dict[str, _Held] = {}
        self._ready: deque[_Held] = deque()
        self._firing = 0
        self._more_rows = False
        self._rounds_wanted = asyncio.Event()
        self._round_under_way = False
        self._claimed_at = 0
        self._beat_at = 0
        self._late_ms = 0
        self._troubles = 0
        self._trouble: BaseException | None = None
        self._offsets = (0, 0)
        self._quiet = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._open = False
        self.lateness_seconds = Histogram(LATENESS_SECONDS)
        """From the due time of each timer that fired here to the answer for its commit."""

    # --- the runner's side -----------------------------------------------------------------------------------

    def adopt(self, due_at: int) -> str:
        """Return this replica's id if a timer due then is the window's from birth, else the empty string."""
        return self._replica_id if self._open and due_at < self._horizon() else ""

    def arm(self, row: TimerRow) -> None:
        """Arm a timer that was born owned; claim one that was not, but is due soon."""
        if not self._open:
            return
        if row.owner == self._replica_id:
            self._hold(row)
            self._shrink()
        elif row.timer.due_at < self._horizon():
            self._rounds_wanted.set()

    def disarm(self, reference: str) -> None:
        """Forget a timer that is gone. One that fires right now is left to its answer."""
        held = self._held.get(reference)
        if held is not None and held.phase is not _Phase.FIRING:
            self._drop(held)

    # --- the process's side ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to claim and to fire. The first round, which is also the recovery after a crash, begins at once."""
        self._open = True
        self._claimed_at = self._beat_at = self._clock.monotonic_ms()
        self._offsets = self._read_offsets()
        self._alarm.start()
        self._rounds_wanted.set()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._claim_for_ever(), name="perdure-timer-claims"),
            loop.create_task(self._beat_for_ever(), name="perdure-timer-beat"),
        ]

    async def stop(self, shutdown_timeout_seconds: float = 10.0) -> None:
        """Fire nothing new, and wait for what is under way, no longer than the grace time. May be called twice."""
        self._open = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._alarm.stop()
        self._ready.clear()
        try:
            async with asyncio.timeout(shutdown_timeout_seconds):
                await self._firings_answered()
        except TimeoutError:
            log.warning(
                "timers were still firing at the end of the grace time", extra={"timers": self._firing}
            )
        self._held.clear()

    def replica_changed(self, replica_id: str) -> None:
        """Go on under a new id: the lease of the old one was lost, and its timers may be anyone's by now."""
        self._replica_id = replica_id
        self._alarm.clear()
        self._ready.clear()
        self._held = {ref: held for ref, held in self._held.items() if held.phase is _Phase.FIRING}
        self._rounds_wanted.set()

    def late_ms(self) -> int:
        """Return by how much jobs come late: the worst of the last second, or of those that are overdue now."""
        return max(self._late_ms, self._alarm.silent_ms() - SILENT_MS_MAX, 0)

    def healthy(self) -> bool:
        """Whether timers are claimed and called in time. What stops is told within a second."""
        now = self._clock.monotonic_ms()
        return (
            self._open
            and not any(task.done() for task in self._tasks)
            and self._alarm.silent_ms() <= SILENT_MS_MAX
            and self._late_ms <= LATE_MS_MAX
            and now - self._beat_at <= 3 * BEAT_MS
            and now - self._claimed_at <= self._claim_ms_max + 2 * BACKOFF_MS_MAX
        )

    @property
    def timers(self) -> int:
        """How many timers are held."""
        return len(self._held)

    @property
    def firings(self) -> int:
        """How many timers are being fired or wait for their turn."""
        return self._firing + len(self._ready)

    async def quiesce(self) -> None:
        """Return when no round and no firing is under way: the point from which virtual time may go on."""
        while not self.quiet:
            self._quiet.clear()
            await self._quiet.wait()

    @property
    def quiet(self) -> bool:
        """Whether no round and no firing is under way."""
        return not (self._round_under_way or self._rounds_wanted.is_set() or self._firing)

    # --- claiming --------------------------------------------------------------------------------------------

    async def _claim_for_ever(self) -> None:
        pause_ms, troubles = CLAIM_MS_MIN, 0
        while True:
            await self._rounds_wanted.wait()
            self._rounds_wanted.clear()
            self._round_under_way = True
            try:
                found_new = await self._claim()
                troubles = 0
                pause_ms = CLAIM_MS_MIN if found_new else min(2 * pause_ms, self._claim_ms_max)
                self._plan_round(pause_ms)
            except StoreError as error:
                log.warning("timers were not claimed: %s", error)
                troubles += 1
                self._plan_round(_backoff_ms(troubles))
            except Exception:  # the loop must outlive what it meets
                log.exception("timers were not claimed")
                troubles += 1
                self._plan_round(_backoff_ms(troubles))
            finally:
                self._round_under_way = False
                self._quiet.set()
            if troubles:
                # A wish for a round does not shorten the pause after trouble.
                await asyncio.sleep(BACKOFF_MS_MIN / 1000)

    def _plan_round(self, pause_ms: int) -> None:
        self._alarm.schedule(CLAIM_JOB_ID, pause_ms, self._on_claim_due)

    def _on_claim_due(self, _job_id: str) -> None:
        self._rounds_wanted.set()

    async def _claim(self) -> bool:
        """Hold the soonest rows. Returns whether any was new."""
        found_new = False
        while True:
            room = self._timers_max
            limit = min(room, len(self._held) + max(CLAIM_ROWS_MIN, len(self._held)))
            owner = self._replica_id
            rows = await self._store.claim_timers(owner, due_before=self._horizon(), limit=limit)
            if owner != self._replica_id:
                # The lease was lost meanwhile: these rows may be anyone's, and another round is wanted already.
                return found_new
            self._claimed_at = self._clock.monotonic_ms()
            for row in rows:
                found_new |= self._hold(row)
            self._more_rows = len(rows) >= limit
            self._shrink()
            if limit >= room or not self._more_rows:
                return found_new

    def _horizon(self) -> int:
        return self._store.now_ms() + self._window_ms

    def _hold(self, row: TimerRow) -> bool:
        """Arm a row's timer unless it is held already. Returns whether it was not."""
        held = self._held.get(row.reference)
        if held is not None:
            return False
        held = self._held[row.reference] = _Held(row, _Phase.ARMED, row.timer.due_at)
        self._schedule(held)
        return True

    def _shrink(self) -> None:
        """Let the latest timers go when too many have gathered. Their rows stay this replica's."""
        excess = len(self._held) - self._timers_max
        if excess <= self._timers_max // 10:
            return
        armed = (held for held in self._held.values() if held.phase is _Phase.ARMED)
        for held in heapq.nlargest(excess, armed, key=lambda held: held.at):
            self._drop(held)
        self._more_rows = True

    def _drop(self, held: _Held) -> None:
        del self._held[held.row.reference]
        if held.phase is _Phase.ARMED:
            self._alarm.cancel(held.row.reference)
        self._refill()

    def _refill(self) -> None:
        if self._more_rows and len(self._held) <= self._timers_max // 2:
            self._more_rows = False
            self._rounds_wanted.set()

    # --- arming and firing -----------------------------------------------------------------------------------

    def _schedule(self, held: _Held) -> None:
        now = self._store.now_ms()
        held.phase, held.planned_at = _Phase.ARMED, now
        self._alarm.schedule(held.row.reference, held.at - now, self._on_due)

    def _on_due(self, reference: str) -> None:
        held = self._held.get(reference)
        if held is None or held.phase is not _Phase.ARMED or not self._open:
            return
        self._late_ms = max(self._late_ms, held.late_ms(self._store.now_ms()))
        held.phase = _Phase.READY
        self._ready.append(held)
        self._fire_ready()

    def _fire_ready(self) -> None:
        while self._ready and self._firing < self._firings_max and self._open:
            held = self._ready.popleft()
            if self._held.get(held.row.reference) is held:
                self._fire(held)

    def _fire(self, held: _Held) -> None:
        held.phase = _Phase.FIRING
        self._firing += 1
        try:
            answer = self._submit_timer(held.row)
        except Exception as error:  # noqa: BLE001 - whatever it is, the timer must not be lost
            self._answered(held, error)
        else:
            answer.add_done_callback(lambda done: self._on_answer(held, done))

    def _on_answer(self, held: _Held, done: asyncio.Future[Any]) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        self._answered(held, error)
        self._fire_ready()

    def _answered(self, held: _Held, error: BaseException | None) -> None:
        self._firing -= 1
        self._quiet.set()
        if error is None:
            self.lateness_seconds.add((self._store.now_ms() - held.row.timer.due_at) / 1000)
        if not self._open or held.row.owner != self._replica_id:
            # Under a new id, the row is claimed anew now that nothing fires it any more.
            self._forget(held)
            if self._open:
                self._rounds_wanted.set()
            return
        match error:
            case None:
                self._forget(held)
            case TimerNotDue(due_at=due_at):
                # The clocks differ, or a jump shortened the wait.
                held.at = max(due_at, self._store.now_ms() + 1)
                self._schedule(held)
            case OwnershipLostError() | ServerStoppingError() | Rejection():
                # The timer or its instance is gone, or is another replica's now or soon.
                self._forget(held)
            case _:
                held.troubles += 1
                held.at = self._store.now_ms() + _backoff_ms(held.troubles)
                self._schedule(held)
                self._troubles += 1
                self._trouble = error

    def _forget(self, held: _Held) -> None:
        if self._held.get(held.row.reference) is held:
            del self._held[held.row.reference]
        self._refill()

    async def _firings_answered(self) -> None:
        while self._firing:
            self._quiet.clear()
            await self._quiet.wait()

    # --- liveness --------------------------------------------------------------------------------------------

    async def _beat_for_ever(self) -> None:
        while True:
            await asyncio.sleep(BEAT_MS / 1000)
            try:
                self.beat()
            except Exception:  # the loop must outlive what it meets
                log.exception("the timers' beat met an error")

    def beat(self) -> None:
        """Wake the alarm, plan anew after a jump of a clock, find what came late or never. Runs every second."""
        self._beat_at = self._clock.monotonic_ms()
        self._alarm.wakeup()
        self._tell_troubles()
        if self._beat_at - self._claimed_at > self._claim_ms_max:
            self._rounds_wanted.set()
        offsets = self._read_offsets()
        if any(abs(new - old) > JUMP_MS for new, old in zip(offsets, self._offsets, strict=True)):
            log.warning("a clock has jumped, timers are planned anew")
            self._offsets = offsets
            self._plan_round(0)
            for held in self._armed():
                self._schedule(held)
        now = self._store.now_ms()
        self._late_ms = 0
        for held in self._armed():
            late_ms = held.late_ms(now)
            self._late_ms = max(self._late_ms, late_ms)
            if late_ms > LOST_MS:
                log.error("a timer's job was lost and is armed anew", extra={"reference": held.row.reference})
                self._schedule(held)

    def _tell_troubles(self) -> None:
        # One line a second, however many timers a database that is away holds up.
        error, self._trouble = self._trouble, None
        count, self._troubles = self._troubles, 0
        if error is not None:
            log.warning(
                "timers did not fire and will be fired again: %s",
                error,
                extra={"timers": count},
                exc_info=None if isinstance(error, StoreError) else error,
            )

    def _armed(self) -> Iterator[_Held]:
        return (held for held in self._held.values() if held.phase is _Phase.ARMED)

    def _read_offsets(self) -> tuple[int, int]:
        """How far the store's clock and the time of day are from the monotonic one."""
        monotonic = self._clock.monotonic_ms()
        return self._store.now_ms() - monotonic, self._clock.now_ms() - monotonic


def _backoff_ms(troubles: int) -> int:
    pause_ms = min(BACKOFF_MS_MAX, BACKOFF_MS_MIN << min(troubles - 1, 10))
    return max(1, int(pause_ms * random.uniform(0.5, 1.0)))
