"""Validation: it never raises, and each broken rule has its issue."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from perdure import WorkflowInvalidError
from perdure.errors import InvalidArgumentError
from perdure.model.durations import DURATION_MS_MAX
from perdure.model.graph import (
    Join,
    RetryDefinition,
    StepDefinition,
    StepKind,
    WorkflowGraph,
    from_json,
    graph,
)
from perdure.model.graph import to_json as graph_to_json
from perdure.model.validation import (
    RESERVED_REFS,
    STEPS_MAX,
    TRANSITIONS_MAX,
    IssueCode,
    ValidationIssue,
    validate,
)
from support.strategies import any_graphs, graphs

ON = dict[str, tuple[str, ...]]
END: ON = {"ok": ("end",)}


def task(ref: str = "a", on: Any = None, **settings: Any) -> StepDefinition:
    return StepDefinition(ref=ref, kind=StepKind.TASK, on=END if on is None else on, **settings)


def wait(ref: str = "a", on: Any = None, events: Any = ("ok",), **settings: Any) -> StepDefinition:
    return StepDefinition(
        ref=ref, kind=StepKind.WAIT, on=END if on is None else on, events=frozenset(events), **settings
    )


def nap(ref: str = "a", on: Any = None, sleep_ms: Any = 1000, **settings: Any) -> StepDefinition:
    return StepDefinition(
        ref=ref,
        kind=StepKind.SLEEP,
        on={"elapsed": ("end",)} if on is None else on,
        sleep_ms=sleep_ms,
        **settings,
    )


def flow(*steps: StepDefinition, **changes: Any) -> WorkflowGraph:
    return replace(graph("flow", 1, steps[0].ref if steps else "", steps), **changes)


def codes(whole: WorkflowGraph) -> list[tuple[str, str | None]]:
    return [(issue.code.value, issue.step_ref) for issue in validate(whole)]


@settings(max_examples=500)
@given(any_graphs())
def test_validation_never_raises_and_its_issues_are_printable(whole: WorkflowGraph) -> None:
    issues = validate(whole)
    assert str(WorkflowInvalidError.of_issues(issues, workflow=whole.name)).encode()
    for issue in issues:
        assert issue.message
        assert issue.hint
        assert len(str(issue)) < 1_000


@given(graphs())
def test_a_graph_from_json_has_the_same_issues(whole: WorkflowGraph) -> None:
    assert validate(from_json(graph_to_json(whole))) == validate(whole) == []


CASES: list[tuple[str, WorkflowGraph, list[tuple[str, str | None]]]] = [
    ("an unknown target", flow(task(on={"ok": ("b",)})), [("target_unknown", "a")]),
    ("an unreachable step", flow(task(), task("b")), [("step_unreachable", "b")]),
    (
        "a step without a transition",
        flow(task(on={"ok": ("b",)}), task("b", on={})),
        [("end_unreachable", "b")],
    ),
    (
        "a cycle with a way out",
        flow(task(on={"ok": ("b",)}), task("b", on={"ok": ("a",), "no": ("end",)})),
        [("cycle", "a")],
    ),
    (
        "a cycle with no way out",
        flow(task(on={"ok": ("b",)}), task("b", on={"ok": ("b",)})),
        [("cycle", "b"), ("end_unreachable", "b")],
    ),
    (
        "an event without a target",
        flow(task(on={"ok": ("end",), "no": ()})),
        [("event_without_target", "a")],
    ),
    (
        "an awaited event without a target",
        flow(task(events=frozenset({"no"}))),
        [("event_without_target", "a")],
    ),
    ("a waited event without a target", flow(wait(events=("ok", "no"))), [("event_without_target", "a")]),
    (
        "a transition for an event not waited for",
        flow(wait(on={**END, "no": ("end",)})),
        [("event_never_raised", "a")],
    ),
    ("a wait with no event", flow(wait(events=())), [("wait_without_event", "a")]),
    ("a target named twice", flow(task(on={"ok": ("end", "end")})), [("target_duplicate", "a")]),
    ("a ref that is not a name", flow(task("Not-a-name")), [("name_invalid", "Not-a-name")]),
    ("an event that is not a name", flow(task(on={"No": ("end",)})), [("name_invalid", "a")]),
    ("a workflow with an invalid name", flow(task(), name="my flow"), [("name_invalid", None)]),
    ("a version of zero", flow(task(), version=0), [("version_invalid", None)]),
    ("a version that is true", flow(task(), version=True), [("version_invalid", None)]),
    ("a start that is not a step", flow(task(), start="z"), [("start_unknown", None)]),
    ("no start", flow(task(), start=""), [("start_unknown", None)]),
    ("no steps", flow(), [("start_unknown", None)]),
    (
        "an elapsed transition on a task",
        flow(task(on={**END, "elapsed": ("end",)})),
        [("event_never_raised", "a")],
    ),
    (
        "an elapsed transition on a wait",
        flow(wait(on={**END, "elapsed": ("end",)})),
        [("event_never_raised", "a")],
    ),
    ("a sleep without its transition", flow(nap(on={"ok": ("end",)})), [("sleep_transitions", "a")]),
    (
        "a sleep with a second transition",
        flow(nap(on={"elapsed": ("end",), **END})),
        [("sleep_transitions", "a")],
    ),
    ("a sleep without a duration", flow(nap(sleep_ms=None)), [("duration_invalid", "a")]),
    ("a sleep of zero", flow(nap(sleep_ms=0)), [("duration_invalid", "a")]),
    ("a sleep beyond ten years", flow(nap(sleep_ms=DURATION_MS_MAX + 1)), [("duration_invalid", "a")]),
    ("a sleep of half a millisecond", flow(nap(sleep_ms=0.5)), [("duration_invalid", "a")]),
    ("a sleep with a timeout", flow(nap(timeout_ms=1)), [("setting_misplaced", "a")]),
    ("a wait with a retry", flow(wait(retry=RetryDefinition())), [("setting_misplaced", "a")]),
    (
        "a wait timeout on a task that does not wait",
        flow(task(on={**END, "error": ("end",)}, timeout_ms=1)),
        [("setting_misplaced", "a")],
    ),
    ("a wait timeout without a transition", flow(wait(timeout_ms=1)), [("timeout_without_transition", "a")]),
    (
        "a task timeout without a transition",
        flow(task(events=frozenset({"ok"}), timeout_ms=1)),
        [("timeout_without_transition", "a")],
    ),
    ("an attempt timeout of zero", flow(task(attempt_timeout_ms=0)), [("duration_invalid", "a")]),
    (
        "a policy without attempts",
        flow(task(retry=RetryDefinition(max_attempts=0))),
        [("retry_invalid", "a")],
    ),
    ("a pause of zero", flow(task(retry=RetryDefinition(initial_ms=0))), [("retry_invalid", "a")]),
    (
        "a max_backoff below initial_backoff",
        flow(task(retry=RetryDefinition(initial_ms=2, max_ms=1))),
        [("retry_invalid", "a")],
    ),
    ("a pause that shrinks", flow(task(retry=RetryDefinition(multiplier=0.5))), [("retry_invalid", "a")]),
    (
        "a multiplier that is not a number",
        flow(task(retry=RetryDefinition(multiplier=float("nan")))),
        [("retry_invalid", "a")],
    ),
    ("a jitter above 1", flow(task(retry=RetryDefinition(jitter=1.5))), [("retry_invalid", "a")]),
    (
        "text instead of targets",
        flow(task(on={"ok": "end"})),
        [("malformed", "a")],
    ),
    (
        "a transition to a malformed step",
        flow(task("a", on={"ok": ("b",)}), task("b", on={"ok": "end"})),
        [("malformed", "b")],
    ),
]


@pytest.mark.parametrize(("whole", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_mistake_has_its_issue(whole: WorkflowGraph, expected: list[tuple[str, str | None]]) -> None:
    assert sorted(codes(whole), key=repr) == sorted(expected, key=repr)


@pytest.mark.parametrize("ref", sorted(RESERVED_REFS))
def test_a_step_with_a_reserved_name_is_reported(ref: str) -> None:
    whole = flow(task("a", on={"ok": (ref,)}), task(ref))
    assert codes(whole) == [("name_reserved", ref)]


@pytest.mark.parametrize("event", ["timeout", "error", "elapsed"])
@pytest.mark.parametrize("make", [wait, task])
def test_an_event_of_the_engine_cannot_be_an_external_event(make: Any, event: str) -> None:
    whole = flow(make(on={"ok": ("end",)}, events=frozenset({"ok", event})))
    assert codes(whole) == [("event_reserved", "a")]


LEGAL: list[tuple[str, WorkflowGraph]] = [
    ("one task", flow(task())),
    ("a timeout transition without a timer", flow(task(on={**END, "timeout": ("end",)}))),
    ("a wait timeout that raises error", flow(wait(on={**END, "error": ("end",)}, timeout_ms=1))),
    ("a task that awaits an event that it can also return", flow(task(events=frozenset({"ok"})))),
    ("a fork with a branch that ends at once", flow(task(on={"ok": ("b", "end")}), task("b"))),
    ("a sleep that forks", flow(nap(on={"elapsed": ("b", "c")}), task("b"), task("c"))),
    ("the longest sleep", flow(nap(sleep_ms=DURATION_MS_MAX))),
    ("a policy without growth", flow(task(retry=RetryDefinition(max_attempts=1, multiplier=1, jitter=0)))),
    ("a join on a step with one predecessor", flow(task(join=Join.ALL))),
]


@pytest.mark.parametrize("whole", [case[1] for case in LEGAL], ids=[case[0] for case in LEGAL])
def test_a_valid_graph_has_no_issues(whole: WorkflowGraph) -> None:
    assert validate(whole) == []


def test_all_issues_are_reported_in_the_order_of_the_steps() -> None:
    whole = flow(
        task("a", on={"ok": ("bb", "c"), "no": ()}),
        wait("b", events=()),
        nap("c", sleep_ms=0),
        task("d", retry=RetryDefinition(max_attempts=0, jitter=9)),
        version=-1,
    )
    assert codes(whole) == [
        ("version_invalid", None),
        ("target_unknown", "a"),
        ("event_without_target", "a"),
        ("wait_without_event", "b"),
        ("step_unreachable", "b"),
        ("duration_invalid", "c"),
        ("retry_invalid", "d"),
        ("retry_invalid", "d"),
        ("step_unreachable", "d"),
    ]


def test_only_the_faulty_step_is_reported_not_those_upstream() -> None:
    whole = flow(task("a", on={"ok": ("b",)}), task("b", on={"ok": ("c",)}), task("c", on={}))
    assert codes(whole) == [("end_unreachable", "c")]


def test_a_cycle_is_shown_as_a_path() -> None:
    whole = flow(
        task("a", on={"ok": ("b",)}),
        task("b", on={"ok": ("c", "d")}),
        task("c", on={"ok": ("b",), "no": ("end",)}),
        task("d", on={"ok": ("c",)}),
    )
    (cycle,) = [issue for issue in validate(whole) if issue.code is IssueCode.CYCLE]
    assert "b -> c -> b" in cycle.message


def test_a_misspelt_target_gets_a_suggestion() -> None:
    whole = flow(task("a", on={"ok": ("relase",), "no": ("release",)}), task("release"))
    assert [issue.hint for issue in validate(whole)] == ["did you mean 'release'?"]


def test_the_exception_lists_every_issue_with_its_hint() -> None:
    issues = [
        ValidationIssue(code=IssueCode.CYCLE, step_ref="a", message="a cycle: a -> a", hint="remove it"),
        ValidationIssue(
            code=IssueCode.VERSION_INVALID, step_ref=None, message="0 is not a version", hint="use 1"
        ),
    ]
    error = WorkflowInvalidError.of_issues(issues, workflow="flow")
    assert error.issues == tuple(issues)
    assert isinstance(error, InvalidArgumentError)
    assert isinstance(error, ValueError)
    assert (error.code, error.reason, error.workflow) == ("INVALID_ARGUMENT", "WORKFLOW_INVALID", "flow")
    assert str(error).splitlines() == [
        "workflow 'flow' has 2 issues:",
        "  - step 'a': a cycle: a -> a [cycle]; remove it",
        "  - workflow: 0 is not a version [version_invalid]; use 1",
    ]


def test_too_many_steps_are_one_issue() -> None:
    assert codes(flow(*(task(f"s{index}") for index in range(STEPS_MAX + 1)))) == [("limit_exceeded", None)]


def test_too_many_transitions_are_one_issue() -> None:
    refs = tuple(f"s{index}" for index in range(200))
    whole = flow(*(task(ref, on={"ok": refs}) for ref in refs))
    assert len(refs) ** 2 > TRANSITIONS_MAX
    assert codes(whole) == [("limit_exceeded", None)]


@pytest.mark.parametrize("join", [None, Join.ALL])
def test_the_largest_graph_is_validated(join: Join | None) -> None:
    def on(index: int) -> ON:
        return {
            "ok": tuple(f"s{later}" for later in range(index + 1, min(index + 10, STEPS_MAX))) or ("end",)
        }

    whole = flow(*(task(f"s{index}", on=on(index), join=join) for index in range(STEPS_MAX)))
    assert validate(whole) == []


def test_a_chain_longer_than_the_stack_is_validated() -> None:
    whole = flow(*(task(f"s{i}", on={"ok": (f"s{(i + 1) % STEPS_MAX}",)}) for i in range(STEPS_MAX)))
    assert ("cycle", "s0") in codes(whole)
