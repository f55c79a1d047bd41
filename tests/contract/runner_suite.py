"""The contract of every `perdure.runner.Runner`, in terms of its three methods alone.

Subclass `RunnerSuite` in a test module and give it a ``runner`` fixture that serves `runner_flows.FLOWS` on an empty
store.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure import errors
from perdure.runner import ConflictPolicy, Disposition, Resumed, Runner


class RunnerSuite:
    """The contract of the three methods."""

    # --- start_instance ------------------------------------------------------------------------------------------

    async def test_a_start_reports_the_id_the_version_and_that_it_created_the_instance(
        self, runner: Runner
    ) -> None:
        started = await runner.start_instance("approval", {"amount": 2**63 - 1})

        assert started.created
        assert started.version == 2
        assert started.revision >= 1
        assert started.instance_id

    async def test_two_starts_without_ids_make_two_instances(self, runner: Runner) -> None:
        first, second = await asyncio.gather(
            runner.start_instance("approval"), runner.start_instance("approval")
        )

        assert first.instance_id != second.instance_id

    async def test_an_older_version_can_be_asked_for(self, runner: Runner) -> None:
        started = await runner.start_instance("approval", version=1)

        assert started.version == 1
        with pytest.raises(errors.EventNeverAcceptedError):
            await runner.resume(started.instance_id, "rejected")

    @pytest.mark.parametrize(("workflow", "version"), [("nothing", 0), ("approval", 9)])
    async def test_a_workflow_that_is_not_there_is_not_found(
        self, runner: Runner, workflow: str, version: int
    ) -> None:
        with pytest.raises(errors.WorkflowNotFoundError) as caught:
            await runner.start_instance(workflow, version=version)

        assert caught.value.resource is not None
        assert caught.value.resource.name == workflow

    async def test_an_id_of_ones_own_is_taken_once(self, runner: Runner) -> None:
        started = await runner.start_instance("approval", instance_id="order-17")

        assert started.instance_id == "order-17"
        with pytest.raises(errors.InstanceAlreadyExistsError) as caught:
            await runner.start_instance("approval", instance_id="order-17")
        assert caught.value.instance_id == "order-17"

    async def test_a_business_key_is_held_by_one_live_instance_of_a_workflow(self, runner: Runner) -> None:
        holder = await runner.start_instance("approval", business_key="k")

        with pytest.raises(errors.BusinessKeyInUseError) as caught:
            await runner.start_instance("approval", business_key="k")
        assert caught.value.instance_id == holder.instance_id
        assert (await runner.start_instance("chain", business_key="k")).created

    async def test_use_existing_answers_with_the_holder_of_the_business_key(self, runner: Runner) -> None:
        holder = await runner.start_instance("approval", business_key="k")

        found = await runner.start_instance(
            "approval", business_key="k", conflict_policy=ConflictPolicy.USE_EXISTING
        )

        assert (found.instance_id, found.created) == (holder.instance_id, False)

    async def test_a_business_key_is_free_again_when_its_instance_has_ended(self, runner: Runner) -> None:
        holder = await runner.start_instance("approval", business_key="k")
        await runner.resume(holder.instance_id, "approved")

        assert (await runner.start_instance("approval", business_key="k")).created

    async def test_a_start_that_is_repeated_gets_the_first_answer(self, runner: Runner) -> None:
        first = await runner.start_instance("approval", {"n": 1}, business_key="k", request_id="r1")
        await runner.resume(first.instance_id, "approved")

        assert await runner.start_instance("approval", {"n": 1}, business_key="k", request_id="r1") == first

    async def test_a_request_id_is_rejected_for_another_start(self, runner: Runner) -> None:
        await runner.start_instance("approval", {"n": 1}, request_id="r1")

        with pytest.raises(errors.RequestIdReusedError):
            await runner.start_instance("approval", {"n": 2}, request_id="r1")

    async def test_a_rejected_start_leaves_its_request_id_free(self, runner: Runner) -> None:
        with pytest.raises(errors.WorkflowNotFoundError):
            await runner.start_instance("nothing", request_id="r1")

        assert (await runner.start_instance("approval", request_id="r1")).created

    @pytest.mark.parametrize(
        ("settings", "field"),
        [
            ({"workflow": "No Name"}, "workflow"),
            ({"instance_id": "../x"}, "instance_id"),
            ({"request_id": "has a space"}, "request_id"),
            ({"business_key": "a\u202eb"}, "business_key"),
            ({"labels": {"UPPER CASE": "x"}}, "labels"),
            ({"context": [1]}, "context"),
            ({"context": {"a": float("nan")}}, "context"),
            ({"start_delay": "soon"}, "start_delay"),
            ({"start_delay": timedelta(seconds=-1)}, "start_delay"),
            ({"start_delay": timedelta(days=366 * 11)}, "start_delay"),
        ],
    )
    async def test_a_malformed_start_names_its_field(
        self, runner: Runner, settings: dict[str, Any], field: str
    ) -> None:
        with pytest.raises(errors.InvalidFieldError) as caught:
            await runner.start_instance(**{"workflow": "approval", **settings})

        assert [violation.field for violation in caught.value.violations if field in violation.field]

    async def test_every_malformed_field_is_reported_at_once(self, runner: Runner) -> None:
        with pytest.raises(errors.InvalidFieldError) as caught:
            await runner.start_instance("No Name", instance_id="../x", request_id="has a space")

        assert len(caught.value.violations) == 3

    async def test_a_context_over_a_mebibyte_is_too_large(self, runner: Runner) -> None:
        with pytest.raises(errors.PayloadTooLargeError):
            await runner.start_instance("approval", {"text": "x" * (1 << 20)})

    async def test_an_instance_that_has_not_started_does_not_wait_yet(self, runner: Runner) -> None:
        started = await runner.start_instance("approval", start_delay="1h")

        with pytest.raises(errors.EventNotAwaitedError):
            await runner.resume(started.instance_id, "approved")

    # --- resume --------------------------------------------------------------------------------------------------

    async def test_an_event_is_delivered_to_the_step_that_waits(self, runner: Runner) -> None:
        started = await runner.start_instance("chain")

        resumed = await runner.resume(started.instance_id, "one", {"n": [1, None]})

        assert (resumed.disposition, resumed.step_ref) == (Disposition.DELIVERED, "first")
        assert resumed.revision > started.revision

    async def test_an_unknown_instance_is_not_found(self, runner: Runner) -> None:
        with pytest.raises(errors.InstanceNotFoundError) as caught:
            await runner.resume("nobody", "approved")

        assert caught.value.instance_id == "nobody"

    async def test_an_event_that_a_later_step_awaits_is_rejected_or_buffered_by_choice(
        self, runner: Runner
    ) -> None:
        started = await runner.start_instance("chain")

        with pytest.raises(errors.EventNotAwaitedError):
            await runner.resume(started.instance_id, "two")
        buffered = await runner.resume(started.instance_id, "two", buffer=True)
        await runner.resume(started.instance_id, "one")

        assert buffered.disposition is Disposition.BUFFERED
        # `second` has taken it: only `three` is left to wait for.
        assert (await runner.resume(started.instance_id, "three")).step_ref == "third"

    async def test_an_event_that_no_step_can_take_any_more_is_never_accepted(self, runner: Runner) -> None:
        started = await runner.start_instance("chain")
        await runner.resume(started.instance_id, "skip")

        for buffer in (False, True):
            with pytest.raises(errors.EventNeverAcceptedError):
                await runner.resume(started.instance_id, "two", buffer=buffer)

    async def test_an_ended_instance_takes_nothing(self, runner: Runner) -> None:
        started = await runner.start_instance("approval")
        await runner.resume(started.instance_id, "approved")

        with pytest.raises(errors.InstanceEndedError) as caught:
            await runner.resume(started.instance_id, "approved", buffer=True)
        assert caught.value.state == "COMPLETED"

    async def test_an_event_that_two_steps_wait_for_must_name_one(self, runner: Runner) -> None:
        started = await runner.start_instance("twins")
        await runner.resume(started.instance_id, "opened")

        with pytest.raises(errors.AmbiguousEventError) as caught:
            await runner.resume(started.instance_id, "go")
        right = await runner.resume(started.instance_id, "go", step_ref="right")
        left = await runner.resume(started.instance_id, "go")

        assert caught.value.step_refs == ("left", "right")
        assert (right.step_ref, left.step_ref) == ("right", "left")

    async def test_a_step_that_does_not_exist_or_has_ended_cannot_be_resumed(self, runner: Runner) -> None:
        started = await runner.start_instance("chain")
        await runner.resume(started.instance_id, "one")

        with pytest.raises(errors.StepNotFoundError):
            await runner.resume(started.instance_id, "two", step_ref="fourth")
        with pytest.raises(errors.StepFinishedError) as finished:
            await runner.resume(started.instance_id, "one", step_ref="first", buffer=True)
        with pytest.raises(errors.EventNeverAcceptedError) as never:
            await runner.resume(started.instance_id, "two", step_ref="first")

        assert finished.value.metadata["step_ref"] == "first"
        assert (never.value.metadata["events"], never.value.metadata["step_refs"]) == ("one,skip", "second")

    async def test_a_resume_that_is_repeated_gets_the_first_answer(self, runner: Runner) -> None:
        started = await runner.start_instance("chain")
        first = await runner.resume(started.instance_id, "one", 1, request_id="r1")
        await runner.resume(started.instance_id, "two")

        assert await runner.resume(started.instance_id, "one", 1, request_id="r1") == first
        with pytest.raises(errors.RequestIdReusedError):
            await runner.resume(started.instance_id, "one", 2, request_id="r1")

    async def test_of_many_equal_resumes_one_is_delivered(self, runner: Runner) -> None:
        started = await runner.start_instance("approval")

        answers = await asyncio.gather(
            *(runner.resume(started.instance_id, "approved") for _ in range(8)), return_exceptions=True
        )

        assert sum(isinstance(answer, Resumed) for answer in answers) == 1
        assert sum(isinstance(answer, errors.InstanceEndedError) for answer in answers) == 7

    @pytest.mark.parametrize("event", ["timeout", "error", "elapsed", "", "No Name", "x" * 65])
    async def test_an_event_that_clients_must_not_send_is_malformed(self, runner: Runner, event: str) -> None:
        started = await runner.start_instance("approval")

        with pytest.raises(errors.InvalidFieldError) as caught:
            await runner.resume(started.instance_id, event)
        assert caught.value.violations[0].field == "event"

    @pytest.mark.parametrize("payload", [float("inf"), {1: 2}, "\ud800", {"a\u0000b": 1}, object()])
    async def test_a_payload_that_is_not_json_is_malformed(self, runner: Runner, payload: Any) -> None:
        started = await runner.start_instance("approval")

        with pytest.raises(errors.InvalidFieldError):
            await runner.resume(started.instance_id, "approved", payload)

    # --- schedule_resume -----------------------------------------------------------------------------------------

    async def test_a_scheduled_resume_has_a_reference_and_is_never_due_early(self, runner: Runner) -> None:
        before = datetime.now(UTC)
        started = await runner.start_instance("approval")

        scheduled = await runner.schedule_resume(started.instance_id, "decide", 60_000)

        assert scheduled.reference == f"{started.instance_id}.{scheduled.revision}"
        assert scheduled.due_time >= before.replace(microsecond=0) + timedelta(seconds=60)
        assert scheduled.due_time.tzinfo is not None

    async def test_a_step_that_has_not_started_can_be_given_a_timeout(self, runner: Runner) -> None:
        started = await runner.start_instance("chain")

        assert (await runner.schedule_resume(started.instance_id, "second", 1_000)).reference

    async def test_a_step_is_rejected_a_timeout_for_its_own_reason(self, runner: Runner) -> None:
        started = await runner.start_instance("chain")

        with pytest.raises(errors.StepNotFoundError):
            await runner.schedule_resume(started.instance_id, "fourth", 1_000)
        with pytest.raises(errors.StepHasNoTimeoutError):
            await runner.schedule_resume(started.instance_id, "third", 1_000)
        await runner.resume(started.instance_id, "skip")
        with pytest.raises(errors.StepUnreachableError):
            await runner.schedule_resume(started.instance_id, "second", 1_000)

    async def test_a_finished_step_or_instance_takes_no_timer(self, runner: Runner) -> None:
        started = await runner.start_instance("chain")
        await runner.resume(started.instance_id, "one")
        await runner.resume(started.instance_id, "two")

        with pytest.raises(errors.StepFinishedError):
            await runner.schedule_resume(started.instance_id, "second", 1_000)
        await runner.resume(started.instance_id, "three")
        with pytest.raises(errors.InstanceEndedError):
            await runner.schedule_resume(started.instance_id, "second", 1_000)

    async def test_a_scheduled_resume_that_is_repeated_gets_the_first_answer(self, runner: Runner) -> None:
        started = await runner.start_instance("approval")
        first = await runner.schedule_resume(started.instance_id, "decide", 60_000, request_id="r1")

        assert await runner.schedule_resume(started.instance_id, "decide", 60_000, request_id="r1") == first
        with pytest.raises(errors.RequestIdReusedError):
            await runner.schedule_resume(started.instance_id, "decide", 1, request_id="r1")

    @pytest.mark.parametrize("delay_ms", [0, -1, 11 * 366 * 86_400_000, 2**63 - 1, 2**63])
    async def test_a_delay_is_between_a_millisecond_and_ten_years(
        self, runner: Runner, delay_ms: int
    ) -> None:
        started = await runner.start_instance("approval")

        with pytest.raises(errors.InvalidFieldError) as caught:
            await runner.schedule_resume(started.instance_id, "decide", delay_ms)
        assert caught.value.violations[0].field == "delay_ms"
