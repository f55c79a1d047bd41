"""Where the server may listen, and how: an address, TLS, and the rule that plain text stays on this machine.

What lives here: reading HOST:PORT and PEM files, once, at start, and whether an address can be had. What may not:
serving.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from perdure_server.security import pem
from perdure_server.security.certificates import Certificates, Files

PORT_MAX: Final = 65_535


class CannotListenError(Exception):
    """The server will not listen there. The message says what to do about it."""


@dataclass(frozen=True, slots=True)
class Address:
    """A host (a name or an IP address, IPv6 without brackets) and a port; port 0 takes a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def at(self, port: int) -> Address:
        """Return the same host at another port: the one that the system gave for port 0."""
        return Address(self.host, port)


def parse_address(text: str) -> Address:
    """Return the address of ``HOST:PORT`` (IPv6 in brackets). Raises `CannotListenError`."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    sound = colon and host and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= PORT_MAX
    if not sound or (":" in host) != bracketed:
        raise CannotListenError(
            f"{text!r} is no HOST:PORT; write it like 127.0.0.1:7420 or [::1]:7420, with a port of at most {PORT_MAX}"
        )
    return Address(host, int(port))


def is_one(one: Address, other: Address) -> bool:
    """Whether two addresses cannot both be listened on: one port of one host, or of all hosts."""
    anywhere = {"0.0.0.0", "::"}  # noqa: S104 - compared, not listened on
    same_host = one.host == other.host or not anywhere.isdisjoint((one.host, other.host))
    return one.port == other.port != 0 and same_host


def is_loopback(host: str) -> bool:
    """Whether everything that ``host`` stands for is reachable from this machine only.

    A name is looked up; raises `CannotListenError` for one that stands for nothing.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise CannotListenError(
            f"the host {host!r} cannot be looked up: {error}; name one that can"
        ) from error
    return all(ipaddress.ip_address(str(place[0]).partition("%")[0]).is_loopback for *_, place in found)


def check_exposure(address: Address, *, has_tls: bool, insecure: bool) -> None:
    """Refuse to offer plain text to other machines, unless told to. Raises `CannotListenError`."""
    if has_tls or insecure or is_loopback(address.host):
        return
    raise CannotListenError(
        f"{address} can be reached from other machines, and nothing would protect it: give --tls-cert and --tls-key, "
        "listen on 127.0.0.1, or say --insecure if something else protects it (a mesh, a private network)"
    )


def check_metrics_exposure(address: Address, *, insecure: bool) -> None:
    """Refuse to tell other machines how the server is, unless told to. Raises `CannotListenError`."""
    if insecure or is_loopback(address.host):
        return
    raise CannotListenError(
        f"--metrics-listen {address} can be reached from other machines, and metrics have no TLS: serve them on "
        "127.0.0.1, "
        "or say --insecure if something else protects them (a mesh, a private network)"
    )


def check_health_exposure(address: Address, *, insecure: bool) -> None:
    """Raise `CannotListenError` if other machines can reach the health listener, unless ``insecure`` allows it."""
    if insecure or is_loopback(address.host):
        return
    raise CannotListenError(
        f"--health-listen {address} can be reached from other machines, and probes do not support TLS: listen on "
        "127.0.0.1 or a Unix socket, or add --insecure if something else protects it (a mesh, a private network)"
    )


def check_free(option: str, address: Address) -> None:
    """Refuse an address that cannot be had, before anything is opened or run. Raises `CannotListenError`.

    It is let go at once, so that nobody waits at a port behind which nothing answers yet.
    """
    why = _why_not(address)
    if why:
        raise cannot_be_had(option, address, why)


def cannot_be_had(option: str, address: Address, why: str = "") -> CannotListenError:
    """Return the error of an option's address. Without ``why`` the system is asked."""
    why = why or _why_not(address) or "the address cannot be had, and the system does not say why"
    return CannotListenError(
        f"{option} {address}: {why}; name another address with {option}, or port 0, which takes a free one"
    )


def _why_not(address: Address) -> str:
    """Return why nothing of what the host stands for can be listened on, or what is taken; empty if it can be had."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return f"the host cannot be looked up: {error}"
    refused: list[OSError] = []
    for family, kind, protocol, _, place in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return "the address is in use, maybe by another server"
            refused.append(error)
    if len(refused) < len(found):
        return ""  # as on a machine without IPv6, for a name that stands for both
    return f"the address cannot be had: {refused[0].strerror or refused[0]}"


def load_certificates(
    cert: Path | None, key: Path | None, client_ca: Path | None = None
) -> Certificates | None:
    """Return the certificate that gRPC listens with by these PEM files, None without any. With ``client_ca``, only
    clients with a certificate of that authority get in.

    Raises `CannotListenError`: gRPC would take bad files without a word and then fail every handshake.
    """
    if cert is None and key is None:
        if client_ca is not None:
            raise CannotListenError("--tls-client-ca needs --tls-cert and --tls-key beside it")
        return None
    if cert is None or key is None:
        raise CannotListenError("--tls-cert and --tls-key go together; one of them is missing")
    try:
        return Certificates(Files(cert=cert, key=key, client_ca=client_ca))
    except pem.InvalidPemError as error:
        raise CannotListenError(str(error)) from error
