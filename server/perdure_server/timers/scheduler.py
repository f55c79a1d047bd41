"""The port between the timer window and a scheduler that keeps time.

Must not: know rows, commands or retries (the window's), or a scheduler library's types.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

OnDue: TypeAlias = Callable[[str], None]
"""Called with the job's ID on the scheduler's event loop. Returns at once and does not raise."""


class TimerScheduler(Protocol):
    """Calls back once for each scheduled job, never before its delay has passed by the scheduler's clock.

    Belongs to one event loop. A scheduler stores nothing durably.
    """

    def start(self) -> None:
        """Start to call back. Needs a running event loop."""
        ...

    async def stop(self) -> None:
        """Drop all jobs, wait for callbacks in progress, and end. Can be called twice."""
        ...

    def schedule(self, job_id: str, delay_ms: int, on_due: OnDue) -> None:
        """Call ``on_due(job_id)`` after ``delay_ms``.

        With 0 or less, call it as soon as possible, the longest overdue job first. Replaces a pending job of the same
        ID. A job whose callback is in progress is not affected, and the new one follows it.
        """
        ...

    def cancel(self, job_id: str) -> None:
        """Remove a job. Unknown IDs and jobs whose callback is in progress are ignored."""
        ...

    def clear(self) -> None:
        """Remove all jobs."""
        ...

    def wakeup(self) -> None:
        """Compare the jobs with the clock now. The clock can have jumped, or the scheduler can have stopped
        silently.
        """
        ...

    def silent_ms(self) -> int:
        """Return the time since the scheduler last proved that it runs. It counts as stopped after `SILENT_MS_MAX`."""
        ...


TICK_MS = 200
"""Interval at which a scheduler proves that it runs, in milliseconds."""

SILENT_MS_MAX = 900
"""Maximum silence of a healthy scheduler, in milliseconds. A stopped one is noticed within a second."""
