"""How commands end: exit codes, and errors that say what is wrong and how to hint it."""

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
    REFUSED = 1
    """The server, or a workflow's validation, said no."""
    USAGE = 2
    """The command line, or a file that it names, makes no sense."""
    UNAVAILABLE = 3
    """The server or its database cannot be reached; trying again may help."""
    TIMED_OUT = 4
    """No answer in time."""
    NOT_COMPLETED = 5
    """The instance that was waited for ended, but FAILED or CANCELLED."""
    INTERRUPTED = 130


EXIT_HELP: Final = (
    "Exit codes: 0 done, 1 refused, 2 usage, 3 server unavailable, 4 no answer in time, "
    "5 the watched instance did not complete."
)

MENDS: Final = {
    "INVALID_FIELD": "give it as the command's --help tells",
    "REQUEST_ID_REUSED": "give each call a --request-id of its own, or none",
    "WORKFLOW_INVALID": "hint what is listed",
    "INSTANCE_NOT_FOUND": "`perdure list` shows the instances",
    "WORKFLOW_NOT_FOUND": "`perdure workflows list` shows the workflows",
    "STEP_NOT_FOUND": "`perdure workflows show WORKFLOW` shows a workflow's steps",
    "TIMER_NOT_FOUND": "`perdure timers list` shows the pending timers",
    "INSTANCE_ALREADY_EXISTS": "choose another --instance-id, or leave it out",
    "BUSINESS_KEY_IN_USE": "--use-existing answers with the instance that holds the key",
    "INSTANCE_ENDED": "nothing can happen to it any more; `perdure start` starts another",
    "INSTANCE_NOT_FAILED": "only a FAILED instance can be retried",
    "EVENT_NOT_AWAITED": "--buffer keeps the event for the step that will wait for it",
    "EVENT_NEVER_ACCEPTED": "`perdure get ID` shows what its steps wait for",
    "AMBIGUOUS_EVENT": "name the step with --step",
    "STEP_FINISHED": "`perdure get ID` shows which steps are still to end",
    "STEP_UNREACHABLE": "`perdure get ID` shows which steps are still to end",
    "STEP_HAS_NO_TIMEOUT": "the step needs an arrow for the event timeout",
    "TIMER_NOT_CANCELLABLE": "`perdure timers fire` lets it act now, `perdure cancel` ends its instance",
    "LEASE_LOST": "drop the result: another attempt has the task",
    "REVISION_COMPACTED": "leave --after-revision out",
    "REVISION_IN_FUTURE": "leave --after-revision out, or name a revision that `perdure history ID` shows",
    "OVERLOADED": "try again in a moment",
    "PAYLOAD_TOO_LARGE": "store large things elsewhere and send where they are",
    "INBOX_FULL": "send more once steps took some",
    "TOO_MANY_TIMERS": "`perdure timers cancel` those that are not wanted, or wait until some have fired",
    "DATABASE_UNAVAILABLE": "nothing was changed; try again, and look at the server's log",
    "COMMIT_UNKNOWN": "it may have happened; look before doing it again",
    "SHUTTING_DOWN": "nothing was changed; try again once a server is back",
    "BACKUP_NOT_CONFIGURED": "start the server with --backup-dir DIRECTORY",
    "BACKUP_ALREADY_EXISTS": "choose another NAME; a backup never replaces a file",
    "BACKUP_FAILED": "fix the cause and try again; nothing else was affected",
}
"""What to do about each reason, in the command line's words and the order of the API's table."""

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
"""What the API's fields are on the command line, by the same name in each command (only `list` writes --workflow)."""

_MEND_ELSE: Final = {
    Exit.USAGE: "see the command's --help",
    Exit.UNAVAILABLE: "try again",
    Exit.TIMED_OUT: "--timeout gives it longer",
    Exit.REFUSED: "the server's log may tell more",
}
"""What to do where there is no reason, or one that this version does not know."""


def exit_of(error: errors.PerdureError) -> Exit:
    """Return the exit code of an error that a call ended with."""
    match error:
        case errors.DeadlineExceededError():
            return Exit.TIMED_OUT
        case errors.UnavailableError() | errors.OverloadedError() | errors.CallCancelledError():
            return Exit.UNAVAILABLE
        case errors.InvalidFieldError() if not error.request_id and error.__cause__ is None:
            return Exit.USAGE  # refused before it was sent
        case _:
            return Exit.REFUSED


class CommandError(Exception):
    """A command that ends with an error. `perdure_server.cli.main` tells it and exits with its code."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: Exit = Exit.USAGE,
        reason: str = "",
        issues: Sequence[str] = (),
        document: Mapping[str, Any] | None = None,
    ) -> None:
        """``issues`` follow the line, a line each. ``document`` is what is known beside the message in JSON."""
        super().__init__(message)
        usage = code is Exit.USAGE and not reason
        self.message = " ".join(message.split())
        self.hint = hint or (_MEND_ELSE[Exit.USAGE] if usage else "")
        self.code = code
        self.reason = "USAGE" if usage else reason
        self.issues = tuple(issues)
        self._document = document or {}

    def tell(self, *, as_json: bool) -> None:
        """Print it to stderr: one line that says what is wrong and how to hint it, or a document."""
        if as_json:
            warn_json(self._json())
            return
        for line in self._lines():
            warn(line)

    def _lines(self) -> list[str]:
        reason = f"{self.reason}: " if self.reason else ""
        hint = f" ({self.hint})" if self.hint else ""
        return [f"perdure: {reason}{self.message}{hint}", *(f"  - {issue}" for issue in self.issues)]

    def _json(self) -> str:
        error: dict[str, Any] = {
            "code": "INVALID_ARGUMENT" if self.reason == "USAGE" else "",
            "reason": self.reason,
            "message": self.message,
            "hint": self.hint,
            "metadata": {},
            "violations": [{"field": "", "description": issue} for issue in self.issues],
            "request_id": "",
        }
        return json.dumps({"error": error | dict(self._document)}, ensure_ascii=False)


def fail(message: str, *, hint: str = "", code: Exit = Exit.USAGE) -> NoReturn:
    """End the command with an error of its own. Without a ``hint``, what follows a "; " in the message is one."""
    if not hint:
        message, _, hint = message.partition("; ")
    raise CommandError(message, hint=hint, code=code)


def fail_with(error: errors.PerdureError, *, server: str, tls_options: Sequence[str] = ()) -> NoReturn:
    """End the command with what a call raised. ``tls_options`` are those that were given."""
    hint = _mend(error)
    # Those of other errors name what the metadata names too, which is no field.
    violations = error.violations if isinstance(error, errors.InvalidArgumentError) else ()
    document = {
        "code": error.code,
        "reason": error.reason,
        "message": error.message,
        "metadata": dict(error.metadata),
        "violations": [{"field": v.field, "description": v.description} for v in violations],
        "request_id": error.request_id,
    }
    reason = error.reason or (error.code if error.code != "UNKNOWN" else "")
    text = str(error)
    if isinstance(error, errors.UnavailableError) and not error.reason:
        why = " ".join(error.message.rpartition("last error: ")[2].split())
        text, hint = unreached(why, server, tls_options)
        reason = ""
    elif isinstance(error, errors.InvalidFieldError) and error.violations:
        text = "; ".join(_in_options(violation) for violation in error.violations)
    elif error.reason in MENDS and not isinstance(
        error, errors.InvalidFieldError | errors.WorkflowInvalidError
    ):
        # What follows is the hint in the API's words; these are the command line's.
        text = text.partition("; ")[0]
    raise CommandError(text, hint=hint, code=exit_of(error), reason=reason, document=document) from error


def _mend(error: errors.PerdureError) -> str:
    if isinstance(error, errors.CommitUnknownError | errors.DeadlineExceededError) and error.request_id:
        return f"it may have happened; --request-id {error.request_id} repeats it safely"
    if isinstance(error, errors.InvalidFieldError):
        options = dict.fromkeys(filter(None, (_option(v.field) for v in error.violations)))
        return f"give {', '.join(options) or 'it'} as the command's --help tells"
    if isinstance(error, errors.AmbiguousEventError) and error.step_refs:
        return f"name the step with --step: {', '.join(error.step_refs)}"
    if error.reason == "INSTANCE_ENDED" and error.metadata.get("state") == "FAILED":
        return "`perdure retry` lets it go on"
    if error.metadata.get("retried_instance_id"):
        return f"wait for its end, or `perdure cancel {error.metadata['instance_id']}`; then retry"
    if error.metadata.get("step_ref") and error.metadata.get("event"):
        return _other_step(error.metadata)
    if isinstance(error, errors.EventNeverAcceptedError) and error.metadata.get("events"):
        return f"its steps still accept {_listed(error.metadata, 'events')}"
    if isinstance(error, errors.WorkflowNotFoundError | errors.StepNotFoundError):
        return _right_name(error)
    return MENDS.get(error.reason) or _MEND_ELSE[exit_of(error)]


def _option(field: str) -> str:
    """Return what a field is on the command line; empty where it is nothing there. Fields may have places in them."""
    whole = field.partition("[")[0]
    while whole and whole not in OPTIONS:
        whole = whole.rpartition(".")[0]
    return OPTIONS.get(whole, "")


def _in_options(violation: errors.FieldViolation) -> str:
    return str(replace(violation, field=_option(violation.field) or violation.field))


def _right_name(error: errors.WorkflowNotFoundError | errors.StepNotFoundError) -> str:
    """The names that there are, where one was not found."""
    hint = MENDS[error.reason]
    if error.metadata.get("versions"):
        return f"known: {_listed(error.metadata, 'versions')}; without --version it is the newest"
    if error.metadata.get("nearest"):
        return f"did you mean {error.metadata['nearest'].replace(',', ' or ')}? {hint}"
    key = "workflows" if isinstance(error, errors.WorkflowNotFoundError) else "step_refs"
    return f"known: {_listed(error.metadata, key)}; {hint}" if error.metadata.get(key) else hint


def _other_step(metadata: Mapping[str, str]) -> str:
    """Where an event may go that the named step does not take."""
    if metadata.get("step_refs"):
        takers = _listed(metadata, "step_refs")
        return f"leave --step out, or name a step that still accepts {metadata['event']}: {takers}"
    return f"no other step accepts {metadata['event']}; `perdure get ID` shows what its steps wait for"


def _listed(metadata: Mapping[str, str], key: str) -> str:
    """Names as the API's metadata joins and counts them, for people."""
    more = metadata.get(f"{key}_more")
    return metadata[key].replace(",", ", ") + (f" and {more} more" if more else "")


# --- connections that failed -------------------------------------------------------------------------------------

_CLOSED: Final = ("Socket closed", "Connection reset", "End of TCP stream", "Broken pipe")
"""How gRPC tells that the other side ended a connection before it was one."""

_NO_SERVER_HINT: Final = "start one with `perdure serve`, or name one with --server or PERDURE_SERVER"


def unreached(why: str, server: str, options: Sequence[str]) -> tuple[str, str]:
    """Return what is wrong and how to hint it, where no connection to ``server`` came about.

    ``why`` is what gRPC says, ``options`` are those of TLS that were given.
    """
    if "Connection refused" in why:
        return f"no perdure server answers at {server}", _NO_SERVER_HINT
    if server.startswith("unix:"):
        if "No such file or directory" in why:
            return f"no perdure server answers at {server}: the socket does not exist", _NO_SERVER_HINT
        if "Permission denied" in why:
            return (
                f"no permission to connect to {server}",
                "run the command as the server's user, or let its group connect (UMask=0007)",
            )
    if options and "WRONG_VERSION_NUMBER" in why:
        return f"the server at {server} speaks no TLS", f"leave out {_listed_options(options)}"
    if "CERTIFICATE_VERIFY_FAILED" in why:
        reason = why.rpartition("CERTIFICATE_VERIFY_FAILED: ")[2].removesuffix(": OK")
        hint = (
            "the server needs another certificate"
            if "expired" in reason or "not yet valid" in reason
            else "--tls-ca FILE names the authority that it is of"
        )
        return f"the certificate of the server at {server} is not trusted: {reason}", hint
    if "Hostname Verification Check failed" in why:
        host = server.rpartition(":")[0]
        return (
            f"the certificate of the server at {server} does not name {host}",
            "name the server with --server as its certificate does",
        )
    if any(text in why for text in _CLOSED):
        return f"the server at {server} closes the connection: {why}", _closed_hint(options)
    return f"no perdure server answers at {server}: {why}", _NO_SERVER_HINT


def _closed_hint(options: Sequence[str]) -> str:
    if not options:
        return "it may want --tls or --tls-ca"
    if "--tls-cert" not in options:
        return "it may want a client certificate, --tls-cert and --tls-key"
    return "it may not trust the certificate of --tls-cert"


def _listed_options(options: Sequence[str]) -> str:
    return " and ".join([", ".join(options[:-1]), options[-1]]) if len(options) > 1 else options[0]
