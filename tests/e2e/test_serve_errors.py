"""Failed starts of `perdure serve`: an error with a hint, and no files are left."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


@pytest.fixture
def taken() -> Iterator[str]:
    """An address on which something else listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield f"127.0.0.1:{other.getsockname()[1]}"


def serve(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "perdure_server.cli", "serve", "--demo", *arguments],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_port_in_use_creates_no_database_and_has_a_hint(tmp_path: Path, taken: str) -> None:
    done = serve(tmp_path, "--database", "sqlite:///new.db", "--listen", taken)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"perdure: error: --listen {taken}: the address is in use, possibly by another server\n"
        "hint: use another address with --listen, or port 0 for a free port\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_host_creates_no_database_and_is_reported(tmp_path: Path) -> None:
    # 192.0.2.0/24 belongs to no machine (RFC 5737).
    done = serve(tmp_path, "--database", "sqlite:///new.db", "--listen", "192.0.2.1:7420", "--insecure")

    assert done.returncode == 1
    assert done.stderr == (
        "perdure: error: --listen 192.0.2.1:7420: the address is not available: Cannot assign requested address\n"
        "hint: use another address with --listen, or port 0 for a free port\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_leaves_a_database_as_it_was(tmp_path: Path, taken: str) -> None:
    (tmp_path / "old.db").write_bytes(b"not even a database")

    done = serve(tmp_path, "--database", "sqlite:///old.db", "--listen", taken)

    assert "--listen" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["old.db"]
    assert (tmp_path / "old.db").read_bytes() == b"not even a database"


@pytest.mark.parametrize("option", ["--listen", "--metrics-listen"])
@pytest.mark.parametrize("insecure", [(), ("--insecure",)])
@pytest.mark.parametrize("host", ["a..b", "nowhere.invalid"])
def test_an_unknown_host_is_reported_with_a_hint(
    tmp_path: Path, option: str, insecure: tuple[str, ...], host: str
) -> None:
    # The default address can be in use by a server on the machine.
    listen = () if option == "--listen" else ("--listen", "127.0.0.1:0")
    done = serve(tmp_path, "--database", "sqlite:///new.db", *listen, option, f"{host}:7", *insecure)

    assert (done.returncode, done.stdout) == (1, "")
    error, hint = done.stderr.splitlines()
    assert error.startswith("perdure: error: ")
    assert "cannot be looked up" in error
    assert hint.startswith("hint: use ")
    assert list(tmp_path.iterdir()) == []
