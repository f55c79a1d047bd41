"""System calls of the writer thread that keep the interpreter lock.

A call of the `os` module gives the interpreter lock away, and taking it back from a busy thread costs a hundred
microseconds or more. The calls below read or write kernel memory within a microsecond, so they keep the lock. They must
not be used for anything that can wait for a disk or a network.

Outside Linux, and with a C library that lacks a symbol, the `os` module does the same work and `LockProbe` knows
nothing.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from typing import Final

_LINUX: Final = sys.platform == "linux" and struct.calcsize("P") == 8
"""The layouts below are those of 64-bit Linux, which all its architectures share."""

_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_STATX_FIELDS: Final = 0x1 | 0x4 | 0x40 | 0x100 | 0x200
"""Type, number of links, time of the last change, inode and size."""
_STATX_BYTES: Final = 256
_STATX_INODE_WORD: Final = 32 // 8
_STATX_SIZE_WORD: Final = 40 // 8
_STATX_CHANGED_WORDS: Final = (112 // 8, 120 // 8)
_STATX_DEVICE_WORD: Final = 136 // 8
"""Places in `struct statx`, in words of eight bytes: `stx_ino`, `stx_size`, `stx_mtime`, and `stx_dev_major` with
`stx_dev_minor`."""

_F_OFD_GETLK: Final = 36
_FLOCK: Final = struct.Struct("=hhiqqii")
_F_WRLCK: Final = 1
_F_UNLCK: Final = 2

_STATFS_BYTES: Final = 256
_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {
        0x6969,  # NFS
        0x517B,  # SMB
        0xFF534D42,  # CIFS
        0xFE534D42,  # SMB2
        0x01021997,  # 9P
        0x00C36400,  # Ceph
        0x5346414F,  # AFS
        0x73757245,  # Coda
        0x7461636F,  # OCFS2
        0x01161970,  # GFS2
        0x0BD00BD0,  # Lustre
        0x65735546,  # FUSE
    }
)
"""File systems whose `flock` can be made of the POSIX locks that SQLite takes, by the type that `statfs` returns."""


FileIdentity = tuple[int, int]
"""Device and inode of a file. Two files that exist at the same time never share both. Comparable with each other only:
the device is not encoded as in `os.stat`."""


def _library() -> ctypes.PyDLL | None:
    if not _LINUX:
        return None
    try:
        library = ctypes.PyDLL(None)
        library["statx"], library["fcntl"], library["statfs"]
        library.pwrite.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int64)
        library.pwrite.restype = ctypes.c_ssize_t
    except (OSError, AttributeError):
        return None
    return library


_LIBRARY: Final = _library()


class FileProbe:
    """The identity of one file, read again and again: of the file at a path, or of an open one. Belongs to one thread.

    ``named`` is a path or a descriptor.
    """

    __slots__ = ("_arguments", "_found", "_statx", "_words", "named")

    def __init__(self, named: str | int) -> None:
        self.named = named
        self._found: os.stat_result | None = None
        is_open = isinstance(named, int)
        buffer = ctypes.create_string_buffer(_STATX_BYTES)
        self._words = memoryview(buffer).cast("B").cast("Q")
        self._statx = None if _LIBRARY is None else _LIBRARY["statx"]
        # Converted once: converting them costs as much as the call.
        self._arguments = (
            ctypes.c_int(named if isinstance(named, int) else _AT_FDCWD),
            ctypes.c_char_p(b"" if isinstance(named, int) else os.fsencode(named)),
            ctypes.c_int(_AT_EMPTY_PATH if is_open else 0),
            ctypes.c_uint(_STATX_FIELDS),
            ctypes.byref(buffer),
        )

    def identity(self) -> FileIdentity | None:
        """Return the file's identity, None if there is no file or it cannot be looked up."""
        if self._statx is None:
            try:
                found = self._found = os.stat(self.named)
            except OSError:
                return None
            return found.st_dev, found.st_ino
        if self._statx(*self._arguments) != 0:
            return None
        return self._words[_STATX_DEVICE_WORD], self._words[_STATX_INODE_WORD]

    def size_bytes(self) -> int:
        """Return the size that the last `identity` found."""
        return self._words[_STATX_SIZE_WORD] if self._found is None else self._found.st_size

    def stamp(self) -> tuple[int, ...]:
        """Return what the last `identity` found of the file's content: its size and the time of its last change."""
        if self._found is not None:
            return self._found.st_size, self._found.st_mtime_ns
        seconds, nanoseconds = _STATX_CHANGED_WORDS
        return self._words[_STATX_SIZE_WORD], self._words[seconds], self._words[nanoseconds]


def open_descriptors() -> list[int]:
    """Return the open descriptors of this process, an empty list if the system does not list them."""
    for directory in ("/proc/self/fd", "/dev/fd"):
        try:
            return [int(name) for name in os.listdir(directory)]
        except (OSError, ValueError):
            continue
    return []


class LockProbe:
    """The holder of a POSIX lock on a range of one open file. Belongs to one thread."""

    __slots__ = ("_arguments", "_asked", "_bytes", "_fcntl")

    def __init__(self, descriptor: int, start: int, length: int) -> None:
        # A lock of an open file description conflicts with every POSIX lock, this process's own included.
        self._asked = _FLOCK.pack(_F_WRLCK, os.SEEK_SET, 0, start, length, 0, 0)
        buffer = ctypes.create_string_buffer(self._asked, _FLOCK.size)
        self._bytes = memoryview(buffer).cast("B")
        self._fcntl = None if _LIBRARY is None else _LIBRARY["fcntl"]
        self._arguments = (ctypes.c_int(descriptor), ctypes.c_int(_F_OFD_GETLK), ctypes.byref(buffer))

    def holder(self) -> int | None:
        """Return the id of a process that holds a lock on the range, None if none does, -1 if it cannot be known."""
        if self._fcntl is None:
            return -1
        self._bytes[:] = self._asked
        if self._fcntl(*self._arguments) != 0:
            return -1
        kind, _, _, _, _, process_id, _ = _FLOCK.unpack(self._bytes)
        return None if kind == _F_UNLCK else int(process_id)


def write_at_start(descriptor: int, record: bytes) -> bool:
    """Write to the start of a file, without a sync. Returns False if the system did not take all of it."""
    if _LIBRARY is None:
        try:
            return os.pwrite(descriptor, record, 0) == len(record)
        except OSError:
            return False
    return bool(_LIBRARY.pwrite(descriptor, record, len(record), 0) == len(record))


def has_local_flock(path: str) -> bool:
    """Return True if `flock` on a file at the path is known to be independent of SQLite's POSIX locks."""
    if _LIBRARY is None:
        return False
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _LIBRARY.statfs(os.fsencode(path), buffer) != 0:
        return False
    (kind,) = struct.unpack_from("=q", buffer)
    return kind & 0xFFFFFFFF not in _NETWORK_FILE_SYSTEMS
