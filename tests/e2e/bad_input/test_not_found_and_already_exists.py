"""Bad input: unknown names, and names that are in use."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from contract.runner_flows import FLOWS
from e2e.bad_input.calls import error_of, resume, schedule, start
from perdure import Workflow, graph_of, wait_for
from perdure.v1 import common_pb2
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner
from perdure.v1 import timer_service_pb2 as timers
from perdure.v1 import workflow_service_pb2 as workflows
from support.api_fixture import ApiWorld


@pytest.mark.parametrize(
    ("rpc", "request_message"),
    [
        ("Resume", resume(instance_id="nobody")),
        ("ScheduleResume", schedule(instance_id="nobody")),
        ("GetInstance", instances.GetInstanceRequest(instance_id="nobody")),
        ("ListHistory", instances.ListHistoryRequest(instance_id="nobody")),
        ("WatchInstance", instances.WatchInstanceRequest(instance_id="nobody")),
        ("CancelInstance", instances.CancelInstanceRequest(instance_id="nobody")),
        ("RetryInstance", instances.RetryInstanceRequest(instance_id="nobody")),
    ],
)
async def test_an_unknown_instance_is_not_found(world: ApiWorld, rpc: str, request_message: Message) -> None:
    error = error_of(await world.call(rpc, request_message))

    assert error.what == ("NOT_FOUND", "INSTANCE_NOT_FOUND")
    assert error.resource == ("instance", "nobody")


@pytest.mark.parametrize("reference", ["nobody.3", "here.1", "here.999999999999999999"])
async def test_an_unknown_timer_is_not_found(world: ApiWorld, reference: str) -> None:
    await world.start("approval", "here")

    for rpc, request in (
        ("GetTimer", timers.GetTimerRequest(reference=reference)),
        ("CancelTimer", timers.CancelTimerRequest(reference=reference)),
        ("FireTimer", timers.FireTimerRequest(reference=reference)),
    ):
        error = error_of(await world.call(rpc, request))
        assert error.what == ("NOT_FOUND", "TIMER_NOT_FOUND")
        assert error.resource == ("timer", reference)


async def test_an_unknown_workflow_is_not_found(world: ApiWorld) -> None:
    for rpc, request in (
        ("StartInstance", start(workflow="nothing")),
        ("StartInstance", start(workflow="approval", opts_version=77)),
        ("GetWorkflow", workflows.GetWorkflowRequest(workflow="nothing")),
        ("GetWorkflow", workflows.GetWorkflowRequest(workflow="approval", version=77)),
    ):
        error = error_of(await world.call(rpc, request))
        assert error.what == ("NOT_FOUND", "WORKFLOW_NOT_FOUND")
        assert error.resource[0] == "workflow"


async def test_an_unknown_workflow_is_reported_with_the_known_ones(world: ApiWorld) -> None:
    for rpc, request in (
        ("StartInstance", start(workflow="aproval")),
        ("GetWorkflow", workflows.GetWorkflowRequest(workflow="aproval")),
    ):
        error = error_of(await world.call(rpc, request))
        assert error.metadata["nearest"] == "approval"
        assert set(error.metadata["workflows"].split(",")) == {graph_of(flow).name for flow in FLOWS}
        assert error.hint == "did you mean approval?"
    for rpc, request in (
        ("StartInstance", start(workflow="approval", opts_version=77)),
        ("GetWorkflow", workflows.GetWorkflowRequest(workflow="approval", version=77)),
    ):
        assert error_of(await world.call(rpc, request)).metadata["versions"] == "1,2"


class Newcomer(Workflow, name="newcomer", version=1):
    """A workflow that is registered during the test."""

    start = "come"
    come = wait_for("come", on={"come": "end"})


async def test_a_workflow_that_was_just_stored_is_known(world: ApiWorld) -> None:
    await world.call("GetWorkflow", workflows.GetWorkflowRequest(workflow="newcomers"))
    await world.core.definitions.register(graph_of(Newcomer))

    error = error_of(await world.call("GetWorkflow", workflows.GetWorkflowRequest(workflow="newcomers")))

    assert error.metadata["nearest"] == "newcomer"


async def test_an_unknown_step_is_not_found(world: ApiWorld) -> None:
    await world.start("approval", "here")

    for rpc, request in (
        ("Resume", resume(opts_step_ref="nowhere")),
        ("ScheduleResume", schedule(step_ref="nowhere")),
    ):
        error = error_of(await world.call(rpc, request))
        assert error.what == ("NOT_FOUND", "STEP_NOT_FOUND")
        assert error.resource == ("step", "nowhere")


async def test_an_existing_instance_id_is_rejected(world: ApiWorld) -> None:
    await world.start("approval", "here", request_id="one")

    error = error_of(await world.start("approval", "here", request_id="two"))

    assert error.what == ("ALREADY_EXISTS", "INSTANCE_ALREADY_EXISTS")
    assert error.resource == ("instance", "here")


async def test_a_business_key_in_use_names_its_holder(world: ApiWorld) -> None:
    await world.start("approval", "here", business_key="k")

    error = error_of(await world.start("approval", "there", business_key="k"))

    assert error.what == ("ALREADY_EXISTS", "BUSINESS_KEY_IN_USE")
    assert error.resource == ("instance", "here")


async def test_an_empty_object_equals_an_absent_payload(world: ApiWorld) -> None:
    await world.start("approval", "here")

    first = await world.call("Resume", resume(opts_request_id="one"))
    again = await world.call(
        "Resume", resume(opts_request_id="one", opts_payload=common_pb2.Payload(json="{}"))
    )

    assert again == first


async def test_a_request_id_with_another_body_is_rejected(world: ApiWorld) -> None:
    await world.start("approval", "here", request_id="one")
    await world.call("ScheduleResume", schedule(opts=runner.ScheduleOptions(request_id="one")))

    for rpc, request in (
        ("StartInstance", start(workflow="chain", opts_request_id="one")),
        ("ScheduleResume", schedule(delay_ms=77, opts=runner.ScheduleOptions(request_id="one"))),
    ):
        error = error_of(await world.call(rpc, request))
        assert error.what == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")
        assert set(error.violations) == {"opts.request_id"}
