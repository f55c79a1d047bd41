"""Number of rows and bytes per instance, by table, after real calls to a real server.

    python benchmarks/size.py [--count 20000]

Each kind of instance has its own file, so that all pages of a table belong to that kind. The benchmark starts all
instances and then resumes them in another order, as people would: later rows go between older ones, which fills pages
less well than instances that run one after another. SQLite's `dbstat` counts the pages.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import apsw
import grpc
import uvloop

from calls import HERE, NOT_ENDED, Perdure, serve_command, server_process
from load import CALLERS, at_once, machine
from perdure.v1 import instance_service_pb2

ORDERS: Final = HERE.parent / "examples" / "order.py"
MONTH_MS: Final = 30 * 86_400_000

_TREES: Final = """
SELECT m.tbl_name, m.name = m.tbl_name, m.name, sum(d.pgsize), sum(d.payload),
       max(CASE WHEN d.pagetype <> 'overflow' THEN length(d.path) - length(replace(d.path, '/', '')) END)
FROM dbstat AS d JOIN sqlite_schema AS m ON m.name = d.name GROUP BY m.name ORDER BY m.rootpage
"""


@dataclass(frozen=True)
class Kind:
    """Instances of one workflow, brought to one point of their lives."""

    title: str
    app: Path
    bring: Callable[[Perdure, int], Awaitable[None]]
    share: float = 1.0


async def waiting(perdure: Perdure, count: int) -> None:
    """A wait with a timer: two commits each."""

    async def work() -> None:
        await perdure.schedule_resume(await perdure.start("parked"), "answer", MONTH_MS)

    await at_once(CALLERS, count, work)


async def lifecycles(perdure: Perdure, count: int) -> None:
    """A step, a wait, a step, COMPLETED: four commits each."""
    started = await start(perdure, "lifecycle", count)
    await answer(perdure, started, "answered")
    await perdure.until_none_is("lifecycle", *NOT_ENDED)


async def orders_waiting(perdure: Perdure, count: int) -> list[str]:
    """The README's order: validated, charged, reserved; a person has a day to approve. Five commits each."""
    started = await start(perdure, "order", count)
    await answer(perdure, started, "reserved")
    await perdure.until_none_is("order", instance_service_pb2.INSTANCE_STATE_RUNNING)
    return started


async def orders(perdure: Perdure, count: int) -> None:
    """The same, approved, cooled down and shipped: eight commits each."""
    await answer(perdure, await orders_waiting(perdure, count), "approved")
    await perdure.until_none_is("order", *NOT_ENDED)


async def start(perdure: Perdure, workflow: str, count: int) -> list[str]:
    started: list[str] = []

    async def work() -> None:
        started.append(await perdure.start(workflow))

    await at_once(CALLERS, count, work)
    return started


async def answer(perdure: Perdure, instance_ids: list[str], event: str) -> None:
    rest = random.sample(instance_ids, len(instance_ids))

    async def work() -> None:
        await perdure.resume(rest.pop(), event)

    await at_once(CALLERS, len(rest), work)


async def _orders_waiting(perdure: Perdure, count: int) -> None:
    await orders_waiting(perdure, count)


KINDS: Final = (
    Kind("`parked`: waits, with a timer", HERE / "flows.py", waiting),
    Kind("`lifecycle`: COMPLETED", HERE / "flows.py", lifecycles),
    Kind("`order`: waits for an approval", ORDERS, _orders_waiting, 0.25),
    Kind("`order`: COMPLETED", ORDERS, orders, 0.25),
)


async def measure(kind: Kind, path: Path, count: int) -> int:
    """Bring instances to that point, and return how many bytes the server wrote for it."""
    async with (
        server_process(*serve_command(path, kind.app)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        await kind.bring(Perdure(channel), count)
        return server.bytes_written()


def tell(kind: Kind, path: Path, count: int, written_bytes: int) -> None:
    """Print a table's row for each table of the file, all per instance."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    tables: dict[str, list[float]] = {}
    indexes: list[str] = []
    for table, own, name, size, payload, levels in connection.execute(_TREES):
        found = tables.setdefault(table, [0, 0, 0, 0])
        found[0 if own else 1] += size / count
        found[2] += payload / count
        found[3] = max(found[3], levels)
        if not own:
            indexes.append(f"{name} {size / count:.0f}")
    print(f"\n{kind.title} ({count:,} instances)\n")
    print("| table | rows | bytes | of them indexes | content | levels |\n|---|---|---|---|---|---|")
    total = [0.0] * 4
    for table, (own, others, payload, levels) in tables.items():
        rows = connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0] / count
        if rows >= 0.001:
            print(
                f"| {table} | {rows:.3g} | {own + others:,.0f} | {others:,.0f} | {payload:,.0f} | {levels:.0f} |"
            )
            for place, value in enumerate((rows, own + others, others, payload)):
                total[place] += value
    print(f"| all | {total[0]:.3g} | {total[1]:,.0f} | {total[2]:,.0f} | {total[3]:,.0f} | |")
    print(
        f"\nThe file: {path.stat().st_size / count:,.0f} bytes each; written meanwhile: {written_bytes / count:,.0f}."
    )
    print(f"Indexes: {', '.join(indexes)}.", flush=True)
    connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="of orders a quarter")
    args = parser.parse_args()
    print(machine())
    with (
        TemporaryDirectory(prefix="perdure-bench-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        for number, kind in enumerate(KINDS):
            path = Path(folder) / f"{number}.db"
            count = int(args.count * kind.share)
            tell(kind, path, count, runner.run(measure(kind, path, count)))
            path.unlink()


if __name__ == "__main__":
    main()
