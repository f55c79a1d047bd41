"""Bad input: calls that the state of the instance does not allow."""

from __future__ import annotations

from e2e.bad_input.calls import error_of, resume, schedule
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner
from perdure.v1 import timer_service_pb2 as timers
from support.api_fixture import ApiWorld


async def test_an_ended_instance_rejects_events_and_cancels(world: ApiWorld) -> None:
    await world.start("approval", "here")
    await world.call("Resume", resume())

    for rpc, request in (
        ("Resume", resume()),
        ("ScheduleResume", schedule()),
        ("CancelInstance", instances.CancelInstanceRequest(instance_id="here")),
    ):
        error = error_of(await world.call(rpc, request))
        assert error.what == ("FAILED_PRECONDITION", "INSTANCE_ENDED")
        assert error.metadata["state"] == "COMPLETED"
        assert error.preconditions == ("here",)


async def test_an_event_that_is_not_awaited_names_steps_that_wait_later(world: ApiWorld) -> None:
    await world.start("chain", "here")

    error = error_of(await world.call("Resume", resume(event="three")))

    assert error.what == ("FAILED_PRECONDITION", "EVENT_NOT_AWAITED")
    assert error.metadata["step_refs"] == "third"


async def test_an_event_that_is_never_accepted_is_rejected(world: ApiWorld) -> None:
    await world.start("chain", "here")
    await world.call("Resume", resume(event="skip"))

    error = error_of(await world.call("Resume", resume(event="two")))

    assert error.what == ("FAILED_PRECONDITION", "EVENT_NEVER_ACCEPTED")
    assert error.metadata["events"] == "three"


async def test_an_ambiguous_event_names_the_steps(world: ApiWorld) -> None:
    await world.start("twins", "here")
    await world.call("Resume", resume(event="opened"))

    error = error_of(await world.call("Resume", resume(event="go")))

    assert error.what == ("FAILED_PRECONDITION", "AMBIGUOUS_EVENT")
    assert error.metadata["step_refs"] == "left,right"


async def test_schedule_resume_rejects_steps_that_cannot_time_out(world: ApiWorld) -> None:
    await world.start("chain", "here")
    no_timeout = error_of(await world.call("ScheduleResume", schedule(step_ref="first")))
    await world.call("Resume", resume(event="one"))
    await world.call("Resume", resume(event="two"))
    finished = error_of(await world.call("ScheduleResume", schedule(step_ref="second")))
    await world.start("chain", "there")
    await world.call("Resume", resume(instance_id="there", event="skip"))
    unreachable = error_of(
        await world.call("ScheduleResume", schedule(instance_id="there", step_ref="second"))
    )

    assert no_timeout.what == ("FAILED_PRECONDITION", "STEP_HAS_NO_TIMEOUT")
    assert finished.what == ("FAILED_PRECONDITION", "STEP_FINISHED")
    assert unreachable.what == ("FAILED_PRECONDITION", "STEP_UNREACHABLE")


async def test_only_a_failed_instance_can_be_retried(world: ApiWorld) -> None:
    await world.start("approval", "here")

    error = error_of(await world.call("RetryInstance", instances.RetryInstanceRequest(instance_id="here")))

    assert error.what == ("FAILED_PRECONDITION", "INSTANCE_NOT_FAILED")
    assert error.metadata["state"] == "WAITING"


async def test_a_start_timer_cannot_be_cancelled(world: ApiWorld) -> None:
    await world.start("approval", "here", start_delay_ms=100_000)
    (timer,) = (await world.call("ListTimers", timers.ListTimersRequest(instance_id="here"))).timers

    error = error_of(await world.call("CancelTimer", timers.CancelTimerRequest(reference=timer.reference)))

    assert error.what == ("FAILED_PRECONDITION", "TIMER_NOT_CANCELLABLE")


async def test_a_full_inbox_rejects_events(world: ApiWorld) -> None:
    await world.start("chain", "here")
    for _ in range(1_000):
        answer = await world.call("Resume", resume(event="three", opts_buffer=True))
        assert answer.disposition == runner.DISPOSITION_BUFFERED

    error = error_of(await world.call("Resume", resume(event="three", opts_buffer=True)))

    assert error.what == ("RESOURCE_EXHAUSTED", "INBOX_FULL")


async def test_an_instance_accepts_1000_scheduled_resumes(world: ApiWorld) -> None:
    await world.start("approval", "here")
    again = schedule(delay_ms=3_600_000)
    answers = [await world.call("ScheduleResume", again) for _ in range(1_000)]

    error = error_of(await world.call("ScheduleResume", again))

    assert error.what == ("RESOURCE_EXHAUSTED", "TOO_MANY_TIMERS")
    assert error.metadata["timers_max"] == "1000"
    cancel = timers.CancelTimerRequest(reference=answers[0].reference)
    assert (await world.call("CancelTimer", cancel)).revision
    assert (await world.call("ScheduleResume", again)).reference
