"""Tools accept the unit and the container file in `examples/deploy`, and their options exist."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).resolve().parents[3]
DEPLOY: Final = REPOSITORY / "examples" / "deploy"
UNIT: Final = DEPLOY / "perdure.service"
CONTAINER: Final = DEPLOY / "Containerfile"

EXPOSURE_MAX: Final = 20
"""Highest exposure of the unit in tenths, as `systemd-analyze security` rates it from 0 (safe) to 100."""

systemd_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def unit_values(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), flags=re.MULTILINE)


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the container file with their arguments, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", CONTAINER.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def arguments(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


def help_of(command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "perdure_server.cli", command, "--help"],
        capture_output=True, text=True, timeout=60, check=True, env={"COLUMNS": "200"},
    )  # fmt: skip
    return done.stdout


@systemd_analyze
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    # Replace the executable by an existing one. Everything else stays.
    [start] = unit_values("ExecStart")
    program = start.split()[0]
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(program, sys.executable))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")


@systemd_analyze
def test_the_unit_is_hardened() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", str(UNIT)],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_gives_a_stop_enough_time() -> None:
    grace = next(
        value for value in unit_values("Environment") if value.startswith("PERDURE_SHUTDOWN_TIMEOUT=")
    )
    shutdown_timeout_seconds = int(re.fullmatch(r"PERDURE_SHUTDOWN_TIMEOUT=(\d+)s", grace)[1])  # type: ignore[index]

    assert int(unit_values("TimeoutStopSec")[0]) >= 3 * shutdown_timeout_seconds + 20


def test_the_unit_always_restarts_the_server() -> None:
    assert unit_values("Restart") == ["always"]
    assert unit_values("StartLimitIntervalSec") == ["0"]
    assert unit_values("RestartPreventExitStatus") == []


def test_both_files_allow_backups() -> None:
    [unit] = [v for v in unit_values("Environment") if v.startswith("PERDURE_BACKUP_DIR=")]
    directory = unit.partition("=")[2]
    assert directory.removeprefix("/var/lib/") in unit_values("StateDirectory")[0].split()
    assert f"PERDURE_BACKUP_DIR={directory}" in arguments("ENV")[0]
    assert f"{directory}\n" in arguments("RUN")[-1].replace(" ", "\n") + "\n"


def test_commands_and_variables_are_those_of_the_command_line() -> None:
    [start] = unit_values("ExecStart")
    [entry], [command] = arguments("ENTRYPOINT"), arguments("CMD")
    health = json.loads(arguments("HEALTHCHECK")[0].partition("CMD ")[2])
    calls = [shlex.split(start)[1:], [*json.loads(entry), *json.loads(command)][1:], health[1:]]
    assert [call[0] for call in calls] == ["serve", "serve", "health"]
    for name, *rest in calls:
        options = [word for word in rest if word.startswith("--")]
        assert all(option in help_of(name) for option in options), options

    readme = (DEPLOY / "README.md").read_text()
    named = set(re.findall(r"PERDURE_[A-Z_]+", UNIT.read_text() + CONTAINER.read_text() + readme))
    known = set(re.findall(r"PERDURE_[A-Z_]+", help_of("serve") + help_of("health")))
    assert named - known == set()


def test_the_container_copies_existing_files_that_are_not_ignored() -> None:
    ignored = (DEPLOY / "Containerfile.dockerignore").read_text().splitlines()
    for copy in arguments("COPY"):
        if not copy.startswith("--from"):
            source = copy.split()[0]
            assert (REPOSITORY / source).exists(), source
            assert f"!{source}" in ignored, source
    assert "*" in ignored


def test_the_container_runs_without_root_and_keeps_its_data() -> None:
    users = arguments("USER")
    assert users
    assert users[-1] not in {"root", "0"}
    [volume] = arguments("VOLUME")
    assert f"PERDURE_DATABASE=sqlite:///{volume}/" in arguments("ENV")[0]
    assert arguments("STOPSIGNAL") == ["SIGTERM"]


def test_the_operators_page_links_the_files() -> None:
    page = (REPOSITORY / "docs" / "operate" / "run.md").read_text()

    assert "(../../examples/deploy/README.md)" in page
    for path in (UNIT, CONTAINER):
        assert path.name in (DEPLOY / "README.md").read_text()
