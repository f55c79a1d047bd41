"""The TypeScript client as a package: stubs, its own tests, its contents, and its sample in an empty project."""

from __future__ import annotations

import json
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
    pytest.mark.timeout(600),  # the first build downloads the compiler; later builds take seconds
]

CLIENT: Final = REPOSITORY / "clients" / "typescript"
ORDER: Final = REPOSITORY / "examples" / "order.py"
RUN_SECONDS_MAX: Final = 540.0
PACKAGE_FILES: Final = frozenset({"package.json", "README.md", "LICENSE"})
# npm's cache first: packages that the build downloaded are not downloaded again.
INSTALL: Final = ("npm", "install", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund")

SNIPPET_PRELUDE: Final = """\
import type { Client as Made } from "perdure";
declare const client: Made;
declare const instanceId: string;
"""


def run(*command: str | Path, cwd: Path = CLIENT) -> str:
    """Run a command that must succeed and return its output."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "NO_UPDATE_NOTIFIER": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-8_000:]}"
    return done.stdout


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    """Build the client, its tests and its driver. Does nothing if nothing changed."""
    require("typescript")
    run("bash", "build.sh")


@pytest.fixture
def order_server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(ORDER, tmp_path / "server.db", log=tmp_path / "server.log") as server:
        yield server


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled project with the packed client, the sample and the blocks of the README."""
    folder = tmp_path_factory.mktemp("typescript")
    packed = run("npm", "pack", "--ignore-scripts", "--silent", "--pack-destination", folder).split()[-1]
    for name in ("order.ts", "package.json", "tsconfig.json"):
        shutil.copy(CLIENT / "samples" / "order" / name, folder)
    run(*INSTALL, f"./{packed}", cwd=folder)
    snippets = re.findall(r"^```ts\n(.*?)^```", (CLIENT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert snippets
    for number, snippet in enumerate(snippets):
        own = "new Client(" in snippet
        (folder / f"snippet{number}.ts").write_text(snippet if own else SNIPPET_PRELUDE + snippet)
    config = (folder / "tsconfig.json").read_text()
    (folder / "tsconfig.json").write_text(config.replace('"files": ["order.ts"]', '"include": ["*.ts"]'))
    run("npm", "run", "build", cwd=folder)
    return folder


def test_the_typescript_stubs_are_fresh(tmp_path: Path) -> None:
    run("bash", "generate.sh", tmp_path)

    made, committed = files_in(tmp_path / "src/gen"), files_in(CLIENT / "src/gen")

    assert made.keys() == committed.keys()
    stale = sorted(name for name in made if made[name] != committed[name])
    assert not stale, f"run clients/typescript/generate.sh: {stale}"


def test_the_typescript_client_passes_its_own_tests() -> None:
    output = run("node", "--test", "build/test/")

    assert re.search(r"^# pass [1-9]", output, re.MULTILINE), output


def test_the_typescript_package_contains_only_public_files(project: Path) -> None:
    installed = files_in(project / "node_modules" / "perdure")

    assert {*PACKAGE_FILES, "dist/index.js", "dist/index.d.ts"} <= installed.keys()
    assert all(name.startswith("dist/") or name in PACKAGE_FILES for name in installed)


def test_the_typescript_package_is_licensed_under_apache_2_0(project: Path) -> None:
    package = project / "node_modules" / "perdure"

    assert json.loads((package / "package.json").read_text())["license"] == "Apache-2.0"
    assert "Copyright 2026 The perdure authors" in (package / "LICENSE").read_text()


def test_the_typescript_lock_does_not_name_a_registry() -> None:
    assert '"resolved"' not in (CLIENT / "package-lock.json").read_text()


def test_the_typescript_sample_ships_an_order(project: Path, order_server: ServerProcess) -> None:
    output = run("node", "order.js", order_server.address, cwd=project)

    assert "COMPLETED" in output


def test_the_first_program_of_the_typescript_readme_runs(project: Path, order_server: ServerProcess) -> None:
    first = (project / "snippet0.js").read_text()
    (project / "first.js").write_text(first.replace("127.0.0.1:7420", order_server.address))

    # The state depends on the server's speed, but the order cannot have ended: its cooldown takes longer.
    assert re.search(r"^(RUNNING|WAITING) ", run("node", "first.js", cwd=project))


def test_the_typescript_driver_makes_a_round_trip(order_server: ServerProcess, tmp_path: Path) -> None:
    context = '{"items": [9007199254740993], "note": "é\\u00e9 😀"}'
    with Driver("typescript", tmp_path / "driver.log") as driver:
        driver.call("connect", {"target": order_server.address})
        started = driver.call("start_instance", {"workflow": "order", "context": context})["ok"]
        instance = {"instance_id": started["instance_id"]}
        resumed = driver.call("resume", {**instance, "event": "reserved", "payload": "12", "buffer": True})[
            "ok"
        ]
        got = driver.call("get_instance", instance)["ok"]
        code = driver.close()

    assert started["created"]
    assert resumed["step_ref"] == "reserve"
    assert got["input"] == context
    assert code == 0
