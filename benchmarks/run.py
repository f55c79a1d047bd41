"""Cost of durable calls compared with a bare gRPC echo and with other systems, all measured in one run.

    make bench                                   # everything, five rounds
    make bench ARGS="--rounds 1 --only rates"    # a quick look
    make bench ARGS="--json report.json"

Every server runs in its own process. This process is the only client of perdure and of the echo. A round measures each
of them and each peer once, so that a change in the machine's speed affects all alike. Ratios are per round. The table
shows the median, the smallest and the largest value. Requirements (no early or lost timer, no missing entry) are gates:
if one fails, the exit code is 1. Targets are only reported.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import grpc
import uvloop

from calls import (
    Perdure,
    echo_command,
    rate_of_lifecycles,
    rate_of_starts,
    serve_command,
    server_process,
)
from lists import measure_lists
from load import CALLERS, machine
from neighbours import measure_neighbours
from peers import PEERS, Peer, run_peer
from prepare import now_ms, park
from report import gates_broken, table
from restart import measure_restarts
from timers import measure_timers
from watchers import measure_watchers

PARTS: Final = ("rates", "peers", "timers", "watch", "restart", "lists", "neighbours")
PENDING: Final = 100_000
MONTH_MS: Final = 30 * 86_400_000


async def measure_rates(folder: Path, rounds: int, count: int, peers: tuple[Peer, ...]) -> dict[str, Any]:
    """Measure echo, start and lifecycle, and the lifecycle on each peer, in interleaved rounds."""
    rates: dict[str, list[float]] = {name: [] for name in ("echo", "start", "lifecycle")}
    peer_reports: dict[str, dict[str, Any]] = {}
    absent: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        echo_server = await enter(server_process(*echo_command()))
        server = await enter(server_process(*serve_command(folder / "rates.db")))
        echo_channel = await enter(grpc.aio.insecure_channel(echo_server.address))
        echo = echo_channel.unary_unary("/bench.Echo/Echo")
        perdure = Perdure(await enter(grpc.aio.insecure_channel(server.address)))
        await rate_of_starts(echo, count // 4)
        await rate_of_starts(perdure.start_raw, count // 4)
        await rate_of_lifecycles(perdure, count // 8)
        for number in range(1, rounds + 1):
            say(f"rates: round {number} of {rounds}")
            rates["echo"].append(await rate_of_starts(echo, count))
            rates["start"].append(await rate_of_starts(perdure.start_raw, count))
            rates["lifecycle"].append(await rate_of_lifecycles(perdure, count // 2))
            for peer in peers:
                if peer.name in absent:
                    continue
                try:
                    if word := peer.missing():
                        raise RuntimeError(word)
                    report = await run_peer(peer)
                except (RuntimeError, TimeoutError) as error:
                    absent[peer.name] = str(error) or "it did not end in time"
                    say(f"{peer.name}: skipped, {absent[peer.name]}")
                    continue
                rates.setdefault(peer.name, []).append(report["count"] / report["seconds"])
                peer_reports[peer.name] = {key: report[key] for key in ("version", "settings", "count")}
    # A peer that gave up half-way has no figures.
    rates = {name: found for name, found in rates.items() if len(found) == rounds}
    return {
        "callers": CALLERS,
        "per_second": rates,
        "of_echo": {name: ratios(rates[name], rates["echo"]) for name in ("start", "lifecycle")},
        "of_peer": {name: ratios(rates["lifecycle"], rates[name]) for name in peer_reports if name in rates},
        "peers": peer_reports,
        "peers_absent": absent,
    }


def ratios(rates: list[float], references: list[float]) -> list[float]:
    return [rate / reference for rate, reference in zip(rates, references, strict=True)]


async def measure(parts: set[str], rounds: int, count: int) -> dict[str, Any]:
    report: dict[str, Any] = {
        "machine": {**machine(), "python": platform.python_version()},
        "command": " ".join(["python", *sys.argv]),
        "rounds": rounds,
    }
    began = time.perf_counter()
    with TemporaryDirectory(prefix="perdure-bench-") as name:
        folder = Path(name)
        if parts & {"rates", "peers"}:
            peers = PEERS if "peers" in parts else ()
            report["rates"] = await measure_rates(folder, rounds, count, peers)
        if "watch" in parts:
            say("watch: 1,000 watchers")
            report["watch"] = await measure_watchers(folder)
        if "neighbours" in parts:
            say("neighbours: one client during each attack")
            report["neighbours"] = await measure_neighbours(folder)
        if parts & {"timers", "restart", "lists"}:
            say(f"a database with {PENDING:,} waiting instances and timers")
            base = folder / "base.db"
            clock = time.perf_counter()
            await park(str(base), (now_ms() + MONTH_MS + number for number in range(PENDING)))
            prepare_seconds = time.perf_counter() - clock
            if "restart" in parts:
                say("restart")
                report["restart"] = await measure_restarts(base, folder, PENDING)
            if "lists" in parts:
                say("lists: a well-behaved caller during a flood of lists")
                report["lists"] = await measure_lists(base, folder, PENDING)
            if "timers" in parts:
                say("timers")
                report["timers"] = await measure_timers(base, folder, PENDING, prepare_seconds)
    report["seconds"] = round(time.perf_counter() - began)
    report["machine"]["load_after"] = os.getloadavg()[0]
    return report


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def parts_of(text: str) -> set[str]:
    parts = set(text.split(","))
    if unknown := parts - set(PARTS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not among {', '.join(PARTS)}")
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of the rates (default 5)")
    parser.add_argument("--count", type=int, default=4_000, help="calls per round (default 4,000)")
    parser.add_argument("--only", type=parts_of, default=set(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--json", type=Path, help="file for the report as JSON, in addition to the table")
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(measure(args.only, args.rounds, args.count))
    print(table(report))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    if broken := gates_broken(report):
        raise SystemExit("gates broken: " + "; ".join(broken))


if __name__ == "__main__":
    main()
