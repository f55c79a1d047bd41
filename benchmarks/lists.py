"""Latency of a well-behaved caller while another caller floods the server with lists that match nothing.

Both are processes of their own. The flood lists instances of a version that no instance has, so each page examines as
many rows as a page can.

Gate: no call of the well-behaved caller fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import grpc

from calls import HERE, Perdure, serve_command, server_process
from load import percentile
from perdure.v1 import instance_service_pb2

CALLS: Final = 500
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
        server_process(*serve_command(path)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        idle_ms, idle_failed = await _steady(server.address)
        flooding = [asyncio.create_task(flood(Perdure(channel))) for _ in range(LISTS)]
        flooded_ms, flooded_failed = await _steady(server.address)
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


async def _steady(target: str) -> tuple[list[float], int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / "steady.py"), target, str(CALLS), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    output = await process.stdout.read()
    failed = await process.wait() != 0
    return (json.loads(output) if not failed else [float("nan")]), int(failed)


def _figures(took_ms: list[float]) -> dict[str, float]:
    return {
        "late_ms_p50": percentile(took_ms, 0.5),
        "late_ms_p99": percentile(took_ms, 0.99),
        "late_ms_max": max(took_ms),
    }
