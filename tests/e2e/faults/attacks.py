"""Hostile clients as context managers. The attack runs while the block runs.

The benchmarks use them too (`benchmarks/neighbours.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final

import grpc.aio

from e2e.faults import http2
from perdure.v1 import common_pb2
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner

START: Final = "/perdure.v1.RunnerService/StartInstance"
GET: Final = "/perdure.v1.InstanceService/GetInstance"
WATCH: Final = "/perdure.v1.InstanceService/WatchInstance"

LARGE_BYTES: Final = 1_000_000
LARGE_CALLERS: Final = 300
LARGE_CONNECTIONS: Final = 10
UNREAD_CALLS: Final = 400
IDLE_CONNECTIONS: Final = 768

OWN_CONNECTION: Final = [("grpc.use_local_subchannel_pool", 1)]

Attack = Callable[[str], contextlib.AbstractAsyncContextManager[None]]


def start_body(context: Any = None, instance_id: str = "") -> bytes:
    """Return a StartInstance request of the app `plain_app`."""
    return runner.StartInstanceRequest(
        workflow="waiting",
        context=common_pb2.Payload(json=json.dumps(context or {})),
        opts=runner.StartOptions(instance_id=instance_id),
    ).SerializeToString()


async def start_large(address: str) -> bytes:
    """Start an instance with a large input, once. Return the request that reads it."""
    async with grpc.aio.insecure_channel(address, options=OWN_CONNECTION) as channel:
        body = start_body({"a": "x" * LARGE_BYTES}, "large")
        await channel.unary_unary(START)(body, timeout=60)
    return instances.GetInstanceRequest(instance_id="large").SerializeToString()


@contextlib.asynccontextmanager
async def unread_responses(address: str, path: str = GET) -> AsyncIterator[None]:
    """One connection that asks for large responses and lets none of them be sent."""
    body = await start_large(address)
    async with http2.connected(address, http2.settings(INITIAL_WINDOW_SIZE=0)) as connection:
        for stream in http2.streams(UNREAD_CALLS):
            await connection.send(http2.call(stream, path, body))
        yield
        assert not connection.ended.is_set(), "the attack ended early"


@contextlib.asynccontextmanager
async def rapid_reset(address: str) -> AsyncIterator[None]:
    """One connection that resets each call right after opening it. If it is closed, the next one follows."""
    body = start_body()

    async def attack() -> None:
        while True:
            with contextlib.suppress(ConnectionError):
                async with http2.connected(address) as connection:
                    for stream in http2.streams(1 << 29):
                        await connection.send(http2.call(stream, START, body) + http2.reset(stream))
                        if stream % 200 == 1:
                            await asyncio.sleep(0)

    async with _running(attack()):
        yield


@contextlib.asynccontextmanager
async def large_contexts(address: str) -> AsyncIterator[None]:
    """Callers that start instances with large contexts, each right after the other."""
    body = start_body({"a": "x" * LARGE_BYTES})

    async def caller(channel: grpc.aio.Channel) -> None:
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await channel.unary_unary(START)(body, timeout=30)

    async def attack() -> None:
        async with contextlib.AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(grpc.aio.insecure_channel(address, options=OWN_CONNECTION))
                for _ in range(LARGE_CONNECTIONS)
            ]
            callers = LARGE_CALLERS // LARGE_CONNECTIONS
            await asyncio.gather(*(caller(channel) for channel in channels for _ in range(callers)))

    async with _running(attack()):
        yield


@contextlib.asynccontextmanager
async def idle_connections(address: str, count: int = IDLE_CONNECTIONS) -> AsyncIterator[None]:
    """Connections that never make a call."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(count):
            await stack.enter_async_context(http2.connected(address))
        yield


@contextlib.asynccontextmanager
async def _running(attack: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(attack)
    try:
        yield
        assert not task.done(), "the attack ended early"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
