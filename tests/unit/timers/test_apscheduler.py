"""The APScheduler adapter: known pitfalls of APScheduler, in real time of less than a second each."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import pytest
import time_machine
from apscheduler.jobstores.memory import MemoryJobStore

from perdure_server.runtime.clock import SYSTEM_CLOCK
from perdure_server.timers.apscheduler_adapter import JOBS_PER_TURN_MAX, ApschedulerAdapter
from perdure_server.timers.scheduler import SILENT_MS_MAX
from perdure_server.timers.window import FIRINGS_MAX, TimerWindow
from support.fake_timer_store import FakeTimerStore


class Calls:
    """Records the callbacks of a scheduler and lets a test await them."""

    def __init__(self) -> None:
        self.made: list[tuple[str, float]] = []
        self._changed = asyncio.Event()

    def __call__(self, job_id: str) -> None:
        self.made.append((job_id, time.monotonic()))
        self._changed.set()

    @property
    def ids(self) -> list[str]:
        return [job_id for job_id, _ in self.made]

    async def until(self, condition: Callable[[], bool], seconds_max: float = 60) -> None:
        async with asyncio.timeout(seconds_max):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
async def scheduler() -> AsyncIterator[ApschedulerAdapter]:
    scheduler = ApschedulerAdapter()
    scheduler.start()
    yield scheduler
    await scheduler.stop()


async def test_a_job_is_called_once_after_its_delay_and_not_before(scheduler: ApschedulerAdapter) -> None:
    calls, began = Calls(), time.monotonic()
    scheduler.schedule("a.1", 50, calls)
    scheduler.schedule("b.1", 150, calls)

    await calls.until(lambda: len(calls.made) == 2)

    assert calls.ids == ["a.1", "b.1"]
    assert calls.made[0][1] - began >= 0.05


async def test_a_job_that_is_very_late_is_still_called(scheduler: ApschedulerAdapter) -> None:
    # By default, APScheduler drops jobs that are a second late.
    calls = Calls()
    scheduler.schedule("a.1", -3_600_000, calls)
    scheduler.schedule("b.1", -7_200_000, calls)

    await calls.until(lambda: len(calls.made) == 2)

    assert calls.ids == ["b.1", "a.1"], "the longest overdue first"


async def test_a_job_that_its_own_callback_schedules_again_is_not_dropped(
    scheduler: ApschedulerAdapter,
) -> None:
    # APScheduler removes a job before its function runs, and drops one that is due while the function runs.
    calls = Calls()

    def again(job_id: str) -> None:
        calls(job_id)
        if len(calls.made) < 20:
            scheduler.schedule(job_id, 0, again)
            scheduler.wakeup()

    scheduler.schedule("a.1", 0, again)

    await calls.until(lambda: len(calls.made) == 20)


async def test_cancelled_and_replaced_jobs_are_not_called(scheduler: ApschedulerAdapter) -> None:
    calls, replaced = Calls(), Calls()
    scheduler.schedule("a.1", 30, calls)
    scheduler.schedule("b.1", 30, replaced)
    await asyncio.sleep(0)
    scheduler.cancel("a.1")
    scheduler.cancel("unknown.1")
    scheduler.schedule("b.1", 60, calls)
    scheduler.schedule("c.1", 10, replaced)
    scheduler.cancel("c.1")

    await calls.until(lambda: len(calls.made) == 1)

    assert calls.ids == ["b.1"]
    assert replaced.made == []


async def test_a_replaced_job_behind_thousands_is_not_called_at_its_old_time(
    scheduler: ApschedulerAdapter,
) -> None:
    # The job was added with its old time, and its new time waits in the queue when the old one is due.
    calls, moved = Calls(), Calls()
    scheduler.schedule("moved.1", 30, moved)
    await asyncio.sleep(0)
    for number in range(5_000):
        scheduler.schedule(f"t{number}.1", 3_600_000, calls)
    scheduler.schedule("moved.1", 3_600_000, moved)
    time.sleep(0.05)  # noqa: ASYNC251 - the loop comes back to a job that is due, and to thousands
    scheduler.schedule("after.1", 0, calls)

    await calls.until(lambda: calls.ids == ["after.1"])

    assert moved.made == []


async def test_the_calls_of_one_turn_are_bounded(scheduler: ApschedulerAdapter) -> None:
    loop, turns = asyncio.get_running_loop(), [0]
    calls: list[int] = []

    def turn() -> None:
        turns.append(len(calls))
        loop.call_soon(turn)

    done = Calls()
    for number in range(2_000):
        scheduler.schedule(f"t{number}.1", 300, lambda _job_id: calls.append(1))
    scheduler.schedule("last.1", 301, done)
    loop.call_soon(turn)

    await done.until(lambda: bool(done.made))

    assert len(calls) == 2_000
    assert max(later - earlier for earlier, later in pairwise(turns)) <= JOBS_PER_TURN_MAX


async def test_jobs_that_are_scheduled_before_the_start_are_called_after_it() -> None:
    calls, scheduler = Calls(), ApschedulerAdapter()
    scheduler.schedule("a.1", 0, calls)
    scheduler.start()

    await calls.until(lambda: calls.ids == ["a.1"])

    await scheduler.stop()


async def test_ten_thousand_jobs_of_one_instant_are_all_called(scheduler: ApschedulerAdapter) -> None:
    calls = Calls()
    for number in range(10_000):
        scheduler.schedule(f"t{number}.1", 300, calls)

    await calls.until(lambda: len(calls.made) == 10_000)

    assert len(set(calls.ids)) == 10_000


class FaultyJobStore(MemoryJobStore):  # type: ignore[misc]
    """A job store that raises an exception when a job is removed, ``faults`` times."""

    faults = 0

    def remove_job(self, job_id: str) -> None:
        if FaultyJobStore.faults and job_id != "perdure.tick":
            FaultyJobStore.faults -= 1
            raise RuntimeError("a fault in a job store")
        super().remove_job(job_id)


async def test_a_stopped_scheduler_is_noticed_and_continues_at_the_next_wakeup() -> None:
    loop, stray = asyncio.get_running_loop(), asyncio.Event()
    loop.set_exception_handler(lambda _loop, _context: stray.set())
    FaultyJobStore.faults = 1
    calls, scheduler = Calls(), ApschedulerAdapter(jobstore=FaultyJobStore)
    scheduler.start()
    scheduler.schedule("a.1", 0, calls)
    scheduler.schedule("b.1", 100, calls)
    await stray.wait()
    assert SILENT_MS_MAX < 1_000
    async with asyncio.timeout(60):
        while scheduler.silent_ms() <= SILENT_MS_MAX:  # noqa: ASYNC110 - silence gives no signal
            await asyncio.sleep(0.02)
    assert "b.1" not in calls.ids, "a round that meets an exception never plans the next one"

    scheduler.wakeup()
    await calls.until(lambda: "b.1" in calls.ids)
    async with asyncio.timeout(60):
        while scheduler.silent_ms() >= SILENT_MS_MAX:  # noqa: ASYNC110 - the end of silence gives no signal
            await asyncio.sleep(0.02)
    await scheduler.stop()


async def test_stop_waits_for_callbacks_and_calls_nothing_afterwards() -> None:
    calls, scheduler = Calls(), ApschedulerAdapter()
    scheduler.start()
    scheduler.schedule("a.1", 0, calls)
    await calls.until(lambda: calls.ids == ["a.1"])
    scheduler.schedule("b.1", 0, calls)

    await scheduler.stop()
    await scheduler.stop()

    assert calls.ids == ["a.1"]


# --- the window on it ----------------------------------------------------------------------------------------


async def fire_all(table: FakeTimerStore, count: int) -> tuple[TimerWindow, float]:
    window = TimerWindow(table, ApschedulerAdapter(), table.submit, "r1")
    await window.start()
    began = time.monotonic()
    await table.until(lambda: len(table.fired) == count)
    return window, time.monotonic() - began


async def test_ten_thousand_timers_due_at_once_fire_once_and_not_early() -> None:
    table = FakeTimerStore(SYSTEM_CLOCK.now_ms)
    due_at = table.now_ms() + 200
    for number in range(10_000):
        table.add(due_at, name=f"t{number}")

    window, _ = await fire_all(table, 10_000)

    assert len(table.submitted) == 10_000
    assert min(at for _, at in table.fired) >= due_at
    assert table.in_progress_max <= FIRINGS_MAX
    await window.stop()


class SteadyTable(FakeTimerStore):
    """A table whose clock is not the system clock."""

    def __init__(self) -> None:
        super().__init__(lambda: 1_000_000_000_000 + time.monotonic_ns() // 1_000_000)


@pytest.mark.parametrize("jump_seconds", [-3_600, 3_600])
async def test_a_jump_of_the_system_clock_does_not_change_due_times(jump_seconds: int) -> None:
    table = SteadyTable()
    due_at = table.now_ms() + 400
    window = TimerWindow(table, ApschedulerAdapter(), table.submit, "r1")
    await window.start()
    await window.quiesce()
    row = table.add(due_at, name="a", owner=window.assign_owner(due_at))
    window.arm(row)
    await asyncio.sleep(0)

    with time_machine.travel(time.time() + jump_seconds, tick=True):
        window.tick()
        await table.until(lambda: bool(table.fired))
        assert table.fired[0][1] >= due_at
        assert window.healthy()
    window.tick()
    await window.stop()


async def test_a_clock_set_forward_by_fifty_years_costs_no_more_than_one_tick() -> None:
    calls, scheduler = Calls(), ApschedulerAdapter()
    scheduler.start()
    scheduler.schedule("a.1", 3_600_000, calls)
    await asyncio.sleep(0)

    tracemalloc.start()
    try:
        with time_machine.travel(time.time() + 50 * 365 * 86_400, tick=True):
            await calls.until(lambda: calls.ids == ["a.1"])
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 10 << 20
    await scheduler.stop()


async def test_an_early_firing_after_a_clock_jump_is_rejected_and_repeated() -> None:
    skew_ms = 0
    table = FakeTimerStore(lambda: SYSTEM_CLOCK.now_ms() + skew_ms)
    window = TimerWindow(table, ApschedulerAdapter(), table.submit, "r1")
    await window.start()
    await window.quiesce()
    due_at = table.now_ms() + 100
    window.arm(table.add(due_at, name="a", owner=window.assign_owner(due_at)))
    skew_ms = -300

    await table.until(lambda: bool(table.fired))

    assert table.fired[0][1] >= due_at
    assert len(table.submitted) >= 2
    await window.stop()


async def test_a_window_with_a_silent_scheduler_is_unhealthy_until_a_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = FakeTimerStore(SYSTEM_CLOCK.now_ms)
    scheduler = ApschedulerAdapter()
    window = TimerWindow(table, scheduler, table.submit, "r1")
    await window.start()
    await window.quiesce()
    assert window.healthy()

    silent_ms = scheduler.silent_ms
    monkeypatch.setattr(scheduler, "silent_ms", lambda: silent_ms() + 5_000)
    assert not window.healthy()
    assert window.late_ms() > 3_000
    monkeypatch.undo()
    assert window.healthy()
    await window.stop()


def test_only_the_public_interface_of_apscheduler_is_used() -> None:
    import ast
    import inspect

    from perdure_server.timers import apscheduler_adapter

    tree = ast.parse(inspect.getsource(apscheduler_adapter))
    private: list[Any] = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "wanted"})
    ]
    assert private == []
