"""The Go client as a module: generated stubs, its own tests, its README and its sample in an empty project."""

from __future__ import annotations

import os
import re
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
    pytest.mark.timeout(600),  # the first build compiles grpc and the generators, later builds take seconds
]

CLIENT: Final = REPOSITORY / "clients" / "go"
ORDER: Final = REPOSITORY / "examples" / "order.py"
RUN_SECONDS_MAX: Final = 540.0
OFFLINE: Final = {
    "GOPROXY": "off",
    # The checksum database is on the network. The client's go.sum lists every module, and the module cache verifies its
    # contents.
    "GOSUMDB": "off",
    "GOWORK": "off",
}


def run(*command: str | Path, cwd: Path = CLIENT, **environment: str) -> str:
    """Run a command that must succeed, and return its output."""
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
    """Build the client, so that Go's caches contain everything and the tests need no network."""
    require("go")
    run("go", "build", "./...")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def order_server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(ORDER, tmp_path / "server.db", log=tmp_path / "server.log") as server:
        yield server


def test_go_stubs_are_up_to_date(tmp_path: Path) -> None:
    run(CLIENT / "generate.sh", tmp_path)

    made, committed = stubs(tmp_path / "v1"), stubs(CLIENT / "v1")

    assert made.keys() == committed.keys()
    assert [name for name in made if made[name] != committed[name]] == [], "run clients/go/generate.sh"


def test_go_client_passes_its_tests_vet_and_gofmt() -> None:
    assert run("gofmt", "-l", ".") == "", "run gofmt -w clients/go"
    run("go", "mod", "verify")
    run("go", "vet", "./...")
    run("go", "test", "./...")


def test_go_sample_completes_an_order_in_an_empty_project(order_server: ServerProcess, project: Path) -> None:
    shutil.copy(CLIENT / "samples" / "order" / "main.go", project)

    run("go", "mod", "init", "example.com/shop", cwd=project, **OFFLINE)
    run("go", "mod", "edit", "-replace", f"perdure.dev/go/perdure={CLIENT}", cwd=project, **OFFLINE)
    run("go", "get", "perdure.dev/go/perdure", cwd=project, **OFFLINE)
    output = run("go", "run", ".", order_server.address, cwd=project, **OFFLINE)

    assert "COMPLETED parcel:" in output


def test_go_getting_started_page_works(project: Path, tmp_path: Path) -> None:
    readme = (CLIENT / "README.md").read_text()
    page = readme[readme.index("## Getting started") : readme.index("## Methods")]
    blocks = dict(re.findall(r"```(python|go|sh)\n(.*?)```", page, re.DOTALL))
    workflow = tmp_path / "hello.py"
    workflow.write_text(blocks["python"])

    with ServerProcess(workflow, tmp_path / "server.db", log=tmp_path / "server.log") as server:
        program = blocks["go"].replace("perdure.DefaultTarget", f'"{server.address}"')
        assert server.address in program
        (project / "main.go").write_text(program)
        commands = blocks["sh"].replace("/path/to/perdure", str(REPOSITORY))
        assert str(CLIENT) in commands
        output = run("bash", "-euc", commands, cwd=project, **OFFLINE)

    assert "COMPLETED Hello, Ada!" in output


def test_go_driver_starts_resumes_and_reads_an_instance(order_server: ServerProcess, tmp_path: Path) -> None:
    context = '{"items": ["ż😀\\u2028", 9223372036854775807],  "total_cents": 1.50}'
    payload = '[18446744073709551616, "<&>"]'

    with Driver("go", tmp_path / "driver.log") as driver:
        assert driver.call("connect", {"target": order_server.address}) == {"ok": {}}
        started = driver.call("start_instance", {"workflow": "order", "context": context})["ok"]
        instance_id = {"instance_id": started["instance_id"]}
        driver.call("watch_open", {**instance_id, "watch": "w", "after_revision": 0})
        resumed = driver.call(
            "resume", {**instance_id, "event": "reserved", "payload": payload, "buffer": True}
        )
        finished: dict[str, int] = {}
        while "reserve" not in finished:  # until a step has consumed the event
            event = driver.call("watch_next", {"watch": "w", "timeout_ms": 10_000})["ok"]
            assert event["event"] == "entry", event
            if event["kind"] == "step_finished":
                entries = driver.call(
                    "list_history", {**instance_id, "after_revision": event["revision"] - 1}
                )["ok"]
                finished[entries["entries"][0]["step_ref"]] = event["revision"]
        instance = driver.call("get_instance", instance_id)["ok"]
        error = driver.call("resume", {**instance_id, "event": "shipped"})["error"]
        assert driver.close() == 0

    assert resumed["ok"]["disposition"] in {"DELIVERED", "BUFFERED"}
    assert instance["input"] == context
    assert instance["outputs"]["reserve"] == payload
    assert (error["reason"], error["code"]) == ("EVENT_NEVER_ACCEPTED", "FAILED_PRECONDITION")
