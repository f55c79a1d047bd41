"""Stage: count each call by its result, and measure the duration of admitted calls."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TypeVar

from perdure_server.api.call import NOT_ADMITTED, Call, ClientGoneError
from perdure_server.api.call_counters import CallCounters
from perdure_server.api.errors import CallFailedError
from perdure_server.api.pipeline.stage import Run

T = TypeVar("T")


def count(run_next: Run[T], counters: CallCounters) -> Run[T]:
    """Count calls in ``counters``. Durations are measured if the counters have a histogram."""
    seconds = counters.seconds

    async def run(call: Call) -> T:
        try:
            response = await run_next(call)
        except CallFailedError as failed:
            counters.failed(failed.response.code.name, failed.response.reason)
            raise
        except (asyncio.CancelledError, ClientGoneError):
            counters.cancelled()
            raise
        else:
            counters.ok += 1
            return response
        finally:
            if seconds is not None and call.admitted_at != NOT_ADMITTED:
                seconds.add(perf_counter() - call.admitted_at)

    return run
