"""Latency of watches: 1,000 watchers, each on its own live instance.

Gate: every watcher gets every entry of its instance, in order, once, and the end. The instances are resumed at a steady
rate, well below the server's capacity, so that the figure is the latency of an entry and not of a queue. Latency is
from the time of the entry, which is taken before its commit, to its arrival in the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from pathlib import Path
from typing import Any, Final

import grpc

from calls import Perdure, serve_command, server_process
from load import CALLERS, at_once, percentile

WATCHERS: Final = 1_000
ANSWERS_PER_SECOND: Final = 200
WATCH_SECONDS_MAX: Final = 60
WATCHES_PER_CONNECTION: Final = 100
OWN: Final = [("grpc.use_local_subchannel_pool", 1)]
"""Options of a channel that shares its connection with no other channel."""


async def measure_watchers(folder: Path) -> dict[str, Any]:
    """Open the watchers, answer the instances, return the figures and the gate."""
    late_ms: list[float] = []
    waiting = asyncio.Semaphore(0)

    async def follow(perdure: Perdure, instance_id: str) -> bool:
        """Watch one instance to its end; return whether the stream was whole."""
        revision = 0
        async for message in perdure.watch(instance_id):
            if message.HasField("end"):
                return message.end.revision == revision
            if not message.HasField("entry"):
                continue
            entry = message.entry
            if entry.revision != revision + 1:
                return False
            revision = entry.revision
            if live:
                late_ms.append((time.time_ns() - entry.time.ToNanoseconds()) / 1e6)
            elif entry.HasField("step_started") and entry.step_started.step_ref == "answer":
                waiting.release()
        return False

    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(server_process(*serve_command(folder / "watchers.db")))
        # One connection for calls, and more for watches, as a connection has at most 256 open calls.
        perdure, *readers = [
            Perdure(await stack.enter_async_context(grpc.aio.insecure_channel(server.address, options=OWN)))
            for _ in range(1 + WATCHERS // WATCHES_PER_CONNECTION)
        ]
        ids: list[str] = []

        async def start() -> None:
            ids.append(await perdure.start("lifecycle"))

        live = False
        await at_once(CALLERS, WATCHERS, start)
        async with asyncio.TaskGroup() as group:
            watchers = [
                group.create_task(follow(reader, instance_id))
                for reader, instance_id in zip(itertools.cycle(readers), ids, strict=False)
            ]
            async with asyncio.timeout(WATCH_SECONDS_MAX):
                for _ in ids:
                    await waiting.acquire()
            live = True
            began = time.perf_counter()
            for number, instance_id in enumerate(ids):
                await asyncio.sleep(max(0.0, began + number / ANSWERS_PER_SECOND - time.perf_counter()))
                group.create_task(perdure.resume(instance_id))
            async with asyncio.timeout(WATCH_SECONDS_MAX):
                whole = await asyncio.gather(*watchers)
        memory_mb = server.memory_mb()
    return {
        "watchers": WATCHERS,
        "entries": len(late_ms),
        "entries_per_second": round(len(late_ms) * ANSWERS_PER_SECOND / WATCHERS),
        "late_ms_p50": percentile(late_ms, 0.5),
        "late_ms_p99": percentile(late_ms, 0.99),
        "late_ms_max": max(late_ms),
        "memory_mb": memory_mb,
        "gates": {"streams_not_whole": whole.count(False)},
    }
