"""The server's own troubles, told to whoever calls."""

from __future__ import annotations

import json

import pytest

from contract.runner_flows import FLOWS
from e2e.bad_input.calls import resume, schedule, sound, start
from e2e.bad_input.faulty_store import FaultyStore
from perdure.v1 import common_pb2
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner
from perdure_server.api.limits import Limits
from perdure_server.store.protocol import CommitUnknownError, StoreError, StoreUnavailableError
from support.api_fixture import METHODS, ApiWorld, serving


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(StoreUnavailableError("away"), "DATABASE_UNAVAILABLE"), (CommitUnknownError("lost"), "COMMIT_UNKNOWN")],
)
async def test_a_database_in_trouble_is_unavailable_and_says_when_to_try_again(
    world: ApiWorld, store: FaultyStore, fault: StoreError, reason: str
) -> None:
    await world.start("approval", "here")
    store.fault = fault

    answers = [
        await world.start("approval"),
        await world.call("Resume", resume()),
        await world.call("GetInstance", instances.GetInstanceRequest(instance_id="here")),
    ]
    store.fault = None

    for answer in answers:
        assert sound(answer).what == ("UNAVAILABLE", reason)
        assert answer.retry_after_ms > 0
    assert (await world.call("Resume", resume())).disposition == runner.DISPOSITION_DELIVERED


async def test_a_defect_is_logged_and_told_as_an_unknown_outcome(
    world: ApiWorld, store: FaultyStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def defect(*_: object) -> None:
        raise KeyError("a customer's secret")

    monkeypatch.setattr(store, "get_instance", defect)

    refusal = sound(await world.call("GetInstance", instances.GetInstanceRequest(instance_id="here")))

    assert refusal.what == ("UNAVAILABLE", "COMMIT_UNKNOWN")
    assert "secret" not in refusal.message
    assert any(record.exc_info for record in caplog.records)


async def test_too_much_load_is_refused_with_a_pause(store: FaultyStore) -> None:
    async with serving(FLOWS, store=store, limits=Limits(calls_max=0, lists_max=0, watches_max=0)) as world:
        for rpc in METHODS:
            refusal = sound(await world.call(rpc, b""))
            assert refusal.what == ("RESOURCE_EXHAUSTED", "OVERLOADED")
            assert refusal.retry_after_ms > 0


async def test_more_bytes_than_the_server_holds_at_once_are_refused(store: FaultyStore) -> None:
    async with serving(FLOWS, store=store, limits=Limits(calls_bytes_max=1_000)) as world:
        small = await world.start("approval")
        large = await world.call(
            "StartInstance", start(context=common_pb2.Payload(json=json.dumps({"a": "x" * 2_000})))
        )

    assert small.created
    assert sound(large).what == ("RESOURCE_EXHAUSTED", "OVERLOADED")


async def test_a_draining_server_refuses_what_would_change_something_and_still_reads(world: ApiWorld) -> None:
    await world.start("approval", "here")
    await world.api.drain()

    for rpc, request in (
        ("StartInstance", start()),
        ("Resume", resume()),
        ("ScheduleResume", schedule()),
        ("CancelInstance", instances.CancelInstanceRequest(instance_id="here")),
        ("WatchInstance", instances.WatchInstanceRequest(instance_id="here")),
    ):
        refusal = sound(await world.call(rpc, request))
        assert refusal.what == ("UNAVAILABLE", "SHUTTING_DOWN")
        assert refusal.retry_after_ms > 0
    found = await world.call("GetInstance", instances.GetInstanceRequest(instance_id="here"))
    assert found.instance.instance_id == "here"
