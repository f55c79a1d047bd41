"""The connections to one SQLite database: one writes, and others read, list instances and copy backups.

Every connection has a thread of its own. Lists have their own connection because a filter that matches few instances
examines many rows. A read sees every commit that was acknowledged before it, because such a commit is in the log and a
new read starts with all of the log. A database in memory has one connection, so it reads through the writer.

Owns: opening, closing, and the size of the log. Must not: know tables.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from typing import Final, TypeVar

import apsw

from perdure_server.closing import finish
from perdure_server.store.protocol import CannotOpenError, StoreError, StoreUnavailableError
from perdure_server.store.sqlite.connection import (
    check_path,
    check_sqlite,
    connect_reader,
    connect_writer,
    sync_directory,
)
from perdure_server.store.sqlite.database_files import DatabaseFiles
from perdure_server.store.sqlite.restore import RESTORING
from perdure_server.store.sqlite.threads import ConnectionThreads

log = logging.getLogger(__name__)

READERS: Final = 2
"""Number of threads that read at the same time."""

WAL_PAGES_MAX: Final = 4_000
"""Number of written pages after which the log is copied into the database, between two batches."""

WAL_IDLE_SECONDS: Final = 0.5
"""Time without work after which the log is copied however short it is."""

_SUFFIXES: Final = ("", "-wal", "-shm", "-journal", ".lock", RESTORING)
"""Suffixes of the names of a database's files."""

T = TypeVar("T")
Work = Callable[[apsw.Connection], T]


class Database:
    """The open connections to the file ``path``, or to a database in memory if it is None.

    ``prepare`` is called once with the writer's connection, before any other work. ``vfs`` names the SQLite file layer.
    Belongs to one event loop.
    """

    def __init__(
        self, path: str | None, *, prepare: Callable[[apsw.Connection], None], vfs: str | None = None
    ) -> None:
        self.path: Final = os.path.realpath(path) if path is not None else None
        self._named = os.path.abspath(path) if path is not None else None
        self._prepare = prepare
        self._vfs = vfs
        self._files: DatabaseFiles | None = None
        self._owned_files: DatabaseFiles | None = None
        self._writer: ConnectionThreads | None = None
        self._readers: ConnectionThreads | None = None
        self._lister: ConnectionThreads | None = None
        self._copier: ConnectionThreads | None = None
        self._pages_written = 0
        self._pages_copied = 0

    async def open(self) -> None:
        """Take the files for this process and connect. Does nothing if the database is open.

        Raises:
            CannotOpenError: The database cannot be opened as it is.
        """
        if self._writer is not None:
            return
        check_sqlite()
        if self.path is not None:
            check_path(self.path)
            files = DatabaseFiles(self.path, link=None if self._named == self.path else self._named)
            files.take()
            self._files = self._owned_files = files
        try:
            await self._start_threads()
        except BaseException:
            await self.close()
            raise

    async def _start_threads(self) -> None:
        writer = ConnectionThreads(
            "store-writer",
            self._connect,
            after=self._after_write,
            idle_seconds=WAL_IDLE_SECONDS,
            idle=self._copy_log,
        )
        await writer.start()
        self._writer = self._readers = self._lister = self._copier = writer
        if (path := self.path) is not None:
            self._readers = await self._start_readers("store-reader", path, READERS)
            self._lister = await self._start_readers("store-lister", path)
            self._copier = await self._start_readers("store-copier", path)
            if (files := self._files) is not None:
                await writer.submit(lambda _: files.watch_readers())

    async def _start_readers(self, name: str, path: str, count: int = 1) -> ConnectionThreads:
        threads = ConnectionThreads(name, lambda: connect_reader(path, self._vfs), count=count)
        await threads.start()
        return threads

    def _connect(self) -> apsw.Connection:
        connection = connect_writer(self.path or ":memory:", self._vfs)
        files = self._files
        try:
            if files is not None:
                files.accept(connection)
            self._prepare(connection)
            if self.path is not None:
                sync_directory(self.path)
            if files is not None:
                files.watch(connection)
        except (apsw.Error, OSError) as error:
            connection.close()
            raise CannotOpenError(f"cannot set up {self.path}: {error}") from error
        except BaseException:
            connection.close()
            raise
        return connection

    async def close(self) -> None:
        """Finish the submitted work, close every connection and release the files. Can be called twice."""
        # A lock or a thread that is left open could not be closed by a second call.
        await finish(self._close())

    async def _close(self) -> None:
        readers, lister, copier = self._readers, self._lister, self._copier
        writer, files = self._writer, self._owned_files
        self._readers = self._lister = self._copier = self._writer = self._owned_files = None
        if writer is not None and files is not None:
            # On the writer's thread, so that no check is running while their descriptors are closed.
            with contextlib.suppress(StoreError):
                await writer.submit(lambda _: files.unwatch_readers())
        for threads in (copier, lister, readers):
            if threads is not None and threads is not writer:
                await threads.close()
        if writer is not None:
            if files is not None:
                # Closing copies the log and removes it by its path, which must still be the open one.
                with contextlib.suppress(StoreError):
                    await writer.submit(files.is_sound)
            await writer.close()
        if files is not None:
            files.close()

    def healthy(self) -> bool:
        """Return False once all writes are rejected until a restart."""
        files = self._files
        return files is None or not files.fenced

    def paths(self) -> frozenset[str]:
        """Return the paths of the files that the database has or can have, none for a database in memory."""
        path = self.path
        return frozenset() if path is None else frozenset(f"{path}{suffix}" for suffix in _SUFFIXES)

    def copier(self) -> ConnectionThreads:
        """Return the thread for backups. Raises `StoreUnavailableError` if the database is closed."""
        return _open(self._copier)

    # --- work ------------------------------------------------------------------------------------------------

    def read(self, work: Work[T]) -> asyncio.Future[T]:
        """Run work on a connection that reads. Raises `StoreUnavailableError` if the database is closed."""
        return _open(self._readers).submit(work)

    def read_list(self, work: Work[T]) -> asyncio.Future[T]:
        """Run work on the connection for lists. Raises `StoreUnavailableError` if the database is closed."""
        return _open(self._lister).submit(work)

    async def write(self, work: Work[T]) -> T:
        """Run work on the connection that writes, and return once its effect is proven to be in the right files.

        Raises `StoreUnavailableError` if the database is closed or rejects writes, `CommitUnknownError` if the effect
        is unknown, and what ``work`` raises.
        """
        writer, files = _open(self._writer), self._files
        if files is None:
            return await writer.submit(work)

        def run(connection: apsw.Connection) -> T:
            files.check_writable(connection)
            try:
                result = work(connection)
            except BaseException:
                files.forget_pending()
                # A failure can be the first sign of a closed descriptor. The log then says how to recover.
                files.is_sound(connection)
                raise
            files.confirm(connection)
            return result

        return await writer.submit(run)

    def count_commit(self, connection: apsw.Connection) -> None:
        """Raise the commit number in the open transaction."""
        if self._files is not None:
            self._files.advance(connection)

    # --- the log ---------------------------------------------------------------------------------------------

    def _after_write(self, connection: apsw.Connection) -> None:
        self._pages_written = connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)[0]
        if self._pages_written - self._pages_copied >= WAL_PAGES_MAX:
            self._copy_log(connection)

    def _copy_log(self, connection: apsw.Connection) -> None:
        """Copy the log into the database, so that the next commit starts it again.

        The writer does this because only between its commits the whole log can be copied. A reader that another tool
        keeps open stops the copy. The log then grows until that reader ends, with no other effect.
        """
        if self._pages_written == self._pages_copied:
            return
        files = self._files
        if files is not None and not files.is_sound(connection):
            return
        self._pages_copied = self._pages_written
        try:
            frames, copied = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            log.warning("the log could not be copied into the database: %s", error)
            return
        finally:
            if files is not None:
                files.main_file_written()
        # If its pages were written to another file, the log must stay, so the next commit must not start it again.
        if files is not None and files.is_sound(connection) and frames == copied >= 0:
            files.log_copied()


def _open(threads: ConnectionThreads | None) -> ConnectionThreads:
    if threads is None:
        raise StoreUnavailableError("the store is closed")
    return threads
