"""Bad input: calls that do not fit the instance's state."""

from __future__ import annotations

from e2e.bad_input.calls import resume, schedule, sound
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner
from perdure.v1 import timer_service_pb2 as timers
from support.api_fixture import ApiWorld


async def test_a_finished_instance_takes_no_event_and_no_cancel(world: ApiWorld) -> None:
    await world.start("approval", "here")
    await world.call("Resume", resume())

    for rpc, request in (
        ("Resume", resume()),
        ("ScheduleResume", schedule()),
        ("CancelInstance", instances.CancelInstanceRequest(instance_id="here")),
    ):
        refusal = sound(await world.call(rpc, request))
        assert refusal.what == ("FAILED_PRECONDITION", "INSTANCE_ENDED")
        assert refusal.metadata["state"] == "COMPLETED"
        assert refusal.preconditions == ("here",)


async def test_an_event_that_is_not_awaited_names_the_steps_that_may(world: ApiWorld) -> None:
    await world.start("chain", "here")

    refusal = sound(await world.call("Resume", resume(event="three")))

    assert refusal.what == ("FAILED_PRECONDITION", "EVENT_NOT_AWAITED")
    assert refusal.metadata["step_refs"] == "third"


async def test_an_event_that_never_will_be_accepted_is_told_so(world: ApiWorld) -> None:
    await world.start("chain", "here")
    await world.call("Resume", resume(event="skip"))

    refusal = sound(await world.call("Resume", resume(event="two")))

    assert refusal.what == ("FAILED_PRECONDITION", "EVENT_NEVER_ACCEPTED")
    assert refusal.metadata["events"] == "three"


async def test_an_ambiguous_event_names_the_steps(world: ApiWorld) -> None:
    await world.start("twins", "here")
    await world.call("Resume", resume(event="opened"))

    refusal = sound(await world.call("Resume", resume(event="go")))

    assert refusal.what == ("FAILED_PRECONDITION", "AMBIGUOUS_EVENT")
    assert refusal.metadata["step_refs"] == "left,right"


async def test_a_resume_is_scheduled_only_for_a_step_that_can_take_it(world: ApiWorld) -> None:
    await world.start("chain", "here")
    no_timeout = sound(await world.call("ScheduleResume", schedule(step_ref="first")))
    await world.call("Resume", resume(event="one"))
    await world.call("Resume", resume(event="two"))
    finished = sound(await world.call("ScheduleResume", schedule(step_ref="second")))
    await world.start("chain", "there")
    await world.call("Resume", resume(instance_id="there", event="skip"))
    unreachable = sound(await world.call("ScheduleResume", schedule(instance_id="there", step_ref="second")))

    assert no_timeout.what == ("FAILED_PRECONDITION", "STEP_HAS_NO_TIMEOUT")
    assert finished.what == ("FAILED_PRECONDITION", "STEP_FINISHED")
    assert unreachable.what == ("FAILED_PRECONDITION", "STEP_UNREACHABLE")


async def test_only_a_failed_instance_can_be_retried(world: ApiWorld) -> None:
    await world.start("approval", "here")

    refusal = sound(await world.call("RetryInstance", instances.RetryInstanceRequest(instance_id="here")))

    assert refusal.what == ("FAILED_PRECONDITION", "INSTANCE_NOT_FAILED")
    assert refusal.metadata["state"] == "WAITING"


async def test_a_start_timer_cannot_be_cancelled(world: ApiWorld) -> None:
    await world.start("approval", "here", start_delay_ms=100_000)
    (timer,) = (await world.call("ListTimers", timers.ListTimersRequest(instance_id="here"))).timers

    refusal = sound(await world.call("CancelTimer", timers.CancelTimerRequest(reference=timer.reference)))

    assert refusal.what == ("FAILED_PRECONDITION", "TIMER_NOT_CANCELLABLE")


async def test_a_full_inbox_takes_no_more(world: ApiWorld) -> None:
    await world.start("chain", "here")
    for _ in range(1_000):
        answer = await world.call("Resume", resume(event="three", opts_buffer=True))
        assert answer.disposition == runner.DISPOSITION_BUFFERED

    refusal = sound(await world.call("Resume", resume(event="three", opts_buffer=True)))

    assert refusal.what == ("RESOURCE_EXHAUSTED", "INBOX_FULL")


async def test_a_million_scheduled_resumes_are_stopped_at_a_thousand(world: ApiWorld) -> None:
    await world.start("approval", "here")
    again = schedule(delay_ms=3_600_000)
    answers = [await world.call("ScheduleResume", again) for _ in range(1_000)]

    refusal = sound(await world.call("ScheduleResume", again))

    assert refusal.what == ("RESOURCE_EXHAUSTED", "TOO_MANY_TIMERS")
    assert refusal.metadata["timers_max"] == "1000"
    cancel = timers.CancelTimerRequest(reference=answers[0].reference)
    assert (await world.call("CancelTimer", cancel)).revision
    assert (await world.call("ScheduleResume", again)).reference
