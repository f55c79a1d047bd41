"""Runs a command on its own pseudo-terminal. A test reads the screen as text."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from types import TracebackType
from typing import Final

SECONDS_MAX: Final = 90.0
COLUMNS: Final = 140
LINES: Final = 40

_CONTROLS: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Terminal:
    """`perdure ARGUMENTS...` with its output on a terminal. Ends its own child only."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(COLUMNS), "LINES": str(LINES)}
        environment.pop("NO_COLOR", None)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "perdure_server.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            env=environment,
        )
        os.close(theirs)
        self._written = ""
        self._seen = 0

    def await_text(self, pattern: str) -> str:
        """Read until something new matches; return it. What was drawn before it is passed over."""
        deadline = time.monotonic() + SECONDS_MAX
        while not (found := re.compile(pattern).search(self.text, self._seen)):
            assert time.monotonic() < deadline, f"{pattern!r} never came:\n{self.text}"
            assert self._read(deadline), f"it ended without {pattern!r}:\n{self.text}"
        self._seen = found.end()
        return found[0]

    def wait(self) -> int:
        """Read to the end and return the exit code."""
        deadline = time.monotonic() + SECONDS_MAX
        while self._read(deadline):
            assert time.monotonic() < deadline, f"it never ended:\n{self.text}"
        return self._process.wait(SECONDS_MAX)

    @property
    def text(self) -> str:
        """Everything that was written, without what moves the cursor and gives colour."""
        return _CONTROLS.sub("", self._written)

    @property
    def drew(self) -> bool:
        """Return True if the command has moved the cursor up."""
        return "\x1b[1A" in self._written

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return True
        try:
            body = os.read(self._ours, 65_536)
        except OSError:  # Linux says EIO once the other side is closed
            return False
        self._written += body.decode(errors="replace")
        return bool(body)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._ours)
