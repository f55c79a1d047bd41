"""The Go client as a module: fresh stubs, its own tests, and its sample run to the end in an empty project."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from conformance.drivers import REPOSITORY, Driver, require
from support.server_process import ServerProcess

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),  # a first build compiles grpc and the generators; a warm one takes seconds
]

CLIENT: Final = REPOSITORY / "clients" / "go"
ORDER: Final = REPOSITORY / "examples" / "order.py"
RUN_SECONDS_MAX: Final = 540.0
OFFLINE: Final = {
    "GOPROXY": "off",
    # Asks a host about each module that the project's go.sum does not name yet. The client's own names them all, and
    # a module cache checks what it holds.
    "GOSUMDB": "off",
    "GOWORK": "off",
}


def run(*command: str | Path, cwd: Path = CLIENT, **environment: str) -> str:
    """Run a command that must succeed, and return what it said."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-8_000:]}"
    return done.stdout


def stubs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    """The client and what it needs, in Go's own caches: nothing is fetched from here on."""
    require("go")
    run("go", "build", "./...")


@pytest.fixture
def order_server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(ORDER, tmp_path / "server.db", log=tmp_path / "server.log") as server:
        yield server


def test_the_go_stubs_are_fresh(tmp_path: Path) -> None:
    run(CLIENT / "generate.sh", tmp_path)

    made, committed = stubs(tmp_path / "v1"), stubs(CLIENT / "v1")

    assert made.keys() == committed.keys()
    assert [name for name in made if made[name] != committed[name]] == [], "run clients/go/generate.sh"


def test_the_go_client_passes_its_own_tests_in_good_form() -> None:
    assert run("gofmt", "-l", ".") == "", "run gofmt -w clients/go"
    run("go", "mod", "verify")
    run("go", "vet", "./...")
    run("go", "test", "./...")


def test_the_go_sample_completes_an_order_in_an_empty_project(
    order_server: ServerProcess, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(CLIENT / "samples" / "order" / "main.go", project)

    run("go", "mod", "init", "example.com/shop", cwd=project, **OFFLINE)
    run("go", "mod", "edit", "-replace", f"perdure.dev/go/perdure={CLIENT}", cwd=project, **OFFLINE)
    run("go", "get", "perdure.dev/go/perdure", cwd=project, **OFFLINE)
    told = run("go", "run", ".", order_server.address, cwd=project, **OFFLINE)

    assert "COMPLETED parcel:" in told


def test_the_go_driver_starts_resumes_and_gets(order_server: ServerProcess, tmp_path: Path) -> None:
    context = '{"items": ["ż😀\\u2028", 9223372036854775807],  "total_cents": 1.50}'
    payload = '[18446744073709551616, "<&>"]'

    with Driver("go", tmp_path / "driver.log") as driver:
        assert driver.call("connect", {"target": order_server.address}) == {"ok": {}}
        started = driver.call("start_instance", {"workflow": "order", "context": context})["ok"]
        about = {"instance_id": started["instance_id"]}
        driver.call("watch_open", {**about, "watch": "w", "after_revision": 0})
        resumed = driver.call("resume", {**about, "event": "reserved", "payload": payload, "buffer": True})
        finished: dict[str, int] = {}
        while "reserve" not in finished:  # the watch tells when the event has been consumed
            told = driver.call("watch_next", {"watch": "w", "timeout_ms": 10_000})["ok"]
            assert told["event"] == "entry", told
            if told["kind"] == "step_finished":
                entries = driver.call("list_history", {**about, "after_revision": told["revision"] - 1})["ok"]
                finished[entries["entries"][0]["step_ref"]] = told["revision"]
        instance = driver.call("get_instance", about)["ok"]
        refused = driver.call("resume", {**about, "event": "shipped"})["error"]
        assert driver.close() == 0

    assert resumed["ok"]["disposition"] in {"DELIVERED", "BUFFERED"}
    assert instance["input"] == context
    assert instance["outputs"]["reserve"] == payload
    assert (refused["reason"], refused["code"]) == ("EVENT_NEVER_ACCEPTED", "FAILED_PRECONDITION")
