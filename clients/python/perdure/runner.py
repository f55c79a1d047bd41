"""The three methods that start, resume and time workflow instances, as a Python protocol.

`perdure.AsyncClient` implements `Runner` over gRPC. The embedded runner of the server implements it in the same
process. Code that takes a `Runner` works with both. Errors are the exceptions of ``perdure.errors`` in both cases. No
I/O.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from perdure.errors import FieldViolation, InvalidFieldError
from perdure.model.durations import Duration, duration_ms


class ConflictPolicy(enum.StrEnum):
    """Behavior of `Runner.start_instance` if a live instance of the workflow holds the business key."""

    FAIL = "fail"
    """Raise `BusinessKeyInUseError`."""
    USE_EXISTING = "use_existing"
    """Return the instance that holds it."""


class Disposition(enum.StrEnum):
    """Result of an accepted event."""

    DELIVERED = "delivered"
    """The event ended the step that waited for it."""
    BUFFERED = "buffered"
    """The event is stored until a step waits for it."""
    UNKNOWN = "unknown"
    """The server is newer than this library and returned another result."""


@dataclass(frozen=True, slots=True)
class StartedInstance:
    """A stored instance.

    Attributes:
        instance_id: ID of the instance.
        created: True if this call created the instance, False if it existed already.
        version: Version of the workflow.
        revision: Revision of the instance after the call.
    """

    instance_id: str
    created: bool
    version: int
    revision: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """An accepted event.

    Attributes:
        disposition: `Disposition.DELIVERED` or `Disposition.BUFFERED`.
        step_ref: Step that the event ended, or that the event is buffered for. Empty if any step can take it. A ref can
            carry a suffix such as ``@3.7``. Treat it as opaque.
        revision: Revision at which the event was accepted.
    """

    disposition: Disposition
    step_ref: str
    revision: int


@dataclass(frozen=True, slots=True)
class ScheduledResume:
    """A stored timer.

    Attributes:
        reference: Reference of the timer, for `get_timer`, `cancel_timer` and `fire_timer`.
        due_time: Time in UTC by the clock of the store. The timer never fires earlier.
        revision: Revision of the instance after the call.
    """

    reference: str
    due_time: datetime
    revision: int


@runtime_checkable
class Runner(Protocol):
    """Starts, resumes and times workflow instances. Once a method returns, its effect is durable.

    Every method accepts a ``request_id``. Retrying a call with the same ID is safe: it takes effect once, and a
    repeated call returns the first response.
    """

    async def start_instance(
        self,
        workflow: str,
        context: Mapping[str, Any] | None = None,
        *,
        instance_id: str | None = None,
        version: int | None = None,
        business_key: str | None = None,
        conflict_policy: ConflictPolicy = ConflictPolicy.FAIL,
        start_delay: Duration | None = None,
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> StartedInstance:
        """Store a new instance and start running it.

        Args:
            workflow: Name of the workflow.
            context: JSON object that every step can read. Default: an empty object.
            instance_id: ID of the instance. Default: the server generates one.
            version: Version of the workflow. Default: the newest.
            business_key: Key that is unique per workflow among instances that have not ended.
            conflict_policy: Behavior if a live instance holds the business key. Default: raise an error.
            start_delay: Delay before the first step starts, a `Duration`. Default: none.
            labels: Labels, to find the instance by.
            request_id: ID for safe retries. Default: a random one.

        Raises:
            InvalidFieldError, PayloadTooLargeError, RequestIdReusedError, WorkflowNotFoundError,
            InstanceAlreadyExistsError, BusinessKeyInUseError.
        """
        ...

    async def resume(
        self,
        instance_id: str,
        event: str,
        payload: Any = None,
        *,
        step_ref: str | None = None,
        buffer: bool = False,
        request_id: str | None = None,
    ) -> Resumed:
        """Deliver an event to the step that waits for it.

        Args:
            instance_id: ID of the instance.
            event: Name of the event.
            payload: JSON value that becomes the output of the step. Default: none.
            step_ref: Step to deliver the event to. Required if several steps wait for it.
            buffer: Keep the event in the inbox of the instance until a step waits for it. Default: raise an error.
            request_id: ID for safe retries. Default: a random one.

        Raises:
            InvalidFieldError, PayloadTooLargeError, RequestIdReusedError, InstanceNotFoundError,
            InstanceEndedError, StepNotFoundError, EventNeverAcceptedError, StepFinishedError,
            StepUnreachableError, EventNotAwaitedError, AmbiguousEventError, InboxFullError.
        """
        ...

    async def schedule_resume(
        self, instance_id: str, step_ref: str, delay_ms: int, *, request_id: str | None = None
    ) -> ScheduledResume:
        """Resume a step with the event ``timeout`` after a delay. The timer is durable.

        Args:
            instance_id: ID of the instance.
            step_ref: Step to resume.
            delay_ms: Delay in milliseconds, at least 1.
            request_id: ID for safe retries. Default: a random one.

        Raises:
            InvalidFieldError, RequestIdReusedError, InstanceNotFoundError, InstanceEndedError,
            StepNotFoundError, StepFinishedError, StepUnreachableError, StepHasNoTimeoutError,
            TooManyTimersError.
        """
        ...


def delay_ms_of(delay: Duration | None, *, field: str = "start_delay") -> int:
    """Return a delay in milliseconds, rounded up. None is 0.

    Raises:
        InvalidFieldError: The value is not a `Duration`. The violation names ``field``.
    """
    try:
        return 0 if delay is None else duration_ms(delay)
    except ValueError as error:
        violation = FieldViolation(field, str(error))
        raise InvalidFieldError(str(violation), violations=[violation]) from None
