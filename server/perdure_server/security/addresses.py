"""TCP addresses to listen on: their syntax, and the check that an address is available."""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass
from typing import Final

PORT_MAX: Final = 65_535


class CannotListenError(Exception):
    """The server does not listen on an address. ``message`` says why, ``hint`` says what to do (empty: nothing)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return "; ".join(filter(None, (self.message, self.hint)))


@dataclass(frozen=True, slots=True)
class Address:
    """A host (a name or an IP address, IPv6 without brackets) and a port. Port 0 selects a free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def at(self, port: int) -> Address:
        """Return the address of the same host with another port."""
        return Address(self.host, port)


def parse_address(text: str) -> Address:
    """Return the address of ``HOST:PORT`` (IPv6 in brackets). Raises `CannotListenError`."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    is_valid = (
        colon and host and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= PORT_MAX
    )
    if not is_valid or (":" in host) != bracketed:
        raise CannotListenError(
            f"{text!r} is not a valid HOST:PORT",
            hint=f"write it like 127.0.0.1:7420 or [::1]:7420, with a port of at most {PORT_MAX}",
        )
    return Address(host, int(port))


def is_one(one: Address, other: Address) -> bool:
    """Return True if a process cannot listen on both addresses: they have one port, and one host or all hosts."""
    anywhere = {"0.0.0.0", "::"}  # noqa: S104 - compared, not listened on
    same_host = one.host == other.host or not anywhere.isdisjoint((one.host, other.host))
    return one.port == other.port != 0 and same_host


def is_loopback(host: str) -> bool:
    """Return True if a host can be reached from this machine only.

    Looks up names. Raises `CannotListenError` if a name cannot be looked up.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise CannotListenError(
            f"host {host!r} cannot be looked up: {error}", hint="use a host that can be looked up"
        ) from error
    return all(ipaddress.ip_address(str(place[0]).partition("%")[0]).is_loopback for *_, place in found)


def check_free(option: str, address: Address) -> None:
    """Raise `CannotListenError` if an address cannot be listened on.

    The check binds the address and releases it at once, so that no client connects to a port that is not served yet.
    """
    problem = _problem_of(address)
    if problem:
        raise cannot_listen(option, address, problem)


def cannot_listen(option: str, address: Address, problem: str = "") -> CannotListenError:
    """Return the error for the address of an option. Without a ``problem``, the system is asked for it."""
    problem = (
        problem or _problem_of(address) or "the address is not available, and the system does not say why"
    )
    return CannotListenError(
        f"{option} {address}: {problem}",
        hint=f"use another address with {option}, or port 0 for a free port",
    )


def _problem_of(address: Address) -> str:
    """Return the reason why an address cannot be listened on. Empty if it can be."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return f"the host cannot be looked up: {error}"
    failures: list[OSError] = []
    for family, kind, protocol, _, place in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return "the address is in use, possibly by another server"
            failures.append(error)
    if len(failures) < len(found):
        # For example `localhost` on a machine without IPv6.
        return ""
    return f"the address is not available: {failures[0].strerror or failures[0]}"
