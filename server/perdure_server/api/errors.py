"""The error table: what each refusal is on the wire. There is no other place that knows a status code.

A refusal becomes a ``google.rpc.Status`` with `ErrorInfo` (its reason, from ``perdure.v1.ErrorReason``) and the detail
that fits: `BadRequest`, `ResourceInfo`, `PreconditionFailure` or `RetryInfo`. The message names the field or the
thing and the hint.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from perdure.model.constants import ERROR_DOMAIN
from perdure_server.api.suggestions import nearest
from perdure_server.engine import rejections as reject
from perdure_server.runtime import errors
from perdure_server.runtime.request_validation import InvalidRequestError
from perdure_server.store import protocol as store
from perdure_server.telemetry.logs import RateLimitedLogger

log = logging.getLogger(__name__)
_database_refused: Final = RateLimitedLogger(log, "the database refused a call: %s")

STATUS_BYTES_MAX: Final = 4 << 10
"""How large a status is; what does not fit is counted instead. The API promises 6 KiB at most. In base64 and beside the
message, this stays below the 8 KiB of headers that many clients and proxies take.
"""

RETRY_AFTER_MS: Final = 500
BACKUP_RETRY_AFTER_MS: Final = 5_000
"""Pause before another backup is tried while one is running."""
_MESSAGE_BYTES_MAX: Final = 1_000
_ITEM_BYTES_MAX: Final = 300
_NAMES_CHARS_MAX: Final = 280


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorResponse:
    """A refusal, ready for any wire. ``violations`` are (field, description) pairs."""

    code: grpc.StatusCode
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: Sequence[tuple[str, str]] = ()
    resource: tuple[str, str] | None = None
    subject: str = ""
    retry_after_ms: int = 0


def error_response_of(error: Exception) -> ErrorResponse:
    """Return what an error is on the wire. One that the table does not know is a defect: it is logged, and the caller
    is told that nothing can be said about the outcome.
    """
    row = _TABLE.get(type(error))
    if row is None:
        log.error("a call met an error that no rule foresees", exc_info=error)
        return _commit_unknown(error)
    return row(error)


def status_of(refusal: ErrorResponse) -> status_pb2.Status:
    """Return the rich status, cut to `STATUS_BYTES_MAX`."""
    status = status_pb2.Status(code=refusal.code.value[0], message=_cut(refusal.message, _MESSAGE_BYTES_MAX))
    info = error_details_pb2.ErrorInfo(reason=refusal.reason, domain=ERROR_DOMAIN)
    for key, value in refusal.metadata.items():
        info.metadata[key] = _cut(value, _ITEM_BYTES_MAX)
    _attach(status, info)
    if refusal.resource is not None:
        kind, name = refusal.resource
        _attach(
            status,
            error_details_pb2.ResourceInfo(
                resource_type=kind, resource_name=_cut(name, _ITEM_BYTES_MAX), description=refusal.reason
            ),
        )
    if refusal.subject:
        violation = error_details_pb2.PreconditionFailure.Violation(
            type=refusal.reason, subject=_cut(refusal.subject, _ITEM_BYTES_MAX), description=status.message
        )
        _attach(status, error_details_pb2.PreconditionFailure(violations=[violation]))
    if refusal.retry_after_ms:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(refusal.retry_after_ms)
        _attach(status, error_details_pb2.RetryInfo(retry_delay=delay))
    if refusal.violations:
        _attach_violations(status, refusal.violations)
    return status


def _attach_violations(status: status_pb2.Status, violations: Sequence[tuple[str, str]]) -> None:
    room = STATUS_BYTES_MAX - status.ByteSize() - 200
    bad = error_details_pb2.BadRequest()
    for told, (path, description) in enumerate(violations):
        item = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(path, _ITEM_BYTES_MAX), description=_cut(description, _ITEM_BYTES_MAX)
        )
        room -= item.ByteSize() + 8
        if room < 0:
            rest = len(violations) - told
            bad.field_violations.add(field="", description=f"and {rest} more")
            break
        bad.field_violations.append(item)
    _attach(status, bad)


def _attach(status: status_pb2.Status, detail: Message) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)


def _cut(text: str, bytes_max: int) -> str:
    body = text.encode(errors="replace")
    if len(body) <= bytes_max:
        return body.decode()
    return body[: bytes_max - 3].decode(errors="ignore") + "…"


# --- the rows ------------------------------------------------------------------------------------------------


def _invalid_fields(error: InvalidRequestError) -> ErrorResponse:
    violations = [(v.path, v.description) for v in error.violations]
    path, description = violations[0]
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    return ErrorResponse(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason="INVALID_FIELD",
        message=f"{path or 'the request'}: {description}{more}",
        violations=violations,
    )


def _request_id_reused(error: reject.RequestIdReused) -> ErrorResponse:
    message = f"request_id {error.request_id!r} was used for a call with another body; give each call its own"
    return ErrorResponse(
        code=grpc.StatusCode.INVALID_ARGUMENT,
        reason="REQUEST_ID_REUSED",
        message=message,
        metadata={"request_id": error.request_id},
        violations=[("opts.request_id", message)],
    )


def _not_found(reason: str, kind: str, name: str, message: str, **metadata: str) -> ErrorResponse:
    return ErrorResponse(
        code=grpc.StatusCode.NOT_FOUND,
        reason=reason,
        message=message,
        metadata=metadata,
        resource=(kind, name),
    )


def _instance_not_found(error: reject.InstanceNotFound) -> ErrorResponse:
    message = f"there is no instance {error.instance_id!r}; ListInstances tells which there are"
    return _not_found(
        "INSTANCE_NOT_FOUND", "instance", error.instance_id, message, instance_id=error.instance_id
    )


def _workflow_not_found(error: reject.WorkflowNotFound) -> ErrorResponse:
    if error.version and error.versions:
        versions = [str(version) for version in error.versions]
        return _not_found(
            "WORKFLOW_NOT_FOUND",
            "workflow",
            error.workflow,
            f"workflow {error.workflow!r} has no version {error.version}; leave it 0 for the newest (known: "
            f"{_listed(versions)})",
            workflow=error.workflow,
            **_names("versions", versions),
        )
    near = nearest(error.workflow, error.known)
    known = f"known: {_listed(error.known)}" if error.known else "there is none yet"
    return _not_found(
        "WORKFLOW_NOT_FOUND",
        "workflow",
        error.workflow,
        f"there is no workflow {error.workflow!r}; {_did_you_mean(near)}serve it first ({known})",
        workflow=error.workflow,
        **_names("workflows", error.known),
        **_names("nearest", near),
    )


def _definition_replaced(error: reject.DefinitionReplaced) -> ErrorResponse:
    message = (
        f"instance {error.instance_id!r} ran on another graph of workflow {error.workflow!r} version {error.version} "
        "than is stored now, so it cannot go on; start a new one (a new graph under a new version keeps the old one)"
    )
    return _not_found(
        "WORKFLOW_NOT_FOUND",
        "workflow",
        error.workflow,
        message,
        workflow=error.workflow,
        instance_id=error.instance_id,
    )


def _step_not_found(error: reject.StepNotFound) -> ErrorResponse:
    near = nearest(error.step_ref, error.known)
    message = (
        f"step_ref: the workflow has no step {error.step_ref!r}; {_did_you_mean(near)}its steps are "
        f"{_listed(error.known)}"
    )
    return _not_found(
        "STEP_NOT_FOUND",
        "step",
        error.step_ref,
        message,
        instance_id=error.instance_id,
        step_ref=error.step_ref,
        **_names("step_refs", error.known),
        **_names("nearest", near),
    )


def _timer_not_found(error: reject.TimerNotFound) -> ErrorResponse:
    message = f"there is no pending timer {error.reference!r}: it fired, was cancelled, its step ended, or it never was"
    return _not_found("TIMER_NOT_FOUND", "timer", error.reference, message, reference=error.reference)


def _already_exists(error: reject.InstanceAlreadyExists) -> ErrorResponse:
    return ErrorResponse(
        code=grpc.StatusCode.ALREADY_EXISTS,
        reason="INSTANCE_ALREADY_EXISTS",
        message=f"opts.instance_id: instance {error.instance_id!r} exists already; choose another id or leave it empty",
        metadata={"instance_id": error.instance_id},
        resource=("instance", error.instance_id),
    )


def _business_key_in_use(error: reject.BusinessKeyInUse) -> ErrorResponse:
    # A start names the key in a field; a retry has none, and no policy to choose.
    field, hint = "opts.business_key: ", "use it (CONFLICT_POLICY_USE_EXISTING) or wait for its end"
    if error.retried:
        field, hint = "", f"wait for its end or cancel it, then retry {error.retried!r}"
    return ErrorResponse(
        code=grpc.StatusCode.ALREADY_EXISTS,
        reason="BUSINESS_KEY_IN_USE",
        message=(
            f"{field}the live instance {error.instance_id!r} of workflow {error.workflow!r} holds the key "
            f"{error.business_key!r}; {hint}"
        ),
        metadata={
            "instance_id": error.instance_id,
            "workflow": error.workflow,
            "business_key": error.business_key,
        }
        | ({"retried_instance_id": error.retried} if error.retried else {}),
        resource=("instance", error.instance_id),
    )


def _failed(reason: str, message: str, subject: str, **metadata: str) -> ErrorResponse:
    return ErrorResponse(
        code=grpc.StatusCode.FAILED_PRECONDITION,
        reason=reason,
        message=message,
        metadata=metadata,
        subject=subject,
    )


def _terminal(error: reject.InstanceEnded) -> ErrorResponse:
    hint = "RetryInstance lets it go on" if error.status == "failed" else "nothing can happen to it any more"
    return _failed(
        "INSTANCE_ENDED",
        f"instance {error.instance_id!r} is {error.status.upper()}; {hint}",
        error.instance_id,
        instance_id=error.instance_id,
        state=error.status.upper(),
    )


def _not_failed(error: reject.InstanceNotFailed) -> ErrorResponse:
    return _failed(
        "INSTANCE_NOT_FAILED",
        f"instance {error.instance_id!r} is {error.status.upper()}; only a FAILED instance can be retried",
        error.instance_id,
        instance_id=error.instance_id,
        state=error.status.upper(),
    )


def _not_awaited(error: reject.EventNotAwaited) -> ErrorResponse:
    return _failed(
        "EVENT_NOT_AWAITED",
        f"no step waits for {error.event!r} yet; {_steps(error.step_refs)} may later: try then, or set opts.buffer",
        error.event,
        instance_id=error.instance_id,
        event=error.event,
        **_names("step_refs", error.step_refs),
    )


def _never_accepted(error: reject.EventNeverAccepted) -> ErrorResponse:
    others = (
        f"steps still accept {_listed(error.accepted)}" if error.accepted else "no step accepts any event"
    )
    return _failed(
        "EVENT_NEVER_ACCEPTED",
        f"no step that can still be reached accepts {error.event!r}; {others}",
        error.event,
        instance_id=error.instance_id,
        event=error.event,
        **_names("events", error.accepted),
    )


def _never_of_step(error: reject.StepNeverAccepts) -> ErrorResponse:
    takes = f"accepts only {_listed(error.accepted)}" if error.accepted else "takes no event from outside"
    return _failed(
        "EVENT_NEVER_ACCEPTED",
        f"step_ref: step {error.step_ref!r} {takes}; {_others(error.event, error.step_refs)}",
        error.event,
        instance_id=error.instance_id,
        event=error.event,
        step_ref=error.step_ref,
        **_names("events", error.accepted),
        **_names("step_refs", error.step_refs),
    )


def _ambiguous(error: reject.AmbiguousEvent) -> ErrorResponse:
    return _failed(
        "AMBIGUOUS_EVENT",
        f"{_steps(error.step_refs)} wait for {error.event!r}; pick one by opts.step_ref",
        error.event,
        instance_id=error.instance_id,
        event=error.event,
        **_names("step_refs", error.step_refs),
    )


def _finished(error: reject.StepAlreadyFinished) -> ErrorResponse:
    words = "was skipped" if error.skipped else "has finished"
    return _too_late("STEP_FINISHED", error, words, "it will not run or wait again")


def _unreachable(error: reject.StepUnreachable) -> ErrorResponse:
    words = "cannot be reached any more in this instance"
    return _too_late("STEP_UNREACHABLE", error, words, "the instance took another path")


def _too_late(
    reason: str, error: reject.StepAlreadyFinished | reject.StepUnreachable, words: str, why: str
) -> ErrorResponse:
    hint = _others(error.event, error.step_refs) if error.event else why
    return _failed(
        reason,
        f"step_ref: step {error.step_ref!r} {words}; {hint}",
        error.step_ref,
        instance_id=error.instance_id,
        step_ref=error.step_ref,
        **({"event": error.event} | _names("step_refs", error.step_refs) if error.event else {}),
    )


def _others(event: str, step_refs: Sequence[str]) -> str:
    """Return where an event can go that the named step does not take."""
    if not step_refs:
        return f"nor does any other step accept {event!r} (GetInstance tells what steps wait for)"
    accept = "accepts" if len(step_refs) == 1 else "accept"
    return f"leave it out or name another: {_steps(step_refs)} still {accept} {event!r}"


def _no_timeout(error: reject.StepHasNoTimeout) -> ErrorResponse:
    return _failed(
        "STEP_HAS_NO_TIMEOUT",
        f"step_ref: step {error.step_ref!r} has no `timeout` arrow to take; declare one, or pick a step that does",
        error.step_ref,
        instance_id=error.instance_id,
        step_ref=error.step_ref,
    )


def _not_cancellable(error: reject.TimerNotCancellable) -> ErrorResponse:
    return _failed(
        "TIMER_NOT_CANCELLABLE",
        f"timer {error.reference!r} is a {error.kind} timer; only timeout timers can be cancelled, any can be fired",
        error.reference,
        reference=error.reference,
        kind=error.kind,
    )


def _lease_lost(error: errors.OwnershipLostError) -> ErrorResponse:
    return _failed("LEASE_LOST", str(error), error.instance_id, instance_id=error.instance_id)


def _in_future(error: errors.UnreachedRevisionError) -> ErrorResponse:
    return ErrorResponse(
        code=grpc.StatusCode.OUT_OF_RANGE,
        reason="REVISION_IN_FUTURE",
        message=f"after_revision: {error}; resume from a revision that was seen",
        metadata={
            "instance_id": error.instance_id,
            "after_revision": str(error.revision),
            "revision": str(error.head),
        },
    )


def _exhausted(reason: str, message: str, retry_after_ms: int = 0, **metadata: str) -> ErrorResponse:
    return ErrorResponse(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED,
        reason=reason,
        message=message,
        metadata=metadata,
        retry_after_ms=retry_after_ms,
    )


def _too_large(error: reject.PayloadTooLarge) -> ErrorResponse:
    return _exhausted(
        "PAYLOAD_TOO_LARGE",
        f"{error.field}: {error.size_bytes} bytes of at most {error.size_bytes_max}; store large things elsewhere and "
        "send where they are",
        field=error.field,
        size_bytes=str(error.size_bytes),
        size_bytes_max=str(error.size_bytes_max),
    )


def _inbox_full(error: reject.InboxFull) -> ErrorResponse:
    return _exhausted(
        "INBOX_FULL",
        f"the inbox of instance {error.instance_id!r} holds {error.events_max} events; send more once steps took some",
        instance_id=error.instance_id,
        events_max=str(error.events_max),
    )


def _too_many_timers(error: reject.TooManyTimers) -> ErrorResponse:
    return _exhausted(
        "TOO_MANY_TIMERS",
        f"{error.timers_max} timers of ScheduleResume are pending in instance {error.instance_id!r}; cancel those that "
        "are not wanted any more (ListTimers tells which there are), or schedule again once some have fired",
        instance_id=error.instance_id,
        timers_max=str(error.timers_max),
    )


def _overloaded(error: errors.ServerOverloadedError) -> ErrorResponse:
    return _exhausted("OVERLOADED", f"{error}; try again", error.retry_after_ms)


def _store_overloaded(error: store.CommitQueueFullError) -> ErrorResponse:
    return _exhausted("OVERLOADED", "too much waits for the database; try again", RETRY_AFTER_MS)


def _unavailable(reason: str, message: str, **metadata: str) -> ErrorResponse:
    return ErrorResponse(
        code=grpc.StatusCode.UNAVAILABLE,
        reason=reason,
        message=message,
        metadata=metadata,
        retry_after_ms=RETRY_AFTER_MS,
    )


def _database(error: store.StoreError) -> ErrorResponse:
    _database_refused.warning(error)
    return _unavailable(
        "DATABASE_UNAVAILABLE", "the database cannot be used right now; nothing was changed, try again"
    )


def _unreadable(error: store.UnreadableRecordError) -> ErrorResponse:
    _database_refused.warning(error)
    return _unavailable(
        "DATABASE_UNAVAILABLE", f"{error}, so nothing was changed; check the database with `perdure db check`"
    )


def _commit_unknown(error: Exception) -> ErrorResponse:
    message = "whether the call took effect is unknown; repeat it with the same request_id, which is safe"
    return _unavailable("COMMIT_UNKNOWN", message)


def _shutting_down(error: errors.ServerStoppingError) -> ErrorResponse:
    return _unavailable("SHUTTING_DOWN", "this server is stopping; nothing was changed, try again")


def _backup_not_configured(error: errors.BackupNotConfiguredError) -> ErrorResponse:
    return _failed(
        "BACKUP_NOT_CONFIGURED",
        f"{error}; start it with --backup-dir DIRECTORY, or copy the database file as "
        "docs/operate/back-up-and-restore.md shows",
        "backup_dir",
    )


def _backup_exists(error: store.BackupExistsError) -> ErrorResponse:
    name = os.path.basename(error.path)
    return ErrorResponse(
        code=grpc.StatusCode.ALREADY_EXISTS,
        reason="BACKUP_ALREADY_EXISTS",
        message=f"file_name: {name!r} exists in the directory for backups; choose another name",
        metadata={"file_name": name},
        resource=("backup", name),
    )


def _backup_failed(error: store.BackupFailedError) -> ErrorResponse:
    # It names files of the server. The caller has learned their directory from other backups.
    log.warning("backup failed", extra={"path": error.path, "reason": error.reason})
    name = os.path.basename(error.path)
    return _unavailable(
        "BACKUP_FAILED", f"backup {name!r} failed: {error.reason}; no file was left behind", file_name=name
    )


def _backup_running(error: errors.BackupRunningError) -> ErrorResponse:
    return _exhausted("OVERLOADED", f"{error}; try again once it is complete", BACKUP_RETRY_AFTER_MS)


_TABLE: Final[Mapping[type[Exception], Callable[[Any], ErrorResponse]]] = {
    InvalidRequestError: _invalid_fields,
    reject.RequestIdReused: _request_id_reused,
    reject.InstanceNotFound: _instance_not_found,
    reject.WorkflowNotFound: _workflow_not_found,
    reject.DefinitionReplaced: _definition_replaced,
    reject.StepNotFound: _step_not_found,
    reject.TimerNotFound: _timer_not_found,
    reject.InstanceAlreadyExists: _already_exists,
    reject.BusinessKeyInUse: _business_key_in_use,
    reject.InstanceEnded: _terminal,
    reject.InstanceNotFailed: _not_failed,
    reject.EventNotAwaited: _not_awaited,
    reject.EventNeverAccepted: _never_accepted,
    reject.StepNeverAccepts: _never_of_step,
    reject.AmbiguousEvent: _ambiguous,
    reject.StepAlreadyFinished: _finished,
    reject.StepUnreachable: _unreachable,
    reject.StepHasNoTimeout: _no_timeout,
    reject.TimerNotCancellable: _not_cancellable,
    errors.OwnershipLostError: _lease_lost,
    errors.UnreachedRevisionError: _in_future,
    errors.ServerOverloadedError: _overloaded,
    store.CommitQueueFullError: _store_overloaded,
    reject.PayloadTooLarge: _too_large,
    reject.InboxFull: _inbox_full,
    reject.TooManyTimers: _too_many_timers,
    store.StoreUnavailableError: _database,
    store.NewerFormatError: _database,
    store.UnreadableRecordError: _unreadable,
    store.CommitUnknownError: _commit_unknown,
    errors.ServerStoppingError: _shutting_down,
    errors.BackupNotConfiguredError: _backup_not_configured,
    errors.BackupRunningError: _backup_running,
    store.BackupExistsError: _backup_exists,
    store.BackupFailedError: _backup_failed,
}

RESERVED_REASONS: Final = frozenset({"WORKFLOW_INVALID", "REVISION_COMPACTED"})
"""Reasons that no call can meet yet: definitions are registered by serving code, and histories are kept whole."""


def _did_you_mean(near: Sequence[str]) -> str:
    return f"did you mean {' or '.join(near)}? " if near else ""


def _steps(step_refs: Sequence[str]) -> str:
    return ("step " if len(step_refs) == 1 else "steps ") + _listed(step_refs)


def _listed(names: Sequence[str]) -> str:
    """Return names for a message, as many as fit."""
    told = _fitting(names)
    return ", ".join(told) + (f" and {len(names) - len(told)} more" if len(told) < len(names) else "")


def _names(key: str, names: Sequence[str]) -> dict[str, str]:
    """Return names for the metadata, as many as fit; ``<key>_more`` counts the others."""
    told = _fitting(names)
    found = {key: ",".join(told)}
    return found | {f"{key}_more": str(len(names) - len(told))} if len(told) < len(names) else found


def _fitting(names: Sequence[str]) -> Sequence[str]:
    room = _NAMES_CHARS_MAX
    for index, name in enumerate(names):
        room -= len(name) + 1
        if room < 0:
            return names[:index]
    return names
