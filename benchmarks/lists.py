"""Latency of a well-behaved caller while another caller floods the server with lists that match nothing.

Both are processes of their own. The flood lists instances of a version that no instance has, so each page examines as
many rows as a page can.

Gate: no call of the well-behaved caller fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import grpc

from calls import Perdure, serve_command, server_process
from load import percentile
from perdure.v1 import instance_service_pb2

TESTS: Final = Path(__file__).resolve().parents[1] / "tests"
sys.path.append(str(TESTS))

from e2e.faults.steady import SteadyClient, steady_client  # noqa: E402 - the path comes first

APP: Final = TESTS / "e2e" / "faults" / "plain_app.py"
ROUNDS: Final = 200
"""Rounds of the well-behaved caller, with one start each."""

LISTS: Final = 64
REJECTED_SECONDS: Final = 0.25
"""Time that a rejected list waits before it is sent again, as the server asks for."""


async def measure_lists(base: Path, folder: Path, instances: int) -> dict[str, Any]:
    """Measure on a copy of ``base``: first on an idle server, then during the flood."""
    path = folder / "lists.db"
    shutil.copyfile(base, path)
    pages = 0

    async def flood(perdure: Perdure) -> None:
        nonlocal pages
        request = instance_service_pb2.ListInstancesRequest(workflow="parked", version=9, page_size=1000)
        while True:
            try:
                answer = await perdure.list_instances_raw(request.SerializeToString())
            except grpc.aio.AioRpcError:
                await asyncio.sleep(REJECTED_SECONDS)
                continue
            pages += 1
            response = instance_service_pb2.ListInstancesResponse.FromString(answer)
            request.page_token = response.next_page_token

    async with (
        server_process(*serve_command(path, APP)) as server,
        steady_client(server.address) as client,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        idle_ms, idle_failed = await _rounds(client)
        flooding = [asyncio.create_task(flood(Perdure(channel))) for _ in range(LISTS)]
        flooded_ms, flooded_failed = await _rounds(client)
        for task in flooding:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*flooding)
    return {
        "instances": instances,
        "pages": pages,
        "idle": _figures(idle_ms),
        "flooded": _figures(flooded_ms),
        "gates": {"calls_failed": idle_failed + flooded_failed},
    }


async def _rounds(client: SteadyClient) -> tuple[list[float], int]:
    """Return the latencies of starts in milliseconds, and the number of calls that failed."""
    client.forget()
    await client.rounds(ROUNDS)
    return [seconds * 1e3 for seconds in client.seconds["start"]] or [float("nan")], len(client.errors)


def _figures(took_ms: list[float]) -> dict[str, float]:
    return {
        "late_ms_p50": percentile(took_ms, 0.5),
        "late_ms_p99": percentile(took_ms, 0.99),
        "late_ms_max": max(took_ms),
    }
