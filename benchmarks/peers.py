"""The compared systems: their commands, and their requirements on this machine. Each has its own script."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any, Final

from calls import HERE

ENVIRONMENT: Final = HERE.parent / ".venv-bench"
PEER_SECONDS_MAX: Final = 120


@dataclass(frozen=True)
class Peer:
    """A system that the lifecycle is measured on, with how many instances a round."""

    name: str
    count: int
    needs: str
    """The path below the environment without which it is absent."""

    def missing(self) -> str:
        """Say in a word why it cannot be run, or nothing."""
        if not any(ENVIRONMENT.glob(self.needs)):
            return "absent: `make peers` installs it"
        return ""


PEERS: Final = (
    Peer("dbos", 150, "lib/python3*/site-packages/dbos"),
    Peer("temporal", 128, "bin/temporal"),
    Peer("restate", 400, "node_modules/@restatedev/restate-server-*/bin/restate-server"),
)


async def run_peer(peer: Peer) -> dict[str, Any]:
    """Run a peer once, on a database of its own; return its report. Raises ``RuntimeError`` with its last words."""
    with TemporaryDirectory(prefix="perdure-bench-peer-", ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            *(str(ENVIRONMENT / "bin/python"), str(HERE / f"peer_{peer.name}.py"), str(peer.count), folder),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(PEER_SECONDS_MAX):
                out, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
    lines = [line for line in out.decode().splitlines() if line.startswith('{"peer"')]
    if not lines:
        raise RuntimeError(f"{peer.name} ended without a report: {last_line(errors)}")
    report: dict[str, Any] = json.loads(lines[-1])
    return report


def last_line(errors: bytes) -> str:
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "and without a word"
