"""The contract of the three verbs, as Python: what starts, resumes and times workflow instances.

`perdure.AsyncClient` meets it over gRPC, the server's embedded runner in the same process; code that takes a `Runner`
does not know which it has. Refusals are the exceptions of ``perdure.errors`` either way. No I/O lives here.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable

from perdure.errors import FieldViolation, InvalidFieldError
from perdure.model.graph import parse_duration_ms


class ConflictPolicy(enum.StrEnum):
    """What `Runner.start_instance` does when a live instance of the workflow holds the business key."""

    FAIL = "fail"
    """Raise `BusinessKeyInUseError`."""
    USE_EXISTING = "use_existing"
    """Answer with the instance that holds it."""


class Disposition(enum.StrEnum):
    """What became of an accepted event."""

    DELIVERED = "delivered"
    """It has ended the step that waited for it."""
    BUFFERED = "buffered"
    """It is stored, and waits for its step."""
    UNKNOWN = "unknown"
    """The server is newer than this library and did something else with it."""


@dataclass(frozen=True, slots=True)
class StartedInstance:
    """The instance is stored. ``created``: whether this call created it."""

    instance_id: str
    created: bool
    version: int
    revision: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """The event was accepted, at ``revision``. ``step_ref`` is the step that took it or that it is buffered for."""

    disposition: Disposition
    step_ref: str
    revision: int


@dataclass(frozen=True, slots=True)
class ScheduledResume:
    """The timer is stored. It never fires before ``due_time`` (UTC, by the store's clock)."""

    reference: str
    due_time: datetime
    revision: int


@runtime_checkable
class Runner(Protocol):
    """Three verbs. When one of them returns, its effect is durable.

    ``request_id`` makes a call safe to repeat: it takes effect at most once, and a repeat gets the first answer.
    """

    async def start_instance(
        self,
        workflow: str,
        context: Mapping[str, Any] | None = None,
        *,
        instance_id: str = "",
        version: int = 0,
        business_key: str = "",
        conflict_policy: ConflictPolicy = ConflictPolicy.FAIL,
        start_delay: timedelta | str | None = None,
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> StartedInstance:
        """Store a new instance; it begins to run at once, or after ``start_delay`` (a timedelta, or text: "30s").

        ``context`` is a JSON object that every step can read. Without ``instance_id`` one is chosen; ``version`` 0
        is the newest. ``business_key`` is unique per workflow among instances that are not final.

        Raises `InvalidFieldError`, `PayloadTooLargeError`, `RequestIdReusedError`, `WorkflowNotFoundError`,
        `InstanceAlreadyExistsError`, `BusinessKeyInUseError`.
        """
        ...

    async def resume(
        self,
        instance_id: str,
        event: str,
        payload: Any = None,
        *,
        step_ref: str = "",
        buffer: bool = False,
        request_id: str = "",
    ) -> Resumed:
        """Bring an event to the step that waits for it; the payload, any JSON value, becomes the step's output.

        ``step_ref`` picks the step where several wait for the event; ``buffer`` leaves the event in the instance's
        inbox where none does yet.

        Raises `InvalidFieldError`, `PayloadTooLargeError`, `RequestIdReusedError`, `InstanceNotFoundError`,
        `InstanceEndedError`, `StepNotFoundError`, `EventNeverAcceptedError`, `StepFinishedError`,
        `StepUnreachableError`, `EventNotAwaitedError`, `AmbiguousEventError`, `InboxFullError`.
        """
        ...

    async def schedule_resume(
        self, instance_id: str, step_ref: str, delay_ms: int, *, request_id: str = ""
    ) -> ScheduledResume:
        """Resume the step with the event ``timeout``, durably, once ``delay_ms`` have passed.

        Raises `InvalidFieldError`, `RequestIdReusedError`, `InstanceNotFoundError`, `InstanceEndedError`,
        `StepNotFoundError`, `StepFinishedError`, `StepUnreachableError`, `StepHasNoTimeoutError`,
        `TooManyTimersError`.
        """
        ...


def delay_ms_of(delay: object, *, field: str = "start_delay") -> int:
    """Return a delay in milliseconds, rounded up: never earlier than asked. Raises `InvalidFieldError`."""
    match delay:
        case None:
            return 0
        case timedelta():
            return -(-delay // timedelta(milliseconds=1))
        case str():
            try:
                return parse_duration_ms(delay)
            except ValueError as error:
                violation = FieldViolation(field, str(error))
        case _:
            violation = FieldViolation(field, f"is a timedelta or text such as '30s', not {delay!r}")
    raise InvalidFieldError(str(violation), violations=[violation])
