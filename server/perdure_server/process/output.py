"""Standard output and standard error of a server, whose writers never wait for a reader.

Theory of operation. A `Sink` owns a copy of a descriptor and a thread that writes to it. All other code only puts bytes
into its bounded queue. If a pipe is full, a terminal is stopped, a disk is full or a reader is gone, bytes are dropped,
but no caller waits or fails. `sys.stdout` and `sys.stderr` become `SinkStream`
objects. Descriptor 1 itself becomes a pipe that a thread empties into the sink, unless it is a terminal, so that
subprocesses of steps and native code are covered as well. Descriptor 2 stays what it was, because a crashing process
writes its last messages there.

A forked child starts with empty queues and, once it writes, with threads of its own.

Owns: the queues and the threads. Must not: format a text.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import queue
import select
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from perdure_server.telemetry.logs import LOG_BYTES_MAX

STREAM_BYTES_MAX: Final = 1 << 20
"""Maximum number of queued bytes at which a stream still accepts a text. Beyond it, the text is dropped. The
difference to `LOG_BYTES_MAX` is reserved for log lines."""

WRITE_BYTES_MAX: Final = 64 << 10
"""Maximum number of bytes that one write gathers from the queue."""

PARTIAL_CHARS_MAX: Final = 8 << 10
"""Maximum length of a line that a stream holds back until its end."""

FLUSH_SECONDS_MAX: Final = 1.0
"""Maximum time that the end of a process waits for its output to be taken."""

RELAY_BYTES: Final = 1 << 20
"""Requested size of the pipe on descriptor 1. Native code that holds the interpreter's lock can fill it and then
hangs."""


class Sink:
    """Writes bytes to a copy of a descriptor in its own thread. `put` can be called from any thread."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
        self.name = name
        self.dropped = 0
        """Number of lines that were dropped, because they were not read or because writing failed."""
        self.on_recovered: Callable[[str, int], None] | None = None
        """Called with the sink's name and the number of dropped lines when a write succeeds again, in the sink's
        thread.
        """
        self._clear()

    def _clear(self) -> None:
        # The lock is reentrant: a `__del__` can run, and print, at every allocation.
        self._lock = threading.RLock()
        self._queue: queue.SimpleQueue[bytes | threading.Event] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._bytes_queued = 0
        self._bytes_taken = 0
        self._unreported = 0

    def put(self, data: bytes, *, max_bytes: int = STREAM_BYTES_MAX) -> None:
        """Queue the data, or drop it if more than ``max_bytes`` bytes would be queued."""
        with self._lock:
            if self._bytes_queued - self._bytes_taken + len(data) > max_bytes:
                self._drop(data)
                return
            self._bytes_queued += len(data)
            self._queue.put(data)
            if self._thread is None:
                self._start()

    def flush(self, max_seconds: float = FLUSH_SECONDS_MAX) -> bool:
        """Wait until everything queued so far was written or dropped. Returns False after ``max_seconds``."""
        with self._lock:
            if self._thread is None:
                return True
            done = threading.Event()
            self._queue.put(done)
        return done.wait(max_seconds)

    def after_fork(self) -> None:
        """Reset the queue, which the parent writes, and the thread, which the child does not have."""
        self._clear()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=f"perdure-{self.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return  # the system has no more threads; the next text tries again
        self._thread = thread

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if isinstance(item, threading.Event):
                item.set()
                continue
            marks: list[threading.Event] = []
            texts = [item]
            size = len(item)
            while size < WRITE_BYTES_MAX and not marks:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if isinstance(more, threading.Event):
                    marks.append(more)
                else:
                    texts.append(more)
                    size += len(more)
            self._write(b"".join(texts))
            self._bytes_taken += size
            for mark in marks:
                mark.set()

    def _write(self, data: bytes) -> None:
        if not self._try_to_write(data):
            with self._lock:
                self._drop(data)
            return
        with self._lock:
            lines, self._unreported = self._unreported, 0
        if lines and self.on_recovered is not None:
            self.on_recovered(self.name, lines)

    def _try_to_write(self, data: bytes) -> bool:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self.descriptor, rest) :]
            except BlockingIOError:
                poll = select.poll()
                poll.register(self.descriptor, select.POLLOUT)
                poll.poll()
            except OSError:
                return False
        return True

    def _drop(self, data: bytes) -> None:
        lines = data.count(b"\n") or 1
        self.dropped += lines
        self._unreported += lines


class SinkStream(io.TextIOBase):
    """A text stream that writes whole lines to a sink. Writes never block, and never fail because of the sink."""

    def __init__(self, sink: Sink, number: int, name: str) -> None:
        super().__init__()
        self._sink = sink
        self._number = number
        self._pid = os.getpid()
        self._is_a_terminal = _is_a_terminal(number)
        self._lock = threading.RLock()
        self._partial: list[str] = []
        self._partial_chars = 0
        self.name = name
        self.mode = "w"
        self.line_buffering = True
        self.write_through = False
        self.buffer = _SinkBytes(self)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Always UTF-8: characters that cannot be encoded are written as escapes."""
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """The error handler of the encoding."""
        return "backslashreplace"

    @property
    def closed(self) -> bool:
        """Always False: code of steps cannot close a stream that other steps write to."""
        return False

    def close(self) -> None:
        """Queue a partial line. The stream stays open."""
        self.flush()

    def write(self, text: str, /) -> int:
        """Queue a text and return its length. Raises ``TypeError`` for other types."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        with self._lock:
            self._partial.append(text)
            self._partial_chars += len(text)
            if "\n" in text or self._partial_chars > PARTIAL_CHARS_MAX:
                self._push()
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:  # type: ignore[override]
        """Queue each text."""
        for line in lines:
            self.write(line)

    def write_bytes(self, data: bytes) -> None:
        """Queue bytes after the text so far."""
        with self._lock:
            self._push()
            self._sink.put(data)

    def flush(self) -> None:
        """Queue a partial line. In a forked child, also wait for it to be written, because the child can end next."""
        with self._lock:
            self._push()
        if os.getpid() != self._pid:
            self._sink.flush()

    def drain(self) -> None:
        """Wait for everything to be written, because the process ends next."""
        with self._lock:
            self._push()
        self._sink.flush()

    def fileno(self) -> int:
        """Return the number of the standard descriptor."""
        return self._number

    def isatty(self) -> bool:
        """Return True if the descriptor was a terminal when the server started."""
        return self._is_a_terminal

    def writable(self) -> bool:
        """Return True."""
        return True

    def reconfigure(self, **_settings: Any) -> None:
        """Change nothing: all steps share the stream."""

    def after_fork(self) -> None:
        """Reset the lock and the text of threads that the child does not have."""
        self._lock = threading.RLock()
        self._partial, self._partial_chars = [], 0

    def _push(self) -> None:
        if self._partial:
            text = "".join(self._partial)
            self._partial, self._partial_chars = [], 0
            self._sink.put(text.encode("utf-8", "backslashreplace"))


class _SinkBytes(io.BufferedIOBase):
    """The binary side of a `SinkStream`."""

    def __init__(self, stream: SinkStream) -> None:
        super().__init__()
        self._stream = stream
        self.raw = self

    @property
    def closed(self) -> bool:
        return False

    def close(self) -> None:
        self.flush()

    def write(self, data: Any, /) -> int:
        body = bytes(memoryview(data).cast("B"))
        self._stream.write_bytes(body)
        return len(body)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def writable(self) -> bool:
        return True


class Output:
    """The sinks and streams of a server process."""

    def __init__(self) -> None:
        self.stdout = Sink(1, "stdout")
        self.stderr = Sink(2, "stderr")
        self._streams = (SinkStream(self.stdout, 1, "<stdout>"), SinkStream(self.stderr, 2, "<stderr>"))
        self._relay = -1

    def install(self) -> None:
        """Replace `sys.stdout`, `sys.stderr` and descriptor 1 for the rest of the process."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        if not self._streams[0].isatty():
            self._relay, writer = os.pipe()
            with contextlib.suppress(OSError, AttributeError):
                fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, RELAY_BYTES)
            os.dup2(writer, 1)
            os.close(writer)
            threading.Thread(target=self._run_relay, name="perdure-relay", daemon=True).start()
        self.restore()

    def restore(self) -> None:
        """Install the streams again, after user code was loaded."""
        sys.stdout = sys.__stdout__ = self._streams[0]  # type: ignore[misc,assignment]
        sys.stderr = sys.__stderr__ = self._streams[1]  # type: ignore[misc,assignment]

    def print_line(self, line: str) -> None:
        """Write a line of the server to standard output, even if the output of steps fills its queue."""
        self.stdout.put(f"{line}\n".encode(), max_bytes=LOG_BYTES_MAX)

    def flush(self, max_seconds: float = FLUSH_SECONDS_MAX) -> None:
        """Wait until everything printed so far was written or dropped, at most ``max_seconds``."""
        for stream in self._streams:
            stream.flush()
        for sink in (self.stderr, self.stdout):
            if not sink.flush(max_seconds):
                return  # not read, so do not wait for the other one too

    def after_fork(self) -> None:
        """Make the child independent of the parent's threads and of the pipe that the parent empties."""
        for sink in (self.stdout, self.stderr):
            sink.after_fork()
        for stream in self._streams:
            stream.after_fork()
        if self._relay >= 0:
            with contextlib.suppress(OSError):
                os.close(self._relay)
            self._relay = -1

    def _run_relay(self) -> None:
        relay = self._relay
        while True:
            try:
                data = os.read(relay, WRITE_BYTES_MAX)
            except OSError as error:
                if error.errno == errno.EINTR:
                    continue
                return
            if not data:
                return
            self.stdout.put(data)


def _is_a_terminal(number: int) -> bool:
    try:
        return os.isatty(number)
    except OSError:
        return False
