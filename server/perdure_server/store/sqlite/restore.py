"""Putting a copy of a database in the place of the served one, in steps that can be interrupted at any point.

The copy is written to a file next to the database and becomes the database by a rename. The old files are renamed too
and kept. The restored database gets a new id, so none of the old files can be mistaken for it later. Until the last
step, which writes the new id to the lock file, a start is rejected, and the restore can be run again.

Owns: the files. Must not: check the rows.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import apsw

from perdure_server.store.protocol import CannotOpenError
from perdure_server.store.sqlite.connection import (
    BUSY_MS_MAX,
    check_path,
    check_sqlite,
    set_keeps_log,
    sync_directory,
)
from perdure_server.store.sqlite.database_files import read_identity
from perdure_server.store.sqlite.errors import error_text
from perdure_server.store.sqlite.file_lock import CommitRecord, FileGuard, FileLock
from perdure_server.store.sqlite.log_check import log_is_damaged
from perdure_server.store.sqlite.migrate import check_owner

RESTORING: Final = ".restoring"
"""Suffix of the name of the new file until it becomes the database."""

_SIDE_FILES: Final = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Restored:
    """A database that was restored to ``path``. ``kept`` are the files that were there before, under new names."""

    path: str
    kept: tuple[str, ...]


def restore(copy: str, path: str, *, suffix: str, verify: Callable[[str], None]) -> Restored:
    """Replace the database at ``path`` by a copy of the file ``copy``, which stays as it is.

    ``suffix`` is appended to the names of the old files. ``verify`` is called with the path of the new file before it
    takes the place of the old one, and raises to prevent that.

    Raises:
        DatabaseInUseError: A server has the database open.
        CannotOpenError: The copy is not sound, or a file cannot be read or written.
    """
    check_sqlite()
    copy, path = os.path.realpath(copy), os.path.realpath(path)
    check_path(path)
    if os.path.exists(path) and os.path.samefile(copy, path):
        raise CannotOpenError(f"{copy} is the database itself; name a copy of it")
    new = f"{path}{RESTORING}"
    if os.path.exists(new) and os.path.samefile(copy, new):
        raise CannotOpenError(f"{copy} has the name of the file that a restore writes; rename it first")
    with contextlib.ExitStack() as undo:
        lock = FileLock(path)
        lock.take()
        undo.callback(lock.release)
        if os.path.exists(path):
            guard = FileGuard(path)
            guard.take(allows_links=True)
            undo.callback(guard.close)
        try:
            undo.callback(_remove, new)
            _write_copy(copy, new)
            verify(new)
            record = _give_identity(new)
            kept = _put_in_place(new, path, suffix)
            lock.replace_record(record)
            owner = os.stat(path)
            lock.give_to(owner.st_uid, owner.st_gid)
        except OSError as error:
            raise CannotOpenError(f"cannot restore {path}: {error.strerror}") from error
        except apsw.Error as error:
            raise CannotOpenError(f"cannot restore {path}: {error_text(error)}") from error
    return Restored(path, kept)


def _write_copy(copy: str, new: str) -> None:
    """Write one whole file from a copy and its log, if there is one."""
    _remove(new)
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    with _reading(copy) as source:
        check_owner(source, copy)
        target = apsw.Connection(new, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            with target.backup("main", source, "main") as backup:
                backup.step(-1)
            problems = [text for (text,) in target.execute("PRAGMA integrity_check(1)") if text != "ok"]
        finally:
            target.close()
    if problems:
        raise CannotOpenError(f"{copy} is damaged: {problems[0]}")


@contextlib.contextmanager
def _reading(copy: str) -> Iterator[apsw.Connection]:
    """Open a copy without changing it."""
    log = f"{copy}-wal"
    has_log = os.path.exists(log) and os.path.getsize(log) > 0
    try:
        if has_log:
            connection = apsw.Connection(copy, flags=apsw.SQLITE_OPEN_READWRITE)
        else:
            uri = f"file:{urllib.parse.quote(os.fsencode(copy))}?immutable=1"
            connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    except apsw.Error as error:
        raise CannotOpenError(f"cannot open {copy}: {error_text(error)}") from error
    index = -1
    try:
        set_keeps_log(connection, keeps=True)
        connection.set_busy_timeout(BUSY_MS_MAX)
        connection.execute("PRAGMA query_only = ON").fetchall()
        try:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        except apsw.NotADBError as error:
            raise CannotOpenError(f"{copy} is not an SQLite database") from error
        except apsw.Error as error:
            raise CannotOpenError(f"{copy} is damaged: {error_text(error)}") from error
        if has_log:
            index = os.open(f"{copy}-shm", os.O_RDONLY | os.O_CLOEXEC)
            if log_is_damaged(log, index):
                raise CannotOpenError(f"{log} is damaged, and acknowledged commits follow the damage")
        yield connection
    finally:
        connection.close()
        if index >= 0:
            # Closed after SQLite closed the file, since this drops the locks that SQLite held on it.
            os.close(index)


def _give_identity(new: str) -> CommitRecord:
    """Give the new file an ID of its own and return its record."""
    connection = apsw.Connection(new, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.execute("UPDATE database_identity SET database_id = lower(hex(randomblob(16)))")
        database_id, number = read_identity(connection)
    finally:
        connection.close()
    descriptor = os.open(new, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return CommitRecord(database_id, number, number, found.st_dev, found.st_ino)


def _put_in_place(new: str, path: str, suffix: str) -> tuple[str, ...]:
    """Rename the old files, log first, and then the new one. Returns the new names of the old files."""
    kept: list[str] = []
    if os.path.exists(path):
        old = os.stat(path)
        shutil.copymode(path, new)
        with contextlib.suppress(OSError):
            os.chown(new, old.st_uid, old.st_gid)
    for side in ("-wal", "-journal", ""):
        if os.path.lexists(f"{path}{side}"):
            kept.insert(0, f"{path}{suffix}{side}")
            os.rename(f"{path}{side}", kept[0])
    _remove_one(f"{path}-shm")
    sync_directory(path)
    os.rename(new, path)
    sync_directory(path)
    return tuple(kept)


def _remove(path: str) -> None:
    for side in ("", *_SIDE_FILES, ".lock"):
        _remove_one(f"{path}{side}")


def _remove_one(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
