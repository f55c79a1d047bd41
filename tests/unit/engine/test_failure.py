"""Failure: retries and their end, the `error` arrow, FAILED instances with their interrupted steps, and
RetryInstance.
"""

from __future__ import annotations

from perdure.model.graph import RetryDefinition, WorkflowGraph
from perdure_server.engine import facts
from perdure_server.engine import rejections as reject
from perdure_server.engine.effects import ArmTimer, DisarmTimer, OfferTask, StopTask
from perdure_server.engine.facts import Failure, TimerFired, TimerKind
from perdure_server.engine.state import (
    BackingOff,
    Failed,
    Finished,
    InstanceState,
    Interrupted,
    Queued,
    Running,
    Sleeping,
    Waiting,
)
from simulation.flows import flow, nap, task, wait
from simulation.instance import Instance

RETRY = RetryDefinition(max_attempts=3, initial_ms=100, max_ms=1_000, multiplier=2.0, jitter=0.0)
WORK = flow(task("work", done="end", retry=RETRY))
MENDED = flow(task("work", done="end", error="hint", retry=RETRY), task("hint", done="end"))
SIBLINGS = flow(
    task("fork", done="asked broken flaky ready rests runs"),
    wait("asked", ok="end", timeout="end", timeout_ms=1_000),
    task("broken", done="after"),
    task("flaky", done="end", retry=RETRY),
    task("ready", done="end"),
    nap("rests", 500, "end"),
    task("runs", done="end", timeout="end", retry=RETRY),
    task("after", done="end"),
)


def running(graph: WorkflowGraph, ref: str = "work") -> Instance:
    instance = Instance(graph)
    instance.take(ref)
    return instance


def interrupted() -> Instance:
    """An instance that failed while its other steps waited, backed off, slept, ran and were ready."""
    instance = Instance(SIBLINGS)
    instance.run("fork", "done")
    instance.take("flaky")
    instance.do(instance.fail("flaky"))
    instance.take("runs")
    instance.do(instance.fail("runs"))
    instance.do(instance.fire(instance.timer_of("runs").revision, forced=True))
    instance.take("runs")
    instance.take("broken")
    instance.do(instance.fail("broken", "no more"))
    return instance


# CallRetryPolicy


def test_a_failed_attempt_backs_off_and_is_retried_when_its_timer_fires() -> None:
    instance = running(WORK)

    instance.do(instance.fail("work", "boom"))

    assert instance.step("work") == BackingOff(2, 1, 1, Failure("ValueError", "boom", 1))
    assert instance.status is InstanceState.RUNNING
    timer = instance.timer_of("work", TimerKind.RETRY)
    assert timer.due_at == instance.now + 100

    instance.now += 100
    instance.do(instance.fire(timer.revision))
    assert instance.step("work") == Queued(2, 1, 1)
    assert instance.last.effects == (OfferTask("work"), DisarmTimer(timer.revision))


def test_pauses_grow_by_the_policy() -> None:
    instance = running(WORK)
    instance.do(instance.fail("work"))
    instance.now += 100
    instance.do(instance.fire(instance.timer_of("work").revision))
    instance.take("work")

    instance.do(instance.fail("work"))

    assert instance.timer_of("work").delay_ms == 200


def test_the_last_attempt_that_fails_fails_the_instance() -> None:
    instance = running(WORK)
    for attempt in (1, 2):
        instance.do(instance.fail("work", f"boom {attempt}"))
        instance.now += 1_000
        instance.do(instance.fire(instance.timer_of("work").revision))
        instance.take("work")

    instance.do(instance.fail("work", "boom 3"))

    assert instance.facts == ["AttemptFailed", "InstanceFailed"]
    assert instance.status is InstanceState.FAILED
    assert instance.state.failure == Failure("ValueError", "boom 3", 3)
    assert instance.state.failed_step == "work"
    assert instance.step("work") == Failed(2, 3, Failure("ValueError", "boom 3", 3))


def test_an_error_that_is_not_retryable_fails_at_once() -> None:
    instance = running(WORK)

    instance.do(instance.fail("work", retryable=False))

    assert instance.status is InstanceState.FAILED


def test_a_task_without_a_policy_is_not_retried() -> None:
    instance = running(flow(task("work", done="end")))

    instance.do(instance.fail("work"))

    assert instance.status is InstanceState.FAILED


def test_released_attempts_do_not_use_up_the_policy() -> None:
    instance = running(WORK)
    for _ in range(10):
        instance.do(instance.release("work"))
        instance.take("work")

    instance.do(instance.fail("work"))

    assert instance.step("work") == BackingOff(2, 11, 1, Failure("ValueError", "boom", 1))


def test_a_retry_timer_cannot_be_cancelled() -> None:
    instance = running(WORK)
    instance.do(instance.fail("work"))

    refusal = instance.refused(
        reject.TimerNotCancellable, instance.cancel_timer(instance.timer_of("work").revision)
    )

    assert refusal.kind == "retry"


def test_a_retry_may_be_forced() -> None:
    instance = running(WORK)
    instance.do(instance.fail("work"))

    instance.do(instance.fire(instance.timer_of("work").revision, forced=True))

    assert isinstance(instance.step("work"), Queued)


# The `error` arrow


def test_the_error_arrow_is_taken_when_retries_are_exhausted() -> None:
    instance = running(MENDED)
    for _ in range(2):
        instance.do(instance.fail("work"))
        instance.do(instance.fire(instance.timer_of("work").revision, forced=True))
        instance.take("work")

    instance.do(instance.fail("work", "for good"))

    assert instance.facts == ["AttemptFailed", "StepFinished", "StepStarted"]
    assert instance.event("work") == "error"
    assert instance.output("work") == {"type": "ValueError", "message": "for good", "attempts": 3}
    assert instance.active == {"hint"}


def test_the_fact_of_an_error_arrow_says_what_failed() -> None:
    instance = running(MENDED)

    instance.do(instance.fail("work", "at once", retryable=False))

    finished = instance.last.entries[1].fact
    assert isinstance(finished, facts.StepFinished)
    assert finished.failure == Failure("ValueError", "at once", 1)


def test_a_failure_text_is_cut_to_what_a_history_may_hold() -> None:
    instance = running(MENDED)

    instance.do(instance.fail("work", "x" * 1_000_000, retryable=False))

    assert len(instance.output("work")["message"]) == 2_000


def test_a_failure_text_that_utf8_cannot_hold_is_mended() -> None:
    instance = running(MENDED)

    instance.do(instance.fail("work", "a file called \udcff", retryable=False))

    assert instance.output("work")["message"] == "a file called ?"


# FAILED


def test_the_other_active_steps_of_a_failed_instance_are_interrupted() -> None:
    instance = interrupted()

    fact = instance.last.entries[-1].fact
    assert isinstance(fact, facts.InstanceFailed)
    assert fact.interrupted == ("asked", "flaky", "ready", "rests", "runs")
    was = {ref: type(step.was) for ref, step in instance.state.steps.items() if isinstance(step, Interrupted)}
    assert was == {
        "asked": Waiting,
        "flaky": BackingOff,
        "ready": Queued,
        "rests": Sleeping,
        "runs": Running,
    }


def test_interrupted_steps_are_told_in_the_order_of_their_refs() -> None:
    graph = flow(
        wait("go", go="z m"),
        wait("z", ok="end"),
        wait("m", on_="b c"),
        wait("b", ok="end"),
        task("c", ok="end"),
    )
    instance = Instance(graph)
    instance.do(instance.resume("go"))
    instance.do(instance.resume("on_"))
    instance.take("c")

    instance.do(instance.fail("c"))

    fact = instance.last.entries[-1].fact
    assert isinstance(fact, facts.InstanceFailed)
    assert fact.interrupted == ("b", "z")


def test_the_timers_of_a_failed_instance_are_cancelled_and_its_running_steps_stopped() -> None:
    instance = interrupted()

    assert instance.state.timers == {}
    assert StopTask("runs", 2, "e1") in instance.last.effects
    assert sum(isinstance(effect, DisarmTimer) for effect in instance.last.effects) == 3


def test_results_that_come_after_the_failure_are_refused() -> None:
    instance = interrupted()

    instance.refused(reject.AttemptStale, instance.finish("runs", "done", attempt=2))
    instance.refused(reject.AttemptStale, instance.fail("runs", attempt=2))


def test_a_failed_instance_fires_no_timer_and_schedules_none() -> None:
    instance = interrupted()

    for revision in range(instance.state.revision + 1):
        instance.refused(reject.TimerNotFound, instance.fire(revision, forced=True))
        instance.refused(reject.TimerNotFound, instance.cancel_timer(revision))
    instance.refused(reject.InstanceEnded, instance.schedule("runs", 1))


def test_arrivals_at_a_join_outlast_the_failure() -> None:
    graph = flow(
        wait("go", go="a b"), task("a", done="both"), task("b", done="both"), task("both", done="end")
    )
    instance = Instance(graph)
    instance.do(instance.resume("go"))
    instance.run("a", "done")
    instance.take("b")
    instance.do(instance.fail("b"))

    instance.do(instance.retry())
    instance.run("b", "done")

    assert instance.active == {"both"}


# RetryInstance


def test_the_failed_task_gets_a_new_attempt_and_its_policy_anew() -> None:
    instance = running(WORK)
    instance.do(instance.fail("work", retryable=False))

    instance.do(instance.retry(request_id="again"))

    assert instance.facts == ["InstanceRetried"]
    assert instance.last.cause.request_id == "again"
    assert instance.step("work") == Queued(2, 1, 0)
    assert instance.status is InstanceState.RUNNING
    assert (instance.state.failure, instance.state.failed_step, instance.state.ended_at) == (None, "", None)
    instance.take("work")
    assert instance.step("work") == Running(2, 2, 0, "e1")


def test_a_interrupted_task_gets_a_new_attempt_and_keeps_its_count_of_failures() -> None:
    instance = interrupted()

    instance.do(instance.retry())

    began = instance.state.steps["runs"]
    assert isinstance(began, Queued)
    assert (began.attempt, began.failures) == (2, 1)
    instance.refused(reject.AttemptStale, instance.finish("runs", "done", attempt=2))
    instance.take("runs")
    instance.do(instance.finish("runs", "done", attempt=3))


def test_interrupted_waits_sleeps_and_backoffs_keep_their_deadlines() -> None:
    instance = interrupted()
    before = {
        timer.step_ref: timer.due_at
        for step in instance.state.steps.values()
        if isinstance(step, Interrupted)
        for timer in step.timers
    }
    assert before.keys() == {"asked", "flaky", "rests"}
    instance.now += 300

    instance.do(instance.retry())

    assert {timer.step_ref: timer.due_at for timer in instance.state.timers.values()} == before
    assert sum(isinstance(effect, ArmTimer) for effect in instance.last.effects) == 3


def test_a_deadline_that_has_passed_fires_at_once() -> None:
    instance = interrupted()
    instance.now += 100_000

    instance.do(instance.retry())
    for ref in ("asked", "flaky", "rests"):
        instance.do(instance.fire(instance.timer_of(ref).revision))

    assert instance.event("asked") == "timeout"
    assert instance.event("rests") == "elapsed"
    assert isinstance(instance.step("flaky"), Queued)


def test_a_interrupted_wait_takes_its_event_after_the_retry() -> None:
    instance = interrupted()
    instance.do(instance.retry())

    instance.do(instance.resume("ok"))

    assert instance.event("asked") == "ok"


def test_a_timeout_that_a_client_scheduled_for_a_interrupted_step_is_kept() -> None:
    instance = Instance(SIBLINGS)
    instance.run("fork", "done")
    instance.do(instance.schedule("runs", 400))
    due_at = instance.now + 400
    instance.take("broken")
    instance.do(instance.fail("broken"))

    instance.do(instance.retry())

    timer = instance.timer_of("runs")
    assert (timer.due_at, timer.client_requested) == (due_at, True)


def test_finished_steps_never_run_again() -> None:
    instance = interrupted()
    finished = instance.state.steps["fork"]

    instance.do(instance.retry())
    instance.wind_up()

    assert isinstance(finished, Finished)
    assert instance.state.steps["fork"] is finished
    assert sorted(instance.begun) == sorted(SIBLINGS.steps)
    assert instance.status is InstanceState.COMPLETED


def test_an_instance_may_fail_and_be_retried_again_and_again() -> None:
    instance = running(WORK)
    for attempt in range(1, 6):
        instance.do(instance.fail("work", retryable=False))
        instance.do(instance.retry())
        assert instance.step("work") == Queued(2, attempt, 0)
        instance.take("work")


def test_an_instance_whose_interrupted_steps_only_wait_waits_after_the_retry() -> None:
    graph = flow(wait("go", go="w t"), wait("w", ok="end"), task("t", done="end"))
    instance = Instance(graph)
    instance.do(instance.resume("go"))
    instance.take("t")
    instance.do(instance.fail("t"))
    instance.do(instance.retry())
    assert instance.status is InstanceState.RUNNING

    instance.run("t", "done")

    assert instance.status is InstanceState.WAITING


def test_only_a_failed_instance_can_be_retried() -> None:
    instance = running(WORK)
    assert instance.refused(reject.InstanceNotFailed, instance.retry()).status == "running"
    instance.do(instance.finish("work", "done"))
    assert instance.refused(reject.InstanceNotFailed, instance.retry()).status == "completed"


def test_a_cancelled_instance_cannot_be_retried() -> None:
    instance = running(WORK)
    instance.do(instance.fail("work", retryable=False))
    instance.do(instance.cancel())

    assert instance.refused(reject.InstanceNotFailed, instance.retry()).status == "cancelled"


TIMED = flow(
    task("work", done="later", timeout="end"),
    task("later", done="end", timeout="end"),
)


def test_timers_that_clients_asked_for_are_kept_on_every_step() -> None:
    instance = Instance(TIMED)
    instance.do(instance.schedule("work", 400))
    instance.do(instance.schedule("later", 500))
    before = {(timer.step_ref, timer.due_at) for timer in instance.state.timers.values()}
    instance.take("work")
    instance.do(instance.fail("work", retryable=False))
    assert instance.state.timers == {}
    instance.now += 100

    instance.do(instance.retry())

    after = {(timer.step_ref, timer.due_at) for timer in instance.state.timers.values()}
    assert after == before
    assert all(timer.client_requested for timer in instance.state.timers.values())
    assert instance.state.kept_timers == ()


def test_a_kept_timer_that_is_past_due_fires_at_once() -> None:
    instance = Instance(TIMED)
    instance.do(instance.schedule("work", 400))
    instance.do(instance.schedule("later", 500))
    instance.take("work")
    instance.do(instance.fail("work", retryable=False))
    instance.now += 100_000

    instance.do(instance.retry())
    instance.do(instance.fire(instance.timer_of("later").revision))
    assert isinstance(instance.last.cause.fact, TimerFired)
    assert not instance.last.cause.fact.used
    instance.do(instance.fire(instance.timer_of("work").revision))

    assert instance.event("work") == "timeout"


def test_a_cancel_ends_the_timers_that_a_failure_kept() -> None:
    instance = Instance(TIMED)
    instance.do(instance.schedule("later", 500))
    instance.take("work")
    instance.do(instance.fail("work", retryable=False))

    instance.do(instance.cancel())

    assert instance.state.kept_timers == ()
