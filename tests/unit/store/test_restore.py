"""`perdure db restore`: a verified copy takes the place of a database, and the old files are kept."""

# ruff: noqa: ASYNC240 - a test may look at its own few files while its loop does not run

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner, Result

from contract.runner_flows import FLOWS
from perdure_server.cli.main import app
from perdure_server.core import Core
from perdure_server.engine.commands import payload
from perdure_server.store.protocol import LostCommitsError
from perdure_server.store.sqlite import SqliteStore


async def restore(copy: str | Path, path: str, *options: str) -> Result:
    """Run the command. In a thread, since it has an event loop of its own."""
    arguments = ["db", "restore", str(copy), "--database", f"sqlite:///{path}", *options]
    return await asyncio.to_thread(CliRunner().invoke, app, arguments)


async def filled(path: str, count: int) -> list[str]:
    """Add instances to a database, as a server does, and return their ids."""
    core = Core(SqliteStore(path), FLOWS)
    await core.start()
    started = [
        await core.operations.start_instance(workflow="approval", context=payload("{}")) for _ in range(count)
    ]
    await core.stop(0)
    return [instance.instance_id for instance in started]


async def found(path: str, names: list[str]) -> list[bool]:
    store = SqliteStore(path)
    await store.open()
    there = [await store.load(name) is not None for name in names]
    await store.close()
    return there


def copied(path: str, target: Path) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as live:
        live.execute("VACUUM INTO ?", [str(target)])
    return target


async def test_a_restored_copy_can_be_served_and_the_old_files_are_kept(path: str, tmp_path: Path) -> None:
    early = await filled(path, 3)
    copy = copied(path, tmp_path / "copy.db")
    late = await filled(path, 2)
    before = copy.read_bytes()

    result = await restore(copy, path, "--json")

    assert result.exit_code == 0, result.output + result.stderr
    document = json.loads(result.output)
    assert await found(path, early + late) == [True] * 3 + [False] * 2
    assert await found(document["kept"][0], early + late) == [True] * 5
    assert copy.read_bytes() == before
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob("*.restoring*"))


async def test_a_copy_with_the_name_of_the_unfinished_file_is_kept(path: str, tmp_path: Path) -> None:
    await filled(path, 1)
    copy = copied(path, Path(f"{path}.restoring"))
    before = copy.read_bytes()

    result = await restore(copy, path)

    assert result.exit_code == 1
    assert "rename it first" in result.stderr
    assert copy.read_bytes() == before


async def test_the_old_file_is_rejected_after_a_restore(path: str, tmp_path: Path) -> None:
    await filled(path, 1)
    copy = copied(path, tmp_path / "copy.db")
    await filled(path, 5)
    (kept,) = json.loads((await restore(copy, path, "--json")).output)["kept"]
    await filled(path, 1)

    Path(kept).rename(path)
    with pytest.raises(LostCommitsError, match="different database"):
        await SqliteStore(path).open()


async def test_a_copy_that_was_moved_in_is_rejected_and_restored(path: str, tmp_path: Path) -> None:
    early = await filled(path, 1)
    copy = copied(path, tmp_path / "copy.db")
    await filled(path, 1)
    moved = copied(str(copy), tmp_path / "moved.db")
    moved.rename(path)
    with pytest.raises(LostCommitsError, match="perdure db restore"):
        await SqliteStore(path).open()

    assert (await restore(copy, path)).exit_code == 0
    assert await found(path, early) == [True]


async def test_a_restore_needs_no_database_at_the_place(path: str, tmp_path: Path) -> None:
    early = await filled(path, 2)
    copy = copied(path, tmp_path / "copy.db")
    Path(path).unlink()
    with pytest.raises(LostCommitsError, match="there is no database"):
        await SqliteStore(path).open()
    assert not Path(path).exists()

    assert (await restore(copy, path)).exit_code == 0
    assert await found(path, early) == [True, True]


async def test_a_log_next_to_the_copy_is_restored_too(path: str, tmp_path: Path) -> None:
    early = await filled(path, 1)
    copy = copied(path, tmp_path / "copy.db")
    # Kept in the log, as after a crash.
    connection = apsw.Connection(str(copy))
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("UPDATE database_identity SET commit_number = 4711")
    connection.close()
    before = [copy.read_bytes(), Path(f"{copy}-wal").read_bytes()]

    assert (await restore(copy, path)).exit_code == 0
    assert [copy.read_bytes(), Path(f"{copy}-wal").read_bytes()] == before
    assert await found(path, early) == [True]
    with contextlib.closing(sqlite3.connect(path)) as restored:
        assert restored.execute("SELECT commit_number FROM database_identity").fetchone()[0] >= 4711


async def test_a_served_database_is_not_replaced(store: SqliteStore, path: str, tmp_path: Path) -> None:
    await filled(str(tmp_path / "other.db"), 1)
    result = await restore(tmp_path / "other.db", path)
    assert result.exit_code == 1
    assert "a server has" in result.output + str(result.stderr)
    await store.ping()


async def test_a_copy_that_is_not_sound_leaves_everything_as_it_was(path: str, tmp_path: Path) -> None:
    names = await filled(path, 40)
    copy = copied(path, tmp_path / "copy.db")
    with copy.open("r+b") as file:
        file.seek(copy.stat().st_size // 2)
        file.write(os.urandom(6_000))
    text = tmp_path / "text.db"
    text.write_text("dear diary, " * 100)
    other = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(other)) as foreign:
        foreign.execute("CREATE TABLE bookmarks (url TEXT)")

    for wrong in (copy, text, other, path, tmp_path / "missing.db"):
        assert (await restore(wrong, path)).exit_code in (1, 2), wrong
    assert not list(tmp_path.glob("*.restoring*"))
    assert not list(tmp_path.glob("*.replaced*"))
    assert await found(path, names) == [True] * 40


async def test_a_history_that_does_not_fold_is_not_restored(path: str, tmp_path: Path) -> None:
    await filled(path, 2)
    copy = copied(path, tmp_path / "copy.db")
    with contextlib.closing(sqlite3.connect(copy)) as damaged:
        damaged.execute(
            "DELETE FROM history WHERE rowid IN (SELECT rowid FROM history LIMIT 1)"
        ) if False else None
        damaged.execute("DELETE FROM history")
        damaged.commit()

    result = await restore(copy, path)
    assert result.exit_code == 1
    assert "the copy is damaged" in result.output + str(result.stderr)


@pytest.mark.parametrize("step", ["sync_directory", "rename", "unlink"])
async def test_an_interrupted_restore_is_rejected_or_whole_and_can_be_repeated(
    step: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = await filled(path, 1)
    copy = copied(path, tmp_path / "copy.db")
    late = await filled(path, 1)

    class Interrupted(BaseException):
        pass

    from perdure_server.store.sqlite import restore as restore_module

    for times in range(4):
        left = times
        real = getattr(restore_module, step, None) or getattr(os, step)

        def fail(*arguments: object, real: object = real) -> object:
            nonlocal left
            if left == 0 and str(arguments[0]).startswith(path):
                raise Interrupted
            left -= 1
            return real(*arguments)  # type: ignore[operator]

        with monkeypatch.context() as patch:
            patch.setattr(restore_module if hasattr(restore_module, step) else os, step, fail)
            with contextlib.suppress(Interrupted):
                await restore(copy, path)
        with contextlib.suppress(LostCommitsError):
            assert all(await found(path, early))
            break
    assert (await restore(copy, path)).exit_code == 0
    assert await found(path, early + late) == [True, False]
