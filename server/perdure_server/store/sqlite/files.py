"""The database's file: taking it for this process alone, connecting to it, and saying clearly why that fails.

What lives here: paths, the lock, connections and their settings. What may not: rows.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Final

import apsw

from perdure_server.store.protocol import CannotOpen, DatabaseInUse, Unavailable
from perdure_server.store.sqlite.migrate import check_owner

SQLITE_VERSION_MIN: Final = (3, 51, 3)
"""Earlier versions can corrupt the log when two connections write to it (fixed in 3.51.3)."""

BUSY_MS_MAX: Final = 5_000
"""How long a statement waits for a lock that a foreign tool holds."""

STATEMENTS_MAX: Final = 512
"""How many statements a connection keeps prepared: every set-based one in every size."""

CACHE_KIB: Final = 16 << 10
"""How much of the database the writer keeps in memory: more than a batch writes. The rest is the kernel's to keep, for
the readers too; with four times as much, instances among a million were answered no faster.
"""

READER_CACHE_KIB: Final = 2 << 10
"""How much each reader keeps."""

WAL_BYTES_KEPT: Final = 64 << 20
"""To what the log's file is cut when it starts anew."""


class FileLock:
    """The lock beside a database's file, which keeps a second server away. The kernel frees it when we die."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1

    def take(self) -> None:
        """Raise `DatabaseInUse` if another process has it, `CannotOpen` if it cannot be written."""
        lock_path = f"{self._path}.lock"
        try:
            descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise CannotOpen(f"cannot write {lock_path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise DatabaseInUse(self._path) from None
            raise CannotOpen(f"cannot lock {lock_path}: {error.strerror}") from error
        self._descriptor = descriptor

    def release(self) -> None:
        """Let it go. The file stays: removing it could remove another's lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def check_path(path: str) -> None:
    """Raise `CannotOpen` for what SQLite would only call "unable to open database file"."""
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        raise CannotOpen(f"the directory {directory} of the database does not exist")
    if os.path.isdir(path):
        raise CannotOpen(f"{path} is a directory; name a file in it")
    if os.path.exists(path):
        if not os.path.isfile(path):
            raise CannotOpen(f"{path} is no regular file")
        if not os.access(path, os.R_OK | os.W_OK):
            raise CannotOpen(f"cannot read and write {path}: Permission denied")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise CannotOpen(f"cannot write to the directory {directory}: Permission denied")


def check_sqlite() -> None:
    """Raise `CannotOpen` if apsw was built with a SQLite that is too old to be trusted."""
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < SQLITE_VERSION_MIN:
        raise CannotOpen(
            f"SQLite {apsw.sqlite_lib_version()} has a defect in its log; install an apsw with "
            f"{'.'.join(map(str, SQLITE_VERSION_MIN))} or newer"
        )


def connect_writer(path: str, vfs: str | None = None) -> apsw.Connection:
    """Return the one connection that writes. ``path`` may be ``:memory:``."""
    try:
        connection = apsw.Connection(path, vfs=vfs, statementcachesize=STATEMENTS_MAX)
    except apsw.Error as error:
        raise CannotOpen(f"cannot open {path}: {error}") from error
    try:
        _set_up_writer(connection, path)
    except BaseException:
        connection.close()  # the last one to close takes the log's files away
        raise
    return connection


def _set_up_writer(connection: apsw.Connection, path: str) -> None:
    try:
        connection.set_busy_timeout(BUSY_MS_MAX)
        check_owner(connection, path)
        # synchronous=FULL is what makes an answered commit survive a loss of power; fullfsync makes fsync mean it on
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
        raise CannotOpen(f"{path} is no SQLite database") from error
    except apsw.CorruptError as error:
        raise CannotOpen(f"{path} is damaged: {error}") from error
    except apsw.BusyError as error:
        raise CannotOpen(f"{path} is locked by another program") from error
    except apsw.Error as error:
        raise CannotOpen(f"cannot open {path}: {error}") from error
    if mode not in ("wal", "memory"):
        raise CannotOpen(
            f"{path} lies on a file system that has no shared memory, which SQLite's WAL mode needs"
        )


def connect_reader(path: str, vfs: str | None = None) -> apsw.Connection:
    """Return a connection that only reads."""
    try:
        connection = apsw.Connection(
            path, flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs, statementcachesize=STATEMENTS_MAX
        )
        connection.set_busy_timeout(BUSY_MS_MAX)
        connection.execute("PRAGMA query_only = ON").fetchall()
        connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}").fetchall()
    except apsw.Error as error:
        raise Unavailable(f"cannot open {path}: {error}") from error
    return connection


def sync_directory(path: str) -> None:
    """Make the names of new files in the path's directory survive a loss of power."""
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
