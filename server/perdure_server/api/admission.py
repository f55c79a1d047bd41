"""Admission of calls: the budgets of the whole server, and the share that one connection can take of each.

A connection is identified by the transport's name of its peer, which is host and port for TCP. Connections over a
Unix socket all have the same peer, so only the budgets of the whole server apply to them. A connection can hold at most
half of what is free besides. One connection alone therefore gets a third of a budget, and a new one finds room.

Owns: counts of calls, reads, watches and bytes. Must not: read, write or end a call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from perdure_server.api.deadlines import Deadlines
from perdure_server.api.limits import Limits
from perdure_server.runtime.errors import ServerOverloadedError, ServerStoppingError
from perdure_server.runtime.request_validation import LARGE_PAYLOAD_BYTES

SHARE_CALLS_MIN: Final = 8
"""Number of calls, lists, reads or watches that a connection can always hold, however little is free."""

SHARE_BYTES_MIN: Final = 4 << 20
"""Number of bytes that a connection can always hold, however little is free: one message of the largest size."""

IDLE_PEERS_MAX: Final = 4_096
"""Number of known connections at which all connections that hold nothing are forgotten."""


class Peer:
    """Calls, reads, watches and bytes that one connection holds."""

    __slots__ = (
        "bulk",
        "bulk_reads",
        "calls",
        "health_watches",
        "large_bytes",
        "lists",
        "reads",
        "shared",
        "unread_bytes",
        "waiting",
        "watches",
    )

    def __init__(self, *, shared: bool) -> None:
        self.shared = shared
        """True if several connections have this peer, so that shares do not apply to it."""
        self.bulk = False
        """True if its last message was large."""
        self.waiting = 0
        self.calls = 0
        self.lists = 0
        self.reads = 0
        self.bulk_reads = 0
        self.watches = 0
        self.health_watches = 0
        self.large_bytes = 0
        self.unread_bytes = 0

    def is_idle(self) -> bool:
        """Return True if the connection holds nothing."""
        return not (
            self.calls
            or self.lists
            or self.reads
            or self.waiting
            or self.watches
            or self.health_watches
            or self.unread_bytes
        )


class AdmissionController:
    """Counts the work in progress and rejects work beyond the limits. A rejection costs next to nothing.

    Belongs to one event loop.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.deadlines = Deadlines(limits.call_seconds)
        self.arrivals = Deadlines(
            limits.message_seconds, crowded=self._is_crowded, crowded_seconds=limits.crowded_message_seconds
        )
        self._turns = Deadlines(limits.read_wait_seconds)
        self.draining = False
        self.calls = 0
        self.calls_bytes = 0
        self.lists = 0
        self.large_bytes = 0
        """Bytes of the requests above `LARGE_PAYLOAD_BYTES`, until their calls end."""
        self.watches = 0
        self.health_watches = 0
        self.unread_bytes = 0
        self.reads = 0
        """Messages that are being read, of connections whose last message was small."""
        self.bulk_reads = 0
        """Messages that are being read, of connections whose last message was large."""
        self._peers: dict[str, Peer] = {}
        self._peers_max = IDLE_PEERS_MAX
        self._waiting = FairQueue()
        self._waiting_bulk = FairQueue()

    # --- connections -----------------------------------------------------------------------------------------

    @property
    def peers(self) -> int:
        """Number of connections that hold anything."""
        return sum(not peer.is_idle() for peer in self._peers.values())

    def peer_of(self, key: str) -> Peer:
        """Return the connection with this name of the transport. The names of IP connections start with ``ip``."""
        return self._peers.get(key) or self._new_peer(key)

    def _new_peer(self, key: str) -> Peer:
        peers = self._peers
        if len(peers) >= self._peers_max:
            peers = self._peers = {key: peer for key, peer in peers.items() if not peer.is_idle()}
            self._peers_max = max(IDLE_PEERS_MAX, 2 * len(peers))
        peer = peers[key] = Peer(shared=not key.startswith("ip"))
        return peer

    # --- reading ---------------------------------------------------------------------------------------------

    @property
    def waiting_reads(self) -> int:
        """Number of calls that wait until their message can be read."""
        return self._waiting.size + self._waiting_bulk.size

    def try_acquire_read(self, peer: Peer) -> bool:
        """Let a message be read if there is room. If it returns False, call `wait_for_read`.

        gRPC takes a message into memory as soon as it is asked to read one, so this limits the bytes of messages that
        are being received.
        """
        if peer.bulk:
            return False
        free = self.limits.reads_max - self.reads
        if free <= 0 or (peer.reads >= (free >> 1 or 1) and not peer.shared):
            return False
        self.reads += 1
        peer.reads += 1
        return True

    def release_read(self, peer: Peer, bulk: bool) -> None:
        """Release what `try_acquire_read` or `wait_for_read` acquired, and let the next message be read."""
        if bulk:
            self.bulk_reads -= 1
            peer.bulk_reads -= 1
        else:
            self.reads -= 1
            peer.reads -= 1
        if self._waiting.size or self._waiting_bulk.size:
            self._serve()

    def _can_read(self, peer: Peer) -> bool:
        free = self.limits.reads_max - self.reads
        return free > 0 and (peer.shared or peer.reads < max(free >> 1, 1))

    def _can_read_bulk(self, peer: Peer) -> bool:
        limits = self.limits
        free = limits.bulk_reads_max - self.bulk_reads
        return (
            free > 0
            and self.large_bytes < limits.large_bytes_max >> 1
            and (peer.shared or peer.bulk_reads < max(free >> 1, 1))
        )

    async def wait_for_read(self, peer: Peer) -> bool:
        """Wait until a message can be read. Returns the value of ``bulk`` to pass to `release_read`.

        Connections whose last message was large wait for each other, not for the rest.

        Raises:
            ServerOverloadedError: too many calls wait, or this one has waited for too long.
        """
        bulk = peer.bulk
        if bulk and self._can_read_bulk(peer):
            self.bulk_reads += 1
            peer.bulk_reads += 1
            return True
        if self.waiting_reads >= self.limits.waiting_reads_max:
            raise ServerOverloadedError(self.limits.retry_after_ms)
        queue = self._waiting_bulk if bulk else self._waiting
        turn = queue.add(peer)
        call = self._turns.enter()
        peer.waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                queue.discard(peer, turn)
            else:
                self.release_read(peer, bulk)
            if not self._turns.is_overdue():
                raise
            raise ServerOverloadedError(self.limits.retry_after_ms) from None
        finally:
            peer.waiting -= 1
            self._turns.leave(call)
        return bulk

    def _is_crowded(self) -> bool:
        return self._waiting.size > 0

    def _serve(self) -> None:
        """Let waiting calls read their messages, as far as there is room."""
        while (found := self._waiting.take(self._can_read)) is not None:
            peer, turn = found
            if not turn.cancelled():
                self.reads += 1
                peer.reads += 1
                turn.set_result(None)
        while (found := self._waiting_bulk.take(self._can_read_bulk)) is not None:
            peer, turn = found
            if not turn.cancelled():
                self.bulk_reads += 1
                peer.bulk_reads += 1
                turn.set_result(None)

    # --- calls -----------------------------------------------------------------------------------------------

    def acquire_write(self, peer: Peer, size_bytes: int) -> None:
        """Admit a call that changes something. Release it with `release_call`.

        Raises:
            ServerStoppingError: the server drains.
            ServerOverloadedError: there is no room.
        """
        if self.draining:
            raise ServerStoppingError()
        self.acquire_call(peer, size_bytes)

    def acquire_call(self, peer: Peer, size_bytes: int) -> None:
        """Admit a call whose request has ``size_bytes``. Raises `ServerOverloadedError`."""
        limits = self.limits
        free = limits.calls_max - self.calls
        if (
            free <= 0
            or self.calls_bytes + size_bytes > limits.calls_bytes_max
            or (peer.calls >= SHARE_CALLS_MIN and peer.calls >= free >> 1 and not peer.shared)
        ):
            raise ServerOverloadedError(limits.retry_after_ms)
        if size_bytes > LARGE_PAYLOAD_BYTES:
            self._acquire_large(peer, size_bytes)
        else:
            peer.bulk = False
        self.calls += 1
        self.calls_bytes += size_bytes
        peer.calls += 1

    def release_call(self, peer: Peer, size_bytes: int) -> None:
        """Release what `acquire_call` or `acquire_write` acquired."""
        self.calls -= 1
        self.calls_bytes -= size_bytes
        peer.calls -= 1
        if size_bytes > LARGE_PAYLOAD_BYTES:
            self._release_large(peer, size_bytes)

    def acquire_list(self, peer: Peer, size_bytes: int) -> None:
        """Admit a call that lists something. Lists have a limit of their own. Raises `ServerOverloadedError`."""
        limits = self.limits
        free = limits.lists_max - self.lists
        if (
            free <= 0
            or self.calls_bytes + size_bytes > limits.calls_bytes_max
            or _over_share(peer, peer.lists + 1, free, SHARE_CALLS_MIN)
        ):
            raise ServerOverloadedError(limits.retry_after_ms)
        if size_bytes > LARGE_PAYLOAD_BYTES:
            self._acquire_large(peer, size_bytes)
        else:
            peer.bulk = False
        self.lists += 1
        self.calls_bytes += size_bytes
        peer.lists += 1

    def release_list(self, peer: Peer, size_bytes: int) -> None:
        """Release what `acquire_list` acquired."""
        self.lists -= 1
        self.calls_bytes -= size_bytes
        peer.lists -= 1
        if size_bytes > LARGE_PAYLOAD_BYTES:
            self._release_large(peer, size_bytes)

    def _release_large(self, peer: Peer, size_bytes: int) -> None:
        self.large_bytes -= size_bytes
        peer.large_bytes -= size_bytes
        if self._waiting_bulk.size:
            self._serve()

    def _acquire_large(self, peer: Peer, size_bytes: int) -> None:
        peer.bulk = not peer.shared
        free = self.limits.large_bytes_max - self.large_bytes
        if size_bytes > free or _over_share(peer, peer.large_bytes + size_bytes, free, SHARE_BYTES_MIN):
            raise ServerOverloadedError(self.limits.retry_after_ms)
        self.large_bytes += size_bytes
        peer.large_bytes += size_bytes

    # --- watches ---------------------------------------------------------------------------------------------

    def acquire_watch(self, peer: Peer) -> None:
        """Admit a watch. Raises `ServerStoppingError` or `ServerOverloadedError`."""
        if self.draining:
            raise ServerStoppingError()
        free = self.limits.watches_max - self.watches
        if free <= 0 or _over_share(peer, peer.watches + 1, free, SHARE_CALLS_MIN):
            raise ServerOverloadedError(self.limits.retry_after_ms)
        self.watches += 1
        peer.watches += 1

    def release_watch(self, peer: Peer) -> None:
        """Release what `acquire_watch` acquired."""
        self.watches -= 1
        peer.watches -= 1

    def acquire_health_watch(self, peer: Peer) -> bool:
        """Admit a watch of the health service. Returns False if there is no room."""
        free = self.limits.health_watches_max - self.health_watches
        if free <= 0 or _over_share(peer, peer.health_watches + 1, free, SHARE_CALLS_MIN):
            return False
        self.health_watches += 1
        peer.health_watches += 1
        return True

    def release_health_watch(self, peer: Peer) -> None:
        """Release what `acquire_health_watch` acquired."""
        self.health_watches -= 1
        peer.health_watches -= 1

    # --- responses -------------------------------------------------------------------------------------------

    def reserve_unread(self, peer: Peer, size_bytes: int) -> None:
        """Count a response that its client has not read yet. Raises `ServerOverloadedError`."""
        free = self.limits.unread_bytes_max - self.unread_bytes
        if size_bytes > free or _over_share(peer, peer.unread_bytes + size_bytes, free, SHARE_BYTES_MIN):
            raise ServerOverloadedError(self.limits.retry_after_ms)
        self.unread_bytes += size_bytes
        peer.unread_bytes += size_bytes

    def release_unread(self, peer: Peer, size_bytes: int) -> None:
        """Stop counting a response that was read, or whose call has ended."""
        self.unread_bytes -= size_bytes
        peer.unread_bytes -= size_bytes

    def reserve_unread_until_done(
        self, peer: Peer, size_bytes: int, add_done_callback: Callable[[Callable[[Any], None]], None]
    ) -> None:
        """Count the response of a call until its client has read it or is gone.

        ``add_done_callback`` registers a function that the transport calls then. Raises `ServerOverloadedError`.
        """
        self.reserve_unread(peer, size_bytes)
        add_done_callback(lambda _: self.release_unread(peer, size_bytes))


class FairQueue:
    """Waiting calls by connection. Connections take turns, and the calls of a connection are served in order."""

    __slots__ = ("_by_peer", "size")

    def __init__(self) -> None:
        self._by_peer: dict[Peer, deque[asyncio.Future[None]]] = {}
        self.size = 0
        """Number of waiting calls. It is an attribute because every message reads it, and `__len__` would be a call."""

    def add(self, peer: Peer) -> asyncio.Future[None]:
        """Add a call. Returns a future that is resolved when it is the call's turn."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._by_peer.setdefault(peer, deque()).append(turn)
        self.size += 1
        return turn

    def take(self, can: Callable[[Peer], bool]) -> tuple[Peer, asyncio.Future[None]] | None:
        """Remove and return the next call of a connection for which ``can`` holds. None if there is none."""
        peer = next(filter(can, self._by_peer), None)
        if peer is None:
            return None
        turns = self._by_peer.pop(peer)
        turn = turns.popleft()
        self.size -= 1
        if turns:
            self._by_peer[peer] = turns
        return peer, turn

    def discard(self, peer: Peer, turn: asyncio.Future[None]) -> None:
        """Remove a call that no longer waits."""
        turns = self._by_peer.get(peer)
        if turns is None or turn not in turns:
            return
        turns.remove(turn)
        self.size -= 1
        if not turns:
            del self._by_peer[peer]


def _over_share(peer: Peer, wanted: int, free: int, least: int) -> bool:
    """Return True if a connection that wants to hold that much leaves too little to the others."""
    return not peer.shared and wanted > max(free >> 1, least)
