"""Memory of a server under load with large contexts: the level at which it stops growing, if any.

    python benchmarks/memory.py [--seconds 240] [--in-flight 64] [--context-bytes 50000] [--waiting]

The benchmark keeps `--in-flight` lifecycles running, each with a context of `--context-bytes`. With `--waiting` it
starts instances and does not resume them, so their number grows. It prints a line for each tenth of the time, with the
number of instances so far and the server's memory. The server inherits MALLOC_ARENA_MAX: set it to 2 to see the
allocator's share.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import grpc
import uvloop

from calls import Perdure, Server, serve_command, server_process
from load import CALLERS, CONTEXT

SAMPLES: Final = 10


async def measure(folder: Path, seconds: float, in_flight: int, context_bytes: int, *, waiting: bool) -> None:
    path = folder / "memory.db"
    context = json.dumps({**CONTEXT, "note": "n" * context_bytes})
    done = 0
    async with (
        server_process(*serve_command(path)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        perdure = Perdure(channel)
        tell(server, path, 0, done)
        began = time.perf_counter()

        async def caller() -> None:
            nonlocal done
            while time.perf_counter() < began + seconds:
                instance_id = await perdure.start("lifecycle", context)
                if not waiting:
                    await perdure.resume(instance_id)
                done += 1

        async with asyncio.TaskGroup() as callers:
            for _ in range(in_flight):
                callers.create_task(caller())
            for number in range(1, SAMPLES + 1):
                await asyncio.sleep(began + seconds * number / SAMPLES - time.perf_counter())
                tell(server, path, seconds * number / SAMPLES, done)


def tell(server: Server, path: Path, seconds: float, done: int) -> None:
    size_mb = sum(os.path.getsize(name) for name in path.parent.iterdir()) / 1e6
    print(
        f"{seconds:5.0f} s  {done:8,} lifecycles  {server.memory_mb():6.0f} MB resident  {size_mb:8,.0f} MB on disk",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--in-flight", type=int, default=CALLERS)
    parser.add_argument("--context-bytes", type=int, default=50_000)
    parser.add_argument("--waiting", action="store_true", help="start lifecycles and answer none")
    args = parser.parse_args()
    with (
        TemporaryDirectory(prefix="perdure-bench-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(
            measure(Path(folder), args.seconds, args.in_flight, args.context_bytes, waiting=args.waiting)
        )


if __name__ == "__main__":
    main()
