"""A server's process from start to end: output, logs, signals and children.

Owns: the order in which these are set up, and the end. Must not: know what is served.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
from typing import Final, NoReturn

from perdure_server.process.descriptors import reserve_closed, silence_unusable
from perdure_server.process.forks import FORKS
from perdure_server.process.output import FLUSH_SECONDS_MAX, Output
from perdure_server.process.signals import Signals
from perdure_server.telemetry.logs import log_to_stderr

log = logging.getLogger(__name__)

EXIT_STOPPED: Final = 0
EXIT_STOPPED_AT_ONCE: Final = 130
"""The exit code after a second signal."""

SECOND_SIGNAL_SECONDS_MAX: Final = 0.2
"""Maximum time that the last log line gets after a second signal."""

GC_THRESHOLDS: Final = (20_000, 10, 10)
"""Thresholds of the cycle collector for everything in the process, steps included. Calls and commits make few cycles
and many objects that live for some milliseconds. With a first threshold of 700, collecting takes 5 % of a busy
server's time."""


class Host:
    """The process of one server. Made by the main thread, once, before any user code is loaded.

    Until `signals.on_stop` is replaced, a signal ends the process at once, with exit code 0.
    """

    def __init__(self, *, owns_process: bool = True) -> None:
        """``owns_process`` is False if a test runs the command. The process is not changed in that case."""
        self._owns_process = owns_process
        if owns_process:
            reserve_closed()
            silence_unusable()
        self.output = Output()
        self.signals = Signals(
            on_stop=self._stop_before_start, on_second=self._stop_at_once, on_hangup=self._on_early_hangup
        )

    def enter(self) -> None:
        """Take over output, logs, signals and forks for the rest of the process."""
        if not self._owns_process:
            return
        self.output.install()
        log_to_stderr(sink=self.output.stderr)
        for sink in (self.output.stdout, self.output.stderr):
            sink.on_recovered = _report_dropped
        FORKS.in_child(self.signals.after_fork)
        FORKS.in_child(self.output.after_fork)
        FORKS.install()
        self.signals.install()

    def code_loaded(self) -> None:
        """Restore everything that user code can have replaced while it was imported."""
        if not self._owns_process:
            return
        reserve_closed()
        silence_unusable()
        self.output.restore()
        self.signals.install()
        gc.freeze()  # modules and classes stay for good
        gc.set_threshold(*GC_THRESHOLDS)

    def end(self, code: int, *, max_seconds: float = FLUSH_SECONDS_MAX) -> NoReturn:
        """End the process now. Threads and children of steps do not delay it, and no exit handler runs."""
        with contextlib.suppress(Exception):
            _terminate_daemons()
        with contextlib.suppress(Exception):
            self.output.flush(max_seconds)
        os._exit(code)

    def _stop_before_start(self) -> None:
        log.info("stopped before the start was complete")
        self.end(EXIT_STOPPED)

    def _stop_at_once(self) -> None:
        log.warning("second signal, stopping at once")
        self.end(EXIT_STOPPED_AT_ONCE, max_seconds=SECOND_SIGNAL_SECONDS_MAX)

    def _on_early_hangup(self, terminal_closed: bool) -> None:
        if terminal_closed or not self.signals.ignores_hangup:
            self.signals.stop()


def _report_dropped(stream: str, lines: int) -> None:
    log.warning("output dropped, not read or not writable", extra={"stream": stream, "lines": lines})


def _terminate_daemons() -> None:
    """Terminate daemonic children of `multiprocessing`, which must end with their parent. Does not wait for them."""
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is None:
        return
    for child in multiprocessing.active_children():
        if child.daemon:
            child.terminate()
