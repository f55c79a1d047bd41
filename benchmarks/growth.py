"""Speed of commits, claims and reads as the number of stored instances grows, and the cost of a large file.

    python benchmarks/growth.py [--sizes 10000 100000 300000] [--rounds 3] [--count 1500] [--folder FOLDER]

Each size has its own server and its own file. Every instance in the file waits and has a timer in a month's time. Every
round measures every size once, in another order, so that a slower machine affects all sizes alike. Ratios are relative
to the smallest size of the same round. The benchmark resumes randomly chosen instances, first with the file in the
kernel's page cache and then after it was dropped from the cache. Files in a named folder are kept and reused.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import apsw
import grpc
import uvloop

from calls import Perdure, rate_of_starts, serve_command, server_process
from load import CALLERS, at_once, machine
from perdure_server.store.sqlite import SqliteStore
from prepare import now_ms, park
from restart import RESTARTS, SETTLE_SECONDS

MONTH_MS: Final = 30 * 86_400_000
CLAIMED: Final = 1_000
LOADED: Final = 256

_WAITING: Final = "SELECT instance_id FROM instances WHERE namespace = '' AND status = 'waiting'"


@dataclass
class Size:
    """One size's file, its ids in a random order, and its figures, each one value a round."""

    stored: int
    path: Path
    ids: list[str]
    figures: dict[str, list[float]] = field(default_factory=dict)

    def add(self, figure: str, value: float) -> None:
        self.figures.setdefault(figure, []).append(value)


async def prepare(folder: Path, stored: int) -> Size:
    path = folder / f"{stored}.db"
    if not path.exists():
        began = time.perf_counter()
        await park(str(path), (now_ms() + MONTH_MS for _ in range(stored)))
        print(f"{stored:,} instances in {time.perf_counter() - began:.0f} s", flush=True)
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    ids = [row[0] for row in connection.execute(_WAITING)]
    connection.close()
    random.shuffle(ids)
    return Size(stored, path, ids)


def each_round(sizes: Sequence[Size], rounds: int) -> Iterator[Size]:
    """Yield every size once a round, each time beginning with the next one."""
    for number in range(rounds):
        first = number % len(sizes)
        yield from (*sizes[first:], *sizes[:first])


async def measure_calls(sizes: Sequence[Size], rounds: int, count: int) -> None:
    """Rates of StartInstance and of Resume, by a server for each size."""
    async with AsyncExitStack() as stack:
        clients: dict[int, Perdure] = {}
        for size in sizes:
            server = await stack.enter_async_context(server_process(*serve_command(size.path)))
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
            clients[size.stored] = Perdure(channel)
            await rate_of_starts(clients[size.stored].start_raw, count // 4)
        for size in each_round(sizes, rounds):
            perdure = clients[size.stored]
            in_memory(size.path)
            size.add("StartInstance, a second", await rate_of_starts(perdure.start_raw, count))
            size.add("Resume, a second", await rate_of_resumes(perdure, size.ids, count))
            forget(size.path)
            size.add("Resume, file not in memory, a second", await rate_of_resumes(perdure, size.ids, count))


async def rate_of_resumes(perdure: Perdure, ids: list[str], count: int) -> float:
    async def work() -> None:
        await perdure.resume(ids.pop())

    return count / await at_once(CALLERS, count, work)


def in_memory(path: Path) -> None:
    """Write out what is left to write of a file, and read it once, so that the kernel holds it."""
    with path.open("rb") as whole:
        os.fsync(whole.fileno())
        while whole.read(1 << 20):
            pass


def forget(path: Path) -> None:
    """Drop a file from the kernel's page cache, as if it were too large for it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


async def measure_store(sizes: Sequence[Size], rounds: int) -> None:
    """Measure the store operations of the timer window, the command processor and the task poll, without a server."""
    for size in each_round(sizes, rounds):
        in_memory(size.path)
        store = SqliteStore(str(size.path))
        await store.open()
        await store.register_replica("owner", lease_ms=60_000)

        began = time.perf_counter()
        claimed = await store.claim_timers("owner", due_before=now_ms() + 2 * MONTH_MS, limit=CLAIMED)
        size.add(f"claim {CLAIMED:,} timers, ms", (time.perf_counter() - began) * 1e3)
        assert len(claimed) == CLAIMED

        some = random.sample(size.ids, LOADED)
        began = time.perf_counter()
        await asyncio.gather(*map(store.load, some))
        size.add(f"load {LOADED} states, ms", (time.perf_counter() - began) * 1e3)

        began = time.perf_counter()
        code = {("lifecycle", 1): frozenset({"prepare", "conclude"})}
        await store.claimable_tasks(code=code, limit=500)
        await store.next_timer_due_at()
        size.add("look for tasks and the next timer, ms", (time.perf_counter() - began) * 1e3)
        await store.end_replica("owner")
        await store.close()


async def measure_file(size: Size) -> None:
    """Restarts after a kill, a copy for a backup, and how deep the trees are."""
    for _ in range(RESTARTS):
        async with server_process(*serve_command(size.path), kill=True) as server:
            await asyncio.sleep(SETTLE_SECONDS)
            size.add("restart after a kill, s", server.ready_seconds)
            size.add("memory after that, MB", server.memory_mb())
    size.add("file, MB", size.path.stat().st_size / 1e6)
    size.add("VACUUM INTO, MB a second", size.path.stat().st_size / 1e6 / seconds_of_copy(size.path))
    connection = apsw.Connection(str(size.path))
    for table in ("instances", "history", "timers"):
        levels = "SELECT max(length(path) - length(replace(path, '/', ''))) FROM dbstat WHERE name = ?"
        size.add(f"levels of {table}", connection.execute(levels, [table]).fetchall()[0][0])
    connection.close()


def seconds_of_copy(path: Path) -> float:
    """Copy a file as docs/operate/back-up-and-restore.md says, with the server away."""
    in_memory(path)
    copy = path.with_suffix(".copy")
    connection = apsw.Connection(str(path))
    began = time.perf_counter()
    connection.execute("VACUUM INTO ?", [str(copy)]).fetchall()
    with copy.open("rb") as target:
        os.fsync(target.fileno())
    seconds = time.perf_counter() - began
    connection.close()
    copy.unlink()
    return seconds


def tell(sizes: Sequence[Size]) -> None:
    print(f"\n| instances stored | {' | '.join(f'{size.stored:,}' for size in sizes)} |")
    print("|---" * (len(sizes) + 1) + "|")
    for figure, base in sizes[0].figures.items():
        cells = []
        for size in sizes:
            values = size.figures[figure]
            ratios = sorted(value / first for value, first in zip(values, base, strict=True))
            cell = f"{statistics.median(values):,.{0 if values[0] >= 100 else 2}f}"
            if size is not sizes[0] and len(values) > 1:
                cell += f", x {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            cells.append(cell)
        print(f"| {figure} | {' | '.join(cells)} |")


async def measure(folder: Path, stored: Sequence[int], rounds: int, count: int) -> None:
    sizes = [await prepare(folder, number) for number in stored]
    for size in sizes:
        if len(size.ids) < rounds * count * 2 + LOADED:
            sys.exit(f"{size.path} has too few waiting instances left: remove it")
    await measure_calls(sizes, rounds, count)
    await measure_store(sizes, rounds)
    for size in sizes:
        await measure_file(size)
    tell(sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 300_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--count",
        type=int,
        default=1_500,
        help="calls of each kind in a round; of the smallest "
        "size's instances, twice as many a round are answered",
    )
    parser.add_argument("--folder", help="where to keep the files; they are used again by the next run")
    args = parser.parse_args()
    if args.rounds * args.count * 2 + LOADED > min(args.sizes):
        parser.error("the smallest size has not so many instances to answer")
    print(machine())
    with ExitStack() as stack:
        folder = args.folder or stack.enter_context(TemporaryDirectory(prefix="perdure-bench-"))
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        runner.run(measure(Path(folder), args.sizes, args.rounds, args.count))


if __name__ == "__main__":
    main()
