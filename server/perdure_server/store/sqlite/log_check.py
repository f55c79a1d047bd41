"""Detection of damage in the middle of a write-ahead log.

SQLite reads a log up to the first frame whose checksum is wrong, since a loss of power leaves such a frame at the
end. A damaged frame in the middle looks the same to it, and every acknowledged commit behind the damage vanishes
silently.

Theory of operation. A frame's checksum continues that of the frame before it, so a transaction that follows another
one in one chain was started after the other was synced. If two such transactions follow the end that SQLite
found, the first of them was acknowledged, and no loss of power explains the gap. Anything less can be what a loss of
power or a failed commit left behind. The format is described at
https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import os
import struct
from typing import Final

_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24
_SALTS: Final = slice(8, 16)
_CHECKSUM: Final = slice(16, 24)

_INDEX_HEADER: Final = struct.Struct("=I4xIBBHII8s8s")
"""The start of the `-shm` file: version, change counter, is-initialized, byte order of checksums, page size, last
frame, database pages, checksum, salts."""


def log_is_damaged(log_path: str, index_descriptor: int) -> bool:
    """Return True if acknowledged transactions follow the end of the log that SQLite found.

    ``index_descriptor`` is an open `-shm` file, after SQLite read the database. Raises ``OSError``.
    """
    index = os.pread(index_descriptor, _INDEX_HEADER.size, 0)
    if len(index) < _INDEX_HEADER.size:
        return False
    last_frame = _INDEX_HEADER.unpack(index)[-4]
    descriptor = os.open(log_path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        log = _Log(descriptor)
        # A damaged header can be one that was being replaced when the power went. The commit number decides.
        return log.has_sound_header() and log.continues_behind(last_frame)
    finally:
        os.close(descriptor)


def log_bytes_min(index_descriptor: int) -> int:
    """Return the size that the log has at least, by its index. Raises ``OSError``."""
    index = os.pread(index_descriptor, _INDEX_HEADER.size, 0)
    if len(index) < _INDEX_HEADER.size:
        return 0
    page_bytes, last_frame = _INDEX_HEADER.unpack(index)[-5:-3]
    frame_bytes = _FRAME_HEADER_BYTES + (1 << 16 if page_bytes == 1 else page_bytes)
    return _HEADER_BYTES + int(last_frame) * int(frame_bytes) if last_frame else 0


class _Log:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._header_bytes = os.pread(descriptor, _HEADER_BYTES, 0).ljust(_HEADER_BYTES, b"\0")
        magic, _, self._page_bytes = struct.unpack_from(">III", self._header_bytes)
        self._salts = self._header_bytes[16:24]
        self._byte_order = ">" if magic & 1 else "<"
        self._frame_bytes = _FRAME_HEADER_BYTES + self._page_bytes
        self._frames = (os.fstat(descriptor).st_size - _HEADER_BYTES) // self._frame_bytes

    def has_sound_header(self) -> bool:
        """Return True if the checksum of the log's own header is right."""
        return self._checksum(bytes(8), self._header_bytes[:24]) == self._header_bytes[24:]

    def continues_behind(self, last_frame: int) -> bool:
        """Return True if two transactions in one chain follow somewhere behind a frame."""
        commits = sum(
            self._commits(self._header(number)) for number in range(last_frame + 1, self._frames + 1)
        )
        if commits < 2:
            return False  # the usual case, without reading a page
        follows_commit = False
        for number in range(last_frame + 2, self._frames + 1):
            if not self._is_sound(number):
                follows_commit = False
            elif self._commits(self._header(number)):
                if follows_commit:
                    return True
                follows_commit = True
        return False

    def _header(self, number: int) -> bytes:
        return os.pread(
            self._descriptor, _FRAME_HEADER_BYTES, _HEADER_BYTES + (number - 1) * self._frame_bytes
        )

    def _commits(self, header: bytes) -> bool:
        return header[_SALTS] == self._salts and header[4:8] != b"\0\0\0\0"

    def _is_sound(self, number: int) -> bool:
        """Return True if a frame's checksum continues that of the frame before it."""
        header = self._header(number)
        if header[_SALTS] != self._salts:
            return False
        offset = _HEADER_BYTES + (number - 1) * self._frame_bytes + _FRAME_HEADER_BYTES
        page = os.pread(self._descriptor, self._page_bytes, offset)
        return self._checksum(self._header(number - 1)[_CHECKSUM], header[:8] + page) == header[_CHECKSUM]

    def _checksum(self, seed: bytes, content: bytes) -> bytes:
        first, second = struct.unpack(">II", seed)
        words = struct.unpack(f"{self._byte_order}{len(content) // 4}I", content)
        for even, odd in zip(words[::2], words[1::2], strict=True):
            first = (first + even + second) & 0xFFFFFFFF
            second = (second + odd + first) & 0xFFFFFFFF
        return struct.pack(">II", first, second)
