"""perdure as a client sees it: processes, raw calls, and the rates of the three compared operations.

The client sends and receives bytes and builds only the requests, so that it costs the same with the reference and with
perdure.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from load import CALLERS, CONTEXT, PAYLOAD, at_once
from perdure.v1 import common_pb2, instance_service_pb2, runner_service_pb2

HERE: Final = Path(__file__).resolve().parent
CONTEXT_JSON: Final = json.dumps(CONTEXT)
PAYLOAD_JSON: Final = json.dumps(PAYLOAD)

NOT_ENDED: Final = (
    instance_service_pb2.INSTANCE_STATE_PENDING,
    instance_service_pb2.INSTANCE_STATE_RUNNING,
    instance_service_pb2.INSTANCE_STATE_WAITING,
    instance_service_pb2.INSTANCE_STATE_FAILED,
)

Call = Callable[[bytes], Awaitable[bytes]]


@dataclass(frozen=True)
class Server:
    """A server in a process of its own."""

    address: str
    process_id: int
    ready_seconds: float

    def memory_mb(self) -> float:
        """Return its resident memory."""
        for line in Path(f"/proc/{self.process_id}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise RuntimeError(f"process {self.process_id} is gone")

    def bytes_written(self) -> int:
        """Return how much it has written to its files: whole pages, log and database.

        Not `write_bytes`: a kernel that holds a file in larger pieces counts a piece for each page.
        """
        for line in Path(f"/proc/{self.process_id}/io").read_text(encoding="utf-8").splitlines():
            if line.startswith("wchar:"):
                return int(line.split()[1])
        raise RuntimeError(f"process {self.process_id} is gone")


@asynccontextmanager
async def server_process(*command: str, kill: bool = False) -> AsyncIterator[Server]:
    """Run a server, yield it from its ready line on, end it: in order, or with ``kill`` as a crash does."""
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            line = (await process.stdout.readline()).decode()
        ready_seconds = time.perf_counter() - began
        if " listening on " not in line:
            raise RuntimeError(f"no ready line from {' '.join(command)}: {line!r}")
        yield Server(line.split()[-1], process.pid, ready_seconds)
    finally:
        if process.returncode is None:
            (process.kill if kill else process.terminate)()
        async with asyncio.timeout(60):
            await process.wait()


def echo_command() -> tuple[str, ...]:
    return (sys.executable, str(HERE / "echo_server.py"))


def serve_command(path: str | Path, app: Path = HERE / "flows.py") -> tuple[str, ...]:
    """Return the command of perdure on a SQLite file, as its users give it."""
    return (
        *(sys.executable, "-m", "perdure_server.cli", "serve", str(app)),
        *("--database", f"sqlite:///{path}", "--listen", "127.0.0.1:0"),
    )


class Perdure:
    """The calls that the benchmarks make."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.start_raw: Call = channel.unary_unary("/perdure.v1.RunnerService/StartInstance")
        self.resume_raw: Call = channel.unary_unary("/perdure.v1.RunnerService/Resume")
        self.schedule_resume_raw: Call = channel.unary_unary("/perdure.v1.RunnerService/ScheduleResume")
        self.list_instances_raw: Call = channel.unary_unary("/perdure.v1.InstanceService/ListInstances")
        self.watch_raw: Callable[[bytes], Any] = channel.unary_stream(
            "/perdure.v1.InstanceService/WatchInstance"
        )

    async def start(self, workflow: str, context: str = CONTEXT_JSON) -> str:
        """Start an instance; return its id."""
        answer = await self.start_raw(start_request(workflow, context))
        return runner_service_pb2.StartInstanceResponse.FromString(answer).instance_id

    async def resume(self, instance_id: str, event: str = "answered") -> None:
        await self.resume_raw(resume_request(instance_id, event))

    async def schedule_resume(self, instance_id: str, step_ref: str, delay_ms: int) -> None:
        request = runner_service_pb2.ScheduleResumeRequest(
            instance_id=instance_id,
            step_ref=step_ref,
            delay_ms=delay_ms,
            opts=runner_service_pb2.ScheduleOptions(request_id=os.urandom(16).hex()),
        )
        await self.schedule_resume_raw(request.SerializeToString())

    async def until_none_is(self, workflow: str, *states: instance_service_pb2.InstanceState) -> None:
        """Return once no instance of a workflow is in one of these states."""
        request = instance_service_pb2.ListInstancesRequest(
            workflow=workflow, page_size=1, states=states
        ).SerializeToString()
        answer = instance_service_pb2.ListInstancesResponse
        async with asyncio.timeout(60):
            # No signal reports the end of the last instance.
            while answer.FromString(await self.list_instances_raw(request)).instances:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def watch(
        self, instance_id: str, after_revision: int = 0
    ) -> AsyncIterator[instance_service_pb2.WatchInstanceResponse]:
        request = instance_service_pb2.WatchInstanceRequest(
            instance_id=instance_id, after_revision=after_revision
        )
        async for body in self.watch_raw(request.SerializeToString()):
            yield instance_service_pb2.WatchInstanceResponse.FromString(body)


def start_request(workflow: str, context: str = CONTEXT_JSON) -> bytes:
    """A StartInstance as a client sends it: with a request id of its own."""
    request = runner_service_pb2.StartInstanceRequest(
        workflow=workflow,
        context=common_pb2.Payload(json=context),
        opts=runner_service_pb2.StartOptions(request_id=os.urandom(16).hex()),
    )
    return request.SerializeToString()


def resume_request(instance_id: str, event: str = "answered") -> bytes:
    request = runner_service_pb2.ResumeRequest(
        instance_id=instance_id,
        event=event,
        opts=runner_service_pb2.ResumeOptions(
            request_id=os.urandom(16).hex(), payload=common_pb2.Payload(json=PAYLOAD_JSON), buffer=True
        ),
    )
    return request.SerializeToString()


async def rate_of_starts(start: Call, count: int) -> float:
    """Calls per second of a StartInstance, or of an echo that takes its bytes."""

    async def work() -> None:
        await start(start_request("parked"))

    return count / await at_once(CALLERS, count, work)


async def rate_of_lifecycles(perdure: Perdure, count: int) -> float:
    """Instances per second from the first start to the moment when the last is stored as COMPLETED."""

    async def work() -> None:
        await perdure.resume(await perdure.start("lifecycle"))

    began = time.perf_counter()
    await at_once(CALLERS, count, work)
    await perdure.until_none_is("lifecycle", *NOT_ENDED)
    return count / (time.perf_counter() - began)
