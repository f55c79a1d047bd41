"""Logs: one JSON document a line, without payloads."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from perdure_server.telemetry.logs import MESSAGE_CHARS_MAX, JsonLines, RateLimitedLogger, log_to_stderr

SECRET = "4111-1111"


def line_of(
    *args: Any, name: str = "perdure_server.x", error: BaseException | None = None, **extra: Any
) -> dict[str, Any]:
    message, *rest = args
    info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord(name, logging.ERROR, __file__, 1, message, tuple(rest), info)
    for key, value in extra.items():
        setattr(record, key, value)
    text = JsonLines().format(record)
    assert "\n" not in text
    assert text.isascii()
    found: dict[str, Any] = json.loads(text)
    return found


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def test_a_line_has_time_level_logger_and_message() -> None:
    line = line_of("claimed %d timers", 3, replica="r-1", seconds=0.5)

    assert line["message"] == "claimed 3 timers"
    assert (line["level"], line["logger"]) == ("error", "perdure_server.x")
    assert line["time"].endswith("+00:00")
    assert (line["replica"], line["seconds"]) == ("r-1", 0.5)


def test_a_line_is_one_line_whatever_is_in_it() -> None:
    assert line_of("a\nb\u2028\x1b[2J %s", "\ud800")["message"] == "a\nb\u2028\x1b[2J \ud800"


def test_an_error_is_logged_with_its_type_and_places_without_its_text() -> None:
    line = line_of("step failed", error=raised(KeyError(SECRET), ValueError(SECRET)))

    assert line["error"] == "KeyError < ValueError"
    assert any(place.endswith(" raised") for place in line["stack"])
    assert SECRET not in json.dumps(line)


def test_an_error_of_the_system_keeps_its_text() -> None:
    line = line_of("cannot open", error=raised(FileNotFoundError(2, "No such file")))

    assert "No such file" in line["error"]


def test_a_chain_of_errors_that_never_ends_is_cut() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first

    assert line_of("round", error=first)["error"].count("<") == 4


def test_only_the_first_line_of_other_libraries_messages_is_logged() -> None:
    line = line_of(f"Task exception was never retrieved\nfuture: <Task exception={SECRET}>", name="asyncio")

    assert line["message"] == "Task exception was never retrieved"
    assert (
        line_of("it raised %s", ValueError(SECRET), name="apscheduler.x")["message"] == "it raised ValueError"
    )


def test_an_extra_of_another_type_is_logged_by_its_type() -> None:
    assert line_of("x", context={"card": SECRET})["context"] == "dict"


def test_an_extra_cannot_replace_a_standard_field() -> None:
    assert line_of("x", level="debug", logger="other")["level"] == "error"


def test_a_wrong_format_string_loses_no_line() -> None:
    assert line_of("%d timers", "three")["message"] == "%d timers"


def test_a_long_message_is_cut() -> None:
    assert len(line_of("x" * 10_000)["message"]) == MESSAGE_CHARS_MAX


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level, raising = list(root.handlers), root.level, logging.raiseExceptions
    hooks = threading.excepthook, sys.unraisablehook, warnings.showwarning
    yield root
    threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising
    for name in ("apscheduler", "grpc", "asyncio"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_logs_go_to_stderr_and_libraries_log_warnings_only(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    log_to_stderr()
    logging.getLogger("perdure_server.x").info("started")
    logging.getLogger("apscheduler.scheduler").info("added a job")

    captured = capsys.readouterr()
    assert [json.loads(line)["message"] for line in captured.err.splitlines()] == ["started"]
    assert captured.out == ""


PRINTS_BY_ITSELF = """
import threading, warnings
from perdure_server.telemetry.logs import log_to_stderr

class Card:
    def __del__(self):
        raise ValueError("4111-1111")

def fail():
    raise KeyError("4111-1111")

log_to_stderr()
thread = threading.Thread(target=fail)
thread.start()
thread.join()
Card()
warnings.warn("4111-1111")
"""


def test_messages_that_python_prints_are_logged_without_their_text() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRINTS_BY_ITSELF], capture_output=True, text=True, check=True, timeout=60
    )

    assert "4111" not in done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["message"], line.get("error")) for line in lines] == [
        ("thread failed", "KeyError"),
        ("unraisable exception", "ValueError"),
        ("Python warning", None),
    ]


def test_a_rate_limited_warning_is_logged_once_a_second_with_its_count(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    limited = RateLimitedLogger(logging.getLogger("perdure_server.x"), "the disk is full: %s")
    for _ in range(1_000):
        limited.warning("no room")
    now += 1.0
    limited.warning("still none")

    assert [(record.getMessage(), record.times) for record in caplog.records] == [  # type: ignore[attr-defined]
        ("the disk is full: no room", 1),
        ("the disk is full: still none", 1_000),
    ]
