"""An executor that keeps its tasks until the test ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from perdure_server.runtime.dispatch.protocol import (
    TaskFinished,
    TaskKey,
    key_of,
)
from perdure_server.runtime.ports import TaskToRun
from support.fake_task_store import FakeTaskStore

DONE = TaskFinished("done", None)


class FakeExecutor:
    """Keeps each task until the test reports its result to the dispatcher."""

    def __init__(self) -> None:
        self.tasks: list[TaskToRun] = []
        self.stopped: list[TaskKey] = []
        self._changed = asyncio.Event()

    def run(self, task: TaskToRun) -> None:
        self.tasks.append(task)
        self._changed.set()

    def stop(self, key: TaskKey) -> None:
        self.stopped.append(key)
        self._changed.set()

    @property
    def keys(self) -> list[TaskKey]:
        return [key_of(task) for task in self.tasks]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


def register(table: FakeTaskStore, max_credits: int = 10, *step_refs: str) -> FakeExecutor:
    """Register an executor with handlers for ``step_refs`` of workflow `w` version 1, by default `work`."""
    executor = FakeExecutor()
    table.dispatcher.register(executor, {("w", 1): frozenset(step_refs or {"work"})}, max_credits)
    return executor
