"""`make demo` shows one order through a crash, on one screen."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import pytest

from order import OrderFlow
from perdure import graph_of
from support.server_process import REPOSITORY

LINES_MAX = 25


@pytest.mark.e2e
def test_the_demo_kills_the_server_once_and_ships_the_order() -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "examples" / "demo.py")],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) <= LINES_MAX
    assert sum("$ kill -9 " in line for line in lines) == 1
    assert sum("$ perdure serve " in line for line in lines) == 2
    killed = next(number for number, line in enumerate(lines) if "$ kill -9 " in line)
    before, after = "\n".join(lines[:killed]), "\n".join(lines[killed:])
    assert [ref for ref in graph_of(OrderFlow).steps if ref not in before or ref not in after] == []
    for text in ("StartInstance", "Resume", "ScheduleResume"):
        assert text in before
    assert "still WAITING" in after
    assert "✔ ship: shipped" in after
    assert "· refund" in after
    assert lines[-1].startswith("Try next: ")


async def test_the_demo_fails_if_the_order_does_not_ship(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    demo: Any = importlib.import_module("demo")

    async def fail(*_: object) -> None:
        raise demo.DemoError("the crash lost data")

    monkeypatch.setattr(demo.Server, "start", fail)

    assert await demo.main() == 1
    assert "the demo failed: the crash lost data" in capsys.readouterr().out
