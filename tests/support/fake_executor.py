"""A client of the dispatcher that holds what it is given, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from perdure_server.runtime.ports import TaskToRun
from perdure_server.runtime.tasks import (
    TaskFinished,
    TaskKey,
    key_of,
)
from support.fake_task_store import FakeTaskStore

DONE = TaskFinished("done", None)


class Hands:
    """A client that holds what it is given until a test says how it ended."""

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


def hire(table: FakeTaskStore, credits_max: int = 10, *step_refs: str) -> Hands:
    hands = Hands()
    table.dispatcher.register(hands, {("w", 1): frozenset(step_refs or {"work"})}, credits_max)
    return hands
