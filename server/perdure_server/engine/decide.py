"""Decide what a command does to an instance: everything that chooses facts starts here.

Theory of operation. `start` makes an instance; `decide` looks the command up in `ALLOWED_IN` (the literal table of
what may happen in which state), lets the command's own rule add its facts to a `DecisionBuilder`, and lets the draft
settle.
The answer is a `Decision`, whose first entry is the fact that the command caused, or a `Rejection`, which changes
nothing. Pure and total: no clock, no ids, no I/O, and a legal command never raises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from perdure.model.graph import EVENT_ELAPSED, EVENT_TIMEOUT, RESERVED_EVENTS, WorkflowGraph
from perdure_server.engine import commands, facts
from perdure_server.engine import rejections as reject
from perdure_server.engine.commands import (
    FAILURE_MESSAGE_CHARS_MAX,
    FAILURE_TYPE_CHARS_MAX,
    INBOX_EVENTS_MAX,
    INSTANCE_BYTES_MAX,
    LOSSES_ALONE_MAX,
    LOSSES_IN_A_ROW_MAX,
    NO_GRANT,
    PAYLOAD_BYTES_MAX,
    REQUESTED_TIMERS_MAX,
    Command,
    Grant,
    Payload,
)
from perdure_server.engine.decision_builder import DecisionBuilder
from perdure_server.engine.effects import (
    ArmTimer,
    DisarmTimer,
    Effect,
    OfferTask,
    RunTask,
    StopTask,
)
from perdure_server.engine.evolve import begin, own
from perdure_server.engine.facts import Entry, Failure, TimerKind
from perdure_server.engine.reachability import possible_steps
from perdure_server.engine.rejections import Rejection
from perdure_server.engine.retry import backoff_ms
from perdure_server.engine.state import (
    ACTIVE,
    BUSY,
    LIVE,
    OVER,
    BackingOff,
    InstanceState,
    Interrupted,
    Queued,
    Running,
    Skipped,
    Sleeping,
    State,
    Timer,
    Waiting,
)
from perdure_server.engine.value_type import value


@value(frozen=True, slots=True)
class Decision:
    """What a command does: the new entries, the state after them, the bodies that they brought, and the effects.

    ``slots_used`` says how many tasks of the grant were taken.
    """

    entries: tuple[Entry, ...]
    state: State
    payloads: Mapping[int, str]
    effects: tuple[Effect, ...]
    slots_used: int

    @property
    def cause(self) -> Entry:
        """The entry that the command itself caused: what it is answered with."""
        return self.entries[0]


ALLOWED_IN: Final[Mapping[type[Command], frozenset[InstanceState]]] = {
    commands.Resume: LIVE,
    commands.ScheduleResume: LIVE,
    commands.CancelInstance: LIVE | {InstanceState.FAILED},
    commands.RetryInstance: frozenset({InstanceState.FAILED}),
    commands.CancelTimer: LIVE,
    commands.FireTimer: LIVE,
    commands.TakeTask: frozenset({InstanceState.RUNNING}),
    commands.ReleaseTask: frozenset({InstanceState.RUNNING}),
    commands.FinishTask: frozenset({InstanceState.RUNNING}),
    commands.SuspendTask: frozenset({InstanceState.RUNNING}),
    commands.FailTask: frozenset({InstanceState.RUNNING}),
}
"""The states in which each command may do something. Elsewhere it is refused, see `_refused`."""


def start(
    graph: WorkflowGraph, command: commands.StartInstance, grant: Grant = NO_GRANT
) -> Decision | Rejection:
    """Decide the creation of an instance. Whether ids and keys are free is the store's to say."""
    size_bytes = command.input.info.size_bytes
    if size_bytes > PAYLOAD_BYTES_MAX:
        return reject.PayloadTooLarge("context", size_bytes, PAYLOAD_BYTES_MAX)
    fact = facts.InstanceStarted(
        workflow=graph.name,
        version=graph.version,
        definition_digest=graph.digest,
        start_step=graph.start,
        input=command.input.info,
        business_key=command.business_key,
        labels=dict(command.labels),
        start_delay_ms=command.start_delay_ms,
    )
    entry = Entry(1, command.at, fact, command.request_id)
    draft = DecisionBuilder(graph, begin(command.instance_id, entry), command.at, grant)
    draft.entries.append(entry)
    draft.payloads[1] = command.input.text
    if command.start_delay_ms:
        draft.arm(TimerKind.START, graph.start, command.start_delay_ms)
    draft.settle()
    return _decision(None, draft)


def decide(
    graph: WorkflowGraph, state: State, command: Command, grant: Grant = NO_GRANT
) -> Decision | Rejection:
    """Decide what a command does to an instance, by the definition that the instance runs on."""
    if state.status not in ALLOWED_IN[type(command)]:
        return _refused(state, command)
    draft = DecisionBuilder(graph, own(state), command.at, grant, getattr(command, "request_id", ""))
    rejection = _RULES[type(command)](draft, command)
    if rejection is not None:
        return rejection
    draft.settle()
    return _decision(state, draft, command)


def asks_definition(state: State, command: Command) -> bool:
    """Whether the decision depends on the graph that it is given: neither a refusal by the state alone does, nor a
    cancel. An instance that is not live may have lost its graph to another one.
    """
    return state.status in ALLOWED_IN[type(command)] and not isinstance(command, commands.CancelInstance)


def _refused(state: State, command: Command) -> Rejection:
    match command:
        case commands.Resume() | commands.ScheduleResume() | commands.CancelInstance():
            return reject.InstanceEnded(state.instance_id, state.status)
        case commands.RetryInstance():
            return reject.InstanceNotFailed(state.instance_id, state.status)
        case commands.CancelTimer() | commands.FireTimer():
            return reject.TimerNotFound(state.reference(command.timer))
        case commands.TakeTask():
            return reject.AttemptStale(state.instance_id, command.step_ref, command.lost_attempt)
        case _:
            return reject.AttemptStale(state.instance_id, command.step_ref, command.attempt)


# --- verbs of clients ----------------------------------------------------------------------------------------


def _resume(draft: DecisionBuilder, command: commands.Resume) -> Rejection | None:
    graph, state, event = draft.graph, draft.state, command.event
    if command.step_ref and command.step_ref not in graph.steps:
        return reject.StepNotFound(state.instance_id, command.step_ref, tuple(graph.steps))
    accepting = [
        step.ref
        for step in graph.steps.values()
        if event in step.events and command.step_ref in ("", step.ref)
    ]
    too_large = _check_size(state, command.payload, "opts.payload")
    waiting = sorted(ref for ref in accepting if isinstance(state.steps.get(ref), Waiting))
    if len(waiting) > 1:
        return reject.AmbiguousEvent(state.instance_id, event, tuple(waiting))
    if waiting:
        if too_large is not None:
            return too_large
        draft.finish(waiting[0], event, command.payload)
        return None
    # A step that runs or backs off may still return SUSPEND: the event is early, not wrong.
    busy = [ref for ref in accepting if isinstance(state.steps.get(ref), BUSY)]
    if not busy:
        possible = possible_steps(graph, state)
        later = tuple(sorted(possible.intersection(accepting)))
        if not later:
            return _not_taken(graph, state, command, possible)
        if not command.buffer:
            return reject.EventNotAwaited(state.instance_id, event, later)
    if too_large is not None:
        return too_large
    if len(state.inbox) >= INBOX_EVENTS_MAX:
        return reject.InboxFull(state.instance_id, INBOX_EVENTS_MAX)
    body = _none_if_empty(command.payload)
    # An early event is for the step that was busy when it came; no later step may take it away.
    step_ref = busy[0] if len(busy) == 1 else command.step_ref
    draft.add(
        facts.EventBuffered(event=event, step_ref=step_ref, payload=None if body is None else body.info),
        body,
    )
    return None


def _not_taken(
    graph: WorkflowGraph, state: State, command: commands.Resume, possible: frozenset[str]
) -> Rejection:
    """Why no step takes the event, now or later: for the reason of the step that was named, if one was."""
    instance_id, event, step_ref = state.instance_id, command.event, command.step_ref
    open_steps = [
        step
        for step in graph.steps.values()
        if step.ref in possible or isinstance(state.steps.get(step.ref), ACTIVE)
    ]
    if not step_ref:
        accepted = {event for step in open_steps for event in step.events}
        return reject.EventNeverAccepted(instance_id, event, tuple(sorted(accepted)))
    takers = tuple(sorted(step.ref for step in open_steps if event in step.events))
    # What never holds of a step is told first: the answer to a wrong call does not change with time.
    own_events = graph.steps[step_ref].events
    if event not in own_events:
        return reject.StepNeverAccepts(instance_id, step_ref, event, tuple(sorted(own_events)), takers)
    step = state.steps.get(step_ref)
    if isinstance(step, OVER):
        return reject.StepAlreadyFinished(instance_id, step_ref, isinstance(step, Skipped), event, takers)
    return reject.StepUnreachable(instance_id, step_ref, event, takers)


def _schedule_resume(draft: DecisionBuilder, command: commands.ScheduleResume) -> Rejection | None:
    graph, state, step_ref = draft.graph, draft.state, command.step_ref
    definition = graph.steps.get(step_ref)
    if definition is None:
        return reject.StepNotFound(state.instance_id, step_ref, tuple(graph.steps))
    if EVENT_TIMEOUT not in definition.on:
        return reject.StepHasNoTimeout(state.instance_id, step_ref)
    step = state.steps.get(step_ref)
    if isinstance(step, OVER):
        return reject.StepAlreadyFinished(state.instance_id, step_ref, isinstance(step, Skipped))
    if not isinstance(step, ACTIVE) and step_ref not in possible_steps(graph, state):
        return reject.StepUnreachable(state.instance_id, step_ref)
    if sum(timer.client_requested for timer in state.timers.values()) >= REQUESTED_TIMERS_MAX:
        return reject.TooManyTimers(state.instance_id, REQUESTED_TIMERS_MAX)
    draft.arm(TimerKind.TIMEOUT, step_ref, command.delay_ms, client_requested=True)
    return None


def _cancel_instance(draft: DecisionBuilder, command: commands.CancelInstance) -> Rejection | None:
    unconsumed = tuple(facts.Unconsumed(b.revision, b.event) for b in draft.state.inbox)
    draft.add(facts.InstanceCancelled(reason=command.reason, unconsumed=unconsumed))
    return None


def _retry_instance(draft: DecisionBuilder, command: commands.RetryInstance) -> Rejection | None:
    interrupted = {ref: step for ref, step in draft.state.steps.items() if isinstance(step, Interrupted)}
    timers = [timer for step_ref in sorted(interrupted) for timer in interrupted[step_ref].timers]
    timers += draft.state.kept_timers
    draft.add(facts.InstanceRetried())
    for timer in timers:
        # The original deadline holds; one that has passed fires at once.
        draft.add(
            facts.TimerArmed(
                kind=timer.kind,
                step_ref=timer.step_ref,
                due_at=timer.due_at,
                delay_ms=timer.delay_ms,
                client_requested=timer.client_requested,
            )
        )
    return None


# --- timers --------------------------------------------------------------------------------------------------


def _cancel_timer(draft: DecisionBuilder, command: commands.CancelTimer) -> Rejection | None:
    state = draft.state
    timer = state.timers.get(command.timer)
    if timer is None:
        return reject.TimerNotFound(state.reference(command.timer))
    if timer.kind is not TimerKind.TIMEOUT:
        return reject.TimerNotCancellable(state.reference(command.timer), timer.kind)
    draft.add(facts.TimerCancelled(timer=timer.revision, step_ref=timer.step_ref))
    return None


def _fire_timer(draft: DecisionBuilder, command: commands.FireTimer) -> Rejection | None:
    state = draft.state
    timer = state.timers.get(command.timer)
    if timer is None:
        return reject.TimerNotFound(state.reference(command.timer))
    if not command.forced and command.at < timer.due_at:
        return reject.TimerNotDue(state.reference(command.timer), timer.due_at)
    used = _acts(state, timer)
    draft.add(
        facts.TimerFired(
            timer=timer.revision,
            kind=timer.kind,
            step_ref=timer.step_ref,
            used=used,
            forced=command.forced,
        )
    )
    if used and timer.kind is TimerKind.SLEEP:
        draft.finish(timer.step_ref, EVENT_ELAPSED)
    elif used and timer.kind is TimerKind.TIMEOUT:
        draft.time_out(timer.step_ref)
    return None


def _acts(state: State, timer: Timer) -> bool:
    """Whether the timer still finds what it was armed for."""
    step = state.steps.get(timer.step_ref)
    match timer.kind:
        case TimerKind.START:
            return True
        case TimerKind.SLEEP:
            return isinstance(step, Sleeping)
        case TimerKind.RETRY:
            return isinstance(step, BackingOff)
        case TimerKind.TIMEOUT:
            return isinstance(step, _TIMES_OUT)


_TIMES_OUT: Final = (*BUSY, Waiting)

ATTEMPT_LOST: Final = "AttemptLost"
"""The type of the failure that ends a crash loop. Stored in histories."""


# --- tasks ---------------------------------------------------------------------------------------------------


def _take_task(draft: DecisionBuilder, command: commands.TakeTask) -> Rejection | None:
    step = draft.state.steps.get(command.step_ref)
    lost = isinstance(step, Running) and step.attempt == command.lost_attempt
    free = isinstance(step, Queued) and command.lost_attempt == 0
    granted = draft.slots > 0 and command.step_ref in draft.grant.step_refs
    if not isinstance(step, Running | Queued) or not (lost or free) or not granted:
        return reject.AttemptStale(draft.state.instance_id, command.step_ref, command.lost_attempt)
    if lost:
        draft.add(
            facts.AttemptReleased(step_ref=command.step_ref, attempt=step.attempt, reason="its owner is gone")
        )
    # The task that was asked for comes first; what slots are left go to others.
    draft.take(command.step_ref, step.attempt + 1)
    return None


def _release_task(draft: DecisionBuilder, command: commands.ReleaseTask) -> Rejection | None:
    stale = _stale(draft.state, command.step_ref, command.attempt)
    if stale is not None:
        return stale
    draft.add(
        facts.AttemptReleased(
            step_ref=command.step_ref,
            attempt=command.attempt,
            reason=command.reason,
            lost=command.lost,
            alone=command.lost and command.alone,
        )
    )
    # The executor that released it does not want it again at once.
    draft.slots = 0
    if command.lost:
        _convict(draft, command.step_ref, command.jitter)
    return None


def _convict(draft: DecisionBuilder, step_ref: str, jitter: float) -> None:
    """Count the losses of a step as a failure once there are too many, so that its retry policy ends a crash loop."""
    step = draft.state.steps[step_ref]
    assert isinstance(step, Queued)
    assert step.losses is not None
    if step.losses.alone >= LOSSES_ALONE_MAX:
        message = f"the server process stopped {step.losses.alone} times while this step ran alone in it"
    elif step.losses.in_a_row >= LOSSES_IN_A_ROW_MAX:
        message = f"the server process stopped {step.losses.in_a_row} times in a row while this step ran"
    else:
        return
    _fail(draft, step_ref, ATTEMPT_LOST, message, retryable=True, jitter=jitter)


def _finish_task(draft: DecisionBuilder, command: commands.FinishTask) -> Rejection | None:
    stale = _stale(draft.state, command.step_ref, command.attempt)
    if stale is not None:
        return stale
    definition = draft.graph.steps[command.step_ref]
    too_large = _check_size(draft.state, command.output, "output")
    if command.event not in definition.on or command.event in RESERVED_EVENTS:
        message = (
            f"the step returned the event {command.event!r}, which is none of "
            f"{sorted(set(definition.on) - RESERVED_EVENTS)}; "
            "return one of these, or give `on` an arrow for it"
        )
        _fail(draft, command.step_ref, "UndeclaredEvent", message)
    elif too_large is not None:
        message = (
            f"the output would bring {too_large.size_bytes} bytes, of at most {too_large.size_bytes_max}"
        )
        _fail(draft, command.step_ref, "OutputTooLarge", message)
    else:
        draft.finish(command.step_ref, command.event, command.output)
    return None


def _suspend_task(draft: DecisionBuilder, command: commands.SuspendTask) -> Rejection | None:
    stale = _stale(draft.state, command.step_ref, command.attempt)
    if stale is not None:
        return stale
    if draft.graph.steps[command.step_ref].events:
        draft.suspend(command.step_ref, command.attempt)
    else:
        message = "the step returned SUSPEND but declares no awaits={...}, the events that may end it then"
        _fail(draft, command.step_ref, "UndeclaredPending", message)
    return None


def _fail_task(draft: DecisionBuilder, command: commands.FailTask) -> Rejection | None:
    stale = _stale(draft.state, command.step_ref, command.attempt)
    if stale is None:
        _fail(
            draft,
            command.step_ref,
            command.type,
            command.message,
            retryable=command.retryable,
            jitter=command.jitter,
        )
    return stale


def _fail(
    draft: DecisionBuilder,
    step_ref: str,
    type_: str,
    message: str,
    *,
    retryable: bool = False,
    jitter: float = 0.0,
) -> None:
    """Count a failed attempt of a step that runs or was lost; retry it by its policy, or let the failure out."""
    step = draft.state.steps[step_ref]
    assert isinstance(step, Running | Queued)
    policy = draft.graph.steps[step_ref].retry
    failures = step.failures + 1
    failure = Failure(
        _storable(type_, FAILURE_TYPE_CHARS_MAX), _storable(message, FAILURE_MESSAGE_CHARS_MAX), failures
    )
    retrying = retryable and policy is not None and failures < policy.max_attempts
    draft.add(
        facts.AttemptFailed(step_ref=step_ref, attempt=step.attempt, failure=failure, retrying=retrying)
    )
    if retrying and policy is not None:
        draft.arm(TimerKind.RETRY, step_ref, backoff_ms(policy, failures, jitter))
    else:
        draft.fail(step_ref, failure)


def _storable(text: str, chars_max: int) -> str:
    """Cut a text of anybody's exception, and replace what UTF-8 has no bytes for (half a surrogate pair)."""
    return text[:chars_max].encode(errors="replace").decode()


def _stale(state: State, step_ref: str, attempt: int) -> Rejection | None:
    step = state.steps.get(step_ref)
    if isinstance(step, Running) and step.attempt == attempt:
        return None
    return reject.AttemptStale(state.instance_id, step_ref, attempt)


# --- sizes ---------------------------------------------------------------------------------------------------


def _none_if_empty(body: Payload | None) -> Payload | None:
    return None if body is None or body.text == commands.EMPTY_OBJECT else body


def _check_size(state: State, body: Payload | None, field: str) -> reject.PayloadTooLarge | None:
    """DESIGN section 3, "Sizes": of the payload alone, then of all that the instance holds."""
    body = _none_if_empty(body)
    if body is None:
        return None
    size_bytes = body.info.size_bytes
    if size_bytes > PAYLOAD_BYTES_MAX:
        return reject.PayloadTooLarge(field, size_bytes, PAYLOAD_BYTES_MAX)
    if state.payload_bytes + size_bytes > INSTANCE_BYTES_MAX:
        return reject.PayloadTooLarge(field, state.payload_bytes + size_bytes, INSTANCE_BYTES_MAX)
    return None


# --- effects -------------------------------------------------------------------------------------------------


def _decision(before: State | None, draft: DecisionBuilder, command: Command | None = None) -> Decision:
    return Decision(
        entries=tuple(draft.entries),
        state=draft.state,
        payloads=draft.payloads,
        effects=tuple(_effects(before, draft.state, command)),
        slots_used=draft.taken,
    )


def _effects(before: State | None, after: State, command: Command | None) -> list[Effect]:
    """What changed that the world must hear of, read off the two states."""
    effects: list[Effect] = []
    old_steps = before.steps if before else {}
    if after.steps is not old_steps:
        for ref, step in after.steps.items():
            old = old_steps.get(ref)
            if old is step:
                continue
            if isinstance(old, Running) and not _is_own_result(command, ref):
                effects.append(StopTask(ref, old.attempt, old.owner))
            if isinstance(step, Running):
                effects.append(RunTask(ref, step.attempt, step.owner))
            elif isinstance(step, Queued):
                effects.append(OfferTask(ref))
    old_timers = before.timers if before else {}
    if after.timers is not old_timers:
        effects += [DisarmTimer(rev) for rev in old_timers if rev not in after.timers]
        effects += [ArmTimer(timer) for rev, timer in after.timers.items() if rev not in old_timers]
    return effects


def _is_own_result(command: Command | None, step_ref: str) -> bool:
    """Whether the attempt ended by its own word, so that nobody needs to stop it."""
    return isinstance(command, _RESULTS) and command.step_ref == step_ref


_RESULTS: Final = (commands.FinishTask, commands.SuspendTask, commands.FailTask, commands.ReleaseTask)


_RULES: Final[Mapping[type[Command], Callable[[DecisionBuilder, Any], Rejection | None]]] = {
    commands.Resume: _resume,
    commands.ScheduleResume: _schedule_resume,
    commands.CancelInstance: _cancel_instance,
    commands.RetryInstance: _retry_instance,
    commands.CancelTimer: _cancel_timer,
    commands.FireTimer: _fire_timer,
    commands.TakeTask: _take_task,
    commands.ReleaseTask: _release_task,
    commands.FinishTask: _finish_task,
    commands.SuspendTask: _suspend_task,
    commands.FailTask: _fail_task,
}
