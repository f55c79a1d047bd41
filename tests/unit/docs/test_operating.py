"""docs/operating.md is whole: every option, variable, limit, exit code, health name, metric and log event there is."""

from __future__ import annotations

import ast
import dataclasses
import re
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest

from contract.runner_flows import FLOWS
from perdure_server.api.health import LIVENESS
from perdure_server.api.limits import Limits
from perdure_server.api.server import SERVICES
from perdure_server.app import Server
from perdure_server.cli.errors import Exit
from perdure_server.cli.main import app
from perdure_server.config import DATABASE_DEFAULT, DATABASE_MEMORY, Config
from perdure_server.runtime import command_processor, definitions
from perdure_server.store.sqlite import connection, queries, store
from perdure_server.timers import window
from support.doc_pages import REPOSITORY, table, text_of
from support.prometheus_scrape import scrape

PAGE: Final = text_of("docs/operating.md")
SERVER: Final = REPOSITORY / "server/perdure_server"
LEVELS: Final = {"debug", "info", "warning", "error", "exception", "critical"}


# --- options -----------------------------------------------------------------------------------------------------


def options(*path: str) -> list[Any]:
    command: Any = app
    for name in path:
        command = command.commands[name]
    return [param for param in command.params if param.param_type_name == "option" and param.name != "help"]


def default_of(option: Any) -> str:
    if option.name == "database":
        return f"`{DATABASE_DEFAULT}`"  # chosen once it is known whether it is the demo's
    if option.is_flag:
        return "off"
    return f"`{option.default}`" if option.default is not None else ""


def test_the_table_of_options_is_that_of_serve() -> None:
    real = [
        [f"`{option.opts[0]}`", f"`{option.envvar}`" if option.envvar else "", default_of(option)]
        for option in options("serve")
    ]

    assert [row[:3] for row in table(PAGE, "Starting")] == real


def every_command(command: Any) -> Iterator[Any]:
    yield command
    for child in getattr(command, "commands", {}).values():
        yield from every_command(child)


def test_every_variable_of_every_command_is_on_the_page_and_no_other() -> None:
    real = {param.envvar for command in every_command(app) for param in command.params if param.envvar}

    assert set(re.findall(r"\bPERDURE_\w+", PAGE)) == real


def test_every_exit_code_is_on_the_page() -> None:
    assert [int(row[0]) for row in table(PAGE, "Exit codes")] == [code.value for code in Exit]


# --- limits and health -------------------------------------------------------------------------------------------


def told(name: str, value: float) -> str:
    unit = next(
        (unit for unit in ("bytes_max", "bytes", "seconds", "ms") if re.search(rf"_{unit}\b", name)), ""
    )
    if not unit:
        unit = "ms" if "_ms_" in name else ""
    if unit.startswith("bytes"):
        return f"{int(value) >> 20} MiB" if value >= 1 << 20 else f"{int(value) >> 10} KiB"
    if not unit:
        return f"{int(value):,}"
    ms = int(value * 1000) if unit == "seconds" else int(value)
    for size, text in ((3_600_000, "h"), (60_000, "min"), (1_000, "s")):
        if ms >= size and ms % size == 0:
            return f"{ms // size} {text}"
    return f"{ms} ms"


def test_every_limit_is_on_the_page_with_its_value() -> None:
    real = {f"`{name}`": told(name, value) for name, value in dataclasses.asdict(Limits()).items()}

    assert {row[0]: row[1] for row in table(PAGE, "Limits")} == real


def test_what_is_kept_in_memory_is_on_the_page_with_its_bound() -> None:
    kept = {
        "CACHE_KIB": told("kept_bytes_max", connection.CACHE_KIB << 10),
        "READER_CACHE_KIB": told("kept_bytes_max", connection.READER_CACHE_KIB << 10),
        "TEXT_BYTES_KEPT": told("kept_bytes_max", queries.TEXT_BYTES_KEPT),
        "LANES_MAX": told("", command_processor.LANES_MAX),
        "STATE_PARTS_MAX": told("", command_processor.STATE_PARTS_MAX),
        "BODIES_BYTES_MAX": told("kept_bytes_max", command_processor.BODIES_BYTES_MAX),
        "GRAPHS_CACHED_MAX": told("", definitions.GRAPHS_CACHED_MAX),
        "WINDOW_TIMERS_MAX": told("", window.WINDOW_TIMERS_MAX),
    }

    assert {row[0].strip("`"): row[1] for row in table(PAGE, "Memory")} == kept
    reads = f"with more than {told('large_bytes_max', store.LARGE_BYTES)} of payloads, "
    assert reads + {4: "four"}[store.LARGE_READS_MAX] in PAGE


def test_every_health_name_is_on_the_page() -> None:
    names = set(re.findall(r"`([\w.]+)`", " ".join(row[0] for row in table(PAGE, "Health"))))

    assert names == {LIVENESS, *(name for name, _ in SERVICES)}


# --- metrics -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    sys.platform != "linux", reason="the page has those of the process, which Linux alone tells"
)
async def test_the_table_of_metrics_is_what_a_server_tells() -> None:
    config = Config(
        workflows=FLOWS,
        database=DATABASE_MEMORY,
        listen="127.0.0.1:0",
        metrics_listen="127.0.0.1:0",
        shutdown_timeout_seconds=1,
    )
    server = Server(config)
    await server.start()
    try:
        found = await scrape(str(server.metrics_address))
    finally:
        await server.stop()

    labels = found.labels()
    shown = [
        (name.strip("`"), kind, re.findall(r"`(\w+)`", names))
        for name, kind, names, *_ in table(PAGE, "Metrics")
    ]
    assert {name: kind for name, kind, _ in shown} == found.types
    assert {name: set(names) for name, _, names in shown} == labels
    assert [name for name, *_ in shown if name.startswith("perdure")] == [
        name for name in found.types if name.startswith("perdure")
    ]


# --- log events --------------------------------------------------------------------------------------------------


def told_by(node: ast.AST) -> ast.expr | None:
    """Return the message of ``log.warning("...")`` and its like, and of ``RateLimitedLogger(log, "...")``."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr="log"), args=[_, told, *_]):
            return told
        case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=method), args=[told, *_]) if (
            method in LEVELS
        ):
            return told
        case ast.Call(func=ast.Name(id="RateLimitedLogger"), args=[ast.Name(id="log"), told, *_]):
            return told
        case _:
            return None


def messages() -> Iterator[Any]:
    for path in sorted(SERVER.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            told = told_by(node)
            if told is None:
                continue
            texts = [part.value for part in ast.walk(told) if isinstance(part, ast.Constant)]
            place = f"{path.relative_to(SERVER)}:{told.lineno}"
            assert texts, f"{place}: a message is a text, so that it can be looked up"
            yield from (pytest.param(text, id=f"{place}: {text}") for text in texts)


@pytest.mark.parametrize("message", list(messages()))
def test_every_log_event_is_on_the_page(message: str) -> None:
    assert f"`{message.replace('%s', '…')}`" in PAGE


def test_every_log_event_on_the_page_may_be_logged() -> None:
    real = {str(message.values[0]).replace("%s", "…") for message in messages()}
    # Rows without a level are headings; a cell may hold several messages.
    shown = {
        text for cell, level, *_ in table(PAGE, "Logs") if level for text in re.findall(r"`([^`]+)`", cell)
    }

    assert shown == real


def test_every_logger_of_the_server_is_called_log() -> None:
    others = [
        f"{path.relative_to(SERVER)}: {line.strip()}"
        for path in sorted(SERVER.rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if "getLogger(__name__)" in line and not line.startswith("log = ")
    ]

    assert others == []
