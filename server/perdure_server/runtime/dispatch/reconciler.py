"""The reconciler: compares the attempts that the database counts as running here with those that do.

A difference is acted on if it is found twice in a row, because a commit or a hand-over may be in progress. An attempt
that does not run here is released: its commit's result was unknown, or the hand-over after its commit failed. An
attempt that the database no longer knows is stopped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from perdure_server.runtime.dispatch.in_flight import InFlightTasks
from perdure_server.runtime.dispatch.protocol import TaskKey, TaskStore, key_of

log = logging.getLogger(__name__)

RECONCILE_MS: Final = 2_000
"""Interval between two comparisons, in milliseconds."""


class Reconciler:
    """``release`` releases an attempt (key, workflow, reason), ``stop`` stops one."""

    def __init__(
        self,
        store: TaskStore,
        in_flight: InFlightTasks,
        replica_id: str,
        *,
        release: Callable[[TaskKey, str, str], None],
        stop: Callable[[TaskKey], None],
        interval_ms: int = RECONCILE_MS,
    ) -> None:
        self._store = store
        self._in_flight = in_flight
        self._replica_id = replica_id
        self._release = release
        self._stop = stop
        self._interval_ms = interval_ms
        self._due_at = 0.0
        self._not_running: frozenset[TaskKey] = frozenset()
        self._not_stored: frozenset[TaskKey] = frozenset()

    def replica_changed(self, replica_id: str) -> None:
        """Compare with the attempts of another replica ID from now on."""
        self._replica_id = replica_id
        self._not_running = self._not_stored = frozenset()

    async def reconcile_if_due(self) -> None:
        """Compare once every interval. Does nothing before the interval has passed."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._due_at:
            await self._reconcile()
            self._due_at = loop.time() + self._interval_ms / 1000

    async def _reconcile(self) -> None:
        owner = self._replica_id
        tasks = self._in_flight.tasks
        running = [key for key, held in tasks.items() if held.task.owner == owner and held.result is None]
        owned = {key_of(row): row.workflow for row in await self._store.owned_tasks(owner)}
        if owner != self._replica_id:
            return
        not_running = frozenset(key for key in owned if key not in tasks)
        for key in not_running & self._not_running:
            log.warning("orphaned attempt released", extra={"instance_id": key.instance_id})
            self._release(key, owned[key], "the attempt did not run: the result of its commit was unknown")
        not_stored = frozenset(key for key in running if key not in owned)
        for key in not_stored & self._not_stored:
            self._stop(key)
        self._not_running, self._not_stored = not_running, not_stored
