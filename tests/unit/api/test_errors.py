"""The error table: its rows, the responses that are made from them, and everything that must agree with it."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any, Final

import pytest
from google.rpc import error_details_pb2

from perdure import errors as sdk
from perdure.v1 import errors_pb2
from perdure_server.api.error_table import RESERVED_REASONS, TABLE, Code
from perdure_server.api.errors import (
    CallTimeoutError,
    ErrorResponse,
    RequestTimeoutError,
    StreamTimeoutError,
    error_response_of,
)
from perdure_server.api.status import STATUS_BYTES_MAX, status_of
from perdure_server.engine import rejections as reject
from perdure_server.runtime import errors as runtime
from perdure_server.runtime.request_validation import InvalidRequestError, Violation
from perdure_server.store import protocol as store

ROOT: Final = Path(__file__).resolve().parents[3]

RETRY = error_details_pb2.RetryInfo
RESOURCE = error_details_pb2.ResourceInfo
PRECONDITION = error_details_pb2.PreconditionFailure
BAD = error_details_pb2.BadRequest

THE_TABLE: Final[dict[str, tuple[Exception, str, type | None]]] = {
    "INVALID_FIELD": (
        InvalidRequestError((Violation("event", "must be a name; it is empty"),)),
        "INVALID_ARGUMENT",
        BAD,
    ),
    "REQUEST_ID_REUSED": (reject.RequestIdReused("r"), "INVALID_ARGUMENT", BAD),
    "INSTANCE_NOT_FOUND": (reject.InstanceNotFound("i"), "NOT_FOUND", RESOURCE),
    "WORKFLOW_NOT_FOUND": (reject.WorkflowNotFound("w", 3), "NOT_FOUND", RESOURCE),
    "STEP_NOT_FOUND": (reject.StepNotFound("i", "s", ("a", "b")), "NOT_FOUND", RESOURCE),
    "TIMER_NOT_FOUND": (reject.TimerNotFound("i.3"), "NOT_FOUND", RESOURCE),
    "INSTANCE_ALREADY_EXISTS": (reject.InstanceAlreadyExists("i"), "ALREADY_EXISTS", RESOURCE),
    "BUSINESS_KEY_IN_USE": (reject.BusinessKeyInUse("w", "k", "i"), "ALREADY_EXISTS", RESOURCE),
    "INSTANCE_ENDED": (reject.InstanceEnded("i", "completed"), "FAILED_PRECONDITION", PRECONDITION),
    "INSTANCE_NOT_FAILED": (reject.InstanceNotFailed("i", "running"), "FAILED_PRECONDITION", PRECONDITION),
    "EVENT_NOT_AWAITED": (reject.EventNotAwaited("i", "e", ("s",)), "FAILED_PRECONDITION", PRECONDITION),
    "EVENT_NEVER_ACCEPTED": (reject.EventNeverAccepted("i", "e", ()), "FAILED_PRECONDITION", PRECONDITION),
    "AMBIGUOUS_EVENT": (reject.AmbiguousEvent("i", "e", ("a", "b")), "FAILED_PRECONDITION", PRECONDITION),
    "STEP_FINISHED": (reject.StepAlreadyFinished("i", "s"), "FAILED_PRECONDITION", PRECONDITION),
    "STEP_UNREACHABLE": (reject.StepUnreachable("i", "s"), "FAILED_PRECONDITION", PRECONDITION),
    "STEP_HAS_NO_TIMEOUT": (reject.StepHasNoTimeout("i", "s"), "FAILED_PRECONDITION", PRECONDITION),
    "TIMER_NOT_CANCELLABLE": (
        reject.TimerNotCancellable("i.3", "sleep"),
        "FAILED_PRECONDITION",
        PRECONDITION,
    ),
    "LEASE_LOST": (runtime.OwnershipLostError("i"), "FAILED_PRECONDITION", PRECONDITION),
    "REVISION_IN_FUTURE": (runtime.UnreachedRevisionError("i", 9, 3), "OUT_OF_RANGE", None),
    "OVERLOADED": (runtime.ServerOverloadedError(250), "RESOURCE_EXHAUSTED", RETRY),
    "PAYLOAD_TOO_LARGE": (reject.PayloadTooLarge("context", 2, 1), "RESOURCE_EXHAUSTED", None),
    "INBOX_FULL": (reject.InboxFull("i", 1_000), "RESOURCE_EXHAUSTED", None),
    "TOO_MANY_TIMERS": (reject.TooManyTimers("i", 1_000), "RESOURCE_EXHAUSTED", None),
    "DATABASE_UNAVAILABLE": (store.StoreUnavailableError("away"), "UNAVAILABLE", RETRY),
    "COMMIT_UNKNOWN": (store.CommitUnknownError("lost"), "UNAVAILABLE", RETRY),
    "SHUTTING_DOWN": (runtime.ServerStoppingError(), "UNAVAILABLE", RETRY),
    "BACKUP_NOT_CONFIGURED": (runtime.BackupNotConfiguredError(), "FAILED_PRECONDITION", PRECONDITION),
    "BACKUP_ALREADY_EXISTS": (store.BackupExistsError("/backups/a.db"), "ALREADY_EXISTS", RESOURCE),
    "BACKUP_FAILED": (store.BackupFailedError("/backups/a.db", "the disk is full"), "UNAVAILABLE", RETRY),
}
"""An exception for each reason, with the status and the type of the detail that clients were promised."""

SHARED_REASONS: Final[dict[type[Exception], str]] = {
    reject.DefinitionReplaced: "WORKFLOW_NOT_FOUND",
    reject.StepNeverAccepts: "EVENT_NEVER_ACCEPTED",
}
"""Rejections that share their reason with another one."""

VARIANTS: Final[tuple[tuple[str, Exception], ...]] = (
    ("INVALID_FIELD", InvalidRequestError((Violation("event", "must be a name"), Violation("", "no")))),
    ("WORKFLOW_NOT_FOUND", reject.DefinitionReplaced("i", "w", 3)),
    ("WORKFLOW_NOT_FOUND", reject.WorkflowNotFound("ordr", 0, ("order", "signup"))),
    ("WORKFLOW_NOT_FOUND", reject.WorkflowNotFound("w", 3, ("w",), (1, 2))),
    ("STEP_NOT_FOUND", reject.StepNotFound("i", "s", ())),
    ("BUSINESS_KEY_IN_USE", reject.BusinessKeyInUse("w", "k", "i", "retried")),
    ("INSTANCE_ENDED", reject.InstanceEnded("i", "failed")),
    ("EVENT_NEVER_ACCEPTED", reject.EventNeverAccepted("i", "e", ("a", "b"))),
    ("EVENT_NEVER_ACCEPTED", reject.StepNeverAccepts("i", "s", "e", (), ("a", "b"))),
    ("EVENT_NEVER_ACCEPTED", reject.StepNeverAccepts("i", "s", "e", ("f",), ())),
    ("STEP_FINISHED", reject.StepAlreadyFinished("i", "s", skipped=True)),
    ("STEP_FINISHED", reject.StepAlreadyFinished("i", "s", event="e", step_refs=("a",))),
    ("STEP_FINISHED", reject.StepAlreadyFinished("i", "s", event="e")),
    ("STEP_UNREACHABLE", reject.StepUnreachable("i", "s", event="e", step_refs=("a", "b"))),
    ("OVERLOADED", store.CommitQueueFullError("full")),
    ("OVERLOADED", runtime.BackupRunningError()),
    ("DATABASE_UNAVAILABLE", store.NewerFormatError("row of 9")),
    ("DATABASE_UNAVAILABLE", store.UnreadableRecordError("row of 9", "has the unknown field 'x'")),
)
"""Exceptions whose responses have other texts or fields than the first one of their reason."""

EVERY_REFUSAL: Final = (*((reason, row[0]) for reason, row in THE_TABLE.items()), *VARIANTS)

INTERNAL_REJECTIONS: Final = {reject.Rejection, reject.TimerNotDue, reject.AttemptStale}
"""Rejections that never reach a call: the base class, and those for the timer loop and for executors."""


def details(response: ErrorResponse) -> dict[type, Any]:
    found: dict[type, Any] = {}
    for packed in status_of(response).details:
        cls = getattr(error_details_pb2, packed.TypeName().rpartition(".")[2])
        found[cls] = cls()
        assert packed.Unpack(found[cls])
    return found


# --- agreement with the table ------------------------------------------------------------------------------------


def test_every_published_reason_has_a_row_in_the_same_order() -> None:
    published = [name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()]  # noqa: SIM118

    assert list(TABLE) == published[1:]


def test_every_reason_has_an_exception_or_is_reserved() -> None:
    assert set(TABLE) == set(THE_TABLE) | RESERVED_REASONS
    assert not set(THE_TABLE) & RESERVED_REASONS


def test_the_proto_names_the_status_of_each_reason() -> None:
    proto = (ROOT / "proto/perdure/v1/errors.proto").read_text(encoding="utf-8")
    statuses = re.findall(r"  // ([A-Z_]+): (?:.*\n  //.*)*?.*\n  ERROR_REASON_([A-Z_]+) = ", proto)

    assert {reason: status for status, reason in statuses} == {
        reason: row.code.name for reason, row in TABLE.items()
    }


@pytest.mark.parametrize("reason", TABLE)
def test_the_sdk_has_an_exception_for_each_reason(reason: str) -> None:
    row, error = TABLE[reason], sdk.from_reason(reason, "no")

    assert type(error) is not sdk.PerdureError
    assert type(error).reason == reason
    assert (error.code, error.retryable) == (row.code.name, row.is_retryable)


def test_the_sdk_has_no_other_reasons() -> None:
    assert set(TABLE) == sdk.REASONS


def test_the_table_in_the_documentation_is_current() -> None:
    script = ROOT / "docs/error_table.py"
    spec = importlib.util.spec_from_file_location("error_table_script", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.PAGE.read_text(encoding="utf-8")

    assert module.with_table(page) == page, "run `make generate`"


def test_every_rejection_of_the_engine_has_a_response() -> None:
    rejections = {
        cls for _, cls in inspect.getmembers(reject, inspect.isclass) if issubclass(cls, reject.Rejection)
    }

    assert rejections - INTERNAL_REJECTIONS <= {type(error) for _, error in EVERY_REFUSAL}


# --- responses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", THE_TABLE)
def test_a_response_has_its_status_its_reason_and_its_detail_message(reason: str) -> None:
    error, status, detail = THE_TABLE[reason]

    response = error_response_of(error)

    assert (response.code.name, response.reason) == (status, reason)
    found = details(response)
    info = found.pop(error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == (reason, "perdure")
    assert set(found) == ({detail} if detail else set())


@pytest.mark.parametrize(("reason", "error"), EVERY_REFUSAL)
def test_a_response_says_what_is_wrong_and_what_to_do(reason: str, error: Exception) -> None:
    response = error_response_of(error)

    assert response.reason == reason
    assert response.message
    assert response.hint
    for text in (response.message, response.detail, response.hint):
        assert "\n" not in text
        assert not text.endswith(".")


@pytest.mark.parametrize(("reason", "error"), EVERY_REFUSAL)
def test_detail_and_hint_travel_in_the_metadata(reason: str, error: Exception) -> None:
    response = error_response_of(error)

    sent = dict(details(response)[error_details_pb2.ErrorInfo].metadata)

    assert sent.pop("hint") == response.hint
    assert sent.pop("detail", "") == response.detail
    assert sent == response.metadata, reason


@pytest.mark.parametrize(("reason", "error"), EVERY_REFUSAL)
def test_the_metadata_has_the_fields_of_the_row(reason: str, error: Exception) -> None:
    row, keys = TABLE[reason], set(error_response_of(error).metadata)

    if type(error) not in SHARED_REASONS:
        always = set(row.metadata) - ({"step_refs"} if reason == "STEP_NOT_FOUND" else set())
        assert always <= keys
    assert keys <= {*row.metadata, *row.optional}


@pytest.mark.parametrize("reason", [reason for reason, row in TABLE.items() if row.optional])
def test_every_optional_field_is_sent_in_some_response(reason: str) -> None:
    sent = {key for of, error in EVERY_REFUSAL if of == reason for key in error_response_of(error).metadata}

    assert set(TABLE[reason].optional) <= sent


def test_an_unknown_exception_is_logged_and_its_text_is_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    response = error_response_of(ZeroDivisionError("secret"))

    assert (response.code, response.reason) == (Code.UNAVAILABLE, "COMMIT_UNKNOWN")
    assert "secret" not in f"{response.message} {response.detail} {response.hint}"
    assert [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    ("error", "message", "detail", "hint"),
    [
        (
            reject.EventNeverAccepted("order-17", "approved", ("cancelled", "reserved")),
            "event 'approved' is not accepted by instance 'order-17'",
            "the remaining steps accept: cancelled, reserved",
            "show the instance with GetInstance",
        ),
        (
            reject.StepAlreadyFinished("i", "first", event="ok", step_refs=("second",)),
            "step 'first' has finished",
            "a step does not start again after it has ended",
            "leave step_ref empty or use another: step second accepts 'ok'",
        ),
        (
            reject.StepAlreadyFinished("i", "both", skipped=True, event="ok", step_refs=("a", "b")),
            "step 'both' was skipped",
            "a step does not start again after it has ended",
            "leave step_ref empty or use another: steps a, b accept 'ok'",
        ),
        (
            reject.StepNeverAccepts("i", "charge", "approved", (), ("approval",)),
            "event 'approved' is not accepted by step 'charge'",
            "it does not accept events",
            "leave step_ref empty or use another: step approval accepts 'approved'",
        ),
        (
            reject.StepNeverAccepts("i", "go", "ok", ("go", "halt"), ()),
            "event 'ok' is not accepted by step 'go'",
            "it accepts: go, halt",
            "no other step accepts 'ok'; show the active steps with GetInstance",
        ),
        (
            reject.WorkflowNotFound("ordr", 0, ("order", "orders", "signup")),
            "workflow 'ordr' not found",
            "known workflows: order, orders, signup",
            "did you mean order or orders?",
        ),
        (
            reject.WorkflowNotFound("ordr", 7, ("zoo",)),
            "workflow 'ordr' not found",
            "known workflows: zoo",
            "serve the workflow, or list the known ones with ListWorkflows",
        ),
        (
            reject.WorkflowNotFound("ordr"),
            "workflow 'ordr' not found",
            "no workflow is registered",
            "serve the workflow, or list the known ones with ListWorkflows",
        ),
        (
            reject.WorkflowNotFound("order", 9, ("order",), (1, 2)),
            "workflow 'order' has no version 9",
            "known versions: 1, 2",
            "use one of these versions, or 0 for the newest",
        ),
        (
            reject.DefinitionReplaced("i", "w", 3),
            "the graph of instance 'i' was replaced",
            "the instance ran on another graph of workflow 'w' version 3 than the one that is stored now",
            "start a new instance, and give each changed graph a new version",
        ),
        (
            reject.StepNotFound("i", "aproval", ("charge", "approval")),
            "step 'aproval' not found",
            "the workflow has the steps charge, approval",
            "did you mean approval?",
        ),
        (
            InvalidRequestError((Violation("event", "must be a name"), Violation("page_size", "no"))),
            "event: must be a name (and 1 more)",
            "",
            "correct the fields that BadRequest lists",
        ),
    ],
)
def test_a_response_has_the_texts_of_its_error(
    error: Exception, message: str, detail: str, hint: str
) -> None:
    response = error_response_of(error)

    assert (response.message, response.detail, response.hint) == (message, detail, hint)


@pytest.mark.parametrize(
    ("error", "nearest"),
    [
        (reject.WorkflowNotFound("ordr", 0, ("order", "orders", "signup")), "order,orders"),
        (reject.WorkflowNotFound("ordr", 0, ("zoo",)), ""),
        (reject.StepNotFound("i", "aproval", ("charge", "approval")), "approval"),
    ],
)
def test_the_metadata_has_the_nearest_names(error: Exception, nearest: str) -> None:
    assert error_response_of(error).metadata["nearest"] == nearest


def test_a_missing_version_has_the_known_ones_in_its_metadata() -> None:
    response = error_response_of(reject.WorkflowNotFound("order", 9, ("order",), (1, 2)))

    assert response.metadata == {"workflow": "order", "versions": "1,2"}


@pytest.mark.parametrize("error", [RequestTimeoutError(), CallTimeoutError(30), StreamTimeoutError()])
def test_an_exceeded_deadline_has_a_status_and_no_reason(error: Exception) -> None:
    response = error_response_of(error)

    assert (response.code, response.reason) == (Code.DEADLINE_EXCEEDED, "")
    assert response.message


# --- sizes -------------------------------------------------------------------------------------------------------


def test_a_thousand_long_names_make_a_short_response() -> None:
    names = tuple(f"step_{n:04}_of_a_workflow_whose_names_are_as_long_as_they_can_be" for n in range(1_000))

    response = error_response_of(reject.StepNotFound("i", names[500].replace("_of_", "_off_"), names))

    assert response.metadata["nearest"].split(",")[0] == names[500]
    assert len(response.message) + len(response.detail) + len(response.hint) < 1_000
    assert len(status_of(response).SerializeToString()) <= STATUS_BYTES_MAX


def test_names_that_do_not_fit_are_counted() -> None:
    steps = tuple(f"{'s' * 60}{n:03}" for n in range(100))

    response = error_response_of(reject.AmbiguousEvent("i", "e", steps))

    shown = response.metadata["step_refs"].split(",")
    assert set(shown) <= set(steps)
    assert int(response.metadata["step_refs_more"]) == 100 - len(shown)
    assert f"and {100 - len(shown)} more" in response.detail


@pytest.mark.parametrize("character", ["a", "ä", "\U0001f600"])
def test_a_status_has_at_most_6_kib(character: str) -> None:
    text = character * 5_000
    violations = tuple(Violation(f"field{n}[{text}]", text) for n in range(100))

    for error in (
        InvalidRequestError(violations),
        reject.BusinessKeyInUse(text, text, text, text),
        reject.InstanceEnded(text, text),
        reject.StepNotFound(text, text, (text,) * 50),
        reject.StepNeverAccepts(text, text, text, (text,), (text,)),
    ):
        assert len(status_of(error_response_of(error)).SerializeToString()) <= 6 << 10
    assert STATUS_BYTES_MAX <= 6 << 10


def test_a_text_that_is_not_valid_unicode_can_be_sent() -> None:
    assert status_of(error_response_of(reject.TimerNotFound("\ud800"))).SerializeToString()
