"""Bad input: numbers, page tokens and revisions out of bounds."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.bad_input.calls import blamed, schedule, sound, start
from perdure.model.graph import DURATION_MS_MAX
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import timer_service_pb2 as timers
from perdure.v1 import workflow_service_pb2 as workflows
from support.api_fixture import ApiWorld


@pytest.mark.parametrize("delay_ms", [0, -1, DURATION_MS_MAX + 1, 2**63 - 1, -(2**63)])
async def test_a_delay_out_of_bounds_is_blamed(world: ApiWorld, delay_ms: int) -> None:
    assert blamed(await world.call("ScheduleResume", schedule(delay_ms=delay_ms))) == {"delay_ms"}


@pytest.mark.parametrize("delay_ms", [-1, DURATION_MS_MAX + 1, 2**63 - 1])
async def test_a_start_delay_out_of_bounds_is_blamed(world: ApiWorld, delay_ms: int) -> None:
    answer = await world.call("StartInstance", start(opts_start_delay_ms=delay_ms))

    assert blamed(answer) == {"opts.start_delay_ms"}


async def test_the_longest_delay_is_taken(world: ApiWorld) -> None:
    await world.start("approval", "here")

    answer = await world.call("ScheduleResume", schedule(delay_ms=DURATION_MS_MAX))

    assert answer.reference.startswith("here.")


@pytest.mark.parametrize("size", [-1, -(2**31)])
@pytest.mark.parametrize(
    ("rpc", "request_type"),
    [
        ("ListInstances", instances.ListInstancesRequest),
        ("ListTimers", timers.ListTimersRequest),
        ("ListWorkflows", workflows.ListWorkflowsRequest),
    ],
)
async def test_a_negative_page_size_is_blamed(
    world: ApiWorld, rpc: str, request_type: Any, size: int
) -> None:
    assert blamed(await world.call(rpc, request_type(page_size=size))) == {"page_size"}


async def test_a_huge_page_size_is_cut_to_a_thousand(world: ApiWorld) -> None:
    for instance_id, count in (("here", 1_000), ("there", 1)):
        await world.start("approval", instance_id)
        for _ in range(count):
            armed = schedule(instance_id=instance_id, delay_ms=DURATION_MS_MAX)
            assert (await world.call("ScheduleResume", armed)).revision

    page = await world.call("ListTimers", timers.ListTimersRequest(page_size=10**9))

    assert len(page.timers) == 1_000
    assert page.next_page_token


# --- page tokens -----------------------------------------------------------------------------------------------


async def test_a_page_token_that_was_altered_is_blamed(world: ApiWorld) -> None:
    for _ in range(3):
        await world.start("approval")
    first = await world.call("ListInstances", instances.ListInstancesRequest(page_size=1))
    token = first.next_page_token

    for index in range(len(token)):
        altered = token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :]
        answer = await world.call(
            "ListInstances", instances.ListInstancesRequest(page_size=1, page_token=altered)
        )
        assert blamed(answer) == {"page_token"}, altered


@pytest.mark.parametrize("token", ["x", "=", "a" * 5_000, "ä", "\0", "////", "AAAA" * 10])
async def test_a_page_token_out_of_thin_air_is_blamed(world: ApiWorld, token: str) -> None:
    for rpc, request in (
        ("ListInstances", instances.ListInstancesRequest(page_token=token)),
        ("ListHistory", instances.ListHistoryRequest(instance_id="here", page_token=token)),
        ("ListTimers", timers.ListTimersRequest(page_token=token)),
        ("ListWorkflows", workflows.ListWorkflowsRequest(page_token=token)),
    ):
        assert blamed(await world.call(rpc, request)) == {"page_token"}


async def test_a_page_token_of_another_query_is_blamed(world: ApiWorld) -> None:
    for _ in range(2):
        await world.start("approval")
    first = await world.call("ListInstances", instances.ListInstancesRequest(page_size=1))

    for other in (
        instances.ListInstancesRequest(workflow="approval"),
        instances.ListInstancesRequest(business_key="k"),
        instances.ListInstancesRequest(labels={"a": "b"}),
        instances.ListInstancesRequest(states=[instances.INSTANCE_STATE_WAITING]),
    ):
        other.page_token = first.next_page_token
        assert blamed(await world.call("ListInstances", other)) == {"page_token"}
    listed = await world.call("ListTimers", timers.ListTimersRequest(page_token=first.next_page_token))
    assert blamed(listed) == {"page_token"}


async def test_pages_follow_each_other_without_a_repeat_or_a_gap(world: ApiWorld) -> None:
    started = [(await world.start("approval")).instance_id for _ in range(5)]

    found: list[str] = []
    token = ""
    while True:
        page = await world.call(
            "ListInstances", instances.ListInstancesRequest(page_size=2, page_token=token)
        )
        found += [line.instance_id for line in page.instances]
        token = page.next_page_token
        if not token:
            break

    assert sorted(found) == sorted(started)
    assert len(found) == 5


# --- revisions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", [1_000, 2**63 - 1])
async def test_a_revision_in_the_future_is_out_of_range(world: ApiWorld, revision: int) -> None:
    await world.start("approval", "here")

    for rpc, request in (
        ("WatchInstance", instances.WatchInstanceRequest(instance_id="here", after_revision=revision)),
        ("ListHistory", instances.ListHistoryRequest(instance_id="here", after_revision=revision)),
    ):
        refusal = sound(await world.call(rpc, request))
        assert refusal.what == ("OUT_OF_RANGE", "REVISION_IN_FUTURE")
        assert int(refusal.metadata["revision"]) >= 1


@pytest.mark.parametrize("revision", [-1, -(2**63)])
async def test_a_negative_revision_is_blamed(world: ApiWorld, revision: int) -> None:
    for rpc, request in (
        ("WatchInstance", instances.WatchInstanceRequest(instance_id="here", after_revision=revision)),
        ("ListHistory", instances.ListHistoryRequest(instance_id="here", after_revision=revision)),
    ):
        assert blamed(await world.call(rpc, request)) == {"after_revision"}


async def test_a_state_that_is_none_is_blamed(world: ApiWorld) -> None:
    for state in (0, 7, 99, -1):
        answer = await world.call("ListInstances", instances.ListInstancesRequest(states=[state]))
        assert blamed(answer) == {"states"}
