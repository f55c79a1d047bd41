"""From the server's values to the API's messages, field by field, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, assert_never

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from perdure.model.graph import Join, StepDefinition, StepKind, WorkflowGraph
from perdure.v1 import common_pb2, history_pb2, instance_service_pb2, timer_service_pb2, workflow_service_pb2
from perdure_server.engine import facts
from perdure_server.engine.commands import EMPTY_OBJECT
from perdure_server.engine.facts import KIND_OF, Entry, TimerKind
from perdure_server.engine.state import (
    ActiveStep,
    BackingOff,
    Failed,
    Finished,
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
from perdure_server.store.protocol import (
    DefinitionSummary,
    InstanceSummary,
    StoredDefinition,
    StoredInstance,
    TimerRow,
)

HasCode = Callable[[str, int, str], bool]

_INSTANCE_STATE: Final[Mapping[InstanceState, Any]] = {
    InstanceState.PENDING: instance_service_pb2.INSTANCE_STATE_PENDING,
    InstanceState.RUNNING: instance_service_pb2.INSTANCE_STATE_RUNNING,
    InstanceState.WAITING: instance_service_pb2.INSTANCE_STATE_WAITING,
    InstanceState.COMPLETED: instance_service_pb2.INSTANCE_STATE_COMPLETED,
    InstanceState.FAILED: instance_service_pb2.INSTANCE_STATE_FAILED,
    InstanceState.CANCELLED: instance_service_pb2.INSTANCE_STATE_CANCELLED,
}
STATUS_OF: Final = {state: status for status, state in _INSTANCE_STATE.items()}
"""The server's status by the API's state."""

_STEP_KIND: Final[Mapping[StepKind, Any]] = {
    StepKind.TASK: common_pb2.STEP_KIND_TASK,
    StepKind.WAIT: common_pb2.STEP_KIND_WAIT,
    StepKind.SLEEP: common_pb2.STEP_KIND_SLEEP,
}
_TIMER_KIND: Final[Mapping[TimerKind, Any]] = {
    TimerKind.START: common_pb2.TIMER_KIND_START,
    TimerKind.TIMEOUT: common_pb2.TIMER_KIND_TIMEOUT,
    TimerKind.SLEEP: common_pb2.TIMER_KIND_SLEEP,
    TimerKind.RETRY: common_pb2.TIMER_KIND_RETRY,
}
_JOIN: Final[Mapping[Join, Any]] = {
    Join.AUTO: workflow_service_pb2.JOIN_RULE_AUTO,
    Join.ALL: workflow_service_pb2.JOIN_RULE_ALL,
    Join.ANY: workflow_service_pb2.JOIN_RULE_ANY,
}


def timestamp(at: int | None) -> Timestamp | None:
    """Return milliseconds since the epoch as a `Timestamp`, None for None (not yet)."""
    return None if at is None else Timestamp(seconds=at // 1000, nanos=at % 1000 * 1_000_000)


def duration(length_ms: int | None) -> Duration | None:
    """Return milliseconds as a `Duration`, None for none."""
    if length_ms is None:
        return None
    return Duration(seconds=length_ms // 1000, nanos=length_ms % 1000 * 1_000_000)


# --- instances -----------------------------------------------------------------------------------------------


def instance(stored: StoredInstance, has_code: HasCode) -> instance_service_pb2.Instance:
    """Return an instance with its payloads."""
    state = stored.state
    message = instance_service_pb2.Instance(
        instance_id=state.instance_id,
        workflow=state.workflow,
        version=state.version,
        state=_INSTANCE_STATE[state.status],
        revision=state.revision,
        input=common_pb2.Payload(json=stored.payloads[1]),
        labels=dict(state.labels),
        business_key=state.business_key,
        create_time=timestamp(state.created_at),
        start_time=timestamp(state.started_at),
        update_time=timestamp(state.updated_at),
        end_time=timestamp(state.ended_at),
    )
    for ref, step in state.steps.items():
        match step:
            case Finished(ended=ended, event=event, output=output):
                text = stored.payloads[output.revision] if output else EMPTY_OBJECT
                message.outputs[ref].json = text
                message.step_results.add(
                    step_ref=ref,
                    state=instance_service_pb2.STEP_STATE_FINISHED,
                    event=event,
                    revision=ended,
                )
            case Skipped(ended=ended):
                message.step_results.add(
                    step_ref=ref, state=instance_service_pb2.STEP_STATE_SKIPPED, revision=ended
                )
            case Interrupted():
                # The entry that ended the instance interrupted them (a cancel, once more, those of a failed one).
                message.step_results.add(
                    step_ref=ref, state=instance_service_pb2.STEP_STATE_INTERRUPTED, revision=state.revision
                )
            case Failed():
                message.step_results.add(
                    step_ref=ref, state=instance_service_pb2.STEP_STATE_FAILED, revision=state.revision
                )
            case _:
                message.active_steps.append(_active_step(state, ref, step, has_code))
    for ref in state.arrivals:
        # A branch has arrived; the others that can still come have not.
        message.active_steps.add(step_ref=ref, state=instance_service_pb2.STEP_STATE_JOINING)
    message.active_steps.sort(key=lambda step: step.step_ref)
    message.step_results.sort(key=lambda result: (result.revision, result.step_ref))
    if state.failure is not None:
        message.error.CopyFrom(
            instance_service_pb2.InstanceFailure(
                step_ref=state.failed_step,
                type=state.failure.type,
                message=state.failure.message,
                attempts=state.failure.attempts,
            )
        )
    for buffered in state.inbox:
        message.inbox.add(
            event=buffered.event,
            step_ref=buffered.step_ref,
            revision=buffered.revision,
            payload=_payload_info(buffered.payload),
        )
    return message


def _active_step(
    state: State, ref: str, step: ActiveStep, has_code: HasCode
) -> instance_service_pb2.ActiveStep:
    message = instance_service_pb2.ActiveStep(step_ref=ref)
    deadlines = [timer.due_at for timer in state.timers.values() if timer.step_ref == ref]
    if deadlines:
        message.deadline.CopyFrom(timestamp(min(deadlines)) or Timestamp())
    if not isinstance(step, Sleeping) and step.attempt_at is not None:
        message.attempt_start_time.CopyFrom(timestamp(step.attempt_at) or Timestamp())
    match step:
        case Queued(attempt=attempt, losses=losses):
            message.lost_attempts = losses.in_a_row if losses else 0
            bound = has_code(state.workflow, state.version, ref)
            message.attempt = attempt
            message.state = (
                instance_service_pb2.STEP_STATE_QUEUED if bound else instance_service_pb2.STEP_STATE_NO_WORKER
            )
        case Running(attempt=attempt, losses=losses):
            message.lost_attempts = losses.in_a_row if losses else 0
            message.attempt = attempt
            message.state = instance_service_pb2.STEP_STATE_RUNNING
        case BackingOff(attempt=attempt, failure=failure):
            message.attempt = attempt
            message.state = instance_service_pb2.STEP_STATE_BACKING_OFF
            message.last_failure.CopyFrom(_failure(failure))
        case Waiting(events=events, attempt=attempt):
            message.attempt = attempt
            message.state = instance_service_pb2.STEP_STATE_WAITING
            message.events.extend(events)
        case Sleeping():
            message.state = instance_service_pb2.STEP_STATE_SLEEPING
        case _:
            assert_never(step)
    return message


def summary(found: InstanceSummary) -> instance_service_pb2.InstanceSummary:
    """Return a line of a list."""
    return instance_service_pb2.InstanceSummary(
        instance_id=found.instance_id,
        workflow=found.workflow,
        version=found.version,
        state=_INSTANCE_STATE[found.status],
        revision=found.revision,
        business_key=found.business_key,
        labels=dict(found.labels),
        create_time=timestamp(found.created_at),
        update_time=timestamp(found.updated_at),
        end_time=timestamp(found.ended_at),
        inbox_size=found.inbox_size,
    )


# --- history -------------------------------------------------------------------------------------------------


def entry(instance_id: str, found: Entry) -> history_pb2.HistoryEntry:
    """Return an entry of a history."""
    message = history_pb2.HistoryEntry(
        revision=found.revision, time=timestamp(found.at), request_id=found.request_id
    )
    kind = KIND_OF[type(found.fact)]
    getattr(message, kind).CopyFrom(_fact(instance_id, found))
    return message


def _fact(instance_id: str, found: Entry) -> Any:
    fact = found.fact
    match fact:
        case facts.InstanceStarted():
            return history_pb2.InstanceStarted(
                workflow=fact.workflow,
                version=fact.version,
                definition_digest=fact.definition_digest,
                start_step=fact.start_step,
                input=_payload_info(fact.input),
                business_key=fact.business_key,
                labels=dict(fact.labels),
                start_delay=duration(fact.start_delay_ms or None),
            )
        case facts.StepStarted():
            return history_pb2.StepStarted(
                step_ref=fact.step_ref, kind=_STEP_KIND[fact.kind], events=fact.events
            )
        case facts.AttemptStarted():
            return history_pb2.AttemptStarted(step_ref=fact.step_ref, attempt=fact.attempt, owner=fact.owner)
        case facts.AttemptFailed():
            return history_pb2.AttemptFailed(
                step_ref=fact.step_ref,
                attempt=fact.attempt,
                type=fact.failure.type,
                message=fact.failure.message,
                failures=fact.failure.attempts,
                retrying=fact.retrying,
            )
        case facts.AttemptReleased():
            return history_pb2.AttemptReleased(
                step_ref=fact.step_ref, attempt=fact.attempt, reason=fact.reason, lost=fact.lost
            )
        case facts.StepSuspended():
            return history_pb2.StepSuspended(step_ref=fact.step_ref, attempt=fact.attempt, events=fact.events)
        case facts.StepFinished():
            return history_pb2.StepFinished(
                step_ref=fact.step_ref,
                event=fact.event,
                targets=fact.targets,
                output=_payload_info(fact.output),
                buffered_revision=fact.buffered_revision,
                failure=_failure(fact.failure) if fact.failure else None,
            )
        case facts.StepSkipped():
            return history_pb2.StepSkipped(step_ref=fact.step_ref)
        case facts.EventBuffered():
            return history_pb2.EventBuffered(
                event=fact.event, step_ref=fact.step_ref, payload=_payload_info(fact.payload)
            )
        case facts.TimerArmed():
            return history_pb2.TimerArmed(
                reference=f"{instance_id}.{found.revision}",
                kind=_TIMER_KIND[fact.kind],
                step_ref=fact.step_ref,
                delay=duration(fact.delay_ms),
                due_time=timestamp(fact.due_at),
                client_requested=fact.client_requested,
            )
        case facts.TimerFired():
            return history_pb2.TimerFired(
                reference=f"{instance_id}.{fact.timer}",
                kind=_TIMER_KIND[fact.kind],
                step_ref=fact.step_ref,
                used=fact.used,
                forced=fact.forced,
            )
        case facts.TimerCancelled():
            return history_pb2.TimerCancelled(reference=f"{instance_id}.{fact.timer}", step_ref=fact.step_ref)
        case facts.InstanceCompleted():
            return history_pb2.InstanceCompleted(unconsumed=_unconsumed(fact.unconsumed))
        case facts.InstanceFailed():
            return history_pb2.InstanceFailed(
                step_ref=fact.step_ref, failure=_failure(fact.failure), interrupted_steps=fact.interrupted
            )
        case facts.InstanceCancelled():
            return history_pb2.InstanceCancelled(reason=fact.reason, unconsumed=_unconsumed(fact.unconsumed))
        case facts.InstanceRetried():
            return history_pb2.InstanceRetried()
        case _:
            assert_never(fact)


def _payload_info(info: facts.PayloadInfo | None) -> common_pb2.PayloadInfo | None:
    return common_pb2.PayloadInfo(size_bytes=info.size_bytes, digest=info.digest) if info else None


def _failure(failure: facts.Failure) -> common_pb2.StepFailure:
    return common_pb2.StepFailure(type=failure.type, message=failure.message, attempts=failure.attempts)


def _unconsumed(events: Iterable[facts.Unconsumed]) -> list[common_pb2.BufferedEvent]:
    return [common_pb2.BufferedEvent(event=e.event, revision=e.revision) for e in events]


# --- timers and workflows ------------------------------------------------------------------------------------


def timer(row: TimerRow) -> timer_service_pb2.Timer:
    """Return a pending timer."""
    found: Timer = row.timer
    return timer_service_pb2.Timer(
        reference=row.reference,
        instance_id=row.instance_id,
        step_ref=found.step_ref,
        kind=_TIMER_KIND[found.kind],
        due_time=timestamp(found.due_at),
        owner=row.owner,
        create_time=timestamp(found.due_at - found.delay_ms),
        client_requested=found.client_requested,
    )


def workflow(stored: StoredDefinition, graph: WorkflowGraph) -> workflow_service_pb2.Workflow:
    """Return a stored graph."""
    return workflow_service_pb2.Workflow(
        name=stored.workflow,
        version=stored.version,
        digest=stored.digest,
        start=graph.start,
        steps=[_step_definition(step) for step in graph.steps.values()],
        create_time=timestamp(stored.created_at),
    )


def workflow_summary(found: DefinitionSummary) -> workflow_service_pb2.WorkflowSummary:
    """Return a definition as a line of a list."""
    return workflow_service_pb2.WorkflowSummary(
        name=found.workflow,
        version=found.version,
        digest=found.digest,
        step_count=found.step_count,
        create_time=timestamp(found.created_at),
    )


def _step_definition(step: StepDefinition) -> workflow_service_pb2.StepDefinition:
    retry = None
    if step.retry is not None:
        retry = workflow_service_pb2.RetryPolicy(
            max_attempts=step.retry.max_attempts,
            initial_backoff=duration(step.retry.initial_ms),
            max_backoff=duration(step.retry.max_ms),
            multiplier=step.retry.multiplier,
            jitter=step.retry.jitter,
        )
    return workflow_service_pb2.StepDefinition(
        step_ref=step.ref,
        kind=_STEP_KIND[step.kind],
        transitions=[
            workflow_service_pb2.Transition(event=event, targets=targets)
            for event, targets in step.on.items()
        ],
        retry=retry,
        attempt_timeout=duration(step.attempt_timeout_ms),
        join=_JOIN[step.join or Join.AUTO],
        events=sorted(step.events),
        wait_timeout=duration(step.timeout_ms),
        sleep=duration(step.sleep_ms),
    )
