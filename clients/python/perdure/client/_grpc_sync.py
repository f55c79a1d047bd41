"""`GrpcTransport`: the calls of a `Client` over gRPC's blocking channels.

It uses a blocking channel instead of a `GrpcAioTransport` in a thread. So there is no second event loop to keep alive,
to fork or to shut down, any number of threads share one connection, and it works inside a running event loop, as in
Jupyter.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.message import Message

from perdure.client._calls import Method, serialize
from perdure.client._channel import TlsOptions, channel_options
from perdure.client._status import error_of
from perdure.client._watch_connections import OPTIONS as WATCH_OPTIONS
from perdure.client._watch_connections import WatchConnections


class GrpcTransport:
    """A `Transport` over gRPC. Threads share it, and a forked child opens its own connections."""

    def __init__(
        self, target: str, *, tls: TlsOptions | None = None, metadata: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self._target = target
        self._tls = tls
        self._metadata = metadata
        self._channel: grpc.Channel | None = None
        self._opening = threading.Lock()
        self._process_id = os.getpid()
        self._closed = False
        self.watch_connections = WatchConnections(self._connect_watch)

    @property
    def closed(self) -> bool:
        """True after `close` was called."""
        return self._closed

    def unary(self, method: Method, request: Message, *, timeout: float | None) -> Any:
        """Send a request and return the response, see `AsyncTransport.unary`."""
        send: Callable[..., Any] = self._open().unary_unary(
            method.path,
            request_serializer=serialize,
            response_deserializer=method.response.FromString,
        )
        try:
            return send(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as failed:
            raise error_of(failed) from failed

    @contextmanager
    def stream(self, method: Method, request: Message, *, timeout: float | None) -> Iterator[Iterator[Any]]:
        """Open a stream on a watch connection with room, see `AsyncTransport.stream`."""
        self._check_open()
        connections, process_id = self.watch_connections, self._process_id
        connection = connections.acquire()
        try:
            send: Callable[..., Any] = connection.channel.unary_stream(
                method.path,
                request_serializer=serialize,
                response_deserializer=method.response.FromString,
            )
            call = send(request, timeout=timeout, metadata=self._metadata)
            try:
                yield _Responses(call, process_id)
            finally:
                if os.getpid() == process_id:  # a forked child leaves the stream to its parent
                    call.cancel()
        finally:
            if os.getpid() == process_id and (unused := connections.release(connection)) is not None:
                unused.close()

    def close(self) -> None:
        """Close every connection and cancel calls in progress. Can be called several times."""
        self._leave_parent_process()
        with self._opening:
            self._closed = True
            channel, self._channel = self._channel, None
        for open_channel in [*([channel] if channel else []), *self.watch_connections.clear()]:
            open_channel.close()

    def _open(self) -> grpc.Channel:
        self._check_open()
        with self._opening:
            if self._channel is None:
                self._channel = self._connect()
            return self._channel

    def _check_open(self) -> None:
        self._leave_parent_process()
        if self._closed:
            raise RuntimeError("the client is closed")

    def _leave_parent_process(self) -> None:
        """In a forked child, leave the connections of the parent to the parent. The next call opens new ones."""
        if self._process_id == os.getpid():
            return
        # Kept, because a channel that is collected closes its connection, which the parent shares.
        _INHERITED.append((self._channel, self.watch_connections))
        self._channel = None
        self.watch_connections = WatchConnections(self._connect_watch)
        self._opening = threading.Lock()  # another thread of the parent may have held it
        self._process_id = os.getpid()

    def _connect(self, options: Iterable[tuple[str, str | int]] = ()) -> grpc.Channel:
        arguments = [*channel_options(self._target, self._tls), *options]
        if self._tls is None:
            return grpc.insecure_channel(self._target, arguments)
        return grpc.secure_channel(self._target, self._tls.credentials(), arguments)

    def _connect_watch(self) -> grpc.Channel:
        if self._closed:  # by another thread
            raise RuntimeError("the client is closed")
        return self._connect(WATCH_OPTIONS)


_INHERITED: list[object] = []
"""Connections of the parent process, in a forked child."""


class _Responses:
    """Responses of a stream. Iterating raises the exceptions of ``perdure.errors`` instead of gRPC's."""

    def __init__(self, call: Any, process_id: int) -> None:
        self._call = call
        self._process_id = process_id

    def __iter__(self) -> _Responses:
        return self

    def __next__(self) -> Any:
        if os.getpid() != self._process_id:
            raise RuntimeError("the watch belongs to the parent process; start a new one after the fork")
        try:
            return next(self._call)
        except grpc.RpcError as failed:
            raise error_of(failed) from failed
