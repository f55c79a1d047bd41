"""The server process: effects of steps on it, and effects of its parent."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from e2e.faults import process_app
from perdure import Client
from support.server_process import REPOSITORY, ServerProcess

APP: Final = Path(process_app.__file__)
SECONDS_MAX: Final = 60.0
CALLS: Final = 300

pytestmark = pytest.mark.e2e


def run(server: ServerProcess | str, workflow: str) -> Any:
    """Run an instance to its end and return the output of its step."""
    address = server if isinstance(server, str) else server.address
    with Client(address) as client:
        started = client.start_instance(workflow)
        ended = client.wait_for_end(started.instance_id, timeout=SECONDS_MAX)
    assert ended.state.value == "COMPLETED", (workflow, ended.error)
    return ended.outputs["work"].get("value")


class Plain:
    """`perdure serve` whose standard descriptors a test decides about. Ends its own child only."""

    def __init__(self, folder: Path, *arguments: str, app: Path = APP, **settings: Any) -> None:
        environment = {**os.environ, **settings.pop("environment", {})}
        self.log = folder / "log"
        settings.setdefault("stdout", subprocess.PIPE)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(
                        sys.executable,
                        "-m",
                        "perdure_server.cli",
                        "serve",
                        str(app),
                        "--listen",
                        "127.0.0.1:0",
                    ),
                    *("--database", f"sqlite:///{folder / 'plain.db'}", *arguments),
                ],
                stdin=subprocess.DEVNULL,
                cwd=REPOSITORY,
                env=environment,
                **{"stderr": log, **settings},
            )

    def ready(self) -> str:
        """Read the ready line, and nothing behind it."""
        assert self.process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self.process.stdout.fileno(), 1)
            assert byte, self.log.read_text()
            line += byte
        return line.decode().split()[-1]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(SECONDS_MAX)

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        if self.process.stderr is not None:
            self.process.stderr.close()


def events(log: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")
    ]  # steps print, too


def messages(log: Path) -> list[str]:
    return [event["message"] for event in events(log)]


# --- children ----------------------------------------------------------------------------------------------------

CHILDREN: Final = {
    "pool": 12,
    "terminate": -signal.SIGTERM,
    "fork_and_signal": -signal.SIGTERM,
    "fork_and_return": 0,
    "fork_and_raise": 1,
    "fork_and_print": 0,
}


@pytest.mark.parametrize("support", ["0", "1"])
def test_forked_children_leave_the_server_alone(
    server_process: Callable[..., ServerProcess], support: str
) -> None:
    server = server_process(APP, environment={"GRPC_ENABLE_FORK_SUPPORT": support})
    for name, value in CHILDREN.items():
        assert run(server, name) == value
        assert run(server, f"async_{name}") == value
    for _ in range(20):
        run(server, "good")

    assert "stopping" not in messages(server.log)
    assert server.terminate() == 0


@pytest.fixture
def children() -> Iterator[list[int]]:
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def sockets_of(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(entry)
            if target.startswith("socket:"):
                found.add(target)
    return found


def inodes_at(port: int) -> set[str]:
    """The sockets of this machine whose local port it is."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are found by /proc")
def test_children_that_outlive_the_server_hold_nothing_of_it(
    server_process: Callable[..., ServerProcess], children: list[int], tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    server = server_process(APP, listen=f"127.0.0.1:{port}")
    for name in ("leave_children", "async_leave_children"):
        children += run(server, name)
    for pid in children:
        assert sockets_of(pid).isdisjoint(inodes_at(port))

    server.restart()

    assert run(server, "good") is None


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are found by /proc")
def test_a_child_that_a_lifespan_forks_holds_no_listener(
    server_process: Callable[..., ServerProcess], children: list[int], tmp_path: Path
) -> None:
    ports = free_ports(3)
    listen, health, metrics = (f"127.0.0.1:{port}" for port in ports)
    child = tmp_path / "child"
    server = server_process(
        APP,
        listen=listen,
        arguments=["--health-listen", health, "--metrics-listen", metrics],
        environment={"LIFESPAN_CHILD": str(child)},
    )
    children.append(int(child.read_text()))
    for port in ports:
        assert sockets_of(children[0]).isdisjoint(inodes_at(port))

    server.restart()

    children.append(int(child.read_text()))
    assert run(server, "good") is None


# --- the end -----------------------------------------------------------------------------------------------------


def test_the_process_ends_although_a_thread_of_a_step_runs_on(
    server_process: Callable[..., ServerProcess], children: list[int]
) -> None:
    server = server_process(APP)
    run(server, "leave_threads")
    children += run(server, "leave_children")

    assert server.terminate() == 0
    assert messages(server.log)[-2:] == ["stopping", "stopped"]


# --- signals before the server is ready ---------------------------------------------------------------------------


def await_file(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not path.exists():
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("blocks", ["", "1"])
def test_a_signal_while_a_lifespan_opens_stops_the_server(
    tmp_path: Path, number: signal.Signals, blocks: str
) -> None:
    marker = tmp_path / "opening"
    environment = {"LIFESPAN_MARKER": str(marker), "LIFESPAN_BLOCKS": blocks}
    with Plain(tmp_path, environment=environment) as server:
        await_file(marker, server.process)

        assert server.stop(number) == 0
    assert messages(tmp_path / "log")[-2:] == ["stopping", "stopped"]


IMPORTS: Final = """
import pathlib, signal, time
{before}
pathlib.Path({marker!r}).touch()
try:
    time.sleep(600)
except BaseException:
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_an_app_is_imported_ends_the_process(tmp_path: Path, number: signal.Signals) -> None:
    app, marker = tmp_path / "slow_app.py", tmp_path / "importing"
    app.write_text(IMPORTS.format(marker=str(marker), before=""))
    with Plain(tmp_path, app=app) as server:
        await_file(marker, server.process)

        assert server.stop(number) == 0
    assert messages(tmp_path / "log") == ["stopped before the start was complete"]


def test_an_interrupted_validation_ends_without_a_traceback(tmp_path: Path) -> None:
    app, marker = tmp_path / "slow_app.py", tmp_path / "importing"
    app.write_text(IMPORTS.format(marker=str(marker), before=""))
    command = [sys.executable, "-m", "perdure_server.cli", "workflows", "validate", str(app)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        await_file(marker, process)
        process.send_signal(signal.SIGINT)

        assert process.communicate(timeout=SECONDS_MAX)[0] == b""
    assert process.returncode == 130


# --- output ------------------------------------------------------------------------------------------------------

OUTPUTS: Final = {
    "print_and_close": "printed",
    "write_descriptor": "written",
    "run_program": 0,
    "fork_and_print": 0,
}


def use_all_output(address: str) -> None:
    for name, value in OUTPUTS.items():
        assert run(address, name) == value
        assert run(address, f"async_{name}") == value
    with Client(address) as client:
        assert client.check_health("liveness").value == "SERVING"


def test_unread_output_does_not_block_or_fail_the_server(tmp_path: Path) -> None:
    with Plain(tmp_path, stderr=subprocess.PIPE) as server:
        address = server.ready()
        run(address, "log_much")
        use_all_output(address)
        for _ in range(5):
            run(address, "good")

        assert server.stop() == 0


def test_output_whose_reader_is_gone_neither_blocks_nor_fails_anything(tmp_path: Path) -> None:
    with Plain(tmp_path, stderr=subprocess.PIPE) as server:
        address = server.ready()
        assert server.process.stdout is not None
        assert server.process.stderr is not None
        server.process.stdout.close()
        server.process.stderr.close()
        run(address, "log_much")
        use_all_output(address)

        assert server.stop() == 0


def started_address(log: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        for event in events(log):
            if event["message"] == "started":
                return str(event["address"])
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("closed", [(1,), (0, 1)])
def test_a_server_whose_standard_output_is_closed_serves(tmp_path: Path, closed: tuple[int, ...]) -> None:
    with Plain(
        tmp_path, stdout=subprocess.DEVNULL, preexec_fn=lambda: [os.close(number) for number in closed]
    ) as server:
        address = started_address(server.log, server.process)
        use_all_output(address)
        assert b"perdure listening" not in (tmp_path / "plain.db").read_bytes()

        assert server.stop() == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_server_whose_standard_output_is_full_serves(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full, Plain(tmp_path, stdout=full) as server:
        address = started_address(server.log, server.process)
        use_all_output(address)

        assert server.stop() == 0


def test_a_server_without_standard_error_serves(tmp_path: Path) -> None:
    with Plain(tmp_path, preexec_fn=lambda: os.close(2)) as server:
        use_all_output(server.ready())

        assert server.stop() == 0


def test_dropped_lines_are_reported_once_the_log_is_read_again(tmp_path: Path) -> None:
    with Plain(tmp_path, stderr=subprocess.PIPE) as server:
        address = server.ready()
        for _ in range(3):
            run(address, "log_much")
        assert server.process.stderr is not None
        for line in server.process.stderr:
            event = json.loads(line)
            if event["message"].startswith("output dropped"):
                break

        assert event["stream"] == "stderr"
        assert event["lines"] > 0


# --- what else code of users may change --------------------------------------------------------------------------


def test_no_setting_of_logging_silences_the_server(server_process: Callable[..., ServerProcess]) -> None:
    server = server_process(APP)
    run(server, "silence_logs")
    run(server, "good")

    assert server.terminate() == 0
    assert messages(server.log)[-2:] == ["stopping", "stopped"]


AT_IMPORT: Final = """
import logging, logging.config, os, signal, sys, warnings
from perdure import Context, Outcome, Workflow, step

os.chdir("/")
os.close(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.set_wakeup_fd(-1)
sys.stdout = sys.stderr = None
logging.config.dictConfig({"version": 1})
logging.disable(logging.CRITICAL)

class Flow(Workflow, name="flow", version=1):
    start = "work"

    @step(on={"done": "end"})
    async def work(self, ctx: Context) -> Outcome:
        return Outcome("done")
"""


def test_an_app_that_changes_the_process_at_import_is_served(tmp_path: Path) -> None:
    (tmp_path / "changing_app.py").write_text(AT_IMPORT)
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "perdure_server.cli", "serve", "changing_app.py"),
            *("--listen", "127.0.0.1:0", "--database", "sqlite:///here.db"),
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        run(address, "flow")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=SECONDS_MAX)

    assert process.returncode == 0
    assert [json.loads(line)["message"] for line in log.splitlines()] == ["started", "stopping", "stopped"]
    assert (tmp_path / "here.db").exists()


def test_the_working_folder_of_steps_does_not_matter(server_process: Callable[..., ServerProcess]) -> None:
    server = server_process(APP)

    assert run(server, "change_folder") == "/"
    run(server, "good")
    server.restart()
    run(server, "good")


# --- hangups -----------------------------------------------------------------------------------------------------


def test_a_hangup_drains_a_server_without_tls(server_process: Callable[..., ServerProcess]) -> None:
    server = server_process(APP)
    server.signal(signal.SIGHUP)

    assert server.wait() == 0
    assert messages(server.log)[-2:] == ["stopping", "stopped"]


def test_a_server_under_nohup_ignores_a_hangup(tmp_path: Path) -> None:
    with Plain(tmp_path, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as server:
        address = server.ready()
        server.process.send_signal(signal.SIGHUP)
        run(address, "good")

        assert server.stop() == 0
