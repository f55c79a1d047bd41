"""Errors of commands: their lines and documents, exit codes and hints."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from click.testing import CliRunner, Result
from google.rpc import error_details_pb2

from perdure import errors
from perdure.v1 import (
    runner_service_pb2,
)
from perdure_server.api.error_table import RESERVED_REASONS
from perdure_server.api.errors import error_response_of
from perdure_server.cli.errors import HINTS, OPTIONS, CommandError, Exit, fail_with
from perdure_server.cli.main import app
from perdure_server.engine import rejections as reject
from perdure_server.runtime.request_validation import InvalidRequestError, Violation
from support.stub_server import ErrorResponse, StubServer
from unit.api.test_errors import EVERY_REFUSAL

Run = Callable[..., Awaitable[Result]]
ORDER = str(Path(__file__).resolve().parents[3] / "examples/order.py")

STARTED = runner_service_pb2.StartInstanceResponse(instance_id="i1", created=True, version=2, revision=3)


@pytest.mark.parametrize(
    ("refusal", "code", "line"),
    [
        (
            ErrorResponse(grpc.StatusCode.NOT_FOUND, "INSTANCE_NOT_FOUND", "instance 'i1' not found"),
            Exit.REJECTED,
            (
                "perdure: error: instance 'i1' not found (INSTANCE_NOT_FOUND)\n"
                "hint: list instances with `perdure list`"
            ),
        ),
        (
            ErrorResponse(
                grpc.StatusCode.FAILED_PRECONDITION,
                "AMBIGUOUS_EVENT",
                "two wait",
                metadata={"step_refs": "a,b"},
            ),
            Exit.REJECTED,
            ("perdure: error: two wait (AMBIGUOUS_EVENT)\nhint: name the step with --step: a, b"),
        ),
        (
            ErrorResponse(
                grpc.StatusCode.INVALID_ARGUMENT,
                "INVALID_FIELD",
                "1 field",
                details=(
                    error_details_pb2.BadRequest(
                        field_violations=[
                            error_details_pb2.BadRequest.FieldViolation(field="event", description="bad")
                        ]
                    ),
                ),
            ),
            Exit.REJECTED,
            ("perdure: error: EVENT: bad (INVALID_FIELD)\nhint: see EVENT in the command's --help"),
        ),
        (
            ErrorResponse(grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE", "locked"),
            Exit.UNAVAILABLE,
            (
                "perdure: error: locked (DATABASE_UNAVAILABLE)\n"
                "hint: nothing was changed; retry, and check the server's log"
            ),
        ),
    ],
    ids=lambda value: value.reason if isinstance(value, ErrorResponse) else None,
)
async def test_an_error_response_is_a_message_and_a_hint(
    server: StubServer, run: Run, refusal: ErrorResponse, code: Exit, line: str
) -> None:
    server.answers["Resume"].append(refusal)

    result = await run("resume", "i1", "approved")

    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == f"{line}\n"


async def test_with_json_an_error_is_a_document_on_stderr(server: StubServer, run: Run) -> None:
    server.answers["GetInstance"].append(
        ErrorResponse(grpc.StatusCode.NOT_FOUND, "INSTANCE_NOT_FOUND", "gone")
    )

    result = await run("get", "i1", "--json")

    error = json.loads(result.stderr)["error"]
    assert (error["reason"], error["code"], error["message"]) == ("INSTANCE_NOT_FOUND", "NOT_FOUND", "gone")


async def test_with_json_fields_keep_the_names_of_the_api(server: StubServer, run: Run) -> None:
    field = error_details_pb2.BadRequest.FieldViolation(field="opts.step_ref", description="bad")
    subject = error_details_pb2.PreconditionFailure.Violation(subject="approved", description="never")
    server.answers["Resume"] += [
        ErrorResponse(
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
            details=(error_details_pb2.BadRequest(field_violations=[field]),),
        ),
        ErrorResponse(
            grpc.StatusCode.FAILED_PRECONDITION,
            "EVENT_NEVER_ACCEPTED",
            metadata={"event": "approved"},
            details=(error_details_pb2.PreconditionFailure(violations=[subject]),),
        ),
    ]

    invalid = json.loads((await run("resume", "i1", "approved", "--json")).stderr)["error"]
    never = json.loads((await run("resume", "i1", "approved", "--json")).stderr)["error"]

    assert invalid["violations"] == [{"field": "opts.step_ref", "description": "bad"}]
    assert (never["violations"], never["metadata"]) == ([], {"event": "approved"})


def test_every_option_that_a_field_is_named_by_is_one_of_a_command() -> None:
    commands: list[Any] = [app]
    names: set[str] = set()
    for command in commands:
        commands += getattr(command, "commands", {}).values()
        names |= {name for param in command.params for name in (*param.opts, param.metavar or "")}

    assert set(OPTIONS.values()) <= names


def told(error: errors.PerdureError, capsys: pytest.CaptureFixture[str], *, as_json: bool) -> str:
    with pytest.raises(CommandError) as failed:
        fail_with(error, server="here:1")
    failed.value.report(as_json=as_json)
    return capsys.readouterr().err


def error_of(refused: Exception) -> errors.PerdureError:
    """Return the error that a client raises for an exception of the server."""
    refusal = error_response_of(refused)
    violations = [errors.FieldViolation(*violation) for violation in refusal.violations]
    return errors.from_reason(
        refusal.reason, refusal.message, refusal.metadata, code=refusal.code.name, violations=violations
    )


EVERY_ERROR: Final = (
    *(error_of(refused) for _, refused in EVERY_REFUSAL),
    *(errors.from_reason(reason, "no") for reason in sorted(RESERVED_REASONS)),
    errors.from_reason("A_REASON_OF_TOMORROW", "no", code="FAILED_PRECONDITION"),
    *(status("no") for status in (errors.PerdureError, *errors.PerdureError.__subclasses__())),
)


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: error.reason or error.code)
def test_every_error_has_a_hint_as_text_and_in_its_document(
    error: errors.PerdureError, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(told(error, capsys, as_json=True))["error"]
    line = told(error, capsys, as_json=False)

    assert document["reason"] == error.reason
    assert document["hint"]
    assert line.splitlines()[-1] == f"hint: {document['hint']}"
    assert line.startswith("perdure: error: ")


def test_every_published_reason_has_a_hint_of_its_own() -> None:
    assert {error.reason for error in EVERY_ERROR} >= errors.REASONS
    assert set(HINTS) == errors.REASONS


@pytest.mark.parametrize(
    ("refused", "line"),
    [
        (
            reject.StepAlreadyFinished("i", "left", event="go", step_refs=("right",)),
            (
                "perdure: error: step 'left' has finished (STEP_FINISHED)\n"
                "hint: omit --step, or name a step that still accepts go: right"
            ),
        ),
        (
            reject.StepNeverAccepts("i", "copy", "go", (), ("left", "right")),
            (
                "perdure: error: event 'go' is not accepted by step 'copy' (EVENT_NEVER_ACCEPTED)\n"
                "hint: omit --step, or name a step that still accepts go: left, right"
            ),
        ),
        (
            reject.StepNeverAccepts("i", "open", "go", ("opened",), ()),
            (
                "perdure: error: event 'go' is not accepted by step 'open' (EVENT_NEVER_ACCEPTED)\n"
                "hint: no other step accepts go; show the instance with `perdure get ID`"
            ),
        ),
        (
            reject.WorkflowNotFound("ordr", 0, ("order", "signup")),
            (
                "perdure: error: workflow 'ordr' not found (WORKFLOW_NOT_FOUND)\n"
                "hint: did you mean order? list workflows with `perdure workflows list`"
            ),
        ),
        (
            reject.WorkflowNotFound("zoo", 0, ("order", "signup")),
            (
                "perdure: error: workflow 'zoo' not found (WORKFLOW_NOT_FOUND)\n"
                "hint: known: order, signup; list workflows with `perdure workflows list`"
            ),
        ),
        (
            reject.WorkflowNotFound("order", 3, ("order",), (1, 2)),
            (
                "perdure: error: workflow 'order' has no version 3 (WORKFLOW_NOT_FOUND)\n"
                "hint: use one of the versions 1, 2, or omit --version for the newest"
            ),
        ),
        (
            reject.StepNotFound("i", "aproval", ("charge", "approval")),
            (
                "perdure: error: step 'aproval' not found (STEP_NOT_FOUND)\n"
                "hint: did you mean approval? show the steps with `perdure workflows show WORKFLOW`"
            ),
        ),
        (
            reject.EventNeverAccepted("i", "go", ("one", "two")),
            (
                "perdure: error: event 'go' is not accepted by instance 'i' (EVENT_NEVER_ACCEPTED)\n"
                "hint: its steps still accept one, two"
            ),
        ),
        (
            reject.BusinessKeyInUse("order", "k", "holder"),
            (
                "perdure: error: business key 'k' of workflow 'order' is in use by "
                "instance 'holder' (BUSINESS_KEY_IN_USE)\n"
                "hint: pass --use-existing to get the instance that holds the key"
            ),
        ),
        (
            reject.BusinessKeyInUse("order", "k", "holder", "failed"),
            (
                "perdure: error: business key 'k' of workflow 'order' is in use by "
                "instance 'holder' (BUSINESS_KEY_IN_USE)\n"
                "hint: wait for its end, or run `perdure cancel holder`; then retry"
            ),
        ),
        (
            InvalidRequestError((Violation("opts.instance_id", "no"), Violation("opts.labels[a b]", "no"))),
            (
                "perdure: error: --instance-id: no; --label: no (INVALID_FIELD)\n"
                "hint: see --instance-id, --label in the command's --help"
            ),
        ),
        (
            InvalidRequestError((Violation("page_token", "altered"), Violation("", "and 7 more"))),
            (
                "perdure: error: page_token: altered; and 7 more (INVALID_FIELD)\n"
                "hint: see the command's --help"
            ),
        ),
        (
            reject.InstanceEnded("i", "failed"),
            (
                "perdure: error: instance 'i' has ended (FAILED) (INSTANCE_ENDED)\n"
                "hint: retry it with `perdure retry`"
            ),
        ),
    ],
)
def test_a_hint_names_what_would_be_accepted(
    refused: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(error_of(refused), capsys, as_json=False) == f"{line}\n"


INVALID_LINES: Final = [
    (["start"], "Missing argument 'WORKFLOW'", "see perdure start --help"),
    (["start", "order", "--nope"], "No such option '--nope'", "see perdure start --help"),
    (["frobnicate"], "No such command 'frobnicate'", "see perdure --help"),
    (["timers", "frobnicate"], "No such command 'frobnicate'", "see perdure timers --help"),
    (["list", "--limit", "few"], "Invalid value for '--limit'", "see perdure list --help"),
    (["list", "--limit", "-1"], "Invalid value for '--limit'", "see perdure list --help"),
    (["start", "order", "--context", "{"], "--context is not valid JSON", "write it as in"),
    (["start", "order", "--context", "{\n"], "--context is not valid JSON", "see perdure start --help"),
    (["get", "i1", "--timeout", "10"], "'10' is not a duration", "write digits and a unit"),
    (["get", "i1", "--header", "k"], "'k' is not a header", "see perdure get --help"),
    (["workflows", "validate", "no_such.py"], "there is no file no_such.py", "see the command's --help"),
    (["get", "i1", "--server", "http://here"], "'http://here' is a URL", "--server"),
]


INVALID_ADDRESSES: Final = [
    (
        ["serve", "--demo", option, text],
        f"{option}: {text!r} is not a valid HOST:PORT",
        "a port of at most 65535",
    )
    for option in ("--listen", "--metrics-listen")
    for text in ("7420", "127.0.0.1:70000", "::1:7420", ":7420", "127.0.0.1:")
] + [
    (
        ["serve", "--demo", "--listen", listen, "--metrics-listen", metrics],
        f"--metrics-listen {metrics} is the address of --listen {listen}",
        "give metrics a port of their own",
    )
    for listen, metrics in (("127.0.0.1:7420", "127.0.0.1:7420"), ("0.0.0.0:7420", "127.0.0.1:7420"))
]


@pytest.mark.parametrize(("arguments", "what", "hint"), [*INVALID_LINES, *INVALID_ADDRESSES])
def test_an_invalid_command_line_is_a_message_and_a_hint(arguments: list[str], what: str, hint: str) -> None:
    result = CliRunner().invoke(app, arguments)

    assert (result.exit_code, result.stdout) == (Exit.USAGE, "")
    message, hint_line = result.stderr.splitlines()
    assert message.startswith("perdure: error: ")
    assert what in message
    assert hint_line.startswith("hint: ")
    assert hint in hint_line


@pytest.mark.parametrize(("arguments", "what", "hint"), INVALID_LINES)
def test_with_json_an_invalid_command_line_is_a_document(
    arguments: list[str], what: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = CliRunner().invoke(app, [*arguments, "--json"])

    assert (result.exit_code, result.stdout) == (Exit.USAGE, "")
    document = json.loads(result.stderr)["error"]
    assert document["reason"] == "USAGE"
    assert what in document["message"]
    assert hint in document["hint"]
    refused = json.loads(told(errors.from_reason("INSTANCE_NOT_FOUND", "no"), capsys, as_json=True))["error"]
    assert list(document) == list(refused)


@pytest.mark.parametrize(
    "line",
    [
        "--json start",
        "start --json",
        "--json start order --nope",
        "start --json --nope",
        "start order --nope --json",
    ],
)
def test_the_json_option_can_be_anywhere(line: str) -> None:
    result = CliRunner().invoke(app, line.split())

    assert result.exit_code == Exit.USAGE
    assert json.loads(result.stderr)["error"]["reason"] == "USAGE"


@pytest.mark.parametrize("arguments", [[], ["timers"], ["workflows"], ["db"]])
def test_a_group_alone_shows_its_help_and_with_json_is_an_error(arguments: list[str]) -> None:
    people = CliRunner().invoke(app, arguments)
    machines = CliRunner().invoke(app, [*arguments, "--json"])

    assert "Commands:" in people.output
    assert machines.exit_code == Exit.USAGE
    assert json.loads(machines.stderr)["error"]["reason"] == "USAGE"


async def test_a_missing_server_ends_with_3_and_a_hint(run: Run) -> None:
    result = await run("get", "i1", "--server", "127.0.0.1:1")

    assert result.exit_code == Exit.UNAVAILABLE
    assert result.stderr.startswith(
        "perdure: error: no perdure server responds at 127.0.0.1:1\nhint: start one with"
    )


async def test_a_socket_that_does_not_exist_is_named(run: Run, tmp_path: Path) -> None:
    server = f"unix:{tmp_path}/no.sock"

    result = await run("get", "i1", "--server", server)

    assert result.exit_code == Exit.UNAVAILABLE
    assert result.stderr.startswith(
        f"perdure: error: no perdure server responds at {server}: the socket does not exist\nhint: start one with"
    )


def test_a_version_without_a_workflow_is_rejected_before_the_call() -> None:
    result = CliRunner().invoke(app, ["list", "--version", "2"])

    assert result.exit_code == Exit.USAGE
    assert result.stderr.startswith(
        "perdure: error: --version 2 requires --workflow\nhint: add --workflow NAME"
    )


@pytest.mark.parametrize(
    ("server", "said"),
    [("http://127.0.0.1:7420", "is a URL; write HOST:PORT"), ("127.0.0.1", "has no port; write HOST:PORT")],
)
def test_an_invalid_server_address_is_rejected(server: str, said: str) -> None:
    result = CliRunner().invoke(app, ["get", "one", "--server", server])

    assert result.exit_code == 2
    assert said in result.stderr


def test_a_time_limit_without_a_unit_is_rejected() -> None:
    result = CliRunner().invoke(app, ["get", "one", "--timeout", "10"])

    assert result.exit_code == 2
    assert "'10' is not a duration hint: write digits and a unit" in " ".join(result.stderr.split())
