"""Stage: limit the duration of calls whose callers did not set a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from perdure_server.api.admission import AdmissionController
from perdure_server.api.call import Call
from perdure_server.api.errors import CallTimeoutError
from perdure_server.api.pipeline.stage import Run

T = TypeVar("T")


def limit_unary(run_next: Run[T], admission: AdmissionController) -> Run[T]:
    """End calls without a deadline after `Limits.call_seconds`, with `CallTimeoutError`."""
    deadlines = admission.deadlines

    async def run_limited(call: Call) -> T:
        task = deadlines.enter()
        try:
            return await run_next(call)
        except asyncio.CancelledError:
            if not deadlines.is_overdue():
                raise
            raise CallTimeoutError(deadlines.seconds) from None
        finally:
            deadlines.leave(task)

    def run(call: Call) -> Awaitable[T]:
        return run_next(call) if call.context.deadline is not None else run_limited(call)

    return run


def limit_stream(run_next: Run[T], admission: AdmissionController) -> Run[T]:
    """Set the end of streams without a deadline to `Limits.watch_seconds` from now."""
    limits = admission.limits

    def run(call: Call) -> Awaitable[T]:
        if call.context.deadline is None:
            call.expires_at = asyncio.get_running_loop().time() + limits.watch_seconds
        return run_next(call)

    return run
