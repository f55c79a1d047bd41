"""Fold a stored history with suspicion: each entry must fit the state before it, and the graph if that is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from perdure.model.graph import StepKind, WorkflowGraph
from perdure_server.engine import facts
from perdure_server.engine.evolve import apply, begin
from perdure_server.engine.facts import Entry, PayloadInfo, TimerKind
from perdure_server.engine.state import ACTIVE, Queued, Running, State
from perdure_server.store.codec import decode_fact, fact_names_unknown

Graphs = Mapping[tuple[str, int, str], WorkflowGraph]


@dataclass(slots=True)
class Folded:
    """A history, the state that it folds to (None if it does not), the payloads that it names, and its problems."""

    history: list[Entry]
    state: State | None = None
    payloads: dict[int, PayloadInfo] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def entry_of(row: Mapping[str, Any]) -> Entry | str:
    """Return the entry of a row of `history`, or what is wrong with the row."""
    revision = row["revision"]
    try:
        fact = decode_fact(row["kind"], row["body"])
        unknown = fact_names_unknown(row["kind"], row["body"])
    except Exception as error:  # noqa: BLE001 - damage can raise anything
        return f"history revision {revision}: cannot be read: {type(error).__name__}"
    if unknown:
        return f"history revision {revision}: has the unknown field {unknown[0]!r}"
    return Entry(revision, row["at"], fact, row["request_id"])


def fold_checked(instance_id: str, history: list[Entry], graphs: Graphs) -> Folded:
    """Fold a history of at least one entry."""
    folded = Folded(history)
    for expected, entry in enumerate(history, start=1):
        if entry.revision != expected:
            folded.problems.append(f"its history goes from revision {expected - 1} to {entry.revision}")
            return folded
    state: State | None = None
    graph: WorkflowGraph | None = None
    for entry, next_entry in zip_longest(history, history[1:]):
        assert entry is not None
        label = f"history revision {entry.revision}"
        try:
            if state is None:
                state = begin(instance_id, entry)
                graph = graphs.get((state.workflow, state.version, state.definition_digest))
                if graph is not None and state.start_step != graph.start:
                    folded.problems.append(f"{label}: the start step differs from the definition")
            else:
                follower = next_entry.fact if next_entry is not None else None
                folded.problems += (
                    f"{label}: {problem}" for problem in _misfits(state, entry.fact, follower)
                )
                if graph is not None:
                    folded.problems += (f"{label}: {problem}" for problem in _off_graph(graph, entry.fact))
                apply(state, entry)
        except Exception as error:  # noqa: BLE001 - damage can raise anything
            folded.problems.append(f"{label}: cannot be folded: {type(error).__name__}")
            return folded
        if (info := _payload_of(entry.fact)) is not None:
            folded.payloads[entry.revision] = info
    folded.state = state
    return folded


def _payload_of(fact: facts.Fact) -> PayloadInfo | None:
    """Return what is known of the body that came with an entry."""
    match fact:
        case facts.InstanceStarted(input=info):
            return info
        case facts.StepFinished(output=PayloadInfo() as info, buffered_revision=0):
            return info
        case facts.EventBuffered(payload=PayloadInfo() as info):
            return info
        case _:
            return None


def _misfits(state: State, fact: facts.Fact, follower: facts.Fact | None) -> Iterator[str]:
    """Yield where a fact differs from the state before it or from the fact that follows it."""
    if isinstance(fact, facts.AttemptFailed):
        retry = isinstance(follower, facts.TimerArmed) and follower.kind is TimerKind.RETRY
        if fact.retrying is not (retry and getattr(follower, "step_ref", "") == fact.step_ref):
            yield "the retry timer that follows a failed attempt is missing, or not expected"
    match fact:
        case facts.AttemptStarted(step_ref=ref, attempt=attempt):
            if attempt != getattr(state.steps[ref], "attempt", 0) + 1:
                yield f"attempt {attempt} does not follow the one before it"
        case (
            facts.AttemptFailed(step_ref=ref, attempt=attempt)
            | facts.AttemptReleased(step_ref=ref, attempt=attempt)
            | facts.StepSuspended(step_ref=ref, attempt=attempt)
        ):
            step = state.steps[ref]
            # A lost attempt is released before it counts as a failure.
            may_fail = isinstance(fact, facts.AttemptFailed) and isinstance(step, Queued)
            if not (isinstance(step, Running) or may_fail) or getattr(step, "attempt", 0) != attempt:
                yield f"attempt {attempt} was not running"
        case facts.TimerFired(timer=timer, kind=kind, step_ref=ref):
            armed = state.timers.get(timer)
            if armed is None or (armed.kind, armed.step_ref) != (kind, ref):
                yield f"there was no such timer {timer}"
        case facts.TimerCancelled(timer=timer, step_ref=ref):
            armed = state.timers.get(timer)
            if armed is None or armed.step_ref != ref:
                yield f"there was no such timer {timer}"
        case facts.StepFinished(buffered_revision=buffered, event=event, output=output) if buffered:
            if not any((b.revision, b.event, b.payload) == (buffered, event, output) for b in state.inbox):
                yield f"the inbox had no such event {buffered}"
        case facts.InstanceFailed(step_ref=ref, interrupted=interrupted, kept_timers=kept):
            active = {name for name, step in state.steps.items() if isinstance(step, ACTIVE) and name != ref}
            if set(interrupted) != active:
                yield "its interrupted steps are not those that were active"
            asked_for = {
                rev
                for rev, timer in state.timers.items()
                if timer.client_requested and timer.step_ref not in active
            }
            if kept and set(kept) != asked_for:  # earlier versions kept none
                yield "its kept timers are not those that clients requested"
        case facts.InstanceCompleted(unconsumed=unconsumed) | facts.InstanceCancelled(unconsumed=unconsumed):
            if [(u.revision, u.event) for u in unconsumed] != [(b.revision, b.event) for b in state.inbox]:
                yield "its unconsumed events are not those of the inbox"
        case _:
            pass


def _off_graph(graph: WorkflowGraph, fact: facts.Fact) -> Iterator[str]:
    """Yield where a fact differs from the definition."""
    match fact:
        case facts.StepStarted(step_ref=ref, kind=kind, events=events):
            step = graph.steps[ref]
            accepted = tuple(sorted(step.events)) if step.kind is StepKind.WAIT else ()
            if (kind, events) != (step.kind, accepted):
                yield "the step's kind or events differ from the definition"
        case facts.StepSuspended(step_ref=ref, events=events):
            if events != tuple(sorted(graph.steps[ref].events)):
                yield "the step's events differ from the definition"
        case facts.StepFinished(step_ref=ref, event=event, targets=targets):
            if targets != graph.steps[ref].on.get(event):
                yield "the step's targets differ from the definition"
        case (
            facts.StepSkipped(step_ref=ref)
            | facts.TimerArmed(step_ref=ref)
            | facts.EventBuffered(step_ref=ref)
            | facts.InstanceFailed(step_ref=ref)
        ):
            if ref and ref not in graph.steps:
                yield f"the definition has no step {ref!r}"
        case _:
            pass
