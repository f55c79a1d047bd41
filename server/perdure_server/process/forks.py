"""Children that steps fork: they keep no resources of the server, and never become a second server.

A child of `os.fork` or of `multiprocessing` starts as a copy of the whole process. Here it loses the server's signal
handlers, its sockets and its threads' queues. Native code that calls ``fork()`` without Python's hooks is not
covered, unless it calls ``exec`` next: every descriptor of the server is closed then.

Owns: the at-fork hooks. Must not: touch sockets of steps. The store's files have their own hook.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable
from typing import Final, TypeAlias

from perdure_server.process.signals import HANDLED

Name: TypeAlias = int | str
"""A local address of the server: its TCP port, or the path of a Unix socket."""

EXIT_RETURNED: Final = 0
EXIT_RAISED: Final = 1

_DESCRIPTORS: Final = "/proc/self/fd"


class Forks:
    """Cleanup in forked children of this process. Call `install` once: Python cannot remove a hook."""

    def __init__(self) -> None:
        self._names: set[Name] = set()
        self._undo: list[Callable[[], None]] = []
        self._masks = threading.local()
        self.is_child = False

    def install(self) -> None:
        """Register the hooks for the rest of the process."""
        os.register_at_fork(
            before=self._before, after_in_parent=self._after_in_parent, after_in_child=self._after_in_child
        )

    def own(self, name: Name) -> None:
        """Close, in every child, the sockets whose local address is ``name``: the listener and its connections."""
        self._names.add(name)

    def in_child(self, undo: Callable[[], None]) -> None:
        """Call ``undo`` in every child, in the order of these calls."""
        self._undo.append(undo)

    def _before(self) -> None:
        # A signal that reached the child before its handlers were reset would be the parent's.
        self._masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)

    def _after_in_parent(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.before)

    def _after_in_child(self) -> None:
        self.is_child = True
        for undo in self._undo:
            with contextlib.suppress(Exception):  # the others must run too
                undo()
        with contextlib.suppress(Exception):
            _close_sockets(self._names)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.before)


FORKS: Final = Forks()
"""The hooks of this process."""


def end_if_child(*, failed: bool) -> None:
    """End a forked child that is about to run on as a copy of the server, after the step that forked it."""
    if FORKS.is_child:
        os._exit(EXIT_RAISED if failed else EXIT_RETURNED)


def _close_sockets(names: set[Name]) -> None:
    if not names or not os.path.isdir(_DESCRIPTORS):
        return
    for entry in os.listdir(_DESCRIPTORS):
        descriptor = int(entry)
        try:
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode) and _name_of(descriptor) in names:
                os.close(descriptor)
        except OSError:
            continue  # for example, the descriptor of the listing


def _name_of(descriptor: int) -> Name | None:
    probe = socket.socket(fileno=descriptor)
    try:
        place = probe.getsockname()
    finally:
        probe.detach()
    if probe.family in (socket.AF_INET, socket.AF_INET6):
        port: int = place[1]
        return port
    return place if isinstance(place, str) and place else None
