"""Background work: a loop survives errors, runs when it is woken or due, and can be stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from perdure_server.runtime.background import BackgroundLoop, BackgroundTasks
from perdure_server.store.protocol import StoreUnavailableError

log = logging.getLogger("perdure_server.test")


class Work:
    """Counts its runs. The next runs raise ``errors``; with a ``gate``, each run waits for it."""

    def __init__(self) -> None:
        self.runs = 0
        self.errors: list[Exception] = []
        self.gate: asyncio.Event | None = None
        self._changed = asyncio.Event()

    async def __call__(self) -> None:
        self.runs += 1
        self._changed.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


async def test_work_runs_once_for_each_wake() -> None:
    work, idle = Work(), asyncio.Event()
    loop = BackgroundLoop(log, "work failed", work, name="test", on_idle=idle.set)
    loop.start()
    await asyncio.sleep(0)
    assert work.runs == 0
    assert not loop.busy

    loop.wake()
    loop.wake()
    assert loop.busy
    await asyncio.wait_for(idle.wait(), 60)

    assert work.runs == 1
    assert not loop.busy
    await loop.stop()


async def test_a_wake_during_a_run_starts_another_run() -> None:
    work = Work()
    work.gate = asyncio.Event()
    loop = BackgroundLoop(log, "work failed", work, name="test")
    loop.wake()
    loop.start()
    await work.until(lambda: work.runs == 1)

    loop.wake()
    work.gate.set()
    await work.until(lambda: work.runs == 2)

    await loop.stop()


async def test_work_runs_every_interval_without_a_wake() -> None:
    work = Work()
    loop = BackgroundLoop(log, "work failed", work, name="test", interval_seconds=0.001)
    loop.start()

    await work.until(lambda: work.runs >= 3)

    await loop.stop()


async def test_errors_are_logged_and_do_not_end_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    work = Work()
    work.errors = [StoreUnavailableError("disk full"), RuntimeError("a bug")]
    loop = BackgroundLoop(log, "work failed", work, name="test", interval_seconds=0.001)
    loop.start()

    await work.until(lambda: work.runs >= 3)

    assert loop.alive
    logged = [(record.levelname, record.message, bool(record.exc_info)) for record in caplog.records]
    assert logged == [("WARNING", "work failed", False), ("ERROR", "work failed", True)]
    assert "disk full" in caplog.records[0].reason  # type: ignore[attr-defined]
    await loop.stop()


async def test_a_failed_run_is_followed_by_the_failure_pause() -> None:
    work = Work()
    work.errors = [RuntimeError("a bug")]
    loop = BackgroundLoop(log, "work failed", work, name="test", failure_pause_seconds=0.05)
    times = []
    loop.wake()
    loop.start()
    await work.until(lambda: work.runs == 1)
    times.append(asyncio.get_running_loop().time())

    loop.wake()
    await work.until(lambda: work.runs == 2)

    assert asyncio.get_running_loop().time() - times[0] >= 0.045
    await loop.stop()


async def test_stop_cancels_a_run_and_can_be_called_twice() -> None:
    work = Work()
    work.gate = asyncio.Event()
    loop = BackgroundLoop(log, "work failed", work, name="test")
    loop.wake()
    loop.start()
    await work.until(lambda: work.runs == 1)

    await loop.stop()
    await loop.stop()

    assert not loop.alive
    assert not loop.busy


async def test_wait_returns_when_the_spawned_tasks_have_ended() -> None:
    tasks, work = BackgroundTasks(), Work()
    work.gate = asyncio.Event()
    tasks.spawn(work())
    tasks.spawn(work())
    assert len(tasks) == 2

    work.gate.set()
    await tasks.wait()

    assert len(tasks) == 0
    await tasks.wait()
