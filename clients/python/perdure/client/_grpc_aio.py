"""`GrpcAioTransport`: the calls of an `AsyncClient` over ``grpc.aio``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from perdure.client._calls import Method, serialize
from perdure.client._channel import TlsOptions, channel_options
from perdure.client._status import error_of
from perdure.client._watch_connections import OPTIONS as WATCH_OPTIONS
from perdure.client._watch_connections import WatchConnections


class GrpcAioTransport:
    """An `AsyncTransport` over gRPC. It belongs to the event loop of its first call."""

    def __init__(
        self, target: str, *, tls: TlsOptions | None = None, metadata: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self._target = target
        self._tls = tls
        self._metadata = metadata
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[str, Callable[..., Any]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self.watch_connections = WatchConnections(self._connect_watch)

    @property
    def closed(self) -> bool:
        """True after `close` was called."""
        return self._closed

    async def unary(self, method: Method, request: Message, *, timeout: float | None) -> Any:
        """Send a request and return the response, see `AsyncTransport.unary`."""
        send = self._unary(method)
        try:
            return await send(request, timeout=timeout, metadata=self._metadata)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and not (task and task.cancelling()):
                # `close` cancelled the call. The task itself was not cancelled and must not see a CancelledError.
                raise RuntimeError("the client was closed during the call") from None
            raise
        except grpc.aio.AioRpcError as failed:
            raise error_of(failed) from failed

    @asynccontextmanager
    async def stream(
        self, method: Method, request: Message, *, timeout: float | None
    ) -> AsyncIterator[AsyncIterator[Any]]:
        """Open a stream on a watch connection with room, see `AsyncTransport.stream`."""
        self._check_open()
        connection = self.watch_connections.acquire()
        try:
            send: Callable[..., Any] = connection.channel.unary_stream(
                method.path,
                request_serializer=serialize,
                response_deserializer=method.response.FromString,
            )
            call = send(request, timeout=timeout, metadata=self._metadata)
            try:
                yield AioResponses(call)
            finally:
                call.cancel()
        finally:
            if (unused := self.watch_connections.release(connection)) is not None:
                await unused.close()

    async def close(self) -> None:
        """Close every connection and cancel calls in progress. Can be called again, even after it was cancelled."""
        self._closed = True
        self._methods.clear()
        channels = [*([self._channel] if self._channel else []), *self.watch_connections.channels]
        # The references are dropped only after the channels are closed, so that a cancelled `close` can be repeated.
        await asyncio.gather(*(channel.close() for channel in channels))
        self._channel = None
        self.watch_connections.clear()

    def _unary(self, method: Method) -> Callable[..., Any]:
        self._check_open()
        if self._channel is None:
            self._channel = self._connect()
        found = self._methods.get(method.path)
        if found is None:
            found = self._channel.unary_unary(
                method.path,
                request_serializer=serialize,
                response_deserializer=method.response.FromString,
            )
            self._methods[method.path] = found
        return found

    def _check_open(self) -> None:
        # Channels of grpc.aio belong to the loop in which they are created.
        loop = asyncio.get_running_loop()
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError(
                "an AsyncClient belongs to the event loop of its first call; make one per loop, or use Client"
            )

    def _connect(self, options: Iterable[tuple[str, str | int]] = ()) -> grpc.aio.Channel:
        arguments = [*channel_options(self._target, self._tls), *options]
        if self._tls is None:
            return grpc.aio.insecure_channel(self._target, options=arguments)
        return grpc.aio.secure_channel(self._target, self._tls.credentials(), options=arguments)

    def _connect_watch(self) -> grpc.aio.Channel:
        return self._connect(WATCH_OPTIONS)


class AioResponses:
    """Responses of a stream. Iterating raises the exceptions of ``perdure.errors`` instead of gRPC's.

    This is not an async generator, because a caller that stops early would leave one to the garbage collector.
    """

    def __init__(self, call: Any) -> None:
        self._responses = aiter(call)

    def __aiter__(self) -> AioResponses:
        return self

    async def __anext__(self) -> Any:
        try:
            return await anext(self._responses)
        except grpc.aio.AioRpcError as failed:
            raise error_of(failed) from failed
