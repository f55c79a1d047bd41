"""Environments for tests of the installed package: an empty venv with the wheel, built here.

Dependencies come from the package client's cache if possible.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]
UV: Final = REPOSITORY / ".venv-tools/bin/uv"
INSTALL_SECONDS_MAX: Final = 300


def run(*command: str | Path, cwd: Path = REPOSITORY) -> str:
    """Return what a command writes to stdout. It has to end with 0."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALL_SECONDS_MAX,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def build_wheel(folder: Path) -> Path:
    """Build the distribution's wheel into a folder."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


class Venv:
    """An empty virtual environment."""

    def __init__(self, folder: Path) -> None:
        assert UV.exists(), "the installer is not there: run `make tools`"
        self.bin = folder / "bin"
        run(UV, "venv", "--quiet", "--no-config", "--python", sys.executable, folder)

    @property
    def python(self) -> Path:
        return self.bin / "python"

    def install(self, *arguments: str | Path) -> None:
        """Install as a user would."""
        run(UV, "pip", "install", "--quiet", "--no-config", "--python", self.python, *arguments)

    def packages(self) -> dict[str, str]:
        """Return what is installed: names and versions."""
        lines = run(UV, "pip", "freeze", "--no-config", "--python", self.python).splitlines()
        pairs = (line.partition("==") for line in lines)
        return {name.partition(" @ ")[0]: version for name, _, version in pairs}
