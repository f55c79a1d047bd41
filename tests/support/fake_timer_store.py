"""A timer table in memory that also takes commands: the timer window's view of the store and the command processor.

A firing counts only if the row exists, belongs to the owner in the guard, and is due by the table's clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from perdure_server.engine.commands import Command, FireTimer, Grant
from perdure_server.engine.facts import TimerKind
from perdure_server.engine.rejections import TimerNotDue, TimerNotFound
from perdure_server.engine.state import Timer
from perdure_server.runtime.errors import OwnershipLostError
from perdure_server.store.protocol import Guard, TimerGuard, TimerRow


class FakeTimerStore:
    def __init__(self, now_ms: Callable[[], int], *, shared: bool = False) -> None:
        self.now_ms = now_ms
        self.shared = shared
        self.rows: dict[str, TimerRow] = {}
        self.live_owners = {"r1"}
        self.fired: list[tuple[str, int]] = []
        """Reference and time of each firing that counted."""
        self.submitted: list[str] = []
        self.claim_limits: list[int] = []
        self.failures: list[Exception] = []
        """Errors that the next firings raise."""
        self.submit_failures: list[Exception] = []
        """Errors that the next calls of `submit` raise at once."""
        self.claim_failures: list[Exception] = []
        self.gate: asyncio.Event | None = None
        """While it is not set, firings do not complete."""
        self.in_progress = 0
        self.in_progress_max = 0
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    def add(self, due_at: int, *, name: str = "", owner: str = "") -> TimerRow:
        name = name or f"i{len(self.rows)}"
        row = TimerRow(name, Timer(1, TimerKind.TIMEOUT, "step", due_at, 0), owner)
        self.rows[row.reference] = row
        return row

    # --- the store ---

    async def claim_timers(self, owner: str, *, due_before: int, limit: int) -> Sequence[TimerRow]:
        self.claim_limits.append(limit)
        await asyncio.sleep(0)
        if self.claim_failures:
            raise self.claim_failures.pop(0)
        due = sorted(
            (
                row
                for row in self.rows.values()
                if row.timer.due_at < due_before and self._is_free(row, owner)
            ),
            key=lambda row: (row.timer.due_at, row.reference),
        )
        claimed = [TimerRow(row.instance_id, row.timer, owner) for row in due[:limit]]
        self.rows.update({row.reference: row for row in claimed})
        return claimed

    def _is_free(self, row: TimerRow, owner: str) -> bool:
        return row.owner == owner or row.owner not in self.live_owners

    # --- the command processor ---

    def submit(
        self,
        instance_id: str,
        command: Command,
        *,
        guards: tuple[Guard, ...] = (),
        grant: Grant | None = None,
    ) -> asyncio.Future[Any]:
        if self.submit_failures:
            raise self.submit_failures.pop(0)
        assert isinstance(command, FireTimer)
        assert not command.forced
        assert 0 <= command.jitter < 1
        assert grant is None, "the command processor reserves the slots of a firing"
        (guard,) = guards
        assert isinstance(guard, TimerGuard)
        assert guard.timer == command.timer, "the guard is for the timer that fires"
        reference = f"{instance_id}.{command.timer}"
        self.submitted.append(reference)
        self._changed.set()
        task = asyncio.get_running_loop().create_task(self._fire(reference, guard.owner))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _fire(self, reference: str, owner: str) -> None:
        self.in_progress += 1
        self.in_progress_max = max(self.in_progress_max, self.in_progress)
        self._changed.set()
        try:
            if self.gate is not None:
                await self.gate.wait()
            else:
                await asyncio.sleep(0)
            if self.failures:
                raise self.failures.pop(0)
            stored = self.rows.get(reference)
            if stored is None:
                raise TimerNotFound(reference)
            if stored.owner != owner:
                raise OwnershipLostError(stored.instance_id)
            if self.now_ms() < stored.timer.due_at:
                raise TimerNotDue(reference, stored.timer.due_at)
            del self.rows[reference]
            self.fired.append((reference, self.now_ms()))
        finally:
            self.in_progress -= 1
            self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds. It is checked when a firing starts or ends."""
        async with asyncio.timeout(60):
            while not condition():
                self._changed.clear()
                await self._changed.wait()
