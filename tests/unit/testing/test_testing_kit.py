"""The test kit itself: virtual time, scripts, assertions and what they say when they fail."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure import (
    SUSPEND,
    Context,
    Outcome,
    RetryPolicy,
    StepError,
    Suspend,
    Workflow,
    errors,
    sleep,
    step,
    wait_for,
)
from perdure.client import facts
from perdure.runner import Disposition
from perdure_server.testing import REAL, AttemptTimeout, FailAfter, SettleTimeout, WorkflowTest


class Trip(Workflow, name="trip", version=3):
    """A plain function, a coroutine, a wait and a sleep."""

    start = "book"

    @step(
        on={"booked": "pack"},
        retry=RetryPolicy(max_attempts=4, initial_backoff="10s", jitter=0.5),
        attempt_timeout="1h",
    )
    def book(self, ctx: Context) -> Outcome:
        return Outcome("booked", to=ctx.input.get("to", "Rome"))

    @step(on={"packed": "rest", "timeout": "rest"}, awaits={"packed"}, wait_timeout="2h")
    async def pack(self, ctx: Context) -> Suspend:
        return SUSPEND

    rest = sleep("1d", then="board")
    board = wait_for("boarded", timeout="1h", on={"boarded": "end", "timeout": "end"})


class Twig(Workflow, name="twig", version=1):
    start = "nap"
    nap = sleep("5s", then="end")


async def test_time_passes_only_by_advance_and_to_the_millisecond() -> None:
    async with WorkflowTest(Trip) as t:
        trip = await t.start({"to": "Oslo"})
        trip.assert_waiting("pack")

        await t.advance("7199999ms")
        trip.assert_waiting("pack")
        await t.advance("1ms")

        trip.assert_steps(book="booked", pack="timeout")
        assert trip.outputs["book"] == {"to": "Oslo"}
        assert t.now == datetime(2026, 1, 1, 2, tzinfo=UTC)


async def test_one_advance_goes_through_everything_that_comes_due_at_its_own_time() -> None:
    begin = datetime(2030, 5, 1, 12, tzinfo=UTC)
    async with WorkflowTest(Trip, now=begin) as t:
        trip = await t.start()

        await t.advance(timedelta(days=30))

        trip.assert_state("COMPLETED")
        fired = [entry.time - begin for entry in trip.history if isinstance(entry.fact, facts.TimerFired)]
        assert fired == [timedelta(hours=2), timedelta(hours=26), timedelta(hours=27)]
        assert t.now == begin + timedelta(days=30)


async def test_years_pass_in_a_moment() -> None:
    async with WorkflowTest(Trip) as t:
        begin = t.now
        trip = await t.start(start_delay="3650d")
        await t.advance("3660d")
        assert t.now == begin + timedelta(days=3660)
        trip.assert_state("COMPLETED")


async def test_timers_due_at_one_time_fire_by_their_references() -> None:
    fired: list[str] = []
    async with WorkflowTest(Trip) as t:

        def note(ctx: Context) -> Outcome:
            fired.append(ctx.instance_id)
            return Outcome("booked")

        t.script("book", then=note)
        for name in ("b", "c", "a"):
            await t.start(instance_id=name, start_delay="1h")
        await t.advance("1h")

    assert fired == ["a", "b", "c"]


async def test_the_next_timer_can_be_gone_to_without_knowing_when_it_is_due() -> None:
    async with WorkflowTest(Trip) as t:
        trip = await t.start()

        assert await t.advance_to_next_timer() == timedelta(hours=2)
        assert await t.advance_to_next_timer() == timedelta(days=1)
        trip.assert_waiting("board")
        await trip.resume("boarded")
        with pytest.raises(AssertionError, match="no timer is pending"):
            await t.advance_to_next_timer()


async def test_time_does_not_go_back() -> None:
    async with WorkflowTest(Trip) as t:
        with pytest.raises(ValueError, match="cannot go back"):
            await t.advance(timedelta(seconds=-1))
        with pytest.raises(errors.InvalidFieldError, match="not a duration"):
            await t.advance("soon")


async def test_a_start_gives_readable_ids_and_the_version_of_the_class() -> None:
    async with WorkflowTest(Trip, Twig) as t:
        first, second = await t.start(), await t.start()
        twig = await t.start(workflow=Twig)
        by_name = await t.start(workflow="twig", instance_id="mine")

        assert [handle.id for handle in (first, second, twig, by_name)] == [
            "trip-1",
            "trip-2",
            "twig-1",
            "mine",
        ]
        assert first.instance.version == 3
        assert repr(twig) == "<twig-1: WAITING>"


async def test_an_instance_that_other_code_starts_is_found_by_its_id() -> None:
    async with WorkflowTest(Trip) as t:
        started = await t.client.start_instance("trip", instance_id="theirs")
        trip = await t.instance(started.instance_id)
        trip.assert_waiting("pack")

        await t.client.resume("theirs", "packed", {"bags": 2})
        await t.settle()

        assert trip.outputs["pack"] == {"bags": 2}
        with pytest.raises(errors.InstanceNotFoundError):
            await t.instance("nobody")


# --- scripts -----------------------------------------------------------------------------------------------------


async def test_scripted_failures_are_retried_after_the_pauses_of_the_policy_in_full() -> None:
    async with WorkflowTest(Trip) as t:
        t.script("book", StepError("full"), ConnectionError("gone"), Outcome("booked", to="Lima"))
        trip = await t.start()

        assert await t.advance_to_next_timer() == timedelta(seconds=10)
        assert await t.advance_to_next_timer() == timedelta(seconds=20)

        assert trip.outputs["book"] == {"to": "Lima"}
        assert [fact.type for fact in trip.history.of(facts.AttemptFailed)] == [
            "StepError",
            "ConnectionError",
        ]
        assert [call.attempt for call in trip.calls("book")] == [1, 2, 3]


@pytest.mark.parametrize(("jitter", "pause_s"), [(0.0, 10), (0.5, 7.5), (1.0, 5)])
async def test_jitter_is_what_the_test_says(jitter: float, pause_s: float) -> None:
    async with WorkflowTest(Trip, jitter=jitter) as t:
        t.script("book", StepError("full"))
        await t.start()

        assert await t.advance_to_next_timer() == timedelta(seconds=pause_s)


async def test_the_real_code_runs_where_no_script_says_otherwise() -> None:
    async with WorkflowTest(Trip) as t:
        t.script("book", StepError("full"), REAL)
        trip = await t.start({"to": "Bern"})
        await t.advance("10s")

        assert trip.outputs["book"] == {"to": "Bern"}


async def test_a_step_can_be_replaced_for_every_call() -> None:
    async with WorkflowTest(Trip) as t:
        t.script("book", then=Outcome("booked", to="nowhere"))

        for _ in range(3):
            trip = await t.start()
            assert trip.outputs["book"] == {"to": "nowhere"}
        assert len(t.calls("book")) == 3
        assert len(trip.calls("book")) == 1


async def test_a_lost_result_shows_what_a_repetition_does_and_the_key_is_the_same() -> None:
    async with WorkflowTest(Trip) as t:
        t.script("book", FailAfter(TimeoutError("no answer")))
        t.script("pack", FailAfter(TimeoutError("no answer")))
        trip = await t.start()
        await t.advance("1m")

        assert trip.idempotency_keys == {"book": ["trip-1/book"] * 2, "pack": ["trip-1/pack"] * 2}
        trip.assert_attempts("book", 2)
        trip.assert_waiting("pack")


async def test_an_attempt_that_takes_too_long_can_be_scripted() -> None:
    async with WorkflowTest(Trip) as t:
        t.script("book", AttemptTimeout())
        trip = await t.start()

        assert trip.assert_fact(facts.AttemptFailed).type == "AttemptTimeout"
        await t.advance("10s")
        trip.assert_waiting("pack")


async def test_a_function_takes_a_turn_and_an_async_one_too_in_steps_of_both_kinds() -> None:
    async def later(ctx: Context) -> Outcome:
        await asyncio.sleep(0)
        return Outcome("booked", to=ctx.instance_id)

    def at_once(ctx: Context) -> Suspend:
        return SUSPEND

    async with WorkflowTest(Trip) as t:
        t.script("book", later)
        t.script("pack", at_once)
        trip = await t.start()

        assert trip.outputs["book"] == {"to": "trip-1"}
        trip.assert_waiting("pack")
        assert [call.result for call in t.calls("book")] == [Outcome("booked", to="trip-1")]


async def test_an_event_can_come_while_the_step_that_awaits_it_still_runs() -> None:
    async with WorkflowTest(Trip) as t:

        async def answered_at_once(ctx: Context) -> Suspend:
            resumed = await t.client.resume(ctx.instance_id, "packed", {"bags": 1})
            assert resumed.disposition is Disposition.BUFFERED
            return SUSPEND

        t.script("pack", answered_at_once)
        trip = await t.start()

        trip.assert_steps(book="booked", pack="packed")
        assert trip.outputs["pack"] == {"bags": 1}


@pytest.mark.parametrize(
    ("ref", "turn", "message"),
    [
        ("bok", REAL, "no step 'bok'; the steps are book, pack, rest, board"),
        ("board", Outcome("boarded"), "board is a wait and has no code to script: resume"),
        ("rest", Outcome("elapsed"), "rest is a sleep and has no code to script: advance"),
        ("book", Outcome("boked"), "book has no event 'boked'; its events are booked"),
        ("book", SUSPEND, "book declares no awaits"),
        ("book", StepError, "is no turn of a script"),
        ("book", "booked", "is no turn of a script"),
    ],
)
async def test_a_slip_in_a_script_is_refused_with_the_mend(ref: str, turn: Any, message: str) -> None:
    async with WorkflowTest(Trip) as t:
        with pytest.raises(ValueError, match=message):
            t.script(ref, turn)


async def test_a_script_that_was_not_played_fails_the_test() -> None:
    async def scripted_in_vain() -> None:
        async with WorkflowTest(Trip) as t:
            t.script("book", REAL, StepError("again"))
            await t.start()

    with pytest.raises(AssertionError, match=r"trip\.book: 1 left, the next is StepError\('again'\)"):
        await scripted_in_vain()


async def test_a_failing_test_tells_its_own_failure_and_not_that_of_its_script() -> None:
    async def failing() -> None:
        async with WorkflowTest(Trip) as t:
            t.script("book", StepError("never"))
            raise RuntimeError("the test's")

    with pytest.raises(RuntimeError, match="the test's"):
        await failing()


async def test_a_step_that_does_not_end_is_named() -> None:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def never(ctx: Context) -> Suspend:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(ending.wait(), loop))
        return SUSPEND

    async with WorkflowTest(Trip, settle_seconds_max=0.2) as t:
        t.script("pack", never)
        with pytest.raises(SettleTimeout, match=r"trip-1/pack \(attempt 1\).*real time"):
            await t.start()
        ending.set()


# --- verbs, assertions -------------------------------------------------------------------------------------------


async def test_the_verbs_do_and_refuse_what_they_do_over_the_network() -> None:
    async with WorkflowTest(Trip) as t:
        trip = await t.start(business_key="k")
        with pytest.raises(errors.BusinessKeyInUseError):
            await t.start(business_key="k")
        with pytest.raises(errors.EventNotAwaitedError):
            await trip.resume("boarded")
        assert (await trip.resume("boarded", buffer=True)).disposition is Disposition.BUFFERED
        await trip.schedule_resume("pack", "10m")
        assert [timer.step_ref for timer in trip.timers] == ["pack", "pack"]

        await t.advance("10m")
        trip.assert_steps(book="booked", pack="timeout")
        await trip.cancel("changed my mind")

        trip.assert_state("CANCELLED")
        assert trip.assert_fact(facts.InstanceCancelled).reason == "changed my mind"


async def test_a_failed_instance_can_be_retried() -> None:
    async with WorkflowTest(Trip) as t:
        t.script("book", StepError("no such town", retryable=False))
        trip = await t.start()
        trip.assert_failed("book", type="StepError", message="no such town")
        trip.assert_not_begun("pack")

        await trip.retry()

        trip.assert_waiting("pack")
        trip.assert_order("book", "pack")


async def test_a_failed_assertion_tells_what_is_and_how_it_came_about() -> None:
    async with WorkflowTest(Trip) as t:
        trip = await t.start()

        with pytest.raises(AssertionError) as caught:
            trip.assert_steps(book="booked", pack="packed", board="boarded")

    told = str(caught.value).splitlines()
    assert told[:3] == [
        "trip-1 did not take these steps:",
        "  pack: expected 'packed', but it is WAITING",
        "  board: expected 'boarded', but it never began",
    ]
    assert any(line.startswith("state    WAITING") for line in told)
    assert told[-1].split() == [
        *("8", "2026-01-01T00:00:00.000Z", "timer", "armed"),
        *("trip-1.8", "timeout", "of", "pack", "due", "2026-01-01T02:00:00.000Z"),
    ]


async def test_where_code_raised_the_failed_assertion_has_that_as_its_cause() -> None:
    def slip(ctx: Context) -> Outcome:
        return Outcome("booked", to=ctx.input["destination"])

    async with WorkflowTest(Trip) as t:
        t.script("book", then=slip)
        trip = await t.start()
        await t.advance("1h")
        with pytest.raises(AssertionError, match="is FAILED") as caught:
            trip.assert_state("COMPLETED")

    assert isinstance(caught.value.__cause__, KeyError)


async def test_a_state_that_is_misspelt_is_told_the_states_that_there_are() -> None:
    async with WorkflowTest(Trip) as t:
        trip = await t.start()
        with pytest.raises(
            ValueError, match=r"there is no state 'WAITNG'; the states are .*FAILED, CANCELLED$"
        ):
            trip.assert_state("WAITNG")


async def test_each_assertion_fails_where_it_should() -> None:
    async with WorkflowTest(Trip) as t:
        trip = await t.start()
        for wrong, message in [
            (lambda: trip.assert_state("COMPLETED"), "is WAITING, not COMPLETED"),
            (trip.assert_steps, "book: not expected, but it ended with 'booked'"),
            (lambda: trip.assert_order("pack", "book"), "did not end pack before it began book"),
            (lambda: trip.assert_order("book", "board"), "did not end book before it began board"),
            (lambda: trip.assert_waiting("board"), "waits in pack, not in board"),
            (trip.assert_waiting, "waits in pack, not in no step"),
            (lambda: trip.assert_not_begun("board", "book"), "began book, which should never begin"),
            (lambda: trip.assert_skipped("board"), "skipped no step, not board"),
            (lambda: trip.assert_attempts("book", 2), "attempted book once, not 2 times"),
            (lambda: trip.assert_failed("book"), "it did not fail"),
            (lambda: trip.assert_fact(facts.TimerFired, used=True), r"no TimerFired\(used=True\)"),
        ]:
            with pytest.raises(AssertionError, match=message):
                wrong()


async def test_a_slip_in_an_assertion_does_not_look_like_a_pass() -> None:
    async with WorkflowTest(Trip) as t:
        trip = await t.start()
        with pytest.raises(ValueError, match="no step 'bord'"):
            trip.assert_not_begun("bord")
        with pytest.raises(ValueError, match="no step 'bord'"):
            trip.calls("bord")
        with pytest.raises(ValueError, match="DONE"):
            trip.assert_state("DONE")


async def test_instances_can_be_watched_and_listed_through_the_client() -> None:
    async with WorkflowTest(Trip) as t:
        trip = await t.start()
        await trip.cancel()

        events = [event async for event in t.client.watch_instance(trip.id, after_revision=0)]
        assert events[:-1] == list(trip.history)
        assert [found.instance_id async for found in t.client.list_instances()] == [trip.id]
        assert (await t.client.wait_for_end(trip.id)).state == "CANCELLED"


async def test_a_watch_has_a_deadline_and_can_be_left() -> None:
    async with WorkflowTest(Trip) as t:
        trip = await t.start()
        async for _ in t.client.watch_instance(trip.id):
            break
        with pytest.raises(errors.DeadlineExceededError):
            await t.client.wait_for_end(trip.id, timeout=0.05)
        with pytest.raises(errors.InstanceNotFoundError):
            await t.client.wait_for_end("nobody")


def test_without_a_workflow_there_is_nothing_to_test() -> None:
    with pytest.raises(TypeError, match="at least one workflow"):
        WorkflowTest()


async def test_outside_of_its_block_a_test_has_no_client() -> None:
    t = WorkflowTest(Trip)
    with pytest.raises(RuntimeError, match="async with"):
        await t.start()
