"""How commands end: exit codes, and errors as one line that says what is wrong and how to mend it."""

from __future__ import annotations

import enum
import json
import sys
from typing import Final, NoReturn

import typer

from perdure import errors


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

_MENDS: Final = {
    "AMBIGUOUS_EVENT": "name the step with --step",
    "BUSINESS_KEY_IN_USE": "--use-existing answers with the instance that holds the key",
    "EVENT_NOT_AWAITED": "--buffer keeps the event for the step that will wait for it",
    "INSTANCE_ALREADY_EXISTS": "choose another --instance-id, or leave it out",
    "INSTANCE_NOT_FOUND": "`perdure list` shows the instances",
    "STEP_HAS_NO_TIMEOUT": "the step needs an arrow for the event timeout",
    "TIMER_NOT_FOUND": "`perdure timers list` shows the pending timers",
    "WORKFLOW_NOT_FOUND": "`perdure workflows list` shows the workflows",
    "STEP_NOT_FOUND": "`perdure workflows show WORKFLOW` shows a workflow's steps",
}


def exit_of(error: errors.PerdureError) -> Exit:
    """Return the exit code of an error that a call ended with."""
    match error:
        case errors.DeadlineExceededError():
            return Exit.TIMED_OUT
        case errors.UnavailableError() | errors.OverloadedError() | errors.AbortedError():
            return Exit.UNAVAILABLE
        case errors.InvalidFieldError() if not error.request_id and error.__cause__ is None:
            return Exit.USAGE  # refused before it was sent
        case _:
            return Exit.REFUSED


def fail(message: str, *, mend: str = "", code: Exit = Exit.USAGE) -> NoReturn:
    """End the command with one line on stderr."""
    print(f"perdure: {message}{f' ({mend})' if mend else ''}", file=sys.stderr)
    raise typer.Exit(code)


def fail_with(error: errors.PerdureError, *, server: str, as_json: bool) -> NoReturn:
    """End the command with what a call raised."""
    mend = _mend(error, server)
    code = exit_of(error)
    if as_json:
        document = {
            "error": {
                "status": error.status,
                "reason": error.reason,
                "message": error.message,
                "mend": mend,
                "metadata": dict(error.metadata),
                "violations": [{"field": v.field, "description": v.description} for v in error.violations],
                "request_id": error.request_id,
            }
        }
        print(json.dumps(document, ensure_ascii=False), file=sys.stderr)
        raise typer.Exit(code)
    if isinstance(error, errors.UnavailableError) and not error.reason:
        why = " ".join(error.message.rpartition("last error: ")[2].split())
        told = "" if "Connection refused" in why else f": {why}"  # a failed handshake, say
        fail(f"no perdure server answers at {server}{told}", mend=mend, code=code)
    head = f"{error.reason or error.status}: " if error.reason or error.status != "UNKNOWN" else ""
    text = " ".join(str(error).split())
    if mend:
        text = text.partition("; ")[
            0
        ]  # what follows is the mend in the API's words; these are the command line's
    fail(f"{head}{text}", mend=mend, code=code)


def _mend(error: errors.PerdureError, server: str) -> str:
    if isinstance(error, errors.UnavailableError) and not error.reason:
        return "start one with `perdure serve`, or name one with --server or PERDURE_SERVER"
    if isinstance(error, errors.OutcomeUnknownError | errors.DeadlineExceededError) and error.request_id:
        return f"it may have happened; --request-id {error.request_id} repeats it safely"
    if isinstance(error, errors.AmbiguousEventError) and error.step_refs:
        return f"name the step with --step: {', '.join(error.step_refs)}"
    if error.reason == "INSTANCE_TERMINAL" and "RetryInstance" in error.message:
        return "`perdure retry` lets it go on"
    return _MENDS.get(error.reason, "")
