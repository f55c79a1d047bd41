"""Connections to the database file, and clear errors if one cannot be made.

Owns: paths, connections and their settings. Must not: read rows, take locks (`file_lock` does).
"""

from __future__ import annotations

import os
from typing import Final

import apsw

from perdure_server.store.protocol import CannotOpenError, StoreUnavailableError
from perdure_server.store.sqlite.migrate import check_owner

SQLITE_VERSION_MIN: Final = (3, 51, 3)
"""Earlier versions can corrupt the log when two connections write to it (fixed in 3.51.3)."""

BUSY_MS_MAX: Final = 5_000
"""Maximum time that a statement waits for a lock of another program."""

STATEMENTS_MAX: Final = 512
"""Maximum number of prepared statements of a connection: every set-based one in every size."""

CACHE_KIB: Final = 16 << 10
"""Page cache of the writer in KiB: more than a batch writes. The kernel caches the rest, for the readers too. With four
times as much, reads of instances among a million were not faster."""

READER_CACHE_KIB: Final = 2 << 10
"""Page cache of each reader in KiB."""

WAL_BYTES_KEPT: Final = 64 << 20
"""Size to which the file of the log is cut when it starts again."""


def check_path(path: str) -> None:
    """Raise `CannotOpenError` if the path cannot be a database.

    SQLite would only say "unable to open database file".
    """
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        raise CannotOpenError(f"the directory {directory} of the database does not exist")
    if os.path.isdir(path):
        raise CannotOpenError(f"{path} is a directory; name a file in it")
    if os.path.exists(path):
        if not os.path.isfile(path):
            raise CannotOpenError(f"{path} is not a regular file")
        if not os.access(path, os.R_OK | os.W_OK):
            raise CannotOpenError(f"cannot read and write {path}: Permission denied")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise CannotOpenError(f"cannot write to the directory {directory}: Permission denied")


def check_sqlite() -> None:
    """Raise `CannotOpenError` if apsw was built with a SQLite that is too old to be trusted."""
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < SQLITE_VERSION_MIN:
        raise CannotOpenError(
            f"SQLite {apsw.sqlite_lib_version()} has a defect in its log; install an apsw with "
            f"{'.'.join(map(str, SQLITE_VERSION_MIN))} or newer"
        )


def connect_writer(path: str, vfs: str | None = None) -> apsw.Connection:
    """Return the one connection that writes. ``path`` may be ``:memory:``."""
    has_log = os.path.exists(f"{path}-wal") and os.path.getsize(f"{path}-wal") > 0
    try:
        connection = apsw.Connection(path, vfs=vfs, statementcachesize=STATEMENTS_MAX)
    except apsw.Error as error:
        raise CannotOpenError(f"cannot open {path}: {error}") from error
    try:
        if has_log:
            set_keeps_log(connection, keeps=True)
        _set_up_writer(connection, path)
    except BaseException:
        # The last one to close copies the log and removes it, which a log that was there before must not suffer.
        connection.close()
        raise
    return connection


def set_keeps_log(connection: apsw.Connection, *, keeps: bool) -> None:
    """Set whether closing the connection leaves the log alone. By default the last one copies it and removes it."""
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(keeps))


def _set_up_writer(connection: apsw.Connection, path: str) -> None:
    try:
        connection.set_busy_timeout(BUSY_MS_MAX)
        check_owner(connection, path)
        # With synchronous=FULL, an acknowledged commit survives a loss of power. fullfsync makes fsync do that on
        # macOS. Checkpoints run when the writer says so, not inside a commit.
        mode = connection.execute("PRAGMA journal_mode = wal").fetchall()[0][0]
        for setting in (
            "synchronous = FULL",
            "fullfsync = ON",
            "checkpoint_fullfsync = ON",
            "wal_autocheckpoint = 0",
            f"journal_size_limit = {WAL_BYTES_KEPT}",
            "foreign_keys = OFF",
            "temp_store = MEMORY",
            f"cache_size = -{CACHE_KIB}",
        ):
            connection.execute(f"PRAGMA {setting}").fetchall()
    except apsw.NotADBError as error:
        raise CannotOpenError(f"{path} is not an SQLite database") from error
    except apsw.CorruptError as error:
        raise CannotOpenError(f"{path} is damaged: {error}") from error
    except apsw.BusyError as error:
        raise CannotOpenError(f"{path} is locked by another program") from error
    except apsw.Error as error:
        raise CannotOpenError(f"cannot open {path}: {error}") from error
    if mode not in ("wal", "memory"):
        raise CannotOpenError(
            f"{path} is on a file system without shared memory, which the WAL mode of SQLite needs"
        )


def connect_reader(path: str, vfs: str | None = None) -> apsw.Connection:
    """Return a connection that only reads."""
    try:
        connection = apsw.Connection(
            path, flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs, statementcachesize=STATEMENTS_MAX
        )
        # The writer closes last. A reader never copies the log or removes it.
        set_keeps_log(connection, keeps=True)
        connection.set_busy_timeout(BUSY_MS_MAX)
        connection.execute("PRAGMA query_only = ON").fetchall()
        connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}").fetchall()
        # The first read opens the log. Later, its name could lead to another file, or to none.
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except apsw.Error as error:
        raise StoreUnavailableError(f"cannot open {path}: {error}") from error
    return connection


def sync_directory(path: str) -> None:
    """Make the names of new files in the path's directory survive a loss of power."""
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
