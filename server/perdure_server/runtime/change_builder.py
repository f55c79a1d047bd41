"""From a decision to the rows that it changes: a pure projection of the states before and after.

What lives here: which rows of tasks and timers follow from a state. What may not: the encoding of rows (the store's)
and any choice but who owns a new timer, which the caller makes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from perdure_server.engine.decide import Decision
from perdure_server.engine.state import Queued, Running, State, StepState
from perdure_server.store.protocol import Change, Guard, RequestRecord, TaskRow, TimerRow

_TASKS: Final = (Running, Queued)
"""The states of a step that has a row of tasks."""


def change_of(
    before: State | None,
    decision: Decision,
    *,
    adopt: Callable[[int], str],
    request: RequestRecord | None = None,
    guards: tuple[Guard, ...] = (),
) -> Change:
    """Return what a decision writes. ``adopt`` names the owner of a timer by its due time, empty for none."""
    after = decision.state
    tasks, tasks_removed = _tasks(before, after)
    timers, timers_removed = _timers(before, after, adopt)
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
    """Return the row that stands for a step which code must run, None for a step in any other state."""
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
    before: State | None, after: State, adopt: Callable[[int], str]
) -> tuple[tuple[TimerRow, ...], tuple[int, ...]]:
    old_timers = before.timers if before else {}
    if after.timers is old_timers:
        return (), ()
    rows = tuple(
        TimerRow(after.instance_id, timer, adopt(timer.due_at))
        for revision, timer in after.timers.items()
        if revision not in old_timers
    )
    return rows, tuple(revision for revision in old_timers if revision not in after.timers)
