"""Exceptions as error responses: the fields of each exception, filled into its row of the error table."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from perdure_server.api.error_table import TABLE, Code
from perdure_server.api.suggestions import nearest
from perdure_server.engine import rejections as reject
from perdure_server.engine.value_type import value
from perdure_server.runtime import errors
from perdure_server.runtime.request_validation import InvalidRequestError
from perdure_server.store import protocol as store
from perdure_server.telemetry.logs import RateLimitedLogger

log = logging.getLogger(__name__)
_store_failures: Final = RateLimitedLogger(log, "database request failed: %s")

BACKUP_RETRY_AFTER_MS: Final = 5_000
"""Pause before another backup is tried while one is running."""
QUEUE_RETRY_AFTER_MS: Final = 500
"""Pause before a call is retried that the commit queue had no room for."""
_NAMES_CHARS_MAX: Final = 280


@value(frozen=True, slots=True, kw_only=True)
class ErrorResponse:
    """The error that ends a call, for any transport."""

    code: Code
    reason: str
    """The reason in the error table. Empty for an exceeded deadline, which has no reason."""
    message: str
    detail: str = ""
    """The context of the error. Empty if there is nothing to add."""
    hint: str = ""
    """The action that helps. Empty if there is none."""
    metadata: Mapping[str, str]
    """The fields of the error by their name. Lists are joined with commas."""
    violations: Sequence[tuple[str, str]] = ()
    """Invalid fields, as pairs of the field's path and a description."""
    resource: tuple[str, str] | None = None
    """The type and the name of the resource that was not found or exists."""
    subject: str = ""
    """The subject of the failed precondition."""
    retry_after_ms: int = 0
    """The pause before a retry. 0 if the response does not ask for one."""


class CallFailedError(Exception):
    """A call ended with an error response."""

    def __init__(self, response: ErrorResponse) -> None:
        super().__init__(response.message)
        self.response = response


class RequestTimeoutError(Exception):
    """The headers of a call arrived, but its request did not follow in time."""


class CallTimeoutError(Exception):
    """A call without a deadline took longer than ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class StreamTimeoutError(Exception):
    """A stream without a deadline was open for as long as the server allows."""


def error_response_of(error: Exception) -> ErrorResponse:
    """Return the response for an exception.

    An exception that is not in the table is a defect of the server. It is logged, and its response is COMMIT_UNKNOWN.
    """
    respond = _RESPONSES.get(type(error))
    if respond is None:
        log.error("unhandled error in RPC", exc_info=error)
        return _respond("COMMIT_UNKNOWN")
    return respond(error)


Fields = Mapping[str, str | int | Sequence[str]]


def _respond(
    reason: str,
    fields: Fields = MappingProxyType({}),
    *,
    message: str = "",
    detail: str = "",
    hint: str = "",
    violations: Sequence[tuple[str, str]] = (),
    retry_after_ms: int = 0,
) -> ErrorResponse:
    """Fill the fields of an error into its row. Other texts can replace those of the row."""
    row = TABLE[reason]
    metadata: dict[str, str] = {}
    for key in (*row.metadata, *row.optional):
        if key in fields:
            metadata |= _metadata(key, fields[key])
    return ErrorResponse(
        code=row.code,
        reason=reason,
        message=message or row.message.format_map(fields),
        detail=detail or row.detail.format_map(fields),
        hint=hint or row.hint.format_map(fields),
        metadata=metadata,
        violations=violations,
        resource=(row.resource[0], str(fields[row.resource[1]])) if row.resource else None,
        subject=str(fields[row.subject]) if row.subject else "",
        retry_after_ms=retry_after_ms or row.retry_after_ms,
    )


def _metadata(key: str, field: str | int | Sequence[str]) -> dict[str, str]:
    if isinstance(field, str | int):
        return {key: str(field)}
    shown = _fitting(field)
    found = {key: ",".join(shown)}
    if len(shown) < len(field):
        found[f"{key}_more"] = str(len(field) - len(shown))
    return found


# --- invalid requests ----------------------------------------------------------------------------------------


def _invalid_fields(error: InvalidRequestError) -> ErrorResponse:
    violations = [(violation.path, violation.description) for violation in error.violations]
    path, description = violations[0]
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    return _respond(
        "INVALID_FIELD",
        {"path": path or "invalid request", "description": f"{description}{more}"},
        violations=violations,
    )


def _request_id_reused(error: reject.RequestIdReused) -> ErrorResponse:
    violations = [("opts.request_id", f"{error.request_id!r} was used for a different request")]
    return _respond("REQUEST_ID_REUSED", {"request_id": error.request_id}, violations=violations)


# --- not found, already exists -------------------------------------------------------------------------------


def _instance_not_found(error: reject.InstanceNotFound) -> ErrorResponse:
    return _respond("INSTANCE_NOT_FOUND", {"instance_id": error.instance_id})


def _workflow_not_found(error: reject.WorkflowNotFound) -> ErrorResponse:
    if error.version and error.versions:
        versions = [str(version) for version in error.versions]
        return _respond(
            "WORKFLOW_NOT_FOUND",
            {"workflow": error.workflow, "versions": versions},
            message=f"workflow {error.workflow!r} has no version {error.version}",
            detail=f"known versions: {_listed(versions)}",
            hint="use one of these versions, or 0 for the newest",
        )
    near = nearest(error.workflow, error.known)
    return _respond(
        "WORKFLOW_NOT_FOUND",
        {"workflow": error.workflow, "workflows": error.known, "nearest": near},
        detail=f"known workflows: {_listed(error.known)}" if error.known else "no workflow is registered",
        hint=_did_you_mean(near),
    )


def _definition_replaced(error: reject.DefinitionReplaced) -> ErrorResponse:
    name = f"workflow {error.workflow!r} version {error.version}"
    return _respond(
        "WORKFLOW_NOT_FOUND",
        {"workflow": error.workflow, "instance_id": error.instance_id},
        message=f"the graph of instance {error.instance_id!r} was replaced",
        detail=f"the instance ran on another graph of {name} than the one that is stored now",
        hint="start a new instance, and give each changed graph a new version",
    )


def _step_not_found(error: reject.StepNotFound) -> ErrorResponse:
    near = nearest(error.step_ref, error.known)
    return _respond(
        "STEP_NOT_FOUND",
        {
            "instance_id": error.instance_id,
            "step_ref": error.step_ref,
            "step_refs": error.known,
            "nearest": near,
        },
        detail=f"the workflow has the steps {_listed(error.known)}" if error.known else "",
        hint=_did_you_mean(near),
    )


def _timer_not_found(error: reject.TimerNotFound) -> ErrorResponse:
    return _respond("TIMER_NOT_FOUND", {"reference": error.reference})


def _already_exists(error: reject.InstanceAlreadyExists) -> ErrorResponse:
    return _respond("INSTANCE_ALREADY_EXISTS", {"instance_id": error.instance_id})


def _business_key_in_use(error: reject.BusinessKeyInUse) -> ErrorResponse:
    fields = {
        "instance_id": error.instance_id,
        "workflow": error.workflow,
        "business_key": error.business_key,
    }
    if not error.retried:
        return _respond("BUSINESS_KEY_IN_USE", fields)
    # A retry does not have a conflict policy to choose.
    return _respond(
        "BUSINESS_KEY_IN_USE",
        fields | {"retried_instance_id": error.retried},
        hint=f"wait until that instance ends or cancel it, then retry {error.retried!r}",
    )


# --- failed preconditions ------------------------------------------------------------------------------------


def _ended(error: reject.InstanceEnded) -> ErrorResponse:
    return _respond(
        "INSTANCE_ENDED",
        {"instance_id": error.instance_id, "state": error.status.upper()},
        hint="let it continue with RetryInstance" if error.status == "failed" else "",
    )


def _not_failed(error: reject.InstanceNotFailed) -> ErrorResponse:
    return _respond("INSTANCE_NOT_FAILED", {"instance_id": error.instance_id, "state": error.status.upper()})


def _not_awaited(error: reject.EventNotAwaited) -> ErrorResponse:
    return _respond(
        "EVENT_NOT_AWAITED",
        {"instance_id": error.instance_id, "event": error.event, "step_refs": error.step_refs},
        detail=f"{_steps(error.step_refs)} can wait for it later",
    )


def _never_accepted(error: reject.EventNeverAccepted) -> ErrorResponse:
    accepted = (
        f"the remaining steps accept: {_listed(error.accepted)}"
        if error.accepted
        else "no remaining step accepts an event"
    )
    return _respond(
        "EVENT_NEVER_ACCEPTED",
        {"instance_id": error.instance_id, "event": error.event, "events": error.accepted},
        detail=accepted,
    )


def _step_never_accepts(error: reject.StepNeverAccepts) -> ErrorResponse:
    accepted = f"it accepts: {_listed(error.accepted)}" if error.accepted else "it does not accept events"
    return _respond(
        "EVENT_NEVER_ACCEPTED",
        {
            "instance_id": error.instance_id,
            "event": error.event,
            "step_ref": error.step_ref,
            "events": error.accepted,
            "step_refs": error.step_refs,
        },
        message=f"event {error.event!r} is not accepted by step {error.step_ref!r}",
        detail=accepted,
        hint=_other_steps(error.event, error.step_refs),
    )


def _ambiguous(error: reject.AmbiguousEvent) -> ErrorResponse:
    return _respond(
        "AMBIGUOUS_EVENT",
        {"instance_id": error.instance_id, "event": error.event, "step_refs": error.step_refs},
        detail=f"{_steps(error.step_refs)} wait for it",
    )


def _finished(error: reject.StepAlreadyFinished) -> ErrorResponse:
    message = f"step {error.step_ref!r} was skipped" if error.skipped else ""
    return _too_late("STEP_FINISHED", error, message, "a step does not start again after it has ended")


def _unreachable(error: reject.StepUnreachable) -> ErrorResponse:
    return _too_late("STEP_UNREACHABLE", error, "", "the instance took another path")


def _too_late(
    reason: str, error: reject.StepAlreadyFinished | reject.StepUnreachable, message: str, detail: str
) -> ErrorResponse:
    if not error.event:
        return _respond(
            reason,
            {"instance_id": error.instance_id, "step_ref": error.step_ref},
            message=message,
            detail=detail,
        )
    return _respond(
        reason,
        {
            "instance_id": error.instance_id,
            "step_ref": error.step_ref,
            "event": error.event,
            "step_refs": error.step_refs,
        },
        message=message,
        detail=detail,
        hint=_other_steps(error.event, error.step_refs),
    )


def _other_steps(event: str, step_refs: Sequence[str]) -> str:
    """Return a hint with the steps that accept an event that the named step does not accept."""
    if not step_refs:
        return f"no other step accepts {event!r}; show the active steps with GetInstance"
    accept = "accepts" if len(step_refs) == 1 else "accept"
    return f"leave step_ref empty or use another: {_steps(step_refs)} {accept} {event!r}"


def _no_timeout(error: reject.StepHasNoTimeout) -> ErrorResponse:
    return _respond("STEP_HAS_NO_TIMEOUT", {"instance_id": error.instance_id, "step_ref": error.step_ref})


def _not_cancellable(error: reject.TimerNotCancellable) -> ErrorResponse:
    return _respond("TIMER_NOT_CANCELLABLE", {"reference": error.reference, "kind": error.kind})


def _lease_lost(error: errors.OwnershipLostError) -> ErrorResponse:
    return _respond("LEASE_LOST", {"instance_id": error.instance_id})


def _backup_not_configured(error: errors.BackupNotConfiguredError) -> ErrorResponse:
    return _respond("BACKUP_NOT_CONFIGURED", {"option": "backup_dir"})


# --- limits --------------------------------------------------------------------------------------------------


def _in_future(error: errors.UnreachedRevisionError) -> ErrorResponse:
    return _respond(
        "REVISION_IN_FUTURE",
        {"instance_id": error.instance_id, "after_revision": error.revision, "revision": error.head},
    )


def _overloaded(error: errors.ServerOverloadedError) -> ErrorResponse:
    return _respond("OVERLOADED", retry_after_ms=error.retry_after_ms)


def _commit_queue_full(_: store.CommitQueueFullError) -> ErrorResponse:
    return _respond(
        "OVERLOADED", detail="too many changes wait for the database", retry_after_ms=QUEUE_RETRY_AFTER_MS
    )


def _backup_running(_: errors.BackupRunningError) -> ErrorResponse:
    return _respond(
        "OVERLOADED",
        message="a backup is already running",
        detail="the server runs one backup at a time",
        hint="retry when the backup is complete",
        retry_after_ms=BACKUP_RETRY_AFTER_MS,
    )


def _payload_too_large(error: reject.PayloadTooLarge) -> ErrorResponse:
    return _respond(
        "PAYLOAD_TOO_LARGE",
        {"field": error.field, "size_bytes": error.size_bytes, "size_bytes_max": error.size_bytes_max},
    )


def _inbox_full(error: reject.InboxFull) -> ErrorResponse:
    return _respond("INBOX_FULL", {"instance_id": error.instance_id, "events_max": error.events_max})


def _too_many_timers(error: reject.TooManyTimers) -> ErrorResponse:
    return _respond("TOO_MANY_TIMERS", {"instance_id": error.instance_id, "timers_max": error.timers_max})


# --- unavailable ---------------------------------------------------------------------------------------------


def _database(error: store.StoreError) -> ErrorResponse:
    _store_failures.warning(error)
    return _respond("DATABASE_UNAVAILABLE")


def _unreadable(error: store.UnreadableRecordError) -> ErrorResponse:
    _store_failures.warning(error)
    return _respond(
        "DATABASE_UNAVAILABLE",
        message=str(error),
        hint="check the database with `perdure db check`",
    )


def _commit_unknown(_: store.CommitUnknownError) -> ErrorResponse:
    return _respond("COMMIT_UNKNOWN")


def _shutting_down(_: errors.ServerStoppingError) -> ErrorResponse:
    return _respond("SHUTTING_DOWN")


def _backup_exists(error: store.BackupExistsError) -> ErrorResponse:
    return _respond("BACKUP_ALREADY_EXISTS", {"file_name": os.path.basename(error.path)})


def _backup_failed(error: store.BackupFailedError) -> ErrorResponse:
    # The cause can contain paths of the server. Callers know the directory from the responses of other backups.
    log.warning("backup failed", extra={"path": error.path, "reason": error.reason})
    return _respond("BACKUP_FAILED", {"file_name": os.path.basename(error.path), "cause": error.reason})


# --- deadlines -----------------------------------------------------------------------------------------------


def _deadline_exceeded(message: str) -> ErrorResponse:
    return ErrorResponse(code=Code.DEADLINE_EXCEEDED, reason="", message=message, metadata={})


def _request_timeout(_: RequestTimeoutError) -> ErrorResponse:
    return _deadline_exceeded("the message of the call did not arrive in time after its headers")


def _call_timeout(error: CallTimeoutError) -> ErrorResponse:
    return _deadline_exceeded(
        f"the call took longer than {error.seconds:g} s, the limit for calls without a deadline, and may or may not "
        "have taken effect; retry with the same request_id"
    )


def _stream_timeout(_: StreamTimeoutError) -> ErrorResponse:
    return _deadline_exceeded(
        "the stream reached the time limit for streams without a deadline; watch again after the last revision"
    )


_RESPONSES: Final[Mapping[type[Exception], Callable[[Any], ErrorResponse]]] = {
    InvalidRequestError: _invalid_fields,
    reject.RequestIdReused: _request_id_reused,
    reject.InstanceNotFound: _instance_not_found,
    reject.WorkflowNotFound: _workflow_not_found,
    reject.DefinitionReplaced: _definition_replaced,
    reject.StepNotFound: _step_not_found,
    reject.TimerNotFound: _timer_not_found,
    reject.InstanceAlreadyExists: _already_exists,
    reject.BusinessKeyInUse: _business_key_in_use,
    reject.InstanceEnded: _ended,
    reject.InstanceNotFailed: _not_failed,
    reject.EventNotAwaited: _not_awaited,
    reject.EventNeverAccepted: _never_accepted,
    reject.StepNeverAccepts: _step_never_accepts,
    reject.AmbiguousEvent: _ambiguous,
    reject.StepAlreadyFinished: _finished,
    reject.StepUnreachable: _unreachable,
    reject.StepHasNoTimeout: _no_timeout,
    reject.TimerNotCancellable: _not_cancellable,
    errors.OwnershipLostError: _lease_lost,
    errors.BackupNotConfiguredError: _backup_not_configured,
    errors.UnreachedRevisionError: _in_future,
    errors.ServerOverloadedError: _overloaded,
    store.CommitQueueFullError: _commit_queue_full,
    errors.BackupRunningError: _backup_running,
    reject.PayloadTooLarge: _payload_too_large,
    reject.InboxFull: _inbox_full,
    reject.TooManyTimers: _too_many_timers,
    store.StoreUnavailableError: _database,
    store.NewerFormatError: _database,
    store.UnreadableRecordError: _unreadable,
    store.CommitUnknownError: _commit_unknown,
    errors.ServerStoppingError: _shutting_down,
    store.BackupExistsError: _backup_exists,
    store.BackupFailedError: _backup_failed,
    RequestTimeoutError: _request_timeout,
    CallTimeoutError: _call_timeout,
    StreamTimeoutError: _stream_timeout,
}


# --- names in texts ------------------------------------------------------------------------------------------


def _did_you_mean(near: Sequence[str]) -> str:
    return f"did you mean {' or '.join(near)}?" if near else ""


def _steps(step_refs: Sequence[str]) -> str:
    return ("step " if len(step_refs) == 1 else "steps ") + _listed(step_refs)


def _listed(names: Sequence[str]) -> str:
    """Return names for a text, as many as fit."""
    shown = _fitting(names)
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(shown) < len(names) else "")


def _fitting(names: Sequence[str]) -> Sequence[str]:
    room = _NAMES_CHARS_MAX
    for index, name in enumerate(names):
        room -= len(name) + 1
        if room < 0:
            return names[:index]
    return names
