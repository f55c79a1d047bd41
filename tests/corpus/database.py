"""A recorded database: the workflows of its instances, and the script that records it.

The file is a backup of a served database, so it has running attempts and the lease of a replica, like the files that a
killed server leaves. The time in it is `RECORDED_AT_MS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Final

from perdure import Context, Outcome, RetryPolicy, StepError, Workflow, sleep, step, wait_for
from perdure_server.app import Core
from perdure_server.embedded import InProcessClient
from perdure_server.store.sqlite import SqliteStore
from perdure_server.timers.virtual_scheduler import VirtualClock

FILE: Final = "database.sqlite"
RECORDED_AT_MS: Final = 1_767_225_600_000
HOUR_MS: Final = 3_600_000


class Recording:
    """The steps behave differently while the database is recorded: they fail, or they do not end."""

    active = False


class Approval(Workflow, name="approval", version=1):
    """A task, a wait with a timeout, and another task."""

    start = "prepare"

    @step(on={"prepared": "decide"})
    async def prepare(self, ctx: Context) -> Outcome:
        return Outcome("prepared", number=ctx.input["number"])

    decide = wait_for(
        "approved", "rejected", timeout="24h", on={"approved": "ship", "rejected": "end", "timeout": "end"}
    )

    @step(on={"shipped": "end"})
    async def ship(self, ctx: Context) -> Outcome:
        return Outcome("shipped", number=ctx.steps["prepare"]["number"], by=ctx.steps["decide"]["by"])


class TwoWaits(Workflow, name="two_waits", version=1):
    """Two waits, so that an event can be buffered for the second."""

    start = "first"
    first = wait_for("one", on={"one": "second"})
    second = wait_for("two", on={"two": "end"})


class Parallel(Workflow, name="parallel", version=1):
    """A wait, a sleep and a task in parallel. The task fails the instance while the database is recorded."""

    start = "fork"

    @step(on={"forked": ["asked", "rests", "breaks"]})
    async def fork(self, ctx: Context) -> Outcome:
        return Outcome("forked")

    asked = wait_for("answered", on={"answered": "end"})
    rests = sleep("12h", then="end")

    @step(on={"done": "end"})
    async def breaks(self, ctx: Context) -> Outcome:
        if Recording.active:
            raise StepError("broken", retryable=False)
        return Outcome("done")


class Nap(Workflow, name="nap", version=1):
    """A sleep and a task."""

    start = "rest"
    rest = sleep("12h", then="work")

    @step(on={"done": "end"})
    async def work(self, ctx: Context) -> Outcome:
        return Outcome("done")


class Flaky(Workflow, name="flaky", version=1):
    """A task that fails while the database is recorded, and backs off."""

    start = "work"

    @step(on={"done": "end"}, retry=RetryPolicy(max_attempts=3, initial_backoff="6h", max_backoff="6h"))
    async def work(self, ctx: Context) -> Outcome:
        if Recording.active:
            raise ConnectionError("not yet")
        return Outcome("done", attempt=ctx.attempt)


class Slow(Workflow, name="slow", version=1):
    """A task that does not end while the database is recorded."""

    start = "work"

    @step(on={"done": "end"})
    async def work(self, ctx: Context) -> Outcome:
        if Recording.active:
            await asyncio.Event().wait()
        return Outcome("done", attempt=ctx.attempt)


WORKFLOWS: Final = (Approval, TwoWaits, Parallel, Nap, Flaky, Slow)

STATES: Final = {
    "waiting": "WAITING",
    "buffered": "WAITING",
    "failed": "FAILED",
    "sleeping": "WAITING",
    "backing-off": "RUNNING",
    "completed": "COMPLETED",
    "cancelled": "CANCELLED",
    "delayed": "PENDING",
    "running": "RUNNING",
    "queued": "RUNNING",
}
"""The instances and the states in which they were recorded."""


@asynccontextmanager
async def served(path: Path, *, at_ms: int) -> AsyncIterator[tuple[Core, InProcessClient]]:
    """Serve a database in this process at the fixed time ``at_ms``. One async step runs at a time."""
    clock = VirtualClock(at_ms)
    core = Core(SqliteStore(str(path), clock=clock.now_ms), WORKFLOWS, clock=clock, max_async_steps=1)
    await core.start()
    try:
        async with InProcessClient(core.operations) as client:
            yield core, client
    finally:
        await core.stop(0)


async def record_database(folder: Path, file_name: str, work: Path) -> None:
    """Write the file to ``folder``. ``work`` is an empty directory for the database that is served meanwhile."""
    Recording.active = True
    try:
        async with served(work / "served.db", at_ms=RECORDED_AT_MS) as (core, client):
            await _start_instances(client)
            await core.store.back_up(str(folder), file_name)
    finally:
        Recording.active = False


async def _start_instances(client: InProcessClient) -> None:
    await client.start_instance(
        "approval",
        {"number": 7},
        instance_id="waiting",
        business_key="order-7",
        labels={"team": "blue", "tier": "gold"},
        request_id="start-waiting",
    )
    await _until(client, "waiting", "decide", "WAITING")
    await client.schedule_resume("waiting", "decide", 2 * HOUR_MS, request_id="remind")
    await client.start_instance("two_waits", instance_id="buffered", labels={"team": "blue"})
    await client.resume("buffered", "two", {"early": True}, buffer=True, request_id="early")
    await client.start_instance("parallel", instance_id="failed", business_key="order-8")
    await client.wait_for_end("failed")
    await client.start_instance("nap", instance_id="sleeping")
    await client.start_instance("flaky", instance_id="backing-off")
    await _until(client, "backing-off", "work", "BACKING_OFF")
    await client.start_instance("two_waits", {"kept": "ä"}, instance_id="completed")
    await client.resume("completed", "one")
    await client.resume("completed", "two")
    await client.start_instance("two_waits", instance_id="cancelled")
    await client.resume("cancelled", "two", buffer=True)
    await client.cancel_instance("cancelled", reason="not needed", request_id="cancel")
    await client.start_instance("flaky", instance_id="delayed", start_delay="48h")
    await client.start_instance("slow", instance_id="running")
    await _until(client, "running", "work", "RUNNING")
    await client.start_instance("slow", instance_id="queued")
    for instance_id, state in STATES.items():
        assert (await client.get_instance(instance_id)).state == state, instance_id


async def _until(client: InProcessClient, instance_id: str, step_ref: str, state: str) -> None:
    """Return once a step is in a state."""
    async with aclosing(client.watch_instance(instance_id, timeout=60)) as events:
        async for _ in events:
            instance = await client.get_instance(instance_id)
            if any((s.step_ref, s.state) == (step_ref, state) for s in instance.active_steps):
                return
