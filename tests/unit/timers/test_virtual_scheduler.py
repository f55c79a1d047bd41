"""Virtual time advances on request only, from job to job in the order of (time, ID)."""

from __future__ import annotations

import pytest

from perdure_server.timers.virtual_scheduler import VirtualClock, VirtualScheduler


async def quiet() -> None:
    return None


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(0)


@pytest.fixture
def scheduler(clock: VirtualClock) -> VirtualScheduler:
    scheduler = VirtualScheduler(clock, quiet)
    scheduler.start()
    return scheduler


async def test_jobs_are_called_in_the_order_of_time_and_then_of_ids(
    scheduler: VirtualScheduler, clock: VirtualClock
) -> None:
    calls: list[tuple[int, str]] = []
    for job_id, delay_ms in (("b", 5), ("c", 1), ("a", 5), ("d", 9)):
        scheduler.schedule(job_id, delay_ms, lambda job: calls.append((clock.now_ms(), job)))

    await scheduler.advance(8)

    assert calls == [(1, "c"), (5, "a"), (5, "b")]
    assert clock.now_ms() == 8


async def test_a_job_that_a_callback_schedules_is_called_in_the_same_advance(
    scheduler: VirtualScheduler, clock: VirtualClock
) -> None:
    calls: list[int] = []

    def again(job_id: str) -> None:
        calls.append(clock.now_ms())
        scheduler.schedule(job_id, 10, again)

    scheduler.schedule("a", 10, again)
    await scheduler.advance(35)

    assert calls == [10, 20, 30]


async def test_the_last_plan_of_a_job_counts(scheduler: VirtualScheduler) -> None:
    calls: list[str] = []
    scheduler.schedule("a", 5, lambda _: calls.append("first"))
    scheduler.schedule("a", 7, lambda _: calls.append("second"))
    scheduler.schedule("b", 1, calls.append)
    scheduler.cancel("b")

    await scheduler.advance(100)

    assert calls == ["second"]


async def test_an_alarm_that_is_stopped_has_no_time(scheduler: VirtualScheduler) -> None:
    await scheduler.stop()

    with pytest.raises(RuntimeError, match="not started"):
        await scheduler.advance(1)


def test_virtual_time_does_not_go_back(clock: VirtualClock) -> None:
    clock.set(10)

    with pytest.raises(ValueError, match="cannot move back"):
        clock.set(9)
