"""Tallies: plain counts that the parts of a server keep, which cost a call next to nothing.

Each is written by one thread, that of its part's loop, and read by another, that of whoever scrapes, without a lock:
a number is replaced as a whole, and ``copy`` of a list or of a dict is one step of the interpreter. A reading may thus
be one event ahead of another, and is never torn.

What lives here: counts. What may not: their public names (``perdure_server.metrics``), and any library for metrics.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Final, Generic, TypeVar

NAMES_MAX: Final = 100
"""How many names are told apart: each is a label, and whoever stores the series pays for every one."""

OTHERS: Final = "(others)"
"""Stands for the names beyond. No workflow can be called so."""

Kind = TypeVar("Kind")


class Histogram:
    """How many values were at most each of ``bounds``, which rise, or beyond them all; and their sum."""

    __slots__ = ("_counts", "bounds", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.total = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def counts(self) -> list[int]:
        """Return how many values fell between each two bounds, and beyond the last one."""
        return self._counts.copy()


class CountersByName(Generic[Kind]):
    """Counts of a closed set of ``kinds``, for each of up to ``names_max`` names."""

    def __init__(self, kinds: Iterable[Kind], *, names_max: int = NAMES_MAX) -> None:
        self._none: Final = dict.fromkeys(kinds, 0)
        self._names_max = names_max
        self._by_name: dict[str, dict[Kind, int]] = {}

    def of(self, name: str) -> dict[Kind, int]:
        """Return the counts of a name, to add to. From then on it is told, be it with zeros."""
        found = self._by_name.get(name)
        if found is None:
            if len(self._by_name) >= self._names_max:
                name = OTHERS
            found = self._by_name.setdefault(name, self._none.copy())
        return found

    def counts(self) -> Iterator[tuple[str, Kind, int]]:
        """Yield each name with each kind and its count."""
        for name, counts in self._by_name.copy().items():
            for kind, count in counts.copy().items():
                yield name, kind, count

    def sum(self, kind: Kind) -> int:
        """Return the count of a kind for all names together."""
        return sum(counts[kind] for counts in self._by_name.copy().values())
