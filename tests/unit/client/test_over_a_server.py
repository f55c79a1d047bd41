"""Both clients with a real server in this process: an order from start to end, and a restart."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from order import OrderFlow
from perdure import AsyncClient, Client, Join, errors, graph_of
from perdure.client import (
    CallRetryPolicy,
    Health,
    HistoryEntry,
    InstanceState,
    RawJson,
    Snapshot,
    StepFinished,
    StepSkipped,
    StepState,
    TimerKind,
    WatchEnd,
)
from perdure_server.app import Server
from perdure_server.config import Config

ORDER: Final = {"items": [1, 2], "total_cents": 2**53 + 1, "note": "größer als 2⁵³ 🚀"}
QUICK: Final = CallRetryPolicy(initial_backoff=0.01, max_backoff=0.1)


def config(database: str = ":memory:", listen: str = "127.0.0.1:0") -> Config:
    return Config(workflows=(OrderFlow,), database=database, listen=listen, shutdown_timeout_seconds=1.0)


async def watched_until(client: AsyncClient, instance_id: str, step_ref: str) -> None:
    """Return when the step waits."""
    async with aclosing(client.watch_instance(instance_id, after_revision=0)) as events:
        async for event in events:
            active = (await client.get_instance(instance_id)).active_steps
            if any(step.step_ref == step_ref and step.state is StepState.WAITING for step in active):
                return
            assert not isinstance(event, WatchEnd)


async def test_raw_json_is_returned_byte_for_byte() -> None:
    context = RawJson('{"price": 1.10, "id": 9223372036854775807, "a": "\\u00e4", "a": "ä 🚀"}')
    server = Server(config())
    address = str(await server.start())
    async with AsyncClient(address) as client:
        started = await client.start_instance("order", context, start_delay="1h")
        instance = await client.get_instance(started.instance_id, raw_json=True)
    with Client(address) as blocking:
        again = await asyncio.to_thread(blocking.get_instance, started.instance_id, raw_json=True)
    await server.stop()

    assert instance.input == again.input == context
    assert isinstance(instance.input, RawJson)


async def test_an_order_is_started_watched_resumed_and_read() -> None:
    server = Server(config())
    address = str(await server.start())
    async with AsyncClient(address) as client:
        started = await client.start_instance("order", ORDER, labels={"team": "web"}, business_key="k")
        await watched_until(client, started.instance_id, "reserve")
        await client.resume(started.instance_id, "reserved", {"shelf": "B4"})
        await client.resume(started.instance_id, "approved", buffer=True)
        await watched_timer(client, started.instance_id, TimerKind.SLEEP)
        [nap] = [t async for t in client.list_timers(started.instance_id) if t.kind is TimerKind.SLEEP]
        assert (await client.get_timer(nap.reference)) == nap
        assert (await client.fire_timer(nap.reference)).used
        instance = await client.wait_for_end(started.instance_id, timeout=30)
        history = [entry async for entry in client.list_history(started.instance_id, page_size=3)]
        listed = [i async for i in client.list_instances(labels={"team": "web"}, states=["completed"])]
        with pytest.raises(errors.TimerNotFoundError):
            await client.cancel_timer(nap.reference)
    await server.stop()

    assert instance.state is InstanceState.COMPLETED
    assert instance.input == ORDER
    assert instance.outputs["reserve"] == {"shelf": "B4"}
    assert instance.outputs["charge"]["cents"] == ORDER["total_cents"]
    assert [entry.revision for entry in history] == list(range(1, instance.revision + 1))
    assert all(entry.kind for entry in history)
    ended = {entry.fact.step_ref for entry in history if isinstance(entry.fact, StepFinished | StepSkipped)}
    assert ended == {result.step_ref for result in instance.step_results}
    assert [(found.instance_id, found.business_key) for found in listed] == [(started.instance_id, "k")]


async def watched_timer(client: AsyncClient, instance_id: str, kind: TimerKind) -> None:
    """Return when the instance has a timer of the kind."""
    async with aclosing(client.watch_instance(instance_id, after_revision=0)) as events:
        async for _ in events:
            if [timer async for timer in client.list_timers(instance_id) if timer.kind is kind]:
                return


async def test_a_watch_and_a_call_survive_a_restart_of_the_server(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/orders.db"
    server = Server(config(database))
    address = str(await server.start())
    async with AsyncClient(address, retries=QUICK) as client:
        started = await client.start_instance("order", ORDER)
        await watched_until(client, started.instance_id, "reserve")
        events = client.watch_instance(started.instance_id)
        first = await anext(events)
        assert isinstance(first, Snapshot)
        following = asyncio.create_task(anext(events))
        await server.stop()
        resumed = asyncio.create_task(client.resume(started.instance_id, "reserved"))
        server = Server(config(database, address))
        await server.start()

        entry = await following
        assert (await resumed).step_ref == "reserve"
        assert isinstance(entry, HistoryEntry)
        assert entry.revision == first.instance.revision + 1
        await events.aclose()
    await server.stop()


async def test_a_blocking_client_runs_an_order() -> None:
    server = Server(config())
    address = str(await server.start())

    def use() -> InstanceState:
        with Client(address) as client:
            assert client.check_health() is Health.SERVING
            started = client.start_instance("order", {"items": []}, request_id="r1")
            assert client.start_instance("order", {"items": []}, request_id="r1") == started
            revisions = [
                event.revision
                for event in client.watch_instance(started.instance_id, after_revision=0)
                if isinstance(event, HistoryEntry)
            ]
            assert revisions == list(range(1, len(revisions) + 1))
            with pytest.raises(errors.InstanceEndedError):
                client.cancel_instance(started.instance_id)
            return client.wait_for_end(started.instance_id, timeout=30).state

    assert await asyncio.to_thread(use) is InstanceState.COMPLETED
    await server.stop()


async def test_a_workflow_is_read_as_it_was_declared() -> None:
    server = Server(config())
    async with AsyncClient(str(await server.start())) as client:
        [summary] = [workflow async for workflow in client.list_workflows()]
        found = await client.get_workflow("order")
        with pytest.raises(errors.WorkflowNotFoundError):
            await client.get_workflow("order", version=9)
    await server.stop()

    written = graph_of(OrderFlow)
    assert (found.digest, summary.digest) == (written.digest, written.digest)
    # The API returns `auto` for a join without a declaration.
    steps = {ref: replace(step, join=step.join or Join.AUTO) for ref, step in written.steps.items()}
    assert found.graph.steps == steps
    assert found.graph.start == written.start


async def test_a_watch_after_a_future_revision_is_rejected() -> None:
    server = Server(config())
    async with AsyncClient(str(await server.start())) as client:
        started = await client.start_instance("order", {"items": []})
        await client.wait_for_end(started.instance_id, timeout=30)
        with pytest.raises(errors.RevisionInFutureError):
            await anext(client.watch_instance(started.instance_id, after_revision=1_000))
    await server.stop()
