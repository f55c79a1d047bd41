"""Cancels a coroutine at every suspension point and counts the resources that it leaves behind.

`at_every_point` runs a new coroutine again and again. Run number n is cancelled at its n-th suspension, in one of two
ways: while it waits, or just after the awaited result is ready, when an unused result can get lost.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop

LATE = "late"
EARLY = "early"
POINTS_MAX = 500
SETTLED_SECONDS_MAX = 20


class _CancelAt:
    """Awaits a coroutine and cancels the task at a suspension, counted from 1, and at ``again`` more after it."""

    def __init__(self, work: Coroutine[Any, Any, Any], points: set[int], way: str) -> None:
        self._work = work
        self._points = points
        self._way = way
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        steps = self._work.__await__()
        sent: Any = None
        error: BaseException | None = None
        while True:
            try:
                yielded = steps.send(sent) if error is None else steps.throw(error)
            except StopIteration as stop:
                return stop.value
            sent, error = None, None
            self.suspensions += 1
            if self.suspensions in self._points:
                if self._way == LATE and yielded is not None:
                    # Before the task's own callback, which is added when the future reaches it.
                    yielded.add_done_callback(lambda _: task.cancel())
                else:
                    task.cancel()
            try:
                sent = yield yielded
            except BaseException as thrown:
                error = thrown


@dataclass(frozen=True, slots=True)
class Left:
    """Resources of a process: threads by name, descriptors by target, files of a folder."""

    threads: list[str]
    descriptors: list[str]

    @classmethod
    def now(cls) -> Left:
        targets = []
        for number in os.listdir("/proc/self/fd"):
            try:
                targets.append(os.readlink(f"/proc/self/fd/{number}"))
            except OSError:
                continue  # the one that reads the folder
        kinds = sorted(target.split(":[")[0] for target in targets)
        return cls(sorted(thread.name for thread in threading.enumerate()), kinds)


def assert_nothing_left(before: Left, what: str) -> None:
    """Wait for threads that are about to end, then compare."""
    until = time.monotonic() + SETTLED_SECONDS_MAX
    while (after := Left.now()) != before and time.monotonic() < until:
        gc.collect()  # gRPC closes what belongs to a server or a channel once that is collected
        time.sleep(0.005)  # no event signals that the kernel has removed a thread
    # Not compared with `==` inside the assertion: a rewritten one of 3.11 fails on deep stacks.
    if after != before:
        raise AssertionError(f"{what}: {before} became {after}")


def at_every_point(
    work: Callable[[], Coroutine[Any, Any, Any]],
    after: Callable[[], Awaitable[None]] | None = None,
    *,
    way: str = EARLY,
    twice: bool = False,
) -> int:
    """Cancel ``work()`` at each of its suspensions in turn, each in a loop of its own, until one run completes.

    ``after`` runs in the same loop after each run. ``twice`` cancels at the next suspension as well. Returns the number
    of suspensions. Asserts that no thread, descriptor or task is left.
    """
    uvloop.new_event_loop().close()  # the first one of a process opens a pipe for signals, for good
    for point in range(1, POINTS_MAX):
        gc.collect()  # what earlier tests left to the collector must not count
        before = Left.now()
        with asyncio.Runner() as runner:
            completed = runner.run(_one_run(work, after, {point, point + 1} if twice else {point}, way))
        assert_nothing_left(before, f"cancelled {way} at suspension {point}")
        if completed:
            return point - 1
    raise AssertionError(f"more than {POINTS_MAX} suspensions")


async def _one_run(
    work: Callable[[], Coroutine[Any, Any, Any]],
    after: Callable[[], Awaitable[None]] | None,
    points: set[int],
    way: str,
) -> bool:
    run: list[_CancelAt] = []

    async def cancelled_run() -> None:
        run.append(_CancelAt(work(), points, way))
        await run[0]

    task = asyncio.get_running_loop().create_task(cancelled_run())
    [outcome] = await asyncio.gather(task, return_exceptions=True)
    if outcome is not None and not isinstance(outcome, asyncio.CancelledError):
        raise outcome
    if after is not None:
        await after()
    left = {other.get_name() for other in asyncio.all_tasks()} - {asyncio.current_task().get_name()}  # type: ignore[union-attr]
    assert not left, f"cancelled {way} at suspension {sorted(points)}: tasks {left}"
    return run[0].suspensions < min(points)


def files_of(folder: Path) -> list[str]:
    """Return the names of a folder's files."""
    return sorted(path.name for path in folder.iterdir())


ways = pytest.mark.parametrize("way", [EARLY, LATE])
