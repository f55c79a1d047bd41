"""Cleanup that cancellation of the caller cannot interrupt. A leaf module for all layers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` to its end, even if the caller is cancelled meanwhile.

    Returns its result or raises its exception. If the caller was cancelled, raises ``CancelledError`` at the end.
    ``work`` must be limited in time.
    """
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("cleanup failed", exc_info=failure)
        raise cancelled
    return task.result()
