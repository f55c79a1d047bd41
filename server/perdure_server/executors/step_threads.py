"""A bounded pool of threads for plain functions, from which a thread that does not come back can be taken
out.

Theory of operation. Threads are daemons: one that hangs in user code must not keep the process from ending
(those of `concurrent.futures` do). An attempt that is over its time is *abandoned*: its thread ends as soon
as the code returns, and until then another one has its slot, up to a cap; beyond, the pool shrinks.

Counts change on the server's loop only. Threads share nothing but a queue and ``tell``.
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
from perdure_server.runtime.ports import TaskToRun
from perdure_server.runtime.tasks import TaskFailed, TaskKey, TaskResult, TaskStopped, key_of

log = logging.getLogger(__name__)

SYNC_STEPS_MAX: Final = 32
"""How many plain functions run at once."""

ABANDONED_THREADS_MAX: Final = 32
"""How many threads may hang in code that is over its time before their slots are missed."""


@dataclass(frozen=True, slots=True)
class Awaiting:
    """A plain function returned an awaitable: the steps' loop has to go on with it."""

    awaitable: Awaitable[object]


class ThreadEnded:
    """An abandoned thread came back and ended."""


THREAD_ENDED: Final = ThreadEnded()
_NO_KEY: Final = TaskKey("", "", 0)

TellThread = Callable[[TaskKey, TaskResult | Began | Awaiting | ThreadEnded], None]


@dataclass(slots=True, eq=False)
class _Item:
    task: TaskToRun
    code: Callable[[Any], object]
    stopped: bool = False
    worker: _Worker | None = None


@dataclass(slots=True, eq=False)
class _Worker:
    abandoned: bool = False


class StepThreads:
    """The pool. Its methods belong to the server's loop; ``tell`` is called from its threads."""

    def __init__(
        self,
        tell: TellThread,
        *,
        max_sync_steps: int = SYNC_STEPS_MAX,
        abandoned_max: int = ABANDONED_THREADS_MAX,
    ) -> None:
        self._tell = tell
        self._max_sync_steps = max_sync_steps
        self._abandoned_max = abandoned_max
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._items: dict[TaskKey, _Item] = {}
        self._live = 0
        self.abandoned = 0
        """How many threads hang in code that is over its time."""

    @property
    def slots(self) -> int:
        """How many attempts can run at once, now."""
        return max(0, self._max_sync_steps - max(0, self.abandoned - self._abandoned_max))

    def put(self, task: TaskToRun, code: Callable[[Any], object]) -> None:
        """Run an attempt as soon as a thread is free."""
        item = self._items[key_of(task)] = _Item(task, code)
        self._queue.put(item)
        self._grow()

    def stop(self, key: TaskKey) -> None:
        """Do not begin the attempt. One that has begun goes on: a thread cannot be stopped."""
        item = self._items.get(key)
        if item is not None:
            item.stopped = True

    def ended(self, key: TaskKey) -> None:
        """Take note that the attempt's code was told to have ended."""
        self._items.pop(key, None)

    def abandon(self, key: TaskKey) -> None:
        """Give the attempt's thread up."""
        item = self._items.pop(key, None)
        if item is None or item.worker is None or item.worker.abandoned:
            return
        item.worker.abandoned = True
        self._live -= 1
        self.abandoned += 1
        self._grow()

    def came_back(self) -> None:
        """Take note that an abandoned thread has ended."""
        self.abandoned -= 1
        self._grow()

    def close(self) -> None:
        """Let the threads end after what they are doing. Those that hang die with the process."""
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
                log.error("no thread for steps: %s", error)
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
                # In a context of its own, so that nothing set by one step is seen by the next.
                result = contextvars.Context().run(self._run, key, item)
            except BaseException as error:  # noqa: BLE001 - saying what the code raised ran more of its code
                result = TaskFailed(
                    type(error).__name__, "the step's failure could not be told", retryable=True
                )
            self._tell(key, result)
            # Until the next attempt, which may be long, nothing of this one is kept.
            del item, result
        self._tell(_NO_KEY, THREAD_ENDED)

    def _run(self, key: TaskKey, item: _Item) -> TaskResult | Awaiting:
        task = item.task
        if item.stopped:
            return TaskStopped()
        try:
            if task.attempt_timeout_ms is not None:
                self._tell(key, BEGAN)
            value = item.code(context_of(task))
            end_if_child(failed=False)
            return Awaiting(value) if inspect.isawaitable(value) else result_of(task, value)
        except BaseException as error:  # noqa: BLE001 - nothing leaves a step
            end_if_child(failed=True)
            return failure_of(task, error)
