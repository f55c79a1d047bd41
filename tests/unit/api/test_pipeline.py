"""The pipeline without gRPC: calls over a transport of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from perdure.v1 import instance_service_pb2 as pb
from perdure_server.api.admission import AdmissionController, Peer
from perdure_server.api.call import CallContext, ClientGoneError, ReaderTooSlowError
from perdure_server.api.call_counters import CALL_SECONDS, CallCounters
from perdure_server.api.error_table import Code
from perdure_server.api.errors import CallFailedError
from perdure_server.api.limits import Limits
from perdure_server.api.methods import LimitsClass, Method
from perdure_server.api.pipeline import compose
from perdure_server.engine.rejections import InstanceNotFound
from perdure_server.telemetry.counters import Histogram

REQUEST = pb.GetInstanceRequest(instance_id="here").SerializeToString()


class FakeTransport:
    """A transport whose client reads messages only while ``reading`` is set."""

    def __init__(self, request: object = REQUEST) -> None:
        self.request = request
        self.reading = asyncio.Event()
        self.reading.set()
        self.writing = asyncio.Event()
        self.is_gone = False
        self.written: list[bytes] = []
        self.callbacks: list[Callable[[Any], None]] = []

    async def read(self) -> object:
        return self.request

    async def write(self, message: bytes, /) -> None:
        self.writing.set()
        await self.reading.wait()
        if self.is_gone:
            raise ClientGoneError
        self.written.append(message)

    def add_done_callback(self, callback: Callable[[Any], None], /) -> None:
        self.callbacks.append(callback)


class World:
    """A method behind its pipeline."""

    def __init__(self, handler: Any, limits_class: LimitsClass = LimitsClass.READ, **limits: Any) -> None:
        self.admission = AdmissionController(Limits(**limits))
        is_stream = limits_class is LimitsClass.WATCH
        self.counters = CallCounters(None if is_stream else Histogram(CALL_SECONDS))
        method = Method("Do", pb.GetInstanceRequest, handler, limits_class)
        self._run = compose(method, self.admission, self.counters)

    @property
    def peer(self) -> Peer:
        return self.admission.peer_of("ipv4:127.0.0.1:1")

    async def call(self, transport: FakeTransport, context: CallContext | None = None) -> bytes | None:
        return await self._run(transport, self.peer, context or CallContext(deadline=1e12))

    def assert_idle(self) -> None:
        admission = self.admission
        assert (admission.calls, admission.watches, admission.reads, admission.unread_bytes) == (0, 0, 0, 0)


def response(text: str) -> pb.GetInstanceResponse:
    return pb.GetInstanceResponse(instance=pb.Instance(instance_id=text))


async def echo(request: pb.GetInstanceRequest, context: CallContext) -> pb.GetInstanceResponse:
    return response(f"{request.instance_id}{context.caller}")


async def test_a_call_returns_the_encoded_response() -> None:
    world = World(echo)

    body = await world.call(FakeTransport(), CallContext(caller="/ada"))

    assert body == response("here/ada").SerializeToString()
    assert world.counters.ok == 1
    world.assert_idle()


@pytest.mark.parametrize("request_body", [b"\xff", None])
async def test_a_call_without_a_valid_request_fails(request_body: object) -> None:
    world = World(echo)

    with pytest.raises(CallFailedError) as caught:
        await world.call(FakeTransport(request_body))

    assert caught.value.response.reason == "INVALID_FIELD"
    assert world.counters.others == {("INVALID_ARGUMENT", "INVALID_FIELD"): 1}
    world.assert_idle()


async def test_a_failed_call_does_not_keep_the_first_exception() -> None:
    async def reject(_: Any, __: CallContext) -> pb.GetInstanceResponse:
        raise InstanceNotFound("here")

    with pytest.raises(CallFailedError) as caught:
        await World(reject).call(FakeTransport())

    assert caught.value.response.code is Code.NOT_FOUND
    assert caught.value.__context__ is None


async def test_a_call_without_a_deadline_ends_with_the_one_of_the_server() -> None:
    async def wait(_: Any, __: CallContext) -> pb.GetInstanceResponse:
        await asyncio.Event().wait()
        raise AssertionError

    world = World(wait, call_seconds=0.01)

    with pytest.raises(CallFailedError) as caught:
        await world.call(FakeTransport(), CallContext())

    assert caught.value.response.code is Code.DEADLINE_EXCEEDED
    world.assert_idle()


async def test_a_large_response_counts_until_the_client_has_read_it() -> None:
    async def large(_: Any, __: CallContext) -> pb.GetInstanceResponse:
        return response("x" * 100_000)

    world, transport = World(large), FakeTransport()
    await world.call(transport)
    assert world.admission.unread_bytes > 100_000

    for callback in transport.callbacks:
        callback(None)

    world.assert_idle()


# --- streams -----------------------------------------------------------------------------------------------------


class Stream:
    """A handler that yields ``first`` and then waits. ``last`` is its message for a client that reads too slowly."""

    def __init__(self, last: str = "") -> None:
        self.last = last
        self.too_slow = asyncio.Event()
        self.closed = 0

    async def __call__(self, _: Any, __: CallContext) -> AsyncGenerator[pb.GetInstanceResponse, None]:
        try:
            yield response("first")
            await asyncio.Event().wait()
        except ReaderTooSlowError:
            self.too_slow.set()
            if self.last:
                yield response(self.last)
        finally:
            self.closed += 1


@pytest.mark.parametrize("last", ["last", ""])
async def test_a_slow_client_gets_the_last_message_once_it_reads_on(last: str) -> None:
    handler, transport = Stream(last), FakeTransport()
    world = World(handler, LimitsClass.WATCH, watch_write_seconds=0.01)
    transport.reading.clear()
    call = asyncio.create_task(world.call(transport))
    await transport.writing.wait()
    await handler.too_slow.wait()
    transport.reading.set()

    assert await call is None

    messages = [response(text).SerializeToString() for text in ("first", last) if text]
    assert transport.written == messages
    assert (handler.closed, world.counters.ok) == (1, 1)
    world.assert_idle()


async def test_a_slow_client_that_leaves_ends_the_handler_once() -> None:
    handler, transport = Stream("last"), FakeTransport()
    world = World(handler, LimitsClass.WATCH, watch_write_seconds=0.0)
    transport.reading.clear()
    call = asyncio.create_task(world.call(transport))
    await transport.writing.wait()

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert handler.closed == 1
    assert world.counters.others == {("CANCELLED", ""): 1}
    world.assert_idle()


async def test_a_stream_whose_connection_is_closed_counts_as_cancelled() -> None:
    handler, transport = Stream(), FakeTransport()
    world = World(handler, LimitsClass.WATCH)
    transport.is_gone = True

    with pytest.raises(ClientGoneError):
        await world.call(transport)

    assert (handler.closed, world.counters.others) == (1, {("CANCELLED", ""): 1})
    world.assert_idle()


async def test_a_stream_without_a_deadline_ends_with_the_one_of_the_server() -> None:
    handler = Stream()
    world = World(handler, LimitsClass.WATCH, watch_seconds=0.01)

    with pytest.raises(CallFailedError) as caught:
        await world.call(FakeTransport(), CallContext())

    assert caught.value.response.code is Code.DEADLINE_EXCEEDED
    assert handler.closed == 1
    world.assert_idle()
