"""One hostile connection, and a well-behaved client in a process of its own that is served and never rejected."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import grpc.aio
import pytest

from e2e.faults import http2
from e2e.faults.process import complaints, rss_bytes
from e2e.faults.steady import SteadyClient, steady_client
from perdure.v1 import common_pb2
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner

APP: Final = Path(__file__).with_name("plain_app.py")
START: Final = "/perdure.v1.RunnerService/StartInstance"
GET: Final = "/perdure.v1.InstanceService/GetInstance"
WATCH: Final = "/perdure.v1.InstanceService/WatchInstance"
HISTORY: Final = "/perdure.v1.InstanceService/ListHistory"
HEALTH_WATCH: Final = "/grpc.health.v1.Health/Watch"

ROUNDS: Final = 20
"""Rounds of the well-behaved client under attack, of four calls each."""

pytestmark = pytest.mark.e2e


def start_body(context: Any = None, instance_id: str = "") -> bytes:
    return runner.StartInstanceRequest(
        workflow="waiting",
        context=common_pb2.Payload(json=json.dumps(context or {})),
        opts=runner.StartOptions(instance_id=instance_id),
    ).SerializeToString()


async def start_large(address: str, size_bytes: int = 1_000_000) -> bytes:
    """Start an instance with a large input and return the body of a request that reads it."""
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.unary_unary(START)(start_body({"a": "x" * size_bytes}, "large"), timeout=20)
    return instances.GetInstanceRequest(instance_id="large").SerializeToString()


@contextlib.asynccontextmanager
async def running(attack: Any) -> AsyncIterator[asyncio.Task[Any]]:
    """Run an attack beside the block. The block fails if the attack ends before it does."""
    task = asyncio.create_task(attack)
    try:
        yield task
        assert not task.done(), "the attack ended early"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def is_served(client: SteadyClient) -> None:
    client.forget()
    await client.rounds(ROUNDS)
    assert client.errors == []
    print({name: f"{max(found) * 1e3:.0f} ms" for name, found in client.seconds.items()})


@pytest.mark.parametrize("path", [GET, WATCH])
async def test_a_connection_that_reads_nothing_leaves_the_rest_served(path: str, server_process: Any) -> None:
    server = server_process(APP)
    body = await start_large(server.address)
    async with (
        steady_client(server.address) as client,
        http2.connected(server.address, http2.settings(INITIAL_WINDOW_SIZE=0)) as hostile,
    ):
        for stream in http2.streams(400):
            await hostile.send(http2.call(stream, path, body))
        async with grpc.aio.insecure_channel(server.address) as channel:
            await is_served(client)
            # Others read what is large, too.
            assert len(await channel.unary_unary(GET)(body, timeout=20)) > 1_000_000
        assert not hostile.ended.is_set()
    assert complaints(server.log) == []


async def rapid_reset(address: str) -> None:
    """Open calls and reset each at once, for ever. A connection that the server closes is followed by another."""
    body = start_body()
    while True:
        with contextlib.suppress(ConnectionError):
            async with http2.connected(address) as connection:
                for stream in http2.streams(1 << 29):
                    await connection.send(http2.call(stream, START, body) + http2.reset(stream))
                    if stream % 200 == 1:
                        await asyncio.sleep(0)


async def test_a_connection_that_resets_its_calls_leaves_the_rest_served(server_process: Any) -> None:
    server = server_process(APP)
    async with steady_client(server.address) as client, running(rapid_reset(server.address)):
        await is_served(client)
    assert complaints(server.log) == []


async def test_callers_with_large_contexts_leave_the_rest_served(server_process: Any) -> None:
    server = server_process(APP)
    body = start_body({"a": "x" * 1_000_000})

    async def caller(channel: grpc.aio.Channel) -> None:
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await channel.unary_unary(START)(body, timeout=30)

    async def attack() -> None:
        async with contextlib.AsyncExitStack() as stack:
            options = [("grpc.use_local_subchannel_pool", 1)]
            channels = [
                await stack.enter_async_context(grpc.aio.insecure_channel(server.address, options=options))
                for _ in range(10)
            ]
            await asyncio.gather(*(caller(channel) for channel in channels for _ in range(30)))

    before = rss_bytes(server.pid)
    largest = before
    async with steady_client(server.address) as client, running(attack()):
        client.forget()
        for _ in range(ROUNDS):
            await client.rounds(1)
            largest = max(largest, rss_bytes(server.pid))
        assert client.errors == []
        print({name: f"{max(found) * 1e3:.0f} ms" for name, found in client.seconds.items()})
    print(f"{before >> 20} -> {largest >> 20} MiB")
    assert complaints(server.log) == []
