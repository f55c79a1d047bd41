"""The attempts that run in this process, and those that ended here a moment ago."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from perdure_server.runtime.dispatch.credits import RegisteredExecutor
from perdure_server.runtime.dispatch.protocol import TaskKey, TaskResult
from perdure_server.runtime.ports import TaskToRun

RECENTLY_FINISHED_MAX: Final = 10_000
"""Maximum number of remembered attempts that ended here while the store may still count them as running."""


@dataclass(slots=True, eq=False)
class InFlightTask:
    """An attempt that runs here, or whose result is being stored."""

    task: TaskToRun
    entry: RegisteredExecutor
    stopped: bool = False
    result: TaskResult | None = None
    report_attempts: int = 0


class InFlightTasks:
    """The attempts of one process by key. Each uses one credit of its executor."""

    def __init__(self) -> None:
        self.tasks: dict[TaskKey, InFlightTask] = {}
        self._recently_finished: OrderedDict[TaskKey, None] = OrderedDict()

    def add(self, key: TaskKey, task: TaskToRun, entry: RegisteredExecutor) -> InFlightTask:
        """Add an attempt and use a credit of its executor."""
        added = self.tasks[key] = InFlightTask(task, entry)
        entry.used += 1
        return added

    def remove(self, key: TaskKey, in_flight: InFlightTask) -> None:
        """Remove an attempt and free its credit."""
        del self.tasks[key]
        in_flight.entry.used -= 1

    def mark_finished(self, key: TaskKey) -> bool:
        """Remember that an attempt ended here, so that it is not run or counted again. Returns False if it was known.

        An attempt can be handed over late, after it was released.
        """
        if key in self._recently_finished:
            return False
        self._recently_finished[key] = None
        while len(self._recently_finished) > RECENTLY_FINISHED_MAX:
            self._recently_finished.popitem(last=False)
        return True

    def finished_recently(self, key: TaskKey) -> bool:
        """Return True if `mark_finished` remembers the attempt."""
        return key in self._recently_finished
