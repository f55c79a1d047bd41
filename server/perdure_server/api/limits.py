"""All limits of the API, in one table. The keepalive settings of the SDKs fit them."""

from __future__ import annotations

import resource
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

FILES_RAISED_MAX: Final = 1 << 20
"""Maximum number of open files that the server sets for itself.

Some systems allow a billion. Programs that a step starts inherit the limit, and old ones close that many descriptors
one by one.
"""

RPCS_SPARE: Final = 500
"""Number of calls in gRPC beyond the admitted ones: calls that are being rejected, and calls of reflection."""

FILES_KEPT: Final = 256
"""Number of open files that are reserved for the database and for steps, and not used for connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one server. The names have the units."""

    message_bytes_max: int = 4 << 20
    """Maximum size of a message in bytes."""
    calls_max: int = 512
    """Maximum number of unary calls at once. Further calls are rejected as OVERLOADED.

    It is several times the number of calls on a busy server, and small enough that each is answered within a fraction
    of a second.
    """
    lists_max: int = 32
    """Maximum number of List calls at once. They do not count as other calls, so that expensive reads never take the
    place of a cheap call.
    """
    pending_calls_max: int = 1_000
    """Maximum number of calls queued in gRPC until their handler starts, which is the work of half a second.

    gRPC ends further calls at once, as CANCELLED and without a reason. SDKs retry them. A rejection with a reason would
    cost more than half of the call itself.
    """
    calls_bytes_max: int = 64 << 20
    """Maximum total size in bytes of the requests of all admitted calls."""
    large_bytes_max: int = 32 << 20
    """Maximum total size in bytes of the requests above 64 KiB among them. Above half of it, connections whose last
    request was large wait before their next request is read.
    """
    reads_max: int = 64
    """Maximum number of requests that are read at the same time. gRPC holds each in memory while it arrives, up to
    `message_bytes_max`.
    """
    bulk_reads_max: int = 8
    """Maximum number of additional requests, of connections whose last request was larger than 64 KiB."""
    waiting_reads_max: int = 2_000
    """Maximum number of calls that wait until their request is read. Further calls are rejected as OVERLOADED."""
    read_wait_seconds: float = 10.0
    """Maximum time that a call waits until its request is read. Then it is rejected as OVERLOADED."""
    watches_max: int = 5_000
    """Maximum number of watches at once. Further watches are rejected as OVERLOADED."""
    unread_bytes_max: int = 128 << 20
    """Maximum total size in bytes of the responses that clients have not read yet. Calls and watches whose response
    would exceed it end as OVERLOADED. A response takes at least twice its size in memory.
    """
    message_seconds: float = 10.0
    """Maximum time from the headers of a call to the end of its request."""
    crowded_message_seconds: float = 2.0
    """Maximum time from the headers to the end of the request while other calls wait until theirs are read."""
    health_watches_max: int = 200
    """Maximum number of watches of the health service at once."""
    retry_after_ms: int = 250
    """Pause before a call that was rejected as OVERLOADED is retried."""
    call_seconds: float = 30.0
    """Maximum duration of a unary call without a deadline."""
    watch_seconds: float = 3_600.0
    """Maximum duration of a watch without a deadline."""
    watch_write_seconds: float = 60.0
    """Maximum time that a client can leave a message of a watch unread. Then the watch ends with TOO_SLOW."""
    ping_interval_ms_min: int = 10_000
    """Minimum time between two pings of a client. The connection of a client that pings more often is closed."""
    keepalive_ms: int = 60_000
    """Time without traffic on a connection after which the server sends a ping."""
    keepalive_timeout_ms: int = 20_000
    """Time after which a connection is closed if a ping is not answered."""
    connection_ms_max: int = 3_600_000
    """Age of a connection at which its client is asked to connect again, so that clients find new replicas."""
    connection_grace_ms: int = 3_600_000
    """Time after `connection_ms_max` at which the connection is closed. This ends watches whose clients never read."""
    handshake_ms: int = 20_000
    """Maximum time from a new connection to the end of its HTTP/2 handshake."""
    connections_max: int = 8_000
    """Maximum number of open connections, if the process can open that many files. Further ones are closed."""
    connection_idle_ms_max: int = 120_000
    """Maximum time that a connection stays open without a call or watch. Clients reconnect at their next call."""
    streams_max: int = 256
    """Maximum number of open calls on one connection. HTTP/2 clients know it and queue further calls.

    gRPC counts cancelled calls until the server has cleaned up after them, and rejects calls above the limit. With
    1,024, a client that resets calls in a loop causes rejections of other calls. With 128 or 256 it does not. With 128,
    clients with more than 90 calls in flight saw rejections, because the cleanup is delayed.
    """
    metadata_bytes_max: int = 16 << 10
    """Maximum size in bytes of the metadata of a call."""

    def rpcs_max(self) -> int:
        """Return the maximum number of calls of all kinds in gRPC.

        It is higher than all other limits together, so that they apply first. They reject calls with a reason.
        """
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
        """Return the maximum number of connections that the limit of open files allows."""
        files_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files_max == resource.RLIM_INFINITY:
            return self.connections_max
        return min(self.connections_max, max(files_max - FILES_KEPT, files_max // 2))

    def channel_options(self) -> list[tuple[str, Any]]:
        """Return the options of the server's transport."""
        return [
            # With port sharing, a second server on the port would start without an error and get half of the calls.
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
            # The probe lets windows grow with the bandwidth. Without it, a connection buffers at most 64 KiB that no
            # call has requested.
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
"""The limits of the health listener. Its connections are few and short, and count towards `FILES_KEPT`."""


def raise_file_limit() -> None:
    """Raise the limit of open files to the one that the system allows, at most `FILES_RAISED_MAX`.

    Each connection is an open file, and many systems start processes with a limit of 1,024.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_RAISED_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_RAISED_MAX)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    # Sandboxes can forbid this. The number of connections follows the limit of open files in any case.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
