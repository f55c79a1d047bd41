"""Backups of an open database: copied over a connection of this server, verified, then given their name.

Owns: the incomplete file, the copy, its verification, and publishing it. Must not: open the source by its path. The
open connection still holds every row after the files were removed or replaced. A new one would find other files.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
import threading
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import quote

import apsw

from perdure_server.store.protocol import Backup, BackupExistsError, BackupFailedError, StoreError
from perdure_server.store.sqlite.errors import error_text
from perdure_server.store.sqlite.migrate import APPLICATION_ID
from perdure_server.store.sqlite.queries import fetch
from perdure_server.store.sqlite.threads import ConnectionThreads

PAGES_PER_STEP: Final = 256
"""Number of pages that one step copies: 1 MiB. Work that waits for the same thread runs between two steps."""

SYNC_PAGES: Final = 8_192
"""Number of copied pages (32 MiB) after which the copy is synced. Otherwise the kernel writes gigabytes at the end, and
the syncs of commits wait for them."""

VERIFY_STEPS: Final = 100_000
"""Number of SQLite instructions between two looks at whether the backup was cancelled."""

_COPY_CACHE_KIB: Final = 2 << 10
_VERIFY_CACHE_KIB: Final = 16 << 10
_PARTIAL: Final = ".perdure-backup-"
_PARTIAL_NAME: Final = re.compile(re.escape(_PARTIAL) + r"[0-9a-f]{16}")


async def back_up(
    threads: ConnectionThreads,
    *,
    directory: str,
    file_name: str,
    reserved: frozenset[str],
    clock: Callable[[], int],
    snapshot: bool,
    vfs: str | None = None,
) -> Backup:
    """Copy the database of ``threads`` into ``directory``. On any failure and on cancellation, no file remains.

    With ``snapshot``, the copy is that of one read transaction, for which ``threads`` must be one thread that nothing
    else uses. Without, changes that the connection makes meanwhile are in the copy too. ``reserved`` has the paths
    that a backup must not take, because they belong to the database. ``vfs`` names the SQLite file layer of the copy.

    Raises `BackupExistsError`, `BackupFailedError`, and what `ConnectionThreads.submit` raises.
    """
    path = os.path.join(directory, file_name)
    if path in reserved:
        raise BackupExistsError(path)
    cancelled = threading.Event()
    copy = _Copy(directory, path, sync=snapshot, vfs=vfs)
    try:
        await asyncio.to_thread(copy.create)
        await threads.submit(lambda source: copy.start(source, snapshot=snapshot))
        snapshot_at = clock()
        while not await threads.submit(lambda _: copy.step()):
            if not snapshot:
                snapshot_at = clock()
        await threads.submit(copy.finish)
        return await asyncio.to_thread(copy.publish, cancelled, snapshot_at)
    finally:
        cancelled.set()
        # Behind a step that still runs. A store that is closed has closed its connections, and the copy with them.
        with contextlib.suppress(StoreError):
            await asyncio.shield(threads.submit(lambda source: copy.finish(source, after_failure=True)))
        await asyncio.shield(asyncio.to_thread(copy.remove))


def back_up_offline(source: apsw.Connection, path: str, *, clock: Callable[[], int]) -> Backup:
    """Copy a database that no server has open to ``path``. On any failure, no file remains.

    Raises `BackupExistsError`, `BackupFailedError`.
    """
    directory = os.path.realpath(os.path.dirname(path))
    copy = _Copy(directory, os.path.join(directory, os.path.basename(path)), sync=True)
    try:
        copy.create()
        copy.start(source, snapshot=True)
        snapshot_at = clock()
        while not copy.step():
            pass
        copy.finish(source)
        return copy.publish(threading.Event(), snapshot_at)
    finally:
        copy.finish(source, after_failure=True)
        copy.remove()


class _Copy:
    """One backup, from an incomplete file without a public name to a complete one.

    `start`, `step` and `finish` run on the thread of the source's connection, the other methods on any other. Calls do
    not overlap, except that `remove` waits for a `publish` that was given up.
    """

    def __init__(self, directory: str, path: str, *, sync: bool, vfs: str | None = None) -> None:
        self._directory = directory
        self._path = path
        self._name = os.path.basename(path)
        self._partial = _PARTIAL + secrets.token_hex(8)
        self._sync = sync
        self._vfs = vfs
        self._directory_fd = -1
        self._fd = -1
        self._target: apsw.Connection | None = None
        self._backup: apsw.Backup | None = None
        self._pages_synced = 0
        self._instances: int | None = None
        self._in_snapshot = False
        self._removed = False
        self._lock = threading.Lock()

    def create(self) -> None:
        """Create the incomplete file. Raises `BackupExistsError`, `BackupFailedError`."""
        with self._lock, _failures(self._path):
            if self._removed:
                raise BackupFailedError(self._path, "it was cancelled")
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            self._directory_fd = os.open(self._directory, flags)
            _remove_abandoned(self._directory_fd)
            self._check_absent()
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(self._partial, flags, 0o600, dir_fd=self._directory_fd)
            fcntl.flock(
                self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB
            )  # another server does not take it for abandoned

    def start(self, source: apsw.Connection, *, snapshot: bool) -> None:
        """Start to copy, with ``snapshot`` in a read transaction that lasts until `finish`."""
        with _failures(self._path):
            if snapshot:
                source.execute("BEGIN")
                self._in_snapshot = True
                self._instances = _count(source)
            path = os.path.join(self._directory, self._partial)
            flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW
            self._target = apsw.Connection(path, flags=flags, vfs=self._vfs)
            if not os.path.samestat(os.lstat(path), os.fstat(self._fd)):
                raise BackupFailedError(self._path, f"{path} was replaced")
            # A copy that is interrupted is removed, so nothing has to survive in it.
            for setting in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_COPY_CACHE_KIB}"):
                self._target.execute(f"PRAGMA {setting}").fetchall()
            self._backup = self._target.backup("main", source, "main")

    def step(self) -> bool:
        """Copy some pages. Returns True if the copy is complete."""
        assert self._backup is not None
        with _failures(self._path):
            done = self._backup.step(PAGES_PER_STEP)
            copied = self._backup.page_count - self._backup.remaining
            if self._sync and copied - self._pages_synced >= SYNC_PAGES:
                self._pages_synced = copied
                os.fsync(self._fd)
            return done

    def finish(self, source: apsw.Connection, *, after_failure: bool = False) -> None:
        """Close the copy and end the read transaction. Can be called twice."""
        backup, target, self._backup, self._target = self._backup, self._target, None, None
        with _failures(self._path):
            try:
                if backup is not None:
                    backup.close(after_failure)  # after a failed step, it would raise the step's error again
            finally:
                if target is not None:
                    target.close()
                if self._in_snapshot:
                    self._in_snapshot = False
                    source.execute("ROLLBACK")

    def publish(self, cancelled: threading.Event, snapshot_at: int) -> Backup:
        """Verify the copy, and make it durable under its name."""
        with self._lock, _failures(self._path):
            os.fsync(self._fd)
            instances = _verified(os.path.join(self._directory, self._partial), self._path, cancelled)
            if self._instances not in (None, instances):
                raise BackupFailedError(
                    self._path, f"the copy has {instances} instances instead of {self._instances}"
                )
            if cancelled.is_set():
                raise BackupFailedError(self._path, "it was cancelled")
            size_bytes = os.fstat(self._fd).st_size
            self._take_name()
            os.fsync(self._directory_fd)
            return Backup(self._path, size_bytes, instances, snapshot_at)

    def remove(self) -> None:
        """Remove the incomplete file and release the descriptors."""
        with self._lock:
            self._removed = True
            if self._fd >= 0:
                with contextlib.suppress(OSError):
                    os.unlink(self._partial, dir_fd=self._directory_fd)
                os.close(self._fd)
            if self._directory_fd >= 0:
                os.close(self._directory_fd)
            self._fd = self._directory_fd = -1

    def _take_name(self) -> None:
        """Rename the file without overwriting another one, which a plain rename would do."""
        at = self._directory_fd
        try:
            os.link(self._partial, self._name, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
        except FileExistsError:
            raise BackupExistsError(self._path) from None
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise
            self._take_name_without_links()
        else:
            os.unlink(self._partial, dir_fd=at)

    def _take_name_without_links(self) -> None:
        """Rename the file on a file system that has no hard links."""
        at = self._directory_fd
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            os.close(os.open(self._name, flags, 0o600, dir_fd=at))
        except FileExistsError:
            raise BackupExistsError(self._path) from None
        try:
            os.rename(self._partial, self._name, src_dir_fd=at, dst_dir_fd=at)
        except OSError:
            os.unlink(self._name, dir_fd=at)
            raise

    def _check_absent(self) -> None:
        """Raise `BackupExistsError` before the work rather than after it."""
        with contextlib.suppress(FileNotFoundError):
            os.stat(self._name, dir_fd=self._directory_fd, follow_symlinks=False)
            raise BackupExistsError(self._path)


def _verified(path: str, name: str, cancelled: threading.Event) -> int:
    """Return the number of instances in a copy that is sound. Raises `BackupFailedError`."""
    # Immutable: SQLite does not create a log or its index for the copy.
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_NOFOLLOW
    copy = apsw.Connection(f"file:{quote(path)}?immutable=1", flags=flags)
    try:
        copy.set_progress_handler(cancelled.is_set, VERIFY_STEPS)
        copy.execute(f"PRAGMA cache_size = -{_VERIFY_CACHE_KIB}").fetchall()
        if copy.pragma("application_id") != APPLICATION_ID:
            raise BackupFailedError(name, "the copy is not a perdure database")
        (found,) = copy.execute("PRAGMA integrity_check(1)").fetchall()[0]
        if found != "ok":
            raise BackupFailedError(name, f"the copy is damaged: {found}")
        return _count(copy)
    finally:
        copy.close()


def _count(connection: apsw.Connection) -> int:
    return int(fetch(connection, "SELECT count(*) FROM instances", ())[0][0])


def _remove_abandoned(directory_fd: int) -> None:
    """Remove incomplete files of servers that were killed. The lock of one that is being written is held."""
    for name in os.listdir(directory_fd):
        if not _PARTIAL_NAME.fullmatch(name):
            continue
        with contextlib.suppress(OSError):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(name, flags, dir_fd=directory_fd)
            try:
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(name, dir_fd=directory_fd)
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def _failures(path: str) -> Iterator[None]:
    """Turn errors of SQLite and of the system into `BackupFailedError`."""
    try:
        yield
    except apsw.FullError as error:
        raise BackupFailedError(path, "the disk is full") from error
    except apsw.Error as error:
        raise BackupFailedError(path, error_text(error)) from error
    except OSError as error:
        raise BackupFailedError(path, error.strerror or type(error).__name__) from error
