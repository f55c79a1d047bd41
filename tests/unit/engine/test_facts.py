"""Facts in storage: each survives its JSON, old ones are read for ever, and what is unknown is told."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from typing import get_args

import orjson
import pytest

from perdure.model.graph import StepKind
from perdure_server.engine import facts
from perdure_server.engine.evolve import begin, fold
from perdure_server.engine.facts import (
    KIND_OF,
    Entry,
    Failure,
    PayloadInfo,
    TimerKind,
    Unconsumed,
    fact_from_json,
)

INFO = PayloadInfo(7, "00ff")
FULL = [
    facts.InstanceStarted(
        workflow="w",
        version=3,
        definition_digest="d",
        start_step="a",
        input=INFO,
        business_key="k",
        labels={"a": "b"},
        start_delay_ms=5,
    ),
    facts.StepStarted(step_ref="a", kind=StepKind.WAIT, events=("x", "y")),
    facts.AttemptStarted(step_ref="a", attempt=2, owner="o"),
    facts.AttemptFailed(step_ref="a", attempt=2, failure=Failure("T", "mü😀", 2), retrying=True),
    facts.AttemptReleased(step_ref="a", attempt=2, reason="r"),
    facts.StepSuspended(step_ref="a", attempt=2, events=("x",)),
    facts.StepFinished(
        step_ref="a",
        event="x",
        targets=("b", "end"),
        output=INFO,
        buffered_revision=4,
        failure=Failure("T", "m", 1),
    ),
    facts.StepSkipped(step_ref="a"),
    facts.EventBuffered(event="x", step_ref="a", payload=INFO),
    facts.TimerArmed(kind=TimerKind.RETRY, step_ref="a", due_at=9, delay_ms=4, client_requested=True),
    facts.TimerFired(timer=9, kind=TimerKind.TIMEOUT, step_ref="a", used=False, forced=True),
    facts.TimerCancelled(timer=9, step_ref="a"),
    facts.InstanceCompleted(unconsumed=(Unconsumed(4, "x"),)),
    facts.InstanceFailed(step_ref="a", failure=Failure("T", "m", 1), interrupted=("b", "c")),
    facts.InstanceCancelled(reason="r", unconsumed=(Unconsumed(4, "x"), Unconsumed(5, "y"))),
    facts.InstanceRetried(),
]
NAMES = (
    "instance_started step_started attempt_started attempt_failed attempt_released step_suspended step_finished"
    " step_skipped event_buffered timer_armed timer_fired timer_cancelled instance_completed instance_failed"
    " instance_cancelled instance_retried"
)


def there_and_back(fact: facts.Fact) -> facts.Fact:
    text = orjson.dumps(fact)
    return fact_from_json(KIND_OF[type(fact)], json.loads(text))


def test_the_list_above_has_every_fact() -> None:
    assert {type(fact) for fact in FULL} == set(KIND_OF) == set(get_args(facts.Fact))


def test_the_names_of_facts_are_those_that_histories_hold() -> None:
    assert list(KIND_OF.values()) == NAMES.split()


@pytest.mark.parametrize("fact", FULL, ids=lambda fact: KIND_OF[type(fact)])
def test_a_fact_with_every_field_survives_its_json(fact: facts.Fact) -> None:
    again = there_and_back(fact)

    assert again == fact
    assert repr(again) == repr(fact)


@pytest.mark.parametrize("fact", FULL, ids=lambda fact: KIND_OF[type(fact)])
def test_a_fact_without_what_has_a_default_is_read_with_the_default(fact: facts.Fact) -> None:
    optional = {f.name for f in fields(fact) if f.default is not MISSING or f.default_factory is not MISSING}
    body = {name: value for name, value in json.loads(orjson.dumps(fact)).items() if name not in optional}

    again = fact_from_json(KIND_OF[type(fact)], body)

    for field in fields(fact):
        if field.name not in optional:
            assert getattr(again, field.name) == getattr(fact, field.name)
        elif field.default is not MISSING:
            assert getattr(again, field.name) == field.default


@pytest.mark.parametrize("fact", FULL, ids=lambda fact: KIND_OF[type(fact)])
def test_fields_of_a_newer_version_are_left_out(fact: facts.Fact) -> None:
    body = json.loads(orjson.dumps(fact))
    body["of_a_newer_version"] = {"any": "thing"}
    for inner in body.values():
        for item in inner if isinstance(inner, list) else [inner]:
            if isinstance(item, dict) and inner is not body.get("labels"):
                item["of_a_newer_version"] = 1

    assert fact_from_json(KIND_OF[type(fact)], body) == fact


def test_a_fact_of_an_unknown_kind_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        fact_from_json("step_teleported", {})


def test_a_history_of_nothing_folds_to_nothing() -> None:
    assert fold("i1", []) is None


def test_a_history_starts_with_its_start() -> None:
    with pytest.raises(TypeError, match="starts with InstanceStarted, not StepSkipped"):
        begin("i1", Entry(1, 1, facts.StepSkipped(step_ref="a")))
