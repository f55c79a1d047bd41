"""Driver processes of the clients, which speak JSON lines, and the toolchains that they need.

Must not: know scenarios.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import pytest

REPOSITORY: Final = Path(__file__).resolve().parents[2]
TOOLCHAINS: Final = {
    "python": (),
    "go": ("go",),
    "typescript": ("node", "npm"),
    "java": ("java", "mvn"),
}
"""Programs that the client of each language requires."""

REQUIRE_ALL: Final = os.environ.get("PERDURE_REQUIRE_ALL_CLIENTS") == "1"

BUILD_SECONDS_MAX: Final = 300.0
"""Maximum time for the first response of a driver, in seconds. It includes the build."""
ANSWER_SECONDS_MAX: Final = 120.0
"""More than a client's own deadline of 30 s."""
END_SECONDS_MAX: Final = 90.0


def entry_point(language: str) -> Path:
    """Return the script that is a language's driver."""
    return REPOSITORY / "clients" / language / "conformance.sh"


def require(language: str) -> None:
    """Skip the test where a language's toolchain or client is not there; fail it where all are required."""
    absent = [tool for tool in TOOLCHAINS[language] if shutil.which(tool) is None]
    if absent:
        word = f"the {language} client is not tried: there is no {' and no '.join(absent)} on this machine"
    elif not entry_point(language).exists():
        word = f"the {language} client is not tried: {entry_point(language)} is not there"
    else:
        return
    if REQUIRE_ALL:
        pytest.fail(f"{word}, and PERDURE_REQUIRE_ALL_CLIENTS=1 asks for it")
    pytest.skip(word)


class DriverFailed(Exception):
    """The driver ended, stayed silent or answered out of turn. The message holds what it wrote to stderr."""


class Driver:
    """A running driver. `call` is `send` and `answer`; in between, something may happen to the server.

    ``command`` starts it where that is not the language's own entry point.
    """

    def __init__(self, language: str, log: Path, command: Sequence[str | Path] = ()) -> None:
        self.language = language
        self._log = log
        self._ids = itertools.count(1)
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._patience = BUILD_SECONDS_MAX
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                list(command) or [entry_point(language)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=REPOSITORY,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def call(self, op: str, args: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to an op: ``{"ok": ...}`` or ``{"error": ...}``. Raises `DriverFailed`."""
        return self.answer(self.send(op, args))

    def send(self, op: str, args: dict[str, Any]) -> int:
        """Send an op and return its id."""
        number = next(self._ids)
        assert self._process.stdin is not None
        # In ASCII: no reader of lines may take U+2028 for the end of one.
        line = json.dumps({"id": number, "op": op, "args": args}, ensure_ascii=True)
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._failed(f"took no more lines at {op}") from None
        return number

    def answer(self, number: int) -> dict[str, Any]:
        """Return the answer to what was sent under an id. Raises `DriverFailed`."""
        try:
            line = self._lines.get(timeout=self._patience)
        except queue.Empty:
            raise self._failed(f"gave no answer within {self._patience:g} s") from None
        self._patience = ANSWER_SECONDS_MAX
        if not line:
            raise self._failed(f"ended with {self._process.wait(END_SECONDS_MAX)}")
        try:
            found = json.loads(line)
        except ValueError:
            raise self._failed(f"answered no JSON: {line[:300]!r}") from None
        if found.get("id") != number or ("ok" in found) == ("error" in found):
            raise self._failed(f"answered out of turn: {line[:300]!r}")
        return {key: value for key, value in found.items() if key != "id"}

    def close(self) -> int:
        """Ask the driver to end and return its exit code. Raises `DriverFailed`."""
        self.call("close", {})
        return self._process.wait(END_SECONDS_MAX)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(END_SECONDS_MAX)
        self._reader.join(END_SECONDS_MAX)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what it never took is not of interest any more
                    pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def _failed(self, word: str) -> DriverFailed:
        tail = self._log.read_bytes()[-4_000:].decode(errors="replace")
        return DriverFailed(f"the {self.language} driver {word}; it wrote to stderr:\n{tail}")
