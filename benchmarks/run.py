"""What a durable call costs, as a ratio to a bare gRPC echo that is measured in the same run.

    make bench                       # five interleaved rounds of everything
    make bench ARGS="--rounds 1"     # a quick look

Every server runs in a process of its own; this process is the one client of all of them. A round measures the echo,
then each subject, so that a machine that speeds up or slows down does so for all. Ratios are per round; the table
shows their medians with the smallest and the largest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import uvloop

from perdure.v1 import common_pb2, instance_service_pb2, runner_service_pb2

HERE: Final = Path(__file__).resolve().parent
CALLERS: Final = 64
CONTEXT: Final = json.dumps({"order": 4711, "items": ["lamp", "desk", "chair"], "total_cents": 129900})
PAYLOAD: Final = json.dumps({"amount": 129900, "by": "dana"})

Call = Callable[[bytes], Awaitable[bytes]]


@asynccontextmanager
async def server_process(*command: str) -> AsyncIterator[str]:
    """Run a server, yield the address from its ready line, end it."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            line = (await process.stdout.readline()).decode()
        if " listening on " not in line:
            raise RuntimeError(f"no ready line from {' '.join(command)}: {line!r}")
        yield line.split()[-1]
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(60):
            await process.wait()


def start_request(workflow: str) -> bytes:
    """A StartInstance as a client sends it: with a request id of its own."""
    request = runner_service_pb2.StartInstanceRequest(
        workflow=workflow,
        context=common_pb2.Payload(json=CONTEXT),
        opts=runner_service_pb2.StartOptions(request_id=os.urandom(16).hex()),
    )
    return request.SerializeToString()


def resume_request(instance_id: str) -> bytes:
    request = runner_service_pb2.ResumeRequest(
        instance_id=instance_id,
        event="answered",
        opts=runner_service_pb2.ResumeOptions(
            request_id=os.urandom(16).hex(), payload=common_pb2.Payload(json=PAYLOAD), buffer=True
        ),
    )
    return request.SerializeToString()


async def at_once(callers: int, count: int, work: Callable[[], Awaitable[None]]) -> float:
    """Do ``work`` ``count`` times by ``callers`` callers; return the seconds that it took."""
    left = count

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await work()

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return time.perf_counter() - began


async def rate_of_echo(echo: Call, count: int) -> float:
    async def work() -> None:
        await echo(start_request("parked"))

    return count / await at_once(CALLERS, count, work)


async def rate_of_start(start: Call, count: int) -> float:
    async def work() -> None:
        await start(start_request("parked"))

    return count / await at_once(CALLERS, count, work)


async def rate_of_lifecycle(start: Call, resume: Call, list_instances: Call, count: int) -> float:
    """Instances per second from the first start to the moment when the last is stored as COMPLETED."""
    answer = runner_service_pb2.StartInstanceResponse

    async def work() -> None:
        started = answer.FromString(await start(start_request("lifecycle")))
        await resume(resume_request(started.instance_id))

    live = instance_service_pb2.ListInstancesRequest(
        workflow="lifecycle",
        page_size=1,
        states=[
            instance_service_pb2.INSTANCE_STATE_PENDING,
            instance_service_pb2.INSTANCE_STATE_RUNNING,
            instance_service_pb2.INSTANCE_STATE_WAITING,
            instance_service_pb2.INSTANCE_STATE_FAILED,
        ],
    ).SerializeToString()
    began = time.perf_counter()
    await at_once(CALLERS, count, work)
    async with asyncio.timeout(60):
        # Another process's instances give no event to wait for.
        while instance_service_pb2.ListInstancesResponse.FromString(await list_instances(live)).instances:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return count / (time.perf_counter() - began)


async def measure(rounds: int, count: int) -> dict[str, Any]:
    results: dict[str, list[float]] = {"echo": [], "start": [], "lifecycle": []}
    with tempfile.TemporaryDirectory(prefix="perdure-bench-") as folder:
        perdure = (
            *(sys.executable, "-m", "perdure_server.cli", "serve", str(HERE / "flows.py")),
            *("--database", f"sqlite:///{folder}/bench.db", "--listen", "127.0.0.1:0"),
        )
        async with (
            server_process(sys.executable, str(HERE / "echo_server.py")) as echo_address,
            server_process(*perdure) as address,
            grpc.aio.insecure_channel(echo_address) as echo_channel,
            grpc.aio.insecure_channel(address) as channel,
        ):
            echo = echo_channel.unary_unary("/bench.Echo/Echo")
            start = channel.unary_unary("/perdure.v1.RunnerService/StartInstance")
            resume = channel.unary_unary("/perdure.v1.RunnerService/Resume")
            list_instances = channel.unary_unary("/perdure.v1.InstanceService/ListInstances")
            await rate_of_echo(echo, count // 4)
            await rate_of_start(start, count // 4)
            await rate_of_lifecycle(start, resume, list_instances, count // 8)
            for _ in range(rounds):
                results["echo"].append(await rate_of_echo(echo, count))
                results["start"].append(await rate_of_start(start, count))
                results["lifecycle"].append(
                    await rate_of_lifecycle(start, resume, list_instances, count // 2)
                )
    return {
        "machine": {
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "rounds": rounds,
        "callers": CALLERS,
        "per_second": results,
        "of_echo": {
            name: [rate / echo for rate, echo in zip(results[name], results["echo"], strict=True)]
            for name in ("start", "lifecycle")
        },
    }


def table(report: dict[str, Any]) -> str:
    lines = [f"{'':12}{'per second':>14}{'of echo':>10}{'smallest':>10}{'largest':>10}"]
    for name, rates in report["per_second"].items():
        line = f"{name:12}{statistics.median(rates):14,.0f}"
        if name in report["of_echo"]:
            ratios = report["of_echo"][name]
            line += f"{statistics.median(ratios):10.3f}{min(ratios):10.3f}{max(ratios):10.3f}"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=6_000, help="calls per round and subject")
    parser.add_argument("--json", type=Path, help="also write the report to this file")
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(measure(args.rounds, args.count))
    print(table(report))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
