"""Hypothesis strategies for graphs: `graphs` draws valid ones, `any_graphs` arbitrary ones of the right classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from perdure.model.graph import Join, RetryDefinition, StepDefinition, StepKind, WorkflowGraph, graph
from perdure.model.validation import IssueCode, validate

EVENTS = ("ok", "no", "maybe")
_JOINS = st.sampled_from([None, Join.AUTO, Join.ALL, Join.ANY])
_DURATIONS_MS = st.integers(min_value=1, max_value=86_400_000)
_RETRIES = st.builds(
    RetryDefinition,
    max_attempts=st.integers(1, 4),
    initial_ms=st.integers(1, 1_000),
    max_ms=st.integers(1_000, 60_000),
    multiplier=st.sampled_from([1.0, 1.5, 2.0]),
    jitter=st.sampled_from([0.0, 0.2, 1.0]),
)


@st.composite
def acyclic_graphs(
    draw: st.DrawFn, *, max_steps: int = 8, joins: st.SearchStrategy[Any] = _JOINS
) -> WorkflowGraph:
    """Graphs in which every step is in order and reachable and every path ends; only their joins may be
    issues.
    """
    count = draw(st.integers(1, max_steps))
    refs = [f"s{index}" for index in range(count)]
    kinds = [draw(st.sampled_from(StepKind)) for _ in refs]
    transitions = [_events(draw, kind) for kind in kinds]
    for index in range(1, count):
        parent = draw(st.integers(0, index - 1))
        event = draw(st.sampled_from(sorted(transitions[parent])))
        transitions[parent][event].append(refs[index])
    for index, on in enumerate(transitions):
        later = [*refs[index + 1 :], "end"]
        for targets in on.values():
            least = 0 if targets else 1
            more = draw(st.lists(st.sampled_from(later), min_size=least, max_size=2, unique=True))
            targets.extend(target for target in more if target not in targets)
    return graph(
        "drawn",
        1,
        refs[0],
        [_step(draw, ref, kind, on, joins) for ref, kind, on in zip(refs, kinds, transitions, strict=True)],
    )


def _events(draw: st.DrawFn, kind: StepKind) -> dict[str, list[str]]:
    if kind is StepKind.SLEEP:
        return {"elapsed": []}
    events = draw(st.lists(st.sampled_from(EVENTS), min_size=1, max_size=3, unique=True))
    extra = draw(st.lists(st.sampled_from(["timeout", "error"]), max_size=2, unique=True))
    return {event: [] for event in [*events, *extra]}


def _step(
    draw: st.DrawFn, ref: str, kind: StepKind, on: dict[str, list[str]], joins: st.SearchStrategy[Any]
) -> StepDefinition:
    own = [event for event in on if event in EVENTS]
    step = StepDefinition(
        ref=ref,
        kind=kind,
        on={event: tuple(targets) for event, targets in on.items()},
        join=draw(joins),
    )
    may_time_out = "timeout" in on or "error" in on
    match kind:
        case StepKind.SLEEP:
            return replace(step, sleep_ms=draw(_DURATIONS_MS))
        case StepKind.WAIT:
            timeout_ms = draw(st.none() | _DURATIONS_MS) if may_time_out else None
            return replace(step, events=frozenset(own), timeout_ms=timeout_ms)
        case StepKind.TASK:
            awaits = frozenset(draw(st.just([]) | st.lists(st.sampled_from(own), min_size=1, unique=True)))
            return replace(
                step,
                events=awaits,
                timeout_ms=draw(st.none() | _DURATIONS_MS) if awaits and may_time_out else None,
                attempt_timeout_ms=draw(st.none() | _DURATIONS_MS),
                retry=draw(st.none() | _RETRIES),
            )


@st.composite
def graphs(draw: st.DrawFn, *, max_steps: int = 8) -> WorkflowGraph:
    """Legal graphs: tasks, waits and sleeps, forks, all joins, ``error`` and ``timeout`` transitions; never a
    cycle.

    The issues of joins are fixed as `validate` suggests, so every drawn graph passes it.
    """
    drawn = draw(acyclic_graphs(max_steps=max_steps))
    for issue in validate(drawn):
        assert issue.code in {IssueCode.JOIN_UNDECLARED, IssueCode.JOIN_UNSATISFIABLE}, str(issue)
        assert issue.step_ref is not None
        declarable = [Join.AUTO, Join.ANY] if issue.code is IssueCode.JOIN_UNSATISFIABLE else [*Join]
        drawn = with_join(drawn, issue.step_ref, draw(st.sampled_from(declarable)))
    # A join that was declared "all" just now may turn out to be one that no run can satisfy.
    for issue in validate(drawn):
        assert issue.code is IssueCode.JOIN_UNSATISFIABLE, str(issue)
        assert issue.step_ref is not None
        drawn = with_join(drawn, issue.step_ref, Join.AUTO)
    return drawn


def with_join(whole: WorkflowGraph, ref: str, join: Join | None) -> WorkflowGraph:
    """The graph with one step's join changed."""
    return replace(whole, steps={**whole.steps, ref: replace(whole.steps[ref], join=join)})


_NAMES = st.sampled_from(
    ["a", "b", "c", "start", "end", "name", "lifespan", "timeout", "error", "elapsed", "A-b", ""]
)
_TEXTS = _NAMES | st.text(max_size=5) | st.sampled_from(["\ud800", "x" * 100_000, "a" * 65])
_JUNK = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | _TEXTS
    | st.just([])
    | st.just({})
    | st.just(object())
)
_NUMBERS = st.none() | st.integers() | st.sampled_from([10**5000, -1, 0, True]) | st.floats()


def _any_steps(junk: st.SearchStrategy[Any]) -> st.SearchStrategy[StepDefinition]:
    targets = st.lists(_TEXTS | junk, max_size=4).map(tuple) | junk
    return st.builds(
        StepDefinition,
        ref=_TEXTS | junk,
        kind=st.sampled_from(StepKind) | junk,
        on=st.dictionaries(_TEXTS, targets, max_size=4) | junk,
        events=st.frozensets(_TEXTS, max_size=3) | junk,
        join=st.none() | st.sampled_from(Join) | junk,
        retry=st.none()
        | st.builds(
            RetryDefinition,
            max_attempts=_NUMBERS,
            initial_ms=_NUMBERS,
            max_ms=_NUMBERS,
            multiplier=_NUMBERS,
            jitter=_NUMBERS,
        )
        | junk,
        attempt_timeout_ms=_NUMBERS | junk,
        timeout_ms=_NUMBERS | junk,
        sleep_ms=_NUMBERS | junk,
    )


def any_graphs() -> st.SearchStrategy[WorkflowGraph]:
    """Graphs with anything in their fields: right types and junk names, cycles, dangling transitions, or plain
    junk.
    """
    tangled = st.lists(_any_steps(st.nothing()), max_size=6).map(
        lambda steps: {step.ref: step for step in steps}
    )
    junk = st.dictionaries(_TEXTS, _any_steps(_JUNK) | _JUNK, max_size=4) | _JUNK
    return st.builds(
        WorkflowGraph,
        name=_TEXTS | _JUNK,
        version=_NUMBERS | _JUNK,
        start=_TEXTS | _JUNK,
        steps=tangled | junk,
    )
