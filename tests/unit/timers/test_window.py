"""The timer window over virtual time: claims, arming, and that each timer fires once and never early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from perdure_server.engine.rejections import InstanceNotFound
from perdure_server.store.protocol import CommitUnknownError, StoreUnavailableError, TimerRow
from perdure_server.timers.virtual_scheduler import VirtualClock, VirtualScheduler
from perdure_server.timers.window import WINDOW_MS, TimerWindow
from support.fake_timer_store import FakeTimerStore

SECOND = 1_000


class World:
    """A window and its table, with a common clock."""

    def __init__(self, *, max_timers: int = 1_000, max_firings: int = 50, shared: bool = False) -> None:
        self.clock = VirtualClock()
        self.started_at = self.clock.now_ms()
        self.table = FakeTimerStore(self.clock.now_ms, shared=shared)
        self.scheduler = VirtualScheduler(self.clock, self._quiesce)
        self.window = TimerWindow(
            self.table,
            self.scheduler,
            self.table.submit,
            "r1",
            clock=self.clock,
            max_timers=max_timers,
            max_firings=max_firings,
        )

    async def _quiesce(self) -> None:
        await self.window.quiesce()

    def after(self, ms: int) -> int:
        return self.started_at + ms

    def fired(self) -> list[tuple[str, int]]:
        return [(reference, at - self.started_at) for reference, at in self.table.fired]

    def create(self, after_ms: int, name: str) -> TimerRow:
        """Commit a new timer as the command processor does: assign an owner, store, arm."""
        due_at = self.clock.now_ms() + after_ms
        row = self.table.add(due_at, name=name, owner=self.window.assign_owner(due_at))
        self.window.arm(row)
        return row


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.window.start()
    yield world
    await world.window.stop()


async def test_a_timer_fires_once_at_its_time_and_not_before(world: World) -> None:
    world.create(5 * SECOND, "a")

    await world.scheduler.advance(5 * SECOND - 1)
    assert world.fired() == []
    await world.scheduler.advance(60 * SECOND)

    assert world.fired() == [("a.1", 5 * SECOND)]
    assert world.table.submitted == ["a.1"]
    assert world.window.timers == 0


async def test_timers_that_were_due_while_no_server_ran_fire_at_start() -> None:
    world = World()
    world.table.add(world.after(-3_600 * SECOND), name="late", owner="gone")
    world.table.add(world.after(-5), name="later")

    await world.window.start()
    await world.scheduler.advance(0)

    assert world.fired() == [("late.1", 0), ("later.1", 0)]
    assert world.window.healthy(), "being down is not being late"
    await world.window.stop()


async def test_a_timer_due_after_the_window_is_claimed_later(world: World) -> None:
    assert world.window.assign_owner(world.after(WINDOW_MS - 1)) == "r1"
    assert world.window.assign_owner(world.after(WINDOW_MS)) == ""
    row = world.create(3_600 * SECOND, "a")
    assert row.owner == ""

    await world.scheduler.advance(7_200 * SECOND)

    assert world.fired() == [("a.1", 3_600 * SECOND)]


async def test_an_unowned_timer_that_is_due_soon_is_claimed_at_once(world: World) -> None:
    await world.scheduler.advance(0)
    row = world.table.add(world.after(10), name="a")

    world.window.arm(row)
    await world.scheduler.advance(10)

    assert world.fired() == [("a.1", 10)]


async def test_claims_become_rare_while_they_find_nothing(world: World) -> None:
    await world.scheduler.advance(600 * SECOND)

    assert 60 <= len(world.table.claim_limits) <= 70


async def test_a_timer_that_fired_too_early_is_armed_again_for_its_due_time(world: World) -> None:
    row = world.table.add(world.after(SECOND), name="a", owner="r1")
    world.window.arm(replace(row, timer=replace(row.timer, due_at=world.after(10))))
    # The window has loaded another due time than the table has.
    world.table.rows["a.1"] = row

    await world.scheduler.advance(2 * SECOND)

    assert world.fired() == [("a.1", SECOND)]
    assert world.table.submitted == ["a.1", "a.1"]


@pytest.mark.parametrize(
    "trouble", [StoreUnavailableError("away"), CommitUnknownError("away"), RuntimeError("a bug")]
)
async def test_a_failed_firing_is_repeated_until_the_store_responds(world: World, trouble: Exception) -> None:
    world.table.failures = [trouble] * 6
    world.create(SECOND, "a")

    await world.scheduler.advance(60 * SECOND)

    assert [reference for reference, _ in world.fired()] == ["a.1"]
    assert len(world.table.submitted) == 7


async def test_each_firing_is_counted_once_by_its_lateness(world: World) -> None:
    world.create(SECOND, "in time")
    await world.scheduler.advance(2 * SECOND)
    world.table.failures = [StoreUnavailableError("away")] * 6
    world.create(SECOND, "late")
    await world.scheduler.advance(60 * SECOND)

    lateness = world.window.lateness_seconds
    assert (lateness.counts()[0], sum(lateness.counts())) == (1, 2)
    assert lateness.total == (world.fired()[1][1] - 3 * SECOND) / SECOND


async def test_a_submit_that_raises_at_once_is_repeated(world: World) -> None:
    world.table.submit_failures = [RuntimeError("a bug")]
    world.create(SECOND, "a")
    await world.scheduler.advance(60 * SECOND)

    assert [reference for reference, _ in world.fired()] == ["a.1"]


async def test_a_timer_of_a_deleted_instance_is_removed(world: World) -> None:
    row = world.create(SECOND, "a")
    world.table.failures = [InstanceNotFound("a")]
    del world.table.rows[row.reference]

    await world.scheduler.advance(60 * SECOND)

    assert world.table.submitted == ["a.1"]
    assert world.window.timers == 0


async def test_a_cancelled_timer_is_not_even_submitted(world: World) -> None:
    row = world.create(SECOND, "a")
    del world.table.rows[row.reference]
    world.window.disarm(row.reference)
    world.window.disarm("unknown.7")

    await world.scheduler.advance(60 * SECOND)

    assert world.table.submitted == []


async def test_a_timer_cancelled_while_it_waits_for_a_slot_is_not_submitted() -> None:
    world = World(max_firings=1)
    world.table.gate = asyncio.Event()
    await world.window.start()
    for name in ("a", "b"):
        world.create(0, name)
    advancing = asyncio.create_task(world.scheduler.advance(SECOND))
    await world.table.until(lambda: bool(world.table.submitted))
    world.window._on_due("b.1")
    del world.table.rows["b.1"]
    world.window.disarm("b.1")
    world.table.gate.set()
    await advancing

    assert world.table.submitted == ["a.1"]
    await world.window.stop()


async def test_concurrent_firings_are_limited_and_none_is_lost() -> None:
    world = World(max_timers=10_000, max_firings=7)
    for number in range(500):
        world.table.add(world.after(SECOND), name=f"t{number:04}")
    await world.window.start()
    # Every job due now is called before the first response.
    world.scheduler._quiesce = _nothing
    await world.window.quiesce()

    await world.scheduler.advance(SECOND)
    await world.window.quiesce()

    assert len(world.fired()) == 500
    assert world.table.in_progress_max == 7
    await world.window.stop()


async def _nothing() -> None:
    return None


async def test_ten_thousand_timers_of_one_instant_all_fire_once() -> None:
    world = World(max_timers=10_000, max_firings=256)
    for number in range(10_000):
        world.table.add(world.after(SECOND), name=f"t{number:05}")
    await world.window.start()

    await world.scheduler.advance(SECOND)

    assert len(world.fired()) == 10_000
    assert len(world.table.submitted) == 10_000
    assert {at for _, at in world.fired()} == {SECOND}
    await world.window.stop()


async def test_the_window_loads_the_soonest_timers_and_refills_as_it_empties() -> None:
    world = World(max_timers=100)
    for number in range(5_000):
        world.table.add(world.after(number), name=f"t{number:04}")
    await world.window.start()
    held_max = 0
    quiesce = world.scheduler._quiesce

    async def watch() -> None:
        nonlocal held_max
        await quiesce()
        held_max = max(held_max, world.window.timers)

    world.scheduler._quiesce = watch
    await world.scheduler.advance(10 * SECOND)

    assert [at for _, at in world.fired()] == list(range(5_000))
    assert held_max <= 110
    assert max(world.table.claim_limits) <= 100
    await world.window.stop()


async def test_a_full_window_loads_a_sooner_timer_and_drops_the_latest() -> None:
    world = World(max_timers=50)
    for number in range(200):
        world.table.add(world.after(20 * SECOND + number), name=f"t{number:03}")
    await world.window.start()
    await world.scheduler.advance(0)

    for number in range(100):
        world.create(SECOND + number, f"soon{number}")
    assert world.window.timers <= 55
    await world.scheduler.advance(25 * SECOND)

    assert [at for _, at in world.fired()] == [
        *range(SECOND, SECOND + 100),
        *range(20 * SECOND, 20 * SECOND + 200),
    ]
    await world.window.stop()


async def test_a_firing_timer_is_not_fired_again_by_a_claim_or_an_arming(world: World) -> None:
    row = world.create(0, "a")
    world.table.gate = asyncio.Event()
    advancing = asyncio.create_task(world.scheduler.advance(60 * SECOND))
    await world.table.until(lambda: bool(world.table.submitted))

    world.window.arm(row)
    await world.window._claim()
    world.window.disarm(row.reference)
    world.table.gate.set()
    await advancing

    assert world.table.submitted == ["a.1"]
    assert world.fired() == [("a.1", 0)]


async def test_timers_of_a_dead_replica_are_claimed() -> None:
    world = World(shared=True)
    world.table.live_owners = {"r1", "r2"}
    world.table.add(world.after(5 * SECOND), name="a", owner="r2")
    await world.window.start()
    await world.scheduler.advance(6 * SECOND)
    assert world.fired() == []

    world.table.live_owners.discard("r2")
    await world.scheduler.advance(2 * SECOND)

    assert [reference for reference, _ in world.fired()] == ["a.1"]
    await world.window.stop()


async def test_under_a_new_id_every_job_is_dropped_and_claimed_again(world: World) -> None:
    world.create(5 * SECOND, "a")
    world.table.live_owners = {"r9"}
    world.window.replica_changed("r9")
    assert world.window.timers == 0

    await world.scheduler.advance(10 * SECOND)

    assert world.fired() == [("a.1", 5 * SECOND)]
    assert world.window.assign_owner(world.clock.now_ms()) == "r9"


async def test_a_firing_under_the_old_id_is_repeated_under_the_new_one(world: World) -> None:
    world.create(0, "a")
    world.table.gate = asyncio.Event()
    advancing = asyncio.create_task(world.scheduler.advance(60 * SECOND))
    await world.table.until(lambda: bool(world.table.submitted))
    world.table.live_owners = {"r9"}
    world.table.rows["a.1"] = replace(world.table.rows["a.1"], owner="")
    world.window.replica_changed("r9")
    world.table.gate.set()
    await advancing

    assert [reference for reference, _ in world.fired()] == ["a.1"]
    assert world.table.submitted == ["a.1", "a.1"]


async def test_claims_survive_an_unavailable_store_and_bugs() -> None:
    world = World()
    world.table.claim_failures = [
        StoreUnavailableError("away"),
        RuntimeError("a bug"),
        StoreUnavailableError("away"),
    ]
    world.table.add(world.after(SECOND), name="a")
    await world.window.start()

    await world.scheduler.advance(30 * SECOND)

    assert [reference for reference, _ in world.fired()] == ["a.1"]
    await world.window.stop()


async def test_a_job_that_the_scheduler_lost_is_found_and_armed_again(world: World) -> None:
    world.create(SECOND, "a")
    world.scheduler.cancel("a.1")
    await world.scheduler.advance(7 * SECOND)
    assert world.fired() == []

    world.window.tick()
    assert world.window.late_ms() == 6 * SECOND
    assert not world.window.healthy()
    await world.scheduler.advance(0)

    assert world.fired() == [("a.1", 7 * SECOND)]
    world.window.tick()
    assert world.window.healthy()


async def test_stop_waits_for_firings_in_progress_and_starts_none() -> None:
    world = World(max_firings=1)
    await world.window.start()
    await world.scheduler.advance(0)
    world.table.gate = asyncio.Event()
    for name in ("a", "b"):
        row = world.create(0, name)
        world.scheduler.cancel(row.reference)
        world.window._on_due(row.reference)

    stopping = asyncio.create_task(world.window.stop())
    await world.table.until(lambda: world.table.in_progress == 1)
    assert not stopping.done()
    world.table.gate.set()
    await stopping

    assert world.table.submitted == ["a.1"]
    assert not world.window.healthy()
    assert world.window.assign_owner(world.after(1)) == ""


async def test_a_stop_does_not_wait_longer_than_its_timeout() -> None:
    world = World()
    await world.window.start()
    await world.scheduler.advance(0)
    world.table.gate = asyncio.Event()
    row = world.create(0, "a")
    world.window._on_due(row.reference)

    await world.window.stop(shutdown_timeout_seconds=0.01)

    world.table.gate.set()
    await world.table.until(lambda: world.table.in_progress == 0)
