"""What can still happen: which steps may yet begin, and which joins are ripe.

Theory of operation. The graph has no cycle, so each step begins at most once in an instance, and one pass over the
steps in topological order answers everything. A step that has not begun is *possible* while something may still
begin it:

- by an arrival that it has already, or by an active or possible predecessor (joins `auto` and `any`);
- for `all`: if every predecessor has arrived, or is active or possible and so may still arrive.

A step with an arrival is *ripe* when

- `any`: at once;
- `auto`: when no predecessor is active or possible, so that no branch can still reach it;
- `all`: when every predecessor has arrived. When one can no more, the step is *skipped*.

What lives here: these questions, on values. What may not: facts and choices among them.
"""

from __future__ import annotations

from collections.abc import Mapping

from perdure.model.graph import Join, WorkflowGraph
from perdure_server.engine.state import ACTIVE, State, StepState
from perdure_server.engine.value_type import value


@value(frozen=True, slots=True)
class Joins:
    """The steps that are to be skipped and to be begun now, in topological order."""

    skipped: tuple[str, ...]
    ripe: tuple[str, ...]


def possible_steps(graph: WorkflowGraph, state: State) -> frozenset[str]:
    """Return the steps that have not begun and may still begin."""
    possible, _ = _walk(graph, state.steps, state.arrivals)
    return frozenset(possible)


def ripe_joins(graph: WorkflowGraph, state: State) -> Joins:
    """Return what the pending arrivals lead to now."""
    alone = _alone(graph, state.steps, state.arrivals)
    if alone is not None:
        return Joins((), (alone,))
    _, joins = _walk(graph, state.steps, state.arrivals)
    return joins


def _alone(
    graph: WorkflowGraph, steps: Mapping[str, StepState], arrivals: Mapping[str, tuple[str, ...]]
) -> str | None:
    """Return the one step with arrivals if nothing else moves, so that it is ripe by any rule but `all`.

    Most decisions are of this kind, and they need no pass over a graph that may be long. What must hold: an arrival
    never belongs to a step that has begun.
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
    # ``moving`` holds every step that may still send an arrival: active, possible, or ripe in this very pass.
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
