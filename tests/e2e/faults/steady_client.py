"""A well-behaved client in a process of its own: it starts an instance, reads it and watches it, again and again.

    python steady_client.py TARGET [HEALTH_TARGET]

Prints a JSON line for each round: the seconds that each call took, or the error of the first one that failed. Nothing
is retried, so every rejection shows. It ends when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import grpc
import grpc.aio

from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner

START = "/perdure.v1.RunnerService/StartInstance"
GET = "/perdure.v1.InstanceService/GetInstance"
WATCH = "/perdure.v1.InstanceService/WatchInstance"
CHECK = "/grpc.health.v1.Health/Check"

CALL_SECONDS_MAX = 30.0
PAUSE_SECONDS = 0.01
"""Time between two rounds: the client is there to be served, not to load the server."""


async def one_round(channel: grpc.aio.Channel, health: grpc.aio.Channel) -> dict[str, float]:
    """Make one call of each kind and return the seconds that each took."""
    times = {}

    async def timed(name: str, path: str, body: bytes) -> bytes:
        began = time.perf_counter()
        answer: bytes = await channel.unary_unary(path)(body, timeout=CALL_SECONDS_MAX)
        times[name] = time.perf_counter() - began
        return answer

    started = await timed("start", START, runner.StartInstanceRequest(workflow="waiting").SerializeToString())
    instance_id = runner.StartInstanceResponse.FromString(started).instance_id
    await timed("get", GET, instances.GetInstanceRequest(instance_id=instance_id).SerializeToString())
    began = time.perf_counter()
    watch = channel.unary_stream(WATCH)(
        instances.WatchInstanceRequest(instance_id=instance_id).SerializeToString(), timeout=CALL_SECONDS_MAX
    )
    assert await watch.read() is not grpc.aio.EOF
    times["watch"] = time.perf_counter() - began
    watch.cancel()
    began = time.perf_counter()
    await health.unary_unary(CHECK)(b"", timeout=CALL_SECONDS_MAX)
    times["health"] = time.perf_counter() - began
    return times


async def main() -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_input() -> None:
        if not sys.stdin.buffer.read1(1):
            stop.set()

    loop.add_reader(sys.stdin, on_input)
    target = sys.argv[1]
    health_target = sys.argv[2] if len(sys.argv) > 2 else target
    async with (
        grpc.aio.insecure_channel(target) as channel,
        grpc.aio.insecure_channel(health_target) as health,
    ):
        while not stop.is_set():
            try:
                told: dict[str, object] = {"seconds": await one_round(channel, health)}
            except grpc.aio.AioRpcError as error:
                told = {"error": f"{error.code().name}: {error.details()}"}
            print(json.dumps(told), flush=True)
            await asyncio.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    asyncio.run(main())
