"""Deadlines of the server: for calls without a deadline, and for the arrival of requests.

`asyncio.timeout` starts and cancels a timer for each call, which costs more than the rest of the pipeline. Instead,
calls are recorded, and a sweep looks for overdue ones. It can end a call up to `SWEEP_SECONDS` late, but never early.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

SWEEP_SECONDS: Final = 1.0
"""Interval of the sweep in seconds."""

Call = asyncio.Task[Any]


class Deadlines:
    """Tasks of calls that can take ``seconds``. Belongs to one event loop.

    While ``crowded`` returns True, calls can take ``crowded_seconds`` only.
    """

    def __init__(
        self,
        seconds: float,
        *,
        crowded: Callable[[], bool] | None = None,
        crowded_seconds: float = 0.0,
        sweep_seconds: float = SWEEP_SECONDS,
    ) -> None:
        self.seconds = seconds
        self._crowded = crowded
        self._crowded_seconds = crowded_seconds
        self._sweep_seconds = sweep_seconds
        self._started: dict[Call, float] = {}
        self._overdue: set[Call] = set()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self) -> Call:
        """Limit the call of the current task. Returns the value to pass to `leave`."""
        call = asyncio.current_task()
        assert call is not None
        self._started[call] = time.monotonic()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._sweep_seconds, self._sweep)
        return call

    def leave(self, call: Call) -> None:
        """Stop limiting a call. `enter` returns it, because a second look-up of the task would double the cost."""
        self._started.pop(call, None)
        if self._overdue:
            self._overdue.discard(call)

    def is_overdue(self) -> bool:
        """Return True if the current task was cancelled by the sweep, and by nothing else."""
        call = asyncio.current_task()
        assert call is not None
        return call in self._overdue and call.uncancel() == 0

    def _end(self, call: Call) -> None:
        # Kept only for `is_overdue`.
        del self._started[call]
        self._overdue.add(call)
        call.cancel()

    def _sweep(self) -> None:
        self._timer = None
        is_crowded = self._crowded is not None and self._crowded()
        latest = time.monotonic() - (self._crowded_seconds if is_crowded else self.seconds)
        for call, started in list(self._started.items()):
            if started > latest:
                break
            self._end(call)
        # Without calls there is no timer, since it would keep a closing event loop busy.
        if self._started:
            self._timer = asyncio.get_running_loop().call_later(self._sweep_seconds, self._sweep)
