"""Where the server may listen: an address, and the rule that plain text stays on this machine.

What lives here: reading HOST:PORT, and the loopback rule. What may not: sockets, certificates (``tls``).
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import Final

PORT_MAX: Final = 65_535


class ListenRefused(Exception):
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
    """Return the address of ``HOST:PORT`` (IPv6 in brackets). Raises `ListenRefused`."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    sound = colon and host and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= PORT_MAX
    if not sound or (":" in host) != bracketed:
        raise ListenRefused(f"{text!r} is no HOST:PORT, like 127.0.0.1:7420 or [::1]:7420")
    return Address(host, int(port))


def is_loopback(host: str) -> bool:
    """Whether everything that ``host`` stands for is reachable from this machine only.

    A name is looked up; raises `ListenRefused` for one that stands for nothing.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ListenRefused(f"the host {host!r} cannot be looked up: {error}") from error
    return all(ipaddress.ip_address(str(place[0]).partition("%")[0]).is_loopback for *_, place in found)


def check_exposure(address: Address, *, tls: bool, insecure: bool) -> None:
    """Refuse to offer plain text to other machines, unless told to. Raises `ListenRefused`."""
    if tls or insecure or is_loopback(address.host):
        return
    raise ListenRefused(
        f"{address} can be reached from other machines, and nothing would protect it: give --tls-cert and --tls-key, "
        "listen on 127.0.0.1, or say --insecure if something else protects it (a mesh, a private network)"
    )
