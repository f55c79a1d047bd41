"""Hundreds of connections, endless pings, oversized metadata: their cost is bounded, and other clients still work."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import grpc
import grpc.aio
import pytest

from contract.runner_flows import FLOWS
from e2e.faults.process import rss_bytes
from perdure.v1 import runner_service_pb2 as runner
from perdure_server.api.limits import Limits
from support.api_fixture import ApiWorld, CallError, call_error, serving

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS: Final = b"\0\0\0\4\0\0\0\0\0"
PING: Final = b"\0\0\x08\6\0\0\0\0\0" + b"12345678"
GOAWAY: Final = 7

CONNECTIONS: Final = 1_000
PINGS: Final = 10_000
START: Final = "/perdure.v1.RunnerService/StartInstance"
HERE_BYTES_MAX: Final = 96 << 20
"""Maximum memory of a thousand connections, in bytes. It includes both ends, which are in the test's process."""

pytestmark = pytest.mark.e2e


def address_of(world: ApiWorld) -> tuple[str, int]:
    host, _, port = world.address.rpartition(":")
    return host, int(port)


async def connect(world: ApiWorld, first: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*address_of(world))
    writer.write(first)
    return reader, writer


async def serves_newcomers(world: ApiWorld) -> None:
    """Assert that one more client is served."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(world.address, options=options) as channel:
        request = runner.StartInstanceRequest(workflow="approval")
        await channel.unary_unary(START)(request.SerializeToString(), timeout=60, wait_for_ready=True)


@contextlib.asynccontextmanager
async def crowd(world: ApiWorld, count: int, first: bytes) -> AsyncIterator[list[Any]]:
    connections = [await connect(world, first) for _ in range(count)]
    yield connections
    for _, writer in connections:
        await hang_up(writer)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize("first", [b"", PREFACE + SETTINGS, PREFACE[:7]], ids=["mute", "idle", "half a word"])
async def test_a_thousand_connections_that_do_nothing_are_borne(first: bytes) -> None:

    async with serving(FLOWS) as world:
        before = rss_bytes(os.getpid())
        async with crowd(world, CONNECTIONS, first):
            await serves_newcomers(world)
            assert not isinstance(await world.start("approval"), CallError)
            assert rss_bytes(os.getpid()) - before < HERE_BYTES_MAX
        await serves_newcomers(world)


async def test_connections_over_the_limit_are_closed_and_others_still_work() -> None:
    async with serving(FLOWS, limits=Limits(connections_max=10)) as world:
        await world.start("approval")
        async with crowd(world, 9, PREFACE + SETTINGS) as connections:
            for reader, _ in connections:
                assert await reader.read(1)
            one_more, writer = await connect(world, PREFACE + SETTINGS)

            with contextlib.suppress(ConnectionError):
                assert await one_more.read() == b""
            await hang_up(writer)
            assert not isinstance(await world.start("approval"), CallError)
        await serves_newcomers(world)


def frames(data: bytes) -> Iterator[int]:
    """Return the types of the frames."""
    while len(data) >= 9:
        size = int.from_bytes(data[:3])
        yield data[3]
        data = data[9 + size :]


async def pinged_until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
    """Send pings and return what came back until the server closed, or None where a reset took it away.

    A socket that is closed before it was read to its end is reset, and a reset throws away what lay ready to be read.
    """
    try:
        for _ in range(PINGS // 100):
            writer.write(PING * 100)
            await writer.drain()
        async with asyncio.timeout(60):
            return await reader.read()
    except ConnectionError:
        return None


async def test_a_client_that_pings_without_end_is_sent_away() -> None:
    async with serving(FLOWS) as world:
        async with crowd(world, 5, PREFACE + SETTINGS) as connections:
            for reader, writer in connections:
                received = await pinged_until_closed(reader, writer)
                assert received is None or GOAWAY in frames(received)
            assert not isinstance(await world.start("approval"), CallError)
        await serves_newcomers(world)


async def test_streams_that_are_opened_and_reset_at_once_leave_nothing_behind() -> None:
    async with serving(FLOWS) as world:
        call = world.channel.unary_unary(START)
        body = runner.StartInstanceRequest(workflow="approval").SerializeToString()
        for _ in range(10):
            calls = [call(body, timeout=60) for _ in range(200)]
            for one in calls:
                one.cancel()
        assert not isinstance(await world.start("approval"), CallError)
        await asyncio.sleep(0)

        assert (world.api.admission.calls, world.api.admission.calls_bytes) == (0, 0)


@pytest.mark.parametrize("key", ["x-many", "grpc-status-details-bin", "perdure-bin"])
async def test_oversized_metadata_is_rejected_and_the_connection_still_works(key: str) -> None:
    async with serving(FLOWS) as world:
        value: Any = b"x" * 100_000 if key.endswith("-bin") else "x" * 100_000
        body = runner.StartInstanceRequest(workflow="approval").SerializeToString()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.channel.unary_unary(START)(body, metadata=((key, value),), timeout=60)

        assert call_error(caught.value).code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert not isinstance(await world.start("approval"), CallError)


async def test_a_socket_that_sends_garbage_is_closed() -> None:
    async with serving(FLOWS) as world:
        for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + b"\0" * 200, b"\xff" * 10_000):
            reader, writer = await connect(world, noise)
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(60):
                    await reader.read()
            await hang_up(writer)
        await serves_newcomers(world)


def test_connections_leave_the_process_files_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def limited(files: int) -> int:
        monkeypatch.setattr("resource.getrlimit", lambda _: (files, files))
        return Limits().connections()

    assert [limited(files) for files in (-1, 1 << 20, 1_024, 256, 64)] == [8_000, 8_000, 768, 128, 32]
