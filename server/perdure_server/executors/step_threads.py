"""A bounded pool of threads for plain functions. A thread that does not return can be removed from it.

Theory of operation. Threads are daemons, because one that hangs in user code must not keep the process from ending
(those of `concurrent.futures` do). An attempt that exceeds its timeout is *abandoned*: its thread ends when the code
returns, and another thread replaces it, up to a limit. Beyond the limit, the pool shrinks.

Counts change on the server's event loop only. Threads share only a queue and ``send``.
"""

from __future__ import annotations

import contextvars
import inspect
import logging
import queue
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from perdure_server.executors.conversion import context_of, failure_of, result_of
from perdure_server.executors.steps_loop import BEGAN, Began
from perdure_server.process.forks import end_if_child
from perdure_server.runtime.dispatch.protocol import TaskFailed, TaskKey, TaskResult, TaskStopped, key_of
from perdure_server.runtime.ports import TaskToRun

log = logging.getLogger(__name__)

SYNC_STEPS_MAX: Final = 32
"""Default maximum number of plain functions that run at the same time."""

ABANDONED_THREADS_MAX: Final = 32
"""Default maximum number of abandoned threads that are replaced. Further ones reduce the slots of the pool."""


@dataclass(frozen=True, slots=True)
class Awaiting:
    """A plain function returned an awaitable, which the step event loop must await."""

    awaitable: Awaitable[object]


class ThreadEnded:
    """An abandoned thread has ended."""


THREAD_ENDED: Final = ThreadEnded()
_NO_KEY: Final = TaskKey("", "", 0)

SendFromThread = Callable[[TaskKey, TaskResult | Began | Awaiting | ThreadEnded], None]


@dataclass(slots=True, eq=False)
class _Item:
    task: TaskToRun
    handler: Callable[[Any], object]
    stopped: bool = False
    worker: _Worker | None = None


@dataclass(slots=True, eq=False)
class _Worker:
    abandoned: bool = False


class StepThreads:
    """The pool. Call its methods on the server's event loop. It calls ``send`` from its threads."""

    def __init__(
        self,
        send: SendFromThread,
        *,
        max_sync_steps: int = SYNC_STEPS_MAX,
        max_abandoned: int = ABANDONED_THREADS_MAX,
    ) -> None:
        self._send = send
        self._max_sync_steps = max_sync_steps
        self._max_abandoned = max_abandoned
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._items: dict[TaskKey, _Item] = {}
        self._live = 0
        self.abandoned = 0
        """Number of threads whose attempt exceeded its timeout and still runs."""

    @property
    def slots(self) -> int:
        """Number of attempts that can run at the same time now."""
        return max(0, self._max_sync_steps - max(0, self.abandoned - self._max_abandoned))

    def put(self, task: TaskToRun, handler: Callable[[Any], object]) -> None:
        """Run an attempt as soon as a thread is free."""
        item = self._items[key_of(task)] = _Item(task, handler)
        self._queue.put(item)
        self._grow()

    def stop(self, key: TaskKey) -> None:
        """Do not start the attempt. A running one continues, because a thread cannot be stopped."""
        item = self._items.get(key)
        if item is not None:
            item.stopped = True

    def ended(self, key: TaskKey) -> None:
        """Record that the attempt has ended."""
        self._items.pop(key, None)

    def abandon(self, key: TaskKey) -> None:
        """Abandon the attempt's thread."""
        item = self._items.pop(key, None)
        if item is None or item.worker is None or item.worker.abandoned:
            return
        item.worker.abandoned = True
        self._live -= 1
        self.abandoned += 1
        self._grow()

    def on_thread_ended(self) -> None:
        """Record that an abandoned thread has ended."""
        self.abandoned -= 1
        self._grow()

    def close(self) -> None:
        """Let each thread end after its attempt. Those that hang end with the process."""
        for item in self._items.values():
            item.stopped = True
        for _ in range(self._live):
            self._queue.put(None)
        self._live = 0

    def _grow(self) -> None:
        while self._live < min(self.slots, len(self._items)):
            worker = _Worker()
            try:
                threading.Thread(target=self._work, args=(worker,), name="perdure-step", daemon=True).start()
            except RuntimeError as error:
                log.error("step thread not started", extra={"reason": str(error)})
                break
            self._live += 1

    def _work(self, worker: _Worker) -> None:
        while not worker.abandoned:
            item = self._queue.get()
            if item is None:
                return
            item.worker = worker
            key = key_of(item.task)
            try:
                # In its own context, so that context variables of one step are not visible to the next.
                result = contextvars.Context().run(self._run, key, item)
            except BaseException as error:  # noqa: BLE001 - reading an exception can run user code
                result = TaskFailed(
                    type(error).__name__, "the failure of the step could not be read", retryable=True
                )
            self._send(key, result)
            # Keep no reference while the thread waits for the next attempt, which can take long.
            del item, result
        self._send(_NO_KEY, THREAD_ENDED)

    def _run(self, key: TaskKey, item: _Item) -> TaskResult | Awaiting:
        task = item.task
        if item.stopped:
            return TaskStopped()
        try:
            if task.attempt_timeout_ms is not None:
                self._send(key, BEGAN)
            value = item.handler(context_of(task))
            end_if_child(failed=False)
            return Awaiting(value) if inspect.isawaitable(value) else result_of(task, value)
        except BaseException as error:  # noqa: BLE001 - no exception leaves a step
            end_if_child(failed=True)
            return failure_of(task, error)
