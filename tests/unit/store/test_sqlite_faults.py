"""Disk failures: real SQLite on a file layer that fails on request, one call at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from perdure_server.engine.state import State
from perdure_server.store.group_commit import GroupCommitter
from perdure_server.store.protocol import COMMITTED, CommitUnknownError, StoreUnavailableError
from perdure_server.store.sqlite import SqliteStore
from support.factories import a_change, a_definition, a_state


class FaultyFile(apsw.VFSFile):
    """A file of the default layer, whose writes and syncs fail while a test says so."""

    def __init__(self, faults: Faults, name: Any, flags: list[int]) -> None:
        self._faults = faults
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._faults.on_write is not None:
            raise self._faults.on_write
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        if self._faults.on_sync is not None:
            raise self._faults.on_sync
        super().xSync(flags)


class Faults(apsw.VFS):
    """The switchboard: what is set here is raised by every file."""

    def __init__(self, name: str) -> None:
        self.on_write: apsw.Error | None = None
        self.on_sync: apsw.Error | None = None
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> FaultyFile:
        return FaultyFile(self, name, flags)


def full() -> apsw.Error:
    return apsw.FullError("disk full")


def broken() -> apsw.Error:
    error = apsw.IOError("broken")
    error.extendedresult = apsw.SQLITE_IOERR_FSYNC
    return error


@pytest.fixture
def faults() -> Iterator[Faults]:
    layer = Faults("faulty")
    yield layer
    layer.unregister()


@pytest.fixture
async def store(tmp_path: Path, faults: Faults) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(str(tmp_path / "p.db"), vfs="faulty")
    await made.open()
    await made.put_definition(a_definition())
    yield made
    faults.on_write = faults.on_sync = None
    await made.close()


async def started(store: SqliteStore) -> State:
    state = a_state()
    assert list(await store.commit([a_change(state)])) == [COMMITTED]
    return state


async def test_a_full_disk_fails_the_batch_and_loses_nothing(store: SqliteStore, faults: Faults) -> None:
    state = await started(store)
    later = replace(state, revision=2)
    faults.on_write = full()
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            await store.commit([a_change(later), a_change(a_state())])
        assert await store.load(state.instance_id) == state
    faults.on_write = None
    assert list(await store.commit([a_change(later)])) == [COMMITTED]
    assert await store.load(state.instance_id) == later


async def test_a_write_error_fails_the_batch_and_loses_nothing(store: SqliteStore, faults: Faults) -> None:
    state = await started(store)
    error = apsw.IOError("broken")
    error.extendedresult = apsw.SQLITE_IOERR_WRITE
    faults.on_write = error
    with pytest.raises(StoreUnavailableError):
        await store.commit([a_change(replace(state, revision=2))])
    faults.on_write = None
    assert await store.load(state.instance_id) == state
    assert list(await store.commit([a_change(replace(state, revision=2))])) == [COMMITTED]


async def test_a_sync_that_fails_leaves_the_commit_unknown(store: SqliteStore, faults: Faults) -> None:
    state = await started(store)
    faults.on_sync = broken()
    with pytest.raises(CommitUnknownError):
        await store.commit([a_change(replace(state, revision=2))])
    faults.on_sync = None
    found = await store.load(state.instance_id)
    assert found is not None
    assert found.revision in {1, 2}
    assert list(await store.commit([a_change(replace(found, revision=found.revision + 1))])) == [COMMITTED]


async def test_a_full_disk_fails_the_changes_of_its_batch_and_no_later_ones(
    store: SqliteStore, faults: Faults
) -> None:
    committer = GroupCommitter(store)
    faults.on_write = full()
    doomed = [committer.submit(a_change(a_state())) for _ in range(5)]
    results = await asyncio.gather(*doomed, return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailableError] * 5
    faults.on_write = None
    assert await committer.submit(a_change(a_state())) == COMMITTED


async def test_every_writing_method_says_unavailable(store: SqliteStore, faults: Faults) -> None:
    faults.on_write = full()
    with pytest.raises(StoreUnavailableError):
        await store.register_replica("replica-a", lease_ms=1)
    with pytest.raises(StoreUnavailableError):
        await store.put_definition(a_definition(version=2))
    faults.on_write = None
    await store.register_replica("replica-a", lease_ms=1_000)
    assert await store.get_definition("order", 2) is None


async def test_a_log_that_cannot_be_copied_is_copied_later(store: SqliteStore, faults: Faults) -> None:
    state = await started(store)
    writer = store._database._writer
    assert writer is not None
    faults.on_write = faults.on_sync = full()
    await writer.submit(store._database._copy_log)
    faults.on_write = faults.on_sync = None
    await writer.submit(store._database._copy_log)
    assert await store.load(state.instance_id) == state


async def test_a_database_that_another_program_locks_is_unavailable_until_it_lets_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perdure_server.store.sqlite import connection

    monkeypatch.setattr(connection, "BUSY_MS_MAX", 1)
    path = str(tmp_path / "p.db")
    store = SqliteStore(path)
    await store.open()
    await store.put_definition(a_definition())
    foreign = apsw.Connection(path)
    foreign.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError):
        await store.commit([a_change(a_state())])
    with pytest.raises(StoreUnavailableError):
        await store.ping()
    foreign.execute("ROLLBACK")
    foreign.close()
    await store.ping()
    assert list(await store.commit([a_change(a_state())])) == [COMMITTED]
    await store.close()
