"""Joins by example: auto, all and any; what is absorbed, skipped and merged, and the order that never ships."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from order import OrderFlow
from perdure.authoring import graph_of
from perdure.model.graph import Join, WorkflowGraph
from perdure_server.engine.state import Finished, InstanceState, Queued, Running, Skipped, Waiting
from simulation.flows import flow, task, wait
from simulation.instance import Instance


def fork(*steps: str, join: Join | None = None, **more: str) -> WorkflowGraph:
    """A fork into ``steps``, each of which goes on to ``both`` by `ok`, or to the end by `no`."""
    branches = [task(ref, ok="both", no=more.get(ref, "end")) for ref in steps]
    return flow(task("fork", done=" ".join(steps)), *branches, task("both", ok="end", join=join))


def forked(graph: WorkflowGraph) -> Instance:
    instance = Instance(graph)
    instance.run("fork", "done")
    return instance


# Arrivals that all come


@pytest.mark.parametrize("join", [Join.AUTO, Join.ALL])
@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
def test_a_fan_in_waits_for_every_branch_in_any_order(join: Join, order: tuple[str, ...]) -> None:
    instance = forked(fork("a", "b", "c", join=join))

    for ref in order:
        assert "both" not in instance.begun
        instance.run(ref, "ok")

    assert instance.active == {"both"}
    assert instance.facts[-1] == "StepStarted"


def test_arrivals_are_in_the_state_until_the_join_begins() -> None:
    instance = forked(fork("a", "b", join=Join.ALL))
    instance.run("b", "ok")
    assert instance.state.arrivals == {"both": ("b",)}

    instance.run("a", "ok")

    assert instance.state.arrivals == {}


# auto


def test_an_auto_join_begins_once_no_branch_can_reach_it_any_more() -> None:
    instance = forked(fork("a", "b", join=Join.AUTO))
    instance.run("a", "ok")

    instance.run("b", "no")

    assert instance.active == {"both"}


def test_an_auto_join_that_nobody_reaches_never_begins() -> None:
    instance = forked(fork("a", "b", join=Join.AUTO))
    instance.run("a", "no")

    instance.run("b", "no")

    assert instance.status is InstanceState.COMPLETED
    assert instance.step("both") is None


def test_an_auto_join_waits_for_a_branch_that_is_still_far_away() -> None:
    graph = flow(
        task("fork", done="near far1"),
        task("near", ok="both"),
        task("far1", ok="far2"),
        task("far2", ok="far3"),
        task("far3", ok="both"),
        task("both", ok="end"),
    )
    instance = forked(graph)
    instance.run("near", "ok")
    for ref in ("far1", "far2"):
        instance.run(ref, "ok")
        assert "both" not in instance.begun

    instance.run("far3", "ok")

    assert instance.active == {"both"}


def test_an_exclusive_choice_merges_without_waiting() -> None:
    graph = flow(
        task("choose", left="a", right="b"),
        task("a", ok="merge"),
        task("b", ok="merge"),
        task("merge", ok="end"),
    )
    for event, ref in (("left", "a"), ("right", "b")):
        instance = Instance(graph)
        instance.run("choose", event)
        instance.run(ref, "ok")
        assert instance.active == {"merge"}


def test_a_failed_branch_that_takes_its_error_arrow_no_longer_holds_the_join() -> None:
    graph = flow(
        task("fork", done="a b"),
        task("a", ok="both"),
        task("b", ok="both", error="end"),
        task("both", ok="end", join=Join.AUTO),
    )
    instance = forked(graph)
    instance.run("a", "ok")
    instance.take("b")

    instance.do(instance.fail("b", retryable=False))

    assert instance.active == {"both"}


# all


def test_an_all_join_is_skipped_once_a_predecessor_cannot_arrive() -> None:
    instance = forked(fork("a", "b", join=Join.ALL))
    instance.run("a", "ok")

    instance.run("b", "no")

    assert instance.facts[-2:] == ["StepSkipped", "InstanceCompleted"]
    assert isinstance(instance.step("both"), Skipped)
    assert instance.state.arrivals == {}


def test_an_all_join_is_skipped_when_the_first_arrival_comes_too_late() -> None:
    instance = forked(fork("a", "b", join=Join.ALL))
    instance.run("b", "no")

    instance.run("a", "ok")

    assert isinstance(instance.step("both"), Skipped)
    assert instance.status is InstanceState.COMPLETED


def test_a_skipped_step_ends_later_arrivals() -> None:
    instance = forked(fork("a", "b", "c", join=Join.ALL))
    instance.run("a", "ok")
    instance.run("b", "no")
    assert isinstance(instance.step("both"), Skipped)
    assert instance.active == {"c"}

    instance.run("c", "ok")

    assert instance.status is InstanceState.COMPLETED
    assert "both" not in instance.begun


def test_skipping_one_join_lets_the_next_one_begin() -> None:
    graph = flow(
        task("fork", done="a b c"),
        task("a", ok="inner", no="end"),
        task("b", ok="inner"),
        task("inner", ok="outer", join=Join.ALL),
        task("c", ok="outer"),
        task("outer", ok="end", join=Join.AUTO),
    )
    instance = forked(graph)
    instance.run("b", "ok")
    instance.run("c", "ok")
    assert instance.active == {"a"}

    instance.run("a", "no")

    assert instance.facts[-2:] == ["StepSkipped", "StepStarted"]
    assert instance.active == {"outer"}


def test_skipping_one_all_join_skips_the_next_one() -> None:
    graph = flow(
        task("fork", done="a b c"),
        task("a", ok="inner", no="end"),
        task("b", ok="inner"),
        task("inner", ok="outer", join=Join.ALL),
        task("c", ok="outer"),
        task("outer", ok="end", join=Join.ALL),
    )
    instance = forked(graph)
    instance.run("b", "ok")
    instance.run("c", "ok")

    instance.run("a", "no")

    assert instance.facts == ["StepFinished", "StepSkipped", "StepSkipped", "InstanceCompleted"]


# any


def test_an_any_join_begins_at_the_first_arrival() -> None:
    instance = forked(fork("a", "b", join=Join.ANY))

    instance.run("b", "ok")

    assert instance.active == {"a", "both"}


def test_what_arrives_at_an_any_join_later_is_absorbed() -> None:
    instance = forked(fork("a", "b", join=Join.ANY))
    instance.run("b", "ok")

    instance.run("a", "ok")
    assert instance.active == {"both"}
    instance.run("both", "ok")

    assert instance.begun.count("both") == 1
    assert instance.status is InstanceState.COMPLETED


def test_an_arrival_at_an_any_join_that_has_ended_is_absorbed_too() -> None:
    instance = forked(fork("a", "b", join=Join.ANY))
    instance.run("b", "ok")
    instance.run("both", "ok")
    assert instance.status is InstanceState.RUNNING

    instance.run("a", "ok")

    assert instance.status is InstanceState.COMPLETED
    assert instance.begun.count("both") == 1


# Nested and chained


DIAMOND_IN_DIAMOND = flow(
    task("fork", done="left inner_fork"),
    task("left", ok="outer"),
    task("inner_fork", ok="x y"),
    task("x", ok="inner"),
    task("y", ok="inner"),
    task("inner", ok="outer"),
    task("outer", ok="end"),
)


@pytest.mark.parametrize("order", list(itertools.permutations(["left", "x", "y"])))
def test_a_diamond_in_a_diamond_joins_inside_out(order: tuple[str, ...]) -> None:
    instance = forked(DIAMOND_IN_DIAMOND)
    instance.run("inner_fork", "ok")

    for ref in order:
        assert "outer" not in instance.begun
        instance.run(ref, "ok")

    assert instance.active == {"inner"}
    instance.run("inner", "ok")
    assert instance.active == {"outer"}


def test_chained_joins_begin_one_after_the_other() -> None:
    graph = flow(
        task("fork", done="a b c d"),
        task("a", ok="first"),
        task("b", ok="first"),
        task("first", ok="second"),
        task("c", ok="second"),
        task("second", ok="third"),
        task("d", ok="third"),
        task("third", ok="end"),
    )
    instance = forked(graph)
    for ref in ("d", "c", "b", "a", "first", "second"):
        instance.run(ref, "ok")

    assert instance.begun[-3:] == ["first", "second", "third"]


def test_two_arrows_of_one_event_that_meet_again_arrive_once_each() -> None:
    graph = flow(task("fork", done="both a"), task("a", ok="both"), task("both", ok="end"))
    instance = forked(graph)
    assert instance.active == {"a"}
    assert instance.state.arrivals == {"both": ("fork",)}

    instance.run("a", "ok")

    assert instance.active == {"both"}


def test_steps_that_begin_together_begin_in_the_order_of_their_refs() -> None:
    graph = flow(task("fork", done="m z a"), *(wait(ref, ok="end") for ref in ("z", "m", "a")))

    assert forked(graph).begun == ["fork", "a", "m", "z"]


def test_the_instance_completes_with_its_last_branch_and_not_before() -> None:
    graph = flow(task("fork", done="a b", alone="end"), task("a", ok="end"), task("b", ok="end"))
    instance = forked(graph)
    instance.run("a", "ok")
    assert instance.status is InstanceState.RUNNING

    instance.run("b", "ok")

    assert instance.status is InstanceState.COMPLETED
    assert instance.state.ended_at == instance.now


def test_an_arrow_to_the_end_and_to_a_step_ends_only_one_branch() -> None:
    graph = flow(task("fork", done="end a"), task("a", ok="end"))

    assert forked(graph).active == {"a"}


# The order


ORDER = graph_of(OrderFlow)


def ways(instance: Instance) -> Iterator[tuple[str, str]]:
    for ref in sorted(instance.active):
        for event in ORDER.steps[ref].on:
            if event != "error" or isinstance(instance.state.steps[ref], Queued | Running):
                yield ref, event


def go(instance: Instance, ref: str, event: str) -> None:
    step = instance.state.steps[ref]
    if event in {"timeout", "elapsed"}:
        instance.do(instance.fire(instance.timer_of(ref).revision, forced=True))
    elif isinstance(step, Waiting):
        instance.do(instance.resume(event))
    elif event == "error":
        instance.take(ref)
        instance.do(instance.fail(ref, retryable=False))
    else:
        instance.run(ref, event)


def every_end() -> Iterator[Instance]:
    runs: list[list[tuple[str, str]]] = [[]]
    while runs:
        run = runs.pop()
        instance = Instance(ORDER)
        for way in run:
            go(instance, *way)
        if instance.state.is_final:
            yield instance
        else:
            runs.extend([*run, way] for way in ways(instance))


def test_a_declined_order_never_ships_and_every_other_way_ends_too() -> None:
    ends = list(every_end())

    declined = [end for end in ends if _event(end, "charge") == "declined"]
    assert declined
    for end in declined:
        assert not {"approval", "cooldown", "ship", "refund", "escalate"} & set(end.begun)
        assert _event(end, "release") == "released"
    shipped = [end for end in ends if "ship" in end.begun]
    assert shipped
    for end in shipped:
        assert [_event(end, ref) for ref in ("charge", "reserve", "approval")] == [
            "charged",
            "reserved",
            "approved",
        ]
    assert {_event(end, "approval") for end in ends} == {"approved", "rejected", "timeout", ""}


def _event(instance: Instance, ref: str) -> str:
    step = instance.step(ref)
    return step.event if isinstance(step, Finished) else ""
