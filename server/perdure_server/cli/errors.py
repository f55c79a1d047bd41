"""Exit codes, and errors of commands with message, detail and hint."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NoReturn

from perdure import errors
from perdure_server.cli.console import warn, warn_json


class Exit(enum.IntEnum):
    """The exit codes, for scripts."""

    OK = 0
    REJECTED = 1
    """The server or a workflow's validation rejected the request."""
    USAGE = 2
    """The command line, or a file that it names, is invalid."""
    UNAVAILABLE = 3
    """The server or its database cannot be reached. A retry can succeed."""
    TIMED_OUT = 4
    """The server did not respond in time."""
    NOT_COMPLETED = 5
    """The instance ended FAILED or CANCELLED."""
    INTERRUPTED = 130


EXIT_HELP: Final = (
    "Exit codes: 0 success, 1 rejected, 2 invalid command line, 3 server unavailable, 4 timeout, "
    "5 the watched instance did not complete."
)

HINTS: Final = {
    "INVALID_FIELD": "see the command's --help",
    "REQUEST_ID_REUSED": "use a new --request-id for each call, or none",
    "WORKFLOW_INVALID": "fix the listed issues",
    "INSTANCE_NOT_FOUND": "list instances with `perdure list`",
    "WORKFLOW_NOT_FOUND": "list workflows with `perdure workflows list`",
    "STEP_NOT_FOUND": "show the steps with `perdure workflows show WORKFLOW`",
    "TIMER_NOT_FOUND": "list pending timers with `perdure timers list`",
    "INSTANCE_ALREADY_EXISTS": "choose another --instance-id, or omit it",
    "BUSINESS_KEY_IN_USE": "pass --use-existing to get the instance that holds the key",
    "INSTANCE_ENDED": "start another instance with `perdure start`",
    "INSTANCE_NOT_FAILED": "only a FAILED instance can be retried",
    "EVENT_NOT_AWAITED": "pass --buffer to keep the event for the step that will wait for it",
    "EVENT_NEVER_ACCEPTED": "show the instance with `perdure get ID`",
    "AMBIGUOUS_EVENT": "name the step with --step",
    "STEP_FINISHED": "show the instance with `perdure get ID`",
    "STEP_UNREACHABLE": "show the instance with `perdure get ID`",
    "STEP_HAS_NO_TIMEOUT": "add a transition for the event timeout to the step",
    "TIMER_NOT_CANCELLABLE": "fire it now with `perdure timers fire`, or end its instance with `perdure cancel`",
    "LEASE_LOST": "drop the result; another attempt has the task",
    "REVISION_COMPACTED": "omit --after-revision",
    "REVISION_IN_FUTURE": "omit --after-revision, or use a revision from `perdure history ID`",
    "OVERLOADED": "retry in a moment",
    "PAYLOAD_TOO_LARGE": "store large data elsewhere and send a reference to it",
    "INBOX_FULL": "retry once steps have consumed events",
    "TOO_MANY_TIMERS": "cancel timers with `perdure timers cancel`, or retry once some have fired",
    "DATABASE_UNAVAILABLE": "nothing was changed; retry, and check the server's log",
    "COMMIT_UNKNOWN": "the call may have taken effect; check before you repeat it",
    "SHUTTING_DOWN": "nothing was changed; retry once a server is back",
    "BACKUP_NOT_CONFIGURED": "start the server with --backup-dir DIRECTORY",
    "BACKUP_ALREADY_EXISTS": "choose another NAME; a backup never replaces a file",
    "BACKUP_FAILED": "fix the cause and retry; nothing else was affected",
}
"""The hint for each reason, in terms of the command line. They replace the hints of the API."""

OPTIONS: Final = {
    "workflow": "WORKFLOW",
    "context": "--context",
    "opts.instance_id": "--instance-id",
    "opts.business_key": "--business-key",
    "business_key": "--business-key",
    "opts.labels": "--label",
    "labels": "--label",
    "opts.start_delay_ms": "--start-delay",
    "opts.request_id": "--request-id",
    "instance_id": "ID",
    "event": "EVENT",
    "payload": "--payload",
    "opts.payload": "--payload",
    "opts.step_ref": "--step",
    "step_ref": "STEP",
    "delay_ms": "DELAY_MS",
    "opts.reason": "--reason",
    "states": "--state",
    "after_revision": "--after-revision",
    "reference": "REFERENCE",
    "file_name": "NAME",
    "version": "--version",
    "opts.version": "--version",
}
"""Names of the API's fields on the command line."""

_DEFAULT_HINTS: Final = {
    Exit.USAGE: "see the command's --help",
    Exit.UNAVAILABLE: "retry in a moment",
    Exit.TIMED_OUT: "set a longer --timeout",
    Exit.REJECTED: "check the server's log",
}
"""Hints for errors without a reason, or with a reason that this version does not know."""


def exit_of(error: errors.PerdureError) -> Exit:
    """Return the exit code of an error that a call ended with."""
    match error:
        case errors.DeadlineExceededError():
            return Exit.TIMED_OUT
        case errors.UnavailableError() | errors.OverloadedError() | errors.CallCancelledError():
            return Exit.UNAVAILABLE
        case errors.InvalidFieldError() if not error.request_id and error.__cause__ is None:
            return Exit.USAGE  # the client rejected it before sending
        case _:
            return Exit.REJECTED


class CommandError(Exception):
    """A command that ends with an error. `perdure_server.cli.main` prints it and exits with ``code``.

    ``issues`` are printed below the message, one per line. ``document`` has further members for the JSON form.
    """

    def __init__(
        self,
        message: str,
        *,
        detail: str = "",
        hint: str = "",
        code: Exit = Exit.USAGE,
        reason: str = "",
        issues: Sequence[str] = (),
        document: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        usage = code is Exit.USAGE and not reason
        self.message = " ".join(message.split())
        self.detail = " ".join(detail.split())
        self.hint = " ".join(hint.split()) or (_DEFAULT_HINTS[Exit.USAGE] if usage else "")
        self.code = code
        self.reason = "USAGE" if usage else reason
        self.issues = tuple(issues)
        self._document = document or {}

    def report(self, *, as_json: bool) -> None:
        """Print the error to stderr, as lines (message, issues, detail, hint) or as one JSON document."""
        if as_json:
            warn_json(self._json())
            return
        for line in self._lines():
            warn(line)

    def _lines(self) -> list[str]:
        reason = f" ({self.reason})" if self.reason and self.reason != "USAGE" else ""
        lines = [f"perdure: error: {self.message}{reason}", *(f"  - {issue}" for issue in self.issues)]
        lines += [f"detail: {self.detail}"] if self.detail else []
        return lines + ([f"hint: {self.hint}"] if self.hint else [])

    def _json(self) -> str:
        error: dict[str, Any] = {
            "code": "INVALID_ARGUMENT" if self.reason == "USAGE" else "",
            "reason": self.reason,
            "message": self.message,
            "detail": self.detail,
            "hint": self.hint,
            "metadata": {},
            "violations": [{"field": "", "description": issue} for issue in self.issues],
            "request_id": "",
        }
        return json.dumps({"error": error | dict(self._document)}, ensure_ascii=False)


def fail(message: str, *, detail: str = "", hint: str = "", code: Exit = Exit.USAGE) -> NoReturn:
    """End the command with an error. Without ``hint``, the text after the first "; " of the message is the hint."""
    if not hint:
        message, _, hint = message.partition("; ")
    raise CommandError(message, detail=detail, hint=hint, code=code)


def fail_with(error: errors.PerdureError, *, server: str, tls_options: Sequence[str] = ()) -> NoReturn:
    """End the command with the error of a call. ``tls_options`` are the TLS options that were given."""
    # Violations of other errors repeat their metadata.
    violations = error.violations if isinstance(error, errors.InvalidArgumentError) else ()
    document = {
        "code": error.code,
        "reason": error.reason,
        "metadata": dict(error.metadata),
        "violations": [{"field": v.field, "description": v.description} for v in violations],
        "request_id": error.request_id,
    }
    reason = error.reason or (error.code if error.code != "UNKNOWN" else "")
    message, detail, hint = error.message, error.detail, _hint(error)
    if isinstance(error, errors.UnavailableError) and not error.reason:
        why = " ".join(error.message.rpartition("last error: ")[2].split())
        message, hint = unreached(why, server, tls_options)
        reason = ""
    elif violations:
        message = "; ".join(_in_options(violation) for violation in violations)
    raise CommandError(
        message, detail=detail, hint=hint, code=exit_of(error), reason=reason, document=document
    ) from error


def _hint(error: errors.PerdureError) -> str:
    if isinstance(error, errors.CommitUnknownError | errors.DeadlineExceededError) and error.request_id:
        return f"the call may have taken effect; repeat it safely with --request-id {error.request_id}"
    if isinstance(error, errors.InvalidFieldError):
        options = dict.fromkeys(filter(None, (_option(v.field) for v in error.violations)))
        return f"see {', '.join(options)} in the command's --help" if options else HINTS[error.reason]
    if isinstance(error, errors.AmbiguousEventError) and error.step_refs:
        return f"name the step with --step: {', '.join(error.step_refs)}"
    if error.reason == "INSTANCE_ENDED" and error.metadata.get("state") == "FAILED":
        return "retry it with `perdure retry`"
    if error.metadata.get("retried_instance_id"):
        return f"wait for its end, or run `perdure cancel {error.metadata['instance_id']}`; then retry"
    if error.metadata.get("step_ref") and error.metadata.get("event"):
        return _other_step(error.metadata)
    if isinstance(error, errors.EventNeverAcceptedError) and error.metadata.get("events"):
        return f"its steps still accept {_listed(error.metadata, 'events')}"
    if isinstance(error, errors.WorkflowNotFoundError | errors.StepNotFoundError):
        return _right_name(error)
    return HINTS.get(error.reason) or error.hint or _DEFAULT_HINTS[exit_of(error)]


def _option(field: str) -> str:
    """Return the option of a field, empty if there is none. A field can contain indexes and keys."""
    whole = field.partition("[")[0]
    while whole and whole not in OPTIONS:
        whole = whole.rpartition(".")[0]
    return OPTIONS.get(whole, "")


def _in_options(violation: errors.FieldViolation) -> str:
    return str(replace(violation, field=_option(violation.field) or violation.field))


def _right_name(error: errors.WorkflowNotFoundError | errors.StepNotFoundError) -> str:
    """Suggest the names that exist."""
    hint = HINTS[error.reason]
    if error.metadata.get("versions"):
        return (
            f"use one of the versions {_listed(error.metadata, 'versions')}, or omit --version for the newest"
        )
    if error.metadata.get("nearest"):
        return f"did you mean {error.metadata['nearest'].replace(',', ' or ')}? {hint}"
    key = "workflows" if isinstance(error, errors.WorkflowNotFoundError) else "step_refs"
    return f"known: {_listed(error.metadata, key)}; {hint}" if error.metadata.get(key) else hint


def _other_step(metadata: Mapping[str, str]) -> str:
    """Suggest a step for an event that the named step does not accept."""
    if metadata.get("step_refs"):
        takers = _listed(metadata, "step_refs")
        return f"omit --step, or name a step that still accepts {metadata['event']}: {takers}"
    return f"no other step accepts {metadata['event']}; show the instance with `perdure get ID`"


def _listed(metadata: Mapping[str, str], key: str) -> str:
    """Return the names in the API's metadata, separated by commas, with the number of omitted names."""
    more = metadata.get(f"{key}_more")
    return metadata[key].replace(",", ", ") + (f" and {more} more" if more else "")


# --- connections that failed -------------------------------------------------------------------------------------

_CLOSED: Final = ("Socket closed", "Connection reset", "End of TCP stream", "Broken pipe")
"""Texts of gRPC for a connection that the other side closed during the handshake."""

_NO_SERVER_HINT: Final = "start one with `perdure serve`, or set --server or PERDURE_SERVER"


def unreached(why: str, server: str, options: Sequence[str]) -> tuple[str, str]:
    """Return message and hint for a failed connection to ``server``.

    ``why`` is gRPC's text, ``options`` are the TLS options that were given. The message repeats gRPC's text if the
    cause is unknown: a connection can close for any reason.
    """
    if "Connection refused" in why:
        return f"no perdure server responds at {server}", _NO_SERVER_HINT
    if server.startswith("unix:"):
        if "No such file or directory" in why:
            return f"no perdure server responds at {server}: the socket does not exist", _NO_SERVER_HINT
        if "Permission denied" in why:
            return (
                f"no permission to connect to {server}",
                "run the command as the server's user, or let the group connect (UMask=0007)",
            )
    if options and "WRONG_VERSION_NUMBER" in why:
        return f"the server at {server} does not use TLS", f"omit {_listed_options(options)}"
    if "CERTIFICATE_VERIFY_FAILED" in why:
        reason = why.rpartition("CERTIFICATE_VERIFY_FAILED: ")[2].removesuffix(": OK")
        hint = (
            "the server needs another certificate"
            if "expired" in reason or "not yet valid" in reason
            else "name its certificate authority with --tls-ca FILE"
        )
        return f"the certificate of the server at {server} is not trusted: {reason}", hint
    if "Hostname Verification Check failed" in why:
        host = server.rpartition(":")[0]
        return (
            f"the certificate of the server at {server} does not name {host}",
            "use a name from the certificate in --server",
        )
    if any(text in why for text in _CLOSED):
        return f"the server at {server} closed the connection: {why}", _closed_hint(options)
    return f"no perdure server responds at {server}: {why}", _NO_SERVER_HINT


def _closed_hint(options: Sequence[str]) -> str:
    if not options:
        return "the server may require TLS: try --tls or --tls-ca"
    if "--tls-cert" not in options:
        return "the server may require a client certificate: try --tls-cert and --tls-key"
    return "the server may not trust the certificate of --tls-cert"


def _listed_options(options: Sequence[str]) -> str:
    return " and ".join([", ".join(options[:-1]), options[-1]]) if len(options) > 1 else options[0]
