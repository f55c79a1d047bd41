"""A server that restarts with other code: stored instances continue, and stored responses are repeated."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from perdure import Context, Outcome, StepError, Workflow, step, wait_for
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner
from perdure_server.runtime.definitions import DefinitionInUseError
from perdure_server.store.sqlite import SqliteStore
from support.api_fixture import ApiWorld, CallError, serving


class Ship(Workflow, name="ship", version=1):
    start = "go"
    go = wait_for("ready", on={"ready": "send"})

    @step(on={"sent": "end"})
    async def send(self, ctx: Context) -> Outcome:
        if ctx.input.get("bad"):
            raise StepError("no such address", retryable=False)
        return Outcome("sent")


class ShipOrSink(Workflow, name="ship", version=1):
    start = "go"
    go = wait_for("ready", "sunk", on={"ready": "send", "sunk": "end"})

    @step(on={"sent": "end"})
    async def send(self, ctx: Context) -> Outcome:
        return Outcome("sent")


class ShipTwo(Workflow, name="ship", version=2):
    start = "go"
    go = wait_for("ready", on={"ready": "end"})


@pytest.fixture
def database(tmp_path: Path) -> str:
    return str(tmp_path / "x.db")


async def start(world: ApiWorld, instance_id: str, *, context: str = "{}") -> Any:
    request = runner.StartInstanceRequest(workflow="ship", opts=runner.StartOptions(instance_id=instance_id))
    request.context.json = context
    return await world.call("StartInstance", request)


async def resume(world: ApiWorld, instance_id: str, request_id: str = "") -> Any:
    opts = runner.ResumeOptions(request_id=request_id)
    return await world.call("Resume", runner.ResumeRequest(instance_id=instance_id, event="ready", opts=opts))


async def cancel(world: ApiWorld, instance_id: str) -> Any:
    return await world.call("CancelInstance", instances.CancelInstanceRequest(instance_id=instance_id))


async def retry(world: ApiWorld, instance_id: str, request_id: str = "") -> Any:
    opts = instances.RetryInstanceOptions(request_id=request_id)
    return await world.call(
        "RetryInstance", instances.RetryInstanceRequest(instance_id=instance_id, opts=opts)
    )


async def found(world: ApiWorld, instance_id: str) -> Any:
    return (await world.call("GetInstance", instances.GetInstanceRequest(instance_id=instance_id))).instance


async def ended(world: ApiWorld, instance_id: str) -> Any:
    """Return the instance after its watch has ended."""
    async with asyncio.timeout(60):
        await world.call(
            "WatchInstance", instances.WatchInstanceRequest(instance_id=instance_id, after_revision=0)
        )
    return await found(world, instance_id)


async def failed(world: ApiWorld, instance_id: str, request_id: str = "") -> Any:
    """Let an instance fail. Returns the response to the Resume that caused it."""
    await start(world, instance_id, context='{"bad": true}')
    answer = await resume(world, instance_id, request_id)
    assert (await ended(world, instance_id)).state == instances.INSTANCE_STATE_FAILED
    return answer


async def test_a_step_without_code_says_so_and_runs_once_code_is_served(database: str) -> None:
    async with serving([Ship], store=SqliteStore(database)) as world:
        await start(world, "s1")
    async with serving([], store=SqliteStore(database)) as world:
        assert (await resume(world, "s1")).step_ref == "go"
        waiting = await found(world, "s1")
    async with serving([Ship], store=SqliteStore(database)) as world:
        done = await ended(world, "s1")

    [step] = waiting.active_steps
    assert (step.step_ref, step.state) == ("send", instances.STEP_STATE_NO_WORKER)
    assert waiting.state == instances.INSTANCE_STATE_RUNNING
    assert done.state == instances.INSTANCE_STATE_COMPLETED


async def test_a_graph_of_live_instances_cannot_be_replaced(database: str) -> None:
    async with serving([Ship], store=SqliteStore(database)) as world:
        await start(world, "s1")
    with pytest.raises(DefinitionInUseError, match="bump the version"):
        async with serving([ShipOrSink], store=SqliteStore(database)):
            pass
    async with serving([Ship, ShipTwo], store=SqliteStore(database)) as world:
        newest = await start(world, "s2")
        await resume(world, "s1")
        old = await ended(world, "s1")

    assert newest.version == 2
    assert (old.version, old.state) == (1, instances.INSTANCE_STATE_COMPLETED)


async def test_a_stored_response_survives_the_replacement_of_its_graph(database: str) -> None:
    async with serving([Ship], store=SqliteStore(database)) as world:
        first = await failed(world, "s1", "r1")
        retried = await retry(world, "s1", "t1")
        assert (await ended(world, "s1")).state == instances.INSTANCE_STATE_FAILED
    async with serving([ShipOrSink], store=SqliteStore(database)) as world:
        assert await resume(world, "s1", "r1") == first
        assert await retry(world, "s1", "t1") == retried
        assert (await resume(world, "s1", "r2")).reason == "INSTANCE_ENDED"


async def test_a_failed_instance_with_a_replaced_graph_can_only_be_cancelled(
    database: str,
) -> None:
    async with serving([Ship], store=SqliteStore(database)) as world:
        await failed(world, "s1")
    async with serving([ShipOrSink], store=SqliteStore(database)) as world:
        refusal = await retry(world, "s1", "t1")
        cancelled = await cancel(world, "s1")
        over = await found(world, "s1")

    assert isinstance(refusal, CallError)
    assert refusal.what == ("NOT_FOUND", "WORKFLOW_NOT_FOUND")
    assert "was replaced" in refusal.message
    assert (over.state, over.revision) == (instances.INSTANCE_STATE_CANCELLED, cancelled.revision)


async def test_a_ready_step_of_a_removed_workflow_is_logged(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving([Ship], store=SqliteStore(database)):
        pass

    async with serving(store=SqliteStore(database)) as world:
        await start(world, "one")
        assert not caplog.records  # it waits, which takes no code
        await resume(world, "one")
        (step,) = (await found(world, "one")).active_steps

    assert step.state == instances.STEP_STATE_NO_WORKER
    (told,) = [vars(record) for record in caplog.records]
    assert told["message"] == "no handler for ready step"
    assert (told["workflow"], told["version"], told["step_ref"]) == ("ship", 1, "send")
