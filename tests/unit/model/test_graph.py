"""The graph as data: durations, order, JSON, digest."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.model.graph import (
    DURATION_MS_MAX,
    RetryDefinition,
    StepDefinition,
    StepKind,
    WorkflowGraph,
    from_json,
    graph,
    parse_duration_ms,
    to_json,
)
from support.strategies import graphs


@pytest.mark.parametrize(
    ("text", "ms"),
    [("1ms", 1), ("30s", 30_000), ("5m", 300_000), ("24h", 86_400_000), ("2d", 172_800_000), ("0s", 0)],
)
def test_a_duration_is_digits_and_a_unit(text: str, ms: int) -> None:
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "s",
        "-1s",
        "1.5s",
        " 1s",
        "1s\n",
        "1S",
        "1 s",
        "1w",
        "٣s",
        "9" * 5000 + "s",
        "3661d",
        5,
        None,
        b"1s",
    ],
)
def test_any_other_text_is_no_duration(text: Any) -> None:
    with pytest.raises(ValueError, match=r"duration|ten years"):
        parse_duration_ms(text)


def test_ten_years_is_the_longest_duration() -> None:
    assert parse_duration_ms("3660d") == DURATION_MS_MAX


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
def test_a_change_of_meaning_changes_the_digest(other: StepDefinition) -> None:
    assert graph("flow", 1, "a", [_task("a", "end")]).digest != graph("flow", 1, "a", [other]).digest


def test_the_digest_does_not_tell_two_from_two_point_nought() -> None:
    value = to_json(graph("flow", 1, "a", [_task("a", "end", retry=RetryDefinition(multiplier=2.0))]))
    digest = from_json(value).digest
    value["steps"][0]["retry"]["multiplier"] = 2
    assert from_json(value).digest == digest


def test_two_steps_with_one_ref_are_refused() -> None:
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
def test_other_json_is_a_value_error(value: object) -> None:
    with pytest.raises(ValueError, match=r"no JSON object|wrong type"):
        from_json(value)


@given(st.data(), graphs(max_steps=3))
def test_a_damaged_graph_is_read_or_a_value_error(data: st.DataObject, whole: WorkflowGraph) -> None:
    value = to_json(whole)
    spots = list(_spots(value))
    holder, key = data.draw(st.sampled_from(spots))
    holder[key] = data.draw(_JSON)
    with contextlib.suppress(ValueError):
        assert isinstance(from_json(value), WorkflowGraph)


def _spots(value: Any) -> Any:
    """Every place inside a JSON value that can be overwritten."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _spots(inner)
