"""Listening on a Unix socket: the address, stale socket files, permissions.

gRPC replaces a socket file that exists, also the one of a living server, so the file is examined before gRPC sees it.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from perdure_server.security.addresses import Address, CannotListenError, check_free, parse_address

SCHEME: Final = "unix:"

PATH_BYTES_MAX: Final = 107
"""Longest path in bytes: the kernel's field has 108, with the NUL at its end."""

MODE: Final = 0o600
MODE_GROUP: Final = 0o660
"""Mode of the socket file if the umask leaves write permission to the group, such as 007."""


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The absolute path of a Unix socket."""

    path: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.path}"

    def at(self, _: int) -> UnixAddress:
        """Return this address. Unix sockets have no ports."""
        return self


Endpoint = Address | UnixAddress


def parse_endpoint(text: str) -> Endpoint:
    """Return the address of ``HOST:PORT`` or ``unix:PATH``. A relative path starts at the working folder.

    Raises `CannotListenError`.
    """
    if not text.startswith(SCHEME):
        return parse_address(text)
    path = text.removeprefix(SCHEME)
    if path.startswith("//"):
        # unix:///run/x.sock is the form of URLs, which gRPC clients accept too.
        path = path[2:]
        if not path.startswith("/"):
            raise CannotListenError(f"{text!r} names a host; write it like unix:/run/perdure.sock")
    if not path or path.endswith("/") or not path.isprintable():
        raise CannotListenError(f"{text!r} is not a socket path; write it like unix:/run/perdure.sock")
    path = os.path.abspath(path)
    size_bytes = len(os.fsencode(path))
    if size_bytes > PATH_BYTES_MAX:
        raise CannotListenError(
            f"the socket path {path!r} has {size_bytes} bytes, and the system allows {PATH_BYTES_MAX}; "
            "use a shorter path, like unix:/run/perdure.sock"
        )
    return UnixAddress(path)


def is_same(one: Endpoint, other: Endpoint) -> bool:
    """Return True if two Unix sockets have one path."""
    return isinstance(one, UnixAddress) and one == other


def check_available(option: str, endpoint: Endpoint) -> None:
    """Raise `CannotListenError` if an address cannot be listened on. Changes nothing."""
    if isinstance(endpoint, Address):
        check_free(option, endpoint)
        return
    path = Path(endpoint.path)
    problem = _problem_of(path)
    if problem:
        raise CannotListenError(f"{option} {endpoint}: {problem}")


def remove_stale(option: str, endpoint: Endpoint) -> None:
    """Remove the socket file that a killed server left behind. Raises `CannotListenError` as `check_available` does."""
    check_available(option, endpoint)
    if isinstance(endpoint, UnixAddress):
        with suppress(FileNotFoundError):
            os.unlink(endpoint.path)


def restrict(endpoint: Endpoint) -> None:
    """Let only the owner connect, and the group if the umask leaves it write permission."""
    if isinstance(endpoint, UnixAddress):
        umask = os.umask(0o077)
        os.umask(umask)
        os.chmod(endpoint.path, MODE if umask & stat.S_IWGRP else MODE_GROUP)


def _problem_of(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        if parent.exists():
            return f"{str(parent)!r} is not a directory; name another path"
        return f"the directory {str(parent)!r} does not exist; create it, or name another path"
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"the directory {str(parent)!r} is not writable; change its permissions, or name another path"
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"the path cannot be examined: {error.strerror}; name another path"
    if stat.S_ISDIR(mode):
        return f"the path is a directory; name a file in it, like unix:{path}/perdure.sock"
    if not stat.S_ISSOCK(mode):
        return "a file that is not a socket has this path; remove it, or name another path"
    if _is_served(path):
        return "another process listens on this socket; stop it, or name another path"
    return ""


def _is_served(path: Path) -> bool:
    """Return False only if the kernel says that no process has the socket open."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A server that is too busy to accept must not hold up the start of this one.
        probe.setblocking(False)
        found = probe.connect_ex(str(path))
    return found not in {errno.ECONNREFUSED, errno.ENOENT}
