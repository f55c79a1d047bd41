"""Admission of calls: the budgets of the whole server, and the share that one connection can take of each.

A connection is identified by ``context.peer()``, which is host and port for TCP. Connections over a Unix socket all
have the same peer, so only the budgets of the whole server apply to them. A connection can hold at most half of what is
free besides, so one connection alone gets a third of a budget, and a newcomer finds room.

Owns: counts of calls, reads, watches and bytes. Must not: read, write or end a call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import grpc

from perdure_server.api.call_counters import CallCounters
from perdure_server.api.deadlines import Deadlines
from perdure_server.api.limits import Limits
from perdure_server.runtime.errors import ServerOverloadedError, ServerStoppingError
from perdure_server.runtime.request_validation import LARGE_PAYLOAD_BYTES

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

SHARE_CALLS_MIN: Final = 8
"""Number of calls, lists, reads or watches that a connection can hold however little is free."""

SHARE_BYTES_MIN: Final = 4 << 20
"""Number of bytes that a connection can hold however little is free: one message of the largest size."""

IDLE_PEERS_MAX: Final = 4_096
"""Number of connections from which on those that hold nothing are forgotten, all at once."""


class Peer:
    """Calls, reads, watches and bytes that one connection holds."""

    __slots__ = (
        "bulk",
        "bulk_reads",
        "calls",
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
        """Several connections have this peer, so that it has no share of its own."""
        self.bulk = False
        """Its last message was large."""
        self.waiting = 0
        self.calls = 0
        self.lists = 0
        self.reads = 0
        self.bulk_reads = 0
        self.watches = 0
        self.large_bytes = 0
        self.unread_bytes = 0

    def is_idle(self) -> bool:
        """Return True if it holds nothing."""
        return not (
            self.calls or self.lists or self.reads or self.waiting or self.watches or self.unread_bytes
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
        self.call_counters: dict[str, CallCounters] = {}
        """Number of ended calls by RPC and result."""
        self._peers: dict[str, Peer] = {}
        self._peers_max = IDLE_PEERS_MAX
        self._waiting = FairQueue()
        self._waiting_bulk = FairQueue()

    # --- connections -----------------------------------------------------------------------------------------

    @property
    def peers(self) -> int:
        """Number of connections that hold anything."""
        return sum(not peer.is_idle() for peer in self._peers.values())

    def peer_of(self, context: Context) -> Peer:
        """Return the connection of a call."""
        key = context.peer()
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

    def try_read(self, peer: Peer) -> bool:
        """Let a message be read if there is room. Returns False if not, and `wait_to_read` is next.

        gRPC takes a message into memory as soon as it is asked to read one, so this bounds the bytes of messages that
        are on their way.
        """
        if peer.bulk:
            return False
        free = self.limits.reads_max - self.reads
        if free <= 0 or (peer.reads >= (free >> 1 or 1) and not peer.shared):
            return False
        self.reads += 1
        peer.reads += 1
        return True

    def leave_read(self, peer: Peer, *, bulk: bool) -> None:
        """Let the next message be read."""
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

    async def wait_to_read(self, peer: Peer) -> bool:
        """Wait until a message can be read. Returns the value to pass to `leave_read`.

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
                self.leave_read(peer, bulk=bulk)
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
        """Give the calls that wait their turn, as far as there is room."""
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

    def enter(self, peer: Peer, size_bytes: int, *, mutating: bool) -> None:
        """Let a call in. Raises `ServerStoppingError` or `ServerOverloadedError`."""
        if self.draining and mutating:
            raise ServerStoppingError()
        limits = self.limits
        free = limits.calls_max - self.calls
        if (
            free <= 0
            or self.calls_bytes + size_bytes > limits.calls_bytes_max
            or (peer.calls >= SHARE_CALLS_MIN and peer.calls >= free >> 1 and not peer.shared)
        ):
            raise ServerOverloadedError(limits.retry_after_ms)
        if size_bytes > LARGE_PAYLOAD_BYTES:
            self._enter_large(peer, size_bytes)
        else:
            peer.bulk = False
        self.calls += 1
        self.calls_bytes += size_bytes
        peer.calls += 1

    def leave(self, peer: Peer, size_bytes: int) -> None:
        """Let a call out again."""
        self.calls -= 1
        self.calls_bytes -= size_bytes
        peer.calls -= 1
        if size_bytes > LARGE_PAYLOAD_BYTES:
            self._leave_large(peer, size_bytes)

    def enter_list(self, peer: Peer, size_bytes: int, *, mutating: bool) -> None:
        """Let a call in that lists something. Raises `ServerOverloadedError`. Lists have a limit of their own.

        A list does not change anything, so it is served during a drain.
        """
        assert not mutating
        limits = self.limits
        free = limits.lists_max - self.lists
        if (
            free <= 0
            or self.calls_bytes + size_bytes > limits.calls_bytes_max
            or _over_share(peer, peer.lists + 1, free, SHARE_CALLS_MIN)
        ):
            raise ServerOverloadedError(limits.retry_after_ms)
        if size_bytes > LARGE_PAYLOAD_BYTES:
            self._enter_large(peer, size_bytes)
        else:
            peer.bulk = False
        self.lists += 1
        self.calls_bytes += size_bytes
        peer.lists += 1

    def leave_list(self, peer: Peer, size_bytes: int) -> None:
        """Release what `enter_list` took."""
        self.lists -= 1
        self.calls_bytes -= size_bytes
        peer.lists -= 1
        if size_bytes > LARGE_PAYLOAD_BYTES:
            self._leave_large(peer, size_bytes)

    def _leave_large(self, peer: Peer, size_bytes: int) -> None:
        self.large_bytes -= size_bytes
        peer.large_bytes -= size_bytes
        if self._waiting_bulk.size:
            self._serve()

    def _enter_large(self, peer: Peer, size_bytes: int) -> None:
        peer.bulk = not peer.shared
        free = self.limits.large_bytes_max - self.large_bytes
        if size_bytes > free or _over_share(peer, peer.large_bytes + size_bytes, free, SHARE_BYTES_MIN):
            raise ServerOverloadedError(self.limits.retry_after_ms)
        self.large_bytes += size_bytes
        peer.large_bytes += size_bytes

    # --- watches ---------------------------------------------------------------------------------------------

    def enter_watch(self, peer: Peer) -> None:
        """Let a watch in. Raises `ServerStoppingError` or `ServerOverloadedError`."""
        if self.draining:
            raise ServerStoppingError()
        free = self.limits.watches_max - self.watches
        if free <= 0 or _over_share(peer, peer.watches + 1, free, SHARE_CALLS_MIN):
            raise ServerOverloadedError(self.limits.retry_after_ms)
        self.watches += 1
        peer.watches += 1

    def leave_watch(self, peer: Peer) -> None:
        """Let a watch out again."""
        self.watches -= 1
        peer.watches -= 1

    def enter_health_watch(self, peer: Peer) -> bool:
        """Let a watch of the health service in. Returns False if there is no room."""
        free = self.limits.health_watches_max - self.health_watches
        if free <= 0 or _over_share(peer, peer.watches + 1, free, SHARE_CALLS_MIN):
            return False
        self.health_watches += 1
        peer.watches += 1
        return True

    def leave_health_watch(self, peer: Peer) -> None:
        """Let a watch of the health service out again."""
        self.health_watches -= 1
        peer.watches -= 1

    # --- responses -------------------------------------------------------------------------------------------

    def hold(self, peer: Peer, size_bytes: int) -> None:
        """Count a response that its client has not read yet. Raises `ServerOverloadedError`."""
        free = self.limits.unread_bytes_max - self.unread_bytes
        if size_bytes > free or _over_share(peer, peer.unread_bytes + size_bytes, free, SHARE_BYTES_MIN):
            raise ServerOverloadedError(self.limits.retry_after_ms)
        self.unread_bytes += size_bytes
        peer.unread_bytes += size_bytes

    def let_go(self, peer: Peer, size_bytes: int) -> None:
        """Stop counting a response that was read, or whose call has ended."""
        self.unread_bytes -= size_bytes
        peer.unread_bytes -= size_bytes

    def hold_until_done(self, peer: Peer, size_bytes: int, context: Context) -> None:
        """Count a call's only response until its client has read it or is gone. Raises `ServerOverloadedError`."""
        self.hold(peer, size_bytes)
        # The stubs want a class here that only grpc can make.
        context.add_done_callback(lambda _: self.let_go(peer, size_bytes))  # type: ignore[arg-type]


class FairQueue:
    """Waiting calls by connection. Connections take turns, the calls of one are served in order."""

    __slots__ = ("_by_peer", "size")

    def __init__(self) -> None:
        self._by_peer: dict[Peer, deque[asyncio.Future[None]]] = {}
        self.size = 0
        """Number of waiting calls. A plain attribute: each message asks for it, and `__len__` would be a call."""

    def add(self, peer: Peer) -> asyncio.Future[None]:
        """Add a call and return the future that is resolved at its turn."""
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
