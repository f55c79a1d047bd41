"""The Java client as a package: generated stubs, its own tests, its README and its sample in an empty project."""

from __future__ import annotations

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
    pytest.mark.timeout(600),  # the first build downloads Maven's plugins, later ones take seconds
]

CLIENT: Final = REPOSITORY / "clients" / "java"
STUBS: Final = CLIENT / "src" / "generated" / "java"
RUN_SECONDS_MAX: Final = 540.0
IMPORTS: Final = (
    "com.fasterxml.jackson.databind.ObjectMapper",
    "dev.perdure.*",
    "java.nio.file.Path",
    "java.time.Duration",
    "java.util.List",
    "java.util.Map",
)


def run(*command: str | Path, cwd: Path = CLIENT) -> subprocess.CompletedProcess[str]:
    """Run a command and return its output, whatever its exit code."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )


def maven(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Maven offline, and online only if that fails.

    Maven reports missing artifacts in many ways ("in offline mode", "No plugin found for prefix"), so every failure is
    retried. A failure with another cause occurs again.
    """
    done = run("mvn", "--batch-mode", "--quiet", "--offline", *arguments, cwd=cwd)
    if done.returncode != 0:
        done = run("mvn", "--batch-mode", "--quiet", *arguments, cwd=cwd)
    return done


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """Build and test the client and install its jar into the local Maven repository."""
    require("java")
    done = run(CLIENT / "build.sh")
    assert done.returncode == 0, done.stdout[-8_000:]


@pytest.fixture
def order_server(tmp_path: Path) -> Iterator[ServerProcess]:
    app = REPOSITORY / "examples" / "order.py"
    with ServerProcess(app, tmp_path / "server.db", log=tmp_path / "server.log") as server:
        yield server


def test_java_stubs_are_up_to_date(tmp_path: Path) -> None:
    done = run(CLIENT / "generate.sh", tmp_path)
    assert done.returncode == 0, done.stdout

    generated, committed = files(tmp_path), files(STUBS)

    assert generated.keys() == committed.keys()
    stale = [name for name in generated if generated[name] != committed[name]]
    assert stale == [], "run clients/java/generate.sh"


def test_java_sample_completes_an_order_in_an_empty_project(
    order_server: ServerProcess, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(CLIENT / "samples" / "order", project, ignore=shutil.ignore_patterns("target"))

    done = maven("compile", "exec:java", f"-Dexec.args={order_server.address}", cwd=project)

    assert done.returncode == 0, done.stdout
    assert "COMPLETED {parcel=parcel:" in done.stdout


def test_java_driver_starts_resumes_and_reads_an_instance(
    order_server: ServerProcess, tmp_path: Path
) -> None:
    context = '{"items": ["ż😀", 9223372036854775807],  "total_cents": 1}'
    payload = "[18446744073709551616, 1.50]"

    with Driver("java", tmp_path / "driver.log") as driver:
        assert driver.call("connect", {"target": order_server.address}) == {"ok": {}}
        started = driver.call("start_instance", {"workflow": "order", "context": context})["ok"]
        about = {"instance_id": started["instance_id"]}
        resumed = driver.call("resume", {**about, "event": "reserved", "payload": payload, "buffer": True})
        driver.call("watch_open", {**about, "watch": "w", "after_revision": 0})
        events = [driver.call("watch_next", {"watch": "w", "timeout_ms": 10_000})["ok"] for _ in range(3)]
        # Again, with a new server process on the same port: the client reconnects.
        host_and_port = order_server.address
        order_server.kill()
        with ServerProcess(
            REPOSITORY / "examples" / "order.py",
            tmp_path / "server.db",
            log=tmp_path / "server-2.log",
            listen=host_and_port,
        ):
            instance = driver.call("get_instance", about)["ok"]
            rejected = driver.call("resume", {**about, "event": "shipped"})["error"]
        assert driver.close() == 0

    assert resumed["ok"]["disposition"] in {"DELIVERED", "BUFFERED"}
    assert [(entry["event"], entry["revision"]) for entry in events] == [
        ("entry", 1),
        ("entry", 2),
        ("entry", 3),
    ]
    assert instance["input"] == context
    assert instance["outputs"].get("reserve", payload) == payload
    assert (rejected["reason"], rejected["code"]) == ("EVENT_NEVER_ACCEPTED", "FAILED_PRECONDITION")


def test_java_getting_started_page_works(tmp_path: Path) -> None:
    readme = (CLIENT / "README.md").read_text()
    page = readme[readme.index("## Getting started") : readme.index("## Methods")]
    blocks = dict(re.findall(r"^```(python|java|xml)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE))
    printed = re.search(r"It prints `(.+)`", page)
    assert printed is not None
    workflow = tmp_path / "hello.py"
    workflow.write_text(blocks["python"])

    with ServerProcess(workflow, tmp_path / "server.db", log=tmp_path / "server.log") as server:
        program = blocks["java"].replace("PerdureClient.DEFAULT_TARGET", f'"{server.address}"')
        assert server.address in program
        (tmp_path / "Hello.java").write_text(program)
        done = run("java", "-cp", class_path(), tmp_path / "Hello.java")

    assert done.returncode == 0, done.stdout
    assert printed[1] in done.stdout.splitlines()
    # The other tests build the sample with this dependency.
    assert blocks["xml"].split() == dependency_of(CLIENT / "samples" / "order" / "pom.xml").split()


def class_path() -> str:
    return f"{CLIENT}/target/classes:{(CLIENT / 'target' / 'classpath').read_text().strip()}"


def dependency_of(pom: Path) -> str:
    """Return the first dependency of a project."""
    text = pom.read_text()
    end = "</dependency>"
    return text[text.index("<dependency>") : text.index(end) + len(end)]


def test_java_snippets_of_the_readme_compile(tmp_path: Path) -> None:
    readme = (CLIENT / "README.md").read_text()
    # The getting-started page, a whole program, has its own test.
    page = readme[readme.index("## Methods") :]
    snippets = re.findall(r"^```java\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    lines = [f"import {name};" for name in IMPORTS]
    # Snippets use these unless they declare their own.
    lines.append("class Snippets { PerdureClient client; String id;")
    for number, snippet in enumerate(snippets):
        lines.append(f"void snippet{number}() throws Exception {{\n{snippet}}}")
    lines.append("}")
    (tmp_path / "Snippets.java").write_text("\n".join(lines))

    done = run("javac", "--release", "17", "-d", tmp_path, "-cp", class_path(), tmp_path / "Snippets.java")

    assert len(snippets) >= 6
    assert done.returncode == 0, done.stdout
