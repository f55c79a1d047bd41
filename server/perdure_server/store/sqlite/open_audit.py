"""Rejects attempts of code in this process to open a database file that a store here has open.

POSIX locks belong to a process and a file, not to a descriptor. If any code in the server's process opens the
database and closes it again, even only to read it, all locks that SQLite holds on it are gone. If that code is
another copy of SQLite, such as Python's `sqlite3`, it also believes to be the last user and deletes the write-ahead
log. Both are silent, so the attempt fails here with a `PermissionError` instead.

The rejection is an audit hook, which sees `open`, `os.open` and `sqlite3.connect` of Python code. It does not see
native code and `ATTACH`. `database_files` detects what gets past it. A hook cannot be removed, so it does nothing
while no store is open.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import urllib.parse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

_MESSAGE: Final = (
    "a perdure store in this process has this file open, and opening it a second time here would drop SQLite's "
    "locks on it: use the API, or open it from another process"
)

_EVENTS: Final = frozenset({"open", "sqlite3.connect"})

Identity = tuple[int, int]


class _Protected:
    """The protected files of this process. The fields after ``paths`` are derived from it, for a quick look."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.paths: dict[int, frozenset[str]] = {}
        self.identities: dict[int, frozenset[Identity]] = {}
        self.all_paths: frozenset[str] = frozenset()
        self.all_identities: frozenset[Identity] = frozenset()
        self.all_names: frozenset[str] = frozenset()
        self.exempt_threads: set[int] = set()
        self.has_hook = False

    def refresh(self) -> None:
        self.all_identities = frozenset().union(*self.identities.values())
        self.all_paths = frozenset().union(*self.paths.values())
        self.all_names = frozenset(map(os.path.basename, self.all_paths))


_protected: Final = _Protected()


def protect(owner: object, paths: Iterable[str]) -> None:
    """Reject opening these files until `unprotect`. A second call with the same owner replaces the first.

    ``paths`` are absolute and without symbolic links. A path is protected even while no file is there.
    """
    wanted = frozenset(paths)
    with _protected.lock:
        _protected.paths[id(owner)] = wanted
        _protected.identities[id(owner)] = frozenset(
            found for path in wanted if (found := _identity(path)) is not None
        )
        _protected.refresh()
        if not _protected.has_hook:
            _protected.has_hook = True
            sys.addaudithook(_on_event)


def unprotect(owner: object) -> None:
    """Allow opening the owner's files again."""
    with _protected.lock:
        _protected.paths.pop(id(owner), None)
        _protected.identities.pop(id(owner), None)
        _protected.refresh()


@contextmanager
def exempt() -> Iterator[None]:
    """Let this thread open protected files within the block."""
    thread = threading.get_ident()
    _protected.exempt_threads.add(thread)
    try:
        yield
    finally:
        _protected.exempt_threads.discard(thread)


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _EVENTS or not _protected.all_paths or threading.get_ident() in _protected.exempt_threads:
        return
    try:
        found = _protected_path(event, *arguments)
    except Exception:  # noqa: BLE001 - an argument that cannot be understood is for the called function to reject
        return
    if found is not None:
        raise PermissionError(errno.EPERM, _MESSAGE, found)


def _protected_path(event: str, named: Any, mode: Any = None, flags: Any = 0, *_: Any) -> str | None:
    """Return the protected path that an argument names, None if it names none."""
    if named is None or isinstance(named, int):
        return None  # a descriptor, which is open already
    path = os.fsdecode(named)
    if _is_protected(path):
        return path
    if event == "open" and mode is None and _may_be_in_a_directory(path, flags):
        return path
    if event == "sqlite3.connect" and path.startswith("file:"):
        path = _path_of_uri(path)
        if _is_protected(path):
            return path
    return None


def _is_protected(path: str) -> bool:
    identity = _identity(path)
    if identity is not None:
        return identity in _protected.all_identities
    # The file does not exist, such as a log that was removed: its path counts.
    return os.path.basename(path) in _protected.all_names and os.path.realpath(path) in _protected.all_paths


def _may_be_in_a_directory(path: str, flags: int) -> bool:
    """Return True if `os.open` was called with a name that only exists relative to a ``dir_fd``, which no hook sees.

    Without one, the call would fail in any case.
    """
    is_name = not os.path.isabs(path) and os.path.basename(path) in _protected.all_names
    return is_name and not flags & os.O_CREAT and not os.path.lexists(path)


def _path_of_uri(uri: str) -> str:
    path = uri.removeprefix("file:").partition("#")[0].partition("?")[0]
    if path.startswith("//"):
        path = "/" + path[2:].partition("/")[2]
    # SQLite reads a name up to its first NUL.
    return urllib.parse.unquote(path, errors="surrogateescape").partition("\0")[0]


def _identity(path: str) -> Identity | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _forget_in_child() -> None:
    # A forked child is another process, whose locks are its own.
    _protected.lock = threading.Lock()
    _protected.paths.clear()
    _protected.identities.clear()
    _protected.exempt_threads.clear()
    _protected.refresh()


os.register_at_fork(after_in_child=_forget_in_child)
