"""Settings of gRPC channels: target, TLS, keepalive, limits. Both transports use them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from perdure.client._arguments import invalid
from perdure.model.issues import show

KEEPALIVE_MS: Final = 30_000
"""Idle time in milliseconds after which a connection with open calls is pinged. Servers allow one ping per 10 s."""
KEEPALIVE_TIMEOUT_MS: Final = 10_000
"""Time in milliseconds to wait for the response to a ping before the connection counts as lost."""
RECONNECT_MS_MIN: Final = 100
"""Minimum pause before a lost connection is opened again, in milliseconds."""
RECONNECT_MS_MAX: Final = 5_000
"""Maximum pause before a lost connection is opened again, in milliseconds."""
RECEIVE_BYTES_MAX: Final = 16 << 20
"""Maximum size of a response: 16 MiB. The payloads of an instance are at most 3 MiB."""

SOCKET_PATH_BYTES_MAX: Final = 107
"""Maximum length of the path of a Unix socket, in bytes."""
PORT_MAX: Final = 65_535
_METADATA_KEY: Final = re.compile(r"[0-9A-Za-z_.-]+")
_METADATA_VALUE: Final = re.compile(r"[\x20-\x7e]*")

Pem = bytes | str | Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """TLS settings of a client. Each PEM is given as bytes, or as the path of a file.

    Attributes:
        ca: Certificate authorities to trust. Default: gRPC's own roots.
        cert: Client certificate, for servers that require one. Needs ``key``.
        key: Private key of the client certificate.
        server_name: Name in the server's certificate, if it differs from the target.

    Raises:
        ValueError: Only one of ``cert`` and ``key`` is given.
    """

    ca: Pem | None = None
    cert: Pem | None = None
    key: Pem | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ValueError("a client certificate needs both cert= and key=")

    def __repr__(self) -> str:
        # The key can be given as bytes and must not appear in logs.
        given = [name for name in ("ca", "cert", "key") if getattr(self, name) is not None]
        return f"TlsOptions({', '.join([*(f'{name}=...' for name in given), f'server_name={self.server_name!r}'])})"

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files and return the credentials of a channel.

        Raises:
            OSError: A file cannot be read.
        """
        return grpc.ssl_channel_credentials(
            root_certificates=_pem(self.ca), private_key=_pem(self.key), certificate_chain=_pem(self.cert)
        )


def check_target(target: str) -> None:
    """Check that a target is HOST:PORT or unix:PATH. gRPC would look up anything else as a host name.

    Raises:
        ValueError: The target has another form.
    """
    hint = "write HOST:PORT, like 127.0.0.1:7420, or unix:PATH"
    given: object = target
    if not isinstance(given, str):
        raise invalid("target", f"must be a string such as 127.0.0.1:7420, not {type(given).__name__}")
    if target.startswith(("http://", "https://")):
        raise ValueError(f"the target {target!r} is a URL; {hint}, and pass tls= for TLS")
    if ":" not in target:
        raise ValueError(f"the target {target!r} has no port; {hint}")
    port = target.rpartition(":")[2]
    if (
        port.isascii()
        and port.isdigit()
        and not target.startswith("unix")
        and not 0 < int(port[:9]) <= PORT_MAX
    ):
        # gRPC would connect to the port modulo 65,536.
        raise ValueError(f"the target {target!r} has a port out of range; use 1 to {PORT_MAX}")
    if target.startswith("unix:"):
        path = target.removeprefix("unix:")
        size_bytes = len(path.removeprefix("//").encode())
        if not 0 < size_bytes <= SOCKET_PATH_BYTES_MAX:
            raise ValueError(
                f"the socket path of the target {target!r} has {size_bytes} bytes; it must have 1 to "
                f"{SOCKET_PATH_BYTES_MAX}, like unix:/run/perdure.sock"
            )


def channel_options(target: str, tls: TlsOptions | None) -> list[tuple[str, str | int]]:
    """Return the arguments of a channel.

    Raises:
        ValueError: The target is invalid.
    """
    check_target(target)
    options: list[tuple[str, str | int]] = [
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 0),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS_MIN),
        ("grpc.min_reconnect_backoff_ms", RECONNECT_MS_MAX),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_MS_MAX),
        ("grpc.max_receive_message_length", RECEIVE_BYTES_MAX),
        ("grpc.primary_user_agent", "perdure-python"),
        # By default, channels with equal arguments share one connection. Then another client's watches, or a parent
        # process's calls, would use up the streams of this one.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if is_loopback(target):
        # An http_proxy in the environment does not apply to this machine.
        options.append(("grpc.enable_http_proxy", 0))
    if tls is not None and tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


def is_loopback(target: str) -> bool:
    """Return True if a target is on this machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    host = target.rpartition("/")[2].rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def metadata_of(
    metadata: Mapping[str, str] | Iterable[tuple[str, str]] | None,
) -> tuple[tuple[str, str], ...]:
    """Return the gRPC metadata of every call, with lower-case keys as gRPC requires.

    Raises:
        InvalidFieldError: A key or a value is not valid gRPC metadata.
    """
    try:
        pairs = list(metadata.items() if isinstance(metadata, Mapping) else metadata or ())
        given: list[tuple[object, object]] = [(key, value) for key, value in pairs]
    except (TypeError, ValueError):
        raise invalid("metadata", "must be a mapping or pairs of strings") from None
    for key, value in given:
        if not isinstance(key, str) or not _METADATA_KEY.fullmatch(key):
            raise invalid(
                "metadata", f"must have keys of ASCII letters, digits and _ - . only, not {show(key)}"
            )
        is_binary = key.lower().endswith("-bin")
        if is_binary != isinstance(value, bytes) or not isinstance(value, (str, bytes)):
            raise invalid(
                "metadata", f"must have a value of {'bytes' if is_binary else 'text'} for {show(key)}"
            )
        if isinstance(value, str) and not _METADATA_VALUE.fullmatch(value):
            # The value can be a secret, so it is not repeated.
            raise invalid("metadata", f"must have a value of printable ASCII characters for {show(key)}")
    return tuple((key.lower(), value) for key, value in pairs)


def _pem(source: Pem | None) -> bytes | None:
    match source:
        case None | bytes():
            return source
        case str() | Path():
            return Path(source).read_bytes()
