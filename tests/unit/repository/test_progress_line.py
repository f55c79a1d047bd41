"""`make test` prints progress on one line, and more only for tests that fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]
MODULE = """
import pytest

@pytest.mark.parametrize("n", range(20))
def test_a(n):
    if n == 3:
        pytest.skip("reason")
    assert n != FAILING
"""


@pytest.mark.parametrize(("failing", "status"), [(-1, 0), (7, 1)])
@pytest.mark.parametrize("workers", [0, 2])
def test_only_failures_print_more_than_the_progress(
    failing: int, status: int, workers: int, tmp_path: Path
) -> None:
    (tmp_path / "test_x.py").write_text(MODULE.replace("FAILING", str(failing)))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = (
        f"-m pytest -q --no-header -rfE -p no:cacheprovider -p support.progress_line -n {workers} test_x.py"
    )

    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TESTS), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == status, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith("bringing up")]
    progress = [line for line in lines if "of 20 tests" in line]
    assert len(progress) == 10
    assert progress[-1].endswith("100 %  20 of 20 tests")
    rest = [line for line in lines if line not in progress]
    if status == 0:
        assert len(rest) == 1
        assert rest[0].startswith("19 passed, 1 skipped")
    else:
        assert rest[0] == "FAILED test_x.py::test_a[7] (call)"
