"""What the verbs answer: values that every face of the server converts, and nothing else."""

from __future__ import annotations

import enum

from perdure_server.engine.value_type import value


class ConflictPolicy(enum.StrEnum):
    """What StartInstance does when a live instance of the workflow holds its business key."""

    FAIL = "fail"
    USE_EXISTING = "use_existing"


class Disposition(enum.StrEnum):
    """Where Resume brought the event: to a step, or into the inbox."""

    DELIVERED = "delivered"
    BUFFERED = "buffered"


@value(frozen=True, slots=True)
class StartAnswer:
    """``created``: whether this request created the instance. ``revision``: of the entry that started it."""

    instance_id: str
    created: bool
    version: int
    revision: int


@value(frozen=True, slots=True)
class ResumeAnswer:
    """``step_ref`` is the step that took the event; for a buffered one, the step that it is kept for, if any."""

    disposition: Disposition
    step_ref: str
    revision: int


@value(frozen=True, slots=True)
class ScheduleAnswer:
    """``reference`` names the timer; ``due_at`` is in milliseconds since the epoch by the store's clock."""

    reference: str
    due_at: int
    revision: int


@value(frozen=True, slots=True)
class RevisionAnswer:
    """The revision of the entry that the call caused."""

    revision: int


@value(frozen=True, slots=True)
class FireAnswer:
    """``used`` is False where the timer found its step finished or not begun."""

    used: bool
    revision: int
