"""Deadlines that the server gives: to calls that bring none, and to the way of a call's message.

`asyncio.timeout` arms and disarms a timer for each call, which costs more than the whole rest of a handler. Calls are
instead written down, and looked through once in a while: it may end one that much late, never early.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

SWEEP_SECONDS: Final = 1.0

Call = asyncio.Task[Any]


class Deadlines:
    """Calls that can take ``seconds``, by the task that handles each. Belongs to one event loop.

    While ``crowded`` returns True, they can take ``crowded_seconds`` only.
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
        self._began: dict[Call, float] = {}
        self._overdue: set[Call] = set()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self) -> Call:
        """Bound the call that the current task handles. Returns the value to pass to `leave`."""
        call = asyncio.current_task()
        assert call is not None
        self._began[call] = time.monotonic()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._sweep_seconds, self._sweep)
        return call

    def leave(self, call: Call) -> None:
        """Stop bounding a call. `enter` returned it: to look up the current task again costs as much as the rest."""
        self._began.pop(call, None)
        if self._overdue:
            self._overdue.discard(call)

    def is_overdue(self) -> bool:
        """Whether the `CancelledError` that the current task caught came from here, and from nobody else."""
        call = asyncio.current_task()
        assert call is not None
        return call in self._overdue and call.uncancel() == 0

    def _end(self, call: Call) -> None:
        # It is none of ours any more, but for its own question whether it was.
        del self._began[call]
        self._overdue.add(call)
        call.cancel()

    def _sweep(self) -> None:
        self._timer = None
        is_crowded = self._crowded is not None and self._crowded()
        latest = time.monotonic() - (self._crowded_seconds if is_crowded else self.seconds)
        for call, began in list(self._began.items()):
            if began > latest:
                break
            self._end(call)
        # With nobody to look after there is no timer: it would keep a closing loop busy.
        if self._began:
            self._timer = asyncio.get_running_loop().call_later(self._sweep_seconds, self._sweep)
