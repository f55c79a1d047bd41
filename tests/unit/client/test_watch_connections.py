"""Watches on separate connections: 1,000 of them never delay the unary calls of the same client.

The servers here accept 128 streams per connection, so a client that puts its watches and calls on one connection hangs.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, ExitStack, aclosing, closing
from pathlib import Path
from typing import Any, Final

import pytest

from conformance.tcp_proxy import CuttableProxy
from perdure import AsyncClient, Client, Workflow, wait_for
from perdure.client import CallRetryPolicy, HistoryEntry, Snapshot, WatchEnd
from perdure.client._watch_connections import (
    IDLE_CONNECTIONS_MAX,
    WATCHES_PER_CONNECTION,
    WatchConnection,
    WatchConnections,
)
from perdure_server.api.limits import Limits
from support.api_fixture import ApiWorld, serving

STREAMS_MAX: Final = 128
WATCHES: Final = 1_000
QUICK: Final = CallRetryPolicy(initial_backoff=0.01, max_backoff=0.1)
CALL_SECONDS_MAX: Final = 60.0
"""A call that takes longer hangs. Nothing here depends on how fast a call is."""

pytestmark = pytest.mark.timeout(180)


class NarrowLimits(Limits):
    """The limits of a server that accepts few streams per connection."""

    def channel_options(self) -> list[tuple[str, Any]]:
        return [*super().channel_options(), ("grpc.max_concurrent_streams", STREAMS_MAX)]


class Approval(Workflow, name="approval", version=1):
    """One wait."""

    start = "decide"
    decide = wait_for("approved", on={"approved": "end"})


@pytest.fixture
async def world() -> AsyncIterator[ApiWorld]:
    async with serving([Approval], limits=NarrowLimits()) as served:
        yield served


async def first(events: AsyncGenerator[Any, None]) -> Any:
    return await anext(events)


async def test_1000_watches_do_not_block_unary_calls(world: ApiWorld) -> None:
    async with AsyncClient(world.address, timeout=CALL_SECONDS_MAX) as client, AsyncExitStack() as stack:
        started = await client.start_instance("approval")
        watches = [
            await stack.enter_async_context(aclosing(client.watch_instance(started.instance_id)))
            for _ in range(WATCHES)
        ]
        snapshots = await asyncio.gather(*(first(events) for events in watches))
        per_connection = client._transport.watch_connections.watches

        for _ in range(20):
            await client.get_instance(started.instance_id)
        await client.resume(started.instance_id, "approved")
        ends = await asyncio.gather(*(last(events) for events in watches))

    assert all(isinstance(snapshot, Snapshot) for snapshot in snapshots)
    assert per_connection == [WATCHES_PER_CONNECTION] * (WATCHES // WATCHES_PER_CONNECTION)
    assert all(isinstance(end, WatchEnd) for end in ends)


async def last(events: AsyncGenerator[Any, None]) -> Any:
    return [event async for event in events][-1]


async def test_1000_blocking_watches_do_not_block_unary_calls(world: ApiWorld) -> None:
    def run() -> tuple[list[Any], list[int], list[Any]]:
        with Client(world.address, timeout=CALL_SECONDS_MAX) as client, ExitStack() as stack:
            started = client.start_instance("approval")
            watches = [
                stack.enter_context(closing(client.watch_instance(started.instance_id)))
                for _ in range(WATCHES)
            ]
            snapshots = [next(events) for events in watches]
            per_connection = client._transport.watch_connections.watches
            for _ in range(20):
                client.get_instance(started.instance_id)
            client.resume(started.instance_id, "approved")
            return snapshots, per_connection, [list(events)[-1] for events in watches]

    snapshots, per_connection, ends = await asyncio.to_thread(run)

    assert all(isinstance(snapshot, Snapshot) for snapshot in snapshots)
    assert per_connection == [WATCHES_PER_CONNECTION] * (WATCHES // WATCHES_PER_CONNECTION)
    assert all(isinstance(end, WatchEnd) for end in ends)


async def test_all_but_one_unused_connections_are_closed(world: ApiWorld) -> None:
    async with AsyncClient(world.address) as client:
        started = await client.start_instance("approval")
        async with AsyncExitStack() as stack:
            watches = [
                await stack.enter_async_context(aclosing(client.watch_instance(started.instance_id)))
                for _ in range(3 * WATCHES_PER_CONNECTION)
            ]
            await asyncio.gather(*(first(events) for events in watches))
            full = client._transport.watch_connections.watches
        unused = client._transport.watch_connections.watches
    closed = client._transport.watch_connections.watches

    assert full == [WATCHES_PER_CONNECTION] * 3
    assert unused == [0] * IDLE_CONNECTIONS_MAX
    assert closed == []


async def test_a_lost_watch_connection_loses_no_event(world: ApiWorld) -> None:
    with CuttableProxy() as proxy:
        proxy.upstream = world.address
        async with AsyncClient(proxy.address, retries=QUICK) as client, AsyncExitStack() as stack:
            started = await client.start_instance("approval")
            watches = [
                await stack.enter_async_context(
                    aclosing(client.watch_instance(started.instance_id, after_revision=0))
                )
                for _ in range(WATCHES_PER_CONNECTION + 1)
            ]
            await asyncio.gather(*(first(events) for events in watches))
            await asyncio.to_thread(proxy.cut)
            await client.resume(started.instance_id, "approved")
            rest = await asyncio.gather(*(rest_of(events) for events in watches))
            per_connection = client._transport.watch_connections.watches

    assert rest == [[2, 3, 4]] * len(watches)
    assert sum(per_connection) == 0


async def rest_of(events: AsyncGenerator[Any, None]) -> list[int]:
    return [event.revision async for event in events if isinstance(event, HistoryEntry)]


async def test_watches_move_to_the_next_server_after_a_drain(tmp_path: Path) -> None:
    from perdure_server.app import Server
    from perdure_server.config import Config

    def server(listen: str) -> Server:
        database = f"sqlite:///{tmp_path / 'perdure.db'}"
        return Server(
            Config(workflows=(Approval,), database=database, listen=listen, shutdown_timeout_seconds=1.0)
        )

    one = server("127.0.0.1:0")
    address = str(await one.start())
    async with AsyncClient(address, retries=QUICK) as client, AsyncExitStack() as stack:
        started = await client.start_instance("approval")
        watches = [
            await stack.enter_async_context(
                aclosing(client.watch_instance(started.instance_id, after_revision=0))
            )
            for _ in range(WATCHES_PER_CONNECTION + 1)
        ]
        await asyncio.gather(*(first(events) for events in watches))
        await one.stop()
        two = server(address)
        await two.start()
        await client.resume(started.instance_id, "approved")
        rest = await asyncio.gather(*(rest_of(events) for events in watches))
    await two.stop()

    assert rest == [[2, 3, 4]] * len(watches)


async def test_closing_the_client_ends_its_watches(world: ApiWorld) -> None:
    client = AsyncClient(world.address)
    started = await client.start_instance("approval")
    events = client.watch_instance(started.instance_id)
    await anext(events)
    waiting = asyncio.create_task(first(events))

    await client.close()
    with pytest.raises((RuntimeError, asyncio.CancelledError)):
        await waiting

    assert client._transport.watch_connections.watches == []


FORKING_CLIENT: Final = """
import os
import sys
from contextlib import closing

from perdure import Client
from perdure.client import WatchEnd


def child_exit_code(client, events, instance_id):
    try:
        client.get_instance(instance_id, timeout=30)
        with closing(client.watch_instance(instance_id, timeout=30)) as own:
            next(own)
        events.close()
        client.close()
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        return 1
    return 0


with Client(sys.argv[1]) as client:
    instance_id = client.start_instance("approval").instance_id
    events = client.watch_instance(instance_id)
    next(events)
    child = os.fork()
    if child == 0:
        os._exit(child_exit_code(client, events, instance_id))
    _, status = os.waitpid(child, 0)
    client.resume(instance_id, "approved")
    rest = list(events)
    sys.exit(os.waitstatus_to_exitcode(status) or not isinstance(rest[-1], WatchEnd))
"""
"""A program that shares its client with a forked child. It has a process of its own, because gRPC does not
support a fork of a process that also has a grpc.aio server, as this one does."""


async def test_a_forked_child_does_not_use_the_connections_of_its_parent(world: ApiWorld) -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FORKING_CLIENT, world.address, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await program.communicate()

    assert program.returncode == 0, errors.decode()


def test_a_watch_uses_the_first_connection_with_room() -> None:
    channels = iter(range(100))
    pool = WatchConnections(lambda: next(channels))
    seats: list[WatchConnection[int]] = [pool.acquire() for _ in range(2 * WATCHES_PER_CONNECTION)]

    assert pool.release(seats[0]) is None
    assert pool.acquire().channel == 0
    assert pool.acquire().channel == 2
    assert pool.watches == [WATCHES_PER_CONNECTION, WATCHES_PER_CONNECTION, 1]


def test_a_release_after_close_closes_nothing_twice() -> None:
    pool = WatchConnections(object)
    seat = pool.acquire()

    assert len(pool.clear()) == 1
    assert pool.release(seat) is None
    assert pool.clear() == []


def test_a_failed_connection_is_not_kept() -> None:
    def fail() -> object:
        raise OSError("no such file")

    pool = WatchConnections(fail)

    with pytest.raises(OSError, match="no such file"):
        pool.acquire()
    assert pool.watches == []
