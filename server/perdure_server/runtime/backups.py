"""Backups that a server takes of its own database: one at a time, into one directory, until the server stops."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

from perdure_server.runtime.errors import BackupNotConfiguredError, BackupRunningError, ServerStoppingError
from perdure_server.store.protocol import Backup, Store


class BackupDirectoryError(ValueError):
    """A directory for backups that cannot be used. ``hint`` says what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.message = message
        self.hint = hint


def backup_directory(directory: str | Path) -> str:
    """Return the absolute path of a directory for backups. Raises `BackupDirectoryError` if it cannot be used."""
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
            f"backup directory {str(directory)!r} is not a directory", "name a directory, not a file in it"
        )
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise BackupDirectoryError(
            f"backup directory {str(directory)!r} is not writable by this user",
            "give the server's user read and write access to it",
        )
    return path


class Backups:
    """Takes backups of a store.

    ``directory`` is what `backup_directory` returned. With None, backups are rejected until the database's files
    changed under the server. Then they go into the directory of the database, because a restart would lose data.
    """

    def __init__(self, store: Store, directory: str | None = None) -> None:
        self._store = store
        self._directory = directory
        self._task: asyncio.Task[Backup] | None = None
        self._stopped = asyncio.Event()

    async def take(self, file_name: str) -> Backup:
        """Take a backup. Cancelling the caller cancels it and removes what is incomplete.

        Raises:
            BackupNotConfiguredError: The server has no directory for backups.
            BackupRunningError: Another backup is running.
            ServerStoppingError: The server is stopping, or stopped during the backup.
            StoreError: What `Store.back_up` raises.
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
        """Cancel a backup that is running, and return once nothing remains of it. Later ones are rejected."""
        self._stopped.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
