"""The inbox: taken in the order of acceptance, reported where it is not, and bounded."""

from __future__ import annotations

from perdure_server.engine import commands, facts
from perdure_server.engine import rejections as reject
from perdure_server.engine.commands import INBOX_EVENTS_MAX
from perdure_server.engine.facts import Unconsumed
from perdure_server.engine.state import InstanceState
from simulation.flows import flow, task, wait
from simulation.instance import Instance

CHAIN = flow(
    task("first", done="one"),
    wait("one", ok="two", other="two"),
    wait("two", ok="three", other="three"),
    wait("three", ok="end", other="end"),
)
TOGETHER = flow(
    task("first", done="z a m"), wait("z", ok="end"), wait("a", ok="end"), wait("m", ok="end", other="end")
)


def test_waiting_steps_take_buffered_events_in_order_of_acceptance() -> None:
    instance = Instance(CHAIN)
    for event, value in (("ok", 1), ("other", 2), ("ok", 3)):
        instance.do(instance.resume(event, value, buffer=True))

    instance.run("first", "done")

    assert [instance.output(ref) for ref in ("one", "two", "three")] == [1, 2, 3]
    assert instance.status is InstanceState.COMPLETED


def test_one_step_takes_one_event_and_leaves_the_rest() -> None:
    instance = Instance(CHAIN)
    for value in (1, 2, 3, 4):
        instance.do(instance.resume("ok", value, buffer=True))

    instance.run("first", "done")

    fact = instance.last.entries[-1].fact
    assert fact == facts.InstanceCompleted(unconsumed=(Unconsumed(6, "ok"),))


def test_steps_that_start_together_take_events_in_the_order_of_their_refs() -> None:
    instance = Instance(TOGETHER)
    instance.do(instance.resume("ok", "first", buffer=True))
    instance.do(instance.resume("ok", "second", buffer=True))

    instance.run("first", "done")

    assert (instance.output("a"), instance.output("m")) == ("first", "second")
    assert instance.active == {"z"}


def test_a_step_takes_the_first_event_that_it_accepts_and_not_the_first_of_all() -> None:
    instance = Instance(TOGETHER)
    instance.do(instance.resume("other", "for m", buffer=True))
    instance.do(instance.resume("ok", "for a", buffer=True))

    instance.run("first", "done")

    assert (instance.output("a"), instance.output("m")) == ("for a", "for m")


def test_an_event_that_is_kept_for_another_step_is_passed_over() -> None:
    instance = Instance(TOGETHER)
    instance.do(instance.resume("ok", "for z", step_ref="z", buffer=True))
    instance.do(instance.resume("ok", "for whom it may concern", buffer=True))

    instance.run("first", "done")

    assert instance.output("z") == "for z"
    assert instance.output("a") == "for whom it may concern"
    assert instance.active == {"m"}


def test_a_buffered_event_is_named_by_the_entry_that_took_it() -> None:
    instance = Instance(CHAIN)
    instance.do(instance.resume("ok", {"n": 1}, buffer=True))
    accepted = instance.last.cause.revision

    instance.run("first", "done")

    taken = [e.fact for e in instance.last.entries if getattr(e.fact, "buffered_revision", 0)]
    assert [fact.buffered_revision for fact in taken if isinstance(fact, facts.StepFinished)] == [accepted]
    assert instance.last.payloads == {}


def test_a_step_that_takes_a_buffered_event_arms_no_deadline() -> None:
    instance = Instance(flow(task("first", done="w"), wait("w", ok="end", timeout="end", timeout_ms=5)))
    instance.do(instance.resume("ok", buffer=True))

    instance.run("first", "done")

    assert "TimerArmed" not in instance.facts


def test_a_cancelled_instance_reports_what_was_not_consumed() -> None:
    instance = Instance(CHAIN)
    instance.do(instance.resume("other", buffer=True))

    instance.do(instance.cancel(reason="enough"))

    assert instance.last.cause.fact == facts.InstanceCancelled(
        reason="enough", unconsumed=(Unconsumed(3, "other"),)
    )


def test_a_failed_instance_keeps_its_inbox_for_the_retry() -> None:
    instance = Instance(CHAIN)
    instance.do(instance.resume("ok", 7, buffer=True))
    instance.take("first")
    instance.do(instance.fail("first", retryable=False))
    assert len(instance.state.inbox) == 1

    instance.do(instance.retry())
    instance.run("first", "done")

    assert instance.output("one") == 7


def test_a_full_inbox_rejects_the_next_event() -> None:
    instance = Instance(CHAIN)
    for _ in range(INBOX_EVENTS_MAX):
        instance.do(instance.resume("ok", buffer=True))

    assert instance.rejected(reject.InboxFull, instance.resume("ok", buffer=True)) == reject.InboxFull(
        "i1", 1_000
    )


def test_a_full_inbox_does_not_hinder_a_delivery() -> None:
    graph = flow(wait("now", go="later"), wait("later", ok="end"))
    instance = Instance(graph)
    for _ in range(INBOX_EVENTS_MAX):
        instance.do(commands.Resume(at=instance.now, event="ok", buffer=True))

    instance.do(instance.resume("go"))

    assert instance.status is InstanceState.COMPLETED
