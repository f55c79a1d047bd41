"""The port between the timer window and whatever calls back when time has passed.

What lives here: the protocol. What may not: rows, commands, retries (the window's), or a scheduler's own
types.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

OnDue: TypeAlias = Callable[[str], None]
"""What an alarm calls, on the loop that started it, with the job's id. It returns at once and does not raise."""


class TimerScheduler(Protocol):
    """Calls back once per scheduled job, never before its delay has passed by the clock that it keeps.

    Belongs to one event loop. An alarm keeps nothing: whoever schedules holds the truth elsewhere.
    """

    def start(self) -> None:
        """Begin to call back. Needs a running event loop."""
        ...

    async def stop(self) -> None:
        """Drop all jobs, wait for calls that are under way, and end. May be called twice."""
        ...

    def schedule(self, job_id: str, delay_ms: int, on_due: OnDue) -> None:
        """Call ``on_due(job_id)`` after ``delay_ms`` (0 or less: as soon as may be, the longest overdue first).

        A pending job of the same id is replaced. One whose call is under way stays as it is, and this one follows it.
        """
        ...

    def cancel(self, job_id: str) -> None:
        """Forget the job. Unknown ids, and calls that are under way, are ignored."""
        ...

    def clear(self) -> None:
        """Forget all jobs."""
        ...

    def wakeup(self) -> None:
        """Look at the clock now: it may have jumped, or the alarm may have stopped without a word."""
        ...

    def silent_ms(self) -> int:
        """Return how long ago the alarm last proved that it runs. Beyond `SILENT_MS_MAX` it counts as stopped."""
        ...


TICK_MS = 200
"""How often an alarm proves that it runs."""

SILENT_MS_MAX = 900
"""The longest silence of a healthy alarm: what stops is noticed within a second."""
