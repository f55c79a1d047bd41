"""Counters and histograms of the parts of a server, with almost no cost per call.

One thread writes each of them, and the metrics thread reads it without a lock: a number is replaced as a whole, and
``copy`` of a list or a dict is one step of the interpreter. Values of one scrape can differ by an event, and are never
torn.

Must not: know public names (``perdure_server.metrics``), or import a metrics library.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Final, Generic, TypeVar

NAMES_MAX: Final = 100
"""Maximum number of counted names. Each is a label value, and each costs a time series."""

OTHER: Final = "other"
"""The label value of all further names. The counts of a workflow with this name are added to it."""

Kind = TypeVar("Kind")


class Histogram:
    """Counts of values by bucket, and their sum. ``bounds`` are the upper bounds of the buckets, in ascending order."""

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
        """Return the number of values in each bucket, and beyond the last bound."""
        return self._counts.copy()


class CountersByName(Generic[Kind]):
    """Counts of a closed set of ``kinds``, for each of up to ``max_names`` names."""

    def __init__(self, kinds: Iterable[Kind], *, max_names: int = NAMES_MAX) -> None:
        self._none: Final = dict.fromkeys(kinds, 0)
        self._max_names = max_names
        self._by_name: dict[str, dict[Kind, int]] = {}

    def of(self, name: str) -> dict[Kind, int]:
        """Return the counts of a name, for counting. The name is exported from now on, with zeros at first."""
        found = self._by_name.get(name)
        if found is None:
            if len(self._by_name) >= self._max_names:
                name = OTHER
            found = self._by_name.setdefault(name, self._none.copy())
        return found

    def counts(self) -> Iterator[tuple[str, Kind, int]]:
        """Yield each name with each kind and its count."""
        for name, counts in self._by_name.copy().items():
            for kind, count in counts.copy().items():
                yield name, kind, count

    def sum(self, kind: Kind) -> int:
        """Return the total count of a kind."""
        return sum(counts[kind] for counts in self._by_name.copy().values())
