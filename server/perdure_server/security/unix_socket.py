"""Listening on a Unix socket: the address, stale socket files, permissions.

gRPC replaces an existing socket file, even if another server uses it. The file is therefore checked before gRPC binds.
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
"""Maximum length of a path in bytes. The kernel's field has 108 bytes, including a final NUL."""

_EXAMPLE: Final = "write it like unix:/run/perdure.sock"

MODE: Final = 0o600
MODE_GROUP: Final = 0o660
"""Mode of the socket file if the umask keeps the write permission of the group, such as 007."""


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
    """Return the address of ``HOST:PORT`` or ``unix:PATH``. A relative path starts at the working directory.

    Raises `CannotListenError`.
    """
    if not text.startswith(SCHEME):
        return parse_address(text)
    path = text.removeprefix(SCHEME)
    if path.startswith("//"):
        # gRPC clients also accept the URL form unix:///run/x.sock.
        path = path[2:]
        if not path.startswith("/"):
            raise CannotListenError(f"{text!r} has a host", hint=_EXAMPLE)
    if not path or path.endswith("/") or not path.isprintable():
        raise CannotListenError(f"{text!r} is not a socket path", hint=_EXAMPLE)
    path = os.path.abspath(path)
    size_bytes = len(os.fsencode(path))
    if size_bytes > PATH_BYTES_MAX:
        raise CannotListenError(
            f"the socket path {path!r} has {size_bytes} bytes, and the maximum is {PATH_BYTES_MAX}",
            hint="use a shorter path, like unix:/run/perdure.sock",
        )
    return UnixAddress(path)


def is_same(one: Endpoint, other: Endpoint) -> bool:
    """Return True if both endpoints are Unix sockets with the same path."""
    return isinstance(one, UnixAddress) and one == other


def check_available(option: str, endpoint: Endpoint) -> None:
    """Raise `CannotListenError` if an address cannot be listened on. Changes nothing."""
    if isinstance(endpoint, Address):
        check_free(option, endpoint)
        return
    path = Path(endpoint.path)
    problem, hint = _problem_of(path)
    if problem:
        raise CannotListenError(f"{option} {endpoint}: {problem}", hint=hint)


def remove_stale(option: str, endpoint: Endpoint) -> None:
    """Remove the socket file that a killed server left behind. Raises `CannotListenError` as `check_available` does."""
    check_available(option, endpoint)
    if isinstance(endpoint, UnixAddress):
        with suppress(FileNotFoundError):
            os.unlink(endpoint.path)


def restrict(endpoint: Endpoint) -> None:
    """Allow only the owner to connect, and the group if the umask keeps its write permission."""
    if isinstance(endpoint, UnixAddress):
        umask = os.umask(0o077)
        os.umask(umask)
        os.chmod(endpoint.path, MODE if umask & stat.S_IWGRP else MODE_GROUP)


def _problem_of(path: Path) -> tuple[str, str]:
    """Return the reason why a path cannot be listened on, and a hint. Both are empty if it can be."""
    parent = path.parent
    if not parent.is_dir():
        if parent.exists():
            return f"{str(parent)!r} is not a directory", "use another path"
        return f"directory {str(parent)!r} does not exist", "create it, or use another path"
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"directory {str(parent)!r} is not writable", "change its permissions, or use another path"
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return "", ""
    except OSError as error:
        return f"the path cannot be checked: {error.strerror}", "use another path"
    if stat.S_ISDIR(mode):
        return "the path is a directory", f"use a file in it, like unix:{path}/perdure.sock"
    if not stat.S_ISSOCK(mode):
        return "a file that is not a socket has this path", "remove it, or use another path"
    if _is_served(path):
        return "another process listens on this socket", "stop it, or use another path"
    return "", ""


def _is_served(path: Path) -> bool:
    """Return False only if the kernel reports that no process has the socket open."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A busy server that does not accept connections must not delay the start of this one.
        probe.setblocking(False)
        found = probe.connect_ex(str(path))
    return found not in {errno.ECONNREFUSED, errno.ENOENT}
