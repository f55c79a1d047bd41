"""HTTP/2 frames built by hand, for clients that misbehave in ways that no library supports.

Owns: framing and one raw connection. Must not: judge the responses of a server.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA: Final = 0
HEADERS: Final = 1
RST_STREAM: Final = 3
SETTINGS: Final = 4
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8

END_STREAM: Final = 1
END_HEADERS: Final = 4
ACK: Final = 1

MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4

CANCEL: Final = 8
FRAME_HEADER_BYTES: Final = 9
FRAME_BYTES_MAX: Final = 16_384
WINDOW_BYTES_MAX: Final = (1 << 31) - 1 - 65_535


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    """Return one frame."""
    return len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body


def settings(**values: int) -> bytes:
    """Return a SETTINGS frame, such as ``settings(INITIAL_WINDOW_SIZE=0)``."""
    pairs = (globals()[name].to_bytes(2) + value.to_bytes(4) for name, value in values.items())
    return frame(SETTINGS, 0, 0, b"".join(pairs))


def window_update(stream: int, size_bytes: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, size_bytes.to_bytes(4))


def reset(stream: int) -> bytes:
    return frame(RST_STREAM, 0, stream, CANCEL.to_bytes(4))


def headers(stream: int, path: str, extra: Iterable[tuple[str, str]] = ()) -> bytes:
    """Return the HEADERS frame of a gRPC call, without any compression."""
    fields = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *extra,
    )
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)
    return frame(HEADERS, END_HEADERS, stream, block)


def message(stream: int, body: bytes, *, last: bool = True) -> bytes:
    """Return the DATA frames of a gRPC message."""
    data = b"\0" + len(body).to_bytes(4) + body
    parts = [data[at : at + FRAME_BYTES_MAX] for at in range(0, len(data), FRAME_BYTES_MAX)]
    flags = [0] * (len(parts) - 1) + [END_STREAM if last else 0]
    return b"".join(frame(DATA, flag, stream, part) for flag, part in zip(flags, parts, strict=True))


def call(stream: int, path: str, body: bytes) -> bytes:
    """Return the frames of a whole gRPC call."""
    return headers(stream, path) + message(stream, body)


def streams(count: int, first: int = 1) -> Iterator[int]:
    """Yield the stream IDs of a client, odd numbers from ``first`` on."""
    return iter(range(first, first + 2 * count, 2))


class Connection:
    """A raw connection that counts the frames it receives by type."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.received: dict[int, int] = {}
        self.settings: dict[int, int] = {}
        self.ended = asyncio.Event()
        """Set once the server has closed the connection."""
        self._task = asyncio.create_task(self._read())

    async def send(self, data: bytes) -> None:
        """Send bytes. Raises ``ConnectionError`` once the server has closed the connection."""
        if self.ended.is_set():
            raise ConnectionResetError("the server has closed the connection")
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        self._task.cancel()
        self._writer.close()
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await self._writer.wait_closed()

    async def _read(self) -> None:
        try:
            while True:
                head = await self._reader.readexactly(FRAME_HEADER_BYTES)
                body = await self._reader.readexactly(int.from_bytes(head[:3]))
                kind = head[3]
                self.received[kind] = self.received.get(kind, 0) + 1
                if kind in {SETTINGS, PING} and not head[4] & ACK:
                    if kind == SETTINGS:
                        for at in range(0, len(body), 6):
                            self.settings[int.from_bytes(body[at : at + 2])] = int.from_bytes(
                                body[at + 2 : at + 6]
                            )
                    self._writer.write(frame(kind, ACK, 0, b"" if kind == SETTINGS else body))
        except (ConnectionError, asyncio.IncompleteReadError):
            self.ended.set()


@contextlib.asynccontextmanager
async def connected(address: str, first: bytes = b"") -> AsyncIterator[Connection]:
    """Open a raw connection to HOST:PORT and send the preface, then ``first`` (a SETTINGS frame by default)."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    connection = Connection(reader, writer)
    try:
        await connection.send(PREFACE + (first or settings()))
        yield connection
    finally:
        await connection.close()


def _text(value: str) -> bytes:
    data = value.encode()
    size = len(data)
    if size < 127:
        return bytes([size]) + data
    # An integer of more than seven bits, RFC 7541, section 5.1.
    size -= 127
    head = b"\x7f"
    while size >= 128:
        head += bytes([size % 128 + 128])
        size //= 128
    return head + bytes([size]) + data
