"""The kinds of store that test suites run on, and their test clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from perdure_server.store.protocol import Store
from perdure_server.store.sqlite import SqliteStore
from support.factories import T0


class Clock:
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> int:
        return self.now

    def advance(self, milliseconds: int) -> None:
        self.now += milliseconds


@dataclass(frozen=True)
class Kind:
    """A kind of store. ``make`` with the same directory returns a store on the same database."""

    name: str
    durable: bool
    make: Callable[[Path, Clock], Store]


KINDS = (
    Kind("sqlite-file", True, lambda directory, clock: SqliteStore(str(directory / "p.db"), clock=clock)),
    Kind("sqlite-memory", False, lambda directory, clock: SqliteStore(None, clock=clock)),
)
