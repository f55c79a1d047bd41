"""The metrics over HTTP, on a loop in a thread of its own: whoever scrapes, and however, the server's does not wait.

Theory of operation. A connection is one request and one answer, which it gets once its request is there; until then,
and until it has read the answer, it holds nothing but a socket, for some seconds. An answer is kept for nine times as
long as it took to make: a crowd of scrapers gets the same one at once, and answers take a tenth of the interpreter at
most. Connections are taken with a pause behind each, so that they do not take more than that either.

What lives here: that, around the library's text formats. What may not: figures.
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
"""How many connections are open at once. One more, and the oldest is cut: it has had its time to send a request."""

CONNECTION_SECONDS: Final = 5.0
"""How long a connection may take, from its acceptance to the last byte of the answer."""

REQUEST_BYTES_MAX: Final = 16 << 10
"""How long a request may be. A scraper's has some hundred bytes."""

ACCEPT_PAUSE_SECONDS: Final = 0.002
"""From one connection to the next, each of which takes a tenth of a millisecond or two, besides making its answer."""

KEPT_FACTOR: Final = 9
KEPT_SECONDS_MAX: Final = 0.5
"""An answer is kept for this many times as long as it took to make: in each format they take a tenth of the
interpreter, or more where it takes long."""

BACKLOG: Final = 128
"""How many connections wait in the system to be accepted."""

Format: TypeAlias = tuple[Callable[[CollectorRegistry], bytes], str]
"""What writes a registry, and its content type."""

_TEXT: Final = choose_encoder("")
_OPENMETRICS: Final = choose_encoder("application/openmetrics-text; version=1.0.0")
# The library would repeat in its content type whatever version is asked for, of which there are too many to keep.
_ASKS_FOR_OPENMETRICS: Final = re.compile(
    rb"^accept:.*application/openmetrics-text", re.IGNORECASE | re.MULTILINE
)


class MetricsEndpoint:
    """An HTTP server for a registry on ``host`` and ``port``; port 0 takes a free one, which ``port`` then is.

    It listens from construction on, which raises ``OSError`` if the address cannot be had, and answers after `start`.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        host: str,
        port: int,
        *,
        connection_seconds: float = CONNECTION_SECONDS,
    ) -> None:
        self._answers = _Answers(registry)
        self._connection_seconds = connection_seconds
        self._listener = _listening(host, port)
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._connections: dict[asyncio.Task[None], socket.socket] = {}
        """The oldest first."""
        self._accepting: asyncio.Handle = self._loop.call_soon(self._await_one)
        self._thread = threading.Thread(target=self._run, name="perdure-metrics", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Cut what is open and listen no more. Blocks while an answer is made, and a moment more."""
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
        # That the process may open no more files passes; the connection waits meanwhile.
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            if len(self._connections) >= CONNECTIONS_MAX:
                next(iter(self._connections)).cancel()
            task = self._loop.create_task(self._serve(connection))
            self._connections[task] = connection
            task.add_done_callback(lambda task: self._connections.pop(task).close())

    async def _serve(self, connection: socket.socket) -> None:
        # A client that is too slow (``TimeoutError`` is one of these), or gone, is nothing to be told of.
        with contextlib.suppress(OSError):
            async with asyncio.timeout(self._connection_seconds):
                request = b""
                while b"\r\n\r\n" not in request:
                    part = await self._loop.sock_recv(connection, REQUEST_BYTES_MAX)
                    if not part or len(request) + len(part) > REQUEST_BYTES_MAX:
                        return
                    request += part
                await self._loop.sock_sendall(connection, self._answers.to(request))


class _Answers:
    """What is answered. The latest in each format is kept for a while, as the error that it may have met is."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._kept: dict[Format, tuple[bytes, float]] = {}
        """Each with the time until which it is kept."""

    def to(self, request: bytes) -> bytes:
        if not request.startswith(b"GET "):
            return _answer("400 Bad Request", "text/plain", b"GET the metrics, with HTTP/1.1\n")
        format_ = _OPENMETRICS if _ASKS_FOR_OPENMETRICS.search(request) else _TEXT
        answer, until = self._kept.get(format_, (b"", 0.0))
        began = time.monotonic()
        if began >= until:
            answer = self._make(*format_)
            ended = time.monotonic()
            until = ended + min(KEPT_FACTOR * (ended - began), KEPT_SECONDS_MAX)
            self._kept[format_] = answer, until
        return answer

    def _make(self, encode: Callable[[CollectorRegistry], bytes], content_type: str) -> bytes:
        try:
            return _answer("200 OK", content_type, encode(self._registry))
        except Exception:  # whatever a reading raises, the next scrape must be answered
            log.exception("the metrics could not be read")
            body = b"the metrics could not be read; the server's log tells why\n"
            return _answer("500 Internal Server Error", "text/plain", body)


def _answer(status: str, content_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close"
    return f"{head}\r\n\r\n".encode() + body


def _listening(host: str, port: int) -> socket.socket:
    [(family, *_, place), *_] = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    # It may be had again at once, while connections of a process before fade, and is shared with nobody.
    listener = socket.create_server(
        place,
        family=family,
        backlog=BACKLOG,
        dualstack_ipv6=family == socket.AF_INET6 and socket.has_dualstack_ipv6(),
    )
    listener.setblocking(False)
    return listener
