"""The facts of an instance's history, and nothing else.

A fact says what happened, in the past tense, with everything that `evolve` needs to apply it: folding facts never
asks a definition and never decides again. Facts are stored for ever. A new field therefore has a default that
means what its absence meant; a field is never renamed, retyped or removed; a new meaning is a new fact.

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
    """What a timer does when it fires: begin the instance, end a wait, end a sleep, or retry an attempt."""

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
    """Why a step failed. ``attempts`` counts the failed attempts."""

    type: str
    message: str
    attempts: int = 0


@value(frozen=True, slots=True)
class Unconsumed:
    """An accepted event that no step took before the instance ended; ``revision`` names its `EventBuffered`."""

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
    """A step began. A `WAIT` step waits from here on, a `SLEEP` step sleeps, a `TASK` is ready to be taken."""

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
    """An attempt failed. With ``retrying``, a retry timer follows; else the step's end or the instance's does."""

    step_ref: str
    attempt: int
    failure: Failure
    retrying: bool


@value(frozen=True, slots=True, kw_only=True)
class AttemptReleased:
    """An attempt was given back, or taken from an owner that is gone. It counts as no failure.

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
    """A step ended with ``event``, whose arrow leads to ``targets``.

    ``output`` is None for the empty object. Where the step took a buffered event, ``buffered_revision`` names its
    `EventBuffered` entry, which holds the body; else the body belongs to this entry.
    """

    step_ref: str
    event: str
    targets: tuple[str, ...]
    output: PayloadInfo | None = None
    buffered_revision: int = 0
    failure: Failure | None = None


@value(frozen=True, slots=True, kw_only=True)
class StepSkipped:
    """A `join="all"` step can no longer get every arrival; those it got end here."""

    step_ref: str


@value(frozen=True, slots=True, kw_only=True)
class EventBuffered:
    """An event was accepted before a step waits for it. An empty ``step_ref`` leaves it to whichever waits first."""

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
    """The timer of entry ``timer`` acted (``used``) or found its step finished or not begun; either way it is gone."""

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
    """``step_ref`` failed without an `error` arrow. All timers are cancelled; the other active steps are interrupted.

    ``kept_timers`` names the timers of ScheduleResume on all steps but the interrupted ones. RetryInstance arms them
    again,
    and every timer of a interrupted step.
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
    """The failed and the interrupted steps are active again; timers that were theirs are armed anew after this
    entry.
    """


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

_TYPE_OF: Final = {kind: cls for cls, kind in KIND_OF.items()}
FIELDS_OF: Final = {kind: frozenset(f.name for f in fields(cls)) for kind, cls in _TYPE_OF.items()}
"""The names of each fact's fields, by its stored name."""
_PART_FIELDS: Final = {
    cls: frozenset(f.name for f in fields(cls)) for cls in (PayloadInfo, Failure, Unconsumed)
}


def fact_from_json(kind: str, body: Mapping[str, Any]) -> Fact:
    """Rebuild a fact from its stored name and fields. Fields that this version does not know are left out.

    Raises ``KeyError`` for a kind that this version does not know: a newer server wrote it.
    """
    known = FIELDS_OF[kind]
    return _TYPE_OF[kind](
        **{name: _value(kind, name, value) for name, value in body.items() if name in known}
    )


def _value(kind: str, name: str, value: Any) -> Any:
    if value is None:
        return None
    match name:
        case "input" | "output" | "payload":
            return _part(PayloadInfo, value)
        case "failure":
            return _part(Failure, value)
        case "unconsumed":
            return tuple(_part(Unconsumed, item) for item in value)
        case "kind":
            return StepKind(value) if kind == "step_started" else TimerKind(value)
        case _:
            return tuple(value) if isinstance(value, list) else value


def _part(cls: type[PayloadInfo | Failure | Unconsumed], value: Mapping[str, Any]) -> Any:
    known = _PART_FIELDS[cls]
    return cls(**{name: item for name, item in value.items() if name in known})
