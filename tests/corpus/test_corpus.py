"""Histories that older versions wrote still fold to exactly the states that they were recorded with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corpus.histories import FOLDER, VERSION, differences, files, folded, history_of, record
from corpus.scenarios import SCENARIOS
from perdure.model.graph import from_json
from perdure_server.engine.evolve import fold
from perdure_server.engine.facts import KIND_OF
from perdure_server.engine.state import InstanceState, Interrupted, State

FILES = files()


def read(path: Path) -> dict[str, object]:
    whole = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(whole, dict)
    return whole


def state_of(path: Path) -> State:
    recorded = read(path)
    state = fold(str(recorded["instance_id"]), history_of(recorded))
    assert state is not None
    return state


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_old_history_folds_to_the_state_that_was_recorded(path: Path) -> None:
    assert list(differences(read(path)["state"], folded(state_of(path)))) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_beginning_of_an_old_history_can_be_folded(path: Path) -> None:
    recorded = read(path)
    history = history_of(recorded)
    assert [entry.revision for entry in history] == list(range(1, len(history) + 1))

    for length in range(1, len(history) + 1):
        state = fold("i1", history[:length])
        assert state is not None
        assert state.revision == length


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_old_history_still_has_its_graph(path: Path) -> None:
    assert from_json(read(path)["graph"]).digest == state_of(path).definition_digest


def test_every_kind_of_fact_is_in_the_corpus() -> None:
    kinds = {KIND_OF[type(entry.fact)] for path in FILES for entry in history_of(read(path))}

    assert kinds == set(KIND_OF.values())


def test_every_state_of_an_instance_and_of_a_step_is_in_the_corpus() -> None:
    states = [state_of(path) for path in FILES]

    assert {state.status for state in states} == set(InstanceState)
    steps = [step for state in states for step in state.steps.values()]
    interrupted = [step.was for step in steps if isinstance(step, Interrupted)]
    assert {type(step).__name__ for step in [*steps, *interrupted]} == set(
        "Queued Running BackingOff Waiting Sleeping Interrupted Failed Finished Skipped".split()
    )


def test_every_scenario_is_recorded() -> None:
    missing = {name for name in SCENARIOS if not (FOLDER / VERSION / f"{name}.json").exists()}

    assert not missing, "add them by: python tests/corpus/record.py"


def test_recording_adds_and_never_rewrites(tmp_path: Path) -> None:
    story = SCENARIOS["order_declined"]
    path = record("order_declined", "first", story(), tmp_path)
    assert path is not None
    before = path.read_bytes()

    assert record("order_declined", "second", story(), tmp_path) is None
    assert path.read_bytes() == before


def test_a_comparison_sees_what_changed_and_overlooks_what_is_new() -> None:
    recorded = {"_": "State", "steps": {"a": {"_": "Skipped", "ended": 3}}, "inbox": [1, 2]}

    later = {**recorded, "of_a_newer_version": 1}
    assert list(differences(recorded, later)) == []
    for changed in (
        {**recorded, "inbox": [2, 1]},
        {**recorded, "inbox": [1]},
        {**recorded, "steps": {}},
        {**recorded, "steps": {"a": {"_": "Finished", "ended": 3}}},
        {"_": "State", "steps": recorded["steps"]},
    ):
        assert list(differences(recorded, changed))
