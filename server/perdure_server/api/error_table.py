"""The error table: one row for each reason that a call can fail for.

The rest of the project is checked against this table: the reasons of ``errors.proto``, the table in ``docs/api.md``
(written by ``docs/error_table.py``) and the exceptions of the Python SDK.

Messages and hints are forms. A field is written in braces: ``instance {instance_id!r} not found``. Messages have the
shape of PostgreSQL's: the message is one line that says what is wrong, the detail gives the context, and the hint says
what to do.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from perdure_server.engine.value_type import value


class Code(enum.IntEnum):
    """The status codes that perdure uses, with the numbers of ``google.rpc.Code``."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    OUT_OF_RANGE = 11
    UNAVAILABLE = 14


@value(frozen=True, slots=True, kw_only=True)
class ErrorRow:
    """One reason."""

    reason: str
    code: Code
    meaning: str
    """The condition, as a sentence for the documentation."""
    message: str
    """The usual message."""
    detail: str = ""
    """The usual detail."""
    hint: str
    """The usual hint."""
    metadata: tuple[str, ...] = ()
    """Fields that are always in the metadata."""
    optional: tuple[str, ...] = ()
    """Fields that are in the metadata if they apply."""
    resource: tuple[str, str] | None = None
    """The type of the resource that the error is about, and the field with its name."""
    subject: str = ""
    """The field with the subject of the failed precondition."""
    retry_after_ms: int = 0
    """The pause before a retry, in milliseconds. 0 if the error itself has the pause, or if retries do not help."""
    is_reserved: bool = False
    """True if no call can fail for this reason yet."""

    @property
    def is_retryable(self) -> bool:
        """True if the same call with the same request ID can succeed later without any other change."""
        return self.code is Code.UNAVAILABLE or self.reason == "OVERLOADED"


RETRY_AFTER_MS: Final = 500
"""Pause before a call is retried while the server or its database is unavailable."""

_INSTANCE: Final = ("instance", "instance_id")

_ROWS: Final = (
    ErrorRow(
        reason="INVALID_FIELD",
        code=Code.INVALID_ARGUMENT,
        meaning="Fields of the request are invalid, or its bytes are not such a message.",
        message="{path}: {description}",
        hint="correct the fields that BadRequest lists",
    ),
    ErrorRow(
        reason="REQUEST_ID_REUSED",
        code=Code.INVALID_ARGUMENT,
        meaning="The request ID was used before for a different request.",
        message="request_id {request_id!r} was used for a different request",
        hint="use a new request_id for each call, and the same one only for retries",
        metadata=("request_id",),
    ),
    ErrorRow(
        reason="WORKFLOW_INVALID",
        code=Code.INVALID_ARGUMENT,
        meaning="The graph of a workflow breaks a rule. No call returns it yet.",
        message="the workflow is invalid",
        hint="correct what BadRequest lists",
        is_reserved=True,
    ),
    ErrorRow(
        reason="INSTANCE_NOT_FOUND",
        code=Code.NOT_FOUND,
        meaning="No instance has this ID.",
        message="instance {instance_id!r} not found",
        hint="list instances with ListInstances",
        metadata=("instance_id",),
        resource=_INSTANCE,
    ),
    ErrorRow(
        reason="WORKFLOW_NOT_FOUND",
        code=Code.NOT_FOUND,
        meaning=(
            "No workflow has this name or version. RetryInstance also returns it if the graph of the instance was "
            "replaced."
        ),
        message="workflow {workflow!r} not found",
        hint="serve the workflow, or list the known ones with ListWorkflows",
        metadata=("workflow",),
        optional=("workflows", "nearest", "versions", "instance_id"),
        resource=("workflow", "workflow"),
    ),
    ErrorRow(
        reason="STEP_NOT_FOUND",
        code=Code.NOT_FOUND,
        meaning="The workflow of the instance does not have this step.",
        message="step {step_ref!r} not found",
        hint="use one of the steps in step_refs",
        metadata=("instance_id", "step_ref", "step_refs", "nearest"),
        resource=("step", "step_ref"),
    ),
    ErrorRow(
        reason="TIMER_NOT_FOUND",
        code=Code.NOT_FOUND,
        meaning="The timer has fired, was cancelled, its step has ended, or it never existed.",
        message="timer {reference!r} not found",
        detail="the timer has fired, was cancelled, its step has ended, or it never existed",
        hint="list pending timers with ListTimers",
        metadata=("reference",),
        resource=("timer", "reference"),
    ),
    ErrorRow(
        reason="INSTANCE_ALREADY_EXISTS",
        code=Code.ALREADY_EXISTS,
        meaning="Another call started an instance with this ID.",
        message="instance {instance_id!r} already exists",
        hint="use another instance_id, or leave it empty to get a generated ID",
        metadata=("instance_id",),
        resource=_INSTANCE,
    ),
    ErrorRow(
        reason="BUSINESS_KEY_IN_USE",
        code=Code.ALREADY_EXISTS,
        meaning=(
            "A live instance of the workflow has this business key. RetryInstance returns it too, because a FAILED "
            "instance releases its key."
        ),
        message="business key {business_key!r} of workflow {workflow!r} is in use by instance {instance_id!r}",
        hint="use that instance with CONFLICT_POLICY_USE_EXISTING, or wait until it ends",
        metadata=("instance_id", "workflow", "business_key"),
        optional=("retried_instance_id",),
        resource=_INSTANCE,
    ),
    ErrorRow(
        reason="INSTANCE_ENDED",
        code=Code.FAILED_PRECONDITION,
        meaning="The instance has ended. A FAILED instance accepts only RetryInstance and CancelInstance.",
        message="instance {instance_id!r} has ended ({state})",
        hint="start a new instance",
        metadata=("instance_id", "state"),
        subject="instance_id",
    ),
    ErrorRow(
        reason="INSTANCE_NOT_FAILED",
        code=Code.FAILED_PRECONDITION,
        meaning="RetryInstance of an instance that is not FAILED.",
        message="instance {instance_id!r} is {state}, not FAILED",
        hint="retry only FAILED instances",
        metadata=("instance_id", "state"),
        subject="instance_id",
    ),
    ErrorRow(
        reason="EVENT_NOT_AWAITED",
        code=Code.FAILED_PRECONDITION,
        meaning="No step waits for the event now, but a step can wait for it later.",
        message="no step of instance {instance_id!r} waits for event {event!r} now",
        hint="set buffer to keep the event until a step waits for it, or send it later",
        metadata=("instance_id", "event", "step_refs"),
        subject="event",
    ),
    ErrorRow(
        reason="EVENT_NEVER_ACCEPTED",
        code=Code.FAILED_PRECONDITION,
        meaning="No remaining step accepts the event, or the named step never accepts it.",
        message="event {event!r} is not accepted by instance {instance_id!r}",
        hint="show the instance with GetInstance",
        metadata=("instance_id", "event", "events"),
        optional=("step_ref", "step_refs"),
        subject="event",
    ),
    ErrorRow(
        reason="AMBIGUOUS_EVENT",
        code=Code.FAILED_PRECONDITION,
        meaning="Several steps wait for the event.",
        message="event {event!r} is ambiguous",
        hint="set step_ref to one of these steps",
        metadata=("instance_id", "event", "step_refs"),
        subject="event",
    ),
    ErrorRow(
        reason="STEP_FINISHED",
        code=Code.FAILED_PRECONDITION,
        meaning="The step has finished or was skipped.",
        message="step {step_ref!r} has finished",
        hint="show the active steps with GetInstance",
        metadata=("instance_id", "step_ref"),
        optional=("event", "step_refs"),
        subject="step_ref",
    ),
    ErrorRow(
        reason="STEP_UNREACHABLE",
        code=Code.FAILED_PRECONDITION,
        meaning="The instance took another path, so the step will never start.",
        message="step {step_ref!r} is unreachable",
        hint="show the active steps with GetInstance",
        metadata=("instance_id", "step_ref"),
        optional=("event", "step_refs"),
        subject="step_ref",
    ),
    ErrorRow(
        reason="STEP_HAS_NO_TIMEOUT",
        code=Code.FAILED_PRECONDITION,
        meaning="ScheduleResume of a step without a `timeout` transition.",
        message="step {step_ref!r} has no `timeout` transition",
        hint="add a `timeout` transition in a new version of the workflow, or use a step that has one",
        metadata=("instance_id", "step_ref"),
        subject="step_ref",
    ),
    ErrorRow(
        reason="TIMER_NOT_CANCELLABLE",
        code=Code.FAILED_PRECONDITION,
        meaning="The timer is not a timeout timer.",
        message="timer {reference!r} cannot be cancelled",
        detail="it is a {kind} timer, and only timeout timers can be cancelled",
        hint="fire it with FireTimer, or cancel the instance",
        metadata=("reference", "kind"),
        subject="reference",
    ),
    ErrorRow(
        reason="LEASE_LOST",
        code=Code.FAILED_PRECONDITION,
        meaning="Another attempt has the task now. No call returns it to clients yet.",
        message="the task of instance {instance_id!r} belongs to another server",
        hint="discard the result of the task",
        metadata=("instance_id",),
        subject="instance_id",
    ),
    ErrorRow(
        reason="REVISION_COMPACTED",
        code=Code.OUT_OF_RANGE,
        meaning="The history no longer has these entries. No call returns it yet.",
        message="the history no longer has these entries",
        hint="watch without after_revision to start with a snapshot",
        is_reserved=True,
    ),
    ErrorRow(
        reason="REVISION_IN_FUTURE",
        code=Code.OUT_OF_RANGE,
        meaning="`after_revision` is larger than the revision of the instance, for example after a restore.",
        message="instance {instance_id!r} has not reached revision {after_revision}",
        detail="it is at revision {revision}",
        hint="watch without after_revision to start with a snapshot",
        metadata=("instance_id", "after_revision", "revision"),
    ),
    ErrorRow(
        reason="OVERLOADED",
        code=Code.RESOURCE_EXHAUSTED,
        meaning="The server has too much work, or a backup is already running. Nothing was changed.",
        message="the server is overloaded",
        detail="too many requests are waiting",
        hint="retry after the delay in RetryInfo",
    ),
    ErrorRow(
        reason="PAYLOAD_TOO_LARGE",
        code=Code.RESOURCE_EXHAUSTED,
        meaning="A payload is larger than 1 MiB, or the payloads of the instance would be larger than 3 MiB.",
        message="payload in {field!r} is too large",
        detail="{size_bytes} bytes, and the maximum is {size_bytes_max}",
        hint="store large data elsewhere and send a reference to it",
        metadata=("field", "size_bytes", "size_bytes_max"),
    ),
    ErrorRow(
        reason="INBOX_FULL",
        code=Code.RESOURCE_EXHAUSTED,
        meaning="The inbox of the instance has 1,000 events.",
        message="the inbox of instance {instance_id!r} is full",
        detail="it has the maximum of {events_max} events",
        hint="send the event after steps have consumed others",
        metadata=("instance_id", "events_max"),
    ),
    ErrorRow(
        reason="TOO_MANY_TIMERS",
        code=Code.RESOURCE_EXHAUSTED,
        meaning="1,000 timers of ScheduleResume are pending in the instance.",
        message="instance {instance_id!r} has too many pending timers",
        detail="it has the maximum of {timers_max} timers of ScheduleResume",
        hint="list timers with ListTimers and cancel those you do not need, or wait until some have fired",
        metadata=("instance_id", "timers_max"),
    ),
    ErrorRow(
        reason="DATABASE_UNAVAILABLE",
        code=Code.UNAVAILABLE,
        meaning="The database cannot be used. Nothing was changed.",
        message="the database is unavailable",
        detail="nothing was changed",
        hint="retry after the delay in RetryInfo",
        retry_after_ms=RETRY_AFTER_MS,
    ),
    ErrorRow(
        reason="COMMIT_UNKNOWN",
        code=Code.UNAVAILABLE,
        meaning="The response of the database was lost. The call may or may not have taken effect.",
        message="the result of the call is unknown",
        detail="the call may or may not have taken effect",
        hint="retry with the same request_id",
        retry_after_ms=RETRY_AFTER_MS,
    ),
    ErrorRow(
        reason="SHUTTING_DOWN",
        code=Code.UNAVAILABLE,
        meaning="The server is shutting down. Nothing was changed.",
        message="the server is shutting down",
        detail="nothing was changed",
        hint="retry after the delay in RetryInfo",
        retry_after_ms=RETRY_AFTER_MS,
    ),
    ErrorRow(
        reason="BACKUP_NOT_CONFIGURED",
        code=Code.FAILED_PRECONDITION,
        meaning="The server was started without `--backup-dir`.",
        message="the server has no directory for backups",
        hint="start the server with --backup-dir DIRECTORY",
        subject="option",
    ),
    ErrorRow(
        reason="BACKUP_ALREADY_EXISTS",
        code=Code.ALREADY_EXISTS,
        meaning="The backup directory contains a file with this name, or the name belongs to the database.",
        message="file {file_name!r} already exists in the directory for backups",
        hint="use another file_name",
        metadata=("file_name",),
        resource=("backup", "file_name"),
    ),
    ErrorRow(
        reason="BACKUP_FAILED",
        code=Code.UNAVAILABLE,
        meaning="The backup could not be written or verified. The server removed the incomplete file.",
        message="backup {file_name!r} failed: {cause}",
        detail="the server removed the incomplete file",
        hint="fix the cause, for example a full disk, and retry",
        metadata=("file_name",),
        retry_after_ms=RETRY_AFTER_MS,
    ),
)

TABLE: Final[Mapping[str, ErrorRow]] = {row.reason: row for row in _ROWS}
"""The rows by their reason, in the order of the documentation."""

RESERVED_REASONS: Final = frozenset(row.reason for row in _ROWS if row.is_reserved)
"""Reasons that no call can fail for yet. Only serving code registers workflows, and histories are never compacted."""
