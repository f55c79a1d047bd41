"""Stage: limit the duration of calls whose callers did not set a deadline."""

from __future__ import annotations

import asyncio

from perdure_server.api.admission import AdmissionController
from perdure_server.api.call import CallContext
from perdure_server.api.errors import CallTimeoutError
from perdure_server.api.limits import Limits


class CallDeadline:
    """The server's deadline of unary calls, `Limits.call_seconds`."""

    __slots__ = ("_deadlines", "end", "start")

    def __init__(self, admission: AdmissionController) -> None:
        self._deadlines = admission.deadlines
        self.start = admission.deadlines.enter
        """Limits the call of the current task. Returns the value to pass to `end`."""
        self.end = admission.deadlines.leave

    def raise_if_exceeded(self) -> None:
        """Raise `CallTimeoutError` if the current task was cancelled because of this deadline."""
        if self._deadlines.is_overdue():
            raise CallTimeoutError(self._deadlines.seconds) from None


def stream_end(context: CallContext, limits: Limits) -> float | None:
    """Return the time of the event loop at which the server ends a stream. None for no limit."""
    if context.deadline is not None:
        return None
    return asyncio.get_running_loop().time() + limits.watch_seconds
