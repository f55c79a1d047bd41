"""Every bound of the gRPC face, in one table. The SDKs' keepalive is chosen to fit it."""

from __future__ import annotations

import resource
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

FILES_RAISED_MAX: Final = 1 << 20
"""Highest limit of open files that the server sets for itself. Some systems allow a billion, and programs that a step
starts inherit the limit: old ones close that many descriptors one by one.
"""

RPCS_SPARE: Final = 500
"""How many calls grpc may hold beyond those that the gate counts: those that are being refused, and reflection's."""

FILES_KEPT: Final = 256
"""How many of the files that the process may open are not for connections: the database's, and those of steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one server. Sizes are in bytes, times in what their names say."""

    message_bytes_max: int = 4 << 20
    calls_max: int = 512
    """How many unary calls are under way at once; the next is refused as OVERLOADED. It is several times what a busy
    server has in its hands, and few enough that each is answered within a fraction of a second.
    """
    lists_max: int = 32
    """Maximum number of List calls at once. They are counted apart from other calls, so that expensive reads never
    take the place of a cheap call.
    """
    pending_calls_max: int = 1_000
    """How many calls wait in gRPC's core until a handler has its turn: half a second's work. It drops the rest at once,
    as CANCELLED and without a reason, which every SDK repeats. To refuse them in words would cost more than half of
    what it costs to serve them.
    """
    calls_bytes_max: int = 64 << 20
    """Maximum size in bytes of the requests of those calls together."""
    large_bytes_max: int = 32 << 20
    """Maximum size in bytes of the requests above 64 KiB among them. From half of it on, connections whose last message
    was large wait until a message is read.
    """
    reads_max: int = 64
    """Maximum number of messages that are read at the same time. gRPC holds each in memory while it arrives, up to
    `message_bytes_max`.
    """
    bulk_reads_max: int = 8
    """Maximum number of messages, in addition, of connections whose last message was larger than 64 KiB."""
    waiting_reads_max: int = 2_000
    """Maximum number of calls that wait until their message is read. Further calls are rejected as OVERLOADED."""
    read_wait_seconds: float = 10.0
    """Maximum time that a call waits until its message is read. Then it is rejected as OVERLOADED."""
    watches_max: int = 5_000
    unread_bytes_max: int = 128 << 20
    """How many bytes of answers wait for their clients to read them; a call or a watch whose answer would add to more
    is ended as OVERLOADED. Each costs twice its size and more.
    """
    message_seconds: float = 10.0
    """Maximum time from the headers of a call to the end of its message."""
    crowded_message_seconds: float = 2.0
    """The same while other calls wait until their messages are read."""
    health_watches_max: int = 200
    retry_after_ms: int = 250
    """What a refused caller is told to wait."""
    call_seconds: float = 30.0
    """The deadline of a call that brings none."""
    watch_seconds: float = 3_600.0
    """The deadline of a watch that brings none."""
    watch_write_seconds: float = 60.0
    """How long a watcher may leave a message unread before its watch is ended."""
    ping_interval_ms_min: int = 10_000
    """How often a client may ping; more often ends its connection."""
    keepalive_ms: int = 60_000
    keepalive_timeout_ms: int = 20_000
    connection_ms_max: int = 3_600_000
    connection_grace_ms: int = 3_600_000
    """After how long clients are asked to connect anew (they then find new replicas), and after how much longer the old
    connection is cut. It is what ends a watcher that stays connected and never reads.
    """
    handshake_ms: int = 20_000
    """How long a new connection may take until it speaks HTTP/2."""
    connections_max: int = 8_000
    """How many connections are open at once, if the process may open that many files; further ones are closed."""
    connection_idle_ms_max: int = 120_000
    """Maximum time that a connection stays open without a call or watch. Clients reconnect at their next call."""
    streams_max: int = 256
    """Maximum number of open calls on one connection. HTTP/2 clients learn it and hold back further calls.

    gRPC rejects calls of a connection that has more, cancelled ones included until the server has cleaned up after
    them. With 1,024, a client that resets calls in a loop gets the calls of others rejected. With 128 or 256 it does
    not. With 128, clients with more than 90 calls in flight saw rejections, since the server cleans up with a delay.
    """
    metadata_bytes_max: int = 16 << 10

    def rpcs_max(self) -> int:
        """Return how many calls of all kinds there may be, so that the gate, which refuses in words, comes first."""
        return (
            self.calls_max
            + self.lists_max
            + self.watches_max
            + self.reads_max
            + self.bulk_reads_max
            + self.waiting_reads_max
            + self.health_watches_max
            + RPCS_SPARE
        )

    def connections(self) -> int:
        """Return how many connections there may really be."""
        files_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files_max == resource.RLIM_INFINITY:
            return self.connections_max
        return min(self.connections_max, max(files_max - FILES_KEPT, files_max // 2))

    def channel_options(self) -> list[tuple[str, Any]]:
        """Return the options of the server's transport."""
        return [
            # With port sharing, a second server on the same port would go unnoticed and take half of the calls.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", self.message_bytes_max),
            ("grpc.max_send_message_length", self.message_bytes_max),
            ("grpc.max_metadata_size", self.metadata_bytes_max),
            ("grpc.server.max_pending_requests", self.pending_calls_max),
            ("grpc.server.max_pending_requests_hard_limit", self.pending_calls_max),
            ("grpc.keepalive_time_ms", self.keepalive_ms),
            ("grpc.keepalive_timeout_ms", self.keepalive_timeout_ms),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", self.ping_interval_ms_min),
            ("grpc.http2.max_ping_strikes", 2),
            ("grpc.max_allowed_incoming_connections", self.connections()),
            ("grpc.max_connection_idle_ms", self.connection_idle_ms_max),
            ("grpc.max_concurrent_streams", self.streams_max),
            # The probe lets the windows grow with the bandwidth. Without it, a connection holds at most 64 KiB that no
            # call has asked for.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.server_handshake_timeout_ms", self.handshake_ms),
            ("grpc.max_connection_age_ms", self.connection_ms_max),
            ("grpc.max_connection_age_grace_ms", self.connection_grace_ms),
        ]


HEALTH_LIMITS: Final = Limits(
    message_bytes_max=64 << 10,
    calls_max=64,
    pending_calls_max=256,
    watches_max=0,
    reads_max=32,
    bulk_reads_max=1,
    waiting_reads_max=64,
    health_watches_max=100,
    connections_max=64,
    connection_idle_ms_max=10_000,
    streams_max=16,
)
"""The bounds of the health listener. Its connections are few and short, and taken from `FILES_KEPT`."""


def raise_file_limit() -> None:
    """Raise the process's limit of open files to what the system allows, at most `FILES_RAISED_MAX`.

    Each connection is an open file, and many systems start processes with a limit of 1,024.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_RAISED_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_RAISED_MAX)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    # Sandboxes can forbid it. The limit of connections follows the limit of files in any case.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
