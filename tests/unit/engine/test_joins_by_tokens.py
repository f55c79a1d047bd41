"""Joins against tokens that walk the graph: which steps begin, which are skipped, in which order.

``simulation.join_oracle`` knows nothing of the engine. The judge asks it after every commit: for the rounds of that
commit,
the arrivals, and the steps that may still begin.
"""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.model.graph import WorkflowGraph
from perdure_server.engine import state as states
from perdure_server.engine.reachability import possible_steps
from perdure_server.engine.state import InstanceState
from simulation.flows import random_flow
from simulation.instance import Instance
from support.strategies import graphs

RUNS_MAX = 300
"""How many states of one graph are looked at; a graph of five steps has fewer."""


def end(instance: Instance, ref: str, event: str) -> None:
    """End an active step with any event that it may end with."""
    step = instance.state.steps[ref]
    if isinstance(step, states.Sleeping):
        timer = instance.timer_of(ref)
        instance.now = max(instance.now, timer.due_at)
        instance.do(instance.fire(timer.revision))
    elif event == "timeout":
        instance.do(instance.schedule(ref, 1))
        timer_revision = instance.last.cause.revision
        instance.now += 1
        instance.do(instance.fire(timer_revision))
    elif isinstance(step, states.Waiting):
        instance.do(instance.resume(event, step_ref=ref))
    elif event == "error":
        instance.take(ref)
        instance.do(instance.fail(ref, retryable=False))
    else:
        instance.run(ref, event)


def ends(instance: Instance) -> list[tuple[str, str]]:
    """Every way in which an active step may end now."""
    return [
        (ref, event)
        for ref in sorted(instance.active)
        for event in instance.graph.steps[ref].on
        # Only code fails; a wait has no attempt.
        if event != "error" or isinstance(instance.state.steps[ref], states.Queued)
    ]


def compare_reach(instance: Instance) -> None:
    possible = possible_steps(instance.graph, instance.state)
    assert possible == {ref for ref in instance.graph.steps if instance.judge.book.tokens.can_begin(ref)}


def run_at_random(graph: WorkflowGraph, rng: Random) -> None:
    instance = Instance(graph)
    while instance.active:
        compare_reach(instance)
        end(instance, *rng.choice(ends(instance)))
    assert instance.status is InstanceState.COMPLETED


@settings(max_examples=200, deadline=None)
@given(graphs(max_steps=10), st.integers(0, 2**32))
def test_any_run_of_any_graph_goes_as_its_tokens_go(graph: WorkflowGraph, seed: int) -> None:
    run_at_random(graph, Random(seed))


def test_a_thousand_larger_runs_go_as_their_tokens_go() -> None:
    for seed in range(1_000):
        rng = Random(seed)
        run_at_random(random_flow(rng, steps_max=14), rng)


@settings(max_examples=40, deadline=None)
@given(graphs(max_steps=5))
def test_every_run_of_a_small_graph_goes_as_its_tokens_go(graph: WorkflowGraph) -> None:
    seen: set[str] = set()
    runs: list[list[tuple[str, str]]] = [[]]
    while runs and len(seen) < RUNS_MAX:
        run = runs.pop()
        instance = Instance(graph)
        for ref, event in run:
            end(instance, ref, event)
        compare_reach(instance)
        where = repr(sorted((ref, _end_of(step)) for ref, step in instance.state.steps.items()))
        if where not in seen:
            seen.add(where)
            runs.extend([*run, way] for way in ends(instance))


def _end_of(step: states.StepState) -> str:
    return step.event if isinstance(step, states.Finished) else type(step).__name__
