"""Every error that a call can end with: one class per reason of the API, under one class per gRPC status.

What lives here: the exceptions, their fields, and the table from reasons to classes. What may not: gRPC. The clients
map gRPC's errors to these in ``perdure.client``; an embedded runner raises the same ones by `from_reason`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One thing that is wrong with a request: the field, by its path, and what it should be."""

    field: str
    description: str

    def __str__(self) -> str:
        return f"{self.field}: {self.description}" if self.field else self.description


@dataclass(frozen=True, slots=True)
class Resource:
    """What was not found or stands in the way: its type (``instance``, ``workflow``, ...) and its name."""

    type: str
    name: str


class PerdureError(Exception):
    """A call that did not succeed.

    ``reason`` is the API's word for why (``INSTANCE_NOT_FOUND``), empty where gRPC itself refused. ``metadata`` holds
    what the reason is about. ``violations`` are all the fields that are wrong; ``resource`` is what was missing or in
    the way; ``retry_after`` is the pause in seconds that the server asks for. ``request_id`` is the one that the call
    was sent with: calling again with it cannot take effect twice.
    """

    code: ClassVar[str] = "UNKNOWN"
    """The gRPC status that the error travels with."""
    reason: str = ""
    retryable: ClassVar[bool] = False
    """Whether the same call, with the same request id, may succeed a little later."""

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        resource: Resource | None = None,
        retry_after: float | None = None,
        request_id: str = "",
        detail: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint
        if reason is not None:
            self.reason = reason
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.violations = tuple(violations)
        self.resource = resource
        self.retry_after = retry_after
        self.request_id = request_id

    @property
    def step_refs(self) -> tuple[str, ...]:
        """The steps that the error names: those that an event is ambiguous between, say."""
        # An error about one step may tell beside it which steps there are; the one comes first then.
        found = [self.metadata.get(key, "") for key in ("step_ref", "step_refs", "steps")]
        return tuple(ref.strip() for refs in found for ref in refs.split(",") if ref.strip())

    @property
    def instance_id(self) -> str:
        """The instance that the error is about, where it names one."""
        if self.resource is not None and self.resource.type.rpartition(".")[2].lower() == "instance":
            return self.resource.name
        return self.metadata.get("instance_id", "")

    def __str__(self) -> str:
        told = [str(v) for v in self.violations if v.description not in self.message]
        # What follows all of it is not announced too.
        message = self.message.removesuffix(f" (and {len(told)} more)") if told else self.message
        return "; ".join([message, *told])

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword arguments do not survive the default way, and errors travel between processes of a test or a pool.
        return (type(self), (self.message,), self.__dict__)


# --- by gRPC status ----------------------------------------------------------------------------------------------


class InvalidArgumentError(PerdureError, ValueError):
    """The request itself is wrong, whatever state anything is in."""

    code = "INVALID_ARGUMENT"


class NotFoundError(PerdureError, LookupError):
    """What the request names does not exist."""

    code = "NOT_FOUND"


class AlreadyExistsError(PerdureError):
    """What the request would create exists."""

    code = "ALREADY_EXISTS"


class FailedPreconditionError(PerdureError):
    """The instance, step or timer is in no state for this request."""

    code = "FAILED_PRECONDITION"


class OutOfRangeError(PerdureError):
    """The revision asked for is not, or no longer, in the history."""

    code = "OUT_OF_RANGE"


class ResourceExhaustedError(PerdureError):
    """A limit is reached."""

    code = "RESOURCE_EXHAUSTED"


class UnavailableError(PerdureError):
    """The server cannot be reached or cannot work now; the client has retried for as long as the call may take."""

    code = "UNAVAILABLE"
    retryable = True


class DeadlineExceededError(PerdureError, TimeoutError):
    """The answer did not come in time. The call may have taken effect; sending it again with `request_id` tells."""

    code = "DEADLINE_EXCEEDED"


class UnauthenticatedError(PerdureError):
    """The server does not know who calls."""

    code = "UNAUTHENTICATED"


class PermissionDeniedError(PerdureError):
    """The caller may not do this."""

    code = "PERMISSION_DENIED"


class UnimplementedError(PerdureError):
    """The server does not have this method: it is older than the client, or no perdure server."""

    code = "UNIMPLEMENTED"


class CallCancelledError(PerdureError):
    """Somebody between client and server broke the call off."""

    code = "CANCELLED"
    retryable = True


# --- by reason ---------------------------------------------------------------------------------------------------


class InvalidFieldError(InvalidArgumentError):
    """Fields of the request are malformed; ``violations`` lists them all."""

    reason = "INVALID_FIELD"


class RequestIdReusedError(InvalidArgumentError):
    """The request id was used before, for another request."""

    reason = "REQUEST_ID_REUSED"


class WorkflowInvalidError(InvalidArgumentError):
    """The workflow's graph breaks a rule; ``violations`` lists every issue."""

    reason = "WORKFLOW_INVALID"


class InstanceNotFoundError(NotFoundError):
    """No instance has this id."""

    reason = "INSTANCE_NOT_FOUND"


class WorkflowNotFoundError(NotFoundError):
    """The server has no workflow of this name, or not this version of it."""

    reason = "WORKFLOW_NOT_FOUND"


class StepNotFoundError(NotFoundError):
    """The instance's workflow has no such step."""

    reason = "STEP_NOT_FOUND"


class TimerNotFoundError(NotFoundError):
    """No pending timer has this reference: it has fired, was cancelled, or never was."""

    reason = "TIMER_NOT_FOUND"


class InstanceAlreadyExistsError(AlreadyExistsError):
    """Another call started an instance with this id."""

    reason = "INSTANCE_ALREADY_EXISTS"


class BusinessKeyInUseError(AlreadyExistsError):
    """A live instance of the workflow, `instance_id`, holds this business key."""

    reason = "BUSINESS_KEY_IN_USE"


class InstanceEndedError(FailedPreconditionError):
    """The instance has ended."""

    reason = "INSTANCE_ENDED"

    @property
    def state(self) -> str:
        """The state that it ended in."""
        return self.metadata.get("state", "")


class InstanceNotFailedError(FailedPreconditionError):
    """Only a FAILED instance can be retried."""

    reason = "INSTANCE_NOT_FAILED"

    @property
    def state(self) -> str:
        """The state that the instance is in."""
        return self.metadata.get("state", "")


class EventNotAwaitedError(FailedPreconditionError):
    """No step waits for the event yet; `resume` with ``buffer=True`` leaves it for the step that will."""

    reason = "EVENT_NOT_AWAITED"


class EventNeverAcceptedError(FailedPreconditionError):
    """No step that the instance can still reach accepts the event, or the step that was named never does."""

    reason = "EVENT_NEVER_ACCEPTED"


class AmbiguousEventError(FailedPreconditionError):
    """Several steps, `step_refs`, wait for the event; `resume` with ``step_ref=`` picks one."""

    reason = "AMBIGUOUS_EVENT"


class StepFinishedError(FailedPreconditionError):
    """The step has ended already, or was skipped."""

    reason = "STEP_FINISHED"


class StepUnreachableError(FailedPreconditionError):
    """The instance took another path; the step will never begin."""

    reason = "STEP_UNREACHABLE"


class StepHasNoTimeoutError(FailedPreconditionError):
    """The step declares no ``timeout`` arrow, so no timer can end it."""

    reason = "STEP_HAS_NO_TIMEOUT"


class TimerNotCancellableError(FailedPreconditionError):
    """Only timers of kind TIMEOUT can be cancelled by a client."""

    reason = "TIMER_NOT_CANCELLABLE"


class LeaseLostError(FailedPreconditionError):
    """The task belongs to another attempt by now."""

    reason = "LEASE_LOST"


class BackupNotConfiguredError(FailedPreconditionError):
    """The server was started without a directory for backups."""

    reason = "BACKUP_NOT_CONFIGURED"


class BackupAlreadyExistsError(AlreadyExistsError):
    """The server's directory for backups contains a file of this name."""

    reason = "BACKUP_ALREADY_EXISTS"


class RevisionCompactedError(OutOfRangeError):
    """The history no longer holds these entries; begin again with a snapshot."""

    reason = "REVISION_COMPACTED"


class RevisionInFutureError(OutOfRangeError):
    """The instance has not reached this revision."""

    reason = "REVISION_IN_FUTURE"


class OverloadedError(ResourceExhaustedError):
    """The server has more work than it takes on; the client has retried for as long as the call may take."""

    reason = "OVERLOADED"
    retryable = True


class PayloadTooLargeError(ResourceExhaustedError):
    """A payload is over 1 MiB, or the instance's payloads would be over 3 MiB."""

    reason = "PAYLOAD_TOO_LARGE"


class InboxFullError(ResourceExhaustedError):
    """The instance's inbox holds as many events as it may."""

    reason = "INBOX_FULL"


class TooManyTimersError(ResourceExhaustedError):
    """As many timers as `schedule_resume` may arm in one instance are pending. Cancel some, or wait for one to fire."""

    reason = "TOO_MANY_TIMERS"


class DatabaseUnavailableError(UnavailableError):
    """The server's database does not answer; nothing was changed."""

    reason = "DATABASE_UNAVAILABLE"


class CommitUnknownError(UnavailableError):
    """The call may have taken effect; sending it again with `request_id` tells."""

    reason = "COMMIT_UNKNOWN"


class ShuttingDownError(UnavailableError):
    """The server is going away; nothing was changed."""

    reason = "SHUTTING_DOWN"


class BackupFailedError(UnavailableError):
    """The backup could not be written or verified, for example because the disk is full. No file was left behind."""

    reason = "BACKUP_FAILED"


_BY_CODE: Final[Mapping[str, type[PerdureError]]] = {
    cls.code: cls
    for cls in (
        InvalidArgumentError,
        NotFoundError,
        AlreadyExistsError,
        FailedPreconditionError,
        OutOfRangeError,
        ResourceExhaustedError,
        UnavailableError,
        DeadlineExceededError,
        UnauthenticatedError,
        PermissionDeniedError,
        UnimplementedError,
        CallCancelledError,
    )
}

_BY_REASON: Final[Mapping[str, type[PerdureError]]] = {
    leaf.reason: leaf for family in _BY_CODE.values() for leaf in family.__subclasses__()
}

REASONS: Final = frozenset(_BY_REASON)
"""Every reason that has a class of its own."""


def from_reason(
    reason: str,
    message: str,
    metadata: Mapping[str, str] | None = None,
    *,
    code: str = "",
    violations: Sequence[FieldViolation] = (),
    resource: Resource | None = None,
    retry_after: float | None = None,
    request_id: str = "",
) -> PerdureError:
    """Make the exception of a reason. A reason that this version does not know becomes its status' class."""
    cls = _BY_REASON.get(reason) or _BY_CODE.get(code, PerdureError)
    return cls(
        message,
        reason=reason,
        metadata=metadata,
        violations=violations,
        resource=resource,
        retry_after=retry_after,
        request_id=request_id,
    )
