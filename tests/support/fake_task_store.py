"""A task table in memory that also takes commands: the dispatcher's view of the store and the command processor.

It follows the rules of the engine: the result of an attempt counts once, and a task is taken only if it has no owner
or if the command names its current attempt as lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from perdure_server.engine import commands
from perdure_server.engine.commands import Command, Grant, TakeTask
from perdure_server.engine.rejections import AttemptStale
from perdure_server.runtime.dispatch.dispatcher import Dispatcher
from perdure_server.runtime.dispatch.protocol import TaskKey
from perdure_server.runtime.ports import TaskToRun
from perdure_server.store.protocol import Code, Guard, StepKey, TaskRow


class FakeTaskStore:
    """``results`` and ``released`` hold the accepted commands in order, by attempt."""

    def __init__(self, *, sweep_ms: int = 20, reconcile_ms: int = 20) -> None:
        self.rows: dict[tuple[str, str], TaskRow] = {}
        self.live_owners = {"r1"}
        self.results: list[tuple[TaskKey, Command]] = []
        self.released: list[TaskKey] = []
        self.taken: list[TaskKey] = []
        self.lost: list[tuple[TaskKey, bool]] = []
        """Attempts that were released as lost. True for those that ran alone."""
        self.solo: list[tuple[TaskKey, bool]] = []
        self.cleared: list[list[StepKey] | None] = []
        self.rejected: list[Command] = []
        self.limits: list[int] = []
        self.failures: list[Exception] = []
        """Errors that the next commands with results raise."""
        self.take_failures: list[Exception] = []
        self.sweep_failures: list[Exception] = []
        self.while_reading: list[Callable[[], Awaitable[None]]] = []
        """Functions that the next reads of a sweep await after they have read their rows."""
        self.lose_effects = 0
        """Number of next takes that are committed without the effect that runs the task."""
        self.attempt_timeout_ms: int | None = None
        self.input = "{}"
        self.outputs: Mapping[str, str] = {}
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.dispatcher = Dispatcher(self, self.submit, "r1", sweep_ms=sweep_ms, reconcile_ms=reconcile_ms)

    def add(
        self,
        instance_id: str,
        step_ref: str = "work",
        *,
        workflow: str = "w",
        attempt: int = 0,
        owner: str = "",
    ) -> TaskRow:
        row = TaskRow(instance_id, step_ref, workflow, 1, attempt, owner)
        self.rows[instance_id, step_ref] = row
        self._changed.set()
        return row

    def grant(self, instance_id: str, step_ref: str = "work", *, workflow: str = "w") -> bool:
        """Make a step ready and take it in one commit, as the command processor does. Returns False if it waits."""
        grant = self.dispatcher.reserve(workflow, 1)
        if not grant.slots or step_ref not in grant.step_refs:
            self.dispatcher.release(grant, grant.slots)
            self.add(instance_id, step_ref, workflow=workflow)
            self.dispatcher.offer(workflow, 1, step_ref)
            return False
        self.dispatcher.release(grant, grant.slots - 1)
        row = self.add(instance_id, step_ref, workflow=workflow, attempt=1, owner=grant.owner)
        self.dispatcher.run(self.task(row))
        return True

    def task(self, row: TaskRow) -> TaskToRun:
        return TaskToRun(
            instance_id=row.instance_id,
            workflow=row.workflow,
            version=row.version,
            step_ref=row.step_ref,
            attempt=row.attempt,
            owner=row.owner,
            input=self.input,
            steps=self.outputs,
            attempt_timeout_ms=self.attempt_timeout_ms,
        )

    def commands(self) -> list[Command]:
        return [command for _, command in self.results]

    # --- the store ---

    def now_ms(self) -> int:
        return 1_000_000

    async def claimable_tasks(self, *, code: Code, limit: int) -> Sequence[TaskRow]:
        self.limits.append(limit)
        await asyncio.sleep(0)
        if self.sweep_failures:
            raise self.sweep_failures.pop(0)
        free = [
            row
            for row in self.rows.values()
            if row.owner not in self.live_owners and row.step_ref in code.get((row.workflow, row.version), ())
        ]
        if self.while_reading:
            await self.while_reading.pop(0)()
        return free[:limit]

    async def owned_tasks(self, owner: str) -> Sequence[TaskRow]:
        await asyncio.sleep(0)
        return [row for row in self.rows.values() if row.owner == owner]

    async def mark_solo(self, instance_id: str, step_ref: str, attempt: int, *, alone: bool) -> None:
        await asyncio.sleep(0)
        self.solo.append((TaskKey(instance_id, step_ref, attempt), alone))
        self._changed.set()

    async def clear_suspects(self, steps: Collection[StepKey] | None = None) -> None:
        await asyncio.sleep(0)
        self.cleared.append(None if steps is None else list(steps))
        self._changed.set()

    # --- the command processor ---

    def submit(
        self,
        instance_id: str,
        command: Command,
        *,
        guards: tuple[Guard, ...] = (),
        grant: Grant | None = None,
    ) -> asyncio.Future[Any]:
        assert not guards, "tasks are guarded by their attempt numbers"
        if isinstance(command, TakeTask):
            assert grant is not None
            assert grant.slots == 1, "a take is granted one slot"
            return self._spawn(self._take(instance_id, command, grant))
        assert grant is None
        return self._spawn(self._commit(instance_id, command))

    def _spawn(self, work: Any) -> asyncio.Future[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _commit(self, instance_id: str, command: Any) -> None:
        await asyncio.sleep(0)
        try:
            if self.failures:
                raise self.failures.pop(0)
            row = self.rows.get((instance_id, command.step_ref))
            if row is None or row.attempt != command.attempt or not row.owner:
                self.rejected.append(command)
                raise AttemptStale(instance_id, command.step_ref, command.attempt)
            key = TaskKey(instance_id, command.step_ref, command.attempt)
            if isinstance(command, commands.ReleaseTask):
                self.released.append(key)
                if command.lost:
                    self.lost.append((key, command.alone))
                self.add(instance_id, command.step_ref, workflow=row.workflow, attempt=row.attempt)
                self.dispatcher.offer(row.workflow, row.version, command.step_ref)
            else:
                self.results.append((key, command))
                del self.rows[instance_id, command.step_ref]
        finally:
            self._changed.set()

    async def _take(self, instance_id: str, command: TakeTask, grant: Grant) -> None:
        await asyncio.sleep(0)
        try:
            if self.take_failures:
                raise self.take_failures.pop(0)
            row = self.rows.get((instance_id, command.step_ref))
            lost = row is not None and bool(row.owner) and row.attempt == command.lost_attempt
            free = row is not None and not row.owner and command.lost_attempt == 0
            if row is None or not (lost or free):
                raise AttemptStale(instance_id, command.step_ref, command.lost_attempt)
            taken = self.add(
                instance_id,
                command.step_ref,
                workflow=row.workflow,
                attempt=row.attempt + 1,
                owner=grant.owner,
            )
            self.taken.append(TaskKey(instance_id, command.step_ref, taken.attempt))
            if self.lose_effects:
                self.lose_effects -= 1
            else:
                self.dispatcher.run(self.task(taken))
        finally:
            self._changed.set()

    async def until(self, condition: Callable[[], bool], max_seconds: float = 60) -> None:
        """Return when the condition holds. It is checked after each command."""
        async with asyncio.timeout(max_seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_results(self, count: int) -> None:
        await self.until(lambda: len(self.results) >= count)

    async def until_true(self, condition: Callable[[], bool], max_seconds: float = 20) -> None:
        """Return when the condition holds. It is checked in every turn of the event loop."""
        async with asyncio.timeout(max_seconds):
            while not condition():  # noqa: ASYNC110 - no event signals it
                await asyncio.sleep(0)
