"""The clients over a transport without a network: they own request IDs, retries and the meaning of responses."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from perdure import AsyncClient, Client, errors
from perdure.client import CallRetryPolicy, Snapshot, WatchEnd
from perdure.client._transport import AsyncTransport, Transport
from perdure.v1 import instance_service_pb2, runner_service_pb2

QUICK = CallRetryPolicy(initial_backoff=0.001, max_backoff=0.001)
STARTED = runner_service_pb2.StartInstanceResponse(instance_id="i1", created=True, version=1, revision=1)
SNAPSHOT = instance_service_pb2.WatchInstanceResponse(
    snapshot=instance_service_pb2.Instance(instance_id="i1", revision=3)
)
END = instance_service_pb2.WatchInstanceResponse(
    end=instance_service_pb2.WatchEnd(revision=3, reason=instance_service_pb2.WATCH_END_REASON_INSTANCE_ENDED)
)


class Script:
    """Scripted responses. An exception is raised, a list is a stream, and every request is kept."""

    def __init__(self, *responses: Any) -> None:
        self.responses = deque(responses)
        self.requests: list[tuple[str, Any]] = []
        self.open_streams = 0
        self.closed = False

    def next(self, method: Any, request: Any) -> Any:
        self.requests.append((method.name, request))
        response = self.responses.popleft()
        if isinstance(response, Exception):
            raise response
        return response


class FakeAsyncTransport(Script):
    """An `AsyncTransport` that plays a script."""

    async def unary(self, method: Any, request: Any, *, timeout: float | None) -> Any:
        return self.next(method, request)

    @asynccontextmanager
    async def stream(
        self, method: Any, request: Any, *, timeout: float | None
    ) -> AsyncIterator[AsyncIterator[Any]]:
        responses = self.next(method, request)

        async def play() -> AsyncIterator[Any]:
            for response in responses:
                if isinstance(response, Exception):
                    raise response
                yield response

        self.open_streams += 1
        try:
            yield play()
        finally:
            self.open_streams -= 1

    async def close(self) -> None:
        self.closed = True


class FakeTransport(Script):
    """A `Transport` that plays a script."""

    def unary(self, method: Any, request: Any, *, timeout: float | None) -> Any:
        return self.next(method, request)

    @contextmanager
    def stream(self, method: Any, request: Any, *, timeout: float | None) -> Iterator[Iterator[Any]]:
        responses = self.next(method, request)

        def play() -> Iterator[Any]:
            for response in responses:
                if isinstance(response, Exception):
                    raise response
                yield response

        self.open_streams += 1
        try:
            yield play()
        finally:
            self.open_streams -= 1

    def close(self) -> None:
        self.closed = True


def async_client(transport: FakeAsyncTransport) -> AsyncClient:
    client = AsyncClient(retries=QUICK)
    checked: AsyncTransport = transport
    client._transport = checked
    return client


def blocking_client(transport: FakeTransport) -> Client:
    client = Client(retries=QUICK)
    checked: Transport = transport
    client._transport = checked
    return client


async def test_an_async_client_retries_the_errors_of_its_transport() -> None:
    transport = FakeAsyncTransport(errors.UnavailableError("no"), errors.OverloadedError("no"), STARTED)
    async with async_client(transport) as client:
        started = await client.start_instance("order")

    assert started.instance_id == "i1"
    assert len({request.opts.request_id for _, request in transport.requests}) == 1
    assert len(transport.requests) == 3
    assert transport.closed


def test_a_blocking_client_retries_the_errors_of_its_transport() -> None:
    transport = FakeTransport(errors.UnavailableError("no"), errors.OverloadedError("no"), STARTED)
    with blocking_client(transport) as client:
        started = client.start_instance("order")

    assert started.instance_id == "i1"
    assert len({request.opts.request_id for _, request in transport.requests}) == 1
    assert len(transport.requests) == 3
    assert transport.closed


async def test_an_error_of_the_transport_gets_the_request_id_of_the_call() -> None:
    transport = FakeAsyncTransport(errors.InstanceEndedError("instance 'i1' has ended"))
    async with async_client(transport) as client:
        with pytest.raises(errors.InstanceEndedError) as caught:
            await client.cancel_instance("i1", request_id="r1")

    assert caught.value.request_id == "r1"


async def test_an_async_watch_opens_a_new_stream_after_an_error() -> None:
    transport = FakeAsyncTransport([SNAPSHOT, errors.UnavailableError("cut")], [END])
    async with async_client(transport) as client:
        events = [event async for event in client.watch_instance("i1")]

    assert [type(event) for event in events] == [Snapshot, WatchEnd]
    assert [request.after_revision for _, request in transport.requests] == [0, 3]
    assert transport.open_streams == 0


def test_a_blocking_watch_opens_a_new_stream_after_an_error() -> None:
    transport = FakeTransport([SNAPSHOT, errors.UnavailableError("cut")], [END])
    with blocking_client(transport) as client:
        events = list(client.watch_instance("i1"))

    assert [type(event) for event in events] == [Snapshot, WatchEnd]
    assert [request.after_revision for _, request in transport.requests] == [0, 3]
    assert transport.open_streams == 0


def test_closing_a_blocking_watch_early_closes_its_stream() -> None:
    transport = FakeTransport([SNAPSHOT, END])
    with blocking_client(transport) as client:
        events = client.watch_instance("i1")
        next(events)
        assert transport.open_streams == 1
        events.close()

    assert transport.open_streams == 0
