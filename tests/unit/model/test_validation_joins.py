"""The two questions about joins, asked again by brute force over small graphs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.model.graph import END, Join, StepDefinition, StepKind, WorkflowGraph, graph
from perdure.model.validation import IssueCode, validate
from support.strategies import acyclic_graphs, graphs, with_join


def task(ref: str, join: Join | None = None, **on: str) -> StepDefinition:
    """A task; ``on`` is written as in ``go="a b"``."""
    return StepDefinition(
        ref=ref, kind=StepKind.TASK, join=join, on={event: tuple(to.split()) for event, to in on.items()}
    )


def flow(*steps: StepDefinition) -> WorkflowGraph:
    return graph("flow", 1, steps[0].ref, steps)


def found(whole: WorkflowGraph, code: IssueCode) -> set[str | None]:
    return {issue.step_ref for issue in validate(whole) if issue.code is code}


# By brute force


def paths(
    whole: WorkflowGraph, origin: str, goal: str, without: str | None = None
) -> Iterator[tuple[str, ...]]:
    """Every path from ``origin`` to ``goal`` (a step or `end`), both included."""
    if origin == goal:
        yield (origin,)
    elif origin not in {END, without}:
        for target in {target for targets in whole.steps[origin].on.values() for target in targets}:
            for rest in paths(whole, target, goal, without):
                yield (origin, *rest)


def may_meet_at(whole: WorkflowGraph, join: str, one: str, other: str) -> bool:
    """Can two branches that begin at ``one`` and ``other`` reach ``join`` without meeting before?"""
    return any(
        set(here) & set(there) == {join}
        for here in paths(whole, one, join)
        for there in paths(whole, other, join)
    )


def missed_joins(whole: WorkflowGraph) -> set[str]:
    """The steps that some run begins without one of the parallel branches that another run brings there."""
    missed = set()
    branches = [
        (step.ref, event, join, one)
        for step in whole.steps.values()
        for event, targets in step.on.items()
        for join in whole.steps
        for one in set(targets) - {END}
        if any(may_meet_at(whole, join, one, other) for other in set(targets) - {END, one})
    ]
    for chosen, begun in choices_and_runs(whole):
        for ref, event, join, one in branches:
            if (
                join in begun
                and ref in begun
                and chosen[ref] == event
                and join not in reached_from(one, begun)
            ):
                missed.add(join)
    return missed


def choices_and_runs(whole: WorkflowGraph) -> Iterator[tuple[dict[str, str], dict[str, set[str]]]]:
    for choice in itertools.product(*(sorted(step.on) for step in whole.steps.values())):
        chosen = dict(zip(whole.steps, choice, strict=True))
        yield chosen, run(whole, chosen)


def run(whole: WorkflowGraph, chosen: dict[str, str]) -> dict[str, set[str]]:
    """The begun steps with the arrivals that each had: tokens are moved until none can move."""
    arrivals: dict[str, set[str]] = {whole.start: set()}
    begun: dict[str, set[str]] = {}
    moved = True
    while moved:
        moved = False
        for ref in [ref for ref in arrivals if ref not in begun]:
            if whole.steps[ref].join is Join.ALL and arrivals[ref] != whole.predecessors[ref]:
                continue
            begun[ref] = arrivals[ref]
            for target in whole.steps[ref].on[chosen[ref]]:
                if target != END:
                    arrivals.setdefault(target, set()).add(ref)
            moved = True
    return begun


def reached_from(origin: str, begun: dict[str, set[str]]) -> set[str]:
    ahead, seen = [origin], {origin}
    while ahead:
        ref = ahead.pop()
        for later, sources in begun.items():
            if ref in sources and later not in seen:
                seen.add(later)
                ahead.append(later)
    return seen


def few_runs(whole: WorkflowGraph) -> bool:
    count = 1
    for step in whole.steps.values():
        count *= len(step.on)
    return count <= 500


ENOUGH = settings(max_examples=150)


@ENOUGH
@given(acyclic_graphs(max_steps=6, joins=st.none()).filter(few_runs))
def test_a_join_must_be_declared_exactly_where_a_parallel_branch_may_leave_it(whole: WorkflowGraph) -> None:
    assert found(whole, IssueCode.JOIN_UNDECLARED) == missed_joins(whole)


@ENOUGH
@given(acyclic_graphs(max_steps=6).filter(few_runs))
def test_a_join_that_is_called_impossible_starts_in_no_run(whole: WorkflowGraph) -> None:
    impossible = found(whole, IssueCode.JOIN_UNSATISFIABLE)
    if impossible:
        assert not any(impossible & begun.keys() for _, begun in choices_and_runs(whole))


@ENOUGH
@given(st.data(), acyclic_graphs(max_steps=6, joins=st.just(Join.AUTO)).filter(few_runs))
def test_every_impossible_join_of_two_is_found_when_it_is_the_only_one(
    data: st.DataObject, whole: WorkflowGraph
) -> None:
    pairs = [ref for ref, sources in whole.predecessors.items() if len(sources) == 2]
    if pairs:
        ref = data.draw(st.sampled_from(pairs))
        whole = with_join(whole, ref, Join.ALL)
        possible = any(ref in begun for _, begun in choices_and_runs(whole))
        assert found(whole, IssueCode.JOIN_UNSATISFIABLE) == (set() if possible else {ref})


@ENOUGH
@given(acyclic_graphs(max_steps=6, joins=st.none()))
def test_every_join_that_is_offered_for_one_to_be_declared_passes(whole: WorkflowGraph) -> None:
    for issue in validate(whole):
        if issue.code is IssueCode.JOIN_UNDECLARED:
            assert issue.step_ref is not None
            offered = {join for join in Join if f"join='{join.value}'" in issue.hint}
            passing = {
                join
                for join in Join
                if issue.step_ref
                not in {f.step_ref for f in validate(with_join(whole, issue.step_ref, join))}
            }
            assert offered == passing


@given(graphs())
def test_every_graph_of_the_strategy_passes(whole: WorkflowGraph) -> None:
    assert validate(whole) == []


# By example


def test_an_exclusive_choice_that_merges_again_needs_no_word() -> None:
    whole = flow(
        task("check", left="a", right="b"),
        task("a", ok="merge"),
        task("b", ok="merge"),
        task("merge", ok="end"),
    )
    assert validate(whole) == []


def test_an_exclusive_branch_may_leave_without_a_word() -> None:
    whole = flow(
        task("check", left="a", right="b"),
        task("a", ok="merge", no="end"),
        task("b", ok="merge"),
        task("merge", ok="end"),
    )
    assert validate(whole) == []


def test_a_fan_in_that_no_branch_can_leave_needs_no_word() -> None:
    whole = flow(
        task("fork", go="a b"), task("a", ok="merge"), task("b", ok="merge"), task("merge", ok="end")
    )
    assert validate(whole) == []


@pytest.mark.parametrize("event", ["declined", "error", "timeout"])
def test_a_fan_in_that_a_parallel_branch_may_leave_must_be_declared(event: str) -> None:
    whole = flow(
        task("fork", go="a b"),
        task("a", ok="merge", **{event: "end"}),
        task("b", ok="merge"),
        task("merge", ok="end"),
    )
    assert found(whole, IssueCode.JOIN_UNDECLARED) == {"merge"}
    for join in Join:
        assert validate(with_join(whole, "merge", join)) == []


def test_an_arrow_straight_from_the_fork_is_a_branch_too() -> None:
    whole = flow(task("fork", go="a merge"), task("a", ok="merge", no="end"), task("merge", ok="end"))
    assert found(whole, IssueCode.JOIN_UNDECLARED) == {"merge"}


def test_a_choice_before_the_fork_is_not_a_branch_that_leaves() -> None:
    whole = flow(
        task("check", go="a b", stop="end"),
        task("a", ok="merge"),
        task("b", ok="merge"),
        task("merge", ok="end"),
    )
    assert validate(whole) == []


def test_branches_that_met_before_do_not_meet_again() -> None:
    whole = flow(
        task("fork", go="a b"),
        task("a", ok="first"),
        task("b", ok="first"),
        task("first", left="x", right="y", stop="end"),
        task("x", ok="second"),
        task("y", ok="second"),
        task("second", ok="end"),
    )
    assert validate(whole) == []


def test_a_branch_that_leaves_and_comes_back_later_has_left() -> None:
    whole = flow(
        task("fork", go="a b"),
        task("a", ok="merge", late="last"),
        task("b", ok="merge"),
        task("merge", ok="last"),
        task("last", ok="end"),
    )
    assert found(whole, IssueCode.JOIN_UNDECLARED) == {"merge"}


def test_a_branch_that_forks_to_the_join_and_elsewhere_always_arrives() -> None:
    whole = flow(
        task("fork", go="a b"),
        task("a", ok="merge note"),
        task("note", ok="end"),
        task("b", ok="merge"),
        task("merge", ok="end"),
    )
    assert validate(whole) == []


def test_all_over_an_exclusive_choice_can_never_start() -> None:
    whole = flow(
        task("check", left="a", right="b"),
        task("a", ok="merge"),
        task("b", ok="merge"),
        task("merge", Join.ALL, ok="end"),
    )
    assert found(whole, IssueCode.JOIN_UNSATISFIABLE) == {"merge"}


def test_all_over_a_choice_inside_a_branch_can_never_start() -> None:
    whole = flow(
        task("fork", go="a b"),
        task("a", left="x", right="y"),
        task("x", ok="merge"),
        task("y", ok="merge"),
        task("b", ok="merge"),
        task("merge", Join.ALL, ok="end"),
    )
    assert found(whole, IssueCode.JOIN_UNSATISFIABLE) == {"merge"}
    assert validate(with_join(whole, "merge", None)) == []


def test_all_over_a_step_and_what_it_begins_beside_the_join_can_start() -> None:
    whole = flow(task("a", go="merge b"), task("b", ok="merge"), task("merge", Join.ALL, ok="end"))
    assert validate(whole) == []


def test_all_over_a_step_and_what_it_begins_instead_of_the_join_can_never_start() -> None:
    whole = flow(task("a", go="merge", no="b"), task("b", ok="merge"), task("merge", Join.ALL, ok="end"))
    assert found(whole, IssueCode.JOIN_UNSATISFIABLE) == {"merge"}


def test_joins_are_judged_beside_a_cycle_and_not_behind_one() -> None:
    whole = flow(
        task("fork", go="a b c"),
        task("a", ok="merge", no="end"),
        task("b", ok="merge"),
        task("merge", ok="end"),
        task("c", ok="d"),
        task("d", ok="c", out="behind end", no="e"),
        task("e", ok="behind"),
        task("behind", Join.ALL, ok="end"),
    )
    assert found(whole, IssueCode.CYCLE) == {"c"}
    assert found(whole, IssueCode.JOIN_UNDECLARED) == {"merge"}
    assert found(whole, IssueCode.JOIN_UNSATISFIABLE) == set()
