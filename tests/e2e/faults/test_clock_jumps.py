"""Clock jumps of two hours in both directions: timers can be late but never early, and other work is not affected.

The time of day jumps for the whole process, including APScheduler. The monotonic clock does not jump, as on a real
machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import pytest
import time_machine

from perdure import Context, Outcome, RetryPolicy, StepError, Workflow, sleep, step, wait_for
from perdure_server.core import Core
from perdure_server.engine import facts
from perdure_server.engine.commands import payload
from perdure_server.engine.facts import Entry
from perdure_server.engine.state import InstanceState
from perdure_server.runtime.dispatch.dispatcher import Dispatcher
from perdure_server.runtime.replica import Replica
from perdure_server.runtime.watch import WatchEntry
from perdure_server.store.sqlite import SqliteStore

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
JUMP_S: Final = 7_200.0
SOON_S: Final = 60.0
"""Guard against hanging. After a jump, overdue timers fire within a beat of the window."""

pytestmark = pytest.mark.slow


class Nap(Workflow, name="nap", version=1):
    start = "before"

    @step(on={"done": "nap"})
    async def before(self, ctx: Context) -> Outcome:
        return Outcome("done")

    nap = sleep("200ms", then="after")

    @step(on={"done": "end"}, retry=RetryPolicy(max_attempts=3, initial_backoff="50ms", max_backoff="50ms"))
    async def after(self, ctx: Context) -> Outcome:
        if ctx.attempt == 1:
            raise StepError("once more")
        return Outcome("done")


class Hours(Workflow, name="hours", version=1):
    start = "wait"
    wait = wait_for("go", on={"go": "end", "timeout": "end"})


class Long(Workflow, name="long", version=1):
    """A step that runs while the clock jumps."""

    start = "work"
    runs: Final[list[int]] = []
    go: Final = asyncio.Event()

    @step(on={"done": "end"})
    def work(self, ctx: Context) -> Outcome:
        Long.runs.append(ctx.attempt)
        while not Long.go.is_set():
            time.sleep(0.01)
        return Outcome("done")


class Clock:
    def __init__(self, traveller: time_machine.Coordinates) -> None:
        self._traveller = traveller

    def jump(self, seconds: float) -> None:
        self._traveller.shift(seconds)


@pytest.fixture
def clock() -> AsyncIterator[Clock]:
    with time_machine.travel(time.time(), tick=True) as traveller:
        yield Clock(traveller)


@pytest.fixture
async def core(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Core]:
    for made_of, setting in (
        (Replica, "heartbeat_ms"),
        (Dispatcher, "sweep_ms"),
        (Dispatcher, "reconcile_ms"),
    ):
        monkeypatch.setitem(made_of.__init__.__kwdefaults__, setting, 50)  # type: ignore[misc, arg-type]
    made = Core(SqliteStore(str(tmp_path / "p.db")), [Nap, Hours, Long])
    await made.start()
    yield made
    await made.stop(1)


async def start(core: Core, workflow: str, name: str) -> None:
    await core.operations.start_instance(workflow=workflow, context=payload("{}"), instance_id=name)


async def history(core: Core, name: str) -> list[Entry]:
    return list(await core.store.history(name, after_revision=0, limit=1_000))


async def seen(core: Core, name: str, what: Callable[[Entry], bool], within_s: float = SOON_S) -> Entry:
    """Return the first entry that is so, once it is there."""
    async with asyncio.timeout(within_s):
        async for event in core.operations.queries.watch(name, 0):
            if isinstance(event, WatchEntry) and what(event.entry):
                return event.entry
    raise AssertionError(f"{name} ended without it")


async def ended(core: Core, name: str, within_s: float = SOON_S) -> None:
    await seen(core, name, lambda entry: isinstance(entry.fact, facts.InstanceCompleted), within_s)


def fired(entry: Entry) -> bool:
    return isinstance(entry.fact, facts.TimerFired)


async def assert_none_early(core: Core, *names: str) -> None:
    for name in names:
        due = {}
        for entry in await history(core, name):
            if isinstance(entry.fact, facts.TimerArmed):
                due[entry.revision] = entry.fact.due_at
            elif isinstance(entry.fact, facts.TimerFired):
                assert entry.at >= due.pop(entry.fact.timer), "a timer that was early, or fired twice"


async def swept(core: Core, times: int) -> None:
    """Return after this number of polls for tasks without an owner."""
    real, looks = core.store.claimable_tasks, asyncio.Semaphore(0)

    async def claimable_tasks(**keywords: Any) -> Any:
        looks.release()
        return await real(**keywords)

    core.store.claimable_tasks = claimable_tasks  # type: ignore[method-assign]
    for _ in range(times):
        await looks.acquire()


async def until_healthy(core: Core) -> None:
    async with asyncio.timeout(SOON_S):
        while not core.healthy():  # noqa: ASYNC110 - what a load balancer does
            await asyncio.sleep(0.1)


async def test_a_jump_forward_fires_what_is_due_by_then_and_nothing_else(core: Core, clock: Clock) -> None:
    for name, hours in (("one", 1), ("three", 3)):
        await start(core, "hours", name)
        await core.operations.schedule_resume(name, step_ref="wait", delay_ms=hours * HOUR_MS)
    await start(core, "nap", "nap")
    await start(core, "long", "long")
    replica_id = core.replica.id

    clock.jump(JUMP_S)

    await ended(core, "one")
    await ended(core, "nap")
    await start(core, "nap", "later")
    await ended(core, "later")
    await until_healthy(core)
    assert not any(fired(entry) for entry in await history(core, "three"))
    assert core.replica.id != replica_id, "two hours are more than a lease"
    await swept(core, 5)
    Long.go.set()
    await ended(core, "long")
    assert Long.runs == [1], "a lease that ended by the clock alone runs nothing twice"
    await assert_none_early(core, "one", "nap", "later")


async def test_a_clock_jump_backward_delays_timers_but_not_new_work(core: Core, clock: Clock) -> None:
    await start(core, "hours", "before")
    await core.operations.schedule_resume("before", step_ref="wait", delay_ms=MINUTE_MS)

    clock.jump(-JUMP_S)

    await start(core, "nap", "after")
    await ended(core, "after")
    await until_healthy(core)
    assert (await core.operations.queries.get_instance("before")).state.status is InstanceState.WAITING
    assert not any(fired(entry) for entry in await history(core, "before"))

    clock.jump(JUMP_S + 60)

    await ended(core, "before")
    await start(core, "nap", "again")
    await ended(core, "again")
    await until_healthy(core)
    await assert_none_early(core, "before", "after", "again")


async def test_a_clock_that_jumps_to_and_fro_loses_no_timer(core: Core, clock: Clock) -> None:
    names = [f"nap-{number}" for number in range(12)]
    for number, name in enumerate(names):
        await start(core, "nap", name)
        clock.jump(JUMP_S if number % 2 else -JUMP_S)
        await asyncio.sleep(0.05)
    # The number of jumps is even, so the clock ends at its first offset.

    for name in names:
        await ended(core, name)

    await until_healthy(core)
    await assert_none_early(core, *names)


async def test_a_server_started_with_its_clock_set_back_still_fires_timers(
    clock: Clock, tmp_path: Path
) -> None:
    path = str(tmp_path / "p.db")
    before = Core(SqliteStore(path), [Hours, Nap])
    await before.start()
    await start(before, "hours", "old")
    await before.operations.schedule_resume("old", step_ref="wait", delay_ms=MINUTE_MS)
    await before.stop(0)

    clock.jump(-JUMP_S)
    core = Core(SqliteStore(path), [Hours, Nap])
    await core.start()
    await start(core, "nap", "new")
    await ended(core, "new")
    assert not any(fired(entry) for entry in await history(core, "old"))
    clock.jump(JUMP_S + 60)

    await ended(core, "old")
    await assert_none_early(core, "old", "new")
    await core.stop(0)
