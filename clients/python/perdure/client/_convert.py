"""The API's messages as the values of ``perdure.client.types`` and ``facts``.

One walk over a message's fields serves every class: a value class has the fields of its message, by the same names
(a test holds the two together). Only a workflow's graph, which has a class of its own in the SDK, is built by hand.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from datetime import UTC, timedelta
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from perdure.client import facts, types
from perdure.errors import PerdureError
from perdure.model import payloads
from perdure.model.graph import Join, RetryDefinition, StepDefinition, StepKind, WorkflowGraph
from perdure.model.graph import graph as graph_from
from perdure.v1 import common_pb2, history_pb2, workflow_service_pb2

T = TypeVar("T")
E = TypeVar("E", bound=enum.Enum)

VALUE_CLASSES: Final[Mapping[str, type]] = {
    cls.__name__: cls
    for cls in (
        types.ActiveStep,
        types.Instance,
        types.InstanceFailure,
        types.InstanceSummary,
        types.StepResult,
        types.Timer,
        types.WatchEnd,
        types.WorkflowSummary,
        facts.BufferedEvent,
        facts.PayloadInfo,
        facts.StepFailure,
        *(fact for fact in facts.Fact.__args__ if fact is not facts.UnknownFact),
    )
}
"""The class of each message that has one, by the message's name."""

ENUM_CLASSES: Final[Mapping[str, type[enum.StrEnum]]] = {
    "InstanceState": types.InstanceState,
    "StepState": types.StepState,
    "TimerKind": facts.TimerKind,
    "WatchEndReason": types.WatchEndReason,
    "StepKind": StepKind,
}
"""The class of each enum, by the enum's name."""


def value_of(message: Message, cls: type[T]) -> T:
    """Return a message as its value class."""
    return cls(**{name: convert(message) for name, convert in _fields_of(message, cls)})


def entry_of(message: history_pb2.HistoryEntry) -> facts.HistoryEntry:
    """Return one line of a history; an unknown fact is an `UnknownFact`."""
    kind = message.WhichOneof("fact") or ""
    fact: facts.Fact = facts.UnknownFact()
    if kind:
        body = getattr(message, kind)
        fact = value_of(body, VALUE_CLASSES[body.DESCRIPTOR.name])
    return facts.HistoryEntry(
        revision=message.revision,
        time=_datetime(message.time),
        kind=kind,
        fact=fact,
        request_id=message.request_id,
    )


def enum_of(descriptor: EnumDescriptor, number: int, cls: type[E]) -> E | None:
    """Return an enum's value; UNKNOWN, or None where the class has no such member, for one that is new."""
    found = descriptor.values_by_number.get(number)
    name = found.name.removeprefix(_prefix(descriptor)) if found is not None else "UNKNOWN"
    members = cls.__members__
    return members.get(name) or members.get("UNKNOWN")


def number_of(descriptor: EnumDescriptor, member: enum.Enum) -> int:
    """Return the API's number for an enum's value."""
    return descriptor.values_by_name[_prefix(descriptor) + member.name].number


def workflow_of(message: workflow_service_pb2.Workflow) -> types.WorkflowVersion:
    """Return a workflow with its graph. Raises `PerdureError` for a graph that only a newer version understands."""
    return types.WorkflowVersion(
        name=message.name,
        version=message.version,
        digest=message.digest,
        graph=_graph(message),
        create_time=_datetime(message.create_time) if message.HasField("create_time") else None,
    )


# --- the walk ----------------------------------------------------------------------------------------------------

_Converter = Callable[[Any], Any]
_converters: Final[dict[type, tuple[tuple[str, _Converter], ...]]] = {}


def _fields_of(message: Message, cls: type) -> tuple[tuple[str, _Converter], ...]:
    found = _converters.get(cls)
    if found is None:
        # Two threads may both build it; they build the same.
        found = tuple(
            (field.name, _reader(field)) for field in message.DESCRIPTOR.fields if field.name in _names(cls)
        )
        _converters[cls] = found
    return found


def _names(cls: type) -> frozenset[str]:
    return frozenset(getattr(cls, "__dataclass_fields__", ()))


def _reader(field: Any) -> _Converter:
    name = field.name
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        convert = _converter(field.message_type.fields_by_name["value"])
        return lambda message: {key: convert(value) for key, value in getattr(message, name).items()}
    convert = _converter(field)
    if field.is_repeated:
        return lambda message: tuple(map(convert, getattr(message, name)))
    if field.message_type is not None:
        return lambda message: convert(getattr(message, name)) if message.HasField(name) else None
    return lambda message: convert(getattr(message, name))


def _converter(field: Any) -> _Converter:
    if field.enum_type is not None:
        descriptor, members = field.enum_type, ENUM_CLASSES[field.enum_type.name]
        return lambda number: enum_of(descriptor, number, members)
    if field.message_type is None:
        return _unchanged
    match field.message_type.full_name:
        case "google.protobuf.Timestamp":
            return _datetime
        case "google.protobuf.Duration":
            return _timedelta
        case "perdure.v1.Payload":
            return payload_of
        case _:
            cls = VALUE_CLASSES[field.message_type.name]
            return lambda message: value_of(message, cls)


def payload_of(message: common_pb2.Payload) -> Any:
    """Return a payload's value; None for one without a body."""
    return payloads.decode(message.json) if message.WhichOneof("body") == "json" else None


def _unchanged(value: Any) -> Any:
    return value


def _datetime(message: Timestamp) -> Any:
    return message.ToDatetime(tzinfo=UTC)


def _timedelta(message: Duration) -> timedelta:
    return message.ToTimedelta()


def _prefix(descriptor: EnumDescriptor) -> str:
    # Every value of an enum begins with the enum's name, and number 0 is X_UNSPECIFIED (buf's rule).
    return descriptor.values_by_number[0].name.removesuffix("UNSPECIFIED")


# --- a workflow's graph ------------------------------------------------------------------------------------------


def _graph(message: workflow_service_pb2.Workflow) -> WorkflowGraph:
    return graph_from(message.name, message.version, message.start, map(_step, message.steps))


def _step(message: workflow_service_pb2.StepDefinition) -> StepDefinition:
    kind = enum_of(common_pb2.StepKind.DESCRIPTOR, message.kind, StepKind)
    if kind is None:
        raise PerdureError(f"step {message.step_ref} is of a kind that this version of perdure does not know")
    return StepDefinition(
        ref=message.step_ref,
        kind=kind,
        on={arrow.event: tuple(arrow.targets) for arrow in message.transitions},
        events=frozenset(message.events),
        join=enum_of(workflow_service_pb2.JoinRule.DESCRIPTOR, message.join, Join),
        retry=_retry(message.retry) if message.HasField("retry") else None,
        attempt_timeout_ms=_duration_ms(message, "attempt_timeout"),
        timeout_ms=_duration_ms(message, "wait_timeout"),
        sleep_ms=_duration_ms(message, "sleep"),
    )


def _retry(message: workflow_service_pb2.RetryPolicy) -> RetryDefinition:
    return RetryDefinition(
        max_attempts=message.max_attempts,
        initial_ms=message.initial_backoff.ToMilliseconds(),
        max_ms=message.max_backoff.ToMilliseconds(),
        multiplier=message.multiplier,
        jitter=message.jitter,
    )


def _duration_ms(message: workflow_service_pb2.StepDefinition, name: str) -> int | None:
    return getattr(message, name).ToMilliseconds() if message.HasField(name) else None  # type: ignore[arg-type]
