"""Parts that all benchmarks share: request bodies, concurrency, and statistics.

It uses the standard library only, since the peers' scripts import it in another environment.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

CALLERS: Final = 64
"""Number of instances in flight at the same time."""

WARM_UP: Final = 64
"""Number of instances that a peer runs before the measurement."""

CONTEXT: Final[dict[str, Any]] = {
    "order": 4711,
    "items": ["lamp", "desk", "chair"],
    "total_cents": 129900,
}
PAYLOAD: Final[dict[str, Any]] = {"amount": 129900, "by": "dana"}


async def at_once(callers: int, count: int, work: Callable[[], Awaitable[None]]) -> float:
    """Do ``work`` ``count`` times by ``callers`` callers; return the seconds that it took."""
    left = count

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await work()

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return time.perf_counter() - began


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of the values that ``share`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median, smallest and largest of repeated measurements."""
    return {"median": statistics.median(values), "smallest": min(values), "largest": max(values)}


def machine() -> dict[str, Any]:
    """Name the machine, and how busy it was with other work when asked."""
    processor = ""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    system = os.uname()
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{system.sysname} {system.release}",
        "load_before": os.getloadavg()[0],
    }


def peer_report(peer: str, version: str, settings: str, count: int, seconds: float) -> None:
    """Say what a peer did, as the one line that the benchmark reads."""
    report = {"peer": peer, "version": version, "settings": settings, "count": count, "seconds": seconds}
    print(json.dumps(report), flush=True)
