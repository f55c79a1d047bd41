"""Rejections of commands: one class for each reason, with the fields that the error for the caller needs.

`decide` returns a rejection, and the command processor raises it. The table in ``perdure_server.api.errors`` maps each
to a status and a reason. The classes are not frozen, since the traceback of an exception must be settable.
"""

from __future__ import annotations

from dataclasses import dataclass


class Rejection(Exception):
    """The command was rejected. Nothing was changed."""


@dataclass(unsafe_hash=True)
class WorkflowNotFound(Rejection):
    """``known`` are the registered names. ``versions`` are those of this workflow if only the version is missing."""

    workflow: str
    version: int = 0
    known: tuple[str, ...] = ()
    versions: tuple[int, ...] = ()


@dataclass(unsafe_hash=True)
class DefinitionReplaced(Rejection):
    """The graph that the instance ran on is no longer stored: another one took its version while it was not live."""

    instance_id: str
    workflow: str
    version: int


@dataclass(unsafe_hash=True)
class InstanceNotFound(Rejection):
    instance_id: str


@dataclass(unsafe_hash=True)
class StepNotFound(Rejection):
    instance_id: str
    step_ref: str
    known: tuple[str, ...]


@dataclass(unsafe_hash=True)
class TimerNotFound(Rejection):
    reference: str


@dataclass(unsafe_hash=True)
class InstanceAlreadyExists(Rejection):
    instance_id: str


@dataclass(unsafe_hash=True)
class BusinessKeyInUse(Rejection):
    workflow: str
    business_key: str
    instance_id: str
    retried: str = ""
    """The FAILED instance that would take the key again. Empty for a start."""


@dataclass(unsafe_hash=True)
class RequestIdReused(Rejection):
    request_id: str


@dataclass(unsafe_hash=True)
class InstanceEnded(Rejection):
    instance_id: str
    status: str


@dataclass(unsafe_hash=True)
class InstanceNotFailed(Rejection):
    instance_id: str
    status: str


@dataclass(unsafe_hash=True)
class EventNotAwaited(Rejection):
    """No step waits for the event now. The steps of ``step_refs`` can later."""

    instance_id: str
    event: str
    step_refs: tuple[str, ...]


@dataclass(unsafe_hash=True)
class EventNeverAccepted(Rejection):
    """No step that can still be reached accepts the event. ``accepted`` names the events that are accepted."""

    instance_id: str
    event: str
    accepted: tuple[str, ...]


@dataclass(unsafe_hash=True)
class StepNeverAccepts(Rejection):
    """The named step never takes the event from outside. ``accepted`` are the events that it does take, ``step_refs``
    the steps that take this one, now or later.
    """

    instance_id: str
    step_ref: str
    event: str
    accepted: tuple[str, ...]
    step_refs: tuple[str, ...]


@dataclass(unsafe_hash=True)
class AmbiguousEvent(Rejection):
    """Several steps wait for the event. The call must choose one with ``step_ref``."""

    instance_id: str
    event: str
    step_refs: tuple[str, ...]


@dataclass(unsafe_hash=True)
class StepAlreadyFinished(Rejection):
    """The step has ended or was skipped. If the call had an event, ``step_refs`` are the steps that still accept it."""

    instance_id: str
    step_ref: str
    skipped: bool = False
    event: str = ""
    step_refs: tuple[str, ...] = ()


@dataclass(unsafe_hash=True)
class StepUnreachable(Rejection):
    """The step will never start. If the call had an event, ``step_refs`` are the steps that still accept it."""

    instance_id: str
    step_ref: str
    event: str = ""
    step_refs: tuple[str, ...] = ()


@dataclass(unsafe_hash=True)
class StepHasNoTimeout(Rejection):
    instance_id: str
    step_ref: str


@dataclass(unsafe_hash=True)
class TimerNotCancellable(Rejection):
    reference: str
    kind: str


@dataclass(unsafe_hash=True)
class TimerNotDue(Rejection):
    """The store's clock has not reached the timer's time."""

    reference: str
    due_at: int


@dataclass(unsafe_hash=True)
class AttemptStale(Rejection):
    """The step no longer runs this attempt. Its result does not count."""

    instance_id: str
    step_ref: str
    attempt: int


@dataclass(unsafe_hash=True)
class PayloadTooLarge(Rejection):
    """``field`` names the payload of the call. With it, the payloads would have ``size_bytes``."""

    field: str
    size_bytes: int
    size_bytes_max: int


@dataclass(unsafe_hash=True)
class TooManyTimers(Rejection):
    """The instance has the maximum number of pending ScheduleResume timers."""

    instance_id: str
    timers_max: int


@dataclass(unsafe_hash=True)
class InboxFull(Rejection):
    instance_id: str
    events_max: int
