"""The cost of a bad neighbour: latency of a well-behaved client while other clients attack the server.

Every attack has a server of its own. The client makes one call after the other in a process of its own, without
retries. Gate: none of its calls is rejected.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Any, Final

from calls import serve_command, server_process
from load import percentile

TESTS: Final = Path(__file__).resolve().parents[1] / "tests"
sys.path.append(str(TESTS))

from e2e.faults import attacks  # noqa: E402 - the path comes first
from e2e.faults.steady import steady_client  # noqa: E402

APP: Final = TESTS / "e2e" / "faults" / "plain_app.py"
SECONDS: Final = 5.0


@contextlib.asynccontextmanager
async def _nothing(_: str) -> Any:
    yield


ATTACKS: Final[dict[str, Any]] = {
    "an idle server": _nothing,
    "1 connection that reads nothing": attacks.unread_responses,
    "1 connection that resets its calls": attacks.rapid_reset,
    "300 callers with contexts of 1 MB": attacks.large_contexts,
    "768 idle connections": attacks.idle_connections,
}


async def measure_neighbours(folder: Path) -> dict[str, Any]:
    """Return the latencies of starts and health checks during each attack, and the number of rejected calls."""
    rows: dict[str, dict[str, float]] = {}
    rejected = 0
    for number, (name, attack) in enumerate(ATTACKS.items()):
        async with (
            server_process(*serve_command(folder / f"neighbours-{number}.db", APP)) as server,
            steady_client(server.address) as client,
            attack(server.address),
        ):
            await client.rounds(1)
            client.forget()
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                await client.rounds(1)
            memory_mb = server.memory_mb()
        rejected += len(client.errors)
        for call in ("start", "health"):
            late_ms = [seconds * 1e3 for seconds in client.seconds[call]] or [0.0]
            rows[f"{call} beside {name}"] = {
                "late_ms_p50": percentile(late_ms, 0.5),
                "late_ms_p99": percentile(late_ms, 0.99),
                "late_ms_max": max(late_ms),
                "memory_mb": memory_mb,
            }
    return {"rows": rows, "gates": {"rejected_calls": rejected}}
