"""The files of an open database: their ownership, and the proof before each response that they are still the open ones.

Theory of operation. `take` locks the database before SQLite opens it and rejects a file that lost commits. `accept` and
`watch` look at what SQLite found and start to protect the files. From then on each write runs between `check_writable`
and `confirm`. `confirm` compares the files at the paths with the open ones and looks at SQLite's locks. If something
differs, the store is fenced: the result of that write is unknown and all later writes are rejected, but SQLite keeps
the files open. They hold all data, reads work, and a backup over an open connection saves everything.

Another program can also write into the files, such as ``cp`` of an older copy over the database or ``truncate`` of its
log. Only SQLite changes the main file, and only while it copies the log, so any other change is examined. The
log never gets shorter than its index says. Nothing can be saved from such files, so later writes are rejected.

The descriptors are compared as well. Code in the process that closes a descriptor of SQLite, such as one that it closed
before, makes SQLite write to the file that gets its number next. The files at the paths are whole then, so a fenced
server is restarted in that case.

`take` and `close` run on the event loop, all other methods on the writer thread. Owns: the locks, the commit number,
the fence. Must not: write rows other than the commit number.
"""

from __future__ import annotations

import logging
import os
import time
import urllib.parse
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import apsw

from perdure_server.store.protocol import (
    CannotOpenError,
    CommitUnknownError,
    DatabaseInUseError,
    LostCommitsError,
    StoreUnavailableError,
)
from perdure_server.store.sqlite import open_audit
from perdure_server.store.sqlite.connection import set_keeps_log
from perdure_server.store.sqlite.file_lock import (
    CommitRecord,
    FileGuard,
    FileLock,
    check_record,
    encode_record,
)
from perdure_server.store.sqlite.log_check import log_bytes_min, log_is_damaged
from perdure_server.store.sqlite.queries import fetch, one
from perdure_server.store.sqlite.syscalls import FileIdentity, FileProbe, LockProbe, open_descriptors
from perdure_server.telemetry.logs import RateLimitedLogger

log = logging.getLogger(__name__)

LOCK_FILE_SECONDS: Final = 1.0
"""Interval at which the lock file and all descriptors are looked up, and the kernel's list of locks if another process
locks the file too."""

_SHARED_LOCK: Final = (0x40000002, 510)
"""Start and length of the range of the database file that SQLite locks while a connection in WAL mode is open."""

_INDEX_LOCK: Final = (128, 1)
"""The byte of the `-shm` file that SQLite locks while it is in use."""

_READ_IDENTITY: Final = one("database_identity")
_SET_COMMIT_NUMBER: Final = one("set_commit_number")


def read_identity(connection: apsw.Connection) -> tuple[str, int]:
    """Return a database's id and its commit number. The id is empty in a database that has none yet."""
    if not fetch(connection, "SELECT 1 FROM sqlite_schema WHERE name = 'database_identity'", {}):
        return "", 0
    database_id, number = fetch(connection, _READ_IDENTITY, {})[0]
    return database_id, number


_BACK_UP: Final = "do not restart, run perdure db backup NAME"
_RESTART: Final = "restart the server"
_RESTORE: Final = "stop the server and restore a backup"


@dataclass(frozen=True, slots=True)
class _Difference:
    """A reason to fence the store, and what to do about it.

    If only descriptors differ, the files at the paths have all acknowledged commits.
    """

    text: str
    advice: str = _BACK_UP


class DatabaseFiles:
    """The database file at ``path``, its `-wal`, `-shm` and `.lock`, held by this process alone."""

    def __init__(self, path: str, link: str | None = None) -> None:
        """``link`` is an absolute path with symbolic links that leads to ``path``, if the database was named by one."""
        self.path = path
        self._link = link
        self.fenced = ""
        """Reason for rejecting all writes, empty while the files are sound."""
        self._lock = FileLock(path)
        self._guard = FileGuard(path)
        self._record: CommitRecord | None = None
        self._had_log = False
        self._was_copied = False
        self._process_id = os.getpid()
        self._database_id = ""
        self._number = 0
        self._pending = 0
        self._copied_number = 0
        self._probes: tuple[tuple[FileProbe, FileIdentity], ...] = ()
        self._descriptors: tuple[tuple[FileProbe, FileIdentity], ...] = ()
        self._written: tuple[tuple[FileProbe, FileIdentity], ...] = ()
        self._reader_descriptors: tuple[tuple[FileProbe, FileIdentity], ...] = ()
        self._locks: tuple[tuple[str, LockProbe], ...] = ()
        self._look_at = 0.0
        self._main: FileProbe | None = None
        self._main_stamp: tuple[int, ...] = ()
        self._log: FileProbe | None = None
        self._log_bytes = 0
        self._index = -1
        self._not_recorded = RateLimitedLogger(log, "commit number not written to the lock file: %s")

    # --- before SQLite opens the file ---------------------------------------------------------------------------

    def take(self) -> None:
        """Lock the database for this process.

        Raises:
            DatabaseInUseError: Another server has it.
            LostCommitsError: It is known to have lost acknowledged commits.
            CannotOpenError: It cannot be locked, or has hard links.
        """
        self._lock.take()
        try:
            self._record = record = self._lock.read_record()
            if record is not None and not _size(self.path):
                check_record(record, self.path, database_id="", number=0)
            self._guard.take()
            self._had_log = _size(f"{self.path}-wal") > 0
            if record is not None and self._had_log:
                self._check_main_file(record)
        except BaseException:
            self.close()
            raise

    def _check_main_file(self, record: CommitRecord) -> None:
        """Reject an older file that was put under the log of a newer one: SQLite would mix them."""
        self._was_copied = (record.device, record.inode) != (self._guard.device, self._guard.inode)
        try:
            database_id, number = self._read_main_file()
        except apsw.Error:
            # Without its log the file can be incomplete, which proves nothing.
            return
        if database_id and (database_id != record.database_id or number < record.copied_number):
            raise LostCommitsError(
                self.path,
                "an older or different database was put in place of the one that wrote its -wal file",
            )

    # --- once SQLite has opened it ------------------------------------------------------------------------------

    def accept(self, connection: apsw.Connection) -> None:
        """Reject a database whose log is damaged or that lost commits. The log is left alone in that case.

        Raises:
            LostCommitsError: Acknowledged commits are missing.
            CannotOpenError: The database is damaged.
        """
        set_keeps_log(connection, keeps=self._had_log)
        # The first read creates the `-shm` file, and recovers the log.
        database_id, number = read_identity(connection)
        try:
            index = self._index = self._guard.open_index()
            if self._had_log and log_is_damaged(f"{self.path}-wal", index):
                raise LostCommitsError(
                    self.path, "its -wal file is damaged, and acknowledged commits follow the damage"
                )
        except OSError as error:
            raise CannotOpenError(f"cannot read the log of {self.path}: {error.strerror}") from error
        check_record(self._record, self.path, database_id=database_id, number=number)
        if self._was_copied:
            found = connection.execute("PRAGMA quick_check(1)").fetchall()
            if found != [("ok",)]:
                raise LostCommitsError(self.path, "it does not belong to its -wal file")
        set_keeps_log(connection, keeps=False)
        self._locks = tuple(
            (path, probe)
            for path, probe in (
                (self.path, LockProbe(self._guard.descriptor, *_SHARED_LOCK)),
                (f"{self.path}-shm", LockProbe(index, *_INDEX_LOCK)),
            )
            # An unusual file layer can lock in another way.
            if probe.holder() == self._process_id
        )

    def watch(self, connection: apsw.Connection) -> None:
        """Start to protect the files. Call it after the schema is up to date."""
        self._database_id, self._number = read_identity(connection)
        if not self._had_log:
            self._copied_number = self._number
        elif self._record is not None:
            self._copied_number = self._record.copied_number
        paths = [f"{self.path}{suffix}" for suffix in ("", "-wal", "-shm")]
        if self._link is not None:
            # The next start follows it again.
            paths.append(self._link)
        self._probes = _existing(map(FileProbe, paths))
        for probe, _ in self._probes:
            if probe.named == self.path:
                self._main = probe
            elif probe.named == f"{self.path}-wal":
                self._log, self._log_bytes = probe, probe.size_bytes()
        self.main_file_written()
        self._note_descriptors()
        self._protect()
        self._write_record()

    def watch_readers(self) -> None:
        """Start to look at the descriptors of further connections. Call it once they have read."""
        ours = {probe.named for probe, _ in self._descriptors}
        self._reader_descriptors = tuple(found for found in self._open_files() if found[0].named not in ours)

    def unwatch_readers(self) -> None:
        """Stop watching the descriptors of other connections. Call it on the writer thread, before they are closed."""
        self._reader_descriptors = ()

    def _note_descriptors(self) -> None:
        of_readers = {probe.named for probe, _ in self._reader_descriptors}
        self._descriptors = tuple(found for found in self._open_files() if found[0].named not in of_readers)
        # Those that a commit writes to. The others are looked at less often, since each look is a system call.
        written = {
            found for _, found in _existing(FileProbe(path) for path in (f"{self.path}-wal", self._lock.path))
        }
        self._written = tuple(found for found in self._descriptors if found[1] in written)

    def _open_files(self) -> tuple[tuple[FileProbe, FileIdentity], ...]:
        """Return the descriptors of this process that are open on the files."""
        files = {identity for _, identity in (*self._probes, *_existing([FileProbe(self._lock.path)]))}
        return tuple(found for found in _existing(map(FileProbe, open_descriptors())) if found[1] in files)

    def _protect(self) -> None:
        open_audit.protect(self, [f"{self.path}{suffix}" for suffix in ("", "-wal", "-shm", ".lock")])

    # --- around each write --------------------------------------------------------------------------------------

    def check_writable(self, connection: apsw.Connection) -> None:
        """Raise `StoreUnavailableError` if the store is fenced, or if its log was cut."""
        # After the write, a log that was cut before looks as long as ever.
        log = None if self.fenced else self._log
        if log is not None and log.identity() is not None and log.size_bytes() < self._log_bytes:
            self._check_log_size(connection, log)
        if self.fenced:
            raise StoreUnavailableError(self.fenced)

    def _check_log_size(self, connection: apsw.Connection, log: FileProbe) -> None:
        """Fence the store if the log is too short. Another SQLite can have copied and cut it correctly."""
        self._log_bytes = log.size_bytes()
        try:
            bytes_min = log_bytes_min(self._index)
        except OSError:
            return
        if self._log_bytes < bytes_min:
            self._fence(connection, _Difference(f"{log.named} was cut", _RESTORE))

    def main_file_written(self) -> None:
        """Note that SQLite changed the main file."""
        if self._main is not None and self._main.identity() is not None:
            self._main_stamp = self._main.stamp()

    def advance(self, connection: apsw.Connection) -> None:
        """Count the commit of the open transaction."""
        if not self._number:
            self._number = read_identity(connection)[1]
        number = self._number + 1
        connection.execute(_SET_COMMIT_NUMBER, {"number": number})
        self._pending = number

    def forget_pending(self) -> None:
        """Give up the number of a transaction that failed. It can have been committed, so it is read again."""
        if self._pending:
            self._pending = self._number = 0

    def confirm(self, connection: apsw.Connection) -> None:
        """Prove that a finished write is in the files at the paths, and record its number.

        Raises `CommitUnknownError` if the files were replaced or SQLite's locks are gone. The store is fenced then.
        """
        is_due = time.monotonic() >= self._look_at
        if not self.is_sound(connection, thorough=is_due):
            raise CommitUnknownError(self.fenced)
        if self._log is not None:
            self._log_bytes = self._log.size_bytes()
        if self._pending:
            self._number, self._pending = self._pending, 0
            self._write_record()
        if is_due:
            self._look_at = time.monotonic() + LOCK_FILE_SECONDS
            self._check_lock_file(connection)

    def is_sound(self, connection: apsw.Connection, *, thorough: bool = True) -> bool:
        """Compare the files at the paths with the open ones, and fence the store if they differ.

        With ``thorough``, look at every descriptor, not only at those that a commit writes to.
        """
        if not self.fenced:
            difference = self._difference()
            if not difference and thorough:
                difference = _closed((*self._descriptors, *self._reader_descriptors))
            if difference:
                self._fence(connection, difference)
        return not self.fenced

    def log_copied(self) -> None:
        """Note that the main file is complete without its log."""
        if self._number and self._copied_number != self._number:
            self._copied_number = self._number
            # An older file that is put in the place of this one is recognized from now on.
            self._write_record()

    def _difference(self) -> _Difference | None:
        """Return the problem of the files, None if there is none."""
        for probe, identity in self._probes:
            found = probe.identity()
            if found != identity:
                return _Difference(f"{probe.named} was {'removed' if found is None else 'replaced'}")
        if self._main is not None and self._main.stamp() != self._main_stamp:
            bytes_before, self._main_stamp = self._main_stamp[0], self._main.stamp()
            if not self._is_main_file(bytes_before):
                return _Difference(f"{self.path} was overwritten", _RESTORE)
        if difference := _closed(self._written):
            return difference
        for path, lock in self._locks:
            holder = lock.holder()
            if holder in (self._process_id, -1):
                continue
            if holder is None or not self._is_listed(path):
                # Closing a descriptor drops the locks of its file too.
                return _closed(self._descriptors) or _Difference(f"SQLite's lock on {path} was dropped")
        return None

    def _is_main_file(self, bytes_before: int) -> bool:
        """Return False if the main file, after it was changed, is known to be another or an older one.

        ``bytes_before`` is its size before the change.
        """
        try:
            database_id, number = self._read_main_file()
        except apsw.Error:
            # While another SQLite copies the log, it can be incomplete without its log. It does not
            # get shorter before the end of that.
            return self._main_stamp[0] >= bytes_before
        return database_id == self._database_id and number >= self._copied_number

    def _read_main_file(self) -> tuple[str, int]:
        """Return the id and the commit number of the main file without its log. Raises ``apsw.Error``."""
        uri = f"file:{urllib.parse.quote(os.fsencode(self.path))}?immutable=1"
        connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        try:
            return read_identity(connection)
        finally:
            connection.close()

    def _is_listed(self, path: str) -> bool:
        """Return True unless the kernel's list of locks is known to lack ours.

        For the case that another process holds such a lock too, which hides ours.
        """
        if time.monotonic() < self._look_at:
            return True
        try:
            inode = os.stat(path).st_ino
            with open("/proc/locks", encoding="ascii") as locks:
                entries = [line.split() for line in locks]
        except (OSError, ValueError):
            return True
        ours = (str(self._process_id), str(inode))
        return any(
            entry[1] == "POSIX" and (entry[4], entry[5].rpartition(":")[2]) == ours for entry in entries
        )

    def _fence(self, connection: apsw.Connection, difference: _Difference) -> None:
        # Closing would remove the log by its path, which is another one by now.
        set_keeps_log(connection, keeps=True)
        extra = {"database": self.path, "difference": difference.text}
        if difference.advice == _RESTART:
            self.fenced = (
                f"code in the server's process closed the database's files ({difference.text}): {_RESTART}"
            )
            log.critical("database descriptors changed, writes rejected: restart the server", extra=extra)
            return
        if difference.advice == _RESTORE:
            self.fenced = f"another program wrote to the database's files ({difference.text}): {_RESTORE}"
            log.critical(
                "database content changed, writes rejected: stop the server and restore a backup", extra=extra
            )
            return
        # In every later error and log line, so that the advice is not buried.
        self.fenced = (
            f"the database's files changed under the server ({difference.text}): "
            "do not restart, run perdure db backup NAME"
        )
        # So that the next start is rejected even if the lock file was removed together with the database.
        self._restore_lock_file()
        log.critical(
            "database files changed, writes rejected: do not restart, run perdure db backup NAME",
            extra=extra | {"log_copied": self._rescue_log(connection)},
        )

    def _rescue_log(self, connection: apsw.Connection) -> bool:
        """Copy the log into the main file if the log was removed and a new one cannot have been made.

        Returns True if the main file holds everything. Any other damage leaves the files as they are.
        """
        states = {probe.named: (probe.identity(), identity) for probe, identity in self._probes}
        main, main_was = states.get(self.path, (None, None))
        index, index_was = states.get(f"{self.path}-shm", (None, None))
        if main != main_was or main is None or index not in (None, index_was):
            return False
        if states.get(f"{self.path}-wal", (None, None))[0] is not None:
            return False
        if any(lock.holder() != self._process_id for _, lock in self._locks):
            return False
        try:
            frames, copied = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error:
            return False
        return frames == copied

    # --- the lock file ------------------------------------------------------------------------------------------

    def _write_record(self) -> None:
        guard = self._guard
        record = encode_record(
            self._database_id, self._number, self._copied_number, guard.device, guard.inode
        )
        if not self._lock.write_record(record):
            self._not_recorded.warning(self._lock.path)

    def _check_lock_file(self, connection: apsw.Connection) -> None:
        if not self._restore_lock_file():
            self._fence(connection, _Difference(f"{self._lock.path} belongs to another server"))
            raise CommitUnknownError(self.fenced)

    def _restore_lock_file(self) -> bool:
        """Create and lock the lock file again if it was removed. Returns False if another server locked a new one."""
        if self._lock.is_in_place():
            return True
        try:
            self._lock.take_again()
        except DatabaseInUseError:
            return False
        except CannotOpenError as error:
            self._not_recorded.warning(error)
            return True
        self._protect()
        self._note_descriptors()
        self._write_record()
        log.warning("lock file was missing, created again", extra={"path": self._lock.path})
        return True

    # --- the end ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Release the database. Call it after SQLite has closed every connection."""
        open_audit.unprotect(self)
        self._guard.close()
        self._lock.release()


def _existing(probes: Iterable[FileProbe]) -> tuple[tuple[FileProbe, FileIdentity], ...]:
    """Return the probes that find a file, each with what it finds."""
    found = [(probe, probe.identity()) for probe in probes]
    return tuple((probe, identity) for probe, identity in found if identity is not None)


def _closed(descriptors: Iterable[tuple[FileProbe, FileIdentity]]) -> _Difference | None:
    """Return the first of these descriptors that is not open on its file any more."""
    for probe, identity in descriptors:
        if (found := probe.identity()) != identity:
            state = "closed" if found is None else "closed and used for another file"
            return _Difference(f"descriptor {probe.named} was {state}", _RESTART)
    return None


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
