"""Facts of a history: one class for each kind, with the fields of the API's message of the same name.

A fact of a kind that this version does not know is an `UnknownFact`. Ignore it when you fold a history. A
``step_ref`` can carry a suffix such as ``@3.7``: treat it as opaque.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from perdure.model.graph import StepKind


class TimerKind(enum.StrEnum):
    """Effect of a timer when it is due."""

    START = "start"
    TIMEOUT = "timeout"
    SLEEP = "sleep"
    RETRY = "retry"
    UNKNOWN = "unknown"
    """A kind that this version does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadInfo:
    """A payload without its body: the size of its JSON text in bytes, and the hexadecimal BLAKE2b-128 digest."""

    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailure:
    """Failure of a step. ``attempts`` is the number of failed attempts."""

    type: str
    message: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferedEvent:
    """An accepted event that no step has consumed.

    With an empty ``step_ref``, any step that accepts it can consume it.
    """

    event: str
    step_ref: str
    revision: int
    payload: PayloadInfo | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceStarted:
    """An instance was created. ``start_delay`` is None if it started at once."""

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
    """A step became active. ``kind`` is None for a kind that this version does not know."""

    step_ref: str
    kind: StepKind | None
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted:
    """An attempt of a task started. ``owner`` is the replica that runs it."""

    step_ref: str
    attempt: int
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed:
    """An attempt failed. ``retrying`` is True if another one follows. ``failures`` is the number of failed attempts."""

    step_ref: str
    attempt: int
    type: str
    message: str
    retrying: bool
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptReleased:
    """An attempt was released without a result. It does not count as a failure.

    ``lost`` is True if the process that ran it stopped uncleanly. After too many losses in a row, an `AttemptFailed` of
    type ``AttemptLost`` follows.
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
    """A step ended with ``event``, which leads to ``targets``.

    ``buffered_revision`` is the revision of the buffered event that ended it, or 0 if no buffered event did.
    """

    step_ref: str
    event: str
    targets: tuple[str, ...]
    output: PayloadInfo | None
    buffered_revision: int
    failure: StepFailure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSkipped:
    """A step will never start."""

    step_ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventBuffered:
    """An event was stored until a step waits for it."""

    event: str
    step_ref: str
    payload: PayloadInfo | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerArmed:
    """A timer was armed. ``client_requested`` is True if ScheduleResume armed it, False if the workflow did."""

    reference: str
    kind: TimerKind
    step_ref: str
    delay: timedelta | None
    due_time: datetime | None
    client_requested: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFired:
    """A timer fired.

    ``used`` is False if it had no effect, because its step had finished or not started. ``forced`` is True if FireTimer
    fired it.
    """

    reference: str
    kind: TimerKind
    step_ref: str
    used: bool
    forced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerCancelled:
    """A timer was cancelled."""

    reference: str
    step_ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceCompleted:
    """The instance completed. ``unconsumed`` are accepted events that no step consumed."""

    unconsumed: tuple[BufferedEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceFailed:
    """The step ``step_ref`` failed and has no ``error`` transition. The other active steps were interrupted."""

    step_ref: str
    failure: StepFailure | None
    interrupted_steps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceCancelled:
    """The instance was cancelled. ``unconsumed`` are accepted events that no step consumed."""

    reason: str
    unconsumed: tuple[BufferedEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRetried:
    """The instance was retried. Its failed and interrupted steps are active again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownFact:
    """A fact that this version does not know."""


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
    """One entry of a history.

    ``kind`` is the name of the fact in the API ("step_finished"), or empty if it is unknown.
    """

    revision: int
    time: datetime
    kind: str
    fact: Fact
    request_id: str
