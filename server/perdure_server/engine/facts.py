"""The facts of an instance's history, and nothing else.

A fact says what happened, in the past tense, with everything that `evolve` needs to apply it. Folding facts never
reads a definition and never decides again. Facts are stored indefinitely. A field is never renamed, retyped or removed.
A new field has a default with the meaning that its absence had, and raises `FACT_FORMAT`. A new meaning is a new fact.

Times are integer milliseconds since the Unix epoch, by the store's clock. A timer is named by the revision of the
`TimerArmed` entry; ``<instance_id>.<revision>`` is its public reference.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, Final

from perdure.model.graph import StepKind
from perdure_server.engine.value_type import value


class TimerKind(enum.StrEnum):
    """Effect of a timer when it fires: start the instance, end a wait, end a sleep, or retry an attempt."""

    START = "start"
    TIMEOUT = "timeout"
    SLEEP = "sleep"
    RETRY = "retry"


@value(frozen=True, slots=True)
class PayloadInfo:
    """A stored payload without its body: bytes of its UTF-8 JSON text, and BLAKE2b-128 of them in hexadecimal."""

    size_bytes: int
    digest: str


@value(frozen=True, slots=True)
class Failure:
    """The failure of a step. ``attempts`` is the number of failed attempts."""

    type: str
    message: str
    attempts: int = 0


@value(frozen=True, slots=True)
class Unconsumed:
    """An accepted event that no step took before the instance ended. ``revision`` is that of its `EventBuffered`."""

    revision: int
    event: str


@value(frozen=True, slots=True, kw_only=True)
class InstanceStarted:
    workflow: str
    version: int
    definition_digest: str
    start_step: str
    input: PayloadInfo
    business_key: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    start_delay_ms: int = 0


@value(frozen=True, slots=True, kw_only=True)
class StepStarted:
    """A step started. A `WAIT` step now waits, a `SLEEP` step sleeps, and a `TASK` is queued."""

    step_ref: str
    kind: StepKind
    events: tuple[str, ...] = ()


@value(frozen=True, slots=True, kw_only=True)
class AttemptStarted:
    """An executor of ``owner`` took the task. The attempt's number is the fence for its result."""

    step_ref: str
    attempt: int
    owner: str


@value(frozen=True, slots=True, kw_only=True)
class AttemptFailed:
    """An attempt failed. With ``retrying``, a retry timer follows. Otherwise the step or the instance ends."""

    step_ref: str
    attempt: int
    failure: Failure
    retrying: bool


@value(frozen=True, slots=True, kw_only=True)
class AttemptReleased:
    """An attempt was returned, or taken from an owner that is gone. It does not count as a failure.

    ``lost``: its process stopped uncleanly while it ran. ``alone``: no other attempt ran in that process.
    """

    step_ref: str
    attempt: int
    reason: str
    lost: bool = False
    alone: bool = False


@value(frozen=True, slots=True, kw_only=True)
class StepSuspended:
    """A task returned SUSPEND and waits for ``events`` from outside."""

    step_ref: str
    attempt: int
    events: tuple[str, ...]


@value(frozen=True, slots=True, kw_only=True)
class StepFinished:
    """A step ended with ``event``, whose transition leads to ``targets``.

    ``output`` is None for the empty object. If the step took a buffered event, ``buffered_revision`` names its
    `EventBuffered` entry, which has the body. Otherwise the body belongs to this entry.
    """

    step_ref: str
    event: str
    targets: tuple[str, ...]
    output: PayloadInfo | None = None
    buffered_revision: int = 0
    failure: Failure | None = None


@value(frozen=True, slots=True, kw_only=True)
class StepSkipped:
    """A `join="all"` step can no longer get every arrival. The arrivals that it got end here."""

    step_ref: str


@value(frozen=True, slots=True, kw_only=True)
class EventBuffered:
    """An event was accepted before a step waits for it. An empty ``step_ref`` leaves it to the first one that waits."""

    event: str
    step_ref: str = ""
    payload: PayloadInfo | None = None


@value(frozen=True, slots=True, kw_only=True)
class TimerArmed:
    """At ``due_at``, do ``kind`` to the step. ``client_requested``: a client asked for it by ScheduleResume."""

    kind: TimerKind
    step_ref: str
    due_at: int
    delay_ms: int
    client_requested: bool = False


@value(frozen=True, slots=True, kw_only=True)
class TimerFired:
    """The timer of entry ``timer`` acted (``used``) or found its step finished or not started.

    Either way it is gone.
    """

    timer: int
    kind: TimerKind
    step_ref: str
    used: bool = True
    forced: bool = False


@value(frozen=True, slots=True, kw_only=True)
class TimerCancelled:
    """A client cancelled the timer of entry ``timer``."""

    timer: int
    step_ref: str


@value(frozen=True, slots=True, kw_only=True)
class InstanceCompleted:
    unconsumed: tuple[Unconsumed, ...] = ()


@value(frozen=True, slots=True, kw_only=True)
class InstanceFailed:
    """``step_ref`` failed without an `error` transition.

    All timers are cancelled, and the other active steps are interrupted. ``kept_timers`` names the timers of
    ScheduleResume on all other steps. RetryInstance arms them again, and every timer of an interrupted step.
    """

    step_ref: str
    failure: Failure
    interrupted: tuple[str, ...] = ()
    kept_timers: tuple[int, ...] = ()


@value(frozen=True, slots=True, kw_only=True)
class InstanceCancelled:
    reason: str = ""
    unconsumed: tuple[Unconsumed, ...] = ()


@value(frozen=True, slots=True, kw_only=True)
class InstanceRetried:
    """The failed and the interrupted steps are active again. Their timers are armed again after this entry."""


Fact = (
    InstanceStarted
    | StepStarted
    | AttemptStarted
    | AttemptFailed
    | AttemptReleased
    | StepSuspended
    | StepFinished
    | StepSkipped
    | EventBuffered
    | TimerArmed
    | TimerFired
    | TimerCancelled
    | InstanceCompleted
    | InstanceFailed
    | InstanceCancelled
    | InstanceRetried
)


@value(frozen=True, slots=True)
class Entry:
    """One line of a history: the fact, its revision, when (``at``), and the request that caused it, if any."""

    revision: int
    at: int
    fact: Fact
    request_id: str = ""


KIND_OF: Final[Mapping[type[Fact], str]] = {
    InstanceStarted: "instance_started",
    StepStarted: "step_started",
    AttemptStarted: "attempt_started",
    AttemptFailed: "attempt_failed",
    AttemptReleased: "attempt_released",
    StepSuspended: "step_suspended",
    StepFinished: "step_finished",
    StepSkipped: "step_skipped",
    EventBuffered: "event_buffered",
    TimerArmed: "timer_armed",
    TimerFired: "timer_fired",
    TimerCancelled: "timer_cancelled",
    InstanceCompleted: "instance_completed",
    InstanceFailed: "instance_failed",
    InstanceCancelled: "instance_cancelled",
    InstanceRetried: "instance_retried",
}
"""The name of each fact in storage and in the API. Never changed, only added to."""

FACT_FORMAT: Final = 1
"""Newest format of stored facts that this version knows. A stored fact of a later format says so under `FORMAT_KEY`."""

FORMAT_KEY: Final = "v"
"""Name of the format in a stored fact. A fact without it has format 1, so no fact has a field of this name."""

_TYPE_OF: Final = {kind: cls for cls, kind in KIND_OF.items()}
_FIELDS_OF: Final = {kind: frozenset(f.name for f in fields(cls)) for kind, cls in _TYPE_OF.items()}
_PART_FIELDS: Final = {
    cls: frozenset(f.name for f in fields(cls)) for cls in (PayloadInfo, Failure, Unconsumed)
}


class UnknownFieldError(ValueError):
    """A stored fact has a field that its format does not have. ``name`` is its name, such as ``failure.reason``."""

    def __init__(self, name: str) -> None:
        super().__init__(f"unknown field {name!r}")
        self.name = name


def fact_format(body: Mapping[str, Any]) -> int:
    """Return the format of a stored fact. Raises ``ValueError`` if it is not a positive number."""
    found = body.get(FORMAT_KEY, 1)
    if type(found) is not int or found < 1:
        raise ValueError("the format of a fact is a positive number")
    return found


def fact_from_json(kind: str, body: Mapping[str, Any]) -> Fact:
    """Rebuild a fact from its stored kind and fields.

    A fact of a newer format can have fields that this version does not know. They are ignored.

    Raises:
        KeyError: This version does not know the kind. A newer version wrote it.
        UnknownFieldError: The fact has an unknown field and its format is not newer.
        TypeError, ValueError: A field is missing or has an unusable value.
    """
    known = _FIELDS_OF[kind]
    newer = FORMAT_KEY in body and fact_format(body) > FACT_FORMAT
    if not body.keys() <= known:
        if not newer:
            for name in body.keys() - known - {FORMAT_KEY}:
                raise UnknownFieldError(name)
        body = {name: value for name, value in body.items() if name in known}
    return _TYPE_OF[kind](**{name: _value(kind, name, value, newer) for name, value in body.items()})


def _value(kind: str, name: str, value: Any, newer: bool) -> Any:
    if value is None:
        return None
    match name:
        case "input" | "output" | "payload":
            return _part(PayloadInfo, name, value, newer)
        case "failure":
            return _part(Failure, name, value, newer)
        case "unconsumed":
            return tuple(_part(Unconsumed, name, item, newer) for item in value)
        case "kind":
            return StepKind(value) if kind == "step_started" else TimerKind(value)
        case _:
            return tuple(value) if isinstance(value, list) else value


def _part(
    cls: type[PayloadInfo | Failure | Unconsumed], field_name: str, value: Mapping[str, Any], newer: bool
) -> Any:
    known = _PART_FIELDS[cls]
    if not newer:
        for name in value.keys() - known:
            raise UnknownFieldError(f"{field_name}.{name}")
    return cls(**{name: item for name, item in value.items() if name in known})
