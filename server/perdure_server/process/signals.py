"""The signals that stop a server, handled from its start to its end.

Theory of operation. The interpreter's own handler writes the number of each signal into a pipe (the wake-up
descriptor), at once, whatever the main thread is doing. A thread reads the pipe and acts, so that neither an import
that takes minutes nor a loop that hangs delays a stop. The handlers in Python only make sure that the pipe is still
in place: a library can have replaced it.

Owns: handlers, the pipe, the thread and the rule of the second signal. Must not: know what a server is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
HANDLED: Final = (*STOPPING, signal.SIGHUP)


class Signals:
    """The process's signals. Made and installed by the main thread. Callbacks run on a thread of their own.

    ``on_stop`` is called for the first SIGTERM or SIGINT and ``on_second`` for the next one. ``on_hangup`` is called
    for each SIGHUP, with True if the terminal of the process was closed. All three can be replaced at any time.
    """

    def __init__(
        self,
        *,
        on_stop: Callable[[], None],
        on_second: Callable[[], None],
        on_hangup: Callable[[bool], None],
    ) -> None:
        self.on_stop = on_stop
        self.on_second = on_second
        self.on_hangup = on_hangup
        self.stopping = False
        self._had_terminal = _has_terminal()
        # Under nohup, a hangup must not stop the process.
        self.ignores_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._thread = threading.Thread(target=self._run, name="perdure-signals", daemon=True)

    def install(self) -> None:
        """Handle the signals. Call it again after code that can have set handlers of its own."""
        if not self._thread.is_alive():
            self._thread.start()
        for number in HANDLED:
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def stop(self) -> None:
        """Act as for the first signal that stops the process."""
        if not self.stopping:
            self.stopping = True
            self.on_stop()

    def after_fork(self) -> None:
        """Give the child the default behaviour. A signal to the child must not stop the parent."""
        signal.set_wakeup_fd(-1)
        for descriptor in (self._reader, self._writer):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        defaults: dict[signal.Signals, Any] = {
            signal.SIGTERM: signal.SIG_DFL,
            signal.SIGINT: signal.default_int_handler,
            signal.SIGHUP: signal.SIG_IGN if self.ignores_hangup else signal.SIG_DFL,
        }
        for number, default in defaults.items():
            signal.signal(number, default)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False) != self._writer:
            os.write(self._writer, bytes([number]))

    def _run(self) -> None:
        while True:
            for number in os.read(self._reader, 512):
                with contextlib.suppress(Exception):  # the next signal must find the thread alive
                    self._act(number)

    def _act(self, number: int) -> None:
        if number in STOPPING:
            if self.stopping:
                self.on_second()
            self.stop()
        elif number == signal.SIGHUP:
            # A hangup does not count as a second signal: a closing terminal sends it twice, systemd after SIGTERM.
            self.on_hangup(self._had_terminal and not _has_terminal())


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
