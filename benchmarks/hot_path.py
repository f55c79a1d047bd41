"""Processor time of the server per call, by thread, and with --profile by function of its event loop.

    python benchmarks/hot_path.py [--count 3000] [--profile]

Processor time is a better measure than rates if other work runs on the machine, because it does not include waiting.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pstats
import sys
from collections.abc import Awaitable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import grpc
import uvloop

from calls import (
    Perdure,
    Server,
    echo_command,
    rate_of_lifecycles,
    rate_of_starts,
    serve_command,
    server_process,
)

TICKS: Final = os.sysconf("SC_CLK_TCK")
PROFILED: Final = """
import cProfile, os, sys, threading
from perdure_server.cli import main
profile = cProfile.Profile()
run, exit_now = threading.Thread.run, os._exit
def run_profiled(thread):
    (profile.runcall if thread.name == "perdure-server" else lambda work, *args: work(*args))(run, thread)
def dump_and_exit(code):
    profile.dump_stats({path!r})
    exit_now(code)
threading.Thread.run, os._exit = run_profiled, dump_and_exit
sys.argv[1:] = sys.argv[2:]
main()
"""
"""A server whose event loop is profiled. The loop has a thread of its own, and the process ends by `os._exit`."""


def threads_seconds(server: Server) -> dict[int, float]:
    """Return the processor time of each thread so far."""
    found: dict[int, float] = {}
    for task in Path(f"/proc/{server.process_id}/task").iterdir():
        fields = (task / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        found[int(task.name)] = (int(fields[11]) + int(fields[12])) / TICKS
    return found


async def cost(name: str, server: Server, count: int, work: Awaitable[float]) -> None:
    """Print what ``count`` calls cost the server."""
    before = threads_seconds(server)
    rate = await work
    after = threads_seconds(server)
    spent = {thread: (after[thread] - before.get(thread, 0.0)) / count * 1e6 for thread in after}
    loop = spent.pop(max(spent, key=spent.__getitem__))  # the busiest thread, in the echo server as well
    others = ", ".join(f"{value:.0f}" for value in sorted(spent.values(), reverse=True) if value >= 1)
    total = loop + sum(spent.values())
    print(f"{name:10} {rate:7,.0f}/s  {total:5.0f} us: loop {loop:.0f}, other threads {others or 'none'}")


async def measure(count: int, folder: str, *, profiled: bool) -> None:
    stats = os.path.join(folder, "stats")
    command = list(serve_command(os.path.join(folder, "hot.db")))
    if profiled:
        command[1:3] = ["-c", PROFILED.format(path=stats), "perdure"]
    async with (
        server_process(*echo_command()) as echo_server,
        server_process(*command) as server,
        grpc.aio.insecure_channel(echo_server.address) as echo_channel,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        echo = echo_channel.unary_unary("/bench.Echo/Echo")
        perdure = Perdure(channel)
        await rate_of_lifecycles(perdure, count // 4)
        await cost("echo", echo_server, count, rate_of_starts(echo, count))
        if not profiled:
            await cost("start", server, count, rate_of_starts(perdure.start_raw, count))
        await cost("lifecycle", server, count, rate_of_lifecycles(perdure, count))
    if profiled:
        pstats.Stats(stats, stream=sys.stdout).sort_stats("tottime").print_stats(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=3_000)
    parser.add_argument("--profile", action="store_true", help="slower, and by function")
    args = parser.parse_args()
    with (
        TemporaryDirectory(prefix="perdure-bench-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(measure(args.count, folder, profiled=args.profile))


if __name__ == "__main__":
    main()
