"""The view of ``perdure watch``: rows of steps, and remaining times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from perdure.client import (
    ActiveStep,
    Instance,
    InstanceState,
    StepFailure,
    StepResult,
    StepState,
)
from perdure_server.cli.watch_view import Row, View, due_text, step_rows

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def active(step_ref: str, status: StepState, *, attempt: int = 0, failure: str = "") -> ActiveStep:
    return ActiveStep(
        step_ref=step_ref,
        state=status,
        attempt=attempt,
        events=(),
        deadline=NOON,
        last_failure=StepFailure(type="Boom", message=failure, attempts=attempt) if failure else None,
    )


def result(step_ref: str, status: StepState, event: str = "") -> StepResult:
    return StepResult(step_ref=step_ref, state=status, event=event, revision=1)


def instance(*, steps: tuple[ActiveStep, ...] = (), results: tuple[StepResult, ...] = ()) -> Instance:
    return Instance(
        instance_id="i1",
        workflow="flow",
        version=1,
        state=InstanceState.RUNNING,
        revision=4,
        input={},
        outputs={"first": {"n": 1}},
        active_steps=steps,
        step_results=results,
        error=None,
        labels={},
        business_key="",
        inbox=(),
        create_time=NOON,
        start_time=NOON,
        update_time=NOON,
        end_time=None,
    )


def test_started_and_other_steps_are_shown_in_the_order_of_the_graph() -> None:
    one = instance(
        steps=(active("second", StepState.RUNNING, attempt=2),),
        results=(result("first", StepState.FINISHED, "done"),),
    )

    assert step_rows(one, ("first", "second", "third")) == [
        Row(step_ref="first", state="FINISHED", note='done  {"n": 1}'),
        Row(step_ref="second", state="RUNNING", attempt=2, due=NOON),
        Row(step_ref="third"),
    ]


def test_a_failed_step_keeps_its_attempt_and_why_it_failed() -> None:
    one = instance(
        steps=(active("second", StepState.FAILED, attempt=5, failure="no\nluck"),),
        results=(result("second", StepState.FAILED),),
    )

    assert step_rows(one, ("second",)) == [
        Row(step_ref="second", state="FAILED", attempt=5, note="Boom: no luck")
    ]


def test_a_step_that_the_stored_graph_lost_is_shown_too() -> None:
    one = instance(steps=(active("gone", StepState.WAITING),))

    assert [row.step_ref for row in step_rows(one, ("first",))] == ["first", "gone"]


def test_a_narrow_terminal_cuts_notes_and_not_steps() -> None:
    boom = "so many words that no terminal of eighty columns holds them next to a deadline"
    one = instance(steps=(active("second_step", StepState.BACKING_OFF, attempt=2, failure=boom),))
    console = Console(width=80)

    with console.capture() as captured:
        console.print(View(one, ("second_step",)))

    [line] = [line for line in captured.get().splitlines() if "second_step" in line]
    assert "BACKING_OFF" in line
    assert "2026-01-02T12:00:00" in line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "(now)"), (0.5, "(now)"), (61, "(in 00:01:01)"), (90_061.9, "(in 1d 01:01:01)")],
)
def test_a_deadline_counts_down(seconds: float, text: str) -> None:
    assert due_text(NOON + timedelta(seconds=seconds), NOON).endswith(f"Z {text}")
