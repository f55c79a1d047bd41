"""Backups: a complete copy of the database under a new name, or nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from perdure_server.store.protocol import COMMITTED, BackupExistsError, BackupFailedError, Store
from perdure_server.store.sqlite import SqliteStore
from support.factories import a_change, a_definition, a_state
from support.stores import Clock


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    directory = tmp_path / "backups"
    directory.mkdir()
    return directory


async def test_a_backup_has_every_committed_instance(store: Store, backups: Path, clock: Clock) -> None:
    states = [a_state() for _ in range(20)]
    assert list(await store.commit([a_change(state) for state in states])) == [COMMITTED] * 20

    backup = await store.back_up(str(backups), "copy.db")

    path = backups / "copy.db"
    assert (backup.path, backup.instances, backup.snapshot_at) == (str(path), 20, clock.now)
    assert backup.size_bytes == path.stat().st_size
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(backups) == ["copy.db"]
    copy = SqliteStore(str(path))
    await copy.open()
    assert [await copy.load(state.instance_id) for state in states] == states
    await copy.close()


async def test_the_store_continues_after_a_backup(store: Store, backups: Path) -> None:
    await store.back_up(str(backups), "one.db")
    await store.put_definition(a_definition("other"))
    assert list(await store.commit([a_change(a_state())])) == [COMMITTED]

    assert (await store.back_up(str(backups), "two.db")).instances == 1


@pytest.mark.parametrize("kind_of_file", ["file", "directory", "symlink", "dangling symlink"])
async def test_an_existing_file_is_not_replaced(store: Store, backups: Path, kind_of_file: str) -> None:
    path, elsewhere = backups / "copy.db", backups.parent / "elsewhere"
    match kind_of_file:
        case "file":
            path.write_text("mine")
        case "directory":
            path.mkdir()
        case "symlink":
            elsewhere.write_text("mine")
            path.symlink_to(elsewhere)
        case _:
            path.symlink_to(elsewhere)

    with pytest.raises(BackupExistsError):
        await store.back_up(str(backups), "copy.db")

    assert os.listdir(backups) == ["copy.db"]
    assert not path.is_file() or path.read_text() == "mine"
    assert kind_of_file != "dangling symlink" or not elsewhere.exists()


async def test_a_directory_that_is_gone_is_reported(store: Store, backups: Path) -> None:
    os.rmdir(backups)

    with pytest.raises(BackupFailedError, match="No such file or directory"):
        await store.back_up(str(backups), "copy.db")


async def test_a_directory_that_became_a_symlink_is_not_followed(store: Store, backups: Path) -> None:
    moved = f"{backups}-moved"
    os.rename(backups, moved)
    os.symlink(moved, backups)

    with pytest.raises(BackupFailedError):
        await store.back_up(str(backups), "copy.db")

    assert os.listdir(moved) == []
