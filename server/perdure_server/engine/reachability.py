"""Reachability: the steps that can still start, and the joins that are ripe.

Theory of operation. The graph has no cycle, so each step starts at most once in an instance, and one pass over the
steps in topological order is enough. A step that has not started is *possible* while it can still start:

- `auto` and `any`: it has an arrival, or a predecessor is active or possible;
- `all`: every predecessor has arrived, or is active or possible and can still arrive.

A step with an arrival is *ripe*

- `any`: at once;
- `auto`: once no predecessor is active or possible, so that no branch can still reach it;
- `all`: once every predecessor has arrived. If one no longer can, the step is *skipped*.

Must not: add facts.
"""

from __future__ import annotations

from collections.abc import Mapping

from perdure.model.graph import Join, WorkflowGraph
from perdure_server.engine.state import ACTIVE, State, StepState
from perdure_server.engine.value_type import value


@value(frozen=True, slots=True)
class Joins:
    """The steps to skip and to start now, in topological order."""

    skipped: tuple[str, ...]
    ripe: tuple[str, ...]


def possible_steps(graph: WorkflowGraph, state: State) -> frozenset[str]:
    """Return the steps that have not started and still can."""
    possible, _ = _walk(graph, state.steps, state.arrivals)
    return frozenset(possible)


def ripe_joins(graph: WorkflowGraph, state: State) -> Joins:
    """Return the steps that pending arrivals skip or start now."""
    alone = _alone(graph, state.steps, state.arrivals)
    if alone is not None:
        return Joins((), (alone,))
    _, joins = _walk(graph, state.steps, state.arrivals)
    return joins


def _alone(
    graph: WorkflowGraph, steps: Mapping[str, StepState], arrivals: Mapping[str, tuple[str, ...]]
) -> str | None:
    """Return the one step with arrivals if nothing else moves, so that it is ripe by any rule but `all`.

    Most decisions are of this kind, and they need no pass over a graph that can be long. This relies on the rule
    that an arrival never belongs to a step that has started.
    """
    if len(arrivals) != 1:
        return None
    (ref,) = arrivals
    if graph.steps[ref].join is Join.ALL:
        return None
    for step in steps.values():
        if isinstance(step, ACTIVE):
            return None
    return ref


def _walk(
    graph: WorkflowGraph, steps: Mapping[str, StepState], arrivals: Mapping[str, tuple[str, ...]]
) -> tuple[set[str], Joins]:
    # ``moving`` holds every step that can still send an arrival: active, possible, or ripe in this very pass.
    moving = {ref for ref, step in steps.items() if isinstance(step, ACTIVE)}
    possible: set[str] = set()
    skipped: list[str] = []
    ripe: list[str] = []
    for ref in graph.order:
        if ref in steps:
            continue
        arrived = arrivals.get(ref)
        sources = graph.predecessors[ref]
        join = graph.steps[ref].join or Join.AUTO
        if join is Join.ALL and sources:
            missing = sources.difference(arrived or ())
            if not missing:
                ripe.append(ref)
            elif not missing <= moving:
                if arrived is not None:
                    skipped.append(ref)
                continue
        elif arrived is not None and (join is Join.ANY or moving.isdisjoint(sources)):
            ripe.append(ref)
        elif arrived is None and moving.isdisjoint(sources):
            continue
        possible.add(ref)
        moving.add(ref)
    return possible, Joins(tuple(skipped), tuple(ripe))
