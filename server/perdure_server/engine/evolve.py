"""Apply facts to a state: `evolve` one, `fold` a whole history.

What lives here: what each fact means for the state, and nothing of why it came about. No definition is asked, no
choice is made, no fact is refused; a history that was written once can be folded for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, Final, assert_never

from perdure.model.graph import END, StepKind
from perdure_server.engine import facts
from perdure_server.engine.facts import Entry, TimerKind
from perdure_server.engine.state import (
    ACTIVE,
    BUSY,
    RESTING,
    BackingOff,
    Buffered,
    Failed,
    Finished,
    InstanceState,
    Interrupted,
    Losses,
    PayloadRef,
    Queued,
    Running,
    Skipped,
    Sleeping,
    State,
    StepState,
    Timer,
    Waiting,
)

Changes = dict[str, Any]
"""The fields of `State` that a fact sets."""


def fold(instance_id: str, entries: Iterable[Entry]) -> State | None:
    """Return the state that a history adds up to, None for an empty one."""
    state: State | None = None
    for entry in entries:
        if state is None:
            state = begin(instance_id, entry)
        else:
            apply(state, entry)
    return state


def begin(instance_id: str, entry: Entry) -> State:
    """Return the state after the first entry of a history. Raises ``TypeError`` for any fact but `InstanceStarted`."""
    fact = entry.fact
    if not isinstance(fact, facts.InstanceStarted):
        raise TypeError(f"a history starts with InstanceStarted, not {type(fact).__name__}")
    delayed = fact.start_delay_ms > 0
    return State(
        instance_id=instance_id,
        workflow=fact.workflow,
        version=fact.version,
        definition_digest=fact.definition_digest,
        start_step=fact.start_step,
        input=fact.input,
        business_key=fact.business_key,
        labels=fact.labels,
        status=InstanceState.PENDING if delayed else InstanceState.RUNNING,
        revision=entry.revision,
        created_at=entry.at,
        updated_at=entry.at,
        started_at=None if delayed else entry.at,
        payload_bytes=fact.input.size_bytes,
        arrivals={fact.start_step: ()},
    )


def evolve(state: State, entry: Entry) -> State:
    """Return the state after the next entry."""
    new = own(state)
    apply(new, entry)
    return new


_SLOTS: Final = {f.name: getattr(State, f.name) for f in fields(State)}
_COPY: Final = tuple((slot.__get__, slot.__set__) for slot in _SLOTS.values())
_SET: Final = {name: slot.__set__ for name, slot in _SLOTS.items()}


def own(state: State) -> State:
    """Return a copy for `apply`, which nobody else may have seen yet."""
    new = object.__new__(State)
    for get, put in _COPY:
        put(new, get(state))
    return new


def apply(state: State, entry: Entry) -> None:
    """Bring a state of one's own to the next entry, in place.

    A decision adds many facts, and a frozen state anew for each of them was more than half of the engine's time. The
    values inside are never changed, so those of the state that was copied stay as they are.
    """
    changes = _APPLY[type(entry.fact)](state, entry, entry.fact)
    if "status" not in changes and "steps" in changes:
        changes["status"] = _status(state, changes["steps"])
    for name, value in changes.items():
        _SET[name](state, value)
    _SET_REVISION(state, entry.revision)
    _SET_UPDATED_AT(state, entry.at)


_SET_REVISION: Final = _SET["revision"]
_SET_UPDATED_AT: Final = _SET["updated_at"]


def _status(state: State, steps: Mapping[str, StepState]) -> InstanceState:
    """DESIGN section 1: WAITING while nothing runs or backs off and at least one step waits."""
    if state.started_at is None:
        return InstanceState.PENDING
    waits = False
    for step in steps.values():
        if isinstance(step, BUSY):
            return InstanceState.RUNNING
        waits = waits or isinstance(step, RESTING)
    return InstanceState.WAITING if waits else InstanceState.RUNNING


def _set_step(state: State, step_ref: str, step: StepState) -> dict[str, StepState]:
    steps = dict(state.steps)
    steps[step_ref] = step
    return steps


def _without_timers_of(state: State, step_ref: str) -> Mapping[int, Timer]:
    if any(timer.step_ref == step_ref for timer in state.timers.values()):
        return {rev: timer for rev, timer in state.timers.items() if timer.step_ref != step_ref}
    return state.timers


def _without(mapping: Mapping[Any, Any], key: object) -> dict[Any, Any]:
    return {k: v for k, v in mapping.items() if k != key}


def _step_started(state: State, entry: Entry, fact: facts.StepStarted) -> Changes:
    step: StepState
    match fact.kind:
        case StepKind.TASK:
            step = Queued(entry.revision)
        case StepKind.WAIT:
            step = Waiting(entry.revision, fact.events)
        case StepKind.SLEEP:
            step = Sleeping(entry.revision)
        case _:
            assert_never(fact.kind)
    return {
        "steps": _set_step(state, fact.step_ref, step),
        "arrivals": _without(state.arrivals, fact.step_ref),
    }


def _attempt_started(state: State, entry: Entry, fact: facts.AttemptStarted) -> Changes:
    before: Any = state.steps[fact.step_ref]
    step = Running(before.began, fact.attempt, before.failures, fact.owner, entry.at, before.losses)
    return {"steps": _set_step(state, fact.step_ref, step)}


def _attempt_failed(state: State, entry: Entry, fact: facts.AttemptFailed) -> Changes:
    before: Any = state.steps[fact.step_ref]
    step: StepState
    if fact.retrying:
        step = BackingOff(before.began, fact.attempt, fact.failure.attempts, fact.failure, before.attempt_at)
    else:
        step = Failed(before.began, fact.attempt, fact.failure, before.attempt_at)
    return {"steps": _set_step(state, fact.step_ref, step)}


def _attempt_released(state: State, entry: Entry, fact: facts.AttemptReleased) -> Changes:
    before: Any = state.steps[fact.step_ref]
    losses = before.losses
    if fact.lost:
        losses = Losses(
            in_a_row=(losses.in_a_row if losses else 0) + 1,
            alone=(losses.alone if losses else 0) + fact.alone,
        )
    step = Queued(before.began, fact.attempt, before.failures, before.attempt_at, losses)
    return {"steps": _set_step(state, fact.step_ref, step)}


def _step_suspended(state: State, entry: Entry, fact: facts.StepSuspended) -> Changes:
    before: Any = state.steps[fact.step_ref]
    step = Waiting(before.began, fact.events, fact.attempt, before.failures, before.attempt_at)
    return {"steps": _set_step(state, fact.step_ref, step)}


def _step_finished(state: State, entry: Entry, fact: facts.StepFinished) -> Changes:
    before: Any = state.steps[fact.step_ref]
    output = None
    if fact.output is not None:
        output = PayloadRef(fact.buffered_revision or entry.revision, fact.output)
    steps = _set_step(state, fact.step_ref, Finished(before.began, entry.revision, fact.event, output))
    arrivals = dict(state.arrivals)
    for target in fact.targets:
        # A step that began already absorbs later arrivals; one that was skipped ends them.
        if target != END and target not in steps:
            arrivals[target] = (*arrivals.get(target, ()), fact.step_ref)
    changes: Changes = {
        "steps": steps,
        "arrivals": arrivals,
        "timers": _without_timers_of(state, fact.step_ref),
    }
    if fact.buffered_revision:
        changes["inbox"] = tuple(b for b in state.inbox if b.revision != fact.buffered_revision)
    elif fact.output is not None:
        changes["payload_bytes"] = state.payload_bytes + fact.output.size_bytes
    return changes


def _step_skipped(state: State, entry: Entry, fact: facts.StepSkipped) -> Changes:
    return {
        "steps": _set_step(state, fact.step_ref, Skipped(entry.revision)),
        "arrivals": _without(state.arrivals, fact.step_ref),
        "timers": _without_timers_of(state, fact.step_ref),
    }


def _event_buffered(state: State, entry: Entry, fact: facts.EventBuffered) -> Changes:
    size_bytes = fact.payload.size_bytes if fact.payload else 0
    return {
        "inbox": (*state.inbox, Buffered(entry.revision, fact.event, fact.step_ref, fact.payload)),
        "payload_bytes": state.payload_bytes + size_bytes,
    }


def _timer_armed(state: State, entry: Entry, fact: facts.TimerArmed) -> Changes:
    timer = Timer(entry.revision, fact.kind, fact.step_ref, fact.due_at, fact.delay_ms, fact.client_requested)
    return {"timers": {**state.timers, entry.revision: timer}}


def _timer_fired(state: State, entry: Entry, fact: facts.TimerFired) -> Changes:
    changes: Changes = {"timers": _without(state.timers, fact.timer)}
    if fact.kind is TimerKind.START:
        changes["status"] = InstanceState.RUNNING
        changes["started_at"] = entry.at
    elif fact.kind is TimerKind.RETRY and fact.used:
        before: Any = state.steps[fact.step_ref]
        step = Queued(before.began, before.attempt, before.failures, before.attempt_at)
        changes["steps"] = _set_step(state, fact.step_ref, step)
    return changes


def _timer_cancelled(state: State, entry: Entry, fact: facts.TimerCancelled) -> Changes:
    return {"timers": _without(state.timers, fact.timer)}


def _instance_completed(state: State, entry: Entry, fact: facts.InstanceCompleted) -> Changes:
    return {"status": InstanceState.COMPLETED, "ended_at": entry.at, "timers": {}, "arrivals": {}}


def _instance_failed(state: State, entry: Entry, fact: facts.InstanceFailed) -> Changes:
    steps: dict[str, StepState] = {}
    for ref, step in state.steps.items():
        if isinstance(step, ACTIVE) and ref != fact.step_ref:
            timers = tuple(timer for timer in state.timers.values() if timer.step_ref == ref)
            steps[ref] = Interrupted(step, timers)
        else:
            steps[ref] = step
    failed: Any = steps[fact.step_ref]
    steps[fact.step_ref] = Failed(failed.began, failed.attempt, fact.failure, failed.attempt_at)
    return {
        "steps": steps,
        "timers": {},
        "status": InstanceState.FAILED,
        "ended_at": entry.at,
        "failure": fact.failure,
        "failed_step": fact.step_ref,
        "kept_timers": tuple(state.timers[revision] for revision in fact.kept_timers),
    }


def _instance_cancelled(state: State, entry: Entry, fact: facts.InstanceCancelled) -> Changes:
    steps = {
        ref: Interrupted(step) if isinstance(step, ACTIVE) else step for ref, step in state.steps.items()
    }
    return {
        "steps": steps,
        "timers": {},
        "arrivals": {},
        "kept_timers": (),
        "status": InstanceState.CANCELLED,
        "ended_at": entry.at,
    }


def _instance_retried(state: State, entry: Entry, fact: facts.InstanceRetried) -> Changes:
    steps = {ref: _revived(step) for ref, step in state.steps.items()}
    return {
        "steps": steps,
        "status": _status(state, steps),
        "ended_at": None,
        "failure": None,
        "failed_step": "",
        "kept_timers": (),
    }


def _revived(step: StepState) -> StepState:
    """The failed step starts its retry policy afresh; a interrupted one goes on where it was."""
    match step:
        case Failed(began=began, attempt=attempt, attempt_at=attempt_at):
            return Queued(began, attempt, 0, attempt_at)
        case Interrupted(was=Running(began=began, attempt=attempt, failures=failures) as was):
            return Queued(began, attempt, failures, was.attempt_at, was.losses)
        case Interrupted(was=was):
            return was
        case _:
            return step


_APPLY: Final[Mapping[type[facts.Fact], Callable[[State, Entry, Any], Changes]]] = {
    facts.StepStarted: _step_started,
    facts.AttemptStarted: _attempt_started,
    facts.AttemptFailed: _attempt_failed,
    facts.AttemptReleased: _attempt_released,
    facts.StepSuspended: _step_suspended,
    facts.StepFinished: _step_finished,
    facts.StepSkipped: _step_skipped,
    facts.EventBuffered: _event_buffered,
    facts.TimerArmed: _timer_armed,
    facts.TimerFired: _timer_fired,
    facts.TimerCancelled: _timer_cancelled,
    facts.InstanceCompleted: _instance_completed,
    facts.InstanceFailed: _instance_failed,
    facts.InstanceCancelled: _instance_cancelled,
    facts.InstanceRetried: _instance_retried,
}
