"""A database that no server has open, read without changing a byte of it, for `perdure db check` and `db backup`.

Owns: opening, the checks of the file's structure, and rows as they are stored. Must not: judge what a row means
(`runtime.integrity_check` compares rows with histories).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import apsw

from perdure_server.store.protocol import CannotOpenError, Change, LostCommitsError
from perdure_server.store.sqlite.connection import BUSY_MS_MAX, check_sqlite
from perdure_server.store.sqlite.database_files import read_identity
from perdure_server.store.sqlite.errors import error_text
from perdure_server.store.sqlite.file_lock import CommitRecord, FileGuard, FileLock, check_record
from perdure_server.store.sqlite.migrate import check_owner, migrations, newest_schema
from perdure_server.store.sqlite.queries import rows as statement
from perdure_server.store.sqlite.row_encoding import encode

ROWS_PER_PAGE: Final = 500
CACHE_KIB: Final = 64 << 10

Row = dict[str, Any]

_WRITES: Final = {
    "instances": statement("write_instances"),
    "live_instances": statement("write_live_instances"),
    "instance_labels": statement("write_labels"),
    "history": statement("write_history"),
    "payloads": statement("write_payloads"),
    "requests": statement("write_requests"),
    "timers": statement("write_timers"),
    "tasks": statement("write_tasks"),
}
"""The statement that writes each table of an instance's rows. Its columns are the ones that are compared."""

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {table: write.columns for table, write in _WRITES.items()} | {
    "definitions": ("workflow", "version", "digest", "graph", "created_at"),
    "replicas": ("replica_id", "lease_until"),
    "left_attempts": ("instance_id", "step_ref", "attempt", "lost", "alone", "excused"),
    "crashed_steps": ("workflow", "version", "step_ref", "stops", "suspect", "alone"),
    "solo_attempts": ("instance_id", "step_ref", "attempt", "alone"),
    "database_identity": ("only_row", "database_id", "commit_number"),
}
"""The columns of each table, without `namespace` (always empty) and `tasks.number` (only an order)."""

_GLOBAL: Final = ("replicas", "database_identity")
"""The tables without namespaces."""

_OWNED: Final = (
    "live_instances",
    "instance_labels",
    "history",
    "payloads",
    "timers",
    "tasks",
    "left_attempts",
    "solo_attempts",
)
"""The tables with rows that belong to an instance of the same database."""


def expected_rows(change: Change) -> Mapping[str, Sequence[Row]]:
    """Return the rows of the tables that follow from a state alone, as a change writes them."""
    batch = encode([change])
    values = {
        "instances": batch.instances,
        "live_instances": batch.live_instances,
        "instance_labels": batch.labels,
        "timers": batch.timers,
        "tasks": batch.tasks,
    }
    return {table: _rows_of(_WRITES[table].columns, flat) for table, flat in values.items()}


def _rows_of(columns: Sequence[str], flat: Sequence[Any]) -> list[Row]:
    width = len(columns)
    return [dict(zip(columns, flat[at : at + width], strict=True)) for at in range(0, len(flat), width)]


@contextlib.contextmanager
def open_offline(path: str) -> Iterator[OfflineDatabase]:
    """Open a database for reading, and keep servers away meanwhile.

    Raises:
        DatabaseInUseError: A server has it open.
        CannotOpenError: It is not a perdure database, of another schema, or too damaged to be opened.
    """
    check_sqlite()
    path = os.path.realpath(path)
    with contextlib.ExitStack() as undo:
        record = _lock(path, undo)
        header, connection = _connect(path)
        undo.callback(connection.close)
        yield OfflineDatabase(path, connection, header, record)


def _lock(path: str, undo: contextlib.ExitStack) -> CommitRecord | None:
    """Lock the database until ``undo`` is closed, after the connection. Returns the record of the lock file."""
    record = None
    # A server that cannot write these files does not start.
    if os.path.exists(f"{path}.lock") or os.access(os.path.dirname(path), os.W_OK):
        lock = FileLock(path)
        lock.take()
        undo.callback(lock.release)
        record = lock.read_record()
    if os.access(path, os.W_OK):
        guard = FileGuard(path)
        guard.take(allows_links=True)
        undo.callback(guard.close)
    return record


def _connect(path: str) -> tuple[bytes, apsw.Connection]:
    try:
        with open(path, "rb") as file:
            header = file.read(100)
        log = os.path.exists(f"{path}-wal") and os.path.getsize(f"{path}-wal") > 0
    except OSError as error:
        raise CannotOpenError(f"cannot read {path}: {error.strerror}") from error
    try:
        if log:
            # Without a checkpoint on close, the log and the file stay as they are.
            connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            header = b""  # the log can hold a newer one
        else:
            flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
            connection = apsw.Connection(f"file:{quote(path)}?immutable=1", flags=flags)
    except apsw.Error as error:
        raise CannotOpenError(f"cannot open {path}: {error_text(error)}") from error
    try:
        connection.set_busy_timeout(BUSY_MS_MAX)
        check_owner(connection, path)
        for setting in ("query_only = ON", "temp_store = FILE", f"cache_size = -{CACHE_KIB}"):
            connection.execute(f"PRAGMA {setting}").fetchall()
        _check_schema_number(connection, path)
    except BaseException as error:
        connection.close()
        if isinstance(error, apsw.NotADBError):
            raise CannotOpenError(f"{path} is not an SQLite database, or its header is damaged") from error
        if isinstance(error, apsw.Error):
            raise CannotOpenError(f"{path} is damaged: {error_text(error)}") from error
        raise
    return header, connection


def _check_schema_number(connection: apsw.Connection, path: str) -> None:
    found, newest = int(connection.pragma("user_version")), newest_schema()
    if found != newest:
        raise CannotOpenError(
            f"{path} has schema {found}, and this version of perdure reads schema {newest}; "
            "use the version that wrote it, or serve the database once with this one"
        )


class OfflineDatabase:
    """The rows of a database as they are stored, and the problems of its structure."""

    def __init__(
        self,
        path: str,
        connection: apsw.Connection,
        header: bytes = b"",
        record: CommitRecord | None = None,
    ) -> None:
        """``header`` is the start of the file, empty if unknown. ``record`` is that of the lock file, if any."""
        self.path = path
        self.connection = connection
        self._header = header
        self._record = record

    def structure_problems(self, limit: int) -> Iterator[str]:
        """Yield problems of pages, indexes and the schema, and rows without an instance.

        ``limit`` is the maximum for each kind of problem.
        """
        yield from _header_problems(self._header)
        yield from self._guarded(self._integrity_problems(limit), "integrity check")
        yield from self._guarded(self._schema_problems(), "schema")
        yield from self._guarded(self._identity_problems(), "table database_identity")
        for table in COLUMNS:
            if table not in _GLOBAL:
                yield from self._guarded(self._namespace_problems(table), f"table {table}")
        for table in _OWNED:
            yield from self._guarded(self._orphans(table, limit), f"table {table}")
        yield from self._guarded(self._label_problems(limit), "table instance_labels")
        yield from self._guarded(self._live_problems(limit), "table live_instances")

    def instance_ids(self) -> Iterator[bytes]:
        """Yield the ID of every row of `instances`, as its bytes, which might not be text any more."""
        after = -(1 << 63)
        while True:
            page = self.connection.execute(
                "SELECT rowid, CAST(instance_id AS BLOB) FROM instances NOT INDEXED WHERE rowid > ? "
                "ORDER BY rowid LIMIT ?",
                (after, ROWS_PER_PAGE),
            ).fetchall()
            yield from (bytes(instance_id) for _, instance_id in page)  # type: ignore[arg-type]
            if len(page) < ROWS_PER_PAGE:
                return
            after = int(page[-1][0])  # type: ignore[arg-type]

    def rows(self, table: str, instance_id: bytes) -> list[Row]:
        """Return the rows of an instance in one table, in the order of the primary key."""
        columns = COLUMNS[table]
        condition = "namespace = '' AND instance_id = CAST(? AS TEXT)"
        order = {"history": " ORDER BY revision", "payloads": " ORDER BY revision"}.get(table, "")
        sql = f"SELECT {', '.join(columns)} FROM {table} WHERE {condition}{order}"
        return [dict(zip(columns, row, strict=True)) for row in self.connection.execute(sql, (instance_id,))]

    def labels(self, instance_id: bytes, created_at: int, labels: Mapping[str, str]) -> list[Row]:
        """Return the rows of an instance's labels, found by the keys and values that it should have."""
        columns = COLUMNS["instance_labels"]
        sql = (
            f"SELECT {', '.join(columns)} FROM instance_labels WHERE namespace = '' AND key = ? AND value = ? "
            "AND created_at = ? AND instance_id = CAST(? AS TEXT)"
        )
        found: list[Row] = []
        for key, value in labels.items():
            values = (key, value, created_at, instance_id)
            found += (dict(zip(columns, row, strict=True)) for row in self.connection.execute(sql, values))
        return found

    def live_rows(self, expected: Row, instance_id: bytes) -> list[Row]:
        """Return the row of an instance in `live_instances`, found by the values that it should have."""
        columns = COLUMNS["live_instances"]
        sql = (
            f"SELECT {', '.join(columns)} FROM live_instances WHERE namespace = '' AND workflow = ? AND version = ? "
            "AND created_at = ? AND instance_id = CAST(? AS TEXT)"
        )
        values = (expected["workflow"], expected["version"], expected["created_at"], instance_id)
        return [dict(zip(columns, row, strict=True)) for row in self.connection.execute(sql, values)]

    def request(self, rpc: str, instance_id: str, request_id: str) -> Row | None:
        """Return the row of a request ID in its scope."""
        columns = COLUMNS["requests"]
        sql = (
            f"SELECT {', '.join(columns)} FROM requests "
            "WHERE namespace = '' AND rpc = ? AND instance_id = ? AND request_id = ?"
        )
        found = self.connection.execute(sql, (rpc, instance_id, request_id)).fetchall()
        return dict(zip(columns, found[0], strict=True)) if found else None

    def history_at(self, instance_id: str, revisions: Sequence[int]) -> dict[int, Row]:
        """Return some entries of an instance by revision."""
        columns = COLUMNS["history"]
        sql = (
            f"SELECT {', '.join(columns)} FROM history WHERE namespace = '' AND instance_id = ? "
            f"AND revision IN ({', '.join('?' * len(revisions))})"
        )
        found = (
            dict(zip(columns, row, strict=True))
            for row in self.connection.execute(sql, (instance_id, *revisions))
        )
        return {row["revision"]: row for row in found}

    def every_row(self, table: str) -> Iterator[Row]:
        """Yield every row of a table."""
        columns = COLUMNS[table]
        for row in self.connection.execute(f"SELECT {', '.join(columns)} FROM {table}"):
            yield dict(zip(columns, row, strict=True))

    # --- structure ---------------------------------------------------------------------------------------------

    def _integrity_problems(self, limit: int) -> Iterator[str]:
        for (line,) in self.connection.execute(f"PRAGMA integrity_check({limit})"):
            if line != "ok":
                yield f"SQLite: {' '.join(str(line).split())}"

    def _schema_problems(self) -> Iterator[str]:
        """Compare the schema with the one that the migrations make."""
        fresh = apsw.Connection(":memory:")
        try:
            for text in migrations().values():
                fresh.execute(text)
            expected, found = _schema_of(fresh), _schema_of(self.connection)
        finally:
            fresh.close()
        for key in expected.keys() | found.keys():
            if expected.get(key) != found.get(key):
                state = "missing" if key not in found else "unknown" if key not in expected else "different"
                yield f"schema: {key[0]} {key[1]} is {state}"

    def _identity_problems(self) -> Iterator[str]:
        """Compare the commit number with the record of the lock file."""
        database_id, number = read_identity(self.connection)
        try:
            check_record(self._record, self.path, database_id=database_id, number=number)
        except LostCommitsError as error:
            yield str(error)

    def _namespace_problems(self, table: str) -> Iterator[str]:
        sql = f"SELECT count(*) FROM {table} NOT INDEXED WHERE namespace <> ''"
        (count,) = self.connection.execute(sql).fetchall()[0]
        if count:
            yield f"table {table}: {count} rows with an unknown namespace"

    def _orphans(self, table: str, limit: int) -> Iterator[str]:
        sql = (
            f"SELECT DISTINCT CAST(t.instance_id AS BLOB) FROM {table} AS t WHERE NOT EXISTS ("
            "SELECT 1 FROM instances AS i WHERE i.namespace = t.namespace AND i.instance_id = t.instance_id) LIMIT ?"
        )
        for (instance_id,) in self.connection.execute(sql, (limit,)):
            yield f"table {table}: rows of {readable(bytes(instance_id))!r}, an instance that is missing"

    def _label_problems(self, limit: int) -> Iterator[str]:
        """Find rows of labels that their instance does not have. Missing ones are found with the instance."""
        sql = (
            "SELECT CAST(l.instance_id AS BLOB), CAST(l.key AS BLOB) FROM instance_labels AS l "
            "JOIN instances AS i ON i.namespace = l.namespace AND i.instance_id = l.instance_id "
            "WHERE l.created_at <> i.created_at OR NOT EXISTS ("
            "SELECT 1 FROM json_each(i.labels) AS j WHERE j.key = l.key AND j.value = l.value) LIMIT ?"
        )
        for instance_id, key in self.connection.execute(sql, (limit,)):
            owner, label = readable(bytes(instance_id)), readable(bytes(key))
            yield f"table instance_labels: {label!r} of {owner!r} is not expected"

    def _live_problems(self, limit: int) -> Iterator[str]:
        """Find rows of `live_instances` that no live instance has. Missing ones are found with the instance."""
        sql = (
            "SELECT CAST(l.instance_id AS BLOB) FROM live_instances AS l "
            "JOIN instances AS i ON i.namespace = l.namespace AND i.instance_id = l.instance_id "
            "WHERE (l.workflow, l.version, l.created_at) IS NOT (i.workflow, i.version, i.created_at) "
            "OR i.status NOT IN ('pending', 'running', 'waiting') LIMIT ?"
        )
        for (instance_id,) in self.connection.execute(sql, (limit,)):
            yield f"table live_instances: a row of {readable(bytes(instance_id))!r} is not expected"

    @staticmethod
    def _guarded(problems: Iterator[str], name: str) -> Iterator[str]:
        try:
            yield from problems
        except (apsw.Error, UnicodeError, ValueError, TypeError) as error:
            yield f"{name}: cannot be read: {error_text(error)}"


def readable(text: bytes) -> str:
    """Return text that might no longer be UTF-8, with invalid bytes as escapes."""
    return text.decode(errors="backslashreplace")


def _schema_of(connection: apsw.Connection) -> dict[tuple[str, str], tuple[str, str]]:
    rows = connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%'"
    )
    return {(str(kind), str(name)): (str(table), str(sql)) for kind, name, table, sql in rows}


def _header_problems(header: bytes) -> Iterator[str]:
    """Check the fields of the file's header that SQLite does not, as far as their values are known."""
    if not header:
        return
    if header[18] != header[19]:
        yield "header: the versions for reading and for writing differ"
    for at, name, expected in _HEADER_NUMBERS:
        if int.from_bytes(header[at : at + 4]) != expected:
            yield f"header: {name} is not {expected}"
    if header[24:28] != header[92:96]:
        yield "header: the change counter differs from the number that belongs to the file's size"
    if any(header[72:92]):
        yield "header: the reserved bytes are not zero"


_HEADER_NUMBERS: Final = (
    (44, "the schema format", 4),
    (48, "the suggested cache size", 0),
    (52, "the largest root page", 0),
    (56, "the text encoding", 1),
    (64, "the vacuum mode", 0),
)
