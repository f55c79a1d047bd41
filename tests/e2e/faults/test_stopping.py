"""SIGTERM under load: acknowledged calls are stored, running steps can end, other steps are released.

A second signal ends the process.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2

from chaos.checks_history import check_histories
from chaos.database import Database, read_database
from chaos.ledger import Recording
from chaos.walk import walks_of
from e2e.faults.process import complaints
from perdure.v1 import common_pb2
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner
from perdure_server.engine.state import InstanceState, Queued
from perdure_server.process.host import EXIT_STOPPED_AT_ONCE
from support.api_fixture import call_error

APP: Final = Path(__file__).with_name("plain_app.py")
START: Final = "/perdure.v1.RunnerService/StartInstance"
WATCH: Final = "/perdure.v1.InstanceService/WatchInstance"
CALLERS: Final = 32
QUICK_MS: Final = 600
GRACE_S: Final = 6
"""Long enough for a step of QUICK_MS and its commit on a busy machine."""

ENDLESS_MS: Final = 600_000

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@dataclass
class Load:
    """Callers that start instances until the server stops accepting them, and the responses."""

    channel: grpc.aio.Channel
    answered: list[str] = field(default_factory=list)
    refusals: set[tuple[str, str]] = field(default_factory=set)
    under_way: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self, workflow: str = "waiting", context: Any = None) -> str:
        request = runner.StartInstanceRequest(
            workflow=workflow, context=common_pb2.Payload(json=json.dumps(context or {}))
        )
        answer = await self.channel.unary_unary(START)(request.SerializeToString(), timeout=60)
        return runner.StartInstanceResponse.FromString(answer).instance_id

    async def run(self) -> None:
        async def caller() -> None:
            while True:
                try:
                    self.answered.append(await self.start())
                except grpc.aio.AioRpcError as error:
                    found = call_error(error)
                    self.refusals.add(found.what)
                    assert found.reason != "SHUTTING_DOWN" or found.retry_after_ms
                    return
                if len(self.answered) > 10 * CALLERS:
                    self.under_way.set()

        await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def statuses_of(health: Any) -> list[Any]:
    return [health_pb2.HealthCheckResponse.FromString(body).status async for body in health]


def judged(database: Path, load: Load) -> Database:
    """Read what a server left, and assert that it is sound and holds what was answered."""
    stored = read_database(database)
    recording = Recording(sends=(), watches=(), steps=(), database=stored, quiet=True, ended_ms=0)
    assert list(check_histories(recording, walks_of(recording))) == []
    assert set(load.answered) <= stored.instances.keys()
    return stored


async def test_a_server_that_is_stopped_under_load_drains(server_process: Any, tmp_path: Path) -> None:
    database = tmp_path / "stop.db"
    server = server_process(APP, database=database, arguments=["--shutdown-timeout", f"{GRACE_S}s"])
    async with grpc.aio.insecure_channel(server.address) as channel:
        load = Load(channel)
        quick = [await load.start("slow", {"ms": QUICK_MS}) for _ in range(5)]
        endless = await load.start("slow", {"ms": ENDLESS_MS})
        waiting = await load.start()
        request = instances.WatchInstanceRequest(instance_id=waiting)
        watch = channel.unary_stream(WATCH)(request.SerializeToString(), timeout=60)
        health = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=60)
        told_ready = asyncio.create_task(statuses_of(health))
        calling = asyncio.create_task(load.run())
        await load.under_way.wait()

        began = time.monotonic()
        server.signal(signal.SIGTERM)

        await calling
        told = [instances.WatchInstanceResponse.FromString(body) async for body in watch]
        statuses = await told_ready
        assert await asyncio.to_thread(server.wait) == 0
        seconds = time.monotonic() - began
    assert load.refusals <= {("UNAVAILABLE", "SHUTTING_DOWN"), ("UNAVAILABLE", "")}
    assert ("UNAVAILABLE", "SHUTTING_DOWN") in load.refusals
    assert told[-1].end.reason == instances.WATCH_END_REASON_SERVER_DRAINING
    assert statuses == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]
    assert seconds >= GRACE_S, "it waits for the endless step during the whole shutdown timeout"
    assert complaints(server.log) == []
    stored = judged(database, load)
    for instance_id in quick:
        assert stored.instances[instance_id].state.status is InstanceState.COMPLETED
    assert isinstance(stored.instances[endless].state.steps["work"], Queued), "any server can continue it"
    assert stored.tasks[endless]["work"].owner == ""


async def test_a_second_signal_ends_it_at_once_and_loses_nothing(server_process: Any, tmp_path: Path) -> None:
    database = tmp_path / "stop.db"
    server = server_process(APP, database=database, arguments=["--shutdown-timeout", "60s"])
    async with grpc.aio.insecure_channel(server.address) as channel:
        load = Load(channel)
        endless = await load.start("slow", {"ms": ENDLESS_MS})
        calling = asyncio.create_task(load.run())
        await load.under_way.wait()
        server.signal(signal.SIGTERM)
        await calling
        assert server.running, "it waits for the step"

        server.signal(signal.SIGTERM)

        assert await asyncio.to_thread(server.wait) == EXIT_STOPPED_AT_ONCE
    assert endless in judged(database, load).instances


async def test_two_signals_in_one_breath_end_it(server_process: Any, tmp_path: Path) -> None:
    database = tmp_path / "stop.db"
    server = server_process(APP, database=database, arguments=["--shutdown-timeout", "60s"])
    async with grpc.aio.insecure_channel(server.address) as channel:
        load = Load(channel)
        await load.start("slow", {"ms": ENDLESS_MS})
        calling = asyncio.create_task(load.run())
        await load.under_way.wait()

        server.signal(signal.SIGTERM)
        server.signal(signal.SIGINT)

        assert await asyncio.to_thread(server.wait) == EXIT_STOPPED_AT_ONCE
        await calling
    judged(database, load)


async def test_clients_that_stall_do_not_hold_up_a_stop_beyond_its_grace(
    server_process: Any, tmp_path: Path
) -> None:
    server = server_process(APP, arguments=["--shutdown-timeout", "500ms"])

    async def never() -> Any:
        await asyncio.Event().wait()
        yield b""

    slow = [("grpc.http2.lookahead_bytes", 65_536), ("grpc.http2.bdp_probe", 0)]
    async with grpc.aio.insecure_channel(server.address, options=slow) as channel:
        load = Load(channel)
        large = await load.start("waiting", {"text": "x" * 1_000_000})
        silent = [channel.stream_unary(START)(never()) for _ in range(20)]
        request = instances.WatchInstanceRequest(instance_id=large).SerializeToString()
        unread = [channel.unary_stream(WATCH)(request, timeout=600) for _ in range(20)]
        # Over another connection: this one has used up its share.
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(server.address, options=options) as other:
            await Load(other).start()

        assert await asyncio.to_thread(server.terminate) == 0
        assert grpc.StatusCode.DEADLINE_EXCEEDED not in {await call.code() for call in unread}
        for call in (*silent, *unread):
            call.cancel()
    assert complaints(server.log) == []
