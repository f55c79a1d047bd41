"""The result reporter: turns results into commands and retries them until the store has taken them."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from functools import partial
from typing import Any, Final, assert_never

from perdure_server.engine import commands
from perdure_server.engine.commands import Command
from perdure_server.engine.rejections import AttemptStale, InstanceNotFound, Rejection
from perdure_server.runtime.clock import Rng
from perdure_server.runtime.dispatch.in_flight import InFlightTask, InFlightTasks
from perdure_server.runtime.dispatch.protocol import (
    TaskFailed,
    TaskFinished,
    TaskKey,
    TaskReleased,
    TaskResult,
    TaskStopped,
    TaskStore,
    TaskSuspended,
)
from perdure_server.runtime.errors import OwnershipLostError, ServerStoppingError
from perdure_server.runtime.ports import SubmitCommand
from perdure_server.store.protocol import StoreError
from perdure_server.telemetry.counters import CountersByName

log = logging.getLogger(__name__)

REPORT_TRIES_MAX: Final = 25
"""Maximum number of times that a result is submitted, which takes about two minutes."""

REPORT_BACKOFF_MS_MIN: Final = 50
REPORT_BACKOFF_MS_MAX: Final = 5_000
"""Pause between two submissions of a result, in milliseconds. It doubles from the minimum to the maximum."""

RESULTS: Final = ("ok", "failed", "timed_out", "cancelled", "released")
"""The ways in which an attempt ends. A suspended attempt is ``ok``. A stopped one is ``cancelled``, whatever its
handler returns. A released one runs again and does not count as a failure.
"""


class ResultReporter:
    """Stores the results of attempts, and frees their credits afterwards.

    ``on_finished`` is called with each attempt that is no longer in flight. ``changed`` is set when a release was
    stored.
    """

    def __init__(
        self,
        store: TaskStore,
        submit: SubmitCommand,
        in_flight: InFlightTasks,
        *,
        rng: Rng,
        changed: asyncio.Event,
        on_finished: Callable[[TaskKey], None],
    ) -> None:
        self._store = store
        self._submit = submit
        self._in_flight = in_flight
        self._rng = rng
        self._changed = changed
        self._on_finished = on_finished
        self._releases: set[asyncio.Future[Any]] = set()
        self.finished: CountersByName[str] = CountersByName(RESULTS)
        """Number of attempts that ended here, by workflow and result."""
        self.retries = 0
        """Number of repeated submissions of results."""
        self.dropped = 0
        """Number of results that were never stored."""

    @property
    def releases(self) -> int:
        """Number of releases that wait for their commit."""
        return len(self._releases)

    def report(self, key: TaskKey, result: TaskResult) -> None:
        """Store the result of an attempt. Results after the first are ignored."""
        in_flight = self._in_flight.tasks.get(key)
        if in_flight is None or in_flight.result is not None:
            return
        in_flight.result = result
        if not self._in_flight.finished_recently(key):
            self.finished.of(in_flight.task.workflow)[_result_label(in_flight, result)] += 1
        if in_flight.stopped or isinstance(result, TaskStopped):
            self._remove(key, in_flight)
        else:
            self._submit_result(key, in_flight)

    def release(self, key: TaskKey, workflow: str, reason: str) -> None:
        """Release an attempt that does not run here. If that fails, the next reconciliation releases it."""
        if self._in_flight.mark_finished(key):
            self.finished.of(workflow)["released"] += 1
        command = commands.ReleaseTask(
            at=self._store.now_ms(), step_ref=key.step_ref, attempt=key.attempt, reason=reason
        )
        try:
            response = self._submit(key.instance_id, command)
        except Exception as error:  # noqa: BLE001 - see above
            # At the end of a shutdown, the end of the lease releases the attempt.
            if not isinstance(error, ServerStoppingError):
                _log_release_failure(error, key.instance_id)
            return
        self._releases.add(response)
        response.add_done_callback(partial(self._on_released, key.instance_id))

    def _on_released(self, instance_id: str, done: asyncio.Future[Any]) -> None:
        self._releases.discard(done)
        self._changed.set()
        error = None if done.cancelled() else done.exception()
        if error is not None and not isinstance(error, AttemptStale | InstanceNotFound):
            _log_release_failure(error, instance_id)

    def _submit_result(self, key: TaskKey, in_flight: InFlightTask) -> None:
        assert in_flight.result is not None
        try:
            response = self._submit(key.instance_id, self._command(key, in_flight.result))
        except Exception as error:  # noqa: BLE001 - handled in one place
            self._on_response(key, in_flight, error)
        else:
            response.add_done_callback(partial(self._on_done, key, in_flight))

    def _on_done(self, key: TaskKey, in_flight: InFlightTask, done: asyncio.Future[Any]) -> None:
        self._on_response(key, in_flight, asyncio.CancelledError() if done.cancelled() else done.exception())

    def _on_response(self, key: TaskKey, in_flight: InFlightTask, error: BaseException | None) -> None:
        match error:
            case None:
                self._remove(key, in_flight)
            case AttemptStale() | InstanceNotFound() | OwnershipLostError() | ServerStoppingError():
                log.debug(
                    "stale result discarded", extra={"instance_id": key.instance_id, "reason": str(error)}
                )
                self._remove(key, in_flight)
            case Rejection() if isinstance(in_flight.result, TaskFailed | TaskReleased):
                log.error("result rejected", extra={"instance_id": key.instance_id, "reason": str(error)})
                self._in_flight.mark_finished(key)
                self._remove(key, in_flight)
            case Rejection():
                # A step whose result can never be stored must not run forever.
                in_flight.result = TaskFailed(
                    type(error).__name__, f"the result was rejected: {error}", retryable=False
                )
                self._submit_result(key, in_flight)
            case _:
                self._retry(key, in_flight, error)

    def _retry(self, key: TaskKey, in_flight: InFlightTask, error: BaseException) -> None:
        in_flight.report_attempts += 1
        tries = in_flight.report_attempts
        if tries >= REPORT_TRIES_MAX:
            log.error(
                "result dropped, retries exhausted",
                extra={"instance_id": key.instance_id, "reason": str(error), "tries": tries},
            )
            self.dropped += 1
            self._in_flight.mark_finished(key)
            self._remove(key, in_flight)
            return
        self.retries += 1
        if tries == 1 and not isinstance(error, StoreError):
            log.warning(
                "unhandled error while a result was stored, retrying",
                extra={"instance_id": key.instance_id},
                exc_info=error,
            )
        pause_ms = min(REPORT_BACKOFF_MS_MAX, REPORT_BACKOFF_MS_MIN << min(tries - 1, 10))
        pause_s = pause_ms * random.uniform(0.5, 1.0) / 1000
        asyncio.get_running_loop().call_later(pause_s, self._submit_result, key, in_flight)

    def _remove(self, key: TaskKey, in_flight: InFlightTask) -> None:
        self._in_flight.remove(key, in_flight)
        self._on_finished(key)

    def _command(self, key: TaskKey, result: TaskResult) -> Command:
        step_ref, attempt, at = key.step_ref, key.attempt, self._store.now_ms()
        match result:
            case TaskFinished(event=event, output=output):
                return commands.FinishTask(
                    at=at, step_ref=step_ref, attempt=attempt, event=event, output=output
                )
            case TaskSuspended():
                return commands.SuspendTask(at=at, step_ref=step_ref, attempt=attempt)
            case TaskFailed(type=type_, message=message, retryable=retryable):
                return commands.FailTask(
                    at=at,
                    step_ref=step_ref,
                    attempt=attempt,
                    type=type_,
                    message=message,
                    retryable=retryable,
                    jitter=self._rng(),
                )
            case TaskReleased(reason=reason):
                return commands.ReleaseTask(at=at, step_ref=step_ref, attempt=attempt, reason=reason)
            case TaskStopped():
                raise AssertionError("a stopped attempt has no result")
            case _:
                assert_never(result)


def _log_release_failure(error: BaseException, instance_id: str) -> None:
    log.warning("task release failed", extra={"instance_id": instance_id, "reason": str(error)})


def _result_label(in_flight: InFlightTask, result: TaskResult) -> str:
    if in_flight.stopped:
        return "cancelled"
    match result:
        case TaskFinished() | TaskSuspended():
            return "ok"
        case TaskFailed(timed_out=timed_out):
            return "timed_out" if timed_out else "failed"
        case TaskReleased():
            return "released"
        case TaskStopped():
            return "cancelled"
        case _:
            assert_never(result)
