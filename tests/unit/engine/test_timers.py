"""ScheduleResume, wait timeouts and sleeps: who may arm, cancel and fire, and what a firing finds."""

from __future__ import annotations

import pytest

from perdure.model.graph import Join, RetryDefinition
from perdure_server.engine import facts
from perdure_server.engine import rejections as reject
from perdure_server.engine.commands import REQUESTED_TIMERS_MAX
from perdure_server.engine.effects import ArmTimer, DisarmTimer, OfferTask, StopTask
from perdure_server.engine.facts import TimerKind
from perdure_server.engine.state import InstanceState
from simulation.flows import flow, nap, task, wait
from simulation.instance import Instance

WORK = flow(task("work", done="end", timeout="late", retry=RetryDefinition()), task("late", done="end"))
ANSWER = flow(wait("answer", ok="end", timeout="end"))
AHEAD = flow(task("first", done="later", skip="end"), wait("later", ok="end", timeout="end"))


def fire_when_due(instance: Instance, timer: int) -> None:
    instance.now = max(instance.now, instance.state.timers[timer].due_at)
    instance.do(instance.fire(timer))


def scheduled(instance: Instance, ref: str, delay_ms: int = 100) -> int:
    instance.do(instance.schedule(ref, delay_ms))
    return instance.last.cause.revision


# Arming


def test_a_timer_is_due_after_its_delay_and_named_by_its_entry() -> None:
    instance = Instance(ANSWER)

    instance.do(instance.schedule("answer", 100, request_id="r1"))

    timer = instance.timer_of("answer")
    assert (timer.revision, timer.due_at, timer.client_requested) == (3, instance.now + 100, True)
    assert instance.state.reference(timer.revision) == "i1.3"
    assert instance.last.cause.request_id == "r1"
    assert instance.last.effects == (ArmTimer(timer),)


def test_a_step_may_have_several_timers_and_the_first_one_ends_it() -> None:
    instance = Instance(ANSWER)
    slow, fast = scheduled(instance, "answer", 200), scheduled(instance, "answer", 100)

    fire_when_due(instance, fast)

    assert instance.event("answer") == "timeout"
    assert {DisarmTimer(slow), DisarmTimer(fast)} == set(instance.last.effects)


def test_an_instance_takes_no_more_requested_timers_than_its_state_can_bear() -> None:
    instance = Instance(flow(wait("answer", ok="end", timeout="end", timeout_ms=50)))
    first = scheduled(instance, "answer")
    for _ in range(REQUESTED_TIMERS_MAX - 1):
        scheduled(instance, "answer")

    assert instance.refused(reject.TooManyTimers, instance.schedule("answer", 1)).timers_max == 1_000
    instance.do(instance.cancel_timer(first))
    scheduled(instance, "answer")


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        ("nobody", reject.StepNotFound),
        ("late", reject.StepHasNoTimeout),
    ],
)
def test_a_timeout_needs_a_step_with_a_timeout_arrow(ref: str, reason: type[reject.Rejection]) -> None:
    Instance(WORK).refused(reason, Instance(WORK).schedule(ref, 1))


def test_a_finished_step_gets_no_timeout() -> None:
    instance = Instance(flow(wait("first", ok="then", timeout="end"), wait("then", ok="end")))
    instance.do(instance.resume("ok"))

    assert instance.refused(reject.StepAlreadyFinished, instance.schedule("first", 1)).step_ref == "first"


def test_a_step_out_of_reach_gets_no_timeout() -> None:
    graph = flow(task("choose", left="a", right="b"), wait("a", ok="end"), wait("b", ok="end", timeout="end"))
    instance = Instance(graph)
    assert isinstance(scheduled(instance, "b"), int)
    instance.run("choose", "left")

    assert instance.refused(reject.StepUnreachable, instance.schedule("b", 1)).step_ref == "b"


def test_a_skipped_step_gets_no_timeout() -> None:
    graph = flow(
        task("fork", done="a b"),
        wait("a", yes="both", no="end"),
        wait("b", ok="both"),
        wait("both", ok="end", timeout="end", join=Join.ALL),
    )
    instance = Instance(graph)
    instance.run("fork", "done")
    kept = scheduled(instance, "both")
    instance.do(instance.resume("ok", step_ref="b"))
    instance.do(instance.resume("no"))

    assert instance.status is InstanceState.COMPLETED
    instance.refused(reject.TimerNotFound, instance.fire(kept, forced=True))


def test_the_timers_of_a_skipped_step_go_with_it() -> None:
    graph = flow(
        task("fork", done="a b on"),
        wait("a", yes="both", no="end"),
        wait("b", ok="both"),
        wait("both", ok="end", timeout="end", join=Join.ALL),
        wait("on", go="end"),
    )
    instance = Instance(graph)
    instance.run("fork", "done")
    timer = scheduled(instance, "both")
    instance.do(instance.resume("ok", step_ref="b"))

    instance.do(instance.resume("no"))

    assert instance.facts == ["StepFinished", "StepSkipped"]
    assert instance.last.effects == (DisarmTimer(timer),)
    assert instance.refused(reject.StepAlreadyFinished, instance.schedule("both", 1)).skipped


# Firing, by what the step does


def test_a_waiting_step_takes_its_timeout_arrow() -> None:
    instance = Instance(ANSWER)

    fire_when_due(instance, scheduled(instance, "answer"))

    assert instance.facts == ["TimerFired", "StepFinished", "InstanceCompleted"]
    assert instance.event("answer") == "timeout"
    assert instance.output("answer") == {}


def test_a_running_step_takes_its_timeout_arrow_and_its_result_is_refused_from_then_on() -> None:
    instance = Instance(WORK)
    timer = scheduled(instance, "work")
    instance.take("work")

    fire_when_due(instance, timer)

    assert instance.event("work") == "timeout"
    assert StopTask("work", 1, "e1") in instance.last.effects
    assert OfferTask("late") in instance.last.effects
    for command in (instance.finish("work", "done", attempt=1), instance.fail("work", attempt=1)):
        instance.refused(reject.AttemptStale, command)


def test_a_ready_task_takes_its_timeout_arrow() -> None:
    instance = Instance(WORK)

    fire_when_due(instance, scheduled(instance, "work"))

    assert instance.event("work") == "timeout"


def test_a_step_that_backs_off_takes_its_timeout_arrow_and_is_not_retried() -> None:
    instance = Instance(WORK)
    timer = scheduled(instance, "work")
    instance.take("work")
    instance.do(instance.fail("work"))
    retry = instance.timer_of("work", TimerKind.RETRY).revision

    fire_when_due(instance, timer)

    assert instance.event("work") == "timeout"
    instance.refused(reject.TimerNotFound, instance.fire(retry))


def test_a_firing_that_finds_its_step_not_begun_is_unused() -> None:
    instance = Instance(AHEAD)

    fire_when_due(instance, scheduled(instance, "later"))

    fact = instance.last.cause.fact
    assert isinstance(fact, facts.TimerFired)
    assert not fact.used
    assert len(instance.last.entries) == 1
    instance.run("first", "done")
    assert instance.active == {"later"}


def test_a_timer_that_was_armed_before_its_step_began_ends_it() -> None:
    instance = Instance(AHEAD)
    timer = scheduled(instance, "later")
    instance.run("first", "done")

    fire_when_due(instance, timer)

    assert instance.event("later") == "timeout"


def test_a_timer_of_a_finished_step_is_gone() -> None:
    instance = Instance(ANSWER)
    timer = scheduled(instance, "answer")
    instance.do(instance.resume("ok"))

    refusal = instance.refused(reject.TimerNotFound, instance.fire(timer))

    assert refusal.reference == f"i1.{timer}"


def test_a_timer_fires_once() -> None:
    instance = Instance(AHEAD)
    timer = scheduled(instance, "later")
    fire_when_due(instance, timer)

    instance.refused(reject.TimerNotFound, instance.fire(timer))


def test_a_timer_never_fires_early_and_always_late() -> None:
    instance = Instance(ANSWER)
    timer = scheduled(instance, "answer", 100)
    instance.now += 99
    instance.refused(reject.TimerNotDue, instance.fire(timer))
    instance.now += 10**12

    instance.do(instance.fire(timer))

    assert instance.event("answer") == "timeout"


def test_a_forced_firing_does_not_wait_for_its_time() -> None:
    instance = Instance(ANSWER)

    instance.do(instance.fire(scheduled(instance, "answer"), forced=True))

    fact = instance.last.cause.fact
    assert isinstance(fact, facts.TimerFired)
    assert fact.forced


# wait_timeout


def test_a_wait_that_times_out_takes_its_timeout_arrow() -> None:
    instance = Instance(flow(wait("answer", ok="end", timeout="late", timeout_ms=50), wait("late", ok="end")))

    fire_when_due(instance, instance.timer_of("answer").revision)

    assert instance.event("answer") == "timeout"
    assert instance.active == {"late"}


def test_a_wait_that_times_out_without_a_timeout_arrow_fails() -> None:
    instance = Instance(flow(wait("answer", ok="end", error="late", timeout_ms=50), wait("late", ok="end")))

    fire_when_due(instance, instance.timer_of("answer").revision)

    assert instance.event("answer") == "error"
    assert instance.output("answer") == {
        "type": "WaitTimeout",
        "message": "no event came within 50 ms, and the step has no timeout arrow",
        "attempts": 0,
    }


def test_the_wait_timeout_of_a_task_bounds_its_waiting_and_not_its_attempts() -> None:
    instance = Instance(
        flow(task("ask", ok="end", timeout="end", awaits={"ok"}, wait_timeout_ms=50, retry=RetryDefinition()))
    )
    instance.take("ask")
    assert instance.state.timers == {}
    instance.now += 1_000
    instance.do(instance.suspend("ask"))
    assert instance.timer_of("ask").due_at == instance.now + 50

    fire_when_due(instance, instance.timer_of("ask").revision)

    assert instance.event("ask") == "timeout"


# Sleeps


def test_a_sleep_ends_by_time_and_by_nothing_else() -> None:
    instance = Instance(flow(nap("rest", 50, "then"), wait("then", ok="end")))
    timer = instance.timer_of("rest", TimerKind.SLEEP).revision
    assert instance.refused(reject.TimerNotCancellable, instance.cancel_timer(timer)).kind == "sleep"
    instance.refused(reject.EventNeverAccepted, instance.resume("elapsed"))
    instance.refused(reject.StepHasNoTimeout, instance.schedule("rest", 1))

    fire_when_due(instance, timer)

    assert instance.event("rest") == "elapsed"
    assert instance.active == {"then"}


# CancelTimer


def test_a_cancelled_timer_does_not_fire() -> None:
    instance = Instance(ANSWER)
    timer = scheduled(instance, "answer")

    instance.do(instance.cancel_timer(timer))

    assert instance.last.cause.fact == facts.TimerCancelled(timer=timer, step_ref="answer")
    assert instance.last.effects == (DisarmTimer(timer),)
    instance.now += 1_000
    instance.refused(reject.TimerNotFound, instance.fire(timer))
    instance.refused(reject.TimerNotFound, instance.cancel_timer(timer))


def test_the_deadline_of_a_wait_is_a_timeout_and_can_be_cancelled() -> None:
    instance = Instance(flow(wait("answer", ok="end", timeout="end", timeout_ms=50)))

    instance.do(instance.cancel_timer(instance.timer_of("answer").revision))

    assert instance.state.timers == {}
    assert instance.status is InstanceState.WAITING


def test_an_entry_that_armed_no_timer_names_none() -> None:
    instance = Instance(ANSWER)

    for revision in (-1, 0, 1, 2, 99):
        instance.refused(reject.TimerNotFound, instance.cancel_timer(revision))
        instance.refused(reject.TimerNotFound, instance.fire(revision, forced=True))
