"""Exclusive ownership of a database file: its lock file, and a lock on the file itself.

The lock file also holds a record of the last acknowledged commit, so that a file that lost commits is recognized at the
next start. On local disks a second lock is taken on the database file itself through the guard, a descriptor that is
opened before SQLite opens the file and closed after SQLite has closed it. The second lock keeps a server away that
reaches the file under another name, or whose lock file was removed.

A forked child closes its copies and never unlocks: a lock belongs to the open file that parent and child share.

Owns: the two descriptors and the record. Must not: open the database with SQLite.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
import weakref
import zlib
from dataclasses import dataclass
from typing import Final

from perdure_server.store.protocol import CannotOpenError, DatabaseInUseError, LostCommitsError
from perdure_server.store.sqlite import open_audit
from perdure_server.store.sqlite.syscalls import has_local_flock, write_at_start

RECORD_BYTES: Final = 128
"""Size of the record. A sector holds it, so a loss of power leaves the old one or the new one on any usual disk."""

_RECORD_MAGIC: Final = "perdure-commits-1"
_RECORD_MAGIC_BYTES: Final = _RECORD_MAGIC.encode()

LOCK_ATTEMPTS_MAX: Final = 20
"""Number of times that a lock file is opened again because it was replaced between its opening and its locking."""

HELD_SECONDS_MAX: Final = 0.005
"""A record that takes longer to write waited for the disk. The next ones are written without the interpreter lock."""

UNHELD_SECONDS: Final = 30.0
"""Time for which records are then written without the interpreter lock."""

_open_guards: Final[dict[tuple[int, int], FileGuard]] = {}
"""The guards of this process, by device and inode. Opening and closing one of these files again would drop SQLite's
locks on it."""

_descriptors: Final[weakref.WeakSet[FileLock | FileGuard]] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """The last acknowledged commit of a database.

    ``number`` is its commit number. ``copied_number`` is the commit number up to which the main file is complete
    without its log. ``device`` and ``inode`` are those of the main file.
    """

    database_id: str
    number: int
    copied_number: int
    device: int
    inode: int

    def encoded(self) -> bytes:
        """Return the record as a line of text of `RECORD_BYTES`, ending with a checksum."""
        return encode_record(self.database_id, self.number, self.copied_number, self.device, self.inode)

    @classmethod
    def decoded(cls, encoded: bytes) -> CommitRecord | None:
        """Return the record, None for anything that is not a whole one."""
        body, checksum = encoded[: RECORD_BYTES - 10], encoded[RECORD_BYTES - 9 : RECORD_BYTES - 1]
        if len(encoded) != RECORD_BYTES or f"{zlib.crc32(body):08x}".encode() != checksum:
            return None
        try:
            magic, database_id, *numbers = body.decode("ascii").split()
            number, copied_number, device, inode = map(int, numbers)
        except ValueError:
            return None
        return cls(database_id, number, copied_number, device, inode) if magic == _RECORD_MAGIC else None


def encode_record(database_id: str, number: int, copied_number: int, device: int, inode: int) -> bytes:
    """Return the bytes of a `CommitRecord`. Each batch writes one, so no object is made for it."""
    text = b"%s %s %d %d %d %d" % (
        _RECORD_MAGIC_BYTES,
        database_id.encode(),
        number,
        copied_number,
        device,
        inode,
    )
    body = text.ljust(RECORD_BYTES - 10)
    return b"%s %08x\n" % (body, zlib.crc32(body))


class FileLock:
    """The lock file of a database. The kernel releases the lock when the process dies."""

    def __init__(self, path: str) -> None:
        self._database_path = path
        self.path = f"{path}.lock"
        self._descriptor = -1
        self._identity = (0, 0)
        self._unheld_until = 0.0

    def take(self) -> None:
        """Create and lock the lock file.

        Raises:
            DatabaseInUseError: Another server holds it.
            CannotOpenError: It cannot be written, or is not a regular file.
        """
        for _ in range(LOCK_ATTEMPTS_MAX):
            descriptor = self._open()
            try:
                self._lock(descriptor)
                if self._is_at_path(descriptor):
                    self._adopt(descriptor)
                    return
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
        raise CannotOpenError(f"cannot lock {self.path}: another process replaces it again and again")

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            with open_audit.exempt():  # SQLite takes no locks on this file
                descriptor = os.open(self.path, flags, 0o600)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise CannotOpenError(
                    f"{self.path} is a symbolic link, which is not followed; remove the link"
                ) from error
            raise CannotOpenError(f"cannot write {self.path}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise CannotOpenError(f"{self.path} is not a regular file; remove it")
        return descriptor

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise DatabaseInUseError(self._database_path) from None
            raise CannotOpenError(f"cannot lock {self.path}: {error.strerror}") from error

    def _is_at_path(self, descriptor: int) -> bool:
        """Return True unless another process replaced the file before it was locked."""
        ours = os.fstat(descriptor)
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)

    def _adopt(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        if stat.S_IMODE(found.st_mode) & 0o077 and found.st_uid == os.geteuid():
            os.fchmod(descriptor, 0o600)
        self._descriptor = descriptor
        self._identity = (found.st_dev, found.st_ino)
        _descriptors.add(self)

    def is_in_place(self) -> bool:
        """Return True if the lock file at the path is the locked one."""
        try:
            found = os.lstat(self.path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def take_again(self) -> None:
        """Lock the file at the path, creating it if it is missing, and let go of the old one. Raises as `take` does."""
        old = self._descriptor
        self.take()
        if old >= 0:
            os.close(old)

    def read_record(self) -> CommitRecord | None:
        """Return the record, None if there is none or it is torn."""
        try:
            return CommitRecord.decoded(os.pread(self._descriptor, RECORD_BYTES, 0))
        except OSError as error:
            raise CannotOpenError(f"cannot read {self.path}: {error.strerror}") from error

    def write_record(self, encoded: bytes) -> bool:
        """Write an encoded record without a sync. Returns False if the system rejected it."""
        started = time.monotonic()
        if started < self._unheld_until:
            try:
                return os.pwrite(self._descriptor, encoded, 0) == len(encoded)
            except OSError:
                return False
        written = write_at_start(self._descriptor, encoded)
        ended = time.monotonic()
        if ended - started > HELD_SECONDS_MAX:
            self._unheld_until = ended + UNHELD_SECONDS
        return written

    def replace_record(self, record: CommitRecord | None) -> None:
        """Write another record, or none, and make it survive a loss of power. Raises ``OSError``."""
        os.ftruncate(self._descriptor, 0)
        if record is not None:
            os.pwrite(self._descriptor, record.encoded(), 0)
        os.fsync(self._descriptor)

    def give_to(self, user: int, group: int) -> None:
        """Let the owner of the database own the lock file too, if necessary and if this user has the permission."""
        found = os.fstat(self._descriptor)
        if (found.st_uid, found.st_gid) != (user, group):
            with contextlib.suppress(OSError):
                os.fchown(self._descriptor, user, group)

    def release(self) -> None:
        """Unlock. The file stays, since removing it could remove the lock of another server."""
        self.close_descriptor()

    def close_descriptor(self) -> None:
        """Close the descriptor, in this process only."""
        descriptor, self._descriptor = self._descriptor, -1
        _descriptors.discard(self)
        if descriptor >= 0:
            os.close(descriptor)


class FileGuard:
    """A descriptor of the database file that outlives SQLite's own, with a lock on the file where that is possible.

    Closing any descriptor of the file drops the POSIX locks that SQLite holds on it in this process, so the guard must
    be closed after SQLite has closed the file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptors: list[int] = []
        self.descriptor = -1
        self.device = self.inode = 0

    def take(self, *, allows_links: bool = False) -> None:
        """Open the database file, creating an empty one if there is none, and lock it.

        ``allows_links`` accepts a file with several hard links.

        Raises:
            DatabaseInUseError: A server has the file open, under this name or another.
            CannotOpenError: The file cannot be opened, or has hard links.
        """
        self._check_not_open_here()
        try:
            descriptor = os.open(
                self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600
            )
        except OSError as error:
            raise CannotOpenError(f"cannot open {self._path}: {error.strerror}") from error
        self._descriptors.append(descriptor)
        self.descriptor = descriptor
        found = os.fstat(descriptor)
        self.device, self.inode = found.st_dev, found.st_ino
        _open_guards[self.device, self.inode] = self
        _descriptors.add(self)
        try:
            if not stat.S_ISREG(found.st_mode):
                raise CannotOpenError(f"{self._path} is not a regular file")
            self._lock()
            if found.st_nlink > 1 and not allows_links:
                raise _has_links(self._path, found.st_nlink)
        except BaseException:
            self.close()
            raise

    def _check_not_open_here(self) -> None:
        try:
            found = os.stat(self._path)
        except OSError:
            return
        if (found.st_dev, found.st_ino) in _open_guards:
            raise DatabaseInUseError(self._path)

    def _lock(self) -> None:
        if has_local_flock(self._path):
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    raise DatabaseInUseError(self._path) from None
                raise CannotOpenError(f"cannot lock {self._path}: {error.strerror}") from error

    def open_index(self) -> int:
        """Open the `-shm` file, to look at SQLite's locks on it, and return its descriptor. Closed with the guard.

        Raises ``OSError``.
        """
        descriptor = os.open(f"{self._path}-shm", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._descriptors.append(descriptor)
        return descriptor

    def close(self) -> None:
        """Close every descriptor and release the lock."""
        if _open_guards.get((self.device, self.inode)) is self:
            del _open_guards[self.device, self.inode]
        self.close_descriptor()

    def close_descriptor(self) -> None:
        """Close the descriptors, in this process only."""
        self.descriptor = -1
        _descriptors.discard(self)
        while self._descriptors:
            os.close(self._descriptors.pop())


def _has_links(path: str, links: int) -> CannotOpenError:
    return CannotOpenError(
        f"{path} has {links} hard links, and SQLite keeps the newest commits in a file named after one of them; remove "
        "the other links, or replace this one by a copy"
    )


def check_record(record: CommitRecord | None, path: str, *, database_id: str, number: int) -> None:
    """Raise `LostCommitsError` if the database is not the one that the record is about, or is an older state of it."""
    if record is None or (record.database_id == database_id and number >= record.number):
        return
    if not database_id:
        raise LostCommitsError(
            path, f"there is no database, and its lock file records {record.number} commits"
        )
    if record.database_id != database_id:
        raise LostCommitsError(path, "the file is a different database from the one that was served here")
    raise LostCommitsError(
        path,
        f"the file is at commit {number}, and commit {record.number} was acknowledged: newer commits were in a -wal "
        "file that is missing or damaged, or an older copy was put in the file's place",
    )


def _close_in_child() -> None:
    for owner in list(_descriptors):
        owner.close_descriptor()
    _open_guards.clear()


os.register_at_fork(after_in_child=_close_in_child)
