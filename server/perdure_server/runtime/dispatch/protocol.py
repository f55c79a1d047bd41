"""The messages between executors and the dispatcher, and the ports of both.

Remote workers use the same messages as the in-process executor.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from perdure_server.engine.commands import Payload
from perdure_server.engine.value_type import value
from perdure_server.runtime.ports import TaskToRun
from perdure_server.store.protocol import Code, StepKey, TaskRow


class TaskKey(NamedTuple):
    """One attempt of one step. No attempt runs twice."""

    instance_id: str
    step_ref: str
    attempt: int


def key_of(task: TaskToRun | TaskRow) -> TaskKey:
    """Return the key of a task's attempt."""
    return TaskKey(task.instance_id, task.step_ref, task.attempt)


@value(frozen=True, slots=True)
class TaskFinished:
    """The handler returned an outcome. ``output`` is None for the empty object."""

    event: str
    output: Payload | None


@value(frozen=True, slots=True)
class TaskSuspended:
    """The handler returned SUSPEND."""


@value(frozen=True, slots=True)
class TaskFailed:
    """The handler raised, returned an invalid value, timed out, or was lost with its worker."""

    type: str
    message: str
    retryable: bool
    timed_out: bool = False
    """True if the attempt exceeded its `attempt_timeout`."""


@value(frozen=True, slots=True)
class TaskReleased:
    """The executor returns the attempt unfinished. This does not count as a failure."""

    reason: str


@value(frozen=True, slots=True)
class TaskStopped:
    """The handler ended after it was stopped. Its result is discarded."""


TaskResult: TypeAlias = TaskFinished | TaskSuspended | TaskFailed | TaskReleased | TaskStopped


class Executor(Protocol):
    """Runs tasks. Its methods return at once and do not raise. It passes results to `Dispatcher.report`."""

    def run(self, task: TaskToRun) -> None:
        """Run an attempt. Exactly one result must follow."""
        ...

    def stop(self, key: TaskKey) -> None:
        """Stop an attempt whose result no longer counts. A result must still follow."""
        ...


class TaskStore(Protocol):
    """The dispatcher's part of the store."""

    def now_ms(self) -> int: ...
    async def claimable_tasks(self, *, code: Code, limit: int) -> Sequence[TaskRow]: ...
    async def owned_tasks(self, owner: str) -> Sequence[TaskRow]: ...
    async def mark_solo(self, instance_id: str, step_ref: str, attempt: int, *, alone: bool) -> None: ...
    async def clear_suspects(self, steps: Collection[StepKey] | None = None) -> None: ...
