"""A simulated disk that loses power: a SQLite file layer that tracks which writes were synced.

All writes really happen, so that SQLite can work on the files. In addition, a `Disk` records the contents of each file
at its last sync and each write since. At the cut, all writes stop at once. `Disk.leave` then writes the files as the
next start can find them:

- Any subset of the unsynced writes is present, by sector, and for the last sector by byte.
- A file can be longer than its data, with zeros or random bytes in its holes.
- A new name can be missing, and a removed name can be back, if no sync of the directory covered the change.

Must not: know the stored data.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import apsw

SECTOR_BYTES: Final = 512

Write = tuple[int, bytes]
"""Offset and data. A truncation is an empty write at the new end."""


@dataclass(slots=True)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[Write] = field(default_factory=list)
    is_named: bool = False


class PowerLost(apsw.IOError):
    """Error of every write after the cut."""


class Disk(apsw.VFS):
    """A file layer over the default one, under its own name.

    ``cut_after`` is the number of writes and syncs until the power goes. None leaves the power on. From that number on,
    the power goes at the first write or sync for which ``can_cut`` returns True. ``on_cut`` is called at the cut and
    ``on_sync`` after each sync, both by the thread that writes.
    """

    def __init__(
        self,
        name: str,
        *,
        on_cut: Callable[[], None],
        on_sync: Callable[[], None] = lambda: None,
        can_cut: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__(name, "")
        self.name = name
        self._files: dict[str, _File] = {}
        self._removed: dict[str, _File] = {}
        self._lock = threading.Lock()
        self._on_cut = on_cut
        self._on_sync = on_sync
        self._can_cut = can_cut
        self.cut_after: int | None = None
        self.is_cut = False
        self.operations = 0

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        return _DiskFile(self, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        with self._lock:
            self._count()
            super().xDelete(filename, syncdir)
            gone = self._files.pop(filename, None)
            if gone is not None and not syncdir:
                self._removed[filename] = gone

    def names_synced(self) -> None:
        """The directory was synced: what is in it stays, what is not is gone."""
        with self._lock:
            for file in self._files.values():
                file.is_named = True
            self._removed.clear()

    def cut(self) -> None:
        """Cut the power now, if it is still on."""
        with self._lock:
            self._cut()

    def leave(self, folder: Path, chance: random.Random, *, share: float | None = None) -> None:
        """Write what the cut left into another folder.

        ``share`` is the share of the unsynced writes that survive. None chooses it at random.
        """
        assert self.is_cut
        if share is None:
            share = chance.choice([0.0, 0.1, 0.5, 0.9, 1.0])
        for path, file in (self._files | self._removed).items():
            if (not file.is_named or path in self._removed) and chance.random() < 0.5:
                continue
            (folder / os.path.basename(path)).write_bytes(_left_of(file, share, chance))

    # --- for the files -----------------------------------------------------------------------------------------

    def opened(self, path: str) -> None:
        with self._lock:
            if path not in self._files:
                assert not os.path.exists(path) or not os.path.getsize(path), "the disk is empty at the start"
                self._files[path] = _File()

    def wrote(self, path: str, offset: int, data: bytes, write: Callable[[], None]) -> None:
        with self._lock:
            # On its way when the power goes: a part of it may have arrived.
            if not self.is_cut:
                self._files[path].unsynced.append((offset, bytes(data)))
            self._count()
            write()

    def synced(self, path: str, *, names_it: bool) -> None:
        with self._lock:
            self._count()
            file = self._files[path]
            for offset, data in file.unsynced:
                _apply(file.durable, offset, data, b"\0")
            file.unsynced.clear()
            file.is_named = file.is_named or names_it
            self._on_sync()

    def _count(self) -> None:
        self.operations += 1
        if self.cut_after is not None and self.operations > self.cut_after and self._can_cut():
            self._cut()
        if self.is_cut:
            raise PowerLost("the power is gone")

    def _cut(self) -> None:
        if not self.is_cut:
            self.is_cut = True
            self._on_cut()


class _DiskFile(apsw.VFSFile):
    def __init__(self, disk: Disk, path: str | None, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._path = path
        # The default layer syncs the directory of a new journal or log with its first sync (os_unix.c, DIRSYNC).
        self._names_itself = bool(flags[0] & (apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL))
        super().__init__("", name, flags)
        if path is not None:
            disk.opened(path)

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._path is None:
            super().xWrite(data, offset)
        else:
            self._disk.wrote(self._path, offset, data, lambda: apsw.VFSFile.xWrite(self, data, offset))

    def xTruncate(self, newsize: int) -> None:
        if self._path is None:
            super().xTruncate(newsize)
        else:
            self._disk.wrote(self._path, newsize, b"", lambda: apsw.VFSFile.xTruncate(self, newsize))

    def xSync(self, flags: int) -> None:
        # Not passed on: the machine under the test keeps its power, and is spared the wait.
        if self._path is not None:
            self._disk.synced(self._path, names_it=self._names_itself)


def _left_of(file: _File, share: float, chance: random.Random) -> bytes:
    content = bytearray(file.durable)
    hole = chance.choice([b"\0", b"\xa5"])
    for offset, data in file.unsynced:
        if not data:
            if chance.random() < share:
                _apply(content, offset, data, hole)
            continue
        whole = chance.random()
        if whole < share:
            _apply(content, offset, data, hole)
        elif whole < share + (1 - share) / 2:
            for start in range(0, len(data), SECTOR_BYTES):
                if chance.random() < share:
                    _apply(content, offset + start, data[start : start + SECTOR_BYTES], hole)
        elif share:
            _apply(content, offset, data[: chance.randrange(len(data))] or data[:1], hole)
    return bytes(content)


def _apply(content: bytearray, offset: int, data: bytes, hole: bytes) -> None:
    if not data:
        del content[offset:]
    if offset > len(content):
        content.extend(hole * (offset - len(content)))
    content[offset : offset + len(data)] = data
