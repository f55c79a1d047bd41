"""The named statements of ``queries.sql``, in the sizes that set-based ones are run in."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

import apsw

ROWS_SIZES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Numbers of rows that set-based statements exist for. More rows need several statements. apsw keeps statements
prepared only up to 16 KiB of text, and the widest one is smaller than that at 128 rows."""

TEXT_BYTES_KEPT: Final = 256 << 10
"""Maximum size of the text in a statement that stays prepared, in bytes. A prepared statement keeps the values of its
last run until the next one, so each size of each statement could keep megabytes. Preparing it again costs little
compared with writing that much. It keeps UTF-8, and a character that is not ASCII counts as four bytes."""

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_ROWS: Final = re.compile(r"WITH row\(([^)]*)\) AS \(VALUES :rows\)")


class Rows:
    """A set-based statement: as many rows of ``width`` parameters as there are, in flat sequences."""

    def __init__(self, sql: str) -> None:
        columns = _ROWS.search(sql)
        assert columns is not None, "a set-based statement starts with WITH row(...) AS (VALUES :rows)"
        names = tuple(name.strip() for name in columns[1].split(","))
        self.columns: Final = names
        self.width: Final = len(names)
        self._text: Final = next((at for at, name in enumerate(names) if name in ("state", "body")), None)
        row = f"({','.join('?' * self.width)})"
        self._sized: Final = {size: sql.replace(":rows", ",".join([row] * size)) for size in ROWS_SIZES}

    def statements(self, values: Sequence[Any]) -> Iterator[tuple[str, Sequence[Any]]]:
        """Cut a flat sequence of rows into statements with their parameters."""
        chunk = self.width * ROWS_SIZES[-1]
        for start in range(0, len(values), chunk):
            part = values if len(values) <= chunk else values[start : start + chunk]
            count = len(part) // self.width
            size = ROWS_SIZES[bisect_left(ROWS_SIZES, count)]
            if size > count:
                part = [*part, *(None,) * ((size - count) * self.width)]
            yield self._sized[size], part

    def stays_prepared(self, values: Sequence[Any]) -> bool:
        """Return True if the statement stays prepared after these rows, which it then keeps."""
        if self._text is None:
            return True
        found = [text for text in values[self._text :: self.width] if text]
        return sum([len(text) if text.isascii() else 4 * len(text) for text in found]) <= TEXT_BYTES_KEPT


@cache
def texts() -> dict[str, str]:
    """Return every statement by its name, without its comment."""
    source = files(__package__).joinpath("queries.sql").read_text("utf-8")
    parts = _NAME.split(source)[1:]
    return {
        name: "\n".join(line for line in body.splitlines() if line and not line.startswith("--"))
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }


def one(name: str) -> str:
    """Return a statement that takes named parameters."""
    return texts()[name]


def rows(name: str) -> Rows:
    """Return a statement that takes rows."""
    return Rows(texts()[name])


def fetch(
    connection: apsw.Connection, sql: str, values: Sequence[Any] | Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    """Run a statement to its end, so that it holds no lock, and return its rows."""
    return connection.execute(sql, values).fetchall()
