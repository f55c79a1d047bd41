"""Database files that are removed, replaced or opened again under a server: no acknowledged call is lost silently."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import apsw
import grpc
import pytest
from grpc_health.v1 import health_pb2

from e2e.faults.tampering_app import BLIND_VARIABLE
from perdure.v1 import common_pb2 as common
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner
from support.api_fixture import call_error
from support.server_process import ServerDidNotStart, ServerProcess

APP: Final = Path(__file__).with_name("tampering_app.py")
BEFORE: Final = 30
"""Number of calls that are acknowledged before a fault."""

SECONDS_MAX: Final = 30.0

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ServerMaker = Callable[..., ServerProcess]


class Caller:
    """A client that remembers every start that the server acknowledged."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self.acknowledged: list[str] = []
        self._number = 0

    def start(self, workflow: str = "parked", **context: Any) -> str:
        """Start an instance. Returns OK, or the reason of the error."""
        self._number += 1
        name = f"{workflow}-{self._number}"
        request = runner.StartInstanceRequest(
            workflow=workflow,
            context=common.Payload(json=json.dumps(context)),
            opts=runner.StartOptions(instance_id=name, request_id=name),
        )
        try:
            self.channel.unary_unary("/perdure.v1.RunnerService/StartInstance")(
                request.SerializeToString(), timeout=10
            )
        except grpc.RpcError as error:
            return call_error(error).reason  # type: ignore[arg-type]
        self.acknowledged.append(name)
        return "OK"

    def has(self, name: str) -> bool:
        request = instances.GetInstanceRequest(instance_id=name)
        try:
            self.channel.unary_unary("/perdure.v1.InstanceService/GetInstance")(
                request.SerializeToString(), timeout=10
            )
        except grpc.RpcError:
            return False
        return True

    def missing(self) -> list[str]:
        return [name for name in self.acknowledged if not self.has(name)]

    def health(self, service: str) -> Any:
        answer = self.channel.unary_unary("/grpc.health.v1.Health/Check")(
            health_pb2.HealthCheckRequest(service=service).SerializeToString(), timeout=10
        )
        return health_pb2.HealthCheckResponse.FromString(answer).status

    def await_not_ready(self) -> None:
        request = health_pb2.HealthCheckRequest().SerializeToString()
        watch = self.channel.unary_stream("/grpc.health.v1.Health/Watch")(request, timeout=SECONDS_MAX)
        for answer in watch:
            if (
                health_pb2.HealthCheckResponse.FromString(answer).status
                != health_pb2.HealthCheckResponse.SERVING
            ):
                break
        watch.cancel()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder / "p.db"


@pytest.fixture
def older(database: Path, server_process: ServerMaker) -> Path:
    """A copy of the database as an earlier server left it, which has instances of its own."""
    server = server_process(APP, database=database)
    caller = Caller(server.address)
    for _ in range(3):
        assert caller.start("parked") == "OK"
    caller.channel.close()
    server.terminate()
    copy = database.with_name("older.db")
    shutil.copy(database, copy)
    return copy


def loaded(server: ServerProcess) -> Caller:
    caller = Caller(server.address)
    caller._number = 1_000
    for _ in range(BEFORE):
        assert caller.start() == "OK"
    return caller


def tamper(caller: Caller, database: Path, action: str) -> str:
    """Have a step do something to the database, and return what it wrote once it was done."""
    report = database.with_name(f"report-{time.monotonic_ns()}")
    caller.start("tamper", action=action, database=str(database), report=str(report))
    ends_at = time.monotonic() + SECONDS_MAX
    while not report.exists():
        assert time.monotonic() < ends_at, "the step did not run"
        time.sleep(0.01)
    return report.read_text()


# --- while the server runs ------------------------------------------------------------------------------------------


def remove_database(database: Path, _: Caller) -> None:
    database.unlink()


def remove_log(database: Path, _: Caller) -> None:
    Path(f"{database}-wal").unlink()


def remove_index(database: Path, _: Caller) -> None:
    Path(f"{database}-shm").unlink()


def remove_all(database: Path, _: Caller) -> None:
    for suffix in ("", "-wal", "-shm", ".lock"):
        Path(f"{database}{suffix}").unlink()


def move_older_copy(database: Path, _: Caller) -> None:
    database.with_name("older.db").rename(database)


def replace_log(database: Path, _: Caller) -> None:
    new = database.with_name("new-wal")
    shutil.copy(f"{database}-wal", new)
    new.rename(f"{database}-wal")


def rename_folder(database: Path, _: Caller) -> None:
    database.parent.rename(database.parent.with_name("moved"))


def attach_in_step(database: Path, caller: Caller) -> None:
    assert int(tamper(caller, database, "attach")) >= BEFORE


def read_natively_in_step(database: Path, caller: Caller) -> None:
    assert tamper(caller, database, "read_natively") == "done"


def read_index_natively_in_step(database: Path, caller: Caller) -> None:
    assert tamper(caller, Path(f"{database}-shm"), "read_natively") == "done"


FAULTS: Final = (
    remove_database,
    remove_log,
    remove_index,
    remove_all,
    move_older_copy,
    replace_log,
    rename_folder,
    attach_in_step,
    read_natively_in_step,
    read_index_natively_in_step,
)


def lost(server: ServerProcess, database: Path, fault: Callable[[Path, Caller], None]) -> Iterator[str]:
    """Apply a fault to a loaded server and return what breaks the promise."""
    caller = loaded(server)
    fault(database, caller)
    told = [caller.start() for _ in range(20)]
    if "OK" in told:
        yield f"acknowledged after the fault: {told}"
    if told[0] not in {"COMMIT_UNKNOWN", "DATABASE_UNAVAILABLE"} or {*told[1:]} != {"DATABASE_UNAVAILABLE"}:
        yield f"wrong reasons: {told}"
    if missing := caller.missing():
        yield f"not readable over the open connections: {missing}"
    if caller.health("liveness") != health_pb2.HealthCheckResponse.SERVING:
        yield "the process does not live"
    if "OK" not in told:
        caller.await_not_ready()
        if "do not restart" not in server.log_tail():
            yield f"the log does not say what to do: {server.log_tail()}"
    caller.channel.close()
    acknowledged = caller.acknowledged
    server.kill()
    try:
        server.start()
    except ServerDidNotStart:
        return
    after = Caller(server.address)
    after.acknowledged = acknowledged
    if missing := after.missing():
        yield f"lost without a word: {len(missing)} of {len(acknowledged)}"
    after.channel.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_no_acknowledged_start_is_lost_silently_after(
    fault: Callable[[Path, Caller], None], database: Path, older: Path, server_process: ServerMaker
) -> None:
    assert older.exists()
    server = server_process(APP, database=database)

    assert list(lost(server, database, fault)) == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not list descriptors")
@pytest.mark.parametrize(
    ("suffix", "action", "ends"),
    [
        ("", "take_over_descriptors", ServerProcess.kill),
        ("-wal", "take_over_descriptors", ServerProcess.kill),
        ("-wal", "take_over_descriptors", ServerProcess.terminate),
        ("-shm", "take_over_descriptors", ServerProcess.kill),
        (".lock", "take_over_descriptors", ServerProcess.kill),
        ("", "close_descriptors", ServerProcess.kill),
        ("-wal", "close_descriptors", ServerProcess.kill),
        (".lock", "close_descriptors", ServerProcess.kill),
    ],
)
def test_no_start_is_lost_if_a_step_closes_the_servers_descriptors(
    suffix: str,
    action: str,
    ends: Callable[[ServerProcess], Any],
    database: Path,
    server_process: ServerMaker,
) -> None:
    server = server_process(APP, database=database)
    caller = loaded(server)
    assert tamper(caller, Path(f"{database}{suffix}"), action) == "done"

    ends_at = time.monotonic() + SECONDS_MAX
    while "writes rejected: restart the server" not in server.log.read_text():
        assert time.monotonic() < ends_at, "the server does not notice"
        caller.start()  # what is acknowledged meanwhile counts
    caller.await_not_ready()
    acknowledged = caller.acknowledged
    caller.channel.close()
    ends(server)

    assert_starts_whole(server, acknowledged)


@pytest.mark.parametrize("fault", [remove_database, remove_log, move_older_copy, attach_in_step])
def test_a_server_that_does_not_look_at_its_files_is_caught(
    fault: Callable[[Path, Caller], None], database: Path, older: Path, server_process: ServerMaker
) -> None:
    assert older.exists()
    server = server_process(APP, database=database, environment={BLIND_VARIABLE: "1"})

    assert any("acknowledged after the fault" in wrong for wrong in lost(server, database, fault))


@pytest.mark.parametrize("action", ["connect", "read"])
def test_a_step_cannot_open_the_servers_database(
    action: str, database: Path, server_process: ServerMaker
) -> None:
    server = server_process(APP, database=database)
    caller = loaded(server)
    link = database.with_name("link.db")
    link.symlink_to(database)

    for path in (database, link, Path(f"{database}-wal"), Path(f"{database}.lock")):
        assert tamper(caller, path, action).startswith("PermissionError")

    assert caller.start() == "OK"
    assert caller.missing() == []


def test_a_process_that_a_step_starts_can_open_the_database(
    database: Path, server_process: ServerMaker
) -> None:
    caller = loaded(server_process(APP, database=database))

    assert int(tamper(caller, database, "look_from_a_child")) >= BEFORE
    assert caller.start() == "OK"


def perdure(*arguments: str) -> str:
    """Run a command and return what it printed."""
    command = [sys.executable, "-m", "perdure_server.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=90).stdout


@pytest.mark.parametrize("fault", [remove_all, remove_log, move_older_copy])
def test_a_backup_of_a_fenced_server_restores_every_acknowledged_start(
    fault: Callable[[Path, Caller], None],
    database: Path,
    older: Path,
    server_process: ServerMaker,
    tmp_path: Path,
) -> None:
    assert older.exists()
    backups = tmp_path / "backups"
    backups.mkdir()
    arguments = [f"--backup-dir={backups}"]
    server = server_process(APP, database=database, arguments=arguments)
    caller = loaded(server)
    fault(database, caller)
    told = [caller.start() for _ in range(3)]
    assert "OK" not in told
    unknown = caller._number - len(told) + 1

    perdure("db", "backup", "rescued.db", "--server", server.address)
    server.terminate()
    perdure("db", "restore", str(backups / "rescued.db"), "--database", f"sqlite:///{database}")

    server.start()
    restored = Caller(server.address)
    restored.acknowledged = caller.acknowledged
    assert restored.missing() == []
    # The calls that failed are repeated with their request IDs, whether they had an effect or not.
    restored._number = unknown - 1
    assert [restored.start() for _ in told] == ["OK"] * len(told)
    assert restored.missing() == []


# --- two servers ----------------------------------------------------------------------------------------------------


def test_a_second_server_through_a_hard_link_is_rejected(database: Path, server_process: ServerMaker) -> None:
    caller = loaded(server_process(APP, database=database))
    link = database.with_name("link.db")
    os.link(database, link)

    with pytest.raises(ServerDidNotStart, match="in use by another server"):
        server_process(APP, database=link)

    assert caller.start() == "OK"
    assert caller.missing() == []


def test_a_database_with_hard_links_is_not_opened(database: Path, server_process: ServerMaker) -> None:
    server = server_process(APP, database=database)
    loaded(server)
    server.kill()
    link = database.with_name("link.db")
    os.link(database, link)

    with pytest.raises(ServerDidNotStart, match="has 2 hard links"):
        server_process(APP, database=link)


def test_a_second_server_is_rejected_after_the_lock_file_was_removed(
    database: Path, server_process: ServerMaker
) -> None:
    caller = loaded(server_process(APP, database=database))
    lock = Path(f"{database}.lock")
    lock.unlink()

    with pytest.raises(ServerDidNotStart, match="in use by another server"):
        server_process(APP, database=database)

    assert caller.start() == "OK"
    assert caller.missing() == []


def test_a_lock_file_that_was_removed_is_created_again(database: Path, server_process: ServerMaker) -> None:
    server = server_process(APP, database=database)
    with uncopied_log(database):
        caller = loaded(server)
        lock = Path(f"{database}.lock")
        lock.unlink()
        ends_at = time.monotonic() + SECONDS_MAX
        while not lock.exists() or not lock.stat().st_size:
            assert caller.start() == "OK"
            assert time.monotonic() < ends_at
        server.kill()
    Path(f"{database}-wal").unlink()
    with pytest.raises(ServerDidNotStart, match="perdure db restore COPY"):
        server.start()


def test_a_forked_child_keeps_no_lock_after_the_server_was_killed(
    database: Path, server_process: ServerMaker
) -> None:
    server = server_process(APP, database=database)
    caller = loaded(server)
    child = int(tamper(caller, database, "fork"))
    try:
        server.restart()
        os.kill(child, 0)
        restarted = Caller(server.address)
        restarted.acknowledged = caller.acknowledged
        assert restarted.missing() == []
    finally:
        os.kill(child, signal.SIGKILL)


# --- at the next start ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def uncopied_log(database: Path) -> Iterator[None]:
    """Keep the commits of the block in the log. A reader with an older snapshot prevents their checkpoint."""
    reader = apsw.Connection(str(database))
    reader.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM instances").fetchall()
    yield
    reader.close()


def killed(database: Path, server_process: ServerMaker) -> tuple[ServerProcess, list[str]]:
    """Return a server that was killed, with all its commits in its log, and the instances that it acknowledged."""
    server = server_process(APP, database=database)
    with uncopied_log(database):
        caller = loaded(server)
        caller.channel.close()
        server.kill()
    return server, caller.acknowledged


def assert_starts_whole(server: ServerProcess, acknowledged: list[str]) -> None:
    server.start()
    caller = Caller(server.address)
    caller.acknowledged = list(acknowledged)
    assert caller.missing() == []
    assert caller.start() == "OK"
    caller.channel.close()


def damage_middle(database: Path) -> None:
    with Path(f"{database}-wal").open("r+b") as log:
        log.seek(Path(f"{database}-wal").stat().st_size // 2)
        log.write(b"\xff" * 64)


def damage_header(database: Path) -> None:
    with Path(f"{database}-wal").open("r+b") as log:
        log.seek(10)
        log.write(b"\xff" * 8)


def cut_half(database: Path) -> None:
    os.truncate(f"{database}-wal", Path(f"{database}-wal").stat().st_size // 2)


def older_without_log(database: Path) -> None:
    database.with_name("older.db").rename(database)
    Path(f"{database}-wal").unlink()
    Path(f"{database}-shm").unlink()


def older_under_log(database: Path) -> None:
    database.with_name("older.db").rename(database)


def database_gone(database: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{database}{suffix}").unlink()


def database_emptied(database: Path) -> None:
    Path(f"{database}-wal").unlink()
    os.truncate(database, 0)


def log_gone(database: Path) -> None:
    Path(f"{database}-wal").unlink()


@pytest.mark.parametrize(
    "loss",
    [
        log_gone,
        damage_middle,
        damage_header,
        cut_half,
        older_without_log,
        older_under_log,
        database_gone,
        database_emptied,
    ],
)
def test_a_file_that_lost_commits_is_rejected_and_not_changed(
    loss: Callable[[Path], None], database: Path, older: Path, server_process: ServerMaker
) -> None:
    assert older.exists()
    # One more clean stop: the log of the killed server does not follow on the older copy.
    stopped = server_process(APP, database=database)
    Caller(stopped.address).start()
    stopped.terminate()
    server, _ = killed(database, server_process)
    loss(database)
    before = {
        path.name: path.read_bytes() for path in database.parent.iterdir() if not path.name.endswith("-shm")
    }

    for _ in range(2):
        with pytest.raises(ServerDidNotStart, match="perdure db restore COPY"):
            server.start()

    after = {
        path.name: path.read_bytes() for path in database.parent.iterdir() if not path.name.endswith("-shm")
    }
    assert after == before


def test_another_database_at_the_same_path_is_rejected(database: Path, server_process: ServerMaker) -> None:
    other = server_process(APP, database=database.with_name("other.db"))
    loaded(other)
    other.terminate()
    server = server_process(APP, database=database)
    loaded(server)
    server.terminate()
    database.with_name("other.db").rename(database)

    with pytest.raises(ServerDidNotStart, match="different database"):
        server.start()


def test_a_start_after_kill_and_a_look_with_sqlite_is_whole(
    database: Path, server_process: ServerMaker
) -> None:
    server, acknowledged = killed(database, server_process)
    with contextlib.closing(sqlite3.connect(database)) as shell:
        assert shell.execute("SELECT count(*) FROM instances").fetchone()[0] == BEFORE
    assert not Path(f"{database}-wal").exists(), "the look copied the log"

    assert_starts_whole(server, acknowledged)


def test_a_clean_copy_of_database_and_log_starts_whole(database: Path, server_process: ServerMaker) -> None:
    server, acknowledged = killed(database, server_process)
    with_lock = database.parent.with_name("with-lock")
    shutil.copytree(database.parent, with_lock)
    bare = database.parent.with_name("bare")
    bare.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{database}{suffix}", bare)

    for copy in (with_lock, bare):
        assert_starts_whole(server_process(APP, database=copy / "p.db", start=False), acknowledged)
    assert_starts_whole(server, acknowledged)


def vacuum_into(source: Path, target: Path) -> None:
    with contextlib.closing(sqlite3.connect(source)) as live:
        live.execute("VACUUM INTO ?", [str(target)])


def backup_api(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(source)) as live,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        live.backup(copy)


@pytest.mark.parametrize("copy", [vacuum_into, backup_api])
def test_a_copy_starts_at_its_own_path_and_in_the_place_of_its_equal(
    copy: Callable[[Path, Path], None], database: Path, server_process: ServerMaker
) -> None:
    server = server_process(APP, database=database)
    caller = loaded(server)
    target = database.with_name("copy.db")
    copy(database, target)
    server.kill()
    assert_starts_whole(server_process(APP, database=target, start=False), caller.acknowledged)

    # The second copy has every acknowledged write, so it is not older than the file that it replaces.
    second = database.with_name("second.db")
    copy(database, second)
    for suffix in ("-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)
    second.rename(database)
    assert_starts_whole(server, caller.acknowledged)


def test_a_torn_record_in_the_lock_file_is_ignored(database: Path, server_process: ServerMaker) -> None:
    server, acknowledged = killed(database, server_process)
    lock = Path(f"{database}.lock")
    assert lock.stat().st_mode & 0o777 == 0o600
    assert database.stat().st_mode & 0o777 == 0o600
    lock.write_bytes(lock.read_bytes()[:60] + b"\0" * 40)

    assert_starts_whole(server, acknowledged)


def test_a_lock_file_that_is_a_link_is_not_followed(database: Path, server_process: ServerMaker) -> None:
    victim = database.with_name("victim")
    victim.write_text("mine")
    Path(f"{database}.lock").symlink_to(victim)

    with pytest.raises(ServerDidNotStart, match="is a symbolic link"):
        server_process(APP, database=database)
    assert victim.read_text() == "mine"
