"""Pages for operators are complete: options, variables, limits, exit codes, health names, metrics and log events."""

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
from perdure_server.runtime import definitions, state_cache
from perdure_server.store.sqlite import connection, queries, store
from perdure_server.timers import window
from support.doc_pages import REPOSITORY, table, text_of
from support.prometheus_scrape import scrape

RUN: Final = text_of("docs/operate/run.md")
CONFIGURE: Final = text_of("docs/operate/configure.md")
MONITOR: Final = text_of("docs/operate/monitor.md")
LOGS: Final = text_of("docs/operate/logs.md")
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
        return f"`{DATABASE_DEFAULT}`"  # depends on --demo
    if option.is_flag:
        return "off"
    default = option.to_info_dict()["default"]
    return f"`{default}`" if default is not None else ""


def test_the_table_of_options_has_every_option_of_serve() -> None:
    real = [
        [f"`{option.opts[0]}`", f"`{option.envvar}`" if option.envvar else "", default_of(option)]
        for option in options("serve")
    ]

    assert [row[:3] for row in table(CONFIGURE, "Options")] == real


def every_command(command: Any) -> Iterator[Any]:
    yield command
    for child in getattr(command, "commands", {}).values():
        yield from every_command(child)


def test_every_variable_of_every_command_is_documented_and_no_other() -> None:
    real = {param.envvar for command in every_command(app) for param in command.params if param.envvar}

    assert set(re.findall(r"\bPERDURE_\w+", RUN + CONFIGURE)) == real
    assert set(re.findall(r"\bPERDURE_\w+", text_of("docs/workflows/reference.md"))) == real


def test_every_exit_code_is_documented() -> None:
    assert [int(row[0]) for row in table(RUN, "Exit codes")] == [code.value for code in Exit]


# --- limits and health -------------------------------------------------------------------------------------------


def shown(name: str, value: float) -> str:
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


def test_every_limit_is_documented_with_its_value() -> None:
    real = {f"`{name}`": shown(name, value) for name, value in dataclasses.asdict(Limits()).items()}

    assert {row[0]: row[1] for row in table(CONFIGURE, "Limits")} == real


def test_every_cache_is_documented_with_its_maximum() -> None:
    kept = {
        "CACHE_KIB": shown("kept_bytes_max", connection.CACHE_KIB << 10),
        "READER_CACHE_KIB": shown("kept_bytes_max", connection.READER_CACHE_KIB << 10),
        "TEXT_BYTES_KEPT": shown("kept_bytes_max", queries.TEXT_BYTES_KEPT),
        "STATES_MAX": shown("", state_cache.STATES_MAX),
        "STATE_PARTS_MAX": shown("", state_cache.STATE_PARTS_MAX),
        "PAYLOAD_BYTES_MAX": shown("kept_bytes_max", state_cache.PAYLOAD_BYTES_MAX),
        "GRAPHS_CACHED_MAX": shown("", definitions.GRAPHS_CACHED_MAX),
        "WINDOW_TIMERS_MAX": shown("", window.WINDOW_TIMERS_MAX),
    }

    assert {row[0].strip("`"): row[1] for row in table(CONFIGURE, "Memory")} == kept
    reads = f"with more than {shown('large_bytes_max', store.LARGE_BYTES)} of payloads, "
    assert reads + {4: "four"}[store.LARGE_READS_MAX] in CONFIGURE


def test_every_health_name_is_documented() -> None:
    names = set(re.findall(r"`([\w.]+)`", " ".join(row[0] for row in table(MONITOR, "Check health"))))

    assert names == {LIVENESS, *(name for name, _ in SERVICES)}


# --- metrics -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    sys.platform != "linux", reason="the page has the metrics of the process, which exist on Linux only"
)
async def test_the_table_of_metrics_has_every_metric_of_a_server() -> None:
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
    rows = [
        (name.strip("`"), kind, re.findall(r"`(\w+)`", names))
        for name, kind, names, *_ in table(MONITOR, "Metrics")
    ]
    assert {name: kind for name, kind, _ in rows} == found.types
    assert {name: set(names) for name, _, names in rows} == labels
    assert [name for name, *_ in rows if name.startswith("perdure")] == [
        name for name in found.types if name.startswith("perdure")
    ]


# --- log events --------------------------------------------------------------------------------------------------


def message_of(node: ast.AST) -> ast.expr | None:
    """Return the message of ``log.warning("...")`` and its like, and of ``RateLimitedLogger(log, "...")``
    and ``BackgroundLoop(log, "...")``.
    """
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr="log"), args=[_, message, *_]):
            return message
        case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=method), args=[message, *_]) if (
            method in LEVELS
        ):
            return message
        case ast.Call(
            func=ast.Name(id="RateLimitedLogger" | "BackgroundLoop"), args=[ast.Name(id="log"), message, *_]
        ):
            return message
        case _:
            return None


def messages() -> Iterator[Any]:
    for path in sorted(SERVER.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            message = message_of(node)
            if message is None:
                continue
            texts = [part.value for part in ast.walk(message) if isinstance(part, ast.Constant)]
            place = f"{path.relative_to(SERVER)}:{message.lineno}"
            assert texts, f"{place}: a message must be a literal, so that operators can find it"
            yield from (pytest.param(text, id=f"{place}: {text}") for text in texts)


@pytest.mark.parametrize("message", list(messages()))
def test_every_log_event_is_documented(message: str) -> None:
    assert f"`{message.replace('%s', '…')}`" in LOGS


def test_every_documented_log_event_exists() -> None:
    real = {str(message.values[0]).replace("%s", "…") for message in messages()}
    # Rows without a level are headings; a cell may hold several messages.
    listed = {
        text
        for cell, level, *_ in table(LOGS, "Log events")
        if level
        for text in re.findall(r"`([^`]+)`", cell)
    }

    assert listed == real


def test_every_logger_of_the_server_is_called_log() -> None:
    others = [
        f"{path.relative_to(SERVER)}: {line.strip()}"
        for path in sorted(SERVER.rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if "getLogger(__name__)" in line and not line.startswith("log = ")
    ]

    assert others == []
