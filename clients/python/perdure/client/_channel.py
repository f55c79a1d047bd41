"""How a channel is opened: TLS, keepalive, limits. The same for both clients."""

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

DEFAULT_TARGET: Final = "127.0.0.1:7420"

KEEPALIVE_MS: Final = 30_000
"""After how long a silence a connection with open calls is pinged. Servers allow one ping each 10 s (a test)."""
KEEPALIVE_TIMEOUT_MS: Final = 10_000
"""How long the answer to a ping may take before the connection counts as lost."""
RECONNECT_MS_MIN: Final = 100
RECONNECT_MS_MAX: Final = 5_000
"""Between which pauses a lost connection is dialled again."""
RECEIVE_BYTES_MAX: Final = 16 << 20
"""Above anything that a server sends: an instance's payloads are at most 3 MiB."""

SOCKET_PATH_BYTES_MAX: Final = 107
"""Longest path of a Unix socket, in bytes, that the system allows."""
PORT_MAX: Final = 65_535
_METADATA_KEY: Final = re.compile(r"[0-9A-Za-z_.-]+")
_METADATA_VALUE: Final = re.compile(r"[\x20-\x7e]*")

Pem = bytes | str | Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """How to know the server and to be known by it. Each PEM is given as bytes or as a file's path.

    ``ca`` are the authorities to trust (default: gRPC's own roots). ``cert`` and ``key``, together, are for servers
    that ask for client certificates. ``server_name`` is the name in the server's certificate, where the target differs.
    """

    ca: Pem | None = None
    cert: Pem | None = None
    key: Pem | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ValueError("a client certificate needs both cert= and key=")

    def __repr__(self) -> str:
        # A key given as bytes belongs into no log.
        given = [name for name in ("ca", "cert", "key") if getattr(self, name) is not None]
        return f"TlsOptions({', '.join([*(f'{name}=...' for name in given), f'server_name={self.server_name!r}'])})"

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files and return what a channel takes. Raises ``OSError`` for a file that cannot be read."""
        return grpc.ssl_channel_credentials(
            root_certificates=_pem(self.ca), private_key=_pem(self.key), certificate_chain=_pem(self.cert)
        )


def check_target(target: str) -> None:
    """Raise ``ValueError`` for what people write instead of HOST:PORT and gRPC would look up as a name."""
    hint = "write HOST:PORT, like 127.0.0.1:7420, or unix:PATH"
    given: object = target
    if not isinstance(given, str):
        raise invalid("target", f"must be a string such as 127.0.0.1:7420, not {type(given).__name__}")
    if target.startswith(("http://", "https://")):
        raise ValueError(f"the target {target!r} is a URL; {hint}, and ask for TLS apart from it")
    if ":" not in target:
        raise ValueError(f"the target {target!r} names no port; {hint}")
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
    """Return a channel's arguments. Raises ``ValueError`` as `check_target` does."""
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
        # An http_proxy in the environment is not meant for this machine.
        options.append(("grpc.enable_http_proxy", 0))
    if tls is not None and tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


def is_loopback(target: str) -> bool:
    """Whether a target names this machine."""
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
    """Return the headers of every call, with lower-case keys as gRPC requires. Raises `InvalidFieldError`."""
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
