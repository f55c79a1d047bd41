"""Time until a server is ready again with many instances, and the memory that it needs.

Each time, the server is killed, not stopped, and started again on the same file with 100,000 waiting instances, each
with a timer. The time is from the start of the process to its ready line, including Python's own start.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any, Final

from calls import serve_command, server_process
from load import spread

RESTARTS: Final = 3
SETTLE_SECONDS: Final = 2.0
"""After which the memory is read: by then the timers' window and the sweep have had their first rounds."""


async def measure_restarts(base: Path, folder: Path, pending: int) -> dict[str, Any]:
    """Restart on a copy of ``base``."""
    path = folder / "restart.db"
    shutil.copyfile(base, path)
    seconds: list[float] = []
    memory_mb: list[float] = []
    for _ in range(1 + RESTARTS):
        async with server_process(*serve_command(path), kill=True) as server:
            await asyncio.sleep(SETTLE_SECONDS)
            seconds.append(server.ready_seconds)
            memory_mb.append(server.memory_mb())
    # The first start did not follow a kill.
    return {
        "waiting_instances": pending,
        "pending_timers": pending,
        "ready_seconds": spread(seconds[1:]),
        "memory_mb": spread(memory_mb[1:]),
    }
