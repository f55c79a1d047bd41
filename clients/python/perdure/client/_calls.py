"""Every RPC as a value: which method, which message, what its answer becomes. Neither client knows a message.

The asyncio and the blocking client differ in how they send a `Call`; what a call is, they share. Request ids are
given here, so that no mutating call leaves without one. No I/O.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from typing import Any, Final, Generic, TypeVar

from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from perdure.client import _convert, facts, types
from perdure.client._arguments import field_violation, invalid, is_labels, labels_violations
from perdure.errors import FieldViolation, InvalidFieldError, PerdureError
from perdure.model import payloads
from perdure.model.issues import show
from perdure.runner import (
    ConflictPolicy,
    Disposition,
    Resumed,
    ScheduledResume,
    StartedInstance,
    delay_ms_of,
)
from perdure.v1 import (
    common_pb2,
    instance_service_pb2,
    runner_service_pb2,
    server_service_pb2,
    timer_service_pb2,
    workflow_service_pb2,
)

A = TypeVar("A")

PAGE_SIZE: Final = 100
"""How many items a list asks for at a time, unless told otherwise."""

BACKUP_SECONDS: Final = 3_600.0
"""Default timeout of `backup_database`, in seconds. Its duration depends on the size of the database."""


@dataclass(frozen=True, slots=True)
class Method:
    """An RPC's path and the message that answers it."""

    path: str
    response: type[Message]

    @property
    def name(self) -> str:
        """The method's short name, for messages to people."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Call(Generic[A]):
    """One call: ``answer`` turns the response into what the caller gets."""

    method: Method
    request: Message
    answer: Callable[[Any], A]
    request_id: str = ""


def _method(service: str, name: str, response: type[Message]) -> Method:
    return Method(f"/perdure.v1.{service}/{name}", response)


_START = _method("RunnerService", "StartInstance", runner_service_pb2.StartInstanceResponse)
_RESUME = _method("RunnerService", "Resume", runner_service_pb2.ResumeResponse)
_SCHEDULE = _method("RunnerService", "ScheduleResume", runner_service_pb2.ScheduleResumeResponse)
_GET = _method("InstanceService", "GetInstance", instance_service_pb2.GetInstanceResponse)
_LIST = _method("InstanceService", "ListInstances", instance_service_pb2.ListInstancesResponse)
_HISTORY = _method("InstanceService", "ListHistory", instance_service_pb2.ListHistoryResponse)
_CANCEL = _method("InstanceService", "CancelInstance", instance_service_pb2.CancelInstanceResponse)
_RETRY = _method("InstanceService", "RetryInstance", instance_service_pb2.RetryInstanceResponse)
_GET_TIMER = _method("TimerService", "GetTimer", timer_service_pb2.GetTimerResponse)
_LIST_TIMERS = _method("TimerService", "ListTimers", timer_service_pb2.ListTimersResponse)
_CANCEL_TIMER = _method("TimerService", "CancelTimer", timer_service_pb2.CancelTimerResponse)
_FIRE_TIMER = _method("TimerService", "FireTimer", timer_service_pb2.FireTimerResponse)
_GET_WORKFLOW = _method("WorkflowService", "GetWorkflow", workflow_service_pb2.GetWorkflowResponse)
_LIST_WORKFLOWS = _method("WorkflowService", "ListWorkflows", workflow_service_pb2.ListWorkflowsResponse)
_BACKUP = _method("ServerService", "BackupDatabase", server_service_pb2.BackupDatabaseResponse)
WATCH = _method("InstanceService", "WatchInstance", instance_service_pb2.WatchInstanceResponse)
# grpc.health.v1's messages, {string service = 1} and {enum status = 1}, have the bytes of these two: the SDK needs no
# package for them.
_HEALTH = Method("/grpc.health.v1.Health/Check", Int32Value)
METHODS: Final = tuple(
    value for value in list(globals().values()) if isinstance(value, Method) and value is not _HEALTH
)


# --- the three verbs ---------------------------------------------------------------------------------------------


def start_instance(
    workflow: str,
    context: Mapping[str, Any] | payloads.RawJson | None,
    *,
    instance_id: str,
    version: int,
    business_key: str,
    conflict_policy: ConflictPolicy,
    start_delay: timedelta | str | None,
    labels: Mapping[str, str] | None,
    request_id: str,
) -> Call[StartedInstance]:
    request_id = request_id or new_request_id()
    request = _built(
        runner_service_pb2.StartInstanceRequest,
        required=("workflow",),
        workflow=workflow,
        context=common_pb2.Payload(json=payloads.encode_object(context, field="context")),
        opts=_built(
            runner_service_pb2.StartOptions,
            path="opts.",
            request_id=request_id,
            instance_id=instance_id,
            version=version,
            business_key=business_key,
            conflict_policy=_policy_number(conflict_policy),
            start_delay_ms=delay_ms_of(start_delay),
            labels=labels,
        ),
    )
    return Call(_START, request, _started, request_id)


def resume(
    instance_id: str, event: str, payload: Any, *, step_ref: str, buffer: bool, request_id: str
) -> Call[Resumed]:
    request_id = request_id or new_request_id()
    body = None if payload is None else common_pb2.Payload(json=payloads.encode(payload, field="payload"))
    opts = _built(
        runner_service_pb2.ResumeOptions,
        path="opts.",
        request_id=request_id,
        payload=body,
        step_ref=step_ref,
        buffer=buffer,
    )
    request = _built(
        runner_service_pb2.ResumeRequest,
        required=("instance_id", "event"),
        instance_id=instance_id,
        event=event,
        opts=opts,
    )
    return Call(_RESUME, request, _resumed, request_id)


def schedule_resume(
    instance_id: str, step_ref: str, delay_ms: int, *, request_id: str
) -> Call[ScheduledResume]:
    request_id = request_id or new_request_id()
    opts = _built(runner_service_pb2.ScheduleOptions, path="opts.", request_id=request_id)
    given: object = delay_ms
    if isinstance(given, str | timedelta):  # as `start_delay` takes them
        raise invalid("delay_ms", f"must be a whole number of milliseconds, not {given!r}")
    request = _built(
        runner_service_pb2.ScheduleResumeRequest,
        required=("instance_id", "step_ref", "delay_ms"),
        instance_id=instance_id,
        step_ref=step_ref,
        delay_ms=delay_ms,
        opts=opts,
    )
    return Call(_SCHEDULE, request, _scheduled, request_id)


def _started(response: runner_service_pb2.StartInstanceResponse) -> StartedInstance:
    return StartedInstance(response.instance_id, response.created, response.version, response.revision)


def _resumed(response: runner_service_pb2.ResumeResponse) -> Resumed:
    descriptor = runner_service_pb2.Disposition.DESCRIPTOR
    disposition = _convert.enum_of(descriptor, response.disposition, Disposition) or Disposition.UNKNOWN
    return Resumed(disposition, response.step_ref, response.revision)


def _scheduled(response: runner_service_pb2.ScheduleResumeResponse) -> ScheduledResume:
    return ScheduledResume(response.reference, response.due_time.ToDatetime(tzinfo=UTC), response.revision)


# --- instances ---------------------------------------------------------------------------------------------------


def get_instance(instance_id: str, *, raw_json: bool) -> Call[types.Instance]:
    request = _built(
        instance_service_pb2.GetInstanceRequest, required=("instance_id",), instance_id=instance_id
    )
    read = _instance_with_texts if raw_json else _instance
    return Call(_GET, request, lambda response: read(response.instance))


def list_instances(
    *,
    states: Collection[types.InstanceState | str],
    workflow: str,
    version: int,
    labels: Mapping[str, str] | None,
    business_key: str,
    unconsumed_events: bool,
    page_size: int,
    page_token: str,
) -> Call[types.Page[types.InstanceSummary]]:
    request = _built(
        instance_service_pb2.ListInstancesRequest,
        page_size=page_size,
        page_token=page_token,
        states=[_state_number(state) for state in states or ()],
        workflow=workflow,
        version=version,
        labels=labels,
        business_key=business_key,
        unconsumed_events=unconsumed_events,
    )
    return Call(
        _LIST, request, _page("instances", lambda item: _convert.value_of(item, types.InstanceSummary))
    )


def list_history(
    instance_id: str, *, after_revision: int, page_size: int, page_token: str
) -> Call[types.Page[facts.HistoryEntry]]:
    request = _built(
        instance_service_pb2.ListHistoryRequest,
        required=("instance_id",),
        instance_id=instance_id,
        after_revision=after_revision,
        page_size=page_size,
        page_token=page_token,
    )
    return Call(_HISTORY, request, _page("entries", _convert.entry_of))


def cancel_instance(instance_id: str, *, reason: str, request_id: str) -> Call[types.CancelledInstance]:
    request_id = request_id or new_request_id()
    opts = _built(
        instance_service_pb2.CancelInstanceOptions, path="opts.", request_id=request_id, reason=reason
    )
    request = _built(
        instance_service_pb2.CancelInstanceRequest,
        required=("instance_id",),
        instance_id=instance_id,
        opts=opts,
    )
    return Call(_CANCEL, request, lambda response: types.CancelledInstance(response.revision), request_id)


def retry_instance(instance_id: str, *, request_id: str) -> Call[types.RetriedInstance]:
    request_id = request_id or new_request_id()
    opts = _built(instance_service_pb2.RetryInstanceOptions, path="opts.", request_id=request_id)
    request = _built(
        instance_service_pb2.RetryInstanceRequest,
        required=("instance_id",),
        instance_id=instance_id,
        opts=opts,
    )
    return Call(_RETRY, request, lambda response: types.RetriedInstance(response.revision), request_id)


# --- timers ------------------------------------------------------------------------------------------------------


def get_timer(reference: str) -> Call[types.Timer]:
    request = _built(timer_service_pb2.GetTimerRequest, required=("reference",), reference=reference)
    return Call(_GET_TIMER, request, lambda response: _convert.value_of(response.timer, types.Timer))


def list_timers(instance_id: str, *, page_size: int, page_token: str) -> Call[types.Page[types.Timer]]:
    request = _built(
        timer_service_pb2.ListTimersRequest,
        required=("instance_id",),
        instance_id=instance_id,
        page_size=page_size,
        page_token=page_token,
    )
    return Call(_LIST_TIMERS, request, _page("timers", lambda item: _convert.value_of(item, types.Timer)))


def cancel_timer(reference: str, *, request_id: str) -> Call[types.CancelledTimer]:
    request_id = request_id or new_request_id()
    opts = _built(timer_service_pb2.CancelTimerOptions, path="opts.", request_id=request_id)
    request = _built(
        timer_service_pb2.CancelTimerRequest, required=("reference",), reference=reference, opts=opts
    )
    return Call(_CANCEL_TIMER, request, lambda response: types.CancelledTimer(response.revision), request_id)


def fire_timer(reference: str, *, request_id: str) -> Call[types.FiredTimer]:
    request_id = request_id or new_request_id()
    opts = _built(timer_service_pb2.FireTimerOptions, path="opts.", request_id=request_id)
    request = _built(
        timer_service_pb2.FireTimerRequest, required=("reference",), reference=reference, opts=opts
    )
    return Call(
        _FIRE_TIMER, request, lambda response: types.FiredTimer(response.revision, response.used), request_id
    )


# --- workflows, server -------------------------------------------------------------------------------------------


def get_workflow(workflow: str, *, version: int) -> Call[types.WorkflowVersion]:
    request = _built(
        workflow_service_pb2.GetWorkflowRequest, required=("workflow",), workflow=workflow, version=version
    )
    return Call(_GET_WORKFLOW, request, lambda response: _convert.workflow_of(response.workflow))


def list_workflows(*, page_size: int, page_token: str) -> Call[types.Page[types.WorkflowSummary]]:
    request = _built(workflow_service_pb2.ListWorkflowsRequest, page_size=page_size, page_token=page_token)
    return Call(
        _LIST_WORKFLOWS,
        request,
        _page("workflows", lambda item: _convert.value_of(item, types.WorkflowSummary)),
    )


def backup_database(file_name: str) -> Call[types.Backup]:
    request = _built(server_service_pb2.BackupDatabaseRequest, required=("file_name",), file_name=file_name)
    return Call(_BACKUP, request, lambda response: _convert.value_of(response, types.Backup))


_HEALTH_BY_NUMBER: Final = {
    1: types.Health.SERVING,
    2: types.Health.NOT_SERVING,
    3: types.Health.SERVICE_UNKNOWN,
}


def check_health(service: str) -> Call[types.Health]:
    request = _built(StringValue, value=service)
    return Call(
        _HEALTH, request, lambda response: _HEALTH_BY_NUMBER.get(response.value, types.Health.UNKNOWN)
    )


# --- watching ----------------------------------------------------------------------------------------------------


class Watching:
    """Where one watch stands, across all its connections."""

    __slots__ = ("_after", "_read", "ended", "instance_id")

    def __init__(self, instance_id: str, after_revision: int | None, *, raw_json: bool = False) -> None:
        self.instance_id = instance_id
        self._read = _instance_with_texts if raw_json else _instance
        self._after = after_revision
        self.ended = False
        self.request()  # raises for what no request can hold

    def request(self) -> Message:
        """Return what to send to go on from here: at first without a revision, if none was given."""
        return _built(
            instance_service_pb2.WatchInstanceRequest,
            required=("instance_id",),
            instance_id=self.instance_id,
            after_revision=self._after,
        )

    def take(self, response: instance_service_pb2.WatchInstanceResponse) -> types.WatchEvent | None:
        """Return what the caller gets to see of a message, if anything. Raises `PerdureError` at a gap."""
        match response.WhichOneof("event"):
            case "snapshot":
                self._after = response.snapshot.revision
                return types.Snapshot(instance=self._read(response.snapshot))
            case "entry":
                entry = _convert.entry_of(response.entry)
                if self._after is not None and entry.revision != self._after + 1:
                    # The server promises better; told aloud, because who folds the entries would be wrong from here.
                    raise PerdureError(
                        f"the watch of {self.instance_id} gave revision {entry.revision} after {self._after}"
                    )
                self._after = entry.revision
                return entry
            case "end":
                end = _convert.value_of(response.end, types.WatchEnd)
                self.ended = end.reason is not types.WatchEndReason.SERVER_DRAINING
                return end if self.ended else None
            case _:  # a heartbeat, or something new
                return None


# --- building ----------------------------------------------------------------------------------------------------

M = TypeVar("M", bound=Message)


def serialize(message: Message) -> bytes:
    """Return a message's bytes: what both kinds of channel ask for."""
    return message.SerializeToString()


def new_request_id() -> str:
    """Return an id that no other call has."""
    return uuid.uuid4().hex


def _built(message: type[M], *, path: str = "", required: Collection[str] = (), **fields: Any) -> M:
    """Fill a message. None means absent, except in ``required`` fields.

    Raises `InvalidFieldError` with every value that the message cannot hold, each under ``path``.
    """
    violations: list[FieldViolation] = []
    by_name = message.DESCRIPTOR.fields_by_name
    for name, value in fields.items():
        field: Any = by_name[name]
        if is_labels(message, name):
            violations += labels_violations(f"{path}{name}", value)
        elif value is not None or name in required:
            violation = field_violation(field, value, f"{path}{name}")
            violations += [violation] if violation is not None else []
    if violations:
        raise InvalidFieldError("; ".join(map(str, violations)), violations=violations)
    return message(**fields)


def _policy_number(policy: str) -> int:
    try:
        member = ConflictPolicy(policy)
    except ValueError:
        known = ", ".join(repr(known.value) for known in ConflictPolicy)
        raise invalid("opts.conflict_policy", f"must be one of {known}, not {show(policy)}") from None
    return _convert.number_of(runner_service_pb2.ConflictPolicy.DESCRIPTOR, member)


def _state_number(state: types.InstanceState | str) -> int:
    try:
        member = types.InstanceState(str(state).upper())
        return _convert.number_of(instance_service_pb2.InstanceState.DESCRIPTOR, member)
    except (KeyError, ValueError):
        known = ", ".join(s.value for s in types.InstanceState if s is not types.InstanceState.UNKNOWN)
        raise invalid("states", f"{show(state)} is not a state; the states are {known}") from None


def _instance(message: instance_service_pb2.Instance) -> types.Instance:
    return _convert.value_of(message, types.Instance)


def _instance_with_texts(message: instance_service_pb2.Instance) -> types.Instance:
    context = payloads.RawJson(message.input.json)
    outputs = {ref: payloads.RawJson(output.json) for ref, output in message.outputs.items()}
    # Taken out before the walk, which would read them: not every sound text is a value that Python takes.
    message.ClearField("input")
    message.ClearField("outputs")
    return replace(_instance(message), input=context, outputs=outputs)


def _page(field: str, convert: Callable[[Any], A]) -> Callable[[Any], types.Page[A]]:
    return lambda response: types.Page(
        tuple(map(convert, getattr(response, field))), response.next_page_token
    )
