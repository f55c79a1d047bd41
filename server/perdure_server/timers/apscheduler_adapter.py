"""A `TimerScheduler` over APScheduler 3.11. It uses the public interface only.

Theory of operation. Each job is a date job in a memory store, in UTC. APScheduler's own executors run a job's function
some time after the job has left its store. They silently drop a job that is a second late, or that is due while a
function of the same ID still runs, and on asyncio each job costs a task. So the executor here runs the function at
once, however late the job is. The function only records that its job is due. The callbacks run after the round, in
order, and until then a job can be replaced and cancelled like a pending one.

If a round of APScheduler raises an exception, it never schedules the next one. Therefore the window calls `wakeup`
every second, and a ticking job makes silence visible.

Jobs are added in batches, one for each turn of the event loop, between ``pause`` and ``resume``, because each
``add_job`` on a running scheduler would start a round.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

from apscheduler.events import EVENT_SCHEDULER_SHUTDOWN
from apscheduler.executors.base import BaseExecutor
from apscheduler.jobstores.base import BaseJobStore, JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.date import DateTrigger

from perdure_server.engine.value_type import value
from perdure_server.runtime.clock import SYSTEM_CLOCK, Clock
from perdure_server.timers.scheduler import TICK_MS, OnDue

log = logging.getLogger(__name__)

TICK_JOB_ID: Final = "perdure.tick"
"""Job ID of the ticking job. It cannot be a timer's, which ends in a revision."""

JUMP_MS: Final = 500
"""If the system clock differs this much from the monotonic one, it has jumped, and the ticking job is rescheduled."""


JOBS_PER_TURN_MAX: Final = 250
"""Maximum number of jobs that are added, and that are called, in one turn of the event loop. It takes about 10 ms."""


@value(frozen=True, slots=True)
class _PendingJob:
    run_at: datetime
    on_due: OnDue


class ApschedulerAdapter:
    """See the module. ``jobstore`` is for tests that inject faults."""

    def __init__(
        self, clock: Clock = SYSTEM_CLOCK, *, jobstore: Callable[[], BaseJobStore] = MemoryJobStore
    ) -> None:
        self._clock = clock
        self._jobstore = jobstore
        self._scheduler: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[str, _PendingJob] = {}
        self._flushing = False
        self._due: dict[str, OnDue] = {}
        self._calling = False
        self._ticked_at = 0
        self._offset_ms = 0

    def start(self) -> None:
        # At INFO, APScheduler writes four lines per job.
        logging.getLogger("apscheduler").setLevel(logging.WARNING)
        self._loop = asyncio.get_running_loop()
        self._scheduler = AsyncIOScheduler(
            jobstores={"default": self._jobstore()},
            executors={"default": _AtOnce()},
            timezone=UTC,
        )
        self._scheduler.start()
        self._ticked_at = self._clock.monotonic_ms()
        self._schedule_tick()
        self._flush_soon()

    async def stop(self) -> None:
        if self._scheduler is None:
            return
        self._waiting.clear()
        self._due.clear()
        self._scheduler.remove_all_jobs()
        scheduler, self._scheduler = self._scheduler, None
        ended = asyncio.Event()
        scheduler.add_listener(lambda _event: ended.set(), EVENT_SCHEDULER_SHUTDOWN)
        scheduler.shutdown(wait=False)
        await ended.wait()

    def schedule(self, job_id: str, delay_ms: int, on_due: OnDue) -> None:
        run_at = datetime.now(UTC) + timedelta(milliseconds=delay_ms)
        self._due.pop(job_id, None)
        self._waiting[job_id] = _PendingJob(run_at, on_due)
        self._flush_soon()

    def cancel(self, job_id: str) -> None:
        self._due.pop(job_id, None)
        # The job can also have been added already, if the waiting one only replaces it.
        self._waiting.pop(job_id, None)
        if self._scheduler is not None:
            with suppress(JobLookupError):
                self._scheduler.remove_job(job_id, "default")

    def clear(self) -> None:
        self._waiting.clear()
        self._due.clear()
        if self._scheduler is not None:
            self._scheduler.remove_all_jobs()
            self._schedule_tick()

    def wakeup(self) -> None:
        if self._scheduler is None:
            return
        if abs(self._offset() - self._offset_ms) > JUMP_MS:
            self._schedule_tick()
        self._scheduler.wakeup()

    def silent_ms(self) -> int:
        return self._clock.monotonic_ms() - self._ticked_at

    # --- adding jobs -----------------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        if self._loop is not None and self._waiting and not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._scheduler is None:
            return
        batch = list(islice(self._waiting.items(), JOBS_PER_TURN_MAX))
        self._scheduler.pause()
        try:
            for job_id, wanted in batch:
                del self._waiting[job_id]
                self._scheduler.add_job(
                    self._note_due,
                    DateTrigger(wanted.run_at, UTC),
                    args=(job_id, wanted.on_due),
                    id=job_id,
                    name=job_id,
                    replace_existing=True,
                )
        finally:
            self._scheduler.resume()
            self._flush_soon()

    def _schedule_tick(self) -> None:
        self._offset_ms = self._offset()
        self._scheduler.add_job(
            self._tick,
            _EveryTick(),
            id=TICK_JOB_ID,
            name=TICK_JOB_ID,
            replace_existing=True,
        )

    def _tick(self) -> None:
        self._ticked_at = self._clock.monotonic_ms()

    def _offset(self) -> int:
        return self._clock.now_ms() - self._clock.monotonic_ms()

    # --- callbacks (on the event loop, in a round of APScheduler and after it) --------------------------------

    def _note_due(self, job_id: str, on_due: OnDue) -> None:
        if job_id in self._waiting:
            return  # replaced by a job that was not added yet
        self._due[job_id] = on_due
        self._call_soon()

    def _call_soon(self) -> None:
        if self._loop is not None and self._due and not self._calling:
            self._calling = True
            self._loop.call_soon(self._call_due)

    def _call_due(self) -> None:
        self._calling = False
        try:
            for job_id in tuple(islice(self._due, JOBS_PER_TURN_MAX)):
                # A callback can cancel or replace later ones.
                on_due = self._due.pop(job_id, None)
                if on_due is not None:
                    on_due(job_id)
        finally:
            self._call_soon()


class _AtOnce(BaseExecutor):  # type: ignore[misc]
    """Runs a job's function in the round of APScheduler that finds it due. The function only records that."""

    def submit_job(self, job: Any, _run_times: Any) -> None:
        job.func(*job.args)

    def _do_submit_job(self, job: Any, run_times: Any) -> None:
        raise AssertionError("jobs run in submit_job")


class _EveryTick(BaseTrigger):  # type: ignore[misc]
    """Fires one tick interval from now, regardless of the last time it fired.

    APScheduler asks for all due times since the last one. Its own interval trigger returns each of them, which is
    thirteen million times for a clock that was set forward by a month.
    """

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        return max(previous_fire_time or now, now) + timedelta(milliseconds=TICK_MS)
