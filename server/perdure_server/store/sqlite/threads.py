"""Threads with a connection each, which take work from the event loop and return results to it.

A piece of work costs one queue operation. All results that are ready together cost one wake-up of the loop.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

import apsw

from perdure_server.closing import finish
from perdure_server.store.protocol import CommitQueueFullError, StoreUnavailableError
from perdure_server.store.sqlite.errors import store_error

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[apsw.Connection], T]

JOBS_MAX: Final = 10_000
"""Maximum number of queued pieces of work for a set of threads."""

_Job = tuple[Work[Any], "asyncio.Future[Any]"]


class ConnectionThreads:
    """Threads that take work from one queue, each with its own connection. Belongs to one event loop."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], apsw.Connection],
        *,
        count: int = 1,
        after: Callable[[apsw.Connection], None] | None = None,
        idle_seconds: float | None = None,
        idle: Callable[[apsw.Connection], None] | None = None,
    ) -> None:
        """``after`` is called after each piece of work, once its result is sent to the loop. ``idle`` is called once
        if no work came for ``idle_seconds`` after the last one.
        """
        self._name = name
        self._connect = connect
        self._count = count
        self._after = after
        self._idle = idle
        self._idle_seconds = idle_seconds
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._results: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._waking = False
        self._threads: list[threading.Thread] = []
        self._closed = False

    async def start(self) -> None:
        """Start the threads and return once all are connected. Raises what ``connect`` raises.

        If it raises or is cancelled, no thread is left.
        """
        try:
            await self._start()
        except BaseException:
            await finish(self.close())
            raise

    async def _start(self) -> None:
        started: list[asyncio.Future[None]] = []
        for number in range(self._count):
            ready = self._loop.create_future()
            thread = threading.Thread(
                target=self._run, args=(ready,), name=f"perdure-{self._name}-{number}", daemon=True
            )
            thread.start()
            self._threads.append(thread)
            started.append(ready)
        errors = [
            error for error in await asyncio.gather(*started, return_exceptions=True) if error is not None
        ]
        if errors:
            raise errors[0]

    def submit(self, work: Work[T]) -> asyncio.Future[T]:
        """Run work on a thread. If the future is cancelled, work that no thread has started does not run.

        Raises `StoreUnavailableError` if closed, `CommitQueueFullError` if the queue is full.
        """
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        if self._jobs.qsize() >= JOBS_MAX:
            raise CommitQueueFullError(f"{JOBS_MAX} calls are queued for the database")
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((work, future))
        return future

    async def close(self) -> None:
        """Finish the submitted work and end the threads."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._jobs.put(None)
        # Joining must not stop the loop: it carries the last results.
        await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in self._threads))

    # --- on the threads ----------------------------------------------------------------------------------------

    def _run(self, ready: asyncio.Future[None]) -> None:
        try:
            connection = self._connect()
        except BaseException as error:  # noqa: BLE001 - `start` raises it on the loop's side
            self._hand_back(ready, None, error)
            return
        self._hand_back(ready, None, None)
        try:
            self._work(connection)
        finally:
            try:
                connection.close()
            except apsw.Error as error:
                # Acknowledged commits are in the log, which the next start reads.
                log.warning("the database could not be closed in order: %s", error)

    def _work(self, connection: apsw.Connection) -> None:
        timeout = None
        while True:
            try:
                job = self._jobs.get(timeout=timeout)
            except queue.Empty:
                timeout = None
                assert self._idle is not None
                self._idle(connection)
                continue
            if job is None:
                return
            work, future = job
            if future.cancelled():
                del job, work, future
                continue
            result: object = None
            error: BaseException | None = None
            try:
                result = work(connection)
            except apsw.Error as failure:
                error = store_error(failure)
            except BaseException as failure:  # noqa: BLE001 - reported to the caller, and the thread continues
                error = failure
            self._hand_back(future, result, error)
            del job, work, future, result, error
            if self._after is not None:
                self._after(connection)
            timeout = self._idle_seconds

    def _hand_back(self, future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
        self._results.append((future, result, error))
        if not self._waking:
            self._waking = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                # The loop is closed, so no caller waits any more.
                self._results.clear()

    # --- on the loop -------------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        # First the flag, then the results. A result in between costs an extra wake-up, never a missing one.
        self._waking = False
        while self._results:
            future, result, error = self._results.popleft()
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)
