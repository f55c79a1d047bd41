"""Background work on the event loop: `BackgroundLoop` repeats a job, `BackgroundTasks` tracks single ones."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from perdure_server.store.protocol import StoreError


class BackgroundLoop:
    """Runs ``work`` again and again until `stop`. An exception is logged and does not end the loop.

    ``work`` runs when `wake` was called, and every ``interval_seconds`` if that is given. ``pause_seconds`` is the
    minimum pause between two runs, ``failure_pause_seconds`` the one after a failed run. A `StoreError` is logged as a
    warning with its text, any other exception as an error with its stack. ``on_idle`` is called after each run.
    """

    def __init__(
        self,
        log: logging.Logger,
        failure: str,
        work: Callable[[], Awaitable[None]],
        *,
        name: str,
        interval_seconds: float | None = None,
        pause_seconds: float = 0.0,
        failure_pause_seconds: float = 0.0,
        on_idle: Callable[[], None] | None = None,
    ) -> None:
        """``failure`` is the log event of a failed run. ``name`` is the name of the asyncio task."""
        self._log = log
        self._failure = failure
        self._work = work
        self._name = name
        self._interval_seconds = interval_seconds
        self._pause_seconds = pause_seconds
        self._failure_pause_seconds = max(pause_seconds, failure_pause_seconds)
        self._on_idle = on_idle
        self._woken = asyncio.Event()
        self._running = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the loop. Call `wake` first for a first run at once."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """Cancel the loop and wait for its end. Can be called twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def wake(self) -> None:
        """Run soon."""
        self._woken.set()

    @property
    def alive(self) -> bool:
        """True between `start` and `stop`."""
        return self._task is not None and not self._task.done()

    @property
    def busy(self) -> bool:
        """True if ``work`` runs or was woken."""
        return self._running or self._woken.is_set()

    async def _run(self) -> None:
        while True:
            await self._wait()
            self._woken.clear()
            self._running = True
            pause_seconds = self._pause_seconds
            try:
                await self._work()
            except StoreError as error:
                self._log.warning(self._failure, extra={"reason": str(error)})
                pause_seconds = self._failure_pause_seconds
            except Exception:  # noqa: BLE001 - logged by the caller's logger, and the loop must survive any error
                self._log.exception(self._failure)
                pause_seconds = self._failure_pause_seconds
            finally:
                self._running = False
                if self._on_idle is not None:
                    self._on_idle()
            if pause_seconds:
                await asyncio.sleep(pause_seconds)

    async def _wait(self) -> None:
        if self._interval_seconds is None:
            await self._woken.wait()
            return
        try:
            async with asyncio.timeout(self._interval_seconds):
                await self._woken.wait()
        except TimeoutError:
            pass


class BackgroundTasks:
    """Tasks that nothing awaits. Keeps a reference to each while it runs."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine that handles its own errors."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def wait(self) -> None:
        """Return when every task that runs now has ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)
