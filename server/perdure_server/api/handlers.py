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

from perdure_server.api.deadlines import Deadlines
from perdure_server.api.errors import DETAILS_KEY, refusal_of, status_of
from perdure_server.api.limits import Limits
from perdure_server.api.tallies import CALL_SECONDS, CallTally
from perdure_server.runtime.errors import Overloaded, ShuttingDown
from perdure_server.runtime.fields import InvalidFields, Violation
from perdure_server.telemetry.tally import Histogram

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Requests: TypeAlias = AsyncIterator[bytes]
Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]

ANSWER_BYTES_SMALL: Final = 16 << 10
"""Answers up to this size are not counted while the client has not read them: there are only so many calls."""


class SilentCall(Exception):
    """The call's headers came, but not its message."""


class Gate:
    """Counts what is under way, and lets no more in than the limits say. Refusing costs next to nothing."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.deadlines = Deadlines(limits.call_seconds)
        self.arrivals = Deadlines(limits.message_seconds, calls_max=limits.silent_calls_max)
        self.draining = False
        self.calls = 0
        self.calls_bytes = 0
        self.lists = 0
        self.watches = 0
        self.unread_bytes = 0
        self.tallies: dict[str, CallTally] = {}
        """What became of the calls of each RPC."""

    def enter(self, size_bytes: int, *, mutating: bool) -> None:
        """Let a call in. Raises `ShuttingDown` or `Overloaded`."""
        if self.draining and mutating:
            raise ShuttingDown()
        limits = self.limits
        if self.calls >= limits.calls_max or self.calls_bytes + size_bytes > limits.calls_bytes_max:
            raise Overloaded(limits.retry_after_ms)
        self.calls += 1
        self.calls_bytes += size_bytes

    def leave(self, size_bytes: int) -> None:
        """Let a call out again."""
        self.calls -= 1
        self.calls_bytes -= size_bytes

    def enter_list(self, size_bytes: int, *, mutating: bool) -> None:
        """Admit a call that lists something. Raises `Overloaded`. Lists have a limit of their own."""
        if self.lists >= self.limits.lists_max or self.calls_bytes + size_bytes > self.limits.calls_bytes_max:
            raise Overloaded(self.limits.retry_after_ms)
        self.lists += 1
        self.calls_bytes += size_bytes

    def leave_list(self, size_bytes: int) -> None:
        """Release what `enter_list` took."""
        self.lists -= 1
        self.calls_bytes -= size_bytes

    def enter_watch(self) -> None:
        """Let a watch in. Raises `ShuttingDown` or `Overloaded`."""
        if self.draining:
            raise ShuttingDown()
        if self.watches >= self.limits.watches_max:
            raise Overloaded(self.limits.retry_after_ms)
        self.watches += 1

    def hold(self, size_bytes: int) -> None:
        """Keep an answer that its client has not read yet. Raises `Overloaded`."""
        if self.unread_bytes + size_bytes > self.limits.unread_bytes_max:
            raise Overloaded(self.limits.retry_after_ms)
        self.unread_bytes += size_bytes

    def let_go(self, size_bytes: int) -> None:
        """An answer was read, or its call is over."""
        self.unread_bytes -= size_bytes

    def hold_until_done(self, size_bytes: int, context: Context) -> None:
        """Keep a call's only answer until the client has read it or is gone. Raises `Overloaded`."""
        self.hold(size_bytes)
        # The stubs know a class of their own, which nobody can make.
        context.add_done_callback(lambda _: self.let_go(size_bytes))  # type: ignore[arg-type]

    def leave_watch(self) -> None:
        """Let a watch out again."""
        self.watches -= 1


class Rpc(Protocol):
    """One RPC of a servicer: its name, the type of its request, and its handler for grpc."""

    name: str

    def handler(self, gate: Gate) -> Any: ...


class Unary:
    """An RPC with one request and one response. ``mutating`` ones are refused while the server drains.

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

    def handler(self, gate: Gate) -> Any:
        """Return the handler for grpc."""
        parse, call, mutating = self._parse, self._call, self._mutating
        enter, leave = (gate.enter_list, gate.leave_list) if self._is_list else (gate.enter, gate.leave)
        deadlines = gate.deadlines
        seconds = Histogram(CALL_SECONDS)
        tally = gate.tallies[self.name] = CallTally(seconds)

        async def handle(_: Requests, context: Context) -> bytes:
            try:
                body = await read_message(context, gate)
                size_bytes = len(body)
                enter(size_bytes, mutating=mutating)
            except asyncio.CancelledError:
                tally.cancelled()
                raise
            except Exception as error:
                await refuse(context, error, tally)
                raise AssertionError("abort returned") from error
            began = perf_counter()
            unbounded = context.time_remaining() is None
            if unbounded:
                deadlines.enter()
            try:
                answer = (await call(parse(body))).SerializeToString()
                if len(answer) > ANSWER_BYTES_SMALL:
                    gate.hold_until_done(len(answer), context)
                tally.ok += 1
                return answer
            except asyncio.CancelledError:
                if not (unbounded and deadlines.is_overdue()):
                    tally.cancelled()
                    raise
                tally.refused("DEADLINE_EXCEEDED")
                await context.abort(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    f"the call brought no deadline and took longer than {deadlines.seconds:g} s; "
                    "whether it took effect is unknown, repeat it with the same request_id",
                )
            except DecodeError:
                await refuse(context, _not_a(parse), tally)
            except Exception as error:  # noqa: BLE001 - the table tells it, or logs it
                await refuse(context, error, tally)
            finally:
                seconds.add(perf_counter() - began)
                if unbounded:
                    deadlines.leave()
                leave(size_bytes)
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

    def handler(self, gate: Gate) -> Any:
        """Return the handler for grpc."""
        parse, call, limits = self._parse, self._call, gate.limits
        tally = gate.tallies[self.name] = CallTally()

        async def handle(_: Requests, context: Context) -> None:
            try:
                body = await read_message(context, gate)
                gate.enter_watch()
            except asyncio.CancelledError:
                tally.cancelled()
                raise
            except Exception as error:
                await refuse(context, error, tally)
                raise AssertionError("abort returned") from error
            try:
                seconds = limits.watch_seconds if context.time_remaining() is None else None
                async with contextlib.aclosing(call(parse(body))) as messages:
                    await _pass_on(messages, context, gate, seconds)
                tally.ok += 1
            except asyncio.CancelledError:
                tally.cancelled()
                raise
            except grpc.aio.InternalError:
                tally.cancelled()
                return  # the connection is gone: nobody is there to be told
            except DecodeError:
                await refuse(context, _not_a(parse), tally)
            except TimeoutError:
                tally.refused("DEADLINE_EXCEEDED")
                await context.abort(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    "the watch was open or unread for too long; resume it after the last revision that came",
                )
            except Exception as error:  # noqa: BLE001 - the table tells it, or logs it
                await refuse(context, error, tally)
            finally:
                gate.leave_watch()

        return grpc.stream_stream_rpc_method_handler(handle)


async def read_message(context: Context, gate: Gate) -> bytes:
    """Return the call's one message. Raises `SilentCall` if it does not come in time."""
    arrivals = gate.arrivals
    arrivals.enter()
    try:
        body = await context.read()
    except asyncio.CancelledError:
        if not arrivals.is_overdue():
            raise
        raise SilentCall from None
    finally:
        arrivals.leave()
    if not isinstance(body, bytes):
        raise InvalidFields((Violation("", "the call ended without a message; send one"),))
    return body


async def _pass_on(
    messages: AsyncGenerator[Message, None], context: Context, gate: Gate, seconds: float | None
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
        gate.hold(size_bytes)
        watchdog = loop.call_later(gate.limits.watch_write_seconds, stalled)
        try:
            await context.write(out)
        finally:
            # Until the next one comes, which may be long, nothing of this one is kept.
            out = None
            watchdog.cancel()
            gate.let_go(size_bytes)
            if closing is not None:
                await closing
        if closing is not None:
            raise TimeoutError


async def _next_bytes(messages: AsyncGenerator[Message, None]) -> bytes | None:
    message = await anext(messages, None)
    return None if message is None else message.SerializeToString()


async def refuse(context: Context, error: Exception, tally: CallTally | None = None) -> None:
    """End a call with what the error table says, and count it. Does not return."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, SilentCall):
        if tally is not None:
            tally.refused("DEADLINE_EXCEEDED")
        await context.abort(
            grpc.StatusCode.DEADLINE_EXCEEDED, "the call's message did not follow its headers in time"
        )
    refusal = refusal_of(error)
    if tally is not None:
        tally.refused(refusal.code.name, refusal.reason)
    status = status_of(refusal)
    await context.abort(
        refusal.code, status.message, trailing_metadata=((DETAILS_KEY, status.SerializeToString()),)
    )


def _not_a(parse: Callable[[bytes], Message]) -> InvalidFields:
    name = getattr(parse, "__self__", None)
    what = getattr(getattr(name, "DESCRIPTOR", None), "full_name", "message of this call")
    return InvalidFields(
        (Violation("", f"the bytes are no {what} with UTF-8 strings; send what protobuf encodes"),)
    )
