"""Results of methods: plain values that every API of the server converts."""

from __future__ import annotations

import enum

from perdure_server.engine.value_type import value


class ConflictPolicy(enum.StrEnum):
    """The effect of StartInstance if a live instance of the workflow holds its business key."""

    FAIL = "fail"
    USE_EXISTING = "use_existing"


class Disposition(enum.StrEnum):
    """The destination of an event that Resume accepted: a step, or the inbox."""

    DELIVERED = "delivered"
    BUFFERED = "buffered"


@value(frozen=True, slots=True)
class StartResult:
    """``created`` is True if this request created the instance. ``revision`` is that of the entry that started it."""

    instance_id: str
    created: bool
    version: int
    revision: int


@value(frozen=True, slots=True)
class ResumeResult:
    """``step_ref`` is the step that took the event. For a buffered event, it is the step it is kept for, if any."""

    disposition: Disposition
    step_ref: str
    revision: int


@value(frozen=True, slots=True)
class ScheduleResult:
    """``reference`` is the timer's ID. ``due_at`` is in milliseconds since the Unix epoch, by the store's clock."""

    reference: str
    due_at: int
    revision: int


@value(frozen=True, slots=True)
class RevisionResult:
    """The revision of the entry that the call caused."""

    revision: int


@value(frozen=True, slots=True)
class FireResult:
    """``used`` is False if the timer's step was finished or had not started."""

    used: bool
    revision: int
