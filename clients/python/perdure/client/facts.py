"""What a history says: one class per kind of fact, with the fields of the API's message of the same name.

Values only; `perdure.client._convert` fills them. A fact of a kind that this version does not know is an `UnknownFact`,
and a client that folds a history passes over it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from perdure.model.graph import StepKind


class TimerKind(enum.StrEnum):
    """What a timer does when it is due."""

    START = "start"
    TIMEOUT = "timeout"
    SLEEP = "sleep"
    RETRY = "retry"
    UNKNOWN = "unknown"
    """Something that this version does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadInfo:
    """A payload without its body: bytes of its JSON text, and BLAKE2b-128 of them in hexadecimal."""

    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailure:
    """Why a step failed. ``attempts`` counts the failed ones."""

    type: str
    message: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferedEvent:
    """An accepted event that no step has consumed. An empty ``step_ref``: any step that accepts it may."""

    event: str
    step_ref: str
    revision: int
    payload: PayloadInfo | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceStarted:
    workflow: str
    version: int
    definition_digest: str
    start_step: str
    input: PayloadInfo | None
    business_key: str
    labels: Mapping[str, str]
    start_delay: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted:
    """A step became active. ``kind`` is None for one that this version does not know."""

    step_ref: str
    kind: StepKind | None
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted:
    step_ref: str
    attempt: int
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed:
    """An attempt failed. ``retrying``: another one follows. ``failures`` counts the failed ones of the step."""

    step_ref: str
    attempt: int
    type: str
    message: str
    retrying: bool
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptReleased:
    """An attempt was given back without a result. It does not count as a failure.

    ``lost``: the process that ran it stopped uncleanly. Too many losses in a row are followed by an `AttemptFailed` of
    type ``AttemptLost``.
    """

    step_ref: str
    attempt: int
    reason: str
    lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSuspended:
    """A task returned SUSPEND and waits for one of ``events``."""

    step_ref: str
    attempt: int
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFinished:
    """A step ended with ``event``, which leads to ``targets``. ``buffered_revision`` 0: no buffered event did it."""

    step_ref: str
    event: str
    targets: tuple[str, ...]
    output: PayloadInfo | None
    buffered_revision: int
    failure: StepFailure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSkipped:
    step_ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventBuffered:
    event: str
    step_ref: str
    payload: PayloadInfo | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerArmed:
    """``client_requested``: ScheduleResume asked for it, not the workflow's definition."""

    reference: str
    kind: TimerKind
    step_ref: str
    delay: timedelta | None
    due_time: datetime | None
    client_requested: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFired:
    """A timer acted. Not ``used``: its step had finished or not begun. ``forced``: FireTimer did it."""

    reference: str
    kind: TimerKind
    step_ref: str
    used: bool
    forced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerCancelled:
    reference: str
    step_ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceCompleted:
    """``unconsumed``: accepted events that no step took."""

    unconsumed: tuple[BufferedEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceFailed:
    """``step_ref`` failed without an ``error`` arrow; the other active steps are interrupted."""

    step_ref: str
    failure: StepFailure | None
    interrupted_steps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceCancelled:
    reason: str
    unconsumed: tuple[BufferedEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRetried:
    """The failed and the interrupted steps are active again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownFact:
    """Something happened that a newer version of this library can tell."""


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
    | UnknownFact
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One line of a history. ``kind`` is the fact's name in the API ("step_finished"), empty for an unknown one."""

    revision: int
    time: datetime
    kind: str
    fact: Fact
    request_id: str
