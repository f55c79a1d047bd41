"""The lives whose histories are kept: each a short story with every turn that a reader of old facts must know.

A story may be added at any time. One that was recorded is never changed: its file is what an old version wrote.
"""

from __future__ import annotations

from collections.abc import Callable

from order import OrderFlow
from perdure.authoring import graph_of
from perdure.model.graph import Join, RetryDefinition
from perdure_server.engine import commands
from perdure_server.engine.commands import Grant
from perdure_server.engine.state import BackingOff
from simulation.flows import flow, nap, task, wait
from simulation.instance import Instance

RETRY = RetryDefinition(max_attempts=3, initial_ms=100, max_ms=1_000, jitter=0.0)


def order_shipped() -> Instance:
    """An order from start to end: fork, an early event, SUSPEND, a join of all, a sleep."""
    order = Instance(
        graph_of(OrderFlow), business_key="order-7", labels={"team": "blue"}, request_id="start-7"
    )
    order.now += 5
    order.run("validate", "valid", {"item_count": 2})
    order.take("reserve")
    order.do(order.resume("reserved", {"shelf": "B4"}, request_id="warehouse-1"))
    order.do(order.suspend("reserve"))
    order.now += 20
    order.run("charge", "charged", {"payment_id": "pay:1", "cents": 4900})
    order.now += 60_000
    order.do(order.resume("approved", {"by": "ann"}, request_id="ann-1"))
    order.now += 30_000
    order.do(order.fire(order.timer_of("cooldown").revision))
    order.run("ship", "shipped", {"parcel": "parcel:1"})
    return order


def order_declined() -> Instance:
    """A declined order: the join of all is skipped, a reserved event comes too late to matter."""
    order = Instance(graph_of(OrderFlow))
    order.run("validate", "valid")
    order.take("reserve")
    order.do(order.suspend("reserve"))
    order.do(order.resume("reserved"))
    order.run("charge", "declined", {"reason": "the bank said no"})
    order.run("release", "released")
    return order


def order_waiting_for_approval() -> Instance:
    """An order in the middle of its life, with a deadline."""
    order = Instance(graph_of(OrderFlow), grant=Grant("e1", 1, frozenset({"validate"})))
    order.do(order.finish("validate", "valid"), Grant("e1", 2, frozenset({"charge", "reserve"})))
    order.do(order.suspend("reserve"))
    order.do(order.finish("charge", "charged", {"payment_id": "pay:2"}))
    order.do(order.resume("reserved", {"shelf": "C1"}))
    return order


def retried_and_mended() -> Instance:
    """Failures back off, retries run out, and the `error` arrow is taken."""
    instance = Instance(flow(task("work", done="end", error="hint", retry=RETRY), task("hint", done="end")))
    for _ in range(3):
        instance.take("work")
        instance.do(instance.fail("work", "boom"))
        if instance.state.timers:
            instance.now += 1_000
            instance.do(instance.fire(instance.timer_of("work").revision, jitter=0.5))
    instance.run("hint", "done", {"mended": True})
    return instance


def _many_at_once() -> Instance:
    instance = Instance(
        flow(
            wait("go", go="asked broken flaky ready rests runs"),
            wait("asked", ok="end", timeout="end", timeout_ms=1_000),
            task("broken", done="after"),
            task("flaky", done="end", retry=RETRY),
            task("ready", done="end"),
            nap("rests", 500, "end"),
            task("runs", done="end", timeout="end", awaits={"done"}),
            wait("after", later="end"),
        )
    )
    instance.do(instance.resume("later", {"n": 1}, buffer=True))
    instance.do(instance.resume("go"))
    instance.take("flaky")
    instance.do(instance.fail("flaky", "not yet"))
    instance.take("runs")
    instance.do(instance.schedule("runs", 700))
    instance.take("broken")
    instance.do(instance.fail("broken", "no more", retryable=False))
    return instance


def failed_with_interrupted_steps() -> Instance:
    """A failed instance whose other steps waited, backed off, slept, ran and were ready; its inbox is kept."""
    return _many_at_once()


def failed_and_retried() -> Instance:
    """The same after RetryInstance: original deadlines, new attempts, a buffered event that is still taken."""
    instance = _many_at_once()
    instance.now += 600
    instance.do(instance.retry(request_id="again"))
    instance.do(instance.fire(instance.timer_of("rests").revision))
    instance.run("broken", "done")
    instance.take("runs", owner="e2")
    return instance


def cancelled_with_unconsumed_events() -> Instance:
    """A cancelled instance: a running step, timers, and events that nobody took."""
    instance = Instance(
        flow(
            task("first", done="later", answered="later", awaits={"answered"}),
            wait("later", ok="end", no="end", timeout="end"),
        )
    )
    instance.do(instance.resume("ok", {"n": 1}, buffer=True))
    instance.do(instance.resume("no", step_ref="later", buffer=True))
    instance.take("first")
    instance.do(instance.resume("answered", ["early"]))
    instance.do(instance.schedule("later", 5_000))
    instance.do(instance.cancel(reason="not wanted any more", request_id="stop"))
    return instance


def delayed_and_pending() -> Instance:
    """An instance that has not started, with an event in its inbox."""
    instance = Instance(flow(wait("answer", ok="end")), start_delay_ms=60_000, labels={"a": "b"})
    instance.do(instance.resume("ok", {"n": 1}, buffer=True))
    return instance


def delayed_and_started() -> Instance:
    """The same after its start: the event is taken and the instance completes at once."""
    instance = delayed_and_pending()
    instance.now += 60_000
    instance.do(instance.fire(2))
    return instance


def timers_of_all_kinds() -> Instance:
    """Timers that are unused, cancelled, forced, late, and gone with their step."""
    instance = Instance(
        flow(
            wait("go", go="waits works", timeout="end"),
            wait("waits", ok="end", timeout="rests"),
            nap("rests", 100, "last"),
            task("works", done="end", timeout="end"),
            wait("last", ok="end", error="end", timeout_ms=50),
        )
    )
    instance.do(instance.schedule("waits", 10))
    instance.now += 15
    instance.do(instance.fire(instance.timer_of("waits").revision))
    instance.do(instance.schedule("go", 10_000))
    instance.do(instance.schedule("waits", 90_000))
    instance.do(instance.cancel_timer(instance.timer_of("waits").revision))
    instance.do(instance.resume("go"))
    instance.do(instance.schedule("waits", 1_000))
    instance.do(instance.fire(instance.timer_of("waits").revision, forced=True, request_id="now"))
    instance.take("works")
    instance.do(instance.schedule("works", 50))
    instance.now += 300
    instance.do(instance.fire(instance.timer_of("works").revision))
    instance.do(instance.fire(instance.timer_of("rests").revision))
    instance.now += 50
    instance.do(instance.fire(instance.timer_of("last").revision))
    return instance


def handed_from_executor_to_executor() -> Instance:
    """Attempts that are given back and lost; an any-join whose later arrival is absorbed."""
    instance = Instance(
        flow(
            task("fork", done="a b"),
            task("a", ok="first"),
            task("b", ok="first"),
            wait("first", go="end", join=Join.ANY),
        )
    )
    instance.take("fork")
    instance.do(instance.release("fork"))
    instance.take("fork", owner="e2")
    instance.take("fork", owner="e3", lost_attempt=2)
    instance.do(instance.finish("fork", "done"))
    instance.run("b", "ok", {"first": True})
    instance.run("a", "ok")
    return instance


def crash_loop_ended() -> Instance:
    """Attempts that are lost with their process, alone and with others, until that counts as a failure."""
    instance = Instance(
        flow(
            task("work", done="end", error="later", retry=RetryDefinition(max_attempts=2)),
            task("later", done="end"),
        )
    )
    for count in range(13):
        step = instance.step("work")
        if isinstance(step, BackingOff):
            instance.now += 40_000
            instance.do(instance.fire(instance.timer_of("work").revision))
        instance.take("work")
        instance.do(
            commands.ReleaseTask(
                at=instance.now,
                step_ref="work",
                attempt=count + 1,
                reason="the process stopped",
                lost=True,
                alone=count < 3,
            )
        )
    return instance


def failed_with_timers_that_are_kept() -> Instance:
    """Timers that a client asked for, on the step that fails and on one that has not begun."""
    instance = Instance(
        flow(task("work", done="later", timeout="end"), task("later", done="end", timeout="end"))
    )
    instance.do(instance.schedule("work", 400))
    instance.do(instance.schedule("later", 500))
    instance.take("work")
    instance.do(instance.fail("work", retryable=False))
    instance.do(instance.retry())
    instance.take("work")
    instance.do(instance.fail("work", retryable=False))
    return instance


SCENARIOS: dict[str, Callable[[], Instance]] = {
    story.__name__: story
    for story in (
        order_shipped,
        order_declined,
        order_waiting_for_approval,
        retried_and_mended,
        failed_with_interrupted_steps,
        failed_and_retried,
        cancelled_with_unconsumed_events,
        delayed_and_pending,
        delayed_and_started,
        timers_of_all_kinds,
        handed_from_executor_to_executor,
        crash_loop_ended,
        failed_with_timers_that_are_kept,
    )
}
