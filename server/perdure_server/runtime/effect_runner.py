"""The effect runner: carries out the effects of a decision after its commit.

A lost effect loses nothing: tasks and timers are rows, and sweeps find those that were not handed over.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from perdure.model.graph import WorkflowGraph
from perdure_server.engine import effects
from perdure_server.engine.commands import EMPTY_OBJECT, Grant
from perdure_server.engine.decide import Decision
from perdure_server.engine.state import Finished, PayloadRef, Running, State
from perdure_server.runtime.background import BackgroundTasks
from perdure_server.runtime.ports import TaskPort, TaskToRun, TimerPort
from perdure_server.runtime.state_cache import CachedState
from perdure_server.runtime.watch import WatchHub
from perdure_server.store.protocol import Change, Store, StoreError, TimerRow

log = logging.getLogger(__name__)

INPUT_REVISION: Final = 1
"""Revision of the entry that holds an instance's input."""


class EffectRunner:
    """Passes entries to watchers, tasks to executors and timers to the timer window. Belongs to one event loop."""

    def __init__(
        self,
        store: Store,
        watch: WatchHub,
        background: BackgroundTasks,
        *,
        tasks: TaskPort,
        timers: TimerPort,
    ) -> None:
        self._store = store
        self._watch = watch
        self._background = background
        self._tasks = tasks
        self._timers = timers

    def run(
        self, cached: CachedState, graph: WorkflowGraph, grant: Grant, change: Change, decision: Decision
    ) -> None:
        """Carry out the effects of ``decision``, which was committed as ``change`` under ``grant``."""
        state = decision.state
        self._watch.publish(state.instance_id, decision.entries)
        rows = {row.timer.revision: row for row in change.timers}
        for effect in decision.effects:
            match effect:
                case effects.RunTask(step_ref=step_ref):
                    self._run_task(cached, graph, grant, state, step_ref)
                case effects.OfferTask(step_ref=step_ref):
                    self._tasks.offer(state.workflow, state.version, step_ref)
                case effects.StopTask(step_ref=step_ref, attempt=attempt):
                    self._tasks.stop(state.instance_id, step_ref, attempt)
                case effects.ArmTimer(timer=timer):
                    row = rows.get(timer.revision)
                    self._timers.arm(row or TimerRow(state.instance_id, timer, ""))
                case effects.DisarmTimer(revision=revision):
                    self._timers.disarm(state.reference(revision))

    def _run_task(
        self, cached: CachedState, graph: WorkflowGraph, grant: Grant, state: State, step_ref: str
    ) -> None:
        """Hand an attempt to its executor, with the payloads that its handler can read."""
        step = state.steps[step_ref]
        assert isinstance(step, Running)
        outputs = {
            ref: ended.output
            for ref, ended in state.steps.items()
            if isinstance(ended, Finished) and ended.ended < step.started
        }
        revisions = {INPUT_REVISION} | {ref.revision for ref in outputs.values() if ref is not None}
        payloads = cached.payloads
        if payloads is not None and revisions <= payloads.keys():
            self._tasks.run(_task(graph, state, step_ref, step, outputs, payloads))
        else:
            self._background.spawn(
                self._read_and_run(graph, grant, state, step_ref, step, outputs, revisions)
            )

    async def _read_and_run(
        self,
        graph: WorkflowGraph,
        grant: Grant,
        state: State,
        step_ref: str,
        step: Running,
        outputs: Mapping[str, PayloadRef | None],
        revisions: set[int],
    ) -> None:
        try:
            payloads = await self._store.payloads(state.instance_id, sorted(revisions))
        except StoreError as error:
            # The attempt is owned by this process and does not run. The reconciler finds and releases it.
            self._tasks.release(grant, 1)
            extra = {"instance_id": state.instance_id, "reason": str(error)}
            log.warning("payload read failed for task", extra=extra)
            return
        self._tasks.run(_task(graph, state, step_ref, step, outputs, payloads))


def _task(
    graph: WorkflowGraph,
    state: State,
    step_ref: str,
    step: Running,
    outputs: Mapping[str, PayloadRef | None],
    payloads: Mapping[int, str],
) -> TaskToRun:
    return TaskToRun(
        instance_id=state.instance_id,
        workflow=state.workflow,
        version=state.version,
        step_ref=step_ref,
        attempt=step.attempt,
        owner=step.owner,
        input=payloads[INPUT_REVISION],
        steps={ref: payloads[output.revision] if output else EMPTY_OBJECT for ref, output in outputs.items()},
        attempt_timeout_ms=graph.steps[step_ref].attempt_timeout_ms,
    )
