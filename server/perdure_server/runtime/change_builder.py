"""The change of a decision: a pure projection of the states before and after to rows of tasks and timers.

Must not: encode rows (the store's).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from perdure_server.engine.decide import Decision
from perdure_server.engine.state import Queued, Running, State, StepState
from perdure_server.store.protocol import Change, Guard, RequestRecord, TaskRow, TimerRow

_TASKS: Final = (Running, Queued)
"""The states of a step that has a task row."""


def change_of(
    before: State | None,
    decision: Decision,
    *,
    assign_owner: Callable[[int], str],
    request: RequestRecord | None = None,
    guards: tuple[Guard, ...] = (),
) -> Change:
    """Return the change of a decision. ``assign_owner`` returns the owner of a new timer by its due time, '' for
    none.
    """
    after = decision.state
    tasks, tasks_removed = _tasks(before, after)
    timers, timers_removed = _timers(before, after, assign_owner)
    return Change(
        state=after,
        expected_revision=before.revision if before else 0,
        entries=decision.entries,
        payloads=decision.payloads,
        tasks=tasks,
        tasks_removed=tasks_removed,
        timers=timers,
        timers_removed=timers_removed,
        request=request,
        guards=guards,
    )


def task_row(state: State, step_ref: str, step: StepState) -> TaskRow | None:
    """Return the row of a step that a handler must run, None for a step in any other state."""
    if isinstance(step, _TASKS):
        owner = step.owner if isinstance(step, Running) else ""
        return TaskRow(state.instance_id, step_ref, state.workflow, state.version, step.attempt, owner)
    return None


def _tasks(before: State | None, after: State) -> tuple[tuple[TaskRow, ...], tuple[str, ...]]:
    old_steps = before.steps if before else {}
    if after.steps is old_steps:
        return (), ()
    rows: list[TaskRow] = []
    removed: list[str] = []
    for ref, step in after.steps.items():
        old = old_steps.get(ref)
        if old is step:
            continue
        row = task_row(after, ref, step)
        if row is not None:
            rows.append(row)
        elif isinstance(old, _TASKS):
            removed.append(ref)
    return tuple(rows), tuple(removed)


def _timers(
    before: State | None, after: State, assign_owner: Callable[[int], str]
) -> tuple[tuple[TimerRow, ...], tuple[int, ...]]:
    old_timers = before.timers if before else {}
    if after.timers is old_timers:
        return (), ()
    rows = tuple(
        TimerRow(after.instance_id, timer, assign_owner(timer.due_at))
        for revision, timer in after.timers.items()
        if revision not in old_timers
    )
    return rows, tuple(revision for revision in old_timers if revision not in after.timers)
