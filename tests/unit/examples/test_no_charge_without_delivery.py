"""Every way through every example: a customer who has paid gets the goods or the money back."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure import Workflow
from perdure.authoring import graph_of
from perdure.model.graph import StepKind, WorkflowGraph
from perdure_server.engine.facts import TimerKind
from perdure_server.engine.state import Finished, InstanceState, Queued, Running, Sleeping, Waiting
from simulation.instance import Instance

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"

PAID = {"charged", "paid"}
"""Events after which the shop has the customer's money."""

SETTLED = {"shipped", "refunded"}
"""Events after which it has not, or owes nothing for it."""

FAIL, SUSPEND, FIRE = "(fails)", "(suspends)", "(time)"


def example_graphs() -> list[WorkflowGraph]:
    graphs = {}
    for path in sorted(EXAMPLES.glob("*.py")):
        if path.stem != "demo":
            module = importlib.import_module(path.stem)
            for found in vars(module).values():
                if isinstance(found, type) and issubclass(found, Workflow) and found is not Workflow:
                    graph = graph_of(found)
                    graphs[graph.name] = graph
    return list(graphs.values())


GRAPHS = example_graphs()


def ways(instance: Instance) -> Iterator[tuple[str, str]]:
    """Yield everything that can happen next: each event of each active step, its failure and its timers."""
    for ref in sorted(instance.active):
        step, state = instance.graph.steps[ref], instance.state.steps[ref]
        if isinstance(state, Queued | Running):
            yield from ((ref, event) for event in step.on if event not in {"error", "timeout"})
            yield ref, FAIL
            if step.events:
                yield ref, SUSPEND
        if isinstance(state, Waiting):
            yield from ((ref, event) for event in sorted(state.events))
        if isinstance(state, Waiting | Sleeping) and any(
            timer.step_ref == ref for timer in instance.state.timers.values()
        ):
            yield ref, FIRE


def go(instance: Instance, ref: str, way: str) -> None:
    if way == FIRE:
        timer = instance.timer_of(ref)
        assert timer.kind is not TimerKind.RETRY
        instance.do(instance.fire(timer.revision, forced=True))
    elif isinstance(instance.state.steps[ref], Waiting):
        instance.do(instance.resume(way, step_ref=ref))
    else:
        instance.take(ref)
        if way == FAIL:
            instance.do(instance.fail(ref, retryable=False))
        else:
            instance.do(instance.suspend(ref) if way == SUSPEND else instance.finish(ref, way))


def picture(instance: Instance) -> object:
    """State that decides the future of an instance, and the payments so far."""
    return instance.status, frozenset(
        (ref, type(state).__name__, getattr(state, "event", ""))
        for ref, state in instance.state.steps.items()
    )


def every_end(graph: WorkflowGraph) -> Iterator[tuple[list[tuple[str, str]], Instance]]:
    """Yield each state in which an instance can rest for good, with a way to it."""
    runs: list[list[tuple[str, str]]] = [[]]
    seen = set()
    while runs:
        run = runs.pop()
        instance = Instance(graph)
        for way in run:
            go(instance, *way)
        if (shown := picture(instance)) in seen:
            continue
        seen.add(shown)
        if instance.state.is_final or instance.status is InstanceState.FAILED:
            yield run, instance
        else:
            runs.extend([*run, way] for way in ways(instance))


def events_of(instance: Instance) -> set[str]:
    return {state.event for state in instance.state.steps.values() if isinstance(state, Finished)}


def takes_money(graph: WorkflowGraph) -> bool:
    return any(PAID & (set(step.on) | step.events) for step in graph.steps.values())


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.name)
def test_no_way_ends_paid_and_neither_shipped_nor_refunded(graph: WorkflowGraph) -> None:
    ends = list(every_end(graph))

    assert ends
    for run, end in ends:
        events = events_of(end)
        if events & PAID and not events & SETTLED:
            # The one rest that is allowed: a refund that failed for good, which RetryInstance takes up again.
            assert end.status is InstanceState.FAILED, run
            assert run[-1] == ("refund", FAIL), run
            end.do(end.retry())
            end.run("refund", "refunded")
            assert end.state.is_final


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.name)
def test_nothing_is_shipped_or_refunded_that_was_not_paid(graph: WorkflowGraph) -> None:
    for run, end in every_end(graph):
        if events_of(end) & SETTLED:
            assert events_of(end) & PAID, run


def test_the_examples_with_money_are_seen() -> None:
    assert {graph.name for graph in GRAPHS if takes_money(graph)} == {"order", "checkout"}
    assert {graph.name for graph in GRAPHS} >= {"freight", "report"}
    for graph in GRAPHS:
        if takes_money(graph):
            reached = set[str]().union(*(events_of(end) for _, end in every_end(graph)))
            assert reached >= SETTLED
            tasks = {ref for ref, step in graph.steps.items() if step.kind is StepKind.TASK}
            assert "refund" in tasks
