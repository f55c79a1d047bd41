"""The sweeper: takes waiting tasks for executors that have room.

Tasks wait as rows if no credit was free when they became ready, if their replica is gone, or if the server restarted.
The first sweep after a start is therefore the recovery. The store is asked for each executor separately, and only
while that executor has room, so tasks that wait for one executor neither hide the tasks of another nor cost it
credits.

A free credit wakes the sweeper if its executor has a backlog. Executors without a backlog are polled once every
`SWEEP_MS`, for tasks that were not offered in this process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from perdure_server.engine import commands
from perdure_server.engine.rejections import AttemptStale, InstanceNotFound
from perdure_server.runtime.dispatch.credits import CreditLedger, RegisteredExecutor
from perdure_server.runtime.dispatch.in_flight import InFlightTasks
from perdure_server.runtime.dispatch.protocol import TaskKey, TaskStore, key_of
from perdure_server.runtime.errors import ServerStoppingError
from perdure_server.runtime.ports import SubmitCommand
from perdure_server.store.protocol import StoreError, TaskRow

log = logging.getLogger(__name__)

SWEEP_MS: Final = 1_000
"""Interval between two polls of an executor without a backlog, in milliseconds."""

SWEEP_TASKS_MAX: Final = 500
"""Maximum number of tasks that one sweep takes for an executor."""

SWEEP_ROWS_MAX: Final = 10_000
"""Maximum number of unusable rows (in flight, or rejected a moment ago) that a sweep reads past."""

REJECTED_MS: Final = 5_000
"""Time until a task is tried again whose take was rejected, in milliseconds."""


@dataclass(slots=True, eq=False)
class _Solo:
    """The attempt of a suspect step that is running; see `crash_recovery`."""

    key: TaskKey
    ended: asyncio.Event


class Sweeper:
    """``wake`` requests a sweep soon. ``changed`` is set when a take has ended."""

    def __init__(
        self,
        store: TaskStore,
        submit: SubmitCommand,
        ledger: CreditLedger,
        in_flight: InFlightTasks,
        *,
        sweep_ms: int,
        wake: Callable[[], None],
        changed: asyncio.Event,
    ) -> None:
        self._store = store
        self._submit = submit
        self._ledger = ledger
        self._in_flight = in_flight
        self._sweep_ms = sweep_ms
        self._wake = wake
        self._changed = changed
        self._rejected_until: dict[TaskKey, float] = {}
        self._solo: _Solo | None = None

    def wake_if_useful(self) -> None:
        """Request a sweep if tasks may be waiting for an executor that has room."""
        if self._ledger.has_room_for_backlog:
            self._wake()

    def offer(self, workflow: str, version: int, step_ref: str) -> None:
        """Record that a task of this step waits."""
        for entry in self._ledger.serving(workflow, version):
            if entry.has_handler(workflow, version, step_ref):
                entry.backlog = True
                entry.offers += 1
        self.wake_if_useful()

    def on_finished(self, key: TaskKey) -> None:
        """Handle the end of an attempt, which may have freed a credit."""
        self._changed.set()
        if self._solo is not None:
            self.end_solo(key)
        self.wake_if_useful()

    def poll_all(self) -> None:
        """Poll every executor in the next sweep, and request it."""
        for entry in self._ledger.executors:
            entry.poll_at = 0.0
        self._wake()

    async def sweep(self) -> None:
        """Take tasks that no live replica runs, for each executor with room."""
        # The event loop's clock: the store's clock can be set back by hours.
        now = asyncio.get_running_loop().time()
        self._rejected_until = {key: until for key, until in self._rejected_until.items() if until > now}
        for entry in tuple(self._ledger.executors):
            if self._ledger.room(entry) > 0:
                if entry.backlog or now >= entry.poll_at:
                    entry.poll_at = now + self._sweep_ms / 1000
                    await self._sweep_for(entry)
            elif now >= entry.poll_at:
                # Waiting tasks are unknown: the next free credit starts a poll.
                entry.backlog = True
        self.wake_if_useful()

    async def _sweep_for(self, entry: RegisteredExecutor) -> None:
        """Take the oldest tasks that an executor has handlers for, as many as it has room for."""
        ledger = self._ledger
        offers = entry.offers
        limit = min(ledger.room(entry), SWEEP_TASKS_MAX) + entry.unusable
        rows = await self._store.claimable_tasks(code=entry.handlers, limit=limit)
        taken = unusable = without_room = 0
        for row in rows:
            chosen = ledger.choose(row.workflow, row.version, row.step_ref)
            if chosen is None or self._is_unusable(key_of(row)):
                unusable += 1
            elif ledger.room(chosen) <= 0:
                without_room += 1
            else:
                self._take(row, chosen)
                taken += 1
        full = len(rows) >= limit
        before = entry.unusable
        entry.unusable = min((2 if full else 1) * unusable, SWEEP_ROWS_MAX)
        # If no row was usable and no more rows can be read, another sweep at once would read the same rows.
        more = full and (taken > 0 or entry.unusable > before)
        entry.backlog = more or without_room > 0 or entry.offers != offers

    def _is_unusable(self, key: TaskKey) -> bool:
        return key in self._in_flight.tasks or self._ledger.is_taking(key) or key in self._rejected_until

    # --- taking one task -------------------------------------------------------------------------------------

    def _take(self, row: TaskRow, entry: RegisteredExecutor) -> None:
        key = key_of(row)
        command = commands.TakeTask(
            at=self._store.now_ms(), step_ref=row.step_ref, lost_attempt=row.attempt if row.owner else 0
        )
        grant = self._ledger.start_take(key, entry)
        try:
            response = self._submit(row.instance_id, command, grant=grant)
        except Exception as error:  # noqa: BLE001 - handled in one place
            self._on_taken(key, error)
        else:
            response.add_done_callback(partial(self._on_take_done, key))

    def _on_take_done(self, key: TaskKey, done: asyncio.Future[Any]) -> None:
        self._on_taken(key, asyncio.CancelledError() if done.cancelled() else done.exception())

    def _on_taken(self, key: TaskKey, error: BaseException | None) -> None:
        self._ledger.end_take(key)
        self._changed.set()
        if error is not None:
            self._on_take_failed(key, error)
        # A failing store is asked again after a pause, not at once.
        if not isinstance(error, StoreError):
            self.wake_if_useful()

    def _on_take_failed(self, key: TaskKey, error: BaseException) -> None:
        # If the take succeeds, the effect of its commit runs the task and uses the slot.
        self._ledger.release(1)
        self.end_solo(key._replace(attempt=key.attempt + 1))
        if not isinstance(error, StoreError):
            self._rejected_until[key] = asyncio.get_running_loop().time() + REJECTED_MS / 1000
        if not isinstance(error, AttemptStale | InstanceNotFound | ServerStoppingError):
            log.warning("task claim failed", extra={"instance_id": key.instance_id, "reason": str(error)})

    # --- suspects --------------------------------------------------------------------------------------------

    async def run_alone(self, row: TaskRow) -> None:
        """Take a task and run it. Returns when its result is stored, or at once if it cannot be taken."""
        chosen = self._ledger.choose(row.workflow, row.version, row.step_ref)
        if chosen is None or chosen.free <= 0:
            return
        self._solo = _Solo(TaskKey(row.instance_id, row.step_ref, row.attempt + 1), asyncio.Event())
        try:
            self._take(row, chosen)
            await self._solo.ended.wait()
        finally:
            self._solo = None

    def end_solo(self, key: TaskKey) -> None:
        """Handle the end of an attempt that may be the one that runs alone."""
        if self._solo is not None and self._solo.key == key:
            self._solo.ended.set()
