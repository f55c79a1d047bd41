"""The short way to the one ripe join, against the pass over the whole graph: any states, reachable or not."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.model.graph import Join, WorkflowGraph
from perdure_server.engine import reachability
from perdure_server.engine import state as states
from perdure_server.engine.facts import Failure
from simulation.flows import flow, task
from support.strategies import acyclic_graphs, with_join

FAILURE = Failure("ValueError", "no")
MOVING: tuple[states.StepState, ...] = (
    states.Queued(1),
    states.Running(1, 1, 0, "owner"),
    states.BackingOff(1, 1, 1, FAILURE),
    states.Waiting(1, ("ok",)),
    states.Sleeping(1),
)
STILL: tuple[states.StepState, ...] = (
    states.Finished(1, 2, "ok", None),
    states.Skipped(3),
    states.Failed(1, 1, FAILURE),
    states.Interrupted(states.Queued(1)),
)


@st.composite
def steps_of(draw: st.DrawFn, graph: WorkflowGraph) -> dict[str, states.StepState]:
    """Steps that have started. Seldom one of them moves, since the short way is for when none does."""
    kinds = draw(st.sampled_from([STILL, STILL, STILL + MOVING]))
    started = draw(st.lists(st.sampled_from(graph.order), unique=True))
    return {ref: draw(st.sampled_from(kinds)) for ref in started}


@st.composite
def arrivals_at(
    draw: st.DrawFn, graph: WorkflowGraph, steps: dict[str, states.StepState]
) -> dict[str, tuple[str, ...]]:
    """Arrivals at steps that have not started, mostly at one."""
    free = sorted(graph.steps.keys() - steps.keys())
    size = min(len(free), draw(st.sampled_from([1, 1, 1, 2])))
    found: dict[str, tuple[str, ...]] = {}
    for ref in draw(st.permutations(free))[:size]:
        sources = sorted(graph.predecessors[ref])
        found[ref] = tuple(draw(st.lists(st.sampled_from(sources), unique=True))) if sources else ()
    return found


@settings(max_examples=400, deadline=None)
@given(st.data(), acyclic_graphs(max_steps=6))
def test_the_short_way_finds_what_the_pass_over_the_graph_finds(
    data: st.DataObject, graph: WorkflowGraph
) -> None:
    steps = data.draw(steps_of(graph))
    arrivals = data.draw(arrivals_at(graph, steps))

    alone = reachability._alone(graph, steps, arrivals)

    if alone is not None:
        _, joins = reachability._walk(graph, steps, arrivals)
        assert joins == reachability.Joins((), (alone,))


def test_a_single_step_with_arrivals_takes_the_short_way() -> None:
    fork = flow(
        task("fork", done="a b c"),
        task("a", ok="both"),
        task("b", ok="both"),
        task("c", ok="end"),
        task("both", ok="end"),
    )
    ended = states.Finished(1, 2, "ok", None)
    steps = {"fork": ended, "a": ended, "b": ended, "c": ended}
    arrivals = {"both": ("a", "b")}

    assert reachability._alone(fork, steps, arrivals) == "both"
    assert reachability._alone(fork, steps | {"c": states.Waiting(1, ("ok",))}, arrivals) is None
    assert reachability._alone(fork, {"fork": ended}, {"a": ("fork",), "b": ("fork",)}) is None
    assert reachability._alone(with_join(fork, "both", Join.ALL), steps, arrivals) is None
