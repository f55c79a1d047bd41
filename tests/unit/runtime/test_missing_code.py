"""Live instances without code are counted and logged, and unconsumed events leave a trace."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from perdure import Context, Outcome, Workflow, step, wait_for
from perdure_server.core import Core
from perdure_server.engine.commands import payload
from perdure_server.runtime import missing_code
from perdure_server.store.protocol import LiveDefinition
from perdure_server.store.sqlite import SqliteStore

NO_CONTEXT: Final = payload("{}")


class Shipping(Workflow, name="shipping", version=1):
    start = "approval"
    approval = wait_for("approved", "noted", on={"approved": "ship", "noted": "end"})

    @step(on={"done": "end"})
    async def ship(self, ctx: Context) -> Outcome:
        return Outcome("done")


class ShippingNext(Workflow, name="shipping", version=2):
    start = "ship"

    @step(on={"done": "end"})
    async def ship(self, ctx: Context) -> Outcome:
        return Outcome("done")


class Pure(Workflow, name="pure", version=1):
    """A workflow that needs no code."""

    start = "first"
    first = wait_for("go", on={"go": "second"})
    second = wait_for("go", "late", on={"go": "end", "late": "end"})


@pytest.fixture
async def cores(path: str) -> AsyncIterator[Any]:
    """Start cores one after the other on the same database."""
    started: list[Core] = []

    async def start(*workflows: type[Workflow]) -> Core:
        for core in started:
            await core.stop(0)
        started[:] = [Core(SqliteStore(path), workflows)]
        await started[0].start()
        return started[0]

    yield start
    for core in started:
        await core.stop(0)


def logged(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.getMessage() == message]


async def test_a_forgotten_version_is_logged_once_and_exported(
    cores: Any, caplog: pytest.LogCaptureFixture
) -> None:
    core = await cores(Shipping, Pure)
    for _ in range(3):
        await core.operations.start_instance(workflow="shipping", context=NO_CONTEXT)
    await core.operations.start_instance(workflow="pure", context=NO_CONTEXT)
    assert core.missing_code.counts == {LiveDefinition("shipping", 1): 0, LiveDefinition("pure", 1): 0}

    core = await cores(ShippingNext)
    assert core.missing_code.counts == {LiveDefinition("shipping", 1): 3, LiveDefinition("shipping", 2): 0}
    (line,) = logged(caplog, "live instances without code")
    assert (line["workflow"], line["version"], line["instances"]) == ("shipping", 1, "3")
    assert line["levelno"] == logging.WARNING
    await core.missing_code.check()
    assert len(logged(caplog, "live instances without code")) == 1

    core = await cores(Shipping, ShippingNext)
    assert not any(core.missing_code.counts.values())


async def test_a_count_stops_at_its_maximum(
    cores: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missing_code, "COUNT_MAX", 2)
    core = await cores(Shipping)
    for _ in range(3):
        await core.operations.start_instance(workflow="shipping", context=NO_CONTEXT)
    core = await cores(ShippingNext)
    assert core.missing_code.counts[LiveDefinition("shipping", 1)] == 2
    assert logged(caplog, "live instances without code")[0]["instances"] == "2 or more"


async def test_events_left_at_the_end_are_logged_and_counted(
    cores: Any, caplog: pytest.LogCaptureFixture
) -> None:
    core = await cores(Pure)
    await core.operations.start_instance(workflow="pure", context=NO_CONTEXT, instance_id="left")
    for event in ("late", "late", "go"):
        await core.operations.resume("left", event=event, buffer=True, payload=payload('{"card": "4111"}'))

    state = (await core.operations.queries.get_instance("left")).state
    assert state.status.value == "completed"
    (line,) = logged(caplog, "instance ended with unconsumed events")
    assert (line["instance_id"], line["workflow"], line["count"]) == ("left", "pure", 1)
    assert (line["events"], line["state"]) == ("late", "completed")
    assert list(core.processor.counters.unconsumed.counts()) == [("pure", "unconsumed", 1)]


async def test_a_cancelled_instance_leaves_its_events(cores: Any, caplog: pytest.LogCaptureFixture) -> None:
    core = await cores(Pure)
    await core.operations.start_instance(workflow="pure", context=NO_CONTEXT, instance_id="gone")
    await core.operations.resume("gone", event="late", buffer=True)
    await core.operations.cancel_instance("gone")
    assert [line["state"] for line in logged(caplog, "instance ended with unconsumed events")] == [
        "cancelled"
    ]
    assert list(core.processor.counters.unconsumed.counts()) == [("pure", "unconsumed", 1)]


async def test_consumed_events_leave_no_trace(cores: Any, caplog: pytest.LogCaptureFixture) -> None:
    core = await cores(Pure)
    await core.operations.start_instance(workflow="pure", context=NO_CONTEXT, instance_id="whole")
    await core.operations.resume("whole", event="late", buffer=True)
    await core.operations.resume("whole", event="go")
    assert (await core.operations.queries.get_instance("whole")).state.status.value == "completed"
    assert not logged(caplog, "instance ended with unconsumed events")
    assert list(core.processor.counters.unconsumed.counts()) == [("pure", "unconsumed", 0)]
