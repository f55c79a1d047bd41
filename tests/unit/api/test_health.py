"""Log events about the readiness of a server."""

from __future__ import annotations

import asyncio
import logging

import pytest

from contract.runner_flows import FLOWS
from perdure_server import app
from perdure_server.app import Server
from perdure_server.config import Config


class ReadinessLog(logging.Handler):
    """Queues log events about readiness, so that a test can await them."""

    def __init__(self) -> None:
        super().__init__()
        self._events: asyncio.Queue[tuple[str, str | None]] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() in {"not ready", "ready again"}:
            self._events.put_nowait((record.getMessage(), getattr(record, "parts", None)))

    async def next(self) -> tuple[str, str | None]:
        async with asyncio.timeout(60):
            return await self._events.get()


async def test_a_change_of_readiness_is_logged_with_the_failing_parts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, app.__name__)
    events = ReadinessLog()
    app.log.addHandler(events)
    monkeypatch.setattr(app, "HEALTH_SECONDS", 0.01)
    server = Server(
        Config(workflows=FLOWS, database=":memory:", listen="127.0.0.1:0", shutdown_timeout_seconds=1)
    )
    await server.start()
    try:
        for names, parts in (
            (("timers",), "timers"),
            (("replica", "timers"), "database, timers"),
            (("dispatcher", "executor"), "tasks, steps"),
        ):
            with monkeypatch.context() as broken:
                for name in names:
                    broken.setattr(getattr(server._core, name), "healthy", lambda: False)
                assert await events.next() == ("not ready", parts)
            assert await events.next() == ("ready again", None)
    finally:
        app.log.removeHandler(events)
        await server.stop()
