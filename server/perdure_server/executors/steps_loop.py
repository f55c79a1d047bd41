"""A thread with an event loop of its own, on which `async def` steps run and lifespans are held open.

Theory of operation. The server's loop hands over by a `Mailbox` and is told each end through ``tell``, which
may be called from any thread. A loop that does not answer pings is stalled: some step blocks it. Nothing can
be done to that thread, so it is abandoned: what it says from then on is dropped, and if it ever comes to
itself, it ends. One whose lifespans end before their time has ended as well, and is replaced, too.

Whatever user code raises, the loop goes on: inside a step everything is caught there; out of a background
task of a step, `SystemExit` and `KeyboardInterrupt` end ``run_forever``, which is then entered again.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from perdure_server.executors.mailbox import Mailbox
from perdure_server.executors.results import clean, context_of, failure_of, place_of, result_of
from perdure_server.process.forks import end_if_child
from perdure_server.runtime.ports import TaskToRun
from perdure_server.runtime.tasks import TaskFailed, TaskKey, TaskResult, TaskStopped, key_of

log = logging.getLogger(__name__)

Lifespan: TypeAlias = tuple[str, Callable[[], AbstractAsyncContextManager[None]]]
"""Whose it is, for messages, and how to open it."""

LEAVE_SECONDS_MAX: Final = 5.0
"""How long steps that were cancelled, and then the lifespans, have to come to their end."""


class LifespanFailed(Exception):
    """A workflow's ``lifespan`` raised, or ended, before it yielded."""

    def __init__(self, owner: str, reason: str) -> None:
        super().__init__(f"the lifespan of {owner} failed: {reason}")
        self.owner = owner


class Began:
    """Told when an attempt's code begins, if its time is bounded."""


BEGAN: Final = Began()

Tell: TypeAlias = Callable[[TaskKey, TaskResult | Began], None]
"""Takes what became of an attempt. From any thread."""


@dataclass(frozen=True, slots=True)
class Run:
    """Run an attempt by its coroutine function, or (``awaitable``) go on with what its plain function returned."""

    task: TaskToRun
    code: Callable[[Any], Awaitable[object]] | None
    awaitable: Awaitable[object] | None = None


class StepsLoop:
    """One loop in one daemon thread. Made, closed and abandoned by the server's loop."""

    def __init__(self, lifespans: Sequence[Lifespan], tell: Tell) -> None:
        self._loop = _new_loop()
        self._loop.set_exception_handler(_on_stray_exception)
        self._lifespans = lifespans
        self._tell = tell
        self._tasks: dict[TaskKey, asyncio.Task[TaskResult]] = {}
        self._stopping: set[TaskKey] = set()
        self._inbox: Mailbox[Run | TaskKey] = Mailbox(self._loop, self._receive)
        self._opened: Future[None] = Future()
        self._ended: Future[None] = Future()
        self._closing = asyncio.Event()
        self._ending = False
        self._abandoned = False
        self._pings = 0
        self._pongs = 0
        self._unanswered = 0
        self._thread = threading.Thread(target=self._main, name="perdure-steps", daemon=True)

    # --- the server's side -----------------------------------------------------------------------------------

    async def open(self) -> None:
        """Start the thread and enter the lifespans. Raises `LifespanFailed`."""
        self._thread.start()
        await asyncio.shield(asyncio.wrap_future(self._opened))

    def put(self, item: Run | TaskKey) -> None:
        """Run an attempt, or (a key) cancel it."""
        self._inbox.put(item)

    async def close(self) -> None:
        """Cancel what runs, leave the lifespans, end the thread; abandon it if that takes too long."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._closing.set)
        try:
            async with asyncio.timeout(3 * LEAVE_SECONDS_MAX):
                await asyncio.shield(asyncio.wrap_future(self._ended))
        except TimeoutError:
            log.error("the steps' loop did not end and is abandoned")
            self.abandon()

    def ping(self) -> int:
        """Ask for a sign of life. Returns how many calls in a row found the last ping unanswered.

        Counted in calls, not in time: when the whole process stood still, that is nobody's fault.
        """
        if self._pongs == self._pings:
            self._unanswered = 0
            self._pings += 1
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._pong)
        else:
            self._unanswered += 1
        return self._unanswered

    def abandon(self) -> None:
        """Hear nothing from this loop any more. Should it come to itself, it ends."""
        self._abandoned = True
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._closing.set)

    @property
    def has_ended(self) -> bool:
        """Whether the thread is gone."""
        return self._ended.done()

    def stack(self) -> str:
        """What the thread is doing: who stalls it."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "".join(traceback.format_stack(frame, limit=12)) if frame else ""

    # --- the thread's side -----------------------------------------------------------------------------------

    def _main(self) -> None:
        live = self._loop.create_task(self._live(), name="perdure-lifespans")
        try:
            while not self._ending and not self._loop.is_closed():
                try:
                    self._loop.run_forever()
                except BaseException as error:  # noqa: BLE001 - see the module
                    log.error("code raised %s out of the steps' loop, which goes on", type(error).__name__)
            _wind_up(self._loop)
        finally:
            del live
            self._ended.set_result(None)

    async def _live(self) -> None:
        """Hold the lifespans open, all in one task, as their authors may expect."""
        try:
            async with AsyncExitStack() as stack:
                for owner, enter in self._lifespans:
                    try:
                        await stack.enter_async_context(enter())
                    except BaseException as error:
                        raise LifespanFailed(owner, clean(f"{type(error).__name__}: {error}")) from error
                self._opened.set_result(None)
                await self._closing.wait()
                await self._cancel_steps()
        except BaseException as error:
            if self._opened.done():
                log.error("a lifespan was not left cleanly", exc_info=error)
            else:
                self._opened.set_exception(error)
        finally:
            self._ending = True
            self._loop.stop()

    async def _cancel_steps(self) -> None:
        tasks = list(self._tasks.values())
        for key in list(self._tasks):
            self._stop(key)
        if tasks:
            await asyncio.wait(tasks, timeout=LEAVE_SECONDS_MAX)

    def _receive(self, item: Run | TaskKey) -> None:
        if isinstance(item, TaskKey):
            self._stop(item)
            return
        key = key_of(item.task)
        started = self._tasks[key] = self._loop.create_task(self._run(key, item))
        started.add_done_callback(lambda done: self._on_end(key, done))

    def _stop(self, key: TaskKey) -> None:
        running = self._tasks.get(key)
        if running is not None:
            self._stopping.add(key)
            running.cancel()

    async def _run(self, key: TaskKey, item: Run) -> TaskResult:
        task = item.task
        try:
            if item.awaitable is not None:
                return result_of(task, await item.awaitable)
            assert item.code is not None
            if task.attempt_timeout_ms is not None:
                self._say(key, BEGAN)
            value = await item.code(context_of(task))
            end_if_child(failed=False)
            return result_of(task, value)
        except BaseException as error:  # noqa: BLE001 - nothing leaves a step
            end_if_child(failed=True)
            return TaskStopped() if key in self._stopping else failure_of(task, error)

    def _on_end(self, key: TaskKey, done: asyncio.Task[TaskResult]) -> None:
        self._tasks.pop(key, None)
        was_stopped = key in self._stopping
        self._stopping.discard(key)
        if done.cancelled():
            # Before its first line, or behind its last: then by other code of a step, which is a failure like any.
            message = "the step was cancelled by code outside of it"
            self._say(
                key, TaskStopped() if was_stopped else TaskFailed("CancelledError", message, retryable=True)
            )
        elif (error := done.exception()) is not None:
            self._say(key, TaskFailed(type(error).__name__, "the step could not be run", retryable=True))
        else:
            self._say(key, done.result())

    def _say(self, key: TaskKey, what: TaskResult | Began) -> None:
        if not self._abandoned:
            self._tell(key, what)

    def _pong(self) -> None:
        self._pongs += 1


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


_FIXED_WORDS: Final = frozenset(
    {
        "Task was destroyed but it is pending!",
        "Task exception was never retrieved",
        "Future exception was never retrieved",
    }
)
"""What a loop says without quoting anything. Its other messages hold what a callback prints as, its arguments too."""


def _on_stray_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error, message = context.get("exception"), context.get("message")
    log.warning(
        "on the steps' loop, outside of any step: %s",
        message if message in _FIXED_WORDS else "a callback failed",
        extra={"error": type(error).__name__ if error else "", "where": place_of(error) if error else ""},
    )


def _wind_up(loop: asyncio.AbstractEventLoop) -> None:
    """End what steps left behind on their loop, and close it."""
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=LEAVE_SECONDS_MAX))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    except BaseException as error:  # noqa: BLE001 - the thread ends here, whatever they left
        log.warning("the steps' loop was not closed cleanly: %s", type(error).__name__)
