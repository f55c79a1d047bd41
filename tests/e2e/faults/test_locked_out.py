"""Connections that exhaust a server's resources (files, connection slots, probes) do not lock out other clients."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2

from contract.runner_flows import FLOWS
from e2e.faults import http2
from e2e.faults.process import complaints
from e2e.faults.steady import steady_client
from perdure.v1 import instance_service_pb2 as instances
from perdure_server.api.limits import Limits
from perdure_server.security.addresses import Address
from perdure_server.security.unix_socket import UnixAddress
from support.api_fixture import ApiWorld, CallError, serving

APP: Final = Path(__file__).with_name("plain_app.py")
CHECK: Final = "/grpc.health.v1.Health/Check"
HEALTH_WATCH: Final = "/grpc.health.v1.Health/Watch"
WATCH: Final = "/perdure.v1.InstanceService/WatchInstance"
START: Final = "/perdure.v1.RunnerService/StartInstance"

FILES_SOFT: Final = 1_024
"""The limit of open files that many systems start processes with."""

pytestmark = pytest.mark.e2e


@contextlib.contextmanager
def started_with(files: int) -> Iterator[int]:
    """Lower the soft limit of open files for processes that start in the block. Yields the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    try:
        yield hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.asynccontextmanager
async def idle(address: str, count: int) -> AsyncIterator[list[http2.Connection]]:
    """Open connections that never make a call."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(http2.connected(address)) for _ in range(count)]


async def check(address: str) -> Any:
    """Ask for the server's health over a connection of its own."""
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        answer = await channel.unary_unary(CHECK)(b"", timeout=20, wait_for_ready=True)
        return health_pb2.HealthCheckResponse.FromString(answer).status


def files_soft(pid: int) -> int:
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith("Max open files"):
            return int(line.split()[3])
    raise AssertionError("the kernel names no limit of open files")


async def test_idle_connections_over_the_usual_limit_lock_no_client_out(server_process: Any) -> None:
    with started_with(FILES_SOFT) as hard:
        server = server_process(APP)
    if hard <= 2 * FILES_SOFT:
        pytest.skip("this machine allows no more open files")
    assert files_soft(server.pid) > FILES_SOFT
    async with idle(server.address, FILES_SOFT), steady_client(server.address) as client:
        await client.rounds(3)
        assert client.errors == []
    assert complaints(server.log) == []


@pytest.mark.parametrize("over", ["tcp", "unix"])
async def test_probes_are_answered_while_the_main_port_is_full(over: str, tmp_path: Path) -> None:
    listen = Address("127.0.0.1", 0) if over == "tcp" else UnixAddress(str(tmp_path / "health.sock"))
    async with serving(FLOWS, limits=Limits(connections_max=10), health_listen=listen) as world:
        await world.start("approval")
        async with idle(world.address, 9):
            async with http2.connected(world.address) as one_more:
                await asyncio.wait_for(one_more.ended.wait(), 20)

            assert await check(str(world.api.health_address)) == health_pb2.HealthCheckResponse.SERVING


async def test_the_health_listener_serves_nothing_else() -> None:
    async with (
        serving(FLOWS, health_listen=Address("127.0.0.1", 0)) as world,
        grpc.aio.insecure_channel(str(world.api.health_address)) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(START)(b"", timeout=20)

        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_probes_over_the_health_listener_see_readiness_change() -> None:
    async with (
        serving(FLOWS, health_listen=Address("127.0.0.1", 0)) as world,
        grpc.aio.insecure_channel(str(world.api.health_address)) as channel,
    ):
        watch = channel.unary_stream(HEALTH_WATCH)(b"", timeout=20)
        seen = [health_pb2.HealthCheckResponse.FromString(await watch.read()).status]
        await world.api.set_ready(ready=False)
        seen.append(health_pb2.HealthCheckResponse.FromString(await watch.read()).status)

        assert seen == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]
        watch.cancel()


async def test_a_connection_without_calls_is_closed_and_one_with_a_watch_is_not() -> None:
    async with serving(FLOWS, limits=Limits(connection_idle_ms_max=200)) as world:
        await world.start("approval", "here")
        request = instances.WatchInstanceRequest(instance_id="here").SerializeToString()
        async with (
            http2.connected(world.address) as watching,
            http2.connected(world.address) as silent,
        ):
            await watching.send(http2.call(1, WATCH, request))
            await asyncio.wait_for(silent.ended.wait(), 20)

            assert http2.GOAWAY in silent.received
            assert not watching.ended.is_set()
            assert http2.DATA in watching.received
        # A client whose connection was closed meanwhile does not notice.
        assert not isinstance(await world.start("approval"), CallError)


async def open_calls(connection: http2.Connection, path: str, body: bytes, count: int) -> None:
    for stream in http2.streams(count):
        await connection.send(http2.call(stream, path, body))


async def test_watches_of_one_connection_leave_room_for_those_of_others() -> None:
    async with serving(FLOWS, limits=Limits(watches_max=60, health_watches_max=60)) as world:
        await world.start("approval", "here")
        request = instances.WatchInstanceRequest(instance_id="here").SerializeToString()
        async with (
            http2.connected(world.address) as greedy,
            http2.connected(world.address) as greedy_health,
        ):
            await open_calls(greedy, WATCH, request, 100)
            await open_calls(greedy_health, HEALTH_WATCH, b"", 100)
            await until_settled(world)

            assert world.api.admission.watches == world.api.admission.health_watches == 20
            for path, body in ((WATCH, request), (HEALTH_WATCH, b"")):
                watch = world.channel.unary_stream(path)(body, timeout=20)
                assert await watch.read() is not grpc.aio.EOF
                watch.cancel()


async def until_settled(world: ApiWorld) -> None:
    """Return once the server has seen every call that was sent before this one."""
    async with asyncio.timeout(20):
        admission = world.api.admission
        # The awaited change happens inside grpc, which sends no signal.
        while admission.watches + admission.health_watches < 40 or admission.reads:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("kind", ["silent", "trickle"])
async def test_messages_that_never_end_leave_the_rest_served(kind: str, server_process: Any) -> None:
    server = server_process(APP)
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(steady_client(server.address))
        slow = [await stack.enter_async_context(http2.connected(server.address)) for _ in range(4)]
        # A megabyte is announced, and a hundred bytes follow.
        beginning = b"\0" + (1_000_000).to_bytes(4) + b"\n" * 100
        for connection in slow:
            for stream in http2.streams(128):
                await connection.send(http2.headers(stream, START))
                if kind == "trickle":
                    await connection.send(http2.frame(http2.DATA, 0, stream, beginning))
        client.forget()
        await client.rounds(10)
        assert client.errors == []
    assert complaints(server.log) == []


@pytest.mark.parametrize(
    "flood",
    [
        http2.settings(INITIAL_WINDOW_SIZE=1) * 50,
        http2.frame(http2.HEADERS, 0, 1, b"\0\1a\1b") + http2.frame(9, 0, 1, b"\0\1a\1b") * 50,
        http2.window_update(0, 1) * 50,
        http2.headers(1, "/" + "x" * 60_000)[: http2.FRAME_BYTES_MAX],
    ],
    ids=["settings", "continuation", "window updates", "headers"],
)
async def test_floods_of_frames_leave_the_rest_served(flood: bytes, server_process: Any) -> None:
    server = server_process(APP)
    stop = asyncio.Event()

    async def attack() -> None:
        while not stop.is_set():
            with contextlib.suppress(ConnectionError):
                async with http2.connected(server.address) as connection:
                    while not stop.is_set():
                        await connection.send(flood)
                        await asyncio.sleep(0)

    async with steady_client(server.address) as client:
        task = asyncio.create_task(attack())
        client.forget()
        await client.rounds(10)
        stop.set()
        await task
        assert client.errors == []
    assert complaints(server.log) == []
