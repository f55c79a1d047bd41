"""The graph as data: order, JSON, digest."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.model.graph import (
    RetryDefinition,
    StepDefinition,
    StepKind,
    WorkflowGraph,
    from_json,
    graph,
    to_json,
)
from support.strategies import graphs


@given(graphs())
def test_a_graph_survives_json(whole: WorkflowGraph) -> None:
    again = from_json(json.loads(whole.canonical_json))
    assert again == whole
    assert list(again.steps) == list(whole.steps)
    assert again.digest == whole.digest


@given(graphs())
def test_the_order_puts_every_step_before_its_targets(whole: WorkflowGraph) -> None:
    place = {ref: index for index, ref in enumerate(whole.order)}
    assert place.keys() == whole.steps.keys()
    assert all(place[step.ref] < place[target] for step in whole.steps.values() for target in step.targets)


def _task(ref: str, *targets: str, **settings: Any) -> StepDefinition:
    return StepDefinition(ref=ref, kind=StepKind.TASK, on={"ok": targets}, **settings)


def test_a_cycle_has_no_order() -> None:
    with pytest.raises(ValueError, match="cycle"):
        _ = graph("round", 1, "a", [_task("a", "b"), _task("b", "a")]).order


def test_moving_a_step_in_the_source_keeps_the_digest() -> None:
    a, b = _task("a", "b"), _task("b", "end")
    assert graph("flow", 1, "a", [a, b]).digest == graph("flow", 1, "a", [b, a]).digest


@pytest.mark.parametrize(
    "other",
    [
        _task("a", "end", attempt_timeout_ms=1),
        _task("a", "end", retry=RetryDefinition()),
        _task("a", "end", events=frozenset({"ok"})),
        StepDefinition(ref="a", kind=StepKind.TASK, on={"fine": ("end",)}),
    ],
)
def test_a_changed_step_changes_the_digest(other: StepDefinition) -> None:
    assert graph("flow", 1, "a", [_task("a", "end")]).digest != graph("flow", 1, "a", [other]).digest


def test_the_digest_does_not_distinguish_2_from_2_0() -> None:
    value = to_json(graph("flow", 1, "a", [_task("a", "end", retry=RetryDefinition(multiplier=2.0))]))
    digest = from_json(value).digest
    value["steps"][0]["retry"]["multiplier"] = 2
    assert from_json(value).digest == digest


def test_two_steps_with_the_same_ref_are_rejected() -> None:
    value = to_json(graph("flow", 1, "a", [_task("a", "end")]))
    value["steps"] *= 2
    with pytest.raises(ValueError, match="two steps"):
        from_json(value)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(_JSON)
def test_other_json_raises_value_error(value: object) -> None:
    with pytest.raises(ValueError, match=r"not a JSON object|wrong type"):
        from_json(value)


@given(st.data(), graphs(max_steps=3))
def test_a_damaged_graph_is_read_or_raises_value_error(data: st.DataObject, whole: WorkflowGraph) -> None:
    value = to_json(whole)
    spots = list(_spots(value))
    holder, key = data.draw(st.sampled_from(spots))
    holder[key] = data.draw(_JSON)
    with contextlib.suppress(ValueError):
        assert isinstance(from_json(value), WorkflowGraph)


def _spots(value: Any) -> Any:
    """Yield every place inside a JSON value that can be overwritten."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _spots(inner)
