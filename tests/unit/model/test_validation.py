"""Validation is total, and each rule of the design has its issue."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from perdure import WorkflowInvalidError
from perdure.model.graph import (
    DURATION_MS_MAX,
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
    ARROWS_MAX,
    RESERVED_REFS,
    STEPS_MAX,
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
def test_validation_never_raises_and_its_findings_can_be_printed(whole: WorkflowGraph) -> None:
    issues = validate(whole)
    assert str(WorkflowInvalidError(issues, workflow=whole.name)).encode()
    for issue in issues:
        assert issue.message
        assert issue.hint
        assert len(str(issue)) < 1_000


@given(graphs())
def test_findings_do_not_depend_on_the_way_through_json(whole: WorkflowGraph) -> None:
    assert validate(from_json(graph_to_json(whole))) == validate(whole) == []


CASES: list[tuple[str, WorkflowGraph, list[tuple[str, str | None]]]] = [
    ("an unknown target", flow(task(on={"ok": ("b",)})), [("target_unknown", "a")]),
    ("an unreachable step", flow(task(), task("b")), [("step_unreachable", "b")]),
    ("a step with no arrow", flow(task(on={"ok": ("b",)}), task("b", on={})), [("end_unreachable", "b")]),
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
        "an arrow for an event not waited for",
        flow(wait(on={**END, "no": ("end",)})),
        [("event_never_raised", "a")],
    ),
    ("a wait with no event", flow(wait(events=())), [("wait_without_event", "a")]),
    ("a target named twice", flow(task(on={"ok": ("end", "end")})), [("target_duplicate", "a")]),
    ("a ref that is no name", flow(task("Not-a-name")), [("name_invalid", "Not-a-name")]),
    ("an event that is no name", flow(task(on={"No": ("end",)})), [("name_invalid", "a")]),
    ("a workflow that is no name", flow(task(), name="my flow"), [("name_invalid", None)]),
    ("a version of zero", flow(task(), version=0), [("version_invalid", None)]),
    ("a version that is true", flow(task(), version=True), [("version_invalid", None)]),
    ("a start that is no step", flow(task(), start="z"), [("start_unknown", None)]),
    ("no start", flow(task(), start=""), [("start_unknown", None)]),
    ("no steps", flow(), [("start_unknown", None)]),
    (
        "an elapsed arrow on a task",
        flow(task(on={**END, "elapsed": ("end",)})),
        [("event_never_raised", "a")],
    ),
    (
        "an elapsed arrow on a wait",
        flow(wait(on={**END, "elapsed": ("end",)})),
        [("event_never_raised", "a")],
    ),
    ("a sleep without its arrow", flow(nap(on={"ok": ("end",)})), [("sleep_arrows", "a")]),
    ("a sleep with a second arrow", flow(nap(on={"elapsed": ("end",), **END})), [("sleep_arrows", "a")]),
    ("a sleep for no time", flow(nap(sleep_ms=None)), [("duration_invalid", "a")]),
    ("a sleep of zero", flow(nap(sleep_ms=0)), [("duration_invalid", "a")]),
    ("a sleep beyond ten years", flow(nap(sleep_ms=DURATION_MS_MAX + 1)), [("duration_invalid", "a")]),
    ("a sleep of half a millisecond", flow(nap(sleep_ms=0.5)), [("duration_invalid", "a")]),
    ("a sleep with a timeout", flow(nap(timeout_ms=1)), [("setting_misplaced", "a")]),
    ("a wait with a retry", flow(wait(retry=RetryDefinition())), [("setting_misplaced", "a")]),
    (
        "a wait timeout where nothing waits",
        flow(task(on={**END, "error": ("end",)}, timeout_ms=1)),
        [("setting_misplaced", "a")],
    ),
    ("a wait that may time out to nowhere", flow(wait(timeout_ms=1)), [("timeout_without_arrow", "a")]),
    (
        "a task that may time out to nowhere",
        flow(task(events=frozenset({"ok"}), timeout_ms=1)),
        [("timeout_without_arrow", "a")],
    ),
    ("an attempt timeout of zero", flow(task(attempt_timeout_ms=0)), [("duration_invalid", "a")]),
    ("no attempt at all", flow(task(retry=RetryDefinition(max_attempts=0))), [("retry_invalid", "a")]),
    ("a pause of nothing", flow(task(retry=RetryDefinition(initial_ms=0))), [("retry_invalid", "a")]),
    (
        "a max below input",
        flow(task(retry=RetryDefinition(initial_ms=2, max_ms=1))),
        [("retry_invalid", "a")],
    ),
    ("a pause that shrinks", flow(task(retry=RetryDefinition(multiplier=0.5))), [("retry_invalid", "a")]),
    (
        "a pause that is no number",
        flow(task(retry=RetryDefinition(multiplier=float("nan")))),
        [("retry_invalid", "a")],
    ),
    ("more jitter than pause", flow(task(retry=RetryDefinition(jitter=1.5))), [("retry_invalid", "a")]),
    (
        "text where targets belong",
        flow(task(on={"ok": "end"})),
        [("malformed", "a")],
    ),
    (
        "an arrow to a step that has no shape",
        flow(task("a", on={"ok": ("b",)}), task("b", on={"ok": "end"})),
        [("malformed", "b")],
    ),
]


@pytest.mark.parametrize(("whole", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_mistake_has_its_finding(whole: WorkflowGraph, expected: list[tuple[str, str | None]]) -> None:
    assert sorted(codes(whole), key=repr) == sorted(expected, key=repr)


@pytest.mark.parametrize("ref", sorted(RESERVED_REFS))
def test_reserved_names_are_no_steps(ref: str) -> None:
    whole = flow(task("a", on={"ok": (ref,)}), task(ref))
    assert codes(whole) == [("name_reserved", ref)]


@pytest.mark.parametrize("event", ["timeout", "error", "elapsed"])
@pytest.mark.parametrize("make", [wait, task])
def test_what_only_the_engine_raises_cannot_come_from_outside(make: Any, event: str) -> None:
    whole = flow(make(on={"ok": ("end",)}, events=frozenset({"ok", event})))
    assert codes(whole) == [("event_reserved", "a")]


LEGAL: list[tuple[str, WorkflowGraph]] = [
    ("one task", flow(task())),
    ("a timeout arrow with no timer of its own", flow(task(on={**END, "timeout": ("end",)}))),
    ("a wait timeout that raises error", flow(wait(on={**END, "error": ("end",)}, timeout_ms=1))),
    ("a task that awaits what it may also return", flow(task(events=frozenset({"ok"})))),
    ("a fork of which one branch ends at once", flow(task(on={"ok": ("b", "end")}), task("b"))),
    ("a sleep that forks", flow(nap(on={"elapsed": ("b", "c")}), task("b"), task("c"))),
    ("the longest sleep", flow(nap(sleep_ms=DURATION_MS_MAX))),
    ("a policy without growth", flow(task(retry=RetryDefinition(max_attempts=1, multiplier=1, jitter=0)))),
    ("a join declared where nothing joins", flow(task(join=Join.ALL))),
]


@pytest.mark.parametrize("whole", [case[1] for case in LEGAL], ids=[case[0] for case in LEGAL])
def test_what_is_legal_is_not_blamed(whole: WorkflowGraph) -> None:
    assert validate(whole) == []


def test_every_finding_is_reported_at_once_in_the_order_of_the_steps() -> None:
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


def test_a_fault_is_named_where_it_lies_and_not_upstream() -> None:
    whole = flow(task("a", on={"ok": ("b",)}), task("b", on={"ok": ("c",)}), task("c", on={}))
    assert codes(whole) == [("end_unreachable", "c")]


def test_a_cycle_is_shown_as_a_way_round() -> None:
    whole = flow(
        task("a", on={"ok": ("b",)}),
        task("b", on={"ok": ("c", "d")}),
        task("c", on={"ok": ("b",), "no": ("end",)}),
        task("d", on={"ok": ("c",)}),
    )
    (cycle,) = [issue for issue in validate(whole) if issue.code is IssueCode.CYCLE]
    assert "b -> c -> b" in cycle.message


def test_a_misspelt_target_is_given_its_likely_name() -> None:
    whole = flow(task("a", on={"ok": ("relase",), "no": ("release",)}), task("release"))
    assert [issue.hint for issue in validate(whole)] == ["did you mean 'release'?"]


def test_the_exception_lists_every_finding_with_its_mend() -> None:
    issues = [
        ValidationIssue(code=IssueCode.CYCLE, step_ref="a", message="a cycle: a -> a", hint="remove it"),
        ValidationIssue(
            code=IssueCode.VERSION_INVALID, step_ref=None, message="0 is no version", hint="use 1"
        ),
    ]
    error = WorkflowInvalidError(issues, workflow="flow")
    assert error.issues == tuple(issues)
    assert str(error).splitlines() == [
        "workflow 'flow' has 2 issues:",
        "  - step 'a': a cycle: a -> a [cycle]; remove it",
        "  - workflow: 0 is no version [version_invalid]; use 1",
    ]


def test_too_many_steps_are_one_finding() -> None:
    assert codes(flow(*(task(f"s{index}") for index in range(STEPS_MAX + 1)))) == [("limit_exceeded", None)]


def test_too_many_arrows_are_one_finding() -> None:
    refs = tuple(f"s{index}" for index in range(200))
    whole = flow(*(task(ref, on={"ok": refs}) for ref in refs))
    assert len(refs) ** 2 > ARROWS_MAX
    assert codes(whole) == [("limit_exceeded", None)]


@pytest.mark.parametrize("join", [None, Join.ALL])
def test_the_largest_graph_is_validated(join: Join | None) -> None:
    def on(index: int) -> ON:
        return {
            "ok": tuple(f"s{later}" for later in range(index + 1, min(index + 10, STEPS_MAX))) or ("end",)
        }

    whole = flow(*(task(f"s{index}", on=on(index), join=join) for index in range(STEPS_MAX)))
    assert validate(whole) == []


def test_a_chain_of_steps_longer_than_the_stack_is_judged() -> None:
    whole = flow(*(task(f"s{i}", on={"ok": (f"s{(i + 1) % STEPS_MAX}",)}) for i in range(STEPS_MAX)))
    assert ("cycle", "s0") in codes(whole)
