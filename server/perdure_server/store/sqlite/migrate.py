"""The schema of a database: numbered migrations, each in its own transaction.

``PRAGMA user_version`` holds the number of the newest migration. ``PRAGMA application_id`` marks databases of perdure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

import apsw

from perdure_server.store.protocol import CannotOpenError

APPLICATION_ID: Final = int.from_bytes(b"prdr")
"""Application ID in the header of every perdure database. Tools such as `file` show it."""

FIRST_SCHEMA: Final = 3
"""Number of the first migration. Development versions wrote the schemas before it, and nothing migrates those."""

_FILE: Final = re.compile(r"(\d{4})_\w+\.sql")


@cache
def migrations() -> Mapping[int, str]:
    """Return the text of every migration by its number, in order."""
    found = {
        int(match[1]): entry.read_text("utf-8")
        for entry in files(__package__).joinpath("migrations").iterdir()
        if (match := _FILE.fullmatch(entry.name))
    }
    numbers = sorted(found)
    assert numbers == list(range(FIRST_SCHEMA, FIRST_SCHEMA + len(found))), (
        f"migrations are numbered from {FIRST_SCHEMA:04} without a gap"
    )
    return {number: found[number] for number in numbers}


def newest_schema() -> int:
    """Return the number of the newest migration, which is the schema that this version reads and writes."""
    return max(migrations())


def check_owner(connection: apsw.Connection, path: str) -> None:
    """Check that this version may use the database.

    Raises:
        CannotOpenError: Another program, a development version or a newer version of perdure wrote the database.
    """
    version, owner = _version(connection), int(connection.pragma("application_id"))
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()[0][0]
    if owner != APPLICATION_ID and (owner or version or tables):
        raise CannotOpenError(f"{path} is a database of another program; name another file for perdure")
    if 0 < version < FIRST_SCHEMA:
        raise CannotOpenError(
            f"{path} was written by a development version of perdure (schema {version}), and this version cannot "
            "migrate it; finish its instances with the version that wrote it, or start with a new file"
        )
    newest = newest_schema()
    if version > newest:
        raise CannotOpenError(
            f"{path} was written by a newer version of perdure (schema {version}; this version supports up to "
            f"{newest}); install that version or a later one"
        )


def migrate(connection: apsw.Connection) -> None:
    """Run the migrations that are missing."""
    done = _version(connection)
    for number, text in migrations().items():
        if number <= done:
            continue
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(text)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _version(connection: apsw.Connection) -> int:
    return int(connection.pragma("user_version"))
