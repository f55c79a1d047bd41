"""The gRPC server around the services: health, deadlines, watchers, drain, ports, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from contract.runner_flows import FLOWS
from perdure.client import _channel as sdk_channel
from perdure.v1 import common_pb2
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner
from perdure_server.api.admission import Peer
from perdure_server.api.deadlines import Deadlines
from perdure_server.api.health import LIVENESS
from perdure_server.api.limits import Limits
from perdure_server.api.server import ApiServer
from perdure_server.security.addresses import Address, CannotListenError
from perdure_server.store.sqlite import SqliteStore
from support.api_fixture import ApiWorld, Refused, serving

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
WATCH = "/perdure.v1.InstanceService/WatchInstance"


@pytest.fixture
async def world() -> AsyncIterator[ApiWorld]:
    async with serving(FLOWS) as made:
        yield made


async def health(world: ApiWorld, body: bytes) -> Any:
    check = world.channel.unary_unary("/grpc.health.v1.Health/Check")
    return health_pb2.HealthCheckResponse.FromString(await check(body, timeout=60)).status


def asks(service: str) -> bytes:
    return health_pb2.HealthCheckRequest(service=service).SerializeToString()


# --- health ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["", "perdure.v1.RunnerService", "perdure.v1.InstanceService"])
async def test_readiness_is_told_for_the_whole_and_for_each_service(world: ApiWorld, service: str) -> None:
    assert await health(world, asks(service)) == SERVING

    await world.api.set_ready(ready=False)

    assert await health(world, asks(service)) == NOT_SERVING


async def test_a_server_that_is_not_ready_still_lives(world: ApiWorld) -> None:
    await world.api.set_ready(ready=False)

    assert await health(world, asks(LIVENESS)) == SERVING


@pytest.mark.parametrize(
    ("body", "code"), [(asks("nobody"), "NOT_FOUND"), (b"\x0a\x02\xc3\x28", "INVALID_ARGUMENT")]
)
async def test_a_health_check_that_makes_no_sense_is_refused(world: ApiWorld, body: bytes, code: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health(world, body)

    assert caught.value.code().name == code


async def test_a_health_watch_tells_each_change_and_ends_with_the_server(world: ApiWorld) -> None:
    stream = world.channel.unary_stream("/grpc.health.v1.Health/Watch")(asks(""), timeout=60)

    async def next_status() -> Any:
        return health_pb2.HealthCheckResponse.FromString(await stream.read()).status

    assert await next_status() == SERVING
    await world.api.drain()
    assert await next_status() == NOT_SERVING
    await world.api.set_ready(ready=True)  # the health task may say so once more
    await world.api.stop(10)
    assert await stream.read() is grpc.aio.EOF


async def test_more_health_watches_than_the_limit_are_refused() -> None:
    async with serving(limits=Limits(health_watches_max=1)) as world:
        watch = world.channel.unary_stream("/grpc.health.v1.Health/Watch")
        first = watch(asks("nobody"), timeout=60)
        assert health_pb2.HealthCheckResponse.FromString(await first.read()).status == UNKNOWN

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch(asks(""), timeout=60).read()

        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        first.cancel()


# --- deadlines ---------------------------------------------------------------------------------------------------


class StuckStore(SqliteStore):
    """A store whose reads of instances wait until a test lets them go."""

    def __init__(self) -> None:
        super().__init__(None)
        self.reached = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def get_instance(self, instance_id: str) -> Any:
        self.reached.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return await super().get_instance(instance_id)


async def test_a_call_without_a_deadline_gets_one() -> None:
    async with serving(FLOWS, store=StuckStore(), limits=Limits(call_seconds=0.05)) as world:
        answer = await world.call(
            "GetInstance", instances.GetInstanceRequest(instance_id="here"), timeout=None
        )

        assert isinstance(answer, Refused)
        assert answer.code is grpc.StatusCode.DEADLINE_EXCEEDED
        await all_left(world)


async def test_a_call_with_a_longer_deadline_keeps_it() -> None:
    store = StuckStore()
    async with serving(FLOWS, store=store, limits=Limits(call_seconds=0.05)) as world:
        call = asyncio.ensure_future(
            world.call("GetInstance", instances.GetInstanceRequest(instance_id="here"), timeout=60)
        )
        await store.reached.wait()
        overdue = asyncio.ensure_future(
            world.call("GetInstance", instances.GetInstanceRequest(instance_id="here"), timeout=None)
        )
        # The one without a deadline is ended by the same sweep that leaves the other alone.
        assert (await overdue).code is grpc.StatusCode.DEADLINE_EXCEEDED
        store.go.set()

        assert (await call).reason == "INSTANCE_NOT_FOUND"


async def test_a_caller_that_leaves_frees_its_place() -> None:
    store = StuckStore()
    async with serving(FLOWS, store=store) as world:
        call = world.channel.unary_unary("/perdure.v1.InstanceService/GetInstance")(
            instances.GetInstanceRequest(instance_id="here").SerializeToString()
        )
        await store.reached.wait()
        assert world.api.admission.calls == 1
        call.cancel()
        await store.cancelled.wait()
        await asyncio.sleep(0)

        assert world.api.admission.calls == 0
        assert world.api.admission.calls_bytes == 0


async def test_a_cancel_from_elsewhere_is_no_deadline() -> None:
    deadlines = Deadlines(0.0, sweep_seconds=0.001)
    answers: list[bool] = []

    async def call() -> None:
        entered = deadlines.enter()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            answers.append(deadlines.is_overdue())
        finally:
            deadlines.leave(entered)

    swept = asyncio.create_task(call())
    await swept
    deadlines.seconds = 1_000
    cancelled = asyncio.create_task(call())
    await asyncio.sleep(0)
    cancelled.cancel()
    await cancelled

    assert answers == [True, False]


# --- watches -----------------------------------------------------------------------------------------------------


async def all_left(world: ApiWorld) -> None:
    """Return when no call is under way: a client may hear of its end before the handler has left."""
    admission = world.api.admission
    async with asyncio.timeout(60):
        while admission.calls or admission.watches or admission.unread_bytes:  # noqa: ASYNC110 - the admission tells nobody
            await asyncio.sleep(0)


def watch_left(world: ApiWorld) -> asyncio.Event:
    """Return the signal that a watch was let out by the server."""
    left, leave = asyncio.Event(), world.api.admission.leave_watch

    def leave_and_tell(peer: Peer) -> None:
        leave(peer)
        left.set()

    world.api.admission.leave_watch = leave_and_tell  # type: ignore[method-assign]
    return left


def watches(instance_id: str, after_revision: int | None = None) -> bytes:
    request = instances.WatchInstanceRequest(instance_id=instance_id, after_revision=after_revision)
    return request.SerializeToString()


async def test_a_watch_gives_a_snapshot_each_entry_and_the_end(world: ApiWorld) -> None:
    await world.start("approval", "here")
    stream = world.channel.unary_stream(WATCH)(watches("here"), timeout=60)
    snapshot = instances.WatchInstanceResponse.FromString(await stream.read()).snapshot
    await world.call("Resume", runner.ResumeRequest(instance_id="here", event="approved"))

    rest = []
    while (item := await stream.read()) is not grpc.aio.EOF:
        rest.append(instances.WatchInstanceResponse.FromString(item))

    assert [item.entry.revision for item in rest[:-1]] == list(
        range(snapshot.revision + 1, snapshot.revision + len(rest))
    )
    assert rest[-1].end.reason == instances.WATCH_END_REASON_INSTANCE_ENDED
    assert rest[-1].end.revision == rest[-2].entry.revision
    await all_left(world)


async def test_a_watch_after_revision_zero_gives_the_whole_history_and_no_snapshot(world: ApiWorld) -> None:
    await world.start("approval", "here")
    await world.call("Resume", runner.ResumeRequest(instance_id="here", event="approved"))

    told = await world.call("WatchInstance", watches("here", 0))
    listed = await world.call("ListHistory", instances.ListHistoryRequest(instance_id="here"))

    assert [item.entry for item in told[:-1]] == list(listed.entries)
    assert told[-1].HasField("end")


async def test_a_watcher_that_leaves_is_forgotten_at_once(world: ApiWorld) -> None:
    left = watch_left(world)
    await world.start("approval", "here")
    stream = world.channel.unary_stream(WATCH)(watches("here"))
    await stream.read()
    assert (world.api.admission.watches, world.core.watch.watchers) == (1, 1)

    stream.cancel()
    await left.wait()

    assert world.core.watch.watchers == 0


async def test_more_watches_than_the_limit_are_refused() -> None:
    async with serving(FLOWS, limits=Limits(watches_max=1)) as world:
        await world.start("approval", "here")
        first = world.channel.unary_stream(WATCH)(watches("here"))
        await first.read()

        refusal = await world.call("WatchInstance", watches("here"))

        assert refusal.what == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert refusal.retry_after_ms
        first.cancel()


async def test_a_watcher_that_does_not_read_costs_one_message_and_is_ended_when_it_reads_on() -> None:
    # A small window stands for a slow reader; the first message fills it.
    slow = [("grpc.http2.lookahead_bytes", 65_536), ("grpc.http2.bdp_probe", 0)]
    async with serving(FLOWS, limits=Limits(watch_write_seconds=0.05), options=slow) as world:
        closed = asyncio.Event()
        real = world.core.watch.watch

        async def watch(*args: Any) -> AsyncIterator[Any]:
            try:
                async with contextlib.aclosing(real(*args)) as events:
                    async for event in events:
                        yield event
            finally:
                closed.set()

        world.core.watch.watch = watch  # type: ignore[assignment]
        body = common_pb2.Payload(json=json.dumps({"a": "x" * 1_000_000}))
        request = runner.StartInstanceRequest(
            workflow="approval", context=body, opts=runner.StartOptions(instance_id="here")
        )
        await world.call("StartInstance", request)
        stream = world.channel.unary_stream(WATCH)(watches("here"), timeout=60)
        await closed.wait()
        assert world.core.watch.watchers == 0
        assert world.api.admission.watches == 1
        assert world.api.admission.unread_bytes > 1_000_000

        snapshot = instances.WatchInstanceResponse.FromString(await stream.read()).snapshot
        with pytest.raises(grpc.aio.AioRpcError):
            await stream.read()

        assert snapshot.instance_id == "here"
        assert stream.time_remaining() > 10
        assert await stream.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await all_left(world)


async def test_a_watch_without_a_deadline_gets_one() -> None:
    async with serving(FLOWS, limits=Limits(watch_seconds=0.05)) as world:
        await world.start("approval", "here")

        answer = await world.call("WatchInstance", watches("here"), timeout=None)

        assert answer.code is grpc.StatusCode.DEADLINE_EXCEEDED
        await all_left(world)


async def test_watches_that_would_pile_up_too_many_bytes_are_ended() -> None:
    async with serving(FLOWS, limits=Limits(unread_bytes_max=10)) as world:
        await world.start("approval", "here")

        refusal = await world.call("WatchInstance", watches("here"))

        assert refusal.what == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        await all_left(world)


async def test_a_drain_ends_watches_with_where_to_go_on(world: ApiWorld) -> None:
    await world.start("approval", "here")
    stream = world.channel.unary_stream(WATCH)(watches("here"), timeout=60)
    snapshot = instances.WatchInstanceResponse.FromString(await stream.read()).snapshot

    await world.api.drain()
    world.core.watch.drain()

    end = instances.WatchInstanceResponse.FromString(await stream.read()).end
    assert (end.reason, end.revision) == (instances.WATCH_END_REASON_SERVER_DRAINING, snapshot.revision)
    assert await stream.read() is grpc.aio.EOF


# --- counts ------------------------------------------------------------------------------------------------------


async def test_calls_are_counted_by_how_they_ended(world: ApiWorld) -> None:
    await world.start("approval", "a")
    await world.call("GetInstance", instances.GetInstanceRequest(instance_id="a"))
    await world.call("GetInstance", instances.GetInstanceRequest(instance_id="nobody"))
    await world.call("GetInstance", b"\xff")
    async with asyncio.timeout(60):
        while world.api.admission.calls:  # noqa: ASYNC110 - a refusal is on its way before its call has ended
            await asyncio.sleep(0)

    counters = world.api.admission.call_counters["GetInstance"]
    assert counters.ok == 1
    assert counters.others == {
        ("NOT_FOUND", "INSTANCE_NOT_FOUND"): 1,
        ("INVALID_ARGUMENT", "INVALID_FIELD"): 1,
    }
    assert counters.seconds is not None
    assert sum(counters.seconds.counts()) == 3


async def test_calls_that_are_not_let_in_are_counted_and_take_no_time() -> None:
    async with serving(FLOWS, limits=Limits(calls_max=0)) as world:
        await world.call("GetInstance", instances.GetInstanceRequest(instance_id="a"))
        counters = world.api.admission.call_counters["GetInstance"]

    assert counters.others == {("RESOURCE_EXHAUSTED", "OVERLOADED"): 1}
    assert counters.seconds is not None
    assert sum(counters.seconds.counts()) == 0


async def test_calls_beyond_the_deadlines_that_the_server_gives_are_counted() -> None:
    async with serving(FLOWS, limits=Limits(watch_seconds=0.05)) as world:
        await world.start("approval", "a")
        await world.call("WatchInstance", instances.WatchInstanceRequest(instance_id="a"), timeout=None)
        counters = world.api.admission.call_counters["WatchInstance"]

    assert (counters.ok, counters.others) == (0, {("DEADLINE_EXCEEDED", ""): 1})


# --- the port ----------------------------------------------------------------------------------------------------


async def test_a_second_server_on_the_port_is_refused(world: ApiWorld) -> None:
    port = int(world.address.rpartition(":")[2])
    second = ApiServer(world.core.operations, listen=Address("127.0.0.1", port))

    with pytest.raises(CannotListenError, match=str(port)):
        await second.start()


def test_every_sdk_pings_no_faster_than_the_server_allows() -> None:
    limits = Limits()

    assert limits.ping_interval_ms_min < sdk_channel.KEEPALIVE_MS
    assert limits.message_bytes_max <= sdk_channel.RECEIVE_BYTES_MAX


@pytest.mark.parametrize("offered", [True, False])
async def test_reflection_is_there_when_asked_for(offered: bool) -> None:
    async with serving(reflect=offered) as world:
        stub = reflection_pb2_grpc.ServerReflectionStub(world.channel)
        stream = stub.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=20
        )
        if not offered:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.read()
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
            return
        listed = (await stream.read()).list_services_response.service

        assert {"perdure.v1.RunnerService", "grpc.health.v1.Health"} <= {service.name for service in listed}
