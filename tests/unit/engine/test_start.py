"""Starting an instance: what is there at once, the start delay, and tasks that are granted in the same decision."""

from __future__ import annotations

from perdure_server.engine import facts
from perdure_server.engine import rejections as reject
from perdure_server.engine.commands import Grant
from perdure_server.engine.effects import OfferTask, RunTask
from perdure_server.engine.facts import TimerKind
from perdure_server.engine.state import InstanceState, Queued, Running
from simulation.flows import flow, nap, task, wait
from simulation.instance import START_MS, Instance, body

ONE_TASK = flow(task("work", done="end"))
ONE_WAIT = flow(wait("answer", answered="end"))


def test_an_instance_starts_with_its_first_step_in_the_same_decision() -> None:
    instance = Instance(ONE_TASK)

    assert instance.facts == ["InstanceStarted", "StepStarted"]
    assert instance.status is InstanceState.RUNNING
    assert instance.state.started_at == START_MS
    assert instance.last.effects == (OfferTask("work"),)


def test_an_instance_whose_first_step_waits_is_waiting_at_once() -> None:
    assert Instance(ONE_WAIT).status is InstanceState.WAITING


def test_an_instance_that_only_sleeps_is_waiting() -> None:
    assert Instance(flow(nap("rest", 10, "end"))).status is InstanceState.WAITING


def test_the_first_entry_alone_holds_the_request_id() -> None:
    instance = Instance(ONE_TASK, request_id="r1", start_delay_ms=5)

    assert [entry.request_id for entry in instance.oracle.history] == ["r1", ""]


def test_what_was_asked_for_is_in_the_first_fact() -> None:
    instance = Instance(ONE_TASK, business_key="order-7", labels={"team": "blue"})

    fact = instance.oracle.history[0].fact
    assert isinstance(fact, facts.InstanceStarted)
    assert (fact.business_key, fact.labels, fact.definition_digest) == (
        "order-7",
        {"team": "blue"},
        ONE_TASK.digest,
    )
    assert instance.bodies[1] == '{"n": 1}'


def test_a_task_is_granted_in_the_decision_that_makes_it_ready() -> None:
    instance = Instance(ONE_TASK, grant=Grant("e1", 4, frozenset({"work"})))

    assert instance.step("work") == Running(2, 1, 0, "e1")
    assert instance.last.effects == (RunTask("work", 1, "e1"),)
    assert instance.last.slots_used == 1


def test_a_grant_for_other_steps_takes_nothing() -> None:
    instance = Instance(ONE_TASK, grant=Grant("e1", 4, frozenset({"elsewhere"})))

    assert isinstance(instance.step("work"), Queued)
    assert instance.last.slots_used == 0


def test_a_grant_with_one_slot_takes_one_of_two_ready_tasks() -> None:
    fork = flow(wait("go", go="a b"), task("a", done="end"), task("b", done="end"))
    instance = Instance(fork)

    instance.do(instance.resume("go"), Grant("e1", 1, frozenset({"a", "b"})))

    assert isinstance(instance.step("a"), Running)
    assert isinstance(instance.step("b"), Queued)
    assert instance.last.slots_used == 1


# The start delay


def test_a_delayed_instance_is_pending_and_no_step_starts() -> None:
    instance = Instance(ONE_TASK, start_delay_ms=50, grant=Grant("e1", 4, frozenset({"work"})))

    assert instance.status is InstanceState.PENDING
    assert instance.state.started_at is None
    assert instance.started == []
    assert instance.timer_of("work", TimerKind.START).due_at == START_MS + 50


def test_a_delayed_instance_starts_when_its_timer_fires() -> None:
    instance = Instance(ONE_TASK, start_delay_ms=50)
    instance.now += 50

    instance.do(instance.fire(2))

    assert instance.facts == ["TimerFired", "StepStarted"]
    assert instance.status is InstanceState.RUNNING
    assert instance.state.started_at == instance.now


def test_a_start_timer_does_not_fire_before_its_time() -> None:
    instance = Instance(ONE_TASK, start_delay_ms=50)
    instance.now += 49

    rejection = instance.rejected(reject.TimerNotDue, instance.fire(2))

    assert rejection == reject.TimerNotDue("i1.2", START_MS + 50)


def test_a_client_may_force_the_start() -> None:
    instance = Instance(ONE_TASK, start_delay_ms=50)

    instance.do(instance.fire(2, forced=True, request_id="now"))

    assert instance.status is InstanceState.RUNNING
    assert instance.last.cause.request_id == "now"


def test_a_start_timer_cannot_be_cancelled() -> None:
    instance = Instance(ONE_TASK, start_delay_ms=50)

    assert instance.rejected(reject.TimerNotCancellable, instance.cancel_timer(2)).kind == "start"


def test_a_pending_instance_buffers_events_for_when_it_runs() -> None:
    instance = Instance(ONE_WAIT, start_delay_ms=50)
    instance.rejected(reject.EventNotAwaited, instance.resume("answered"))
    instance.do(instance.resume("answered", {"by": "ann"}, buffer=True))
    assert instance.status is InstanceState.PENDING
    instance.now += 50

    instance.do(instance.fire(2))

    assert instance.status is InstanceState.COMPLETED
    assert instance.output("answer") == {"by": "ann"}


def test_a_pending_instance_can_be_cancelled_and_never_starts() -> None:
    instance = Instance(ONE_TASK, start_delay_ms=50)
    instance.do(instance.cancel())
    instance.now += 50

    instance.rejected(reject.TimerNotFound, instance.fire(2))

    assert instance.started == []


def test_a_timeout_that_fires_before_the_start_is_unused() -> None:
    instance = Instance(flow(wait("answer", answered="end", timeout="end")), start_delay_ms=50)
    instance.do(instance.schedule("answer", 10))
    timer = instance.last.cause.revision
    instance.now += 10

    instance.do(instance.fire(timer))

    fact = instance.last.cause.fact
    assert isinstance(fact, facts.TimerFired)
    assert not fact.used
    assert instance.status is InstanceState.PENDING


def test_a_context_that_is_too_large_is_rejected() -> None:
    from perdure_server.engine import commands
    from perdure_server.engine import decide as engine

    most = commands.payload('{"x":"' + "x" * ((1 << 20) - 8) + '"}')
    assert most.info.size_bytes == 1 << 20
    assert Instance(ONE_TASK, context=most).state.payload_bytes == 1 << 20

    more = commands.StartInstance(
        at=START_MS, instance_id="i1", input=commands.payload(most.text.replace("x", "xx", 1))
    )
    assert engine.start(ONE_TASK, more) == reject.PayloadTooLarge("context", (1 << 20) + 1, 1 << 20)


def test_an_empty_context_is_kept_as_what_was_given() -> None:
    assert Instance(ONE_TASK, context=body({})).bodies == {1: "{}"}
