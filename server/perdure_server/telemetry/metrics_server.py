"""The metrics over HTTP, on an event loop in its own thread, so that scrapes do not delay the server's event loop.

Theory of operation. A connection carries one request and one response. While it waits, it holds only a socket, for a
few seconds. A response is cached for nine times as long as it took to make, so that many scrapers get the same one,
and responses take at most a tenth of the interpreter's time. After each accepted connection there is a pause, so that
connections do not take more than that either.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

log = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 100
"""Maximum number of open connections. Beyond it, the oldest is closed."""

CONNECTION_SECONDS: Final = 5.0
"""Maximum time from accepting a connection to the last byte of its response, in seconds."""

REQUEST_BYTES_MAX: Final = 16 << 10
"""Maximum size of a request. Scrapers send a few hundred bytes."""

ACCEPT_PAUSE_SECONDS: Final = 0.002
"""Pause after accepting a connection, in seconds. Each takes 0.1 to 0.2 ms, in addition to making its response."""

CACHE_FACTOR: Final = 9
CACHE_SECONDS_MAX: Final = 0.5
"""A response is cached for `CACHE_FACTOR` times as long as it took to make, but not longer than the maximum. So
responses take about a tenth of the interpreter's time for each format.
"""

BACKLOG: Final = 128
"""Maximum number of connections that wait in the operating system to be accepted."""

Format: TypeAlias = tuple[Callable[[CollectorRegistry], bytes], str]
"""An encoder of a registry, and its content type."""

_TEXT: Final = choose_encoder("")
_OPENMETRICS: Final = choose_encoder("application/openmetrics-text; version=1.0.0")
# The library repeats the requested version in its content type. There are too many versions to cache each.
_ASKS_FOR_OPENMETRICS: Final = re.compile(
    rb"^accept:.*application/openmetrics-text", re.IGNORECASE | re.MULTILINE
)


class MetricsEndpoint:
    """An HTTP server for a registry on ``host`` and ``port``. Port 0 takes a free port; ``port`` has the real one.

    The constructor listens, and raises ``OSError`` if the address is not available. Responses are sent after `start`.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        host: str,
        port: int,
        *,
        connection_seconds: float = CONNECTION_SECONDS,
    ) -> None:
        self._responses = _Responses(registry)
        self._connection_seconds = connection_seconds
        self._listener = _listening(host, port)
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._connections: dict[asyncio.Task[None], socket.socket] = {}
        """Open connections, the oldest first."""
        self._accepting: asyncio.Handle = self._loop.call_soon(self._await_one)
        self._thread = threading.Thread(target=self._run, name="perdure-metrics", daemon=True)

    def start(self) -> None:
        """Start to respond."""
        self._thread.start()

    def close(self) -> None:
        """Close all connections and the listener. Blocks until a response that is being made is complete."""
        if self._thread.ident is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()
        self._listener.close()

    def _run(self) -> None:
        self._loop.run_forever()  # until `close`
        self._accepting.cancel()
        self._loop.remove_reader(self._listener)
        for task in self._connections:
            task.cancel()
        if self._connections:
            self._loop.run_until_complete(asyncio.wait([*self._connections]))

    def _await_one(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        self._loop.remove_reader(self._listener)
        self._accepting = self._loop.call_later(ACCEPT_PAUSE_SECONDS, self._await_one)
        # If the process has no file descriptors left, the connection waits.
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            if len(self._connections) >= CONNECTIONS_MAX:
                next(iter(self._connections)).cancel()
            task = self._loop.create_task(self._serve(connection))
            self._connections[task] = connection
            task.add_done_callback(lambda task: self._connections.pop(task).close())

    async def _serve(self, connection: socket.socket) -> None:
        # Clients that are too slow (``TimeoutError`` is an ``OSError``) or gone are not logged.
        with contextlib.suppress(OSError):
            async with asyncio.timeout(self._connection_seconds):
                request = b""
                while b"\r\n\r\n" not in request:
                    part = await self._loop.sock_recv(connection, REQUEST_BYTES_MAX)
                    if not part or len(request) + len(part) > REQUEST_BYTES_MAX:
                        return
                    request += part
                await self._loop.sock_sendall(connection, self._responses.to(request))


class _Responses:
    """Responses to requests. The latest in each format is cached, errors included."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._cached: dict[Format, tuple[bytes, float]] = {}
        """Each with the end of its time in the cache."""

    def to(self, request: bytes) -> bytes:
        if not request.startswith(b"GET "):
            return _response("400 Bad Request", "text/plain", b"send a GET request\n")
        format_ = _OPENMETRICS if _ASKS_FOR_OPENMETRICS.search(request) else _TEXT
        response, until = self._cached.get(format_, (b"", 0.0))
        started = time.monotonic()
        if started >= until:
            response = self._make(*format_)
            ended = time.monotonic()
            until = ended + min(CACHE_FACTOR * (ended - started), CACHE_SECONDS_MAX)
            self._cached[format_] = response, until
        return response

    def _make(self, encode: Callable[[CollectorRegistry], bytes], content_type: str) -> bytes:
        try:
            return _response("200 OK", content_type, encode(self._registry))
        except Exception:  # the next scrape must get a response
            log.exception("reading metrics failed")
            body = b"reading metrics failed; see the server's log\n"
            return _response("500 Internal Server Error", "text/plain", body)


def _response(status: str, content_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close"
    return f"{head}\r\n\r\n".encode() + body


def _listening(host: str, port: int) -> socket.socket:
    [(family, *_, place), *_] = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    # The address can be reused at once, while connections of the previous process close. It is not shared.
    listener = socket.create_server(
        place,
        family=family,
        backlog=BACKLOG,
        dualstack_ipv6=family == socket.AF_INET6 and socket.has_dualstack_ipv6(),
    )
    listener.setblocking(False)
    return listener
