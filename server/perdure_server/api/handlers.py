"""What every RPC has in common: bytes in, bytes out, admission, deadlines, refusals.

Handlers are registered on raw bytes: grpc's own deserialiser answers bad bytes with UNKNOWN and the name of a Python
class. And they are registered as if the client streamed: grpc then hands a call over when its headers are there, so
that one which never sends its message can be ended; it costs the same.

What lives here: that frame. What may not: any RPC's meaning, or a status code (``errors``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from perdure.model.constants import STATUS_DETAILS_KEY
from perdure_server.api.admission import AdmissionController, Peer
from perdure_server.api.call_counters import CALL_SECONDS, CallCounters
from perdure_server.api.errors import error_response_of, status_of
from perdure_server.runtime.errors import ServerOverloadedError
from perdure_server.runtime.request_validation import InvalidRequestError, Violation
from perdure_server.telemetry.counters import Histogram

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Requests: TypeAlias = AsyncIterator[bytes]
Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]

ANSWER_BYTES_SMALL: Final = 16 << 10
"""Answers up to this size are not counted while the client has not read them: there are only so many calls."""


class SilentCallError(Exception):
    """The call's headers came, but not its message."""


class Rpc(Protocol):
    """One RPC of a servicer: its name, the type of its request, and its handler for grpc."""

    name: str

    def handler(self, admission: AdmissionController) -> Any: ...


class Unary:
    """An RPC with one request and one response. ``mutating`` ones are rejected while the server drains.

    ``is_list`` puts the RPC into the class of expensive reads, which `Limits.lists_max` limits.
    """

    def __init__(
        self,
        name: str,
        request_type: type[Request],
        call: Callable[[Request], Awaitable[Message]],
        *,
        mutating: bool = False,
        is_list: bool = False,
    ) -> None:
        self.name = name
        self._parse: Callable[[bytes], Message] = request_type.FromString
        self._call: Callable[[Any], Awaitable[Message]] = call
        self._mutating = mutating
        self._is_list = is_list

    def handler(self, admission: AdmissionController) -> Any:
        """Return the handler for grpc."""
        parse, call, mutating = self._parse, self._call, self._mutating
        enter, leave = (
            (admission.enter_list, admission.leave_list)
            if self._is_list
            else (admission.enter, admission.leave)
        )
        deadlines = admission.deadlines
        seconds = Histogram(CALL_SECONDS)
        counters = admission.call_counters[self.name] = CallCounters(seconds)

        async def handle(_: Requests, context: Context) -> bytes:
            peer = admission.peer_of(context)
            try:
                body = await read_message(context, admission, peer)
                size_bytes = len(body)
                enter(peer, size_bytes, mutating=mutating)
            except asyncio.CancelledError:
                counters.cancelled()
                raise
            except Exception as error:
                await refuse(context, error, counters)
                raise AssertionError("abort returned") from error
            began = perf_counter()
            bounded = deadlines.enter() if context.time_remaining() is None else None
            try:
                pending = call(parse(body))
                # The call can be long, and a request large: only its service keeps what it needs of it.
                body = b""
                answer = (await pending).SerializeToString()
                if len(answer) > ANSWER_BYTES_SMALL:
                    admission.hold_until_done(peer, len(answer), context)
                counters.ok += 1
                return answer
            except asyncio.CancelledError:
                if bounded is None or not deadlines.is_overdue():
                    counters.cancelled()
                    raise
                counters.refused("DEADLINE_EXCEEDED")
                await context.abort(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    f"the call brought no deadline and took longer than {deadlines.seconds:g} s; "
                    "whether it took effect is unknown, repeat it with the same request_id",
                )
            except DecodeError:
                await refuse(context, _not_a(parse), counters)
            except Exception as error:  # noqa: BLE001 - the table tells it, or logs it
                answer = b""
                await refuse(context, error, counters)
            finally:
                seconds.add(perf_counter() - began)
                if bounded is not None:
                    deadlines.leave(bounded)
                leave(peer, size_bytes)
            raise AssertionError("abort returned")

        return grpc.stream_unary_rpc_method_handler(handle)


class Streaming:
    """An RPC with one request and a stream of responses."""

    def __init__(
        self, name: str, request_type: type[Request], call: Callable[[Request], AsyncGenerator[Message, None]]
    ) -> None:
        self.name = name
        self._parse: Callable[[bytes], Message] = request_type.FromString
        self._call: Callable[[Any], AsyncGenerator[Message, None]] = call

    def handler(self, admission: AdmissionController) -> Any:
        """Return the handler for grpc."""
        parse, call, limits = self._parse, self._call, admission.limits
        counters = admission.call_counters[self.name] = CallCounters()

        async def handle(_: Requests, context: Context) -> None:
            peer = admission.peer_of(context)
            try:
                body = await read_message(context, admission, peer)
                admission.enter_watch(peer)
            except asyncio.CancelledError:
                counters.cancelled()
                raise
            except Exception as error:
                await refuse(context, error, counters)
                raise AssertionError("abort returned") from error
            try:
                seconds = limits.watch_seconds if context.time_remaining() is None else None
                messages = call(parse(body))
                body = b""
                async with contextlib.aclosing(messages):
                    await _pass_on(messages, context, admission, peer, seconds)
                counters.ok += 1
            except asyncio.CancelledError:
                counters.cancelled()
                raise
            except grpc.aio.InternalError:
                counters.cancelled()
                return  # the connection is gone: nobody is there to be told
            except DecodeError:
                await refuse(context, _not_a(parse), counters)
            except TimeoutError:
                counters.refused("DEADLINE_EXCEEDED")
                await context.abort(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    "the watch was open or unread for too long; resume it after the last revision that came",
                )
            except Exception as error:  # noqa: BLE001 - the table tells it, or logs it
                await refuse(context, error, counters)
            finally:
                admission.leave_watch(peer)

        return grpc.stream_stream_rpc_method_handler(handle)


async def read_message(context: Context, admission: AdmissionController, peer: Peer) -> bytes:
    """Return the call's one message.

    Raises:
        SilentCallError: the message did not arrive in time.
        ServerOverloadedError: too many messages are on their way.
    """
    arrivals = admission.arrivals
    bulk = False if admission.try_read(peer) else await admission.wait_to_read(peer)
    call = arrivals.enter()
    try:
        body = await context.read()
    except asyncio.CancelledError:
        if not arrivals.is_overdue():
            raise
        raise SilentCallError from None
    finally:
        arrivals.leave(call)
        admission.leave_read(peer, bulk=bulk)
    if not isinstance(body, bytes):
        raise InvalidRequestError((Violation("", "the call ended without a message; send one"),))
    return body


async def _pass_on(
    messages: AsyncGenerator[Message, None],
    context: Context,
    admission: AdmissionController,
    peer: Peer,
    seconds: float | None,
) -> None:
    """Write the messages of a stream. Raises ``TimeoutError`` after ``seconds``, or once a stalled reader reads on.

    A write waits while the reader's window is full, and is never cancelled: grpc could send no status behind half a
    message, so that the call would hang. The stream's source is closed meanwhile, so that a stalled reader costs one
    message and its place, until it reads, leaves, or its connection grows too old.
    """
    loop = asyncio.get_running_loop()
    until = None if seconds is None else loop.time() + seconds
    closing: asyncio.Task[None] | None = None

    def stalled() -> None:
        nonlocal closing
        closing = loop.create_task(messages.aclose())

    while True:
        async with asyncio.timeout_at(until):
            out = await _next_bytes(messages)
        if out is None:
            return
        size_bytes = len(out)
        try:
            admission.hold(peer, size_bytes)
        except ServerOverloadedError:
            out = None
            raise
        watchdog = loop.call_later(admission.limits.watch_write_seconds, stalled)
        try:
            await context.write(out)
        finally:
            # Until the next one comes, which may be long, nothing of this one is kept.
            out = None
            watchdog.cancel()
            admission.let_go(peer, size_bytes)
            if closing is not None:
                await closing
        if closing is not None:
            raise TimeoutError


async def _next_bytes(messages: AsyncGenerator[Message, None]) -> bytes | None:
    message = await anext(messages, None)
    return None if message is None else message.SerializeToString()


async def refuse(context: Context, error: Exception, counters: CallCounters | None = None) -> None:
    """End a call with what the error table says, and count it. Does not return."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, SilentCallError):
        if counters is not None:
            counters.refused("DEADLINE_EXCEEDED")
        await context.abort(
            grpc.StatusCode.DEADLINE_EXCEEDED, "the call's message did not follow its headers in time"
        )
    refusal = error_response_of(error)
    if counters is not None:
        counters.refused(refusal.code.name, refusal.reason)
    status = status_of(refusal)
    _forget_frames(error)
    await context.abort(
        refusal.code, status.message, trailing_metadata=((STATUS_DETAILS_KEY, status.SerializeToString()),)
    )


def _forget_frames(error: BaseException | None) -> None:
    """Drop the tracebacks of an error and of its causes.

    gRPC keeps the abort of a call, with the error in its context, in a cycle with the call. So what the frames hold,
    such as payloads, would stay until Python's next collection.
    """
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _not_a(parse: Callable[[bytes], Message]) -> InvalidRequestError:
    name = getattr(parse, "__self__", None)
    what = getattr(getattr(name, "DESCRIPTOR", None), "full_name", "message of this call")
    return InvalidRequestError(
        (Violation("", f"the bytes are no {what} with UTF-8 strings; send what protobuf encodes"),)
    )
