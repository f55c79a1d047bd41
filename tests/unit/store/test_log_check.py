"""Damage in the middle of a log is distinguished from what a loss of power and a failed commit leave at its end."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw
import pytest

from perdure_server.store.sqlite.log_check import log_is_damaged

TRANSACTIONS: Final = 12
FRAME_BYTES: Final = 24 + 4096
SECTOR_BYTES: Final = 512


@dataclass(frozen=True)
class Log:
    """A database with a log of several transactions. ``ends`` are the sizes of the log after each."""

    path: Path
    ends: tuple[int, ...]

    @property
    def log(self) -> Path:
        return Path(f"{self.path}-wal")


def connect(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.execute("PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = 10")
    return connection


def write(connection: apsw.Connection, rng: random.Random) -> None:
    with connection:
        for _ in range(rng.randrange(1, 6)):
            connection.execute("INSERT INTO t VALUES (randomblob(?))", (rng.randrange(100, 9_000),))


@pytest.fixture
def made(tmp_path: Path) -> Log:
    rng = random.Random(7)
    path = tmp_path / "p.db"
    connection = connect(path)
    connection.execute("CREATE TABLE t (x)")
    # A first generation, whose frames stay behind those of the second.
    for _ in range(3 * TRANSACTIONS):
        write(connection, rng)
    connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    ends, frames = [], 0
    for _ in range(TRANSACTIONS):
        write(connection, rng)
        frames = connection.execute("PRAGMA wal_checkpoint(NOOP)").fetchall()[0][1]  # type: ignore[assignment]
        ends.append(32 + int(frames) * FRAME_BYTES)
    connection.close()
    log = Log(path, tuple(ends))
    assert log.log.stat().st_size > ends[-1]
    return log


@contextlib.contextmanager
def copied(made: Log, target: Path) -> Iterator[Path]:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name in (made.path, made.log):
        shutil.copy(name, target)
    yield target / made.log.name


def is_damaged(log: Path) -> bool:
    """Open the database as a server does and look at its log."""
    path = Path(str(log).removesuffix("-wal"))
    connection = connect(path)
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    index = os.open(f"{path}-shm", os.O_RDONLY)
    try:
        return log_is_damaged(str(log), index)
    finally:
        connection.close()
        os.close(index)


def test_a_sound_log_is_sound(made: Log) -> None:
    assert not is_damaged(made.log)


def test_damage_before_two_more_transactions_is_found_wherever_it_is(made: Log, tmp_path: Path) -> None:
    rng = random.Random(1)
    for _ in range(60):
        with copied(made, tmp_path / "copy") as log:
            at = rng.randrange(32, made.ends[-4])
            with log.open("r+b") as file:
                file.seek(at)
                old = file.read(1)
                file.seek(at)
                file.write(bytes([old[0] ^ rng.randrange(1, 256)]))
            assert is_damaged(log), f"a byte at {at} of {made.ends}"


def test_a_torn_last_transaction_is_not_damage(made: Log, tmp_path: Path) -> None:
    rng = random.Random(2)
    first, end = made.ends[-2], made.ends[-1]
    old = random.Random(3).randbytes(end)
    for _ in range(60):
        with copied(made, tmp_path / "copy") as log:
            content = bytearray(log.read_bytes())
            share = rng.random()
            for sector in range(first // SECTOR_BYTES, end // SECTOR_BYTES + 1):
                start, stop = max(first, sector * SECTOR_BYTES), min(end, (sector + 1) * SECTOR_BYTES)
                if rng.random() < share:
                    filling = rng.choice([bytes(stop - start), old[start:stop]])
                    content[start:stop] = filling
            log.write_bytes(content[: rng.choice([end, len(content)])])
            assert not is_damaged(log)


def test_a_log_that_was_cut_off_is_not_damage(made: Log, tmp_path: Path) -> None:
    rng = random.Random(4)
    for _ in range(30):
        with copied(made, tmp_path / "copy") as log:
            os.truncate(log, rng.randrange(0, made.ends[-1]))
            assert not is_damaged(log)


def test_frames_that_failed_commits_left_behind_are_not_damage(tmp_path: Path) -> None:
    """A commit that failed in its sync leaves whole transactions that the next, shorter ones overwrite in part."""

    class Failing(apsw.VFS):
        fails = False

        def __init__(self) -> None:
            super().__init__("failing-syncs", "")

        def xOpen(self, name: object, flags: list[int]) -> apsw.VFSFile:
            layer = self

            class File(apsw.VFSFile):
                def __init__(self) -> None:
                    super().__init__("", name, flags)  # type: ignore[arg-type]

                def xSync(self, flags: int) -> None:
                    if layer.fails:
                        error = apsw.IOError("planted")
                        error.extendedresult = apsw.SQLITE_IOERR_FSYNC
                        raise error

            return File()

    layer = Failing()
    path = tmp_path / "p.db"
    connection = apsw.Connection(str(path), vfs="failing-syncs")
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.execute("PRAGMA journal_mode = wal; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE t (x)")
    for size in (60_000, 40_000, 25_000, 12_000, 100):
        layer.fails = True
        with contextlib.suppress(apsw.Error):
            connection.execute("INSERT INTO t VALUES (randomblob(?))", (size,))
        layer.fails = False
        connection.execute("SELECT count(*) FROM t").fetchall()
    connection.execute("INSERT INTO t VALUES (1)")
    connection.close()
    layer.unregister()
    log = Path(f"{path}-wal")
    headers = log.read_bytes()[32::FRAME_BYTES]
    assert len(headers) > 8
    commits = [
        offset
        for offset in range(32, log.stat().st_size - FRAME_BYTES, FRAME_BYTES)
        if struct.unpack_from(">I", log.read_bytes(), offset + 4)[0]
    ]
    assert len(commits) >= 3, "nothing was left behind"

    assert not is_damaged(log)
