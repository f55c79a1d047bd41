"""One instance under test: carries commands out one after the other, under the eyes of the judge."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from perdure.model.graph import WorkflowGraph
from perdure_server.engine import commands, facts
from perdure_server.engine import decide as engine
from perdure_server.engine import state as st
from perdure_server.engine.commands import NO_GRANT, Command, Grant, Payload
from perdure_server.engine.decide import Decision
from perdure_server.engine.facts import TimerKind
from perdure_server.engine.rejections import Rejection
from perdure_server.engine.state import InstanceState, State, StepState, Timer
from simulation.history_oracle import Judge
from simulation.reference_model import broken

R = TypeVar("R", bound=Rejection)

START_MS = 1_700_000_000_000


def body(value: Any) -> Payload:
    """A payload of that JSON value."""
    return commands.payload(json.dumps(value))


class Instance:
    """An instance with a clock of its own. Every decision, and every rejection, is judged."""

    def __init__(
        self, graph: WorkflowGraph, *, grant: Grant = NO_GRANT, context: Payload | None = None, **options: Any
    ) -> None:
        self.graph = graph
        self.now = START_MS
        self.judge = Judge(graph)
        self.bodies: dict[int, str] = {}
        context = body({"n": 1}) if context is None else context
        self.command = commands.StartInstance(at=self.now, instance_id="i1", input=context, **options)
        decision = engine.start(graph, self.command, grant)
        assert isinstance(decision, Decision), decision
        self._keep(self.command, grant, None, decision)

    def _keep(
        self,
        command: Command | commands.StartInstance,
        grant: Grant,
        before: State | None,
        decision: Decision,
    ) -> None:
        self.judge.committed(command, grant, before, decision)
        self.state: State = decision.state
        self.bodies.update(decision.payloads)
        self.last = decision

    def attempt(self, command: Command, grant: Grant = NO_GRANT) -> Decision | Rejection:
        """Carry a command out, or be refused."""
        before = self.state
        result = engine.decide(self.graph, before, command, grant)
        if isinstance(result, Decision):
            self._keep(command, grant, before, result)
        else:
            self.judge.rejected(command, grant, before, result)
        return result

    def do(self, command: Command, grant: Grant = NO_GRANT) -> Decision:
        """Carry out a command that must be accepted."""
        result = self.attempt(command, grant)
        assert isinstance(result, Decision), result
        return result

    def refused(self, kind: type[R], command: Command, grant: Grant = NO_GRANT) -> R:
        """The rejection of a command that must be refused for this reason."""
        result = self.attempt(command, grant)
        assert isinstance(result, kind), result
        return result

    # --- commands ---------------------------------------------------------------------------------------------

    def resume(self, event: str, value: Any = None, **options: Any) -> commands.Resume:
        payload = None if value is None else body(value)
        return commands.Resume(at=self.now, event=event, payload=payload, **options)

    def schedule(self, ref: str, delay_ms: int, **options: Any) -> commands.ScheduleResume:
        return commands.ScheduleResume(at=self.now, step_ref=ref, delay_ms=delay_ms, **options)

    def cancel(self, **options: Any) -> commands.CancelInstance:
        return commands.CancelInstance(at=self.now, **options)

    def retry(self, **options: Any) -> commands.RetryInstance:
        return commands.RetryInstance(at=self.now, **options)

    def fire(self, timer: int, **options: Any) -> commands.FireTimer:
        return commands.FireTimer(at=self.now, timer=timer, **options)

    def cancel_timer(self, timer: int) -> commands.CancelTimer:
        return commands.CancelTimer(at=self.now, timer=timer)

    def finish(
        self, ref: str, event: str, value: Any = None, attempt: int | None = None
    ) -> commands.FinishTask:
        output = None if value is None else body(value)
        number = self._attempt(ref, attempt)
        return commands.FinishTask(at=self.now, step_ref=ref, attempt=number, event=event, output=output)

    def suspend(self, ref: str, attempt: int | None = None) -> commands.SuspendTask:
        return commands.SuspendTask(at=self.now, step_ref=ref, attempt=self._attempt(ref, attempt))

    def fail(
        self, ref: str, message: str = "boom", *, retryable: bool = True, attempt: int | None = None
    ) -> commands.FailTask:
        return commands.FailTask(
            at=self.now,
            step_ref=ref,
            attempt=self._attempt(ref, attempt),
            type="ValueError",
            message=message,
            retryable=retryable,
        )

    def release(self, ref: str, attempt: int | None = None) -> commands.ReleaseTask:
        number = self._attempt(ref, attempt)
        return commands.ReleaseTask(at=self.now, step_ref=ref, attempt=number, reason="drained")

    def take(self, ref: str, owner: str = "e1", lost_attempt: int = 0) -> Decision:
        """Let an executor take a task."""
        command = commands.TakeTask(at=self.now, step_ref=ref, lost_attempt=lost_attempt)
        return self.do(command, Grant(owner, 1, frozenset({ref})))

    def run(self, ref: str, event: str, value: Any = None) -> Decision:
        """Let an executor take a task and finish it."""
        self.take(ref)
        return self.do(self.finish(ref, event, value))

    def _attempt(self, ref: str, attempt: int | None) -> int:
        if attempt is None:
            running = self.state.steps[ref]
            assert isinstance(running, st.Running), running
            return running.attempt
        return attempt

    # --- questions --------------------------------------------------------------------------------------------

    def step(self, ref: str) -> StepState | None:
        return self.state.steps.get(ref)

    @property
    def status(self) -> InstanceState:
        return self.state.status

    @property
    def active(self) -> set[str]:
        return {ref for ref, step in self.state.steps.items() if isinstance(step, st.ACTIVE)}

    @property
    def begun(self) -> list[str]:
        """Every step that has begun, in the order of the history."""
        return [
            entry.fact.step_ref for entry in self.judge.history if isinstance(entry.fact, facts.StepStarted)
        ]

    @property
    def facts(self) -> list[str]:
        """The names of what the last command led to."""
        return [type(entry.fact).__name__ for entry in self.last.entries]

    def timer_of(self, ref: str, kind: TimerKind | None = None) -> Timer:
        """The only pending timer of the step (of that kind)."""
        found = [t for t in self.state.timers.values() if t.step_ref == ref and kind in {None, t.kind}]
        assert len(found) == 1, found
        return found[0]

    def output(self, ref: str) -> Any:
        """The output of a step that has finished, read the way a client reads it."""
        step = self.state.steps[ref]
        assert isinstance(step, st.Finished), step
        return json.loads(self.bodies[step.output.revision]) if step.output else {}

    def event(self, ref: str) -> str:
        step = self.state.steps[ref]
        assert isinstance(step, st.Finished), step
        return step.event

    def wind_up(self) -> None:
        """Drive the instance to its end: every task succeeds, every wait is answered, every timer fires in time."""
        for _ in range(20 * len(self.graph.steps) + 20):
            if self.state.is_final:
                return
            if self.status is InstanceState.FAILED:
                self.do(self.retry())
                continue
            if self.status is InstanceState.PENDING:
                self._fire_when_due(self.timer_of(self.graph.start, TimerKind.START))
                continue
            if not self.active:
                broken("an instance can always go on", self.state)
            self._nudge(min(self.active))
        broken("an instance can always be driven to its end", self.state)

    def _nudge(self, ref: str) -> None:
        match self.state.steps[ref]:
            case st.Queued():
                self.take(ref)
            case st.Running():
                own = min(set(self.graph.steps[ref].on) - {"error", "timeout"})
                self.do(self.finish(ref, own))
            case st.BackingOff():
                self._fire_when_due(self.timer_of(ref, TimerKind.RETRY))
            case st.Sleeping():
                self._fire_when_due(self.timer_of(ref, TimerKind.SLEEP))
            case st.Waiting(events=events):
                self.do(self.resume(min(events), step_ref=ref))

    def _fire_when_due(self, timer: Timer) -> None:
        self.now = max(self.now, timer.due_at)
        self.do(self.fire(timer.revision))
