"""Attempts in the API and in `perdure get`: start times, and numbers of lost attempts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from perdure.client import ActiveStep, Instance, StepState, facts
from perdure.client._convert import entry_of, value_of
from perdure_server.api import convert
from perdure_server.cli.render import age_text, fact_text, instance_lines
from perdure_server.engine import commands
from perdure_server.engine.commands import RetryInstance
from perdure_server.store.protocol import StoredInstance
from simulation.flows import flow, task
from simulation.instance import Instance as Played

WORK = flow(task("work", done="end"))


def played() -> Played:
    """An instance whose step lost one attempt and runs the next one."""
    instance = Played(WORK)
    instance.take("work")
    instance.do(
        commands.ReleaseTask(
            at=instance.now, step_ref="work", attempt=1, reason="the process stopped", lost=True
        )
    )
    instance.now += 5_000
    instance.take("work")
    return instance


def shown(instance: Played) -> Instance:
    message = convert.instance(StoredInstance(instance.state, {1: "{}"}), has_code=lambda *_: True)
    return value_of(message, Instance)


def test_an_active_step_has_its_start_and_its_losses() -> None:
    instance = played()

    (step,) = shown(instance).active_steps

    assert step.attempt_start_time == datetime.fromtimestamp(instance.now / 1000, UTC)
    assert (step.attempt, step.lost_attempts) == (2, 1)


def test_a_step_without_an_attempt_has_no_start() -> None:
    (step,) = shown(Played(WORK)).active_steps

    assert (step.attempt_start_time, step.lost_attempts) == (None, 0)


def test_a_history_shows_which_attempts_were_lost() -> None:
    instance = played()
    released = [
        entry_of(convert.entry("i1", entry)).fact
        for entry in instance.oracle.history
        if "Released" in type(entry.fact).__name__
    ]

    assert released == [
        facts.AttemptReleased(step_ref="work", attempt=1, reason="the process stopped", lost=True)
    ]
    assert fact_text(released[0]) == "work attempt 1 lost (the process stopped)"


def test_get_shows_since_when_a_step_runs() -> None:
    instance = played()
    now = datetime.fromtimestamp(instance.now / 1000, UTC) + timedelta(hours=2, minutes=5, seconds=9)

    (line,) = [line for line in instance_lines(shown(instance), now=now) if line.startswith("  work")]

    assert "attempt 2  1 lost in a row  since 2" in line
    assert line.endswith("Z (2h 5m)")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (3_601, "1h"),
        (90_061, "1d 1h"),
        (10**9, "11574d 1h"),
    ],
)
def test_an_age_is_shown_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert age_text(timedelta(seconds=seconds)) == text


def test_a_retried_step_keeps_the_start_of_its_newest_attempt() -> None:
    instance = played()
    started = instance.now
    instance.now += 10
    instance.do(instance.fail("work", retryable=False))

    instance.do(RetryInstance(at=instance.now))

    (step,) = shown(instance).active_steps
    assert isinstance(step, ActiveStep)
    assert step.state is StepState.QUEUED
    assert step.attempt_start_time == datetime.fromtimestamp(started / 1000, UTC)
