"""Clocks before, at and just after the Unix epoch. The engine, the store and the API accept time 0."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from perdure import AsyncClient, Context, Outcome, StepError, Workflow, sleep, step, wait_for
from perdure.client import HistoryEntry, Instance, InstanceState
from perdure_server.core import Core
from support.api_fixture import serving
from support.stores import KINDS, Clock, Kind

EPOCH: Final = datetime.fromtimestamp(0, UTC)
DELAY_MS: Final = 1_000
ENDS: Final = pytest.mark.parametrize("end_ms", [0, -1, 1, -5_000], ids=lambda ms: f"ends_at_{ms}")
"""Virtual time of the end of the instance under test, in milliseconds since the epoch."""


def at(time_ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=time_ms)


class Nap(Workflow, name="nap", version=1):
    """A wait, a sleep, and a task."""

    start = "decide"
    decide = wait_for("go", timeout="1h", on={"go": "rest", "timeout": "end"})
    rest = sleep("1s", then="work")

    @step(on={"done": "end"})
    async def work(self, ctx: Context) -> Outcome:
        return Outcome("done")


class Fragile(Workflow, name="fragile", version=1):
    """A task that fails unless its input says otherwise."""

    start = "work"

    @step(on={"done": "end"})
    async def work(self, ctx: Context) -> Outcome:
        raise StepError("broken", retryable=False)


World = Callable[[int], tuple[AsyncClient, Clock, Core]]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
async def world(
    request: pytest.FixtureRequest, tmp_path: Path, end_ms: int
) -> AsyncIterator[tuple[AsyncClient, Clock, Core]]:
    """A served store whose clock starts two delays before the end, and a client of it."""
    kind: Kind = request.param
    clock = Clock()
    clock.now = end_ms - 2 * DELAY_MS
    async with (
        serving([Nap, Fragile], store=kind.make(tmp_path, clock)) as served,
        AsyncClient(served.address) as client,
    ):
        yield client, clock, served.core


async def state_of(client: AsyncClient, instance_id: str, *states: InstanceState) -> Instance:
    """Return the instance once it is in one of the states."""
    async with aclosing(client.watch_instance(instance_id, timeout=20)) as events:
        async for _ in events:
            instance = await client.get_instance(instance_id)
            if instance.state in states:
                return instance
    return await client.get_instance(instance_id)


@ENDS
async def test_an_instance_lives_and_ends_around_the_epoch(
    world: tuple[AsyncClient, Clock, Core], end_ms: int
) -> None:
    client, clock, _ = world
    begin_ms = clock.now

    started = await client.start_instance("nap", start_delay=timedelta(milliseconds=DELAY_MS))
    pending = await client.get_instance(started.instance_id)
    listed = [found async for found in client.list_instances()]
    timers = [found async for found in client.list_timers(page_size=1)]
    clock.advance(DELAY_MS)
    waiting = await state_of(client, started.instance_id, InstanceState.WAITING)
    await client.resume(started.instance_id, "go")
    sleeping = [found async for found in client.list_timers(started.instance_id)]
    clock.advance(DELAY_MS)
    ended = await client.wait_for_end(started.instance_id, timeout=20)
    history = [entry async for entry in client.list_history(started.instance_id)]
    [summary] = [found async for found in client.list_instances(states=["COMPLETED"])]

    assert (pending.state, pending.create_time) == (InstanceState.PENDING, at(begin_ms))
    assert (pending.start_time, pending.end_time) == (None, None)
    assert [(found.create_time, found.end_time) for found in listed] == [(at(begin_ms), None)]
    assert [found.due_time for found in timers] == [at(begin_ms + DELAY_MS)]
    assert (waiting.start_time, waiting.end_time) == (at(begin_ms + DELAY_MS), None)
    assert [(found.create_time, found.due_time) for found in sleeping] == [
        (at(end_ms - DELAY_MS), at(end_ms))
    ]
    assert (ended.state, ended.end_time, ended.update_time) == (
        InstanceState.COMPLETED,
        at(end_ms),
        at(end_ms),
    )
    assert (summary.end_time, summary.create_time) == (at(end_ms), at(begin_ms))
    assert {entry.time for entry in history} == {at(begin_ms), at(end_ms - DELAY_MS), at(end_ms)}


@ENDS
async def test_a_failed_instance_is_retried_and_cancelled_around_the_epoch(
    world: tuple[AsyncClient, Clock, Core], end_ms: int
) -> None:
    client, clock, _ = world
    clock.advance(2 * DELAY_MS)

    started = await client.start_instance("fragile")
    failed = await client.wait_for_end(started.instance_id, timeout=20)
    await client.retry_instance(started.instance_id)
    again = await client.wait_for_end(started.instance_id, timeout=20)
    await client.cancel_instance(started.instance_id)
    cancelled = await client.get_instance(started.instance_id)

    for found in (failed, again, cancelled):
        assert (found.start_time, found.end_time) == (at(end_ms), at(end_ms))
    assert (failed.state, again.state, cancelled.state) == (
        InstanceState.FAILED,
        InstanceState.FAILED,
        InstanceState.CANCELLED,
    )


@ENDS
async def test_pages_continue_across_the_epoch(world: tuple[AsyncClient, Clock, Core], end_ms: int) -> None:
    client, clock, _ = world
    for number in range(5):
        await client.start_instance("nap", instance_id=f"i{number}")
        clock.advance(DELAY_MS)

    instances = [found.instance_id async for found in client.list_instances(page_size=1)]
    timers = [found.instance_id async for found in client.list_timers(page_size=1)]

    assert instances == [f"i{number}" for number in reversed(range(5))]
    assert timers == [f"i{number}" for number in range(5)]


@ENDS
async def test_a_timer_before_the_epoch_is_listed_and_fires(
    world: tuple[AsyncClient, Clock, Core], end_ms: int
) -> None:
    client, clock, _ = world
    clock.now = end_ms - 3_600_000
    started = await client.start_instance("nap")

    async with aclosing(client.watch_instance(started.instance_id, after_revision=0)) as events:
        clock.now = end_ms
        facts = [event async for event in events if isinstance(event, HistoryEntry)]

    ended = await client.get_instance(started.instance_id)
    assert [entry.kind for entry in facts][-3:] == ["timer_fired", "step_finished", "instance_completed"]
    assert ended.end_time == at(end_ms)
