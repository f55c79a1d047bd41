"""Lists that a command cuts at ``--limit``, and the note that says so."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final, Generic, TypeVar

from perdure_server.cli.console import warn, warn_json

T = TypeVar("T")

PAGE_SIZE_MAX: Final = 1_000


class Limited(Generic[T]):
    """The first ``limit`` items of a list, 0 for all. ``more`` is set if the list continues after them.

    Reads one item more than it yields, to know whether there is one.
    """

    def __init__(self, items: Iterable[T], limit: int) -> None:
        self._items = items
        self._limit = limit
        self.more = False

    def __iter__(self) -> Iterator[T]:
        for number, item in enumerate(self._items):
            if self._limit and number == self._limit:
                self.more = True
                return
            yield item

    def print_note(self, what: str, *, as_json: bool) -> None:
        """Print on stderr that more items match and how to get them. Prints nothing if the list is complete."""
        if not self.more:
            return
        limit = self._limit
        note = f"only the first {limit} {what} are shown; use --limit {2 * limit} for more, --limit 0 for all"
        document = {"note": note, "more": True, "limit": limit}
        if as_json:
            warn_json(json.dumps(document))
        else:
            warn(f"perdure: {note}")


def page_size_of(limit: int) -> int:
    """Return the page size for a limit: one item more than shown, so that one page is usually enough."""
    return min(limit + 1, PAGE_SIZE_MAX) if limit else PAGE_SIZE_MAX
