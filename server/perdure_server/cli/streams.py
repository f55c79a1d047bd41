"""Standard streams of a command. If standard output cannot be written, the command ends with an error line.

Owns: the streams of this process, and its exit. Must not: print for a command (`perdure_server.cli.console` does).
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final, NoReturn

EXIT_INTERRUPTED: Final = 130

is_own_process = False
"""True if this process runs one command and nothing else, so that the command can take it over."""


class OutputError(Exception):
    """Standard output cannot be written. It is not an ``OSError``, so that libraries do not handle it as their own."""

    def __init__(self, error: OSError) -> None:
        closed = error.errno == errno.EBADF
        reason = "it is closed" if closed else error.strerror or type(error).__name__
        super().__init__(f"cannot write to standard output: {reason}")
        self.reader_is_gone = isinstance(error, BrokenPipeError)


class _Output(io.RawIOBase):
    """A standard descriptor. With ``quiet``, data that cannot be written is dropped without an error."""

    def __init__(self, number: int, *, quiet: bool) -> None:
        super().__init__()
        self._number = number
        self._quiet = quiet

    def write(self, data: Any, /) -> int:
        try:
            return os.write(self._number, data)
        except BlockingIOError:
            _await_room(self._number)
            return 0
        except OSError as error:
            if self._quiet:
                return len(data)
            raise OutputError(error) from error

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)


def open_streams() -> None:
    """Replace the standard streams. Standard output raises `OutputError`, standard error never raises."""
    global is_own_process  # noqa: PLW0603 - state of the process
    is_own_process = True
    sys.stdout = sys.__stdout__ = _text_stream(1, quiet=False)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _text_stream(2, quiet=True)  # type: ignore[misc]
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115


@contextlib.contextmanager
def streams_kept() -> Iterator[None]:
    """Restore the standard streams after the block, which can replace them."""
    names = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")
    kept = {name: getattr(sys, name) for name in names}
    try:
        yield
    finally:
        for name, stream in kept.items():
            setattr(sys, name, stream)


def end(code: int) -> NoReturn:
    """End the process, even if threads of an APP are still running."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            getattr(stream, "drain", stream.flush)()
    os._exit(code)


@contextlib.contextmanager
def interrupts_end_the_process() -> Iterator[None]:
    """Let Ctrl-C end the process without a traceback. Use it while there is nothing to clean up."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _end_interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def interrupts_raise() -> Iterator[None]:
    """Let Ctrl-C raise ``KeyboardInterrupt`` inside `interrupts_end_the_process`, so that a command can clean up."""
    if signal.getsignal(signal.SIGINT) is not _end_interrupted:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _end_interrupted)


def _end_interrupted(_number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(EXIT_INTERRUPTED)


def _text_stream(number: int, *, quiet: bool) -> io.TextIOWrapper:
    raw = _Output(number, quiet=quiet)
    before = sys.stdout if number == 1 else sys.stderr
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(before, "encoding", None) or "utf-8",
        errors="backslashreplace",  # a terminal without Unicode does not make a command fail
        line_buffering=number == 2 or raw.isatty(),
    )


def _await_room(number: int) -> None:
    import select

    poll = select.poll()
    poll.register(number, select.POLLOUT)
    poll.poll()
