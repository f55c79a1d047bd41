"""Clients that start a call and stall: headers without a message, and responses and snapshots that are never read.

Their cost is bounded, and other clients are not affected.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
import grpc.aio
import pytest

from contract.runner_flows import FLOWS
from perdure.v1 import common_pb2
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner
from perdure_server.api.limits import Limits
from perdure_server.store.protocol import StoredInstance
from support.api_fixture import METHODS, ApiWorld, CallError, call_error, serving

pytestmark = pytest.mark.e2e

GET: Final = "/perdure.v1.InstanceService/GetInstance"
WATCH: Final = "/perdure.v1.InstanceService/WatchInstance"
START: Final = "/perdure.v1.RunnerService/StartInstance"

HEALTH_CHECK: Final = "/grpc.health.v1.Health/Check"
HEALTH_WATCH: Final = "/grpc.health.v1.Health/Watch"

SMALL_WINDOW: Final = [
    ("grpc.http2.lookahead_bytes", 65_536),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.use_local_subchannel_pool", 1),
]
"""A client whose window a large answer fills at once, so that the server has to keep the rest."""

BODY: Final = json.dumps({"a": "x" * 1_000_000})


async def nothing() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


def silent_call(world: ApiWorld, path: str = START) -> Any:
    """Send the headers of a call and no message."""
    return world.channel.stream_unary(path)(nothing())


async def ended(call: Any) -> CallError:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return call_error(error)
    raise AssertionError("the call was served")


async def until(condition: Callable[[], bool]) -> None:
    """Return once it holds. What is waited for here happens inside grpc, which sends no signal."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.005)


async def start_large(world: ApiWorld) -> None:
    request = runner.StartInstanceRequest(
        workflow="approval",
        context=common_pb2.Payload(json=BODY),
        opts=runner.StartOptions(instance_id="large"),
    )
    assert not isinstance(await world.call("StartInstance", request), CallError)


def get_large() -> bytes:
    return instances.GetInstanceRequest(instance_id="large").SerializeToString()


@pytest.mark.parametrize("path", [START, GET, WATCH, HEALTH_CHECK, HEALTH_WATCH])
async def test_a_call_that_never_sends_its_message_is_ended(path: str) -> None:
    async with serving(FLOWS, limits=Limits(message_seconds=0.05)) as world:
        refusal = await ended(silent_call(world, path))

        assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "message" in refusal.message
        assert world.api.admission.calls == 0


@pytest.mark.parametrize("rpc", METHODS)
async def test_a_call_that_ends_without_a_message_is_an_invalid_argument(rpc: str) -> None:
    async def none() -> AsyncIterator[bytes]:
        return
        yield b""

    method = METHODS[rpc]
    path = f"/{method.containing_service.full_name}/{rpc}"
    async with serving(FLOWS) as world:
        refusal = await ended(world.channel.stream_unary(path)(none(), timeout=20))

        assert refusal.what == ("INVALID_ARGUMENT", "INVALID_FIELD")
        assert (world.api.admission.calls, world.api.admission.watches) == (0, 0)


async def test_silent_calls_give_way_to_calls_that_wait() -> None:
    async with serving(FLOWS, limits=Limits(reads_max=6, crowded_message_seconds=0.05)) as world:
        silent = [silent_call(world) for _ in range(5)]
        await until(lambda: world.api.admission.waiting_reads > 0)

        assert not isinstance(await world.start("approval"), CallError)
        assert (await ended(silent[0])).code is grpc.StatusCode.DEADLINE_EXCEEDED
        for call in silent:
            call.cancel()
        await until(lambda: world.api.admission.peers == 0)
        assert (world.api.admission.reads, world.api.admission.waiting_reads) == (0, 0)


async def test_unread_responses_are_bounded_and_dropped_with_their_callers() -> None:
    limits = Limits(unread_bytes_max=2_500_000)
    async with serving(FLOWS, limits=limits, options=SMALL_WINDOW) as world:
        await start_large(world)
        # The wire knows no difference between one answer and a stream of one, but a stream can be left unread.
        stalled = [world.channel.unary_stream(GET)(get_large(), timeout=60) for _ in range(2)]
        await until(lambda: world.api.admission.unread_bytes > 2_000_000)

        refusal = await world.call("GetInstance", get_large())
        assert refusal.what == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert refusal.retry_after_ms
        assert not isinstance(await world.start("approval"), CallError)

        stalled[0].cancel()
        assert len(await stalled[1].read()) > 1_000_000
        await until(lambda: world.api.admission.unread_bytes == 0)
        assert not isinstance(await world.call("GetInstance", get_large()), CallError)
        await until(lambda: world.api.admission.unread_bytes == 0)


async def test_a_watch_frees_its_first_snapshot() -> None:
    async with serving(FLOWS) as world:
        await start_large(world)
        body = instances.WatchInstanceRequest(instance_id="large").SerializeToString()
        watches = [world.channel.unary_stream(WATCH)(body, timeout=60) for _ in range(10)]
        for watch in watches:
            assert instances.WatchInstanceResponse.FromString(await watch.read()).HasField("snapshot")
        await until(lambda: world.api.admission.unread_bytes == 0)
        gc.collect()

        kept = [found for found in gc.get_objects() if isinstance(found, StoredInstance)]
        # A watch of another test in this process may have left a heartbeat behind.
        messages = [
            found
            for found in gc.get_objects()
            if isinstance(found, instances.WatchInstanceResponse) and found.snapshot.instance_id == "large"
        ]

        assert (kept, messages) == ([], [])
        assert world.core.watch.watchers == 10
        for watch in watches:
            watch.cancel()


async def test_an_unread_snapshot_does_not_stop_other_watchers() -> None:
    limits = Limits(unread_bytes_max=2_500_000)
    async with (
        serving(FLOWS, limits=limits) as world,
        grpc.aio.insecure_channel(world.address, options=SMALL_WINDOW) as slow,
    ):
        await start_large(world)
        body = instances.WatchInstanceRequest(instance_id="large").SerializeToString()
        stalled = [slow.unary_stream(WATCH)(body, timeout=60) for _ in range(2)]
        await until(lambda: world.api.admission.unread_bytes > 2_000_000)
        request = instances.WatchInstanceRequest(instance_id="large", after_revision=0)
        reader = world.channel.unary_stream(WATCH)(request.SerializeToString(), timeout=60)

        await world.call("CancelInstance", instances.CancelInstanceRequest(instance_id="large"))

        kinds = []
        while (item := await reader.read()) is not grpc.aio.EOF:
            kinds.append(instances.WatchInstanceResponse.FromString(item).WhichOneof("event"))
        assert kinds[-1] == "end"
        assert kinds.count("entry") >= 2
        for watch in stalled:
            watch.cancel()
