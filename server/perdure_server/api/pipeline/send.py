"""Stage: send the messages of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable

from google.protobuf.message import Message

from perdure_server.api.admission import AdmissionController, Peer
from perdure_server.api.call import ReaderTooSlowError, Transport
from perdure_server.api.errors import StreamTimeoutError


class Sender:
    """Sends the messages of one stream to its client.

    A write waits while the client's window is full. It is never cancelled: gRPC cannot send a status behind half of a
    message, so the call would never end. Instead, the handler is ended after `Limits.watch_write_seconds`. From then
    on a slow client costs one message and its place, until it reads on, leaves, or its connection gets too old.
    """

    def __init__(
        self,
        messages: AsyncGenerator[Message, None],
        transport: Transport,
        peer: Peer,
        admission: AdmissionController,
        expires_at: float | None,
    ) -> None:
        """``expires_at`` is the time of the event loop at which the stream ends. None for no limit."""
        self._messages = messages
        self._transport = transport
        self._peer = peer
        self._admission = admission
        self._expires_at = expires_at
        self._ending: asyncio.Task[bytes | None] | None = None

    async def run(self) -> None:
        """Send until the stream ends.

        Raises:
            ServerOverloadedError: too many bytes are unread.
            StreamTimeoutError: the stream has reached its time limit.
            ClientGoneError: the connection is closed.
        """
        try:
            while (out := await self._next()) is not None:
                await self._write(out)
                # The next message can take long to come. Keep nothing of this one.
                out = None
                if self._ending is not None:
                    last = await self._ending
                    if last is not None:
                        await self._write(last)
                    return
        finally:
            if self._ending is not None:
                await asyncio.wait({self._ending})

    async def _next(self) -> bytes | None:
        try:
            async with asyncio.timeout_at(self._expires_at):
                return await _encoded(anext(self._messages, None))
        except TimeoutError:
            raise StreamTimeoutError from None

    async def _write(self, out: bytes) -> None:
        admission, peer, size_bytes = self._admission, self._peer, len(out)
        admission.reserve_unread(peer, size_bytes)
        watchdog = None
        if self._ending is None:
            loop = asyncio.get_running_loop()
            watchdog = loop.call_later(admission.limits.watch_write_seconds, self._end_handler)
        try:
            await self._transport.write(out)
        finally:
            if watchdog is not None:
                watchdog.cancel()
            admission.release_unread(peer, size_bytes)

    def _end_handler(self) -> None:
        self._ending = asyncio.get_running_loop().create_task(self._last())

    async def _last(self) -> bytes | None:
        """End the handler. Returns its last message, or None."""
        try:
            return await _encoded(self._messages.athrow(ReaderTooSlowError()))
        except (StopAsyncIteration, ReaderTooSlowError):
            return None
        finally:
            await self._messages.aclose()


async def _encoded(message: Awaitable[Message | None]) -> bytes | None:
    found = await message
    return None if found is None else found.SerializeToString()
