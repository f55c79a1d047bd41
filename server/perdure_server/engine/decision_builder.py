"""A decision being written: the facts so far, the state after them, and what always follows from them.

What lives here: the consequences that no command chooses. Arrivals begin or skip steps, waiting steps take buffered
events, ready tasks go to a granted executor, an instance without branches completes. What may not: commands (see
``decide``) or the meaning of a fact (see ``evolve``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from perdure.model.graph import EVENT_ERROR, EVENT_TIMEOUT, StepKind, WorkflowGraph
from perdure_server.engine import facts
from perdure_server.engine.commands import (
    EMPTY_OBJECT,
    INSTANCE_BYTES_MAX,
    REPORTS_BYTES_MAX,
    Grant,
    Payload,
    payload,
)
from perdure_server.engine.evolve import apply
from perdure_server.engine.facts import Entry, Fact, Failure, TimerKind
from perdure_server.engine.reachability import ripe_joins
from perdure_server.engine.state import ACTIVE, Buffered, Queued, State, Waiting


@dataclass(slots=True)
class DecisionBuilder:
    """Facts appended at ``at`` to ``state``, which is the draft's own. The first one carries the request id."""

    graph: WorkflowGraph
    state: State
    at: int
    grant: Grant
    request_id: str = ""
    entries: list[Entry] = field(default_factory=list)
    payloads: dict[int, str] = field(default_factory=dict)
    slots: int = 0
    taken: int = 0

    def __post_init__(self) -> None:
        self.slots = self.grant.slots

    @property
    def next_revision(self) -> int:
        return self.state.revision + 1

    def add(self, fact: Fact, body: Payload | None = None) -> None:
        """Append a fact, with the payload that it brings."""
        entry = Entry(self.next_revision, self.at, fact, self.request_id)
        self.request_id = ""
        self.entries.append(entry)
        apply(self.state, entry)
        if body is not None:
            self.payloads[entry.revision] = body.text

    def arm(self, kind: TimerKind, step_ref: str, delay_ms: int, *, client_requested: bool = False) -> None:
        """Arm a timer ``delay_ms`` from now."""
        self.add(
            facts.TimerArmed(
                kind=kind,
                step_ref=step_ref,
                due_at=self.at + delay_ms,
                delay_ms=delay_ms,
                client_requested=client_requested,
            )
        )

    def finish(
        self,
        step_ref: str,
        event: str,
        output: Payload | None = None,
        failure: Failure | None = None,
    ) -> None:
        """End an active step with an event that it has an arrow for."""
        if output is not None and output.text == EMPTY_OBJECT:
            output = None
        targets = self.graph.steps[step_ref].on[event]
        info = None if output is None else output.info
        self.add(
            facts.StepFinished(step_ref=step_ref, event=event, targets=targets, output=info, failure=failure),
            output,
        )

    def fail(self, step_ref: str, failure: Failure) -> None:
        """Take the step's `error` arrow, or fail the instance where there is none."""
        if EVENT_ERROR in self.graph.steps[step_ref].on:
            self.finish(step_ref, EVENT_ERROR, self._report_of(failure), failure)
            return
        active = (ref for ref, step in self.state.steps.items() if isinstance(step, ACTIVE))
        interrupted = tuple(sorted(ref for ref in active if ref != step_ref))
        kept = tuple(
            revision
            for revision, timer in self.state.timers.items()
            if timer.client_requested and timer.step_ref not in interrupted
        )
        self.add(
            facts.InstanceFailed(
                step_ref=step_ref, failure=failure, interrupted=interrupted, kept_timers=kept
            )
        )

    def time_out(self, step_ref: str) -> None:
        """End a step whose time is up: by its `timeout` arrow, or as a failure where it has none."""
        definition = self.graph.steps[step_ref]
        if EVENT_TIMEOUT in definition.on:
            self.finish(step_ref, EVENT_TIMEOUT)
        else:
            message = f"no event came within {definition.timeout_ms} ms, and the step has no timeout arrow"
            self.fail(step_ref, Failure("WaitTimeout", message))

    def suspend(self, step_ref: str, attempt: int) -> None:
        """Let a task wait for its events, unless the inbox holds one."""
        definition = self.graph.steps[step_ref]
        events = tuple(sorted(definition.events))
        self.add(facts.StepSuspended(step_ref=step_ref, attempt=attempt, events=events))
        self.await_event(step_ref)

    def await_event(self, step_ref: str) -> None:
        """Give a step that has begun to wait the first buffered event that it accepts, else its timeout."""
        definition = self.graph.steps[step_ref]
        buffered = _first_accepted(self.state.inbox, step_ref, definition.events)
        if buffered is not None:
            self.add(
                facts.StepFinished(
                    step_ref=step_ref,
                    event=buffered.event,
                    targets=definition.on[buffered.event],
                    output=buffered.payload,
                    buffered_revision=buffered.revision,
                )
            )
        elif definition.timeout_ms is not None:
            self.arm(TimerKind.TIMEOUT, step_ref, definition.timeout_ms)

    def settle(self) -> None:
        """Add every fact that follows by itself, until nothing more does."""
        while self.state.is_live and self.state.started_at is not None:
            joins = ripe_joins(self.graph, self.state) if self.state.arrivals else None
            if joins is None or not (joins.skipped or joins.ripe):
                break
            for step_ref in joins.skipped:
                self.add(facts.StepSkipped(step_ref=step_ref))
            begun = sorted(joins.ripe)
            for step_ref in begun:
                self._begin(step_ref)
            for step_ref in begun:
                if isinstance(self.state.steps[step_ref], Waiting):
                    self.await_event(step_ref)
        if self.state.is_live and self.state.started_at is not None and not self._has_branches():
            unconsumed = tuple(facts.Unconsumed(b.revision, b.event) for b in self.state.inbox)
            self.add(facts.InstanceCompleted(unconsumed=unconsumed))
        self.take_ready()

    def take_ready(self) -> None:
        """Hand ready tasks to the granted executor while it has slots."""
        if not self.slots or not self.state.is_live:
            return
        for step_ref, step in self.state.steps.items():
            if self.slots and isinstance(step, Queued) and step_ref in self.grant.step_refs:
                self.take(step_ref, step.attempt + 1)

    def take(self, step_ref: str, attempt: int) -> None:
        """Hand one ready task to the granted executor."""
        self.slots -= 1
        self.taken += 1
        self.add(facts.AttemptStarted(step_ref=step_ref, attempt=attempt, owner=self.grant.owner))

    def _report_of(self, failure: Failure) -> Payload:
        """What the steps behind the `error` arrow are told. Without room for it, the message is left to the history."""
        report = {"type": failure.type, "message": failure.message, "attempts": failure.attempts}
        body = payload(json.dumps(report))
        if self.state.payload_bytes + body.info.size_bytes > INSTANCE_BYTES_MAX + REPORTS_BYTES_MAX:
            body = payload(json.dumps(report | {"message": ""}))
        return body

    def _begin(self, step_ref: str) -> None:
        definition = self.graph.steps[step_ref]
        events = tuple(sorted(definition.events)) if definition.kind is StepKind.WAIT else ()
        self.add(facts.StepStarted(step_ref=step_ref, kind=definition.kind, events=events))
        if definition.sleep_ms is not None:
            self.arm(TimerKind.SLEEP, step_ref, definition.sleep_ms)

    def _has_branches(self) -> bool:
        if self.state.arrivals:
            return True
        for step in self.state.steps.values():  # noqa: SIM110 - asked at every decision; a generator costs twice
            if isinstance(step, ACTIVE):
                return True
        return False


def _first_accepted(inbox: tuple[Buffered, ...], step_ref: str, events: frozenset[str]) -> Buffered | None:
    for buffered in inbox:
        if buffered.event in events and buffered.step_ref in ("", step_ref):
            return buffered
    return None
