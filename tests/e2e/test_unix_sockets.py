"""`--listen unix:PATH`: only the owner can connect, a running server keeps its socket, a stop removes it."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest

from e2e.faults.process import complaints
from perdure import Client
from perdure_server.security.unix_socket import PATH_BYTES_MAX

APP: Final = Path(__file__).parent / "faults" / "plain_app.py"

pytestmark = pytest.mark.e2e


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: a socket's path has little room."""
    with TemporaryDirectory(prefix="perdure-", dir="/tmp") as name:
        yield Path(name)


def perdure(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "perdure_server.cli", *arguments],
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def refusal(listen: str, cwd: Path) -> tuple[int, str]:
    """Start a server that cannot listen. Return its exit code and its line."""
    done = perdure("serve", "--demo", "--listen", listen, cwd=cwd)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 2
    return done.returncode, done.stderr


def test_calls_and_commands_reach_a_server_over_a_unix_socket(server_process: Any, folder: Path) -> None:
    server = server_process(APP, listen=f"unix:{folder}/api.sock")
    assert server.address == f"unix:{folder}/api.sock"

    for target in (server.address, f"unix://{folder}/api.sock"):
        with Client(target) as client:
            started = client.start_instance("waiting")
        assert perdure("get", started.instance_id, "--server", target).returncode == 0
    assert perdure("health", "--server", server.address).stdout == "SERVING\n"
    assert server.terminate() == 0
    assert complaints(server.log) == []


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o600), (0o077, 0o600), (0, 0o660), (0o007, 0o660)])
def test_only_the_owner_and_if_the_umask_says_so_the_group_can_connect(
    umask: int, mode: int, server_process: Any, folder: Path
) -> None:
    before = os.umask(umask)
    try:
        server_process(
            APP, listen=f"unix:{folder}/api.sock", arguments=["--health-listen", f"unix:{folder}/h"]
        )
    finally:
        os.umask(before)

    for name in ("api.sock", "h"):
        assert stat.S_IMODE((folder / name).lstat().st_mode) == mode


def test_sockets_are_removed_at_a_stop(server_process: Any, folder: Path) -> None:
    server = server_process(
        APP, listen=f"unix:{folder}/api.sock", arguments=["--health-listen", f"unix:{folder}/health.sock"]
    )
    assert {path.name for path in folder.iterdir()} == {"api.sock", "health.sock"}

    assert server.terminate() == 0

    assert list(folder.iterdir()) == []


def test_a_socket_that_a_killed_server_left_is_replaced(server_process: Any, folder: Path) -> None:
    server = server_process(APP, listen=f"unix:{folder}/api.sock")
    server.kill()
    assert (folder / "api.sock").is_socket()

    server.start()

    assert perdure("health", "--server", server.address).returncode == 0


def test_a_socket_of_a_living_server_is_left_alone(server_process: Any, folder: Path) -> None:
    server = server_process(APP, listen=f"unix:{folder}/api.sock")

    code, line = refusal(server.address, folder)

    assert code == 1
    assert "another process listens on this socket" in line
    assert perdure("health", "--server", server.address).returncode == 0


def test_a_socket_whose_server_accepts_nothing_is_left_alone(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waiting:
        other.bind(str(folder / "busy.sock"))
        other.listen(0)
        waiting.connect(str(folder / "busy.sock"))

        code, line = refusal(f"unix:{folder}/busy.sock", folder)

    assert code == 1
    assert "another process listens on this socket" in line


def test_a_path_that_holds_something_else_is_left_alone(folder: Path) -> None:
    (folder / "file").write_text("kept")
    (folder / "link").symlink_to(folder / "file")
    for name in ("file", "link"):
        code, line = refusal(f"unix:{folder}/{name}", folder)
        assert code == 1
        assert "not a socket" in line
    assert (folder / "file").read_text() == "kept"


def test_paths_that_cannot_be_listened_on_are_rejected(folder: Path) -> None:
    found = {
        text: refusal(f"unix:{text}", folder)
        for text in (str(folder), f"{folder}/none/x", "", f"{folder}/", "x" * PATH_BYTES_MAX, "//host/x")
    }

    assert [code for code, _ in found.values()] == [1, 1, 2, 2, 2, 2]
    for (_, line), words in zip(
        found.values(),
        (
            "is a directory",
            "does not exist",
            "not a socket path",
            "not a socket path",
            "maximum is 107",
            "has a host",
        ),
        strict=True,
    ):
        assert words in line
    assert list(folder.iterdir()) == []


def test_a_relative_path_starts_at_the_working_folder(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "perdure_server.cli", "serve", "--demo", "--listen", "unix:a.sock"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as out:
        assert out.readline() == f"perdure listening on unix:{folder}/a.sock\n"
        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.parametrize("target", ["unix:", f"unix:/{'x' * PATH_BYTES_MAX}"])
def test_a_target_with_an_impossible_path_is_rejected(target: str) -> None:
    done = perdure("health", "--server", target)

    assert done.returncode == 2
    assert done.stderr.count("\n") == 2
    assert "it must have 1 to 107, like unix:/run/perdure.sock" in done.stderr
