"""Bringing a database's schema up to date: numbered files, each in a transaction of its own.

``PRAGMA user_version`` holds the number of the last one; ``PRAGMA application_id`` says whose database it is.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Final

import apsw

from perdure_server.store.protocol import CannotOpenError

APPLICATION_ID: Final = int.from_bytes(b"prdr")
"""What stands in the header of every database of ours, for `file` and for the check below."""

_FILE: Final = re.compile(r"(\d{4})_\w+\.sql")


@cache
def migrations() -> tuple[str, ...]:
    """Return the text of every migration; the first has number 1."""
    found = {
        int(match[1]): entry.read_text("utf-8")
        for entry in files(__package__).joinpath("migrations").iterdir()
        if (match := _FILE.fullmatch(entry.name))
    }
    assert sorted(found) == list(range(1, len(found) + 1)), (
        "migrations are numbered 0001, 0002, ... without a gap"
    )
    return tuple(found[number] for number in sorted(found))


def check_owner(connection: apsw.Connection, path: str) -> None:
    """Raise `CannotOpenError` for a database that we must not touch: another program's, or a newer server's."""
    version, owner = _version(connection), int(connection.pragma("application_id"))
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()[0][0]
    if owner != APPLICATION_ID and (owner or version or tables):
        raise CannotOpenError(f"{path} is a database of another program; name a file of its own for perdure")
    newest = len(migrations())
    if version > newest:
        raise CannotOpenError(
            f"{path} was written by a newer version of perdure (schema {version}; this one knows {newest}): "
            "install that version or a later one"
        )


def migrate(connection: apsw.Connection) -> None:
    """Run the migrations that are missing."""
    for number in range(_version(connection) + 1, len(migrations()) + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(migrations()[number - 1])
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _version(connection: apsw.Connection) -> int:
    return int(connection.pragma("user_version"))
