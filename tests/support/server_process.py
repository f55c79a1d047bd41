"""A real server in its own process, for tests that kill it.

Owns: starting `perdure serve`, its ready line, signals and log. Must not: know calls or workflows. A `ServerProcess`
kills only its own child, by PID.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

TESTS: Final = Path(__file__).resolve().parents[1]
REPOSITORY: Final = TESTS.parent

READY_SECONDS_MAX: Final = 90.0
STOP_SECONDS_MAX: Final = 60.0
LOG_TAIL_BYTES_MAX: Final = 8_000
PIPE_BYTES_MAX: Final = 65_536

_READY: Final = re.compile(r"^perdure listening on (?P<address>\S+)$")


class ServerDidNotStart(Exception):
    """The process ended, or printed nothing, before its ready line. The message has the end of its log."""


class ServerProcess:
    """`perdure serve APP` on a database that survives the process. After `start`, a new process continues with it.

    ``app`` is a path or a module name. The tests' folder is on the child's import path. ``database`` is a file,
    ":memory:" or a URL (with "://"). All processes of one object log to one file.
    """

    def __init__(
        self,
        app: str | Path,
        database: str | Path,
        *,
        log: Path,
        listen: str = "127.0.0.1:0",
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        folder: Path = REPOSITORY,
    ) -> None:
        self._folder = folder
        text = str(database)
        url = text if "://" in text or text == ":memory:" else f"sqlite:///{Path(text).resolve()}"
        self._command = [
            sys.executable,
            "-m",
            "perdure_server.cli",
            "serve",
            str(app),
            "--database",
            url,
            "--listen",
            listen,
            *arguments,
        ]
        self._environment = {**os.environ, "PYTHONPATH": str(TESTS), **(environment or {})}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._spoke = threading.Event()
        self._address = ""
        self.starts = 0

    @property
    def address(self) -> str:
        """HOST:PORT of the ready line."""
        assert self._address, "the server is not up"
        return self._address

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server was never started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> Path:
        """The file that every process of this object writes its logs to."""
        return self._log

    def log_tail(self) -> str:
        """Return the end of what the server logged."""
        if not self._log.exists():
            return ""
        with self._log.open("rb") as file:
            file.seek(max(0, self._log.stat().st_size - LOG_TAIL_BYTES_MAX))
            return file.read().decode(errors="replace")

    def start(self, timeout_s: float = READY_SECONDS_MAX) -> ServerProcess:
        """Start the server and return once it is ready. Raises `ServerDidNotStart`."""
        self.launch()
        return self.await_ready(timeout_s)

    def launch(self) -> None:
        """Start the server and return at once."""
        assert not self.running, "the server runs already"
        self._spoke.clear()
        self._address = ""
        self.starts += 1
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._folder,
                env=self._environment,
            )
        # Only Linux has a descriptor that becomes readable when a process ends.
        ended = os.pidfd_open(self._process.pid) if hasattr(os, "pidfd_open") else None
        self._reader = threading.Thread(target=self._read, args=(self._process, ended), daemon=True)
        self._reader.start()

    def await_ready(self, timeout_s: float = READY_SECONDS_MAX) -> ServerProcess:
        """Return once the launched server is ready. Raises `ServerDidNotStart`."""
        assert self._process is not None, "the server was never started"
        if not self._spoke.wait(timeout_s) or not self._address:
            what = f"ended with {self._process.poll()}" if self._spoke.is_set() else "stayed silent"
            self.kill()
            raise ServerDidNotStart(f"{' '.join(self._command)}\n{what}; it logged:\n{self.log_tail()}")
        return self

    def _read(self, process: subprocess.Popen[bytes], ended: int | None) -> None:
        # Reads to the end, so that a chatty server never blocks on a full pipe. The end is the end of the server's
        # process: a child that outlives the server can keep the pipe open.
        assert process.stdout is not None
        watched = [process.stdout] if ended is None else [process.stdout, ended]
        pending = b""
        with process.stdout as stdout:
            while True:
                ready, _, _ = select.select(watched, [], [])
                data = os.read(stdout.fileno(), PIPE_BYTES_MAX) if stdout in ready else b""
                if not data:
                    break
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    found = _READY.match(line.decode())
                    if found and not self._address:
                        self._address = found["address"]
                        self._spoke.set()
        if ended is not None:
            os.close(ended)
        process.wait()
        self._spoke.set()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server's own process."""
        assert self._process is not None, "the server was never started"
        self._process.send_signal(number)

    def wait(self, timeout_s: float = STOP_SECONDS_MAX) -> int:
        """Return the exit code once the process has ended. Raises ``subprocess.TimeoutExpired``."""
        assert self._process is not None, "the server was never started"
        code = self._process.wait(timeout_s)
        if self._reader is not None:
            self._reader.join(timeout_s)
        return code

    def kill(self) -> None:
        """`kill -9`: nothing of the process gets to say goodbye."""
        if self._process is not None:
            if self.running:
                self.signal(signal.SIGKILL)
            self.wait()

    def terminate(self, timeout_s: float = STOP_SECONDS_MAX) -> int:
        """Ask the server to drain (SIGTERM) and return its exit code. Raises ``subprocess.TimeoutExpired``."""
        if self.running:
            self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def restart(self) -> ServerProcess:
        """`kill -9`, then start on the same database."""
        self.kill()
        return self.start()

    def __enter__(self) -> ServerProcess:
        return self if self.running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
