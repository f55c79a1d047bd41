"""Resume: delivered, buffered, or refused for its own reason."""

from __future__ import annotations

import pytest

from perdure.model.graph import Join, RetryDefinition
from perdure_server.engine import facts
from perdure_server.engine import rejections as reject
from perdure_server.engine.effects import DisarmTimer
from perdure_server.engine.state import InstanceState, Waiting
from simulation.flows import flow, task, wait
from simulation.instance import Instance

ANSWER = flow(wait("answer", yes="end", no="end", timeout="end", timeout_ms=1_000))
ASK = flow(
    task("ask", done="end", answered="end", awaits={"answered"}, retry=RetryDefinition(max_attempts=3))
)
TWO_WAIT = flow(wait("go", go="left right"), wait("left", ok="end", only="end"), wait("right", ok="end"))
LATER = flow(task("first", on_="second", off="end"), wait("second", ok="third"), task("third", done="end"))


def busy_asking() -> Instance:
    instance = Instance(ASK)
    instance.take("ask")
    return instance


# Delivered


def test_an_event_ends_the_step_that_waits_for_it() -> None:
    instance = Instance(ANSWER)

    instance.do(instance.resume("yes", {"by": "ann"}, request_id="r1"))

    assert instance.facts == ["StepFinished", "InstanceCompleted"]
    assert instance.last.cause.request_id == "r1"
    assert instance.event("answer") == "yes"
    assert instance.output("answer") == {"by": "ann"}


def test_the_deadline_of_a_step_goes_with_it() -> None:
    instance = Instance(ANSWER)
    timer = instance.timer_of("answer").revision

    instance.do(instance.resume("yes"))

    assert instance.last.effects == (DisarmTimer(timer),)


def test_an_event_without_a_payload_leaves_no_output() -> None:
    instance = Instance(ANSWER)

    instance.do(instance.resume("no"))

    assert instance.output("answer") == {}
    assert instance.last.payloads == {}


def test_the_empty_object_is_as_good_as_no_payload() -> None:
    instance = Instance(ANSWER)

    instance.do(instance.resume("no", {}))

    assert instance.last.payloads == {}


def test_a_suspended_task_is_resumed_like_a_wait() -> None:
    instance = busy_asking()
    instance.do(instance.suspend("ask"))

    instance.do(instance.resume("answered", [1, 2]))

    assert instance.status is InstanceState.COMPLETED
    assert instance.output("ask") == [1, 2]


# Ambiguous


def test_an_event_that_two_steps_wait_for_is_ambiguous() -> None:
    instance = Instance(TWO_WAIT)
    instance.do(instance.resume("go"))

    refusal = instance.refused(reject.AmbiguousEvent, instance.resume("ok"))

    assert refusal.step_refs == ("left", "right")


def test_an_ambiguous_event_is_not_buffered_either() -> None:
    instance = Instance(TWO_WAIT)
    instance.do(instance.resume("go"))

    instance.refused(reject.AmbiguousEvent, instance.resume("ok", buffer=True))


def test_a_step_ref_picks_one_of_several() -> None:
    instance = Instance(TWO_WAIT)
    instance.do(instance.resume("go"))

    instance.do(instance.resume("ok", step_ref="right"))

    assert instance.active == {"left"}


def test_an_event_that_only_one_of_the_waiting_steps_accepts_is_not_ambiguous() -> None:
    instance = Instance(TWO_WAIT)
    instance.do(instance.resume("go"))

    instance.do(instance.resume("only"))

    assert instance.active == {"right"}


# Early: the step that accepts it is busy


@pytest.mark.parametrize("buffer", [False, True])
def test_an_event_for_a_ready_task_is_buffered_even_unasked(buffer: bool) -> None:
    instance = Instance(ASK)

    instance.do(instance.resume("answered", {"n": 1}, buffer=buffer))

    assert instance.facts == ["EventBuffered"]
    assert instance.state.inbox[0].step_ref == "ask"


def test_an_event_for_a_running_task_is_taken_when_it_returns_pending() -> None:
    instance = busy_asking()
    instance.do(instance.resume("answered", {"n": 1}))

    instance.do(instance.suspend("ask"))

    assert instance.facts == ["StepSuspended", "StepFinished", "InstanceCompleted"]
    assert instance.output("ask") == {"n": 1}
    assert instance.state.inbox == ()


def test_an_event_for_a_task_that_backs_off_is_buffered() -> None:
    instance = busy_asking()
    instance.do(instance.fail("ask"))

    instance.do(instance.resume("answered"))

    assert instance.facts == ["EventBuffered"]


def test_an_early_event_that_its_task_never_takes_is_reported() -> None:
    instance = busy_asking()
    instance.do(instance.resume("answered"))
    revision = instance.last.cause.revision

    instance.do(instance.finish("ask", "done"))

    fact = instance.last.entries[-1].fact
    assert fact == facts.InstanceCompleted(unconsumed=(facts.Unconsumed(revision, "answered"),))


def test_an_early_event_is_kept_for_the_step_that_was_busy_when_it_came() -> None:
    graph = flow(
        wait("go", go="ask gate"),
        task("ask", ok="end", awaits={"ok"}),
        wait("gate", open="thief"),
        wait("thief", ok="end"),
    )
    instance = Instance(graph)
    instance.do(instance.resume("go"))
    instance.take("ask")
    instance.do(instance.resume("ok", {"for": "ask"}))

    instance.do(instance.resume("open"))
    assert isinstance(instance.step("thief"), Waiting)
    instance.do(instance.suspend("ask"))

    assert instance.output("ask") == {"for": "ask"}


def test_an_early_event_for_two_busy_steps_goes_to_whichever_waits_first() -> None:
    graph = flow(wait("go", go="a b"), task("a", ok="end", awaits={"ok"}), task("b", ok="end", awaits={"ok"}))
    instance = Instance(graph)
    instance.do(instance.resume("go"))
    instance.do(instance.resume("ok", 1))
    assert instance.state.inbox[0].step_ref == ""
    instance.take("a")
    instance.take("b")

    instance.do(instance.suspend("b"))

    assert instance.output("b") == 1
    assert instance.active == {"a"}


# Not awaited yet


def test_an_event_that_may_be_awaited_later_is_refused_without_buffer() -> None:
    instance = Instance(LATER)

    refusal = instance.refused(reject.EventNotAwaited, instance.resume("ok"))

    assert refusal.step_refs == ("second",)


def test_an_event_that_may_be_awaited_later_is_buffered_when_asked() -> None:
    instance = Instance(LATER)
    instance.do(instance.resume("ok", {"n": 1}, buffer=True))

    instance.run("first", "on_")

    assert instance.output("second") == {"n": 1}
    assert instance.active == {"third"}


def test_a_buffered_event_may_name_its_step() -> None:
    instance = Instance(TWO_WAIT)
    instance.do(instance.resume("ok", 1, step_ref="right", buffer=True))

    instance.do(instance.resume("go"))

    assert instance.output("right") == 1
    assert instance.active == {"left"}


# Never accepted


def test_an_event_of_a_step_that_is_out_of_reach_is_never_accepted() -> None:
    graph = flow(task("choose", left="a other", right="end"), wait("a", ok="end"), wait("other", bye="end"))
    instance = Instance(graph)
    instance.run("choose", "left")
    instance.do(instance.resume("ok"))

    refusal = instance.refused(reject.EventNeverAccepted, instance.resume("ok", buffer=True))

    assert refusal.accepted == ("bye",)


@pytest.mark.parametrize("event", ["timeout", "error", "elapsed", "done", "bogus"])
def test_only_events_of_waits_and_awaits_come_from_outside(event: str) -> None:
    instance = busy_asking()

    instance.refused(reject.EventNeverAccepted, instance.resume(event, buffer=True))


def test_an_event_for_a_skipped_step_is_never_accepted() -> None:
    graph = flow(
        task("fork", done="a b"),
        task("a", yes="both", no="end"),
        task("b", done="both"),
        wait("both", ok="end", join=Join.ALL),
    )
    instance = Instance(graph)
    instance.run("fork", "done")
    instance.run("a", "no")

    instance.refused(reject.EventNeverAccepted, instance.resume("ok", buffer=True))


# Refused by the step that was named


@pytest.mark.parametrize("buffer", [False, True])
def test_a_step_that_never_takes_the_event_says_what_it_takes_and_who_takes_it(buffer: bool) -> None:
    instance = Instance(TWO_WAIT)

    refusal = instance.refused(reject.StepNeverAccepts, instance.resume("ok", step_ref="go", buffer=buffer))

    assert (refusal.step_ref, refusal.accepted, refusal.step_refs) == ("go", ("go",), ("left", "right"))


@pytest.mark.parametrize("buffer", [False, True])
def test_a_task_without_awaits_takes_no_event_from_outside(buffer: bool) -> None:
    instance = Instance(LATER)

    refusal = instance.refused(
        reject.StepNeverAccepts, instance.resume("ok", step_ref="first", buffer=buffer)
    )

    assert (refusal.accepted, refusal.step_refs) == ((), ("second",))


def test_what_a_step_never_takes_is_told_alike_before_and_after_its_end() -> None:
    instance = Instance(LATER)
    before = instance.refused(reject.StepNeverAccepts, instance.resume("ok", step_ref="first"))
    instance.run("first", "on_")

    assert instance.refused(reject.StepNeverAccepts, instance.resume("ok", step_ref="first")) == before


@pytest.mark.parametrize("buffer", [False, True])
def test_a_finished_step_takes_no_event_and_names_those_that_still_do(buffer: bool) -> None:
    instance = Instance(TWO_WAIT)
    instance.do(instance.resume("go"))
    instance.do(instance.resume("ok", step_ref="left"))

    refusal = instance.refused(
        reject.StepAlreadyFinished, instance.resume("ok", step_ref="left", buffer=buffer)
    )

    assert (refusal.step_ref, refusal.event, refusal.step_refs) == ("left", "ok", ("right",))
    assert not refusal.skipped


def test_a_finished_step_names_also_those_that_may_take_the_event_later() -> None:
    graph = flow(wait("first", ok="between"), wait("between", go="last"), wait("last", ok="end"))
    instance = Instance(graph)
    instance.do(instance.resume("ok"))

    refusal = instance.refused(reject.StepAlreadyFinished, instance.resume("ok", step_ref="first"))

    assert refusal.step_refs == ("last",)


def test_a_skipped_step_takes_no_event_and_is_said_to_be_skipped() -> None:
    graph = flow(
        task("fork", done="a b c"),
        task("a", yes="both", no="end"),
        task("b", done="both"),
        wait("both", ok="end", join=Join.ALL),
        wait("c", ok="end"),
    )
    instance = Instance(graph)
    instance.run("fork", "done")
    instance.run("b", "done")
    instance.run("a", "no")

    refusal = instance.refused(
        reject.StepAlreadyFinished, instance.resume("ok", step_ref="both", buffer=True)
    )

    assert refusal.skipped
    assert refusal.step_refs == ("c",)


def test_a_step_that_is_out_of_reach_takes_no_event() -> None:
    graph = flow(task("choose", left="a", right="b"), wait("a", ok="end"), wait("b", ok="end"))
    instance = Instance(graph)
    instance.run("choose", "left")

    refusal = instance.refused(reject.StepUnreachable, instance.resume("ok", step_ref="b", buffer=True))

    assert (refusal.step_ref, refusal.step_refs) == ("b", ("a",))


@pytest.mark.parametrize("step_ref", ["left", "right"])
def test_a_waiting_step_that_is_named_takes_the_event_whatever_the_others_did(step_ref: str) -> None:
    instance = Instance(TWO_WAIT)
    instance.do(instance.resume("go"))
    other = {"left": "right", "right": "left"}[step_ref]
    instance.do(instance.resume("ok", step_ref=other))

    instance.do(instance.resume("ok", step_ref=step_ref))

    assert instance.status is InstanceState.COMPLETED


# Refused for other reasons


def test_an_unknown_step_is_not_found() -> None:
    instance = Instance(ANSWER)

    refusal = instance.refused(reject.StepNotFound, instance.resume("yes", step_ref="nobody"))

    assert refusal.known == ("answer",)


def test_a_completed_instance_takes_no_event() -> None:
    instance = Instance(ANSWER)
    instance.do(instance.resume("yes"))

    assert instance.refused(reject.InstanceEnded, instance.resume("yes")).status == "completed"


def test_a_failed_instance_takes_no_event() -> None:
    instance = busy_asking()
    instance.do(instance.fail("ask", retryable=False))

    assert instance.refused(reject.InstanceEnded, instance.resume("answered")).status == "failed"
