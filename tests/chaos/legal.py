"""The state that each kind of fact requires before it, implemented independently of `decide`.

The engine decides forwards, and `evolve` rejects nothing. These rules read a history backwards: they check that a fact
could have been decided on the state before it. Must not: use calls or ledgers.
"""

from __future__ import annotations

from collections.abc import Iterator

from chaos.violations import Name
from perdure.model.graph import EVENT_ELAPSED, EVENT_ERROR, EVENT_TIMEOUT, StepKind, WorkflowGraph
from perdure_server.engine import facts
from perdure_server.engine.commands import LOSSES_ALONE_MAX, LOSSES_IN_A_ROW_MAX
from perdure_server.engine.decide import ATTEMPT_LOST
from perdure_server.engine.facts import Entry, TimerKind, Unconsumed
from perdure_server.engine.reachability import ripe_joins
from perdure_server.engine.state import (
    ACTIVE,
    BackingOff,
    Buffered,
    Failed,
    InstanceState,
    Queued,
    Running,
    Sleeping,
    State,
    Timer,
    Waiting,
)

Objection = tuple[Name, str]


def objections(graph: WorkflowGraph, state: State, entry: Entry, before: Entry) -> Iterator[Objection]:
    """Yield what speaks against ``entry`` on ``state``; ``before`` is the entry just before it."""
    fact = entry.fact
    failed = state.status is InstanceState.FAILED
    if state.is_final or (failed and not isinstance(fact, facts.InstanceRetried | facts.InstanceCancelled)):
        yield Name.FACT_AFTER_END, f"{type(fact).__name__} while {state.status}"
        return
    match fact:
        case facts.StepStarted() | facts.StepSkipped():
            yield from _join(graph, state, fact)
        case facts.AttemptStarted():
            step = state.steps.get(fact.step_ref)
            if not isinstance(step, Queued) or fact.attempt != step.attempt + 1:
                yield Name.ATTEMPT_UNFENCED, f"attempt {fact.attempt} of {fact.step_ref} started on {step}"
        case facts.AttemptFailed(failure=failure) if failure.type == ATTEMPT_LOST and _lost(before, fact):
            yield from _convicted(state, fact)
        case facts.AttemptFailed() | facts.AttemptReleased() | facts.StepSuspended():
            step = state.steps.get(fact.step_ref)
            if not isinstance(step, Running) or fact.attempt != step.attempt:
                yield Name.ATTEMPT_UNFENCED, f"{type(fact).__name__} of attempt {fact.attempt} on {step}"
        case facts.StepFinished():
            yield from _finished(graph, state, fact, before)
        case facts.EventBuffered():
            for ref, step in state.steps.items():
                if isinstance(step, Waiting) and fact.event in step.events and fact.step_ref in ("", ref):
                    yield Name.EVENT_OVERTAKEN, f"{fact.event} was buffered although {ref} waits for it"
        case facts.TimerArmed():
            if fact.due_at != entry.at + fact.delay_ms and not _rearmed(before):
                yield Name.TIME_WRONG, f"the timer is due at {fact.due_at}, not {entry.at}+{fact.delay_ms}"
        case facts.TimerFired():
            yield from _fired(state, entry, fact)
        case facts.TimerCancelled():
            timer = state.timers.get(fact.timer)
            if timer is None or timer.kind is not TimerKind.TIMEOUT:
                yield Name.FACT_ILLEGAL, f"timer {fact.timer} was cancelled and is {timer}"
        case facts.InstanceCompleted():
            if state.arrivals or any(isinstance(step, ACTIVE) for step in state.steps.values()):
                yield Name.FACT_ILLEGAL, "completed with branches left"
            yield from _unconsumed(state, fact.unconsumed)
        case facts.InstanceCancelled():
            yield from _unconsumed(state, fact.unconsumed)
        case facts.InstanceFailed():
            failing = state.steps.get(fact.step_ref)
            if not isinstance(failing, Failed | Waiting | Running):
                yield Name.FACT_ILLEGAL, f"{fact.step_ref} failed the instance as {failing}"
            kept = {
                rev
                for rev, t in state.timers.items()
                if t.client_requested and t.step_ref not in fact.interrupted
            }
            if set(fact.kept_timers) != kept:
                yield Name.FACT_ILLEGAL, f"keeps the timers {fact.kept_timers} for a retry, not {kept}"
        case facts.InstanceRetried():
            if not failed:
                yield Name.FACT_ILLEGAL, f"retried while {state.status}"
        case facts.InstanceStarted():
            yield Name.FACT_ILLEGAL, "started once more"


def first_acceptable(state: State, step_ref: str, events: tuple[str, ...]) -> Buffered | None:
    """Return the oldest event of the inbox that the step must take."""
    fitting = (b for b in state.inbox if b.event in events and b.step_ref in ("", step_ref))
    return min(fitting, key=lambda buffered: buffered.revision, default=None)


def unsettled(graph: WorkflowGraph, state: State) -> Iterator[Objection]:
    """Yield what the end of a history left undone although nothing has to happen for it."""
    if not state.is_live or state.started_at is None:
        return
    joins = ripe_joins(graph, state)
    if joins.ripe or joins.skipped:
        yield Name.JOIN_BROKEN, f"ripe {joins.ripe} and to be skipped {joins.skipped}, and nothing followed"
    for ref, step in state.steps.items():
        if isinstance(step, Waiting) and (buffered := first_acceptable(state, ref, step.events)):
            yield Name.EVENT_LOST, f"{ref} waits for {step.events}, and the inbox holds {buffered}"
    if not state.arrivals and not any(isinstance(step, ACTIVE) for step in state.steps.values()):
        yield Name.STUCK, "no branch is left, and it did not complete"


def _rearmed(before: Entry) -> bool:
    """Return True if a timer keeps an older deadline: RetryInstance rearms the timers of interrupted steps."""
    match before.fact:
        case facts.InstanceRetried():
            return True
        case facts.TimerArmed(due_at=due_at, delay_ms=delay_ms):
            return due_at != before.at + delay_ms
        case _:
            return False


def _lost(before: Entry, fact: facts.AttemptFailed) -> bool:
    """Return whether the entry before released the same attempt as lost."""
    released = before.fact
    return (
        isinstance(released, facts.AttemptReleased)
        and released.lost
        and (released.step_ref, released.attempt) == (fact.step_ref, fact.attempt)
    )


def _convicted(state: State, fact: facts.AttemptFailed) -> Iterator[Objection]:
    step = state.steps.get(fact.step_ref)
    losses = step.losses if isinstance(step, Queued) else None
    if losses is None or not (losses.alone >= LOSSES_ALONE_MAX or losses.in_a_row >= LOSSES_IN_A_ROW_MAX):
        yield Name.FACT_ILLEGAL, f"attempt {fact.attempt} failed as lost after {losses}"


def _join(
    graph: WorkflowGraph, state: State, fact: facts.StepStarted | facts.StepSkipped
) -> Iterator[Objection]:
    joins = ripe_joins(graph, state)
    allowed = joins.ripe if isinstance(fact, facts.StepStarted) else joins.skipped
    if fact.step_ref in state.steps or fact.step_ref not in allowed or state.started_at is None:
        yield Name.JOIN_BROKEN, f"{type(fact).__name__} of {fact.step_ref}, allowed: {allowed}"


def _finished(
    graph: WorkflowGraph, state: State, fact: facts.StepFinished, before: Entry
) -> Iterator[Objection]:
    ref, event = fact.step_ref, fact.event
    definition, step = graph.steps.get(ref), state.steps.get(ref)
    if definition is None:
        yield Name.FACT_ILLEGAL, f"{ref} ended, and the workflow has no such step"
        return
    if fact.targets != definition.on.get(event):
        yield Name.FACT_ILLEGAL, f"{ref}: {event} leads to {definition.on.get(event)}, not {fact.targets}"
    if isinstance(step, Waiting):
        due = first_acceptable(state, ref, step.events)
        if fact.buffered_revision:
            if fact.buffered_revision not in {b.revision for b in state.inbox}:
                yield Name.EVENT_CONSUMED_TWICE, f"{ref} took {fact.buffered_revision}, not in the inbox"
            elif due is None or due.revision != fact.buffered_revision:
                yield Name.EVENT_OUT_OF_ORDER, f"{ref} took {fact.buffered_revision} before {due}"
        elif due is not None:
            yield Name.EVENT_OVERTAKEN, f"{ref} ended with {event} while the inbox holds {due}"
    if fact.buffered_revision or event in definition.events:
        legal = isinstance(step, Waiting) and event in step.events
    elif event == EVENT_TIMEOUT:
        legal = _fired_for(before, ref, TimerKind.TIMEOUT) and isinstance(
            step, Waiting | Running | Queued | BackingOff
        )
    elif event == EVENT_ELAPSED:
        legal = _fired_for(before, ref, TimerKind.SLEEP) and isinstance(step, Sleeping)
    elif event == EVENT_ERROR:
        failed = isinstance(before.fact, facts.AttemptFailed) and before.fact.step_ref == ref
        legal = (failed and isinstance(step, Failed)) or _fired_for(before, ref, TimerKind.TIMEOUT)
    else:
        legal = isinstance(step, Running) and definition.kind is StepKind.TASK
    if not legal:
        yield Name.FACT_ILLEGAL, f"{ref} ended with {event} as {step}, after {before.fact}"


def _fired_for(before: Entry, step_ref: str, kind: TimerKind) -> bool:
    fact = before.fact
    return (
        isinstance(fact, facts.TimerFired) and fact.used and fact.step_ref == step_ref and fact.kind is kind
    )


def _fired(state: State, entry: Entry, fact: facts.TimerFired) -> Iterator[Objection]:
    timer = state.timers.get(fact.timer)
    if timer is None:
        yield Name.TIMER_UNKNOWN, f"timer {fact.timer} of {fact.step_ref} is not pending"
        return
    if entry.at < timer.due_at and not fact.forced:
        yield Name.TIMER_EARLY, f"timer {fact.timer} acted {timer.due_at - entry.at} ms early"
    if fact.used != _finds_its_step(state, timer):
        found = state.steps.get(timer.step_ref)
        yield Name.TIMER_USE_WRONG, f"timer {fact.timer} used={fact.used} on {timer.step_ref} as {found}"


def _finds_its_step(state: State, timer: Timer) -> bool:
    step = state.steps.get(timer.step_ref)
    match timer.kind:
        case TimerKind.START:
            return state.started_at is None
        case TimerKind.SLEEP:
            return isinstance(step, Sleeping)
        case TimerKind.RETRY:
            return isinstance(step, BackingOff)
        case TimerKind.TIMEOUT:
            return isinstance(step, Queued | Running | BackingOff | Waiting)


def _unconsumed(state: State, reported: tuple[Unconsumed, ...]) -> Iterator[Objection]:
    held = tuple(Unconsumed(b.revision, b.event) for b in state.inbox)
    if reported != held:
        yield Name.EVENT_UNREPORTED, f"reported {reported}, the inbox holds {held}"
