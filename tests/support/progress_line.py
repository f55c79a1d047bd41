"""A pytest plugin that shows the progress of a run on one line: `pytest -p support.progress_line`.

A test that fails prints its name at once, and its report at the end. If the output is not a terminal, it prints a line
for every tenth of the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pytest

NAME: Final = "perdure-progress-line"


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(ProgressLine(reporter), NAME)


class ProgressLine:
    """Counts finished tests and replaces the letters of passed and skipped tests."""

    def __init__(self, reporter: Any) -> None:
        self._reporter = reporter
        self._total = 0
        self._done = 0
        self._tenths = 0

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._total = max(self._total, len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        self._total = max(self._total, len(ids))

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, str] | None:
        if hasattr(report, "wasxfail"):
            return None
        if report.skipped:
            return "skipped", "", ""
        if report.failed:
            return ("failed" if report.when == "call" else "error"), "", ""
        return ("passed", "", "") if report.when == "call" else None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._reporter.write_line(f"FAILED {report.nodeid} ({report.when})")
        if report.when != "teardown" or not self._total:
            return
        self._done += 1
        text = f"{100 * self._done // self._total} %  {self._done:,} of {self._total:,} tests"
        if self._reporter.isatty:
            self._reporter.rewrite(text, erase=True)
        elif (tenths := 10 * self._done // self._total) > self._tenths:
            self._tenths = tenths
            self._reporter.write_line(text)
