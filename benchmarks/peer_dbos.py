"""The lifecycle on DBOS and a SQLite file. Runs in .venv-bench: python peer_dbos.py COUNT FOLDER

DBOS is a library, so its server and its client are this process. This is the fastest of the tried configurations: plain
functions (not coroutines), a write-ahead log instead of SQLite's default journal, ten connections, and polling for
results every 50 ms. The defaults reach about a third of its rate.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

from dbos import DBOS

from load import CALLERS, CONTEXT, PAYLOAD, WARM_UP, at_once, peer_report

POLL_SECONDS = 0.05


@DBOS.step()
def prepare(order: dict[str, Any]) -> dict[str, Any]:
    return {"order": order["order"]}


@DBOS.step()
def conclude(answer: dict[str, Any]) -> dict[str, Any]:
    return {"amount": answer["amount"]}


@DBOS.workflow()
def lifecycle(order: dict[str, Any]) -> dict[str, Any]:
    prepare(order)
    return conclude(DBOS.recv("answered", timeout_seconds=600))


def live_once() -> None:
    handle = DBOS.start_workflow(lifecycle, CONTEXT)
    DBOS.send(handle.get_workflow_id(), PAYLOAD, "answered")
    result = handle.get_result(polling_interval_sec=POLL_SECONDS)
    assert result == {"amount": PAYLOAD["amount"]}


async def measure(count: int) -> float:
    with ThreadPoolExecutor(CALLERS) as threads:
        loop = asyncio.get_running_loop()

        async def work() -> None:
            await loop.run_in_executor(threads, live_once)

        await at_once(CALLERS, WARM_UP, work)
        return await at_once(CALLERS, count, work)


def main() -> None:
    count, path = int(sys.argv[1]), os.path.join(sys.argv[2], "dbos.db")
    with sqlite3.connect(path) as connection:
        # The setting stays in the file. `synchronous` keeps FULL, SQLite's default.
        connection.execute("PRAGMA journal_mode=WAL")
    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{path}",
            "sys_db_pool_size": 10,
            "notification_listener_polling_interval_sec": POLL_SECONDS,
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    seconds = asyncio.run(measure(count))
    peer_report("dbos", version("dbos"), "SQLite, WAL, synchronous=FULL", count, seconds)
    # Its threads would end by and by.
    os._exit(0)


if __name__ == "__main__":
    main()
