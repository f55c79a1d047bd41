"""Exceptions of the API: one class for each error reason, below one class for each gRPC status.

Owns: the exceptions, their fields, and the table from reasons to classes. Imports no gRPC. `perdure.client` converts
gRPC errors to these classes. An embedded runner raises the same classes through `from_reason`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

if TYPE_CHECKING:
    from perdure.model.issues import ValidationIssue


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One invalid field of a request: its path and what it must be."""

    field: str
    description: str

    def __str__(self) -> str:
        return f"{self.field}: {self.description}" if self.field else self.description


@dataclass(frozen=True, slots=True)
class Resource:
    """The missing or conflicting resource: its type (``instance``, ``workflow``, ...) and its name."""

    type: str
    name: str


class PerdureError(Exception):
    """A call that failed.

    An error has the parts of a PostgreSQL error. ``message`` says what is wrong, ``detail`` gives the context, and
    ``hint`` says what to do. ``str(error)`` contains all three, detail and hint on lines of their own.

    Attributes:
        message: What is wrong, on one line.
        detail: The context. Empty if there is none.
        hint: What to do. Empty if there is none.
        code: gRPC status, such as ``NOT_FOUND``.
        reason: Reason code of the API, such as ``INSTANCE_NOT_FOUND``. Empty if gRPC itself failed.
        metadata: Values that belong to the reason, such as ``instance_id``.
        violations: Every invalid field.
        resource: The missing or conflicting resource, or None.
        retry_after: Pause before a retry in seconds, if the server asked for one.
        request_id: Request ID of the call. A retry with it cannot take effect twice.
    """

    code: str = "UNKNOWN"
    reason: str = ""
    retryable: ClassVar[bool] = False
    """True if the same call with the same request ID can succeed later."""

    def __init__(
        self,
        message: str,
        *,
        detail: str = "",
        hint: str = "",
        reason: str | None = None,
        code: str | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        resource: Resource | None = None,
        retry_after: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint
        if reason is not None:
            self.reason = reason
        if code is not None:
            self.code = code
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.violations = tuple(violations)
        self.resource = resource
        self.retry_after = retry_after
        self.request_id = request_id

    @property
    def step_refs(self) -> tuple[str, ...]:
        """Steps that the error names, for example those that wait for an ambiguous event.

        A ref can carry a suffix such as ``@3.7``. Treat it as opaque.
        """
        # An error about one step can also list the existing steps. The step that it is about comes first.
        found = [self.metadata.get(key, "") for key in ("step_ref", "step_refs", "steps")]
        return tuple(ref.strip() for refs in found for ref in refs.split(",") if ref.strip())

    @property
    def instance_id(self) -> str:
        """ID of the instance that the error is about. Empty if it names none."""
        if self.resource is not None and self.resource.type.rpartition(".")[2].lower() == "instance":
            return self.resource.name
        return self.metadata.get("instance_id", "")

    def __str__(self) -> str:
        lines = [self._first_line()]
        lines += [f"detail: {self.detail}"] if self.detail else []
        lines += [f"hint: {self.hint}"] if self.hint else []
        return "\n".join(lines)

    def _first_line(self) -> str:
        listed = [str(v) for v in self.violations if v.description not in self.message]
        # The list replaces the server's count of the further violations.
        message = self.message.removesuffix(f" (and {len(listed)} more)") if listed else self.message
        return "; ".join([message, *listed])

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword arguments are lost by default, and errors travel between the processes of a test run or a pool.
        return (type(self), (self.message,), self.__dict__)


# --- by gRPC status ----------------------------------------------------------------------------------------------


class InvalidArgumentError(PerdureError, ValueError):
    """The request is invalid, regardless of any state."""

    code = "INVALID_ARGUMENT"


class NotFoundError(PerdureError, LookupError):
    """The resource that the request names does not exist."""

    code = "NOT_FOUND"


class AlreadyExistsError(PerdureError):
    """The resource that the request would create exists already."""

    code = "ALREADY_EXISTS"


class FailedPreconditionError(PerdureError):
    """The state of the instance, step or timer does not permit this request."""

    code = "FAILED_PRECONDITION"


class OutOfRangeError(PerdureError):
    """The requested revision is not in the history."""

    code = "OUT_OF_RANGE"


class ResourceExhaustedError(PerdureError):
    """A limit is exceeded."""

    code = "RESOURCE_EXHAUSTED"


class UnavailableError(PerdureError):
    """The server is unreachable or cannot process calls. The client retried until the timeout of the call."""

    code = "UNAVAILABLE"
    retryable = True


class DeadlineExceededError(PerdureError, TimeoutError):
    """No response arrived in time. The call may or may not have taken effect.

    Retry it with the same `request_id`: the server returns the first response if the call took effect.
    """

    code = "DEADLINE_EXCEEDED"


class UnauthenticatedError(PerdureError):
    """The call has no valid credentials."""

    code = "UNAUTHENTICATED"


class PermissionDeniedError(PerdureError):
    """The caller is not permitted to make this call."""

    code = "PERMISSION_DENIED"


class UnimplementedError(PerdureError):
    """The server does not have this method. It is older than the client, or it is not a perdure server."""

    code = "UNIMPLEMENTED"


class CallCancelledError(PerdureError):
    """The server or a proxy cancelled the call."""

    code = "CANCELLED"
    retryable = True


# --- by reason ---------------------------------------------------------------------------------------------------


class InvalidFieldError(InvalidArgumentError):
    """Fields of the request are invalid. ``violations`` lists all of them."""

    reason = "INVALID_FIELD"


class RequestIdReusedError(InvalidArgumentError):
    """Another request used this request ID before."""

    reason = "REQUEST_ID_REUSED"


class WorkflowInvalidError(InvalidArgumentError):
    """A workflow breaks rules of its graph.

    Attributes:
        issues: Every `ValidationIssue` found, if this process validated the workflow. Empty for a server's response.
        violations: The issues as field violations, if a server validated the workflow.
        workflow: Name of the workflow, or None if the error came from a server.
    """

    reason = "WORKFLOW_INVALID"
    issues: tuple[ValidationIssue, ...] = ()
    workflow: object = None

    @classmethod
    def of_issues(cls, issues: Iterable[ValidationIssue], *, workflow: object = None) -> Self:
        """Return the error for the issues that `perdure.validate` found."""
        from perdure.model.issues import show

        found = tuple(issues)
        named = "the workflow" if workflow is None else f"workflow {show(workflow)}"
        error = cls(f"{named} has {len(found)} issue{'' if len(found) == 1 else 's'}")
        error.issues, error.workflow = found, workflow
        return error

    def _first_line(self) -> str:
        if not self.issues:
            return super()._first_line()
        return "\n".join([f"{self.message}:", *(f"  - {issue}" for issue in self.issues)])


class InstanceNotFoundError(NotFoundError):
    """No instance has this ID."""

    reason = "INSTANCE_NOT_FOUND"


class WorkflowNotFoundError(NotFoundError):
    """The server has no workflow with this name, or not this version."""

    reason = "WORKFLOW_NOT_FOUND"


class StepNotFoundError(NotFoundError):
    """The workflow of the instance has no step with this ref."""

    reason = "STEP_NOT_FOUND"


class TimerNotFoundError(NotFoundError):
    """No pending timer has this reference. It fired, was cancelled, or never existed."""

    reason = "TIMER_NOT_FOUND"


class InstanceAlreadyExistsError(AlreadyExistsError):
    """An instance with this ID exists already."""

    reason = "INSTANCE_ALREADY_EXISTS"


class BusinessKeyInUseError(AlreadyExistsError):
    """A live instance of the workflow holds this business key. `instance_id` is its ID."""

    reason = "BUSINESS_KEY_IN_USE"


class InstanceEndedError(FailedPreconditionError):
    """The instance has ended."""

    reason = "INSTANCE_ENDED"

    @property
    def state(self) -> str:
        """State in which the instance ended."""
        return self.metadata.get("state", "")


class InstanceNotFailedError(FailedPreconditionError):
    """Only a FAILED instance can be retried."""

    reason = "INSTANCE_NOT_FAILED"

    @property
    def state(self) -> str:
        """State of the instance."""
        return self.metadata.get("state", "")


class EventNotAwaitedError(FailedPreconditionError):
    """No step waits for the event yet. `resume` with ``buffer=True`` keeps it until a step does."""

    reason = "EVENT_NOT_AWAITED"


class EventNeverAcceptedError(FailedPreconditionError):
    """No step that the instance can still reach accepts the event, or the given step never accepts it."""

    reason = "EVENT_NEVER_ACCEPTED"


class AmbiguousEventError(FailedPreconditionError):
    """Several steps wait for the event, see `step_refs`. Pass one of them to `resume` as ``step_ref``."""

    reason = "AMBIGUOUS_EVENT"


class StepFinishedError(FailedPreconditionError):
    """The step finished or was skipped."""

    reason = "STEP_FINISHED"


class StepUnreachableError(FailedPreconditionError):
    """The step will never start, because the instance took another path."""

    reason = "STEP_UNREACHABLE"


class StepHasNoTimeoutError(FailedPreconditionError):
    """The step declares no ``timeout`` transition, so a timer cannot end it."""

    reason = "STEP_HAS_NO_TIMEOUT"


class TimerNotCancellableError(FailedPreconditionError):
    """The timer is not a TIMEOUT timer. Clients can cancel only those."""

    reason = "TIMER_NOT_CANCELLABLE"


class LeaseLostError(FailedPreconditionError):
    """Another attempt owns the task now."""

    reason = "LEASE_LOST"


class BackupNotConfiguredError(FailedPreconditionError):
    """The server runs without a backup directory."""

    reason = "BACKUP_NOT_CONFIGURED"


class BackupAlreadyExistsError(AlreadyExistsError):
    """The backup directory of the server contains a file with this name."""

    reason = "BACKUP_ALREADY_EXISTS"


class RevisionCompactedError(OutOfRangeError):
    """The history no longer contains these entries. Start again with a snapshot."""

    reason = "REVISION_COMPACTED"


class RevisionInFutureError(OutOfRangeError):
    """The instance has not reached this revision."""

    reason = "REVISION_IN_FUTURE"


class OverloadedError(ResourceExhaustedError):
    """The server is overloaded. The client retried until the timeout of the call."""

    reason = "OVERLOADED"
    retryable = True


class PayloadTooLargeError(ResourceExhaustedError):
    """A payload exceeds 1 MiB, or the payloads of the instance would exceed 3 MiB."""

    reason = "PAYLOAD_TOO_LARGE"


class InboxFullError(ResourceExhaustedError):
    """The inbox of the instance is full."""

    reason = "INBOX_FULL"


class TooManyTimersError(ResourceExhaustedError):
    """The instance has the maximum number of pending timers. Cancel some, or wait until one fires."""

    reason = "TOO_MANY_TIMERS"


class DatabaseUnavailableError(UnavailableError):
    """The database of the server does not respond. The call had no effect."""

    reason = "DATABASE_UNAVAILABLE"


class CommitUnknownError(UnavailableError):
    """The call may or may not have taken effect. Retry it with the same `request_id`."""

    reason = "COMMIT_UNKNOWN"


class ShuttingDownError(UnavailableError):
    """The server is shutting down. The call had no effect."""

    reason = "SHUTTING_DOWN"


class BackupFailedError(UnavailableError):
    """The server could not write or verify the backup, for example because the disk is full. It left no file behind."""

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
"""Every reason with a class of its own."""


def from_reason(
    reason: str,
    message: str,
    metadata: Mapping[str, str] | None = None,
    *,
    detail: str = "",
    hint: str = "",
    code: str = "",
    violations: Sequence[FieldViolation] = (),
    resource: Resource | None = None,
    retry_after: float | None = None,
    request_id: str = "",
) -> PerdureError:
    """Return the exception for a reason.

    For a reason that this version does not know, return the class of its status.
    """
    cls = _BY_REASON.get(reason) or _BY_CODE.get(code, PerdureError)
    return cls(
        message,
        detail=detail,
        hint=hint,
        reason=reason,
        code=code or None,
        metadata=metadata,
        violations=violations,
        resource=resource,
        retry_after=retry_after,
        request_id=request_id,
    )
