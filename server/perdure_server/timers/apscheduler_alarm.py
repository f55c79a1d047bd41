"""`Alarm` over APScheduler 3.11, by its public interface only.

Theory of operation. Each job is a date job in a memory store, in UTC, that may be late without limit
(``misfire_grace_time=None``; the default drops what is a second late). APScheduler takes a job out of its
store *before* its body runs, and drops a job without a word that comes due while a body of the same id still
runs. So the events "submitted" and "executed" tell which bodies run, and a job of such an id is held back
until the body has ended.

A round of APScheduler that meets an exception never plans the next one. Hence the `wakeup` that the window
calls every second, and the ticking job by which silence is noticed.

Jobs are handed over in batches, one per turn of the loop, between ``pause`` and ``resume``: each ``add_job``
on a running scheduler would start a round of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_EXECUTED,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_SUBMITTED,
    EVENT_SCHEDULER_SHUTDOWN,
)
from apscheduler.jobstores.base import BaseJobStore, JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from perdure_server.engine.values import value
from perdure_server.runtime.clock import SYSTEM_CLOCK, Clock
from perdure_server.timers.alarm import TICK_MS, OnDue

log = logging.getLogger(__name__)

TICK_JOB_ID: Final = "perdure.tick"
"""No timer has this id: theirs end in a revision."""

JUMP_MS: Final = 500
"""A time of day that moved this much against the monotonic clock has jumped: the ticking job is planned anew."""


JOBS_PER_TURN_MAX: Final = 250
"""How many jobs are handed over in one turn of the loop: some ten milliseconds."""


@value(frozen=True, slots=True)
class _Wanted:
    run_at: datetime
    on_due: OnDue


class ApschedulerAlarm:
    """See the module. ``jobstore`` is for tests that plant faults; there is no sharing it."""

    def __init__(
        self, clock: Clock = SYSTEM_CLOCK, *, jobstore: Callable[[], BaseJobStore] = MemoryJobStore
    ) -> None:
        self._clock = clock
        self._jobstore = jobstore
        self._scheduler: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[str, _Wanted] = {}
        self._running: set[str] = set()
        self._after_body: dict[str, _Wanted] = {}
        self._flushing = False
        self._bodies_ended = asyncio.Event()
        self._ticked_at = 0
        self._offset_ms = 0

    def start(self) -> None:
        # At INFO, APScheduler writes four lines per job.
        logging.getLogger("apscheduler").setLevel(logging.WARNING)
        self._loop = asyncio.get_running_loop()
        self._scheduler = AsyncIOScheduler(
            jobstores={"default": self._jobstore()},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
            timezone=UTC,
        )
        self._scheduler.add_listener(self._on_submitted, EVENT_JOB_SUBMITTED)
        self._scheduler.add_listener(self._on_ended, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)
        self._scheduler.add_listener(self._on_dropped, EVENT_JOB_MAX_INSTANCES | EVENT_JOB_MISSED)
        self._scheduler.start()
        self._ticked_at = self._clock.monotonic_ms()
        self._plan_tick()
        self._flush_soon()

    async def stop(self) -> None:
        if self._scheduler is None:
            return
        self._waiting.clear()
        self._after_body.clear()
        self._scheduler.remove_all_jobs()
        # `shutdown` cancels bodies that run: let them end first.
        while self._running:
            self._bodies_ended.clear()
            await self._bodies_ended.wait()
        scheduler, self._scheduler = self._scheduler, None
        ended = asyncio.Event()
        scheduler.add_listener(lambda _event: ended.set(), EVENT_SCHEDULER_SHUTDOWN)
        scheduler.shutdown(wait=False)
        await ended.wait()

    def schedule(self, job_id: str, delay_ms: int, on_due: OnDue) -> None:
        run_at = datetime.now(UTC) + timedelta(milliseconds=delay_ms)
        wanted = _Wanted(run_at, on_due)
        if job_id in self._running:
            self._after_body[job_id] = wanted
        else:
            self._waiting[job_id] = wanted
            self._flush_soon()

    def cancel(self, job_id: str) -> None:
        self._after_body.pop(job_id, None)
        # It may be handed over already, too: what waits then only replaces it.
        self._waiting.pop(job_id, None)
        if self._scheduler is not None:
            with suppress(JobLookupError):
                self._scheduler.remove_job(job_id, "default")

    def clear(self) -> None:
        self._waiting.clear()
        self._after_body.clear()
        if self._scheduler is not None:
            self._scheduler.remove_all_jobs()
            self._plan_tick()

    def wakeup(self) -> None:
        if self._scheduler is None:
            return
        if abs(self._offset() - self._offset_ms) > JUMP_MS:
            self._plan_tick()
        self._scheduler.wakeup()

    def silent_ms(self) -> int:
        return self._clock.monotonic_ms() - self._ticked_at

    # --- handing over ----------------------------------------------------------------------------------------

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
                # An id can have been submitted since it was asked for.
                if job_id in self._running:
                    self._after_body[job_id] = wanted
                    continue
                self._scheduler.add_job(
                    _body,
                    DateTrigger(wanted.run_at, UTC),
                    args=(wanted.on_due, job_id),
                    id=job_id,
                    name=job_id,
                    replace_existing=True,
                )
        finally:
            self._scheduler.resume()
            self._flush_soon()

    def _plan_tick(self) -> None:
        self._offset_ms = self._offset()
        self._scheduler.add_job(
            self._tick,
            IntervalTrigger(seconds=TICK_MS / 1000, timezone=UTC),
            id=TICK_JOB_ID,
            name=TICK_JOB_ID,
            replace_existing=True,
        )

    async def _tick(self) -> None:
        self._ticked_at = self._clock.monotonic_ms()

    def _offset(self) -> int:
        return self._clock.now_ms() - self._clock.monotonic_ms()

    # --- what APScheduler tells (on the loop, between other callbacks) ----------------------------------------

    def _on_submitted(self, event: Any) -> None:
        self._running.add(event.job_id)

    def _on_ended(self, event: Any) -> None:
        self._running.discard(event.job_id)
        if not self._running:
            self._bodies_ended.set()
        wanted = self._after_body.pop(event.job_id, None)
        if wanted is not None:
            self._waiting[event.job_id] = wanted
            self._flush_soon()

    def _on_dropped(self, event: Any) -> None:
        if event.job_id != TICK_JOB_ID:
            # Cannot be, by the above. The window finds a timer that never fired, and arms it anew.
            log.error("APScheduler dropped a job", extra={"reference": event.job_id})


async def _body(on_due: OnDue, job_id: str) -> None:
    # A coroutine function, or APScheduler would run it in a thread.
    on_due(job_id)
