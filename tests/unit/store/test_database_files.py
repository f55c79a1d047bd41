"""The proof before each response that the files of a database are still the open ones, in one process."""

# ruff: noqa: ASYNC220, ASYNC221, ASYNC222, ASYNC230, ASYNC240, SIM115 - a test may look at its own few files while its loop does not run

from __future__ import annotations

import ctypes
import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure_server.store.protocol import (
    COMMITTED,
    CannotOpenError,
    CommitUnknownError,
    DatabaseInUseError,
    LostCommitsError,
    StoreUnavailableError,
)
from perdure_server.store.sqlite import SqliteStore, syscalls
from perdure_server.store.sqlite.database_files import DatabaseFiles
from perdure_server.store.sqlite.file_lock import RECORD_BYTES, CommitRecord, FileLock
from support.factories import a_change, a_definition, a_state

LIBRARY = ctypes.CDLL(None)


def remove(path: str) -> None:
    """Remove a file as another process would."""
    subprocess.run(["rm", path], check=True)


def drop_locks(path: str) -> None:
    """Open and close a file as native code in this process would."""
    LIBRARY.close(LIBRARY.open(path.encode(), os.O_RDONLY))


FAULTS: list[Callable[[str], None]] = [
    remove,
    lambda path: remove(f"{path}-wal"),
    lambda path: remove(f"{path}-shm"),
    drop_locks,
    lambda path: drop_locks(f"{path}-shm"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=["database", "log", "index", "lock", "lock-of-the-index"])
async def test_the_batch_that_sees_a_fault_is_unknown_and_later_ones_are_unavailable(
    fault: Callable[[str], None], store: SqliteStore, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = a_state()
    assert list(await store.commit([a_change(before)])) == [COMMITTED]
    assert store.healthy()

    fault(path)

    with pytest.raises(CommitUnknownError, match="files changed under the server"):
        await store.commit([a_change(a_state())])
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            await store.commit([a_change(a_state())])
    with pytest.raises(StoreUnavailableError):
        await store.heartbeat("r", lease_ms=1_000)
    assert not store.healthy()
    assert await store.load(before.instance_id) == before
    (record,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert "do not restart, run perdure db backup NAME" in record.getMessage()


def descriptors_of(path: str) -> list[int]:
    """Return the open descriptors of this process on a file, the writer's first."""
    directory = Path("/proc/self/fd")
    if not directory.exists():
        pytest.skip("this system does not list descriptors")
    found = sorted(int(entry.name) for entry in directory.iterdir())
    wanted = os.stat(path)
    return [number for number in found if Path(f"{directory}/{number}").exists() and is_on(number, wanted)]


def is_on(descriptor: int, wanted: os.stat_result) -> bool:
    return os.path.samestat(os.fstat(descriptor), wanted)


@pytest.mark.parametrize("lock_removed", [False, True])
async def test_a_clean_stop_copies_the_log_and_reports_no_fault(
    store: SqliteStore, path: str, caplog: pytest.LogCaptureFixture, lock_removed: bool
) -> None:
    state = a_state()
    assert list(await store.commit([a_change(state)])) == [COMMITTED]
    assert await store.load(state.instance_id) == state
    if lock_removed:
        remove(f"{path}.lock")
        store._database._files._look_at = 0.0  # type: ignore[union-attr]
        assert list(await store.commit([a_change(a_state())])) == [COMMITTED]
        assert Path(f"{path}.lock").exists()

    await store.close()

    assert [record for record in caplog.records if record.levelno == logging.CRITICAL] == []
    assert not Path(f"{path}-wal").exists()


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", ".lock"])
async def test_a_commit_that_went_into_another_file_is_unknown(
    suffix: str, store: SqliteStore, path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As after code in the process closed a descriptor twice, and the second time it was SQLite's."""
    states = [a_state() for _ in range(5)]
    for state in states:
        assert list(await store.commit([a_change(state)])) == [COMMITTED]
    other = tmp_path / "other"
    with other.open("w+b") as file:
        for number in descriptors_of(f"{path}{suffix}"):
            os.dup2(file.fileno(), number)
    if suffix in ("", "-shm"):
        # No commit writes to these, so they are looked at once a second.
        store._database._files._look_at = 0.0  # type: ignore[union-attr]

    with pytest.raises((CommitUnknownError, StoreUnavailableError)):
        await store.commit([a_change(a_state())])
    for _ in range(3):
        with pytest.raises(StoreUnavailableError, match="restart the server"):
            await store.commit([a_change(a_state())])

    assert not store.healthy()
    (record,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert "restart the server" in record.getMessage()
    assert "do not" not in record.getMessage()
    await store.close()
    assert b"perdure-commits" not in other.read_bytes()
    reopened = SqliteStore(path)
    await reopened.open()
    assert [await reopened.load(state.instance_id) for state in states] == states
    await reopened.close()


async def test_a_link_that_leads_elsewhere_takes_no_more_commits(tmp_path: Path) -> None:
    """As of a deploy that switches a folder's link, which the next start follows to an older database."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    link = tmp_path / "current"
    link.symlink_to("first")
    store = SqliteStore(str(link / "p.db"))
    await store.open()
    await store.put_definition(a_definition())
    state = a_state()
    assert list(await store.commit([a_change(state)])) == [COMMITTED]

    link.unlink()
    link.symlink_to("second")

    with pytest.raises(CommitUnknownError, match="do not restart"):
        await store.commit([a_change(a_state())])
    assert await store.load(state.instance_id) == state
    await store.close()


async def test_a_log_that_was_cut_in_place_takes_no_more_commits(store: SqliteStore, path: str) -> None:
    for _ in range(5):
        await store.commit([a_change(a_state())])
    subprocess.run(["truncate", "--size=0", f"{path}-wal"], check=True)

    for _ in range(3):
        with pytest.raises(StoreUnavailableError, match="stop the server and restore a backup"):
            await store.commit([a_change(a_state())])
    await store.close()
    with pytest.raises(LostCommitsError):
        await SqliteStore(path).open()


@pytest.mark.parametrize("copied_bytes", [None, 0, 5_000])
async def test_a_database_that_was_overwritten_in_place_takes_no_more_commits(
    copied_bytes: int | None, store: SqliteStore, path: str
) -> None:
    """As by ``cp`` of an older copy over the file of a running server, which keeps its inode."""
    await copy_log(store)
    subprocess.run(["cp", path, f"{path}.older"], check=True)
    if copied_bytes is not None:
        os.truncate(f"{path}.older", copied_bytes)
    for _ in range(5):
        await store.commit([a_change(a_state())])
    await copy_log(store)
    subprocess.run(["cp", f"{path}.older", path], check=True)

    with pytest.raises(CommitUnknownError, match="overwritten"):
        await store.commit([a_change(a_state())])
    with pytest.raises(StoreUnavailableError, match="stop the server and restore a backup"):
        await store.commit([a_change(a_state())])
    await store.close()
    with pytest.raises((LostCommitsError, CannotOpenError)):
        await SqliteStore(path).open()


async def copy_log(store: SqliteStore) -> None:
    assert store._database._writer is not None
    await store._database._writer.submit(store._database._copy_log)


@pytest.mark.parametrize("mode", ["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
async def test_another_sqlite_may_copy_the_log(
    mode: str, store: SqliteStore, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1])\n"
        "assert c.execute(f'PRAGMA wal_checkpoint({sys.argv[2]})').fetchone()[1] >= 0\n"
    )
    states = [a_state() for _ in range(3)]
    for state in states:
        await store.commit([a_change(state)])
        subprocess.run([sys.executable, "-c", program, path, mode], check=True)
    os.utime(path)
    assert list(await store.commit([a_change(a_state())])) == [COMMITTED]
    await copy_log(store)
    await store.close()

    # The store's own copy of the log may have met the other one, which is a warning.
    assert [record for record in caplog.records if record.levelno > logging.WARNING] == []
    reopened = SqliteStore(path)
    await reopened.open()
    assert [await reopened.load(state.instance_id) for state in states] == states
    await reopened.close()


async def test_a_readers_descriptor_that_was_taken_over_is_noticed(
    store: SqliteStore, path: str, tmp_path: Path
) -> None:
    await store.commit([a_change(a_state())])
    with (tmp_path / "other").open("w+b") as file:
        os.dup2(file.fileno(), descriptors_of(f"{path}-wal")[-1])
    store._database._files._look_at = 0.0  # type: ignore[union-attr]

    with pytest.raises(CommitUnknownError, match="restart the server"):
        await store.commit([a_change(a_state())])


async def test_a_removed_log_is_copied_into_the_database_before_it_is_gone(
    store: SqliteStore, path: str
) -> None:
    states = [a_state() for _ in range(5)]
    for state in states:
        await store.commit([a_change(state)])
    remove(f"{path}-wal")
    with pytest.raises(CommitUnknownError):
        await store.commit([a_change(a_state())])
    await store.close()

    reopened = SqliteStore(path)
    await reopened.open()
    assert [await reopened.load(state.instance_id) for state in states] == states
    await reopened.close()


async def test_a_fenced_store_leaves_the_files_at_its_paths_alone(store: SqliteStore, path: str) -> None:
    await store.commit([a_change(a_state())])
    for suffix in ("", "-wal", "-shm"):
        remove(f"{path}{suffix}")
        subprocess.run(["sh", "-c", f"echo other > {path}{suffix}"], check=True)

    await store.close()

    assert [Path(f"{path}{suffix}").read_text() for suffix in ("", "-wal", "-shm")] == ["other\n"] * 3


async def test_a_lost_lock_is_seen_although_another_process_holds_one_too(
    store: SqliteStore, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/locks").exists():
        pytest.skip("this system does not list locks")
    program = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1]); c.execute('BEGIN'); c.execute('SELECT * FROM instances').fetchall()\n"
        "print('open', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        for _ in range(3):
            assert list(await store.commit([a_change(a_state())])) == [COMMITTED]
        drop_locks(path)
        store._database._files._look_at = 0.0  # type: ignore[union-attr]
        with pytest.raises(CommitUnknownError, match="lock on"):
            await store.commit([a_change(a_state())])
        other.kill()


async def test_a_foreign_reader_that_comes_and_goes_disturbs_nothing(store: SqliteStore, path: str) -> None:
    program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM instances').fetchall()"
    for _ in range(3):
        subprocess.run([sys.executable, "-c", program, path], check=True)
        assert list(await store.commit([a_change(a_state())])) == [COMMITTED]


async def test_a_lock_file_that_cannot_be_written_stops_nothing(store: SqliteStore, path: str) -> None:
    """As on a disk that has become read-only, or has no room for the record."""
    lock = store._database._files._lock  # type: ignore[union-attr]
    locked, lock._descriptor = lock._descriptor, os.open("/dev/full", os.O_WRONLY)
    for _ in range(3):
        assert list(await store.commit([a_change(a_state())])) == [COMMITTED]
    await store.close()
    os.close(locked)
    reopened = SqliteStore(path)
    await reopened.open()
    await reopened.close()


async def test_a_failed_commit_does_not_count(
    store: SqliteStore, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = store._database._files
    assert files is not None
    number = files._number
    with monkeypatch.context() as patch:
        patch.setattr(
            "perdure_server.store.sqlite.writer._CONFLICTING.statements", lambda _: [("SELECT broken", ())]
        )
        with pytest.raises(StoreUnavailableError):
            await store.commit([a_change(a_state())])
    await store.commit([a_change(a_state())])
    assert files._number == number + 1


# --- the lock file --------------------------------------------------------------------------------------------------


def test_a_record_is_read_back_and_a_torn_one_is_not() -> None:
    record = CommitRecord("a" * 32, 2**63, 17, 2**40, 2**64 - 1)
    encoded = record.encoded()
    assert len(encoded) <= 512
    assert CommitRecord.decoded(encoded) == record
    for torn in (
        b"",
        encoded[:-1],
        encoded[:50] + b"\0" * 78,
        encoded.replace(b"17", b"18"),
        b"\xff" * RECORD_BYTES,
    ):
        assert CommitRecord.decoded(torn) is None


def test_a_lock_file_that_was_removed_after_it_was_opened_is_created_again(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, times = FileLock(path), []
    real = FileLock._lock

    def lock_late(self: FileLock, descriptor: int) -> None:
        if not times:
            os.unlink(self.path)
        times.append(1)
        real(self, descriptor)

    monkeypatch.setattr(FileLock, "_lock", lock_late)
    lock.take()
    assert len(times) == 2
    assert lock.is_in_place()
    lock.release()


async def test_a_second_store_in_this_process_does_not_drop_the_locks_of_the_first(
    store: SqliteStore, path: str, tmp_path: Path
) -> None:
    Path(f"{path}.lock").unlink()
    os.link(path, tmp_path / "link.db")
    for name in (path, str(tmp_path / "link.db")):
        with pytest.raises(DatabaseInUseError):
            await SqliteStore(name).open()
        assert list(await store.commit([a_change(a_state())])) == [COMMITTED]


async def test_without_the_system_calls_files_are_still_compared(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As outside Linux."""
    monkeypatch.setattr(syscalls, "_LIBRARY", None)
    store = SqliteStore(path)
    await store.open()
    await store.put_definition(a_definition())
    assert list(await store.commit([a_change(a_state())])) == [COMMITTED]
    with pytest.raises(DatabaseInUseError):
        await SqliteStore(path).open()
    remove(f"{path}-wal")
    with pytest.raises(CommitUnknownError):
        await store.commit([a_change(a_state())])
    await store.close()


# --- opening the files again ----------------------------------------------------------------------------------------


def openers(path: str) -> dict[str, Callable[[], Any]]:
    folder = os.path.dirname(path)
    return {
        "open": lambda: open(path, "rb").close(),
        "open bytes": lambda: open(os.fsencode(path), "rb").close(),
        "pathlib": lambda: Path(path).read_bytes(),
        "os.open": lambda: os.close(os.open(path, os.O_RDONLY)),
        "write": lambda: open(path, "r+b").close(),
        "relative": lambda: open(os.path.relpath(path), "rb").close(),
        "dots": lambda: open(f"{folder}/../{os.path.basename(folder)}/perdure.db", "rb").close(),
        "link": lambda: open(f"{path}.link", "rb").close(),
        "hard link": lambda: open(f"{path}.hard", "rb").close(),
        "log": lambda: open(f"{path}-wal", "rb").close(),
        "index": lambda: open(f"{path}-shm", "rb").close(),
        "lock": lambda: open(f"{path}.lock", "rb").close(),
        "sqlite3": lambda: sqlite3.connect(path).close(),
        "sqlite3 path": lambda: sqlite3.connect(Path(path)).close(),
        "sqlite3 uri": lambda: sqlite3.connect(f"file:{path}?mode=ro", uri=True).close(),
        "sqlite3 host": lambda: sqlite3.connect(f"file://localhost{path}", uri=True).close(),
        "directory": lambda: open_in_directory(path),
        "sqlite3 nul": lambda: sqlite3.connect(f"file:{path}%00.copy?mode=ro", uri=True).close(),
        "sqlite3 escaped": lambda: sqlite3.connect(f"file:{path.replace('p', '%70')}", uri=True).close(),
    }  # fmt: skip


def open_in_directory(path: str) -> None:
    """Open a file by its name in an open directory, as `os.fwalk` suggests."""
    directory = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.close(os.open(os.path.basename(path), os.O_RDONLY, dir_fd=directory))
    finally:
        os.close(directory)


async def test_no_way_of_opening_the_files_here_is_allowed_while_the_store_is_open(
    store: SqliteStore, path: str
) -> None:
    os.symlink(path, f"{path}.link")
    os.link(path, f"{path}.hard")
    for name, opener in openers(path).items():
        with pytest.raises(PermissionError, match="drop SQLite's locks"):
            opener()
        assert list(await store.commit([a_change(a_state())])) == [COMMITTED], name

    await store.close()

    for name, opener in openers(path).items():
        if name not in ("log", "index"):  # gone with the store
            opener()


async def test_every_other_open_works_while_a_store_is_open(store: SqliteStore, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    sqlite3.connect(other).close()
    sqlite3.connect(":memory:").close()
    sqlite3.connect("").close()
    sqlite3.connect("file::memory:?cache=shared", uri=True).close()
    with other.open("rb") as file, open(os.dup(file.fileno()), "rb") as again:
        again.read()
    with pytest.raises(FileNotFoundError):
        open(tmp_path / "missing.db")
    with pytest.raises(ValueError, match="null"):
        open("nul\0byte")
    for odd in (object(), 1.5, [], None):
        with pytest.raises(TypeError):
            open(odd)  # type: ignore[call-overload]

    class OddPath(os.PathLike[str]):
        def __fspath__(self) -> str:
            raise RuntimeError("odd")

    with pytest.raises(RuntimeError, match="odd"):
        open(OddPath())
    await store.ping()


async def test_two_stores_protect_their_own_files_each(store: SqliteStore, path: str, tmp_path: Path) -> None:
    second = SqliteStore(str(tmp_path / "second.db"))
    await second.open()
    await second.close()
    (tmp_path / "second.db").read_bytes()
    with pytest.raises(PermissionError):
        Path(path).read_bytes()


async def test_a_forked_child_may_open_the_files_and_holds_no_lock(store: SqliteStore, path: str) -> None:
    child = os.fork()
    if child == 0:
        try:
            with open(path, "rb") as file:
                file.read(16)
            held = [entry for entry in os.listdir("/proc/self/fd") if _leads_to(entry, f"{path}.lock")]
            os._exit(len(held))
        except BaseException:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(await store.commit([a_change(a_state())])) == [COMMITTED]
    with pytest.raises(DatabaseInUseError):
        await SqliteStore(path).open()


def _leads_to(descriptor: str, path: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}") == path
    except OSError:
        return False


async def test_a_check_that_sees_nothing_would_be_caught(
    store: SqliteStore, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted bug: the first test of this file fails with it."""
    monkeypatch.setattr(DatabaseFiles, "_difference", lambda _: "")
    remove(f"{path}-wal")
    assert list(await store.commit([a_change(a_state())])) == [COMMITTED]
