"""Tasks: attempts and their fences, SUSPEND, outcomes that are none, and tasks that go from executor to executor."""

from __future__ import annotations

import pytest

from perdure.model.graph import RetryDefinition, WorkflowGraph
from perdure_server.engine import commands, facts
from perdure_server.engine import rejections as reject
from perdure_server.engine.commands import NO_GRANT, Grant
from perdure_server.engine.effects import OfferTask, RunTask, StopTask
from perdure_server.engine.state import (
    BackingOff,
    InstanceState,
    Losses,
    Queued,
    Running,
    Waiting,
)
from simulation.flows import flow, task, wait
from simulation.instance import Instance

RETRY = RetryDefinition(max_attempts=3)
WORK = flow(task("work", done="end", other="end", retry=RETRY))
FORK = flow(wait("go", go="a b c"), task("a", done="end"), task("b", done="end"), task("c", done="end"))
ASK = flow(
    task("ask", done="end", answered="end", timeout="end", awaits={"answered"}, wait_timeout_ms=60_000)
)


def running(graph: WorkflowGraph = WORK, ref: str = "work") -> Instance:
    instance = Instance(graph)
    instance.take(ref)
    return instance


# Attempts


def test_an_outcome_ends_the_step_along_its_arrow() -> None:
    instance = running()

    instance.do(instance.finish("work", "other", {"n": 1}))

    assert instance.event("work") == "other"
    assert instance.output("work") == {"n": 1}
    assert instance.last.effects == ()


def test_each_dispatch_takes_the_next_attempt() -> None:
    instance = running()
    for attempt in (1, 2, 3):
        assert instance.step("work") == Running(2, attempt, 0, "e1")
        instance.do(instance.release("work"))
        instance.take("work")


def test_a_released_attempt_is_offered_again_and_counts_as_no_failure() -> None:
    instance = running()

    instance.do(instance.release("work"), Grant("e1", 5, frozenset({"work"})))

    assert instance.step("work") == Queued(2, 1, 0)
    assert instance.last.effects == (OfferTask("work"),)


@pytest.mark.parametrize("attempt", [0, 1, 3])
def test_the_result_of_another_attempt_is_refused(attempt: int) -> None:
    instance = running()
    instance.do(instance.release("work"))
    instance.take("work")

    for command in (
        instance.finish("work", "done", attempt=attempt),
        instance.suspend("work", attempt),
        instance.fail("work", attempt=attempt),
        instance.release("work", attempt),
    ):
        assert instance.refused(reject.AttemptStale, command).attempt == attempt


def test_a_result_counts_once() -> None:
    instance = running()
    result = instance.finish("work", "done")
    instance.do(result)

    instance.refused(reject.AttemptStale, result)


def test_the_result_of_a_step_that_nobody_took_is_refused() -> None:
    instance = Instance(WORK)

    instance.refused(reject.AttemptStale, instance.finish("work", "done", attempt=0))
    instance.refused(reject.AttemptStale, instance.finish("nobody", "done", attempt=1))


def test_an_attempt_of_a_lost_owner_is_taken_over_and_the_old_one_is_told_to_stop() -> None:
    instance = running()

    instance.take("work", owner="e2", lost_attempt=1)

    assert instance.facts == ["AttemptReleased", "AttemptStarted"]
    assert instance.step("work") == Running(2, 2, 0, "e2")
    assert instance.last.effects == (StopTask("work", 1, "e1"), RunTask("work", 2, "e2"))
    instance.refused(reject.AttemptStale, instance.finish("work", "done", attempt=1))


def test_an_attempt_that_is_not_the_lost_one_is_not_taken_over() -> None:
    instance = running()
    grant = Grant("e2", 1, frozenset({"work"}))

    for lost in (0, 2):
        command = commands.TakeTask(at=instance.now, step_ref="work", lost_attempt=lost)
        instance.refused(reject.AttemptStale, command, grant)


@pytest.mark.parametrize("grant", [NO_GRANT, Grant("e1", 0, frozenset("a")), Grant("e1", 1, frozenset("b"))])
def test_a_task_is_not_taken_without_a_slot_for_it(grant: Grant) -> None:
    instance = Instance(FORK)
    instance.do(instance.resume("go"))

    instance.refused(reject.AttemptStale, commands.TakeTask(at=instance.now, step_ref="a"), grant)


def test_the_task_that_was_asked_for_comes_before_others_that_are_ready() -> None:
    instance = Instance(FORK)
    instance.do(instance.resume("go"))
    command = commands.TakeTask(at=instance.now, step_ref="c")

    instance.do(command, Grant("e1", 2, frozenset({"a", "b", "c"})))

    assert instance.last.cause.fact == facts.AttemptStarted(step_ref="c", attempt=1, owner="e1")
    assert isinstance(instance.step("a"), Running)
    assert isinstance(instance.step("b"), Queued)


def test_a_result_lets_its_executor_take_what_it_made_ready() -> None:
    graph = flow(task("one", done="two"), task("two", done="end"))
    instance = running(graph, "one")

    instance.do(instance.finish("one", "done"), Grant("e1", 1, frozenset({"one", "two"})))

    assert instance.last.effects == (RunTask("two", 1, "e1"),)
    assert instance.last.slots_used == 1


# SUSPEND


def test_pending_suspends_the_step_with_its_wait_timeout() -> None:
    instance = running(ASK, "ask")

    instance.do(instance.suspend("ask"))

    assert instance.step("ask") == Waiting(2, ("answered",), 1, 0)
    assert instance.status is InstanceState.WAITING
    assert instance.timer_of("ask").delay_ms == 60_000


def test_pending_that_finds_its_event_arms_no_timeout() -> None:
    instance = running(ASK, "ask")
    instance.do(instance.resume("answered"))

    instance.do(instance.suspend("ask"))

    assert instance.status is InstanceState.COMPLETED
    assert "TimerArmed" not in instance.facts


def test_a_task_that_awaits_may_still_end_by_itself() -> None:
    instance = running(ASK, "ask")

    instance.do(instance.finish("ask", "done"))

    assert instance.event("ask") == "done"


def test_a_task_may_itself_return_the_event_that_it_awaits() -> None:
    instance = running(ASK, "ask")

    instance.do(instance.finish("ask", "answered"))

    assert instance.event("ask") == "answered"


def test_a_suspended_step_has_no_attempt_that_could_end_it() -> None:
    instance = running(ASK, "ask")
    instance.do(instance.suspend("ask"))

    instance.refused(reject.AttemptStale, instance.finish("ask", "done", attempt=1))
    instance.refused(reject.AttemptStale, instance.fail("ask", attempt=1))


def test_pending_without_awaits_is_a_failure_that_is_not_retried() -> None:
    instance = running()

    instance.do(instance.suspend("work"))

    assert instance.status is InstanceState.FAILED
    assert instance.state.failure is not None
    assert instance.state.failure.type == "UndeclaredPending"


# Outcomes that are none


@pytest.mark.parametrize("event", ["undeclared", "timeout", "error", "elapsed", "", "x" * 100_000, "\ud800"])
def test_an_undeclared_event_is_a_failure_that_is_not_retried(event: str) -> None:
    instance = running()

    instance.do(instance.finish("work", event))

    assert instance.facts == ["AttemptFailed", "InstanceFailed"]
    assert instance.state.failure is not None
    assert instance.state.failure.type == "UndeclaredEvent"
    assert len(instance.state.failure.message) <= 2_000


def test_a_task_cannot_return_the_reserved_events_that_it_has_arrows_for() -> None:
    instance = running(flow(task("work", done="end", timeout="end", error="end")))

    instance.do(instance.finish("work", "timeout"))

    assert instance.event("work") == "error"
    assert instance.output("work") == {
        "type": "UndeclaredEvent",
        "message": "the step returned the event 'timeout', which is none of ['done']; "
        "return one of these, or give `on` an arrow for it",
        "attempts": 1,
    }


# Lost attempts


def lose(instance: Instance, *, alone: bool = False) -> None:
    """Let the process stop while the step runs, and the next one release the attempt."""
    step = instance.step("work")
    assert isinstance(step, Running)
    instance.do(
        commands.ReleaseTask(
            at=instance.now, step_ref="work", attempt=step.attempt, reason="stopped", lost=True, alone=alone
        )
    )


def test_the_third_loss_of_an_attempt_alone_is_a_failure() -> None:
    instance = Instance(WORK)
    for _ in range(2):
        instance.take("work")
        lose(instance, alone=True)
        assert instance.facts == ["AttemptReleased"]
    instance.take("work")

    lose(instance, alone=True)

    assert instance.facts == ["AttemptReleased", "AttemptFailed", "TimerArmed"]
    step = instance.step("work")
    assert isinstance(step, BackingOff)
    assert (step.failure.type, step.failures) == ("AttemptLost", 1)


def test_the_tenth_loss_in_a_row_is_a_failure() -> None:
    instance = Instance(WORK)
    for count in range(1, 10):
        instance.take("work")
        lose(instance)
        assert instance.step("work") == Queued(2, count, 0, losses=Losses(count))
    instance.take("work")

    lose(instance)

    assert isinstance(instance.step("work"), BackingOff)


def test_the_retry_policy_ends_a_crash_loop() -> None:
    instance = Instance(flow(task("work", done="end", retry=RetryDefinition(max_attempts=1))))
    for _ in range(3):
        instance.take("work")
        lose(instance, alone=True)

    assert instance.status is InstanceState.FAILED
    assert instance.state.failure is not None
    assert instance.state.failure.type == "AttemptLost"


def test_a_lost_attempt_takes_the_error_arrow_when_its_policy_ends() -> None:
    once = RetryDefinition(max_attempts=1)
    instance = Instance(flow(task("work", done="end", error="end", retry=once)))
    for _ in range(3):
        instance.take("work")
        lose(instance, alone=True)

    assert instance.event("work") == "error"
    assert instance.output("work")["type"] == "AttemptLost"


def test_a_result_starts_the_count_of_losses_again() -> None:
    instance = Instance(WORK)
    for _ in range(2):
        instance.take("work")
        lose(instance, alone=True)
    instance.take("work")
    instance.do(instance.fail("work"))
    instance.do(instance.fire(instance.timer_of("work").revision, forced=True))
    instance.take("work")

    lose(instance, alone=True)

    assert instance.facts == ["AttemptReleased"]
    step = instance.step("work")
    assert isinstance(step, Queued)
    assert step.losses == Losses(1, 1)


def test_a_drain_and_a_lost_lease_are_not_losses() -> None:
    instance = running()
    lose(instance, alone=True)
    instance.take("work")
    instance.do(instance.release("work"))
    instance.take("work")
    instance.take("work", owner="e2", lost_attempt=3)

    step = instance.step("work")
    assert isinstance(step, Running)
    assert step.losses == Losses(1, 1)


def test_a_step_knows_when_its_newest_attempt_started() -> None:
    instance = Instance(ASK)
    instance.now += 5
    instance.take("ask")
    started = instance.now
    instance.now += 10

    instance.do(instance.suspend("ask"))

    step = instance.step("ask")
    assert isinstance(step, Waiting)
    assert step.attempt_at == started
