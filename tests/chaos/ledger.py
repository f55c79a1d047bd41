"""Records of a round: calls, watches and attempts, written as lines and read back as values.

A client writes a line before a call and another one after it, so that calls without a response are recorded too.
Must not: read the database (`database` does) or judge (`checks_*` do).
"""

from __future__ import annotations

import enum
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from chaos.database import Database


class Outcome(enum.Enum):
    """Outcome of a call, as its client knows it."""

    OK = enum.auto()
    REJECTED = enum.auto()
    """Certainly without effect."""
    UNKNOWN = enum.auto()
    """No answer, or one that does not tell."""


_TELLING: Final = frozenset(
    {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "OUT_OF_RANGE",
        "RESOURCE_EXHAUSTED",
        "UNIMPLEMENTED",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
    }
)

TRANSIENT_REASONS: Final = frozenset({"OVERLOADED", "DATABASE_UNAVAILABLE", "SHUTTING_DOWN"})
"""Reasons of temporary rejections. A repeat can get one even if its first send took effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """One call over the wire. ``fields`` is what it asked but for the request id; times in ns are monotonic."""

    op: str
    rpc: str
    instance_id: str
    request_id: str
    fields: Mapping[str, Any]
    invoked_ns: int
    invoked_ms: int
    answered_ns: int = 0
    answered_ms: int = 0
    status: str = ""
    reason: str = ""
    answer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        if self.status == "OK":
            return Outcome.OK
        if self.status in _TELLING or (self.reason and self.reason != "COMMIT_UNKNOWN"):
            return Outcome.REJECTED
        return Outcome.UNKNOWN

    @property
    def body(self) -> str:
        """The fields as one text, to compare."""
        return json.dumps([self.instance_id, self.fields], sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchLine:
    """One message of a stream. A ``watch`` continues across reconnects. Each reconnect has a new ``stream``."""

    watch: str
    stream: int
    instance_id: str
    what: str
    """open, snapshot, entry, heartbeat, end, error, or closed (by the reader, at the position ``revision``)."""
    revision: int = 0
    after: int | None = None
    entry: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    seen_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLine:
    """An attempt that ran, by its own word."""

    token: str
    attempt: int
    pid: int
    at_ns: int
    saw: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """All that a round left behind. ``quiet``: what could run had run before the server was stopped at ``ended_ms``."""

    sends: tuple[Send, ...]
    watches: tuple[WatchLine, ...]
    steps: tuple[StepLine, ...]
    database: Database
    quiet: bool
    ended_ms: int
    complaints: tuple[str, ...] = ()
    """Errors that the server logged, without traces of the crash itself."""


class Ledger:
    """An append-only file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, **fields: Any) -> None:
        os.write(self._file, json.dumps(fields).encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)


def clocks() -> tuple[int, int]:
    """Return the monotonic time in ns, and the time of day in ms: the store's clock, on the same machine."""
    return time.monotonic_ns(), time.time_ns() // 1_000_000


def read_sends(path: Path) -> tuple[Send, ...]:
    """Join each call's two lines."""
    asked: dict[str, dict[str, Any]] = {}
    for line in _lines(path):
        asked.setdefault(line["op"], {}).update(line)
    return tuple(Send(**fields) for fields in asked.values())


def read_watches(path: Path) -> tuple[WatchLine, ...]:
    return tuple(WatchLine(**line) for line in _lines(path))


def read_steps(path: Path) -> tuple[StepLine, ...]:
    return tuple(StepLine(**line) for line in _lines(path))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)
