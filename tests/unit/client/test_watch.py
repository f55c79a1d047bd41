"""Watching an instance: events, reconnects, and limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import fields

import grpc
import pytest
from google.protobuf.message import Message

from perdure import errors
from perdure.client import (
    AsyncClient,
    CallRetryPolicy,
    Client,
    HistoryEntry,
    InstanceState,
    Snapshot,
    StepFinished,
    UnknownFact,
    WatchEnd,
    WatchEndReason,
    WatchEvent,
    _convert,
)
from perdure.v1 import common_pb2, history_pb2, instance_service_pb2, timer_service_pb2, workflow_service_pb2
from support.stub_server import HANG, ErrorResponse, StubServer

Said = instance_service_pb2.WatchInstanceResponse
QUICK = CallRetryPolicy(initial_backoff=0.001, max_backoff=0.005)
HEARTBEAT = Said(heartbeat=instance_service_pb2.WatchHeartbeat(revision=1))
CUT = ErrorResponse(grpc.StatusCode.UNAVAILABLE)


def snapshot(revision: int) -> Said:
    return Said(snapshot=instance_service_pb2.Instance(instance_id="i1", revision=revision))


def entry(revision: int) -> Said:
    fact = history_pb2.StepFinished(step_ref="a", event="done", targets=["end"])
    return Said(entry=history_pb2.HistoryEntry(revision=revision, step_finished=fact))


def end(
    revision: int,
    reason: instance_service_pb2.WatchEndReason.ValueType = (
        instance_service_pb2.WATCH_END_REASON_INSTANCE_ENDED
    ),
) -> Said:
    return Said(end=instance_service_pb2.WatchEnd(revision=revision, reason=reason))


DRAINING = instance_service_pb2.WATCH_END_REASON_SERVER_DRAINING


@pytest.fixture
async def client(server: StubServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.target, timeout=10, retries=QUICK) as client:
        yield client


def shown(event: WatchEvent) -> object:
    match event:
        case Snapshot():
            return ("snapshot", event.instance.revision)
        case HistoryEntry():
            return event.revision
        case WatchEnd():
            return ("end", event.revision)


def asked(server: StubServer) -> list[int | None]:
    requests = server.requests["WatchInstance"]
    return [request.after_revision if request.HasField("after_revision") else None for request in requests]


async def test_a_watch_yields_snapshot_entries_and_end_but_no_heartbeats(
    server: StubServer, client: AsyncClient
) -> None:
    server.answers["WatchInstance"].append([snapshot(3), HEARTBEAT, entry(4), HEARTBEAT, entry(5), end(5)])

    seen = [event async for event in client.watch_instance("i1")]

    assert [shown(event) for event in seen] == [("snapshot", 3), 4, 5, ("end", 5)]
    assert seen[-1] == WatchEnd(revision=5, reason=WatchEndReason.INSTANCE_ENDED)
    assert isinstance(seen[1], HistoryEntry)
    assert seen[1].fact == StepFinished(
        step_ref="a", event="done", targets=("end",), output=None, buffered_revision=0, failure=None
    )


async def test_a_broken_watch_continues_after_its_last_revision(
    server: StubServer, client: AsyncClient
) -> None:
    server.answers["WatchInstance"] += [
        [CUT],
        [snapshot(3), CUT],
        [entry(4), entry(5), CUT],
        [CUT],
        [entry(6), end(6)],
    ]

    seen = [shown(event) async for event in client.watch_instance("i1")]

    assert seen == [("snapshot", 3), 4, 5, 6, ("end", 6)]
    assert asked(server) == [None, None, 3, 5, 5]


async def test_a_draining_server_does_not_end_a_watch(server: StubServer, client: AsyncClient) -> None:
    server.answers["WatchInstance"] += [[snapshot(3), end(3, DRAINING)], [entry(4), end(4)]]

    seen = [shown(event) async for event in client.watch_instance("i1")]

    assert seen == [("snapshot", 3), 4, ("end", 4)]
    assert asked(server) == [None, 3]


async def test_a_watch_survives_a_restart_of_the_server() -> None:
    async with StubServer() as first:
        port = int(first.target.rpartition(":")[2])
        first.answers["WatchInstance"].append([snapshot(3), HANG])
        client = AsyncClient(first.target, timeout=20, retries=QUICK)
        events = client.watch_instance("i1")
        assert shown(await anext(events)) == ("snapshot", 3)
        following = asyncio.create_task(anext(events))
    async with client, StubServer(port) as second, aclosing(events):
        second.answers["WatchInstance"].append([entry(4), end(4)])

        assert shown(await following) == 4
        assert asked(second) == [3]


async def test_a_watch_from_revision_0_requests_the_whole_history(
    server: StubServer, client: AsyncClient
) -> None:
    server.answers["WatchInstance"].append([entry(1), entry(2), end(2)])

    seen = [shown(event) async for event in client.watch_instance("i1", after_revision=0)]

    assert seen == [1, 2, ("end", 2)]
    assert asked(server) == [0]


@pytest.mark.parametrize("revision", [2, 3, 5])
async def test_a_revision_out_of_order_raises_an_error(
    server: StubServer, client: AsyncClient, revision: int
) -> None:
    server.answers["WatchInstance"].append([snapshot(3), entry(revision)])

    with pytest.raises(errors.PerdureError, match=f"revision {revision} after 3"):
        _ = [event async for event in client.watch_instance("i1")]


async def test_an_entry_of_a_newer_server_is_an_unknown_fact(server: StubServer, client: AsyncClient) -> None:
    newer = history_pb2.HistoryEntry.FromString(b"\x08\x04\xfa\x06\x00")  # revision 4, and a field 111
    server.answers["WatchInstance"].append([snapshot(3), Said(entry=newer), Said(), end(4)])

    seen = [event async for event in client.watch_instance("i1")]

    assert [shown(event) for event in seen] == [("snapshot", 3), 4, ("end", 4)]
    assert isinstance(seen[1], HistoryEntry)
    assert (seen[1].kind, seen[1].fact) == ("", UnknownFact())


async def test_a_rejected_watch_raises_and_is_not_retried(server: StubServer, client: AsyncClient) -> None:
    server.answers["WatchInstance"].append([ErrorResponse(grpc.StatusCode.NOT_FOUND, "INSTANCE_NOT_FOUND")])

    with pytest.raises(errors.InstanceNotFoundError):
        await anext(client.watch_instance("i1"))

    assert len(server.requests["WatchInstance"]) == 1


async def test_a_watch_fails_after_its_reconnect_timeout(server: StubServer, client: AsyncClient) -> None:
    server.answers["WatchInstance"] += [[snapshot(3), CUT], [CUT]]

    with pytest.raises(errors.UnavailableError):
        _ = [event async for event in client.watch_instance("i1", reconnect_timeout="50ms")]


async def test_a_watch_without_a_first_response_fails_after_the_timeout(
    server: StubServer,
) -> None:
    server.answers["WatchInstance"].append([CUT])
    async with AsyncClient(server.target, timeout=0.05, retries=QUICK) as client:
        with pytest.raises(errors.UnavailableError):
            await anext(client.watch_instance("i1"))


async def test_a_watch_ends_at_its_timeout(server: StubServer, client: AsyncClient) -> None:
    server.answers["WatchInstance"].append([snapshot(3), HANG])

    with pytest.raises(errors.DeadlineExceededError):
        _ = [event async for event in client.watch_instance("i1", timeout=0.1)]


async def test_a_stream_that_reaches_the_limit_of_the_server_is_replaced(
    server: StubServer, client: AsyncClient
) -> None:
    late = ErrorResponse(grpc.StatusCode.DEADLINE_EXCEEDED)
    server.answers["WatchInstance"] += [[snapshot(3), late], [entry(4), end(4)]]

    assert [shown(event) async for event in client.watch_instance("i1")] == [("snapshot", 3), 4, ("end", 4)]


async def test_wait_for_end_returns_the_ended_instance(server: StubServer, client: AsyncClient) -> None:
    running = instance_service_pb2.Instance(state=instance_service_pb2.INSTANCE_STATE_RUNNING)
    completed = instance_service_pb2.Instance(state=instance_service_pb2.INSTANCE_STATE_COMPLETED)
    server.answers["WatchInstance"].append([snapshot(3), end(3)])
    # A retry between the watch and the read starts the instance again, so the wait continues.
    server.answers["GetInstance"] += [
        instance_service_pb2.GetInstanceResponse(instance=instance) for instance in (running, completed)
    ]

    assert (await client.wait_for_end("i1", timeout=10)).state is InstanceState.COMPLETED
    assert len(server.requests["WatchInstance"]) == 2


async def test_wait_for_end_raises_timeout_error(server: StubServer, client: AsyncClient) -> None:
    server.answers["WatchInstance"].append([snapshot(3), HANG])

    with pytest.raises(TimeoutError):
        await client.wait_for_end("i1", timeout=0.1)


async def test_a_blocking_watch_reconnects_too(server: StubServer) -> None:
    server.answers["WatchInstance"] += [
        [CUT],
        [snapshot(3), HEARTBEAT, entry(4), CUT],
        [entry(5), end(5, DRAINING)],
        [end(5)],
    ]

    def use() -> list[object]:
        with Client(server.target, timeout=10, retries=QUICK) as client:
            return [shown(event) for event in client.watch_instance("i1")]

    assert await asyncio.to_thread(use) == [("snapshot", 3), 4, 5, ("end", 5)]
    assert asked(server) == [None, None, 4, 5]


async def test_closing_a_blocking_watch_ends_its_stream(server: StubServer) -> None:
    server.answers["WatchInstance"].append([snapshot(3), HANG])

    def use() -> object:
        with Client(server.target) as client:
            events = client.watch_instance("i1")
            first = shown(next(events))
            events.close()
            return first

    assert await asyncio.to_thread(use) == ("snapshot", 3)


MESSAGES = {
    message.name: message
    for module in (common_pb2, history_pb2, instance_service_pb2, timer_service_pb2, workflow_service_pb2)
    for message in module.DESCRIPTOR.message_types_by_name.values()
}


@pytest.mark.parametrize("name", sorted(_convert.VALUE_CLASSES))
def test_a_value_has_every_field_of_its_message(name: str) -> None:
    value_fields = {field.name for field in fields(_convert.VALUE_CLASSES[name])}

    assert value_fields == {field.name for field in MESSAGES[name].fields}


def test_every_kind_of_fact_has_a_class() -> None:
    kinds = history_pb2.HistoryEntry.DESCRIPTOR.oneofs_by_name["fact"].fields

    for kind in kinds:
        message: Message = history_pb2.HistoryEntry(revision=1)
        getattr(message, kind.name).SetInParent()
        converted = _convert.entry_of(message)  # type: ignore[arg-type]
        assert (converted.kind, type(converted.fact).__name__) == (kind.name, kind.message_type.name)


@pytest.mark.parametrize("name", sorted(_convert.ENUM_CLASSES))
def test_an_enum_has_every_value_of_the_api(name: str) -> None:
    enums = [
        enum
        for module in (common_pb2, instance_service_pb2)
        for enum in module.DESCRIPTOR.enum_types_by_name.values()
    ]
    [of_the_api] = [enum for enum in enums if enum.name == name]
    members = set(_convert.ENUM_CLASSES[name].__members__) - {"UNKNOWN"}
    prefix = of_the_api.values_by_number[0].name.removesuffix("UNSPECIFIED")

    assert members == {value.name.removeprefix(prefix) for value in of_the_api.values if value.number}


async def test_a_disconnect_and_its_end_are_each_reported_once(server: StubServer) -> None:
    server.answers["WatchInstance"] += [[snapshot(3), CUT], [CUT], [CUT], [entry(4), CUT], [end(4)]]
    heard: list[object] = []

    async with AsyncClient(server.target, timeout=20, retries=QUICK) as client:
        events = client.watch_instance(
            "i1",
            on_disconnect=lambda error: heard.append(type(error)),
            on_reconnect=lambda: heard.append("reconnected"),
        )
        seen = [shown(event) async for event in events]

    assert seen == [("snapshot", 3), 4, ("end", 4)]
    # The last cut is repaired at once, so it is not a disconnect.
    assert heard == [errors.UnavailableError, "reconnected"]


async def test_a_blocking_wait_reports_a_disconnect_and_its_end(server: StubServer) -> None:
    server.answers["WatchInstance"] += [[snapshot(3), CUT], [CUT], [CUT], [end(3)]]
    completed = instance_service_pb2.Instance(state=instance_service_pb2.INSTANCE_STATE_COMPLETED)
    server.answers["GetInstance"].append(instance_service_pb2.GetInstanceResponse(instance=completed))
    heard: list[object] = []

    def use() -> InstanceState:
        with Client(server.target, timeout=20, retries=QUICK) as client:
            return client.wait_for_end(
                "i1",
                reconnect_timeout="1m",
                on_disconnect=lambda error: heard.append(type(error)),
                on_reconnect=lambda: heard.append("reconnected"),
            ).state

    assert await asyncio.to_thread(use) is InstanceState.COMPLETED
    assert heard == [errors.UnavailableError, "reconnected"]
