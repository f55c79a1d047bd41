"""What executors and the dispatcher say to each other: how an attempt ended, and what a client of tasks can
do.

What lives here: values and protocols. Remote workers meet the same ones as the in-process executor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from perdure_server.engine.commands import Command, Grant, Payload, TakeTask
from perdure_server.engine.value_type import value
from perdure_server.runtime.ports import TaskToRun
from perdure_server.store.protocol import Code, StepKey, TaskRow


class TaskKey(NamedTuple):
    """One attempt of one step. No attempt is ever run twice."""

    instance_id: str
    step_ref: str
    attempt: int


def key_of(task: TaskToRun | TaskRow) -> TaskKey:
    """Return the attempt that a task or its row stands for."""
    return TaskKey(task.instance_id, task.step_ref, task.attempt)


@value(frozen=True, slots=True)
class TaskFinished:
    """The code returned an outcome. ``output`` is None for the empty object."""

    event: str
    output: Payload | None


@value(frozen=True, slots=True)
class TaskSuspended:
    """The code returned SUSPEND."""


@value(frozen=True, slots=True)
class TaskFailed:
    """The code raised, returned nonsense, ran out of time, or was lost with what ran it."""

    type: str
    message: str
    retryable: bool
    timed_out: bool = False
    """Whether it took longer than its `attempt_timeout`."""


@value(frozen=True, slots=True)
class TaskReleased:
    """The executor gives the attempt back unfinished; it counts as no failure."""

    reason: str


@value(frozen=True, slots=True)
class TaskStopped:
    """The code ended after it was told to stop: nobody asks for its result."""


TaskResult: TypeAlias = TaskFinished | TaskSuspended | TaskFailed | TaskReleased | TaskStopped


class Executor(Protocol):
    """What runs tasks. Its methods return at once and do not raise; results go to `Dispatcher.done`."""

    def run(self, task: TaskToRun) -> None:
        """Run an attempt. Exactly one result for it must follow."""
        ...

    def stop(self, key: TaskKey) -> None:
        """Tell an attempt that its result no longer counts. A result must follow all the same."""
        ...


class SubmitTask(Protocol):
    """The runner's way in, for everything about tasks that exist. Resolves after the commit."""

    def __call__(self, instance_id: str, command: Command) -> asyncio.Future[Any]: ...


class SubmitTake(Protocol):
    """Takes a task under a grant for exactly its step: ``runner.submit(instance_id, command, grant=grant)``."""

    def __call__(self, instance_id: str, command: TakeTask, grant: Grant) -> asyncio.Future[Any]: ...


class TaskStore(Protocol):
    """What the dispatcher needs of the store."""

    def now_ms(self) -> int: ...
    async def claimable_tasks(self, *, code: Code, limit: int) -> Sequence[TaskRow]: ...
    async def owned_tasks(self, owner: str) -> Sequence[TaskRow]: ...
    async def mark_solo(self, instance_id: str, step_ref: str, attempt: int, *, alone: bool) -> None: ...
    async def clear_suspects(self, steps: Collection[StepKey] | None = None) -> None: ...
