"""The metrics over HTTP, in threads of their own: whoever scrapes, and however, the server's loop does not wait for it.

Theory of operation. One thread accepts; each connection has a thread, of which there are few, and one request. A
connection that is not done in time is cut, and where all threads are taken, the oldest one is: a client that sends
byte by byte, or reads nothing, has its place for some seconds, and a scraper gets in all the same. Figures are read for
one scrape at a time, with a pause behind it, so that a crowd of scrapers takes little of the interpreter.

What lives here: that frame around the library's server and text format. What may not: figures.
"""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

log = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 4
"""How many connections are served at once, each by a thread."""

CONNECTION_SECONDS: Final = 5.0
"""How long a connection may take, from its acceptance to the last byte of the answer."""

POLL_SECONDS: Final = 0.25
"""How often connections are looked through, and how long the accepting thread takes to end at most."""

PAUSE_FACTOR: Final = 9
PAUSE_SECONDS_MAX: Final = 0.5
"""The next scrape waits this many times as long as the last one took: together they take a tenth of the interpreter."""

BACKLOG: Final = 128
"""How many connections wait in the system to be accepted."""

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


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
        self._server = _HttpServer(host, port, connection_seconds)
        self._server.set_app(_one_at_a_time(make_wsgi_app(registry)))
        self.port: int = self._server.server_port
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to answer."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_SECONDS,), name="perdure-metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Cut what is open and listen no more. Blocks for `POLL_SECONDS` at most, and a moment more."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Handler(WSGIRequestHandler):
    def get_stderr(self) -> io.StringIO:
        # The library prints what it meets with its stack, such as a client that is gone; logs are JSON lines.
        return io.StringIO()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        pass


class _HttpServer(ThreadingWSGIServer):
    allow_reuse_address = True  # else a restart waits for connections of the one before to fade
    allow_reuse_port = False
    block_on_close = False
    request_queue_size = BACKLOG

    def __init__(self, host: str, port: int, connection_seconds: float) -> None:
        family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        self.address_family = family
        self.connection_seconds = connection_seconds
        self._places = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._open: dict[socket.socket, float] = {}
        """When each connection was accepted, the oldest first."""
        self._lock = threading.Lock()
        super().__init__(place[:2], _Handler)  # type: ignore[arg-type]  # text and number for both families

    def server_bind(self) -> None:
        # The library's would look the host's name up, which may take long and serves nothing.
        socketserver.TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), port
        self.setup_environ()

    def get_request(self) -> tuple[Any, Any]:
        try:
            request, client_address = super().get_request()
            # Of one read or write; `service_actions` bounds the whole.
            request.settimeout(self.connection_seconds)
            return request, client_address
        except OSError:
            # The process may open no more files: the connection stays ready to be accepted, again and again.
            time.sleep(POLL_SECONDS)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self._cut_before(float("inf"), count=1)
            if not self._places.acquire(timeout=POLL_SECONDS):
                self.shutdown_request(request)
                return
        with self._lock:
            self._open[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except BaseException:
            # There was no thread to be had.
            self._leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(request)

    def service_actions(self) -> None:
        self._cut_before(time.monotonic() - self.connection_seconds)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client sent what is no HTTP, left, or was too slow: nothing that an operator should be told."""

    def server_close(self) -> None:
        super().server_close()
        self._cut_before(float("inf"))

    def _leave(self, request: socket.socket) -> None:
        with self._lock:
            self._open.pop(request, None)
        self._places.release()

    def _cut_before(self, latest: float, count: int = CONNECTIONS_MAX) -> None:
        """End up to ``count`` connections that were accepted before ``latest``, the oldest first."""
        with self._lock:
            for request, accepted in list(self._open.items())[:count]:
                if accepted > latest:
                    break
                # Its thread, which reads or writes, sees the end and closes it.
                _shut(request)


def _shut(request: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it may have ended meanwhile
        request.shutdown(socket.SHUT_RDWR)


def _one_at_a_time(app: WsgiApp) -> WsgiApp:
    lock = threading.Lock()
    next_at = 0.0

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        nonlocal next_at
        with lock:
            began = time.monotonic()
            if began < next_at:
                time.sleep(next_at - began)
                began = time.monotonic()
            try:
                return list(app(environ, start_response))
            except Exception:  # whatever a reading raises, the next scrape must be answered
                log.exception("the metrics could not be read")
                start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
                return [b"the metrics could not be read; the server's log tells why\n"]
            finally:
                now = time.monotonic()
                next_at = now + min(PAUSE_FACTOR * (now - began), PAUSE_SECONDS_MAX)

    return answer
