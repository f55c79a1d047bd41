"""Backups of the server's own database: one at a time, into one directory."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

from perdure_server.runtime.errors import BackupNotConfiguredError, BackupRunningError, ServerStoppingError
from perdure_server.store.protocol import Backup, Store


class BackupDirectoryError(ValueError):
    """A backup directory that cannot be used. ``hint`` says how to fix it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.message = message
        self.hint = hint


def backup_directory(directory: str | Path) -> str:
    """Return the absolute path of a backup directory. Raises `BackupDirectoryError` if it cannot be used."""
    path = os.path.realpath(directory)
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BackupDirectoryError(
            f"backup directory {str(directory)!r} cannot be used: {reason}", "create the directory first"
        ) from None
    if not stat.S_ISDIR(mode):
        raise BackupDirectoryError(
            f"backup directory {str(directory)!r} is not a directory", "pass a directory, not a file"
        )
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise BackupDirectoryError(
            f"backup directory {str(directory)!r} is not writable by this user",
            "give the server's user read and write access to it",
        )
    return path


class Backups:
    """Takes backups of a store.

    ``directory`` is a result of `backup_directory`. With None, backups are rejected, unless the database's files were
    changed while the server runs. In that case, backups go into the directory of the database, because a restart would
    lose data.
    """

    def __init__(self, store: Store, directory: str | None = None) -> None:
        self._store = store
        self._directory = directory
        self._task: asyncio.Task[Backup] | None = None
        self._stopped = asyncio.Event()

    async def take(self, file_name: str) -> Backup:
        """Take a backup. Cancelling the caller cancels the backup and removes the incomplete file.

        Raises:
            BackupNotConfiguredError: The server has no backup directory.
            BackupRunningError: Another backup is running.
            ServerStoppingError: The server is stopping, or stopped during the backup.
            StoreError: The backup failed.
        """
        directory = self._directory or self._store.rescue_directory()
        if directory is None:
            raise BackupNotConfiguredError
        if self._stopped.is_set():
            raise ServerStoppingError
        if self._task is not None:
            raise BackupRunningError
        task = asyncio.get_running_loop().create_task(self._store.back_up(directory, file_name))
        self._task = task
        try:
            return await task
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            assert caller is not None
            if self._stopped.is_set() and not caller.cancelling():
                raise ServerStoppingError from None
            raise
        finally:
            self._task = None

    async def stop(self) -> None:
        """Cancel a running backup, and return when its file is removed. Later backups are rejected."""
        self._stopped.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
