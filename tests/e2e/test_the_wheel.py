"""The wheel as users install it: in an empty environment, alone and with the server."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest

from support.wheel_env import REPOSITORY, Venv, build_wheel, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

# The versions of the lock, so that a release elsewhere never fails this test.
LOCKED = ("--constraint", REPOSITORY / "requirements/dev.lock")
READY = re.compile(r"^perdure listening on (?P<address>\S+)$")

IMPORTS = """
import sys
import perdure
assert not {"grpc", "google.protobuf"} & set(sys.modules), "import perdure is heavy"
from perdure import AsyncClient, Client, Workflow, step
import perdure.client, perdure.errors, perdure.runner
assert perdure.__version__
"""

ROUND_TRIP = """
import sys
from perdure import Client
with Client(sys.argv[1]) as client:
    started = client.start_instance("order", {"items": [1], "total_cents": 2**63 - 1, "note": "größer 🚀"})
    client.resume(started.instance_id, "reserved", buffer=True)
    client.resume(started.instance_id, "rejected", buffer=True)
    ended = client.wait_for_end(started.instance_id, timeout=60)
    print(ended.state.name, ended.outputs["charge"]["cents"], ended.input["note"].encode().hex())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_alone_is_the_sdk(wheel: Path, tmp_path: Path) -> None:
    venv = Venv(tmp_path / "venv")
    venv.install(wheel, *LOCKED)

    assert set(venv.packages()) == {
        "googleapis-common-protos",
        "grpcio",
        "perdure",
        "protobuf",
        "typing-extensions",
    }
    run(venv.python, "-c", IMPORTS, cwd=tmp_path)
    told = subprocess.run([venv.bin / "perdure", "serve"], capture_output=True, text=True, check=False)
    assert told.returncode != 0
    assert "pip install 'perdure[server]'" in told.stderr
    assert "Traceback" not in told.stderr


def test_the_wheel_with_its_server_serves(wheel: Path, tmp_path: Path) -> None:
    venv = Venv(tmp_path / "venv")
    venv.install(f"perdure[server] @ {wheel.as_uri()}", *LOCKED)
    command = [venv.bin / "perdure", "serve", REPOSITORY / "examples/order.py", "--listen", "127.0.0.1:0"]

    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=log, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            ready = READY.match(server.stdout.readline())
            assert ready, (tmp_path / "log").read_text()
            told = run(venv.python, "-c", ROUND_TRIP, ready["address"], cwd=tmp_path)
        finally:
            server.send_signal(signal.SIGTERM)

    assert told.split() == ["COMPLETED", str(2**63 - 1), "größer 🚀".encode().hex()]
    assert server.returncode == 0
    assert (tmp_path / "perdure.db").exists()
