"""A dispatcher with a real in-process executor, on an in-memory task table."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from perdure_server.engine import commands
from perdure_server.executors.in_process import Handler, InProcessExecutor
from perdure_server.executors.steps_loop import Lifespan
from support.fake_task_store import FakeTaskStore


class ExecutorFixture:
    """Use an object as a decorator to add handlers of workflow `w` version 1, then `open` it."""

    def __init__(self, lifespans: list[Lifespan] | None = None, **options: Any) -> None:
        self.table = FakeTaskStore()
        self.handlers: dict[tuple[str, int, str], Handler] = {}
        self.lifespans = lifespans or []
        self.options = options

    def __call__(self, function: Handler) -> Handler:
        self.handlers["w", 1, getattr(function, "__name__", "work")] = function
        return function

    @asynccontextmanager
    async def open(self) -> AsyncIterator[FakeTaskStore]:
        self.executor = InProcessExecutor(
            self.table.dispatcher, self.handlers, self.lifespans, **self.options
        )
        await self.executor.start()
        self.table.dispatcher.start()
        try:
            yield self.table
        finally:
            await self.table.dispatcher.drain(0)
            await self.executor.stop()

    async def run(self, step_ref: str = "work") -> commands.Command:
        """Run one step of a new instance and return the command with its result."""
        before = len(self.table.results)
        assert self.table.grant(f"i{before}", step_ref)
        await self.table.until_results(before + 1)
        await self.table.dispatcher.quiesce()
        return self.table.commands()[before]
