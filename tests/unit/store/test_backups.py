"""Backups of a running core: snapshots, cancellation, failures, and databases whose files were removed."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from contract.runner_flows import FLOWS
from perdure import Context, Outcome, Workflow, errors, step
from perdure_server.core import Core
from perdure_server.embedded import EmbeddedRunner
from perdure_server.engine.commands import payload
from perdure_server.runtime.backups import BackupDirectoryError, backup_directory
from perdure_server.runtime.errors import BackupNotConfiguredError, BackupRunningError, ServerStoppingError
from perdure_server.runtime.integrity_check import check_database
from perdure_server.store.protocol import BackupExistsError, BackupFailedError, StoreError
from perdure_server.store.sqlite import SqliteStore
from perdure_server.store.sqlite.offline import open_offline


class CopyFile(apsw.VFSFile):
    """A file whose writes stop, or fail, if it is the copy of a backup."""

    def __init__(self, layer: CopyLayer, name: Any, flags: list[int]) -> None:
        text = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._layer = layer if ".perdure-backup-" in text else None
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        if self._layer is not None:
            self._layer.reached.set()
            assert self._layer.resume.wait(30)
            if self._layer.error is not None:
                raise self._layer.error
        super().xWrite(data, offset)


class CopyLayer(apsw.VFS):
    """The default file layer, with a gate before each write to a copy."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.resume = threading.Event()
        self.error: apsw.Error | None = None
        super().__init__("copies", "")

    def xOpen(self, name: Any, flags: list[int]) -> CopyFile:
        return CopyFile(self, name, flags)

    async def until_reached(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 30)


@pytest.fixture
def layer() -> Iterator[CopyLayer]:
    made = CopyLayer()
    yield made
    made.resume.set()
    made.unregister()


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    directory = tmp_path / "backups"
    directory.mkdir()
    return directory


@pytest.fixture
async def core(tmp_path: Path, backups: Path, layer: CopyLayer) -> AsyncIterator[Core]:
    made = Core(SqliteStore(str(tmp_path / "live.db"), vfs="copies"), FLOWS, backup_dir=backups)
    await made.start()
    yield made
    layer.resume.set()
    await made.stop(0)


async def start(core: Core, name: str) -> None:
    await core.operations.start_instance(
        workflow="approval", context=payload('{"name":"Ada"}'), instance_id=name
    )


def instances_in(path: Path) -> set[str]:
    with open_offline(str(path)) as copy:
        checked = list(check_database(copy))
    assert [one for one in checked if one.issues] == []
    return {one.instance_id for one in checked}


async def test_commits_and_reads_continue_during_a_backup(
    core: Core, backups: Path, layer: CopyLayer
) -> None:
    await start(core, "before")
    running = asyncio.create_task(core.backups.take("copy.db"))
    await layer.until_reached()

    await start(core, "meanwhile")
    assert (await core.operations.queries.get_instance("meanwhile")).state.instance_id == "meanwhile"
    layer.resume.set()
    backup = await running

    assert backup.instances == 1
    assert instances_in(backups / "copy.db") == {"before"}


async def test_a_second_backup_is_rejected_while_one_runs(core: Core, layer: CopyLayer) -> None:
    running = asyncio.create_task(core.backups.take("copy.db"))
    await layer.until_reached()

    with pytest.raises(BackupRunningError):
        await core.backups.take("other.db")

    layer.resume.set()
    await running
    assert (await core.backups.take("other.db")).instances == 0


async def test_a_stop_cancels_a_backup_and_leaves_nothing(
    core: Core, backups: Path, layer: CopyLayer
) -> None:
    running = asyncio.create_task(core.backups.take("copy.db"))
    await layer.until_reached()
    stopping = asyncio.create_task(core.quiesce(0))
    await asyncio.sleep(0)
    layer.resume.set()
    await stopping

    with pytest.raises(ServerStoppingError):
        await running
    with pytest.raises(ServerStoppingError):
        await core.backups.take("other.db")
    assert os.listdir(backups) == []


async def test_a_caller_that_leaves_cancels_its_backup(core: Core, backups: Path, layer: CopyLayer) -> None:
    running = asyncio.create_task(core.backups.take("copy.db"))
    await layer.until_reached()
    running.cancel()
    layer.resume.set()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert os.listdir(backups) == []
    assert (await core.backups.take("copy.db")).instances == 0


async def test_a_full_disk_fails_the_backup_and_nothing_else(
    core: Core, backups: Path, layer: CopyLayer
) -> None:
    await start(core, "before")
    layer.error = apsw.FullError("full")
    layer.resume.set()

    with pytest.raises(BackupFailedError, match="the disk is full"):
        await core.backups.take("copy.db")

    assert os.listdir(backups) == []
    await start(core, "after")
    layer.error = None
    assert (await core.backups.take("copy.db")).instances == 2


async def test_a_copy_that_is_damaged_is_not_published(
    core: Core, backups: Path, layer: CopyLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer.resume.set()
    await start(core, "before")
    sync = os.fsync

    def damage_and_sync(descriptor: int) -> None:
        if ".perdure-backup-" in os.readlink(f"/proc/self/fd/{descriptor}"):
            os.pwrite(descriptor, b"\xff" * 4096, 4096)
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", damage_and_sync)
        with pytest.raises(BackupFailedError):
            await core.backups.take("copy.db")

    assert os.listdir(backups) == []


@pytest.mark.parametrize("case", ["log", "database", "everything", "replaced"])
async def test_a_backup_is_complete_after_the_files_were_removed(
    core: Core, backups: Path, tmp_path: Path, layer: CopyLayer, case: str
) -> None:
    layer.resume.set()
    await start(core, "first")
    await core.backups.take("old.db")
    await start(core, "second")
    live = tmp_path / "live.db"
    removed = {"log": ["-wal"], "database": [""], "everything": ["", "-wal", "-shm"], "replaced": []}[case]
    for suffix in removed:
        (tmp_path / f"live.db{suffix}").unlink()
    if case == "replaced":
        shutil.copy(backups / "old.db", tmp_path / "moved.db")
        (tmp_path / "moved.db").rename(live)

    backup = await core.backups.take("rescue.db")

    assert backup.instances == 2
    assert instances_in(backups / "rescue.db") == {"first", "second"}


@pytest.mark.parametrize("removed", [["live.db"], ["live.db-wal"], ["live.db", "live.db-wal", "live.db-shm"]])
async def test_a_rescue_needs_no_configured_directory(tmp_path: Path, removed: list[str]) -> None:
    core = Core(SqliteStore(str(tmp_path / "live.db")), FLOWS)
    await core.start()
    await start(core, "first")
    with pytest.raises(BackupNotConfiguredError):
        await core.backups.take("copy.db")
    for name in removed:
        (tmp_path / name).unlink()
    with pytest.raises(StoreError):
        await start(core, "second")

    with pytest.raises(BackupExistsError):
        await core.backups.take("live.db")
    backup = await core.backups.take("rescue.db")
    await core.stop(0)

    assert backup.path == str(tmp_path / "rescue.db")
    assert "first" in instances_in(tmp_path / "rescue.db")


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal", ".lock", ".restoring"])
async def test_a_backup_never_takes_the_names_of_the_database(tmp_path: Path, suffix: str) -> None:
    core = Core(SqliteStore(str(tmp_path / "live.db")), FLOWS, backup_dir=tmp_path)
    await core.start()
    (tmp_path / f"live.db{suffix}").unlink(missing_ok=True)

    with pytest.raises(BackupExistsError):
        await core.backups.take(f"live.db{suffix}")

    await core.stop(0)


async def test_incomplete_files_of_killed_servers_are_removed_and_no_others(
    core: Core, backups: Path, layer: CopyLayer
) -> None:
    layer.resume.set()
    abandoned, running = (backups / f".perdure-backup-{digit * 16}" for digit in "ab")
    others = [backups / ".perdure-backup-notes", backups / ".perdure-backup-cccccccccccccccc"]
    abandoned.write_text("half")
    others[0].write_text("mine")
    others[1].symlink_to("nowhere")
    with running.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        await core.backups.take("copy.db")

        kept = set(os.listdir(backups))
    assert kept == {"copy.db", running.name, *(path.name for path in others)}


async def test_a_core_without_a_directory_rejects_backups() -> None:
    core = Core(SqliteStore(None), FLOWS)
    await core.start()

    with pytest.raises(BackupNotConfiguredError):
        await core.backups.take("copy.db")

    await core.stop(0)


@pytest.mark.parametrize("case", ["missing", "a file", "not writable"])
def test_a_directory_that_cannot_be_used_is_rejected_at_start(tmp_path: Path, case: str) -> None:
    path = tmp_path / "backups"
    match case:
        case "a file":
            path.write_text("")
        case "not writable":
            path.mkdir(mode=0o500)
    if case == "not writable" and os.access(path, os.W_OK):
        pytest.skip("this user may write everywhere")

    with pytest.raises(BackupDirectoryError) as caught:
        backup_directory(path)

    assert repr(str(path)) in caught.value.message
    assert caught.value.hint


# --- over the API ------------------------------------------------------------------------------------------------


class SavesItself(Workflow, name="saves_itself", version=1):
    """A step that backs up the database of its own server."""

    start = "save"
    runner: EmbeddedRunner

    @step(on={"saved": "end"})
    async def save(self, ctx: Context) -> Outcome:
        backup = await self.runner.backup_database("from-a-step.db")
        return Outcome("saved", path=backup.path, instances=backup.instances)


async def test_a_step_can_back_up_its_own_server(tmp_path: Path, backups: Path) -> None:
    async with EmbeddedRunner(
        [SavesItself], database=f"sqlite:///{tmp_path / 'live.db'}", backup_dir=backups
    ) as perdure:
        SavesItself.runner = perdure
        await perdure.start_instance("saves_itself", instance_id="saved")
        ended = await perdure.wait_for_end("saved")

    assert ended.outputs["save"] == {"path": str(backups / "from-a-step.db"), "instances": 1}


@pytest.mark.parametrize(
    "name", ["", "..", ".", ".hidden", "a/b", "../a", "/etc/a", "a\0b", "a b", "-a", "ä.db", "a" * 129, "a\n"]
)
async def test_a_name_that_could_leave_the_directory_is_rejected(backups: Path, name: str) -> None:
    async with EmbeddedRunner([], database=":memory:", backup_dir=backups) as perdure:
        with pytest.raises(errors.InvalidFieldError) as caught:
            await perdure.backup_database(name)

    assert [violation.field for violation in caught.value.violations] == ["file_name"]
    assert os.listdir(backups) == []
