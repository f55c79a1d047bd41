"""Parent side of `steady_client.py`: starts it, awaits its rounds, and collects its errors and times."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

CLIENT: Final = Path(__file__).with_name("steady_client.py")
ROUND_SECONDS_MAX: Final = 40.0
"""Limit of one round. It ends a test that would hang and says nothing about speed."""


class SteadyClient:
    """A well-behaved client process. `rounds` awaits calls that start after `rounds` itself."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.errors: list[str] = []
        self.seconds: dict[str, list[float]] = defaultdict(list)

    async def rounds(self, count: int) -> None:
        """Return once that many more rounds have been made, after the one that is under way."""
        for _ in range(count + 1):
            await self._round()

    def forget(self) -> None:
        """Drop the errors and times so far."""
        self.errors.clear()
        self.seconds.clear()

    async def _round(self) -> None:
        assert self._process.stdout is not None
        async with asyncio.timeout(ROUND_SECONDS_MAX):
            line = await self._process.stdout.readline()
        assert line, "the steady client has ended"
        told = json.loads(line)
        if "error" in told:
            self.errors.append(told["error"])
        for name, seconds in told.get("seconds", {}).items():
            self.seconds[name].append(seconds)


@contextlib.asynccontextmanager
async def steady_client(target: str, health_target: str = "") -> AsyncIterator[SteadyClient]:
    """Run a well-behaved client. It has completed one round before the block starts."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(CLIENT),
        target,
        *([health_target] if health_target else []),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=dict(os.environ),
    )
    client = SteadyClient(process)
    try:
        await client.rounds(1)
        assert client.errors == []
        yield client
    finally:
        assert process.stdin is not None
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
