"""The boundary between the clients and the network: `AsyncTransport` and its blocking twin `Transport`.

A transport sends requests and returns responses. It raises the exceptions of ``perdure.errors`` and never retries. The
clients own request IDs, retries, timeouts and the meaning of messages, and import no gRPC.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol

from google.protobuf.message import Message

from perdure.client._calls import Method


class AsyncTransport(Protocol):
    """Carries the calls of an `AsyncClient`."""

    @property
    def closed(self) -> bool:
        """True after `close` was called."""
        ...

    async def unary(self, method: Method, request: Message, *, timeout: float | None) -> Any:
        """Send a request and return the response.

        ``timeout`` is in seconds. None means no limit.

        Raises:
            PerdureError: The call failed.
            RuntimeError: The transport is closed, or was closed during the call.
        """
        ...

    def stream(
        self, method: Method, request: Message, *, timeout: float | None
    ) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """Open a stream of responses. Leaving the context cancels the stream.

        Opening and iterating raise the same errors as `unary`.
        """
        ...

    async def close(self) -> None:
        """Close every connection and cancel calls in progress. Can be called several times."""
        ...


class Transport(Protocol):
    """Carries the calls of a `Client`. Any number of threads can use it."""

    @property
    def closed(self) -> bool:
        """True after `close` was called."""
        ...

    def unary(self, method: Method, request: Message, *, timeout: float | None) -> Any:
        """Send a request and return the response, as `AsyncTransport.unary` does."""
        ...

    def stream(
        self, method: Method, request: Message, *, timeout: float | None
    ) -> AbstractContextManager[Iterator[Any]]:
        """Open a stream of responses, as `AsyncTransport.stream` does."""
        ...

    def close(self) -> None:
        """Close every connection and cancel calls in progress. Can be called several times."""
        ...
