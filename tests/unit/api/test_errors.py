"""The error table: every reason that is published has its row, and every row is what clients were promised."""

from __future__ import annotations

import inspect
from typing import Final

import grpc
import pytest
from google.rpc import error_details_pb2

from perdure import errors as sdk
from perdure.v1 import errors_pb2
from perdure_server.api.errors import (
    RESERVED_REASONS,
    STATUS_BYTES_MAX,
    ErrorResponse,
    error_response_of,
    status_of,
)
from perdure_server.engine import rejections as reject
from perdure_server.runtime import errors as runtime
from perdure_server.runtime.request_validation import InvalidRequestError, Violation
from perdure_server.store import protocol as store

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

THE_SAME_REASON: Final[dict[type[Exception], str]] = {
    reject.DefinitionReplaced: "WORKFLOW_NOT_FOUND",
    reject.StepNeverAccepts: "EVENT_NEVER_ACCEPTED",
}
"""Rejections that share their reason with another one."""

OTHER_WORDS: Final[tuple[tuple[str, Exception], ...]] = (
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
    ("OVERLOADED", runtime.BackupRunningError()),
)
"""What is told with other words, or more of them, for the same reason."""

EVERY_REFUSAL: Final = (*((reason, row[0]) for reason, row in THE_TABLE.items()), *OTHER_WORDS)

INTERNAL_REJECTIONS: Final = {reject.Rejection, reject.TimerNotDue, reject.AttemptStale}
"""What no call can meet: the base class, and what is told to the timer loop and to executors."""


def details(refusal: ErrorResponse) -> dict[type, object]:
    found: dict[type, object] = {}
    for packed in status_of(refusal).details:
        cls = getattr(error_details_pb2, packed.TypeName().rpartition(".")[2])
        found[cls] = cls()
        assert packed.Unpack(found[cls])
    return found


def test_every_published_reason_has_a_row_or_is_kept_for_later() -> None:
    published = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()}  # noqa: SIM118

    assert published - {"UNSPECIFIED"} == set(THE_TABLE) | RESERVED_REASONS
    assert not set(THE_TABLE) & RESERVED_REASONS


@pytest.mark.parametrize("reason", THE_TABLE)
def test_a_refusal_has_its_status_its_reason_and_the_detail_that_fits(reason: str) -> None:
    error, status, detail = THE_TABLE[reason]

    refusal = error_response_of(error)

    assert (refusal.code.name, refusal.reason) == (status, reason)
    found = details(refusal)
    info = found.pop(error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == (reason, "perdure")  # type: ignore[attr-defined]
    assert set(found) == ({detail} if detail else set())
    assert len(refusal.message) > 20


@pytest.mark.parametrize("reason", THE_TABLE)
def test_the_sdk_has_a_class_of_the_same_status_for_each_reason(reason: str) -> None:
    _, status, _ = THE_TABLE[reason]

    assert sdk.from_reason(reason, "no").code == status


def test_every_rejection_of_the_engine_is_in_the_table() -> None:
    rejections = {
        cls for _, cls in inspect.getmembers(reject, inspect.isclass) if issubclass(cls, reject.Rejection)
    }

    told = {type(error) for error, _, _ in THE_TABLE.values()} | set(THE_SAME_REASON)
    assert rejections - INTERNAL_REJECTIONS <= told


def test_a_graph_that_was_replaced_is_told_apart_from_a_workflow_that_never_was() -> None:
    refusal = error_response_of(reject.DefinitionReplaced("i", "w", 3))

    assert (refusal.code.name, refusal.reason) == ("NOT_FOUND", THE_SAME_REASON[reject.DefinitionReplaced])
    assert "ran on another graph of workflow 'w' version 3" in refusal.message


@pytest.mark.parametrize(
    "error",
    [
        store.CommitQueueFullError("full"),
        store.NewerFormatError("row of 9"),
        store.UnreadableRecordError("row of 9", "has the unknown field 'x'"),
    ],
)
def test_what_else_a_store_raises_has_a_row_too(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    assert error_response_of(error).reason in {"OVERLOADED", "DATABASE_UNAVAILABLE"}
    assert not [record for record in caplog.records if record.exc_info]


def test_a_defect_says_that_the_outcome_is_unknown_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    refusal = error_response_of(ZeroDivisionError("secret"))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "COMMIT_UNKNOWN")
    assert "secret" not in refusal.message
    assert [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(("reason", "error"), EVERY_REFUSAL)
def test_a_message_says_what_is_wrong_and_what_to_do(reason: str, error: Exception) -> None:
    refusal = error_response_of(error)

    assert refusal.reason == reason
    if reason not in {
        "INVALID_FIELD",
        "TIMER_NOT_FOUND",
        "LEASE_LOST",
    }:  # a field's description says what it must be
        assert all(refusal.message.partition("; ")), refusal.message


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            reject.StepAlreadyFinished("i", "first", event="ok", step_refs=("second",)),
            "step_ref: step 'first' has finished; leave it out or name another: step second still accepts 'ok'",
        ),
        (
            reject.StepAlreadyFinished("i", "both", skipped=True, event="ok", step_refs=("a", "b")),
            "step_ref: step 'both' was skipped; leave it out or name another: steps a, b still accept 'ok'",
        ),
        (
            reject.StepNeverAccepts("i", "charge", "approved", (), ("approval",)),
            (
                "step_ref: step 'charge' takes no event from outside; "
                "leave it out or name another: step approval still accepts 'approved'"
            ),
        ),
        (
            reject.StepNeverAccepts("i", "go", "ok", ("go", "halt"), ()),
            (
                "step_ref: step 'go' accepts only go, halt; "
                "nor does any other step accept 'ok' (GetInstance tells what steps wait for)"
            ),
        ),
    ],
)
def test_an_event_for_the_wrong_step_is_told_where_it_may_go(error: Exception, message: str) -> None:
    assert error_response_of(error).message == message


@pytest.mark.parametrize(
    ("error", "message", "near"),
    [
        (
            reject.WorkflowNotFound("ordr", 0, ("order", "orders", "signup")),
            (
                "there is no workflow 'ordr'; did you mean order or orders? serve it first "
                "(known: order, orders, signup)"
            ),
            "order,orders",
        ),
        (
            reject.WorkflowNotFound("ordr", 7, ("zoo",)),
            "there is no workflow 'ordr'; serve it first (known: zoo)",
            "",
        ),
        (
            reject.WorkflowNotFound("ordr"),
            "there is no workflow 'ordr'; serve it first (there is none yet)",
            "",
        ),
        (
            reject.StepNotFound("i", "aproval", ("charge", "approval")),
            "step_ref: the workflow has no step 'aproval'; did you mean approval? its steps are charge, approval",
            "approval",
        ),
    ],
)
def test_a_name_that_is_not_there_is_told_with_the_nearest_that_are(
    error: Exception, message: str, near: str
) -> None:
    refusal = error_response_of(error)

    assert (refusal.message, refusal.metadata["nearest"]) == (message, near)


def test_a_version_that_is_not_there_is_told_with_those_that_are() -> None:
    refusal = error_response_of(reject.WorkflowNotFound("order", 9, ("order",), (1, 2)))

    assert "has no version 9; leave it 0 for the newest (known: 1, 2)" in refusal.message
    assert refusal.metadata == {"workflow": "order", "versions": "1,2"}


def test_a_thousand_long_names_stay_a_short_message() -> None:
    names = tuple(f"step_{n:04}_of_a_workflow_whose_names_are_as_long_as_they_may_be" for n in range(1_000))

    refusal = error_response_of(reject.StepNotFound("i", names[500].replace("_of_", "_off_"), names))

    assert refusal.metadata["nearest"].split(",")[0] == names[500]
    assert len(refusal.message) < 1_000
    assert len(status_of(refusal).SerializeToString()) <= STATUS_BYTES_MAX


def test_many_names_are_counted_instead_of_cut_in_two() -> None:
    steps = tuple(f"{'s' * 60}{n:03}" for n in range(100))

    refusal = error_response_of(reject.AmbiguousEvent("i", "e", steps))

    told = refusal.metadata["step_refs"].split(",")
    assert set(told) <= set(steps)
    assert int(refusal.metadata["step_refs_more"]) == 100 - len(told)
    assert f"and {100 - len(told)} more" in refusal.message


@pytest.mark.parametrize("character", ["a", "ä", "\U0001f600"])
def test_a_status_stays_small_whatever_it_tells(character: str) -> None:
    text = character * 5_000
    violations = tuple(Violation(f"field{n}[{text}]", text) for n in range(100))

    for error in (
        InvalidRequestError(violations),
        reject.BusinessKeyInUse(text, text, text, text),
        reject.InstanceEnded(text, text),
        reject.StepNotFound(text, text, (text,) * 50),
    ):
        assert len(status_of(error_response_of(error)).SerializeToString()) <= 6 << 10
    assert STATUS_BYTES_MAX <= 6 << 10


def test_a_text_that_is_no_unicode_can_be_told() -> None:
    assert status_of(error_response_of(reject.TimerNotFound("\ud800"))).SerializeToString()
