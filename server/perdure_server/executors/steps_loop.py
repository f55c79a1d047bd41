"""The step event loop: a thread with its own event loop that runs `async def` steps and keeps lifespans open.

Theory of operation. The server's loop passes attempts in a `Mailbox` and gets results through ``send``, which can be
called from any thread. A loop that does not respond to pings is blocked by a step, and `ownership` knows the attempt.
The thread cannot be interrupted, so it is abandoned: its later messages are dropped, and it ends when the blocking code
returns. A loop whose lifespans end early has ended as well, and is replaced too.

The loop survives any exception of user code. Exceptions inside a step are caught there. A `SystemExit` or
`KeyboardInterrupt` from a background task of a step ends ``run_forever``, which is then entered again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from perdure_server.executors.conversion import context_of, failure_of, place_of, result_of
from perdure_server.executors.failures import failure_from
from perdure_server.executors.mailbox import Mailbox
from perdure_server.executors.ownership import (
    OWNER,
    LifespanOwner,
    OwnedTask,
    Owner,
    StepOwner,
    create_owned_task,
    create_root_task,
    new_steps_loop,
    owner_of_running_code,
    place_of_thread,
    step_owner,
)
from perdure_server.executors.stall_watch import Ping
from perdure_server.process.forks import end_if_child
from perdure_server.runtime.dispatch.protocol import (
    TaskFailed,
    TaskKey,
    TaskReleased,
    TaskResult,
    TaskStopped,
    key_of,
)
from perdure_server.runtime.ports import TaskToRun

log = logging.getLogger(__name__)

Lifespan: TypeAlias = tuple[str, Callable[[], AbstractAsyncContextManager[None]]]
"""The name of its workflow for messages, and the function that opens it."""

_LOOP_ENDED: Final = TaskReleased("the step event loop has ended")
_ENDED_LOOP: Final = TaskFailed(
    "StepsLoopEnded", "the step cancelled the lifespans on the step event loop", retryable=True
)

LEAVE_SECONDS_MAX: Final = 5.0
"""Maximum time for cancelled steps to end, and for the lifespans to exit after them, in seconds."""


class LifespanError(Exception):
    """A workflow's ``lifespan`` raised, or ended, before it yielded."""

    def __init__(self, owner: str, reason: str) -> None:
        super().__init__(f"the lifespan of {owner} failed: {reason}")
        self.owner = owner


class Began:
    """Sent when an attempt with a timeout starts."""


BEGAN: Final = Began()


@dataclass(frozen=True, slots=True)
class Probe:
    """Send `Probed` for an attempt as soon as the loop responds."""

    key: TaskKey


class Probed:
    """Sent when the loop has handled a `Probe`."""


PROBED: Final = Probed()

Send: TypeAlias = Callable[[TaskKey, TaskResult | Began | Probed], None]
"""Takes a message about an attempt. Can be called from any thread."""


@dataclass(frozen=True, slots=True)
class Run:
    """Run an attempt by its coroutine function, or await the ``awaitable`` that its plain function returned."""

    task: TaskToRun
    handler: Callable[[Any], Awaitable[object]] | None
    awaitable: Awaitable[object] | None = None


class StepsLoop:
    """One event loop in one daemon thread. Created, closed and abandoned on the server's event loop."""

    def __init__(self, lifespans: Sequence[Lifespan], send: Send) -> None:
        self._loop = new_steps_loop()
        self._loop.set_exception_handler(_on_stray_exception)
        self._lifespans = lifespans
        self._send_message = send
        self._tasks: dict[TaskKey, OwnedTask] = {}
        self._stopping: set[TaskKey] = set()
        self._inbox: Mailbox[Run | TaskKey | Probe] = Mailbox(self._loop, self._receive)
        self._opened: Future[None] = Future()
        self._ended: Future[None] = Future()
        self._closing = asyncio.Event()
        self._ending = False
        self._abandoned = False
        self._pings = 0
        self._pongs = 0
        self._unanswered = 0
        self._pinged_at = self._ponged_at = 0.0
        self._opening = ""
        self._ended_by: StepOwner | None = None
        self._thread = threading.Thread(target=self._main, name="perdure-steps", daemon=True)

    # --- on the server's event loop --------------------------------------------------------------------------------

    async def open(self) -> None:
        """Start the thread and enter the lifespans. Raises `LifespanError`."""
        self._thread.start()
        await asyncio.shield(asyncio.wrap_future(self._opened))

    def put(self, item: Run | TaskKey | Probe) -> None:
        """Run an attempt, cancel it (a key), or respond to a probe."""
        self._inbox.put(item)

    async def close(self) -> None:
        """Cancel running steps, exit the lifespans, and end the thread. Abandon it if that takes too long.

        If the lifespans are still being opened, cancel that.
        """
        if not self._thread.is_alive():
            if self._thread.ident is None:
                self._loop.close()
            return
        with suppress(RuntimeError):  # the loop has just closed itself
            self._loop.call_soon_threadsafe(
                self._closing.set if self._opened.done() else self._cancel_opening
            )
        seconds = 3 * LEAVE_SECONDS_MAX if self._opened.done() else LEAVE_SECONDS_MAX
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(asyncio.wrap_future(self._ended))
        except TimeoutError:
            log.error("step event loop did not stop, abandoning it")
            self.abandon()

    def ping(self, ping_seconds: float) -> Ping:
        """Check the response to the last ping and send the next one. Call it every ``ping_seconds``.

        Unanswered pings are counted in calls, and the lag is bounded by them: a suspended process is not a stall.
        """
        checks = self._unanswered + 1
        if self._pongs != self._pings:
            self._unanswered = checks
            return Ping(checks, min(time.monotonic() - self._pinged_at, (checks + 1) * ping_seconds))
        lag = min(max(self._ponged_at - self._pinged_at, 0.0), checks * ping_seconds)
        self._unanswered = 0
        self._pings += 1
        self._pinged_at = time.monotonic()
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._pong)
        return Ping(0, lag)

    def abandon(self) -> None:
        """Ignore this loop from now on. It ends when the blocking code returns."""
        self._abandoned = True
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._closing.set)

    @property
    def has_ended(self) -> bool:
        """True if the thread has ended."""
        return self._ended.done()

    @property
    def ended_by(self) -> StepOwner | None:
        """Attempt whose code ended the loop by cancelling its lifespans, None if unknown."""
        return self._ended_by

    def end_of(self, key: TaskKey) -> TaskFailed | TaskReleased:
        """Return the result of an attempt that was lost with the loop: a failure only if it ended the loop itself."""
        is_guilty = self._ended_by is not None and self._ended_by.key == key
        return _ENDED_LOOP if is_guilty else _LOOP_ENDED

    def running(self) -> Owner | None:
        """Return the owner of the code that the thread runs now, None if unknown or idle."""
        return owner_of_running_code(self._loop)

    def place(self) -> str:
        """Return the innermost place of user code that the thread runs now: ``file:line in function``."""
        return place_of_thread(self._thread)

    @property
    def opening(self) -> str:
        """Name of the lifespan that is being opened."""
        return self._opening

    # --- in the thread ----------------------------------------------------------------------------------------

    def _main(self) -> None:
        self._live_task = create_owned_task(self._loop, self._live(), name="perdure-lifespans")
        try:
            while not self._ending and not self._loop.is_closed():
                try:
                    self._loop.run_forever()
                except BaseException as error:  # noqa: BLE001 - see the module
                    log.error(
                        "exception stopped the step event loop, restarting it",
                        extra={"error": type(error).__name__},
                    )
            _wind_up(self._loop)
        finally:
            del self._live_task
            self._ended.set_result(None)

    async def _live(self) -> None:
        """Keep all lifespans open in one task, as their authors can expect."""
        try:
            async with AsyncExitStack() as stack:
                for owner, enter in self._lifespans:
                    self._opening = owner
                    self._own_lifespans(LifespanOwner(owner))
                    try:
                        await stack.enter_async_context(enter())
                    except BaseException as error:
                        if self._closing.is_set():
                            raise
                        failure = failure_from(error)
                        raise LifespanError(owner, f"{failure.type}: {failure.message}") from error
                self._opened.set_result(None)
                await self._closing.wait()
                await self._cancel_steps()
        except BaseException as error:
            if self._opened.done():
                log.error("lifespan exit failed", exc_info=error)
            elif self._closing.is_set():
                self._opened.cancel()
            else:
                self._opened.set_exception(error)
        finally:
            live = asyncio.current_task()
            self._ended_by = live.cancelled_by if isinstance(live, OwnedTask) else None
            self._ending = True
            self._loop.stop()

    def _cancel_opening(self) -> None:
        self._closing.set()
        if not self._opened.done():
            self._live_task.cancel()

    async def _cancel_steps(self) -> None:
        tasks = list(self._tasks.values())
        for key in list(self._tasks):
            self._stop(key)
        if tasks:
            await asyncio.wait(tasks, timeout=LEAVE_SECONDS_MAX)

    def _receive(self, item: Run | TaskKey | Probe) -> None:
        if isinstance(item, TaskKey):
            self._stop(item)
            return
        if isinstance(item, Probe):
            self._send(item.key, PROBED)
            return
        key = key_of(item.task)
        owner = step_owner(item.task, key)
        started = self._tasks[key] = create_root_task(self._loop, self._run(key, item, owner), owner)
        started.add_done_callback(lambda done: self._on_end(key, done))

    def _stop(self, key: TaskKey) -> None:
        running = self._tasks.get(key)
        if running is not None:
            self._stopping.add(key)
            running.cancel()

    async def _run(self, key: TaskKey, item: Run, owner: StepOwner) -> TaskResult:
        task = item.task
        OWNER.set(owner)
        try:
            if item.awaitable is not None:
                return result_of(task, await item.awaitable)
            assert item.handler is not None
            if task.attempt_timeout_ms is not None:
                self._send(key, BEGAN)
            value = await item.handler(context_of(task))
            end_if_child(failed=False)
            return result_of(task, value)
        except BaseException as error:  # noqa: BLE001 - no exception leaves a step
            end_if_child(failed=True)
            if key in self._stopping:
                return TaskStopped()
            is_lost = isinstance(error, asyncio.CancelledError) and self._tasks[key].is_ended_by_loop
            return self.end_of(key) if is_lost else failure_of(task, error)

    def _own_lifespans(self, owner: LifespanOwner) -> None:
        OWNER.set(owner)
        live = asyncio.current_task()
        assert isinstance(live, OwnedTask)
        live.owner = owner

    def _on_end(self, key: TaskKey, done: asyncio.Task[TaskResult]) -> None:
        self._tasks.pop(key, None)
        was_stopped = key in self._stopping
        self._stopping.discard(key)
        if done.cancelled():
            # Cancelled before its first line or after its last, by code of another step. This counts as a failure.
            message = "the step was cancelled by code outside of it"
            failed = TaskFailed("CancelledError", message, retryable=True)
            is_lost = isinstance(done, OwnedTask) and done.is_ended_by_loop
            self._send(key, TaskStopped() if was_stopped else self.end_of(key) if is_lost else failed)
        elif (error := done.exception()) is not None:
            self._send(key, TaskFailed(type(error).__name__, "the step could not be started", retryable=True))
        else:
            self._send(key, done.result())

    def _send(self, key: TaskKey, message: TaskResult | Began | Probed) -> None:
        if not self._abandoned:
            self._send_message(key, message)

    def _pong(self) -> None:
        self._ponged_at = time.monotonic()
        self._pongs += 1


_FIXED_MESSAGES: Final = frozenset(
    {
        "Task was destroyed but it is pending!",
        "Task exception was never retrieved",
        "Future exception was never retrieved",
    }
)
"""Messages of an event loop that quote nothing. Other messages contain a callback with its arguments."""


def _on_stray_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error, message = context.get("exception"), context.get("message")
    log.warning(
        "error on the step event loop outside of any step",
        extra={
            "reason": message if message in _FIXED_MESSAGES else "callback failed",
            "error": type(error).__name__ if error else "",
            "where": place_of(error) if error else "",
        },
    )


def _wind_up(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel the tasks that steps left on their loop, and close it."""
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.end_with_loop() if isinstance(task, OwnedTask) else task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=LEAVE_SECONDS_MAX))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    except BaseException as error:  # noqa: BLE001 - the thread ends here in any case
        log.warning("step event loop close failed", extra={"error": type(error).__name__})
