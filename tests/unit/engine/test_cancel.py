"""Cancel: after its revision no attempt is created, no timer acts, no result is accepted."""

from __future__ import annotations

import pytest

from perdure.model.graph import RetryDefinition
from perdure_server.engine import facts
from perdure_server.engine import rejections as reject
from perdure_server.engine.commands import Command, Grant, TakeTask
from perdure_server.engine.effects import DisarmTimer, StopTask
from perdure_server.engine.state import InstanceState, Interrupted
from simulation.flows import flow, nap, task, wait
from simulation.instance import Instance

BUSY = flow(
    wait("go", go="asked flaky ready rests runs"),
    wait("asked", ok="end", timeout="end", timeout_ms=1_000),
    task("flaky", done="end", retry=RetryDefinition()),
    task("ready", done="end"),
    nap("rests", 500, "end"),
    task("runs", done="end", awaits={"done"}),
)


def busy() -> Instance:
    instance = Instance(BUSY)
    instance.do(instance.resume("go"))
    instance.take("flaky")
    instance.do(instance.fail("flaky"))
    instance.take("runs")
    return instance


def test_a_cancel_ends_everything_in_one_entry() -> None:
    instance = busy()

    instance.do(instance.cancel(reason="not wanted any more", request_id="r1"))

    assert instance.facts == ["InstanceCancelled"]
    assert instance.last.cause.request_id == "r1"
    assert instance.status is InstanceState.CANCELLED
    assert instance.state.ended_at == instance.now
    assert instance.state.timers == {}
    assert instance.active == set()


def test_running_steps_are_told_to_stop_and_timers_are_disarmed() -> None:
    instance = busy()
    timers = set(instance.state.timers)

    instance.do(instance.cancel())

    assert set(instance.last.effects) == {StopTask("runs", 1, "e1"), *map(DisarmTimer, timers)}
    assert len(timers) == 3


def test_the_state_still_says_what_each_step_was_doing() -> None:
    instance = busy()
    before = dict(instance.state.steps)

    instance.do(instance.cancel())

    for ref in ("asked", "flaky", "ready", "rests", "runs"):
        assert instance.step(ref) == Interrupted(before[ref])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda i: i.resume("ok"),
        lambda i: i.resume("done", buffer=True),
        lambda i: i.schedule("asked", 1),
        lambda i: i.cancel(),
        lambda i: i.retry(),
        lambda i: i.fire(6, forced=True),
        lambda i: i.cancel_timer(6),
        lambda i: i.finish("runs", "done", attempt=1),
        lambda i: i.suspend("runs", 1),
        lambda i: i.fail("runs", attempt=1),
        lambda i: i.release("runs", 1),
        lambda i: TakeTask(at=i.now, step_ref="ready"),
        lambda i: TakeTask(at=i.now, step_ref="runs", lost_attempt=1),
    ],
)
def test_a_cancelled_instance_takes_nothing_any_more(make: object) -> None:
    assert callable(make)
    instance = busy()
    instance.do(instance.cancel())
    ended = instance.state
    command: Command = make(instance)

    instance.refused(reject.Rejection, command, Grant("e2", 9, frozenset(BUSY.steps)))

    assert instance.state is ended


def test_a_failed_instance_can_be_cancelled_for_good() -> None:
    instance = busy()
    instance.do(instance.resume("done", {"early": True}))
    instance.do(instance.fail("runs", retryable=False))
    assert instance.status is InstanceState.FAILED

    instance.do(instance.cancel())

    cause = instance.last.cause.fact
    assert isinstance(cause, facts.InstanceCancelled)
    assert [event.event for event in cause.unconsumed] == ["done"]
    assert instance.status is InstanceState.CANCELLED
    assert instance.state.failed_step == "runs"


def test_what_is_cancelled_twice_is_refused_the_second_time() -> None:
    instance = busy()
    instance.do(instance.cancel())

    assert instance.refused(reject.InstanceEnded, instance.cancel()).status == "cancelled"
