"""The named statements of ``queries.sql``, how many rows of parameters become one statement, and how one is run."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

import apsw

ROWS_SIZES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""The numbers of rows that set-based statements exist for; more rows take several statements. apsw keeps statements
prepared only up to 16 KiB of text, which the widest one stays below at 128 rows."""

TEXT_BYTES_KEPT: Final = 256 << 10
"""A prepared statement keeps the values of its last run until the next one. One that carried more text than this is
thrown away instead: each size of each would keep megabytes for ever. To prepare it is little beside writing that.
It keeps UTF-8, of which a character beyond ASCII takes up to four bytes, and is counted with four."""

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_ROWS: Final = re.compile(r"WITH row\(([^)]*)\) AS \(VALUES :rows\)")


class Rows:
    """A set-based statement: as many rows of ``width`` parameters as there are, in flat sequences."""

    def __init__(self, sql: str) -> None:
        columns = _ROWS.search(sql)
        assert columns is not None, "a set-based statement begins with WITH row(...) AS (VALUES :rows)"
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
        """Return whether the statement of these rows is to be kept for the next ones, and these rows with it."""
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
