"""Failures of the server, as a client sees them."""

from __future__ import annotations

import json

import pytest

from contract.runner_flows import FLOWS
from e2e.bad_input.calls import error_of, resume, schedule, start
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
async def test_a_failing_database_is_unavailable_with_a_retry_delay(
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
        assert error_of(answer).what == ("UNAVAILABLE", reason)
        assert answer.retry_after_ms > 0
    assert (await world.call("Resume", resume())).disposition == runner.DISPOSITION_DELIVERED


async def test_an_unhandled_error_is_logged_and_returned_as_unknown(
    world: ApiWorld, store: FaultyStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def defect(*_: object) -> None:
        raise KeyError("a customer's secret")

    monkeypatch.setattr(store, "get_instance", defect)

    error = error_of(await world.call("GetInstance", instances.GetInstanceRequest(instance_id="here")))

    assert error.what == ("UNAVAILABLE", "COMMIT_UNKNOWN")
    assert "secret" not in error.message
    assert any(record.exc_info for record in caplog.records)


async def test_too_many_calls_are_rejected_with_a_retry_delay(store: FaultyStore) -> None:
    async with serving(FLOWS, store=store, limits=Limits(calls_max=0, lists_max=0, watches_max=0)) as world:
        for rpc in METHODS:
            error = error_of(await world.call(rpc, b""))
            assert error.what == ("RESOURCE_EXHAUSTED", "OVERLOADED")
            assert error.retry_after_ms > 0


async def test_too_many_bytes_of_requests_are_rejected(store: FaultyStore) -> None:
    async with serving(FLOWS, store=store, limits=Limits(calls_bytes_max=1_000)) as world:
        small = await world.start("approval")
        large = await world.call(
            "StartInstance", start(context=common_pb2.Payload(json=json.dumps({"a": "x" * 2_000})))
        )

    assert small.created
    assert error_of(large).what == ("RESOURCE_EXHAUSTED", "OVERLOADED")


async def test_a_draining_server_rejects_writes_and_still_reads(world: ApiWorld) -> None:
    await world.start("approval", "here")
    await world.api.drain()

    for rpc, request in (
        ("StartInstance", start()),
        ("Resume", resume()),
        ("ScheduleResume", schedule()),
        ("CancelInstance", instances.CancelInstanceRequest(instance_id="here")),
        ("WatchInstance", instances.WatchInstanceRequest(instance_id="here")),
    ):
        error = error_of(await world.call(rpc, request))
        assert error.what == ("UNAVAILABLE", "SHUTTING_DOWN")
        assert error.retry_after_ms > 0
    found = await world.call("GetInstance", instances.GetInstanceRequest(instance_id="here"))
    assert found.instance.instance_id == "here"
