"""Setup steps of the Makefile are quiet, and print their log if they fail."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.doc_pages import REPOSITORY


@pytest.mark.parametrize("fails", [True, False])
def test_setup_prints_its_log_only_if_it_fails(fails: bool, tmp_path: Path) -> None:
    # An interpreter that answers the check of its version, and then creates an environment or fails.
    python = tmp_path / "python"
    venv = tmp_path / "venv"
    python.write_text(
        f'#!/bin/sh\n[ "$1" != -c ] || exit 0\necho "details of the setup"\n{"exit 3" if fails else ""}\n'
        f"mkdir -p {venv}/bin\nprintf '#!/bin/sh\\nexit 0\\n' > {venv}/bin/python\nchmod +x {venv}/bin/python\n"
    )
    python.chmod(0o755)

    done = subprocess.run(
        ["make", "setup", f"PYTHON={python}", f"VENV={venv}", f"LOG={tmp_path}/log"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.stdout.splitlines() == [f"creating {venv}: up to 60 MB to download (output: {tmp_path}/log)"]
    assert "details of the setup" in (tmp_path / "log").read_text()
    assert ("details of the setup" in done.stderr) == fails
    assert (done.returncode != 0) == fails
    assert (venv / ".stamp").exists() != fails


def test_an_old_python_is_rejected() -> None:
    done = subprocess.run(
        ["make", "setup", "PYTHON=false", "VENV=build/none"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode != 0
    assert "false is not Python 3.11 or later" in done.stderr


def test_help_lists_every_target() -> None:
    done = subprocess.run(["make"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)

    for target in ("setup", "test", "demo", "lint", "clean"):
        assert f"\n{target} " in f"\n{done.stdout}"
