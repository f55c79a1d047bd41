"""Connections that carry only watches. Assigns each stream to one of them. No I/O.

A server accepts a limited number of streams per connection (256 by default). A connection that is full of watches
makes every further call wait until a watch ends, so watches never share a connection with other calls.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

C = TypeVar("C")

WATCHES_PER_CONNECTION: Final = 100
"""Maximum number of watches on one connection. Proxies and servers commonly accept 100 to 128 streams."""

IDLE_CONNECTIONS_MAX: Final = 1
"""Maximum number of open channels without a watch, kept for the next one. gRPC disconnects them after `IDLE_MS`."""

IDLE_MS: Final = 30_000
"""Time after which an unused watch connection is closed, in milliseconds."""

OPTIONS: Final[tuple[tuple[str, str | int], ...]] = (("grpc.client_idle_timeout_ms", IDLE_MS),)
"""Channel arguments of a watch connection, in addition to those that every connection of a client has."""


class WatchConnection(Generic[C]):
    """A channel and the number of watches that use it."""

    __slots__ = ("channel", "watches")

    def __init__(self, channel: C) -> None:
        self.channel = channel
        self.watches = 0


class WatchConnections(Generic[C]):
    """The watch connections of one client. Safe for any number of threads."""

    def __init__(self, connect: Callable[[], C]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._open: list[WatchConnection[C]] = []

    def acquire(self) -> WatchConnection[C]:
        """Return a connection with room for one more watch, a new one if all are full. Pass it to `release`."""
        with self._lock:
            # The first with room, so that the later ones empty and can be closed.
            found = next((c for c in self._open if c.watches < WATCHES_PER_CONNECTION), None)
            if found is None:
                found = WatchConnection(self._connect())
                self._open.append(found)
            found.watches += 1
            return found

    def release(self, connection: WatchConnection[C]) -> C | None:
        """Release the place of a watch. Returns a channel to close if too many are unused now."""
        with self._lock:
            connection.watches -= 1
            if connection.watches or connection not in self._open:
                return None
            if sum(not c.watches for c in self._open) <= IDLE_CONNECTIONS_MAX:
                return None
            self._open.remove(connection)
            return connection.channel

    def clear(self) -> list[C]:
        """Forget every connection and return the channels to close."""
        with self._lock:
            channels = [connection.channel for connection in self._open]
            self._open.clear()
            return channels

    @property
    def channels(self) -> list[C]:
        """Every open channel."""
        with self._lock:
            return [connection.channel for connection in self._open]

    @property
    def watches(self) -> list[int]:
        """Number of watches on each open connection."""
        with self._lock:
            return [connection.watches for connection in self._open]
