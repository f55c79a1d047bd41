"""A TCP proxy on its own port. A test can cut its connections, and the server behind it can stop and start."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, Final, Self, TypeVar

A = TypeVar("A")

CHUNK_BYTES: Final = 64 << 10
START_SECONDS_MAX: Final = 90.0


class LoopThread:
    """An event loop in a thread of its own, for helpers of tests that block."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, A]) -> A:
        """Return what ``work`` returns on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(START_SECONDS_MAX)

    def stop(self) -> None:
        """End the loop, and with it whatever still runs on it."""
        self.run(self._cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(START_SECONDS_MAX)
        self.loop.close()

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class CuttableProxy:
    """Hands bytes on to ``upstream`` (HOST:PORT), which may change; `cut` drops every connection in mid-air."""

    def __init__(self) -> None:
        self.upstream = ""
        self.connections = 0
        self._thread = LoopThread()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server = self._thread.run(asyncio.start_server(self._serve, "127.0.0.1", 0))

    @property
    def address(self) -> str:
        """Address that clients connect to."""
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    def cut(self) -> int:
        """Drop every connection, as a network does: with a reset. Returns how many there were."""
        return self._thread.run(self._cut())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        self._thread.stop()

    async def _cut(self) -> int:
        cut = list(self._writers)
        for writer in cut:
            writer.transport.abort()
        return len(cut) // 2

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.upstream.rpartition(":")
        try:
            there, back = await asyncio.open_connection(host, int(port))
        except (OSError, ValueError):
            writer.transport.abort()
            return
        self.connections += 1
        ends = {writer, back}
        self._writers |= ends
        try:
            await asyncio.gather(self._hand_on(reader, back), self._hand_on(there, writer))
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _hand_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        # The proxy cuts connections on purpose, so a cut connection is not an error.
        with contextlib.suppress(OSError):
            while chunk := await source.read(CHUNK_BYTES):
                sink.write(chunk)
                await sink.drain()
        if not sink.transport.is_closing():
            sink.close()
