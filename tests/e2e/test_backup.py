"""Backups of a running server, as docs/operate/back-up-and-restore.md describes them."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from perdure import Client
from support.server_process import REPOSITORY, ServerProcess

pytestmark = pytest.mark.e2e

ORDER: Final = REPOSITORY / "examples" / "order.py"
STARTS_BEFORE: Final = 200
"""Number of instances that are acknowledged before the copy starts. The copy must contain them."""

SECONDS_MAX: Final = 60.0


def vacuum_into(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as live:
        live.execute("VACUUM INTO ?", [str(target)])


def backup_api(source: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as live,
        closing(sqlite3.connect(target)) as copy,
    ):
        live.backup(copy)


class Load:
    """A client that starts orders, one after another, and brings each an event. ``answered`` has those that were OK."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._enough = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._troubles: list[Exception] = []
        self.answered: list[str] = []

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(SECONDS_MAX)
        assert self._troubles == []

    def await_enough(self) -> None:
        assert self._enough.wait(SECONDS_MAX)

    def _run(self) -> None:
        try:
            with Client(self._address) as client:
                while not self._stop.is_set():
                    started = client.start_instance("order", {"items": ["lamp"]})
                    client.resume(started.instance_id, "reserved", buffer=True)
                    self.answered.append(started.instance_id)
                    if len(self.answered) >= STARTS_BEFORE:
                        self._enough.set()
        except Exception as error:
            self._troubles.append(error)
            self._enough.set()


def test_a_backup_of_a_loaded_server_survives_the_loss_of_its_files(
    server_process: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    source, backups = tmp_path / "live.db", tmp_path / "backups"
    backups.mkdir()
    server = server_process(ORDER, database=source, arguments=[f"--backup-dir={backups}"])
    with Load(server.address) as load, Client(server.address) as client:
        load.await_enough()
        before = set(load.answered)
        backup = client.backup_database("under-load.db")
    answered = set(load.answered)
    for suffix in ("", "-wal", "-shm"):
        Path(f"{source}{suffix}").unlink()
    with Client(server.address) as client:
        rescued = client.backup_database("rescued.db")
    server.kill()

    assert len(before) <= backup.instances <= len(answered) + 1
    assert rescued.instances >= len(answered)
    restored = server_process(ORDER, database=Path(rescued.path))
    with Client(restored.address) as client:
        there = {summary.instance_id for summary in client.list_instances(page_size=1000)}
    assert answered <= there


@pytest.mark.parametrize("copy", [vacuum_into, backup_api])
def test_a_backup_under_load_is_valid_and_has_every_acknowledged_write(
    copy: Callable[[Path, Path], None],
    server_process: Callable[..., ServerProcess],
    tmp_path: Path,
) -> None:
    source, target = tmp_path / "live.db", tmp_path / "backup" / "copy.db"
    target.parent.mkdir()
    server = server_process(ORDER, database=source)
    with Load(server.address) as load:
        load.await_enough()
        before = list(load.answered)
        copy(source, target)
        during = len(load.answered) - len(before)
    server.terminate()

    checked = subprocess.run(
        [sys.executable, "-m", "perdure_server.cli", "db", "check", "--database", f"sqlite:///{target}"],
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.endswith(" 0 with issues\n")
    assert sorted(path.name for path in target.parent.iterdir()) in (["copy.db"], ["copy.db", "copy.db.lock"])
    assert len(before) <= int(checked.stdout.split()[0]) <= len(before) + during + 1

    restored = server_process(ORDER, database=target)
    with Client(restored.address) as client:
        there = {summary.instance_id for summary in client.list_instances(page_size=1000)}
    assert set(before) <= there
