"""The Python client passes the whole table with the oldest library versions that it supports."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from conformance.scenario_runner import play
from conformance.scenario_table import scenarios
from conformance.world import World
from support.wheel_env import REPOSITORY, UV, Venv, build_wheel, run

DRIVER = Path(__file__).with_name("python_driver.py")


def floors() -> dict[str, str]:
    """Return what pyproject.toml names as the oldest versions."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    pairs = (re.fullmatch(r"([a-z-]+)>=([0-9.]+)", line) for line in project["dependencies"])
    return {found[1]: found[2] for found in pairs if found}


@pytest.mark.e2e
@pytest.mark.timeout(400)
def test_the_sdk_runs_on_the_oldest_libraries_that_it_names(tmp_path: Path) -> None:
    lowest = run(
        *(UV, "pip", "compile", "--quiet", "--no-config", "--no-header"),
        *("--resolution", "lowest-direct", "--python-version", "3.11", "pyproject.toml"),
    )
    (tmp_path / "lowest.txt").write_text(lowest)
    venv = Venv(tmp_path / "venv")
    venv.install("-r", tmp_path / "lowest.txt")
    venv.install("--no-deps", build_wheel(tmp_path / "wheel"))

    named, installed = floors(), venv.packages()
    assert len(named) == 3
    # The registry may know 1.70 as 1.70.0.
    assert {name: installed[name][: len(version)] for name, version in named.items()} == named

    with World("python", tmp_path, command=[venv.python, DRIVER]) as world:
        issues = [
            f"{scenario.name}: {line}" for scenario in scenarios() for line in play(scenario, world).issues
        ]
        codes = world.close_drivers()
    assert not issues, "\n".join(issues)
    assert not any(codes.values())
