"""Hostile steps in a real server: the server stays up, their own instances fail, and all other instances continue."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2

from e2e.faults.process import rss_bytes
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner

APP: Final = Path(__file__).with_name("hostile_app.py")
ENDED_SECONDS_MAX: Final = 90.0
GROWTH_BYTES_MAX: Final = 400 << 20
"""For a moment, outputs of twenty megabytes are there several times over."""

COMPLETED: Final = instances.INSTANCE_STATE_COMPLETED
FAILED: Final = instances.INSTANCE_STATE_FAILED

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


class Caller:
    """Starts instances of a real server and waits for their ends."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(address)

    async def start(self, workflow: str) -> str:
        call = self.channel.unary_unary("/perdure.v1.RunnerService/StartInstance")
        request = runner.StartInstanceRequest(workflow=workflow)
        answer = await call(request.SerializeToString(), timeout=60)
        return str(runner.StartInstanceResponse.FromString(answer).instance_id)

    async def end(self, instance_id: str) -> instances.Instance:
        """Return the instance once it has ended."""
        request = instances.WatchInstanceRequest(instance_id=instance_id, after_revision=0)
        watch = self.channel.unary_stream("/perdure.v1.InstanceService/WatchInstance")
        async for _ in watch(request.SerializeToString(), timeout=ENDED_SECONDS_MAX):
            pass
        get = self.channel.unary_unary("/perdure.v1.InstanceService/GetInstance")
        answer = await get(
            instances.GetInstanceRequest(instance_id=instance_id).SerializeToString(), timeout=10
        )
        return instances.GetInstanceResponse.FromString(answer).instance

    async def good(self, count: int = 5) -> None:
        """Start instances that behave, and see them complete."""
        ids = [await self.start("good") for _ in range(count)]
        for found in await asyncio.gather(*map(self.end, ids)):
            assert found.state == COMPLETED, found

    async def ready(self) -> bool:
        check = self.channel.unary_unary("/grpc.health.v1.Health/Check")
        answer = await check(health_pb2.HealthCheckRequest().SerializeToString(), timeout=60)
        return bool(
            health_pb2.HealthCheckResponse.FromString(answer).status == health_pb2.HealthCheckResponse.SERVING
        )

    async def become_ready(self) -> None:
        """Return once the server says that it is ready, as it may be already."""
        watch = self.channel.unary_stream("/grpc.health.v1.Health/Watch")
        async for answer in watch(health_pb2.HealthCheckRequest().SerializeToString(), timeout=60):
            if (
                health_pb2.HealthCheckResponse.FromString(answer).status
                == health_pb2.HealthCheckResponse.SERVING
            ):
                return


@pytest.fixture
async def caller(server_process: Any) -> Any:
    server = server_process(APP, arguments=["--max-sync-steps", "4", "--shutdown-timeout", "1s"])
    made = Caller(server.address)
    yield made, server
    await made.channel.close()


async def test_each_hostile_step_fails_its_own_instance_and_no_other(caller: Any) -> None:
    from e2e.faults.hostile_app import EXPECTED

    calls, server = caller
    await calls.good()
    before = rss_bytes(server.pid)

    hostile = {name: await calls.start(name) for name in EXPECTED}
    await calls.good(20)

    for name, instance_id in hostile.items():
        found = await calls.end(instance_id)
        assert (name, found.state, found.error.type) == (name, FAILED, EXPECTED[name])
        assert len(found.error.message) <= 2_000
    await calls.good()
    assert await calls.ready()
    assert rss_bytes(server.pid) - before < GROWTH_BYTES_MAX
    assert await asyncio.to_thread(server.terminate) == 0


async def test_a_coroutine_that_blocks_the_loop_of_all_steps_is_left_behind(caller: Any) -> None:
    calls, server = caller

    blocking = await calls.start("async_block_the_loop")
    await calls.good(20)

    found = await calls.end(blocking)
    assert (found.state, found.error.type) == (FAILED, "StepsLoopStalled")
    assert await calls.ready()
    assert await asyncio.to_thread(server.terminate) == 0


async def test_a_step_that_cancels_all_others_costs_them_no_attempt(caller: Any) -> None:
    calls, server = caller

    for _ in range(3):
        good = asyncio.create_task(calls.good(10))
        cancelling = await calls.start("async_cancel_the_others")
        await good
        found = await calls.end(cancelling)
        # It cancels itself as well, which is found out when it returns.
        assert (found.state, found.error.type) == (FAILED, "CancelledError")

    # While the loop is replaced it is not.
    await calls.become_ready()
    assert await asyncio.to_thread(server.terminate) == 0
