"""A table of timers in memory, with the way in for firings: what the timer window sees of a store and a runner.

It judges: a firing counts only with the row there, owned by its submitter, and due by the table's clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from perdure_server.engine.facts import TimerKind
from perdure_server.engine.rejections import TimerNotDue, TimerNotFound
from perdure_server.engine.state import Timer
from perdure_server.runtime.errors import OwnershipLostError
from perdure_server.store.protocol import TimerRow


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
        self.troubles: list[Exception] = []
        """What the next firings raise instead of being looked at."""
        self.claim_troubles: list[Exception] = []
        self.gate: asyncio.Event | None = None
        """While it is not set, firings stay unanswered."""
        self.under_way = 0
        self.under_way_max = 0
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
        if self.claim_troubles:
            raise self.claim_troubles.pop(0)
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

    # --- the runner ---

    def submit(self, row: TimerRow) -> asyncio.Future[Any]:
        self.submitted.append(row.reference)
        self._changed.set()
        task = asyncio.get_running_loop().create_task(self._fire(row))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _fire(self, row: TimerRow) -> None:
        self.under_way += 1
        self.under_way_max = max(self.under_way_max, self.under_way)
        self._changed.set()
        try:
            if self.gate is not None:
                await self.gate.wait()
            else:
                await asyncio.sleep(0)
            if self.troubles:
                raise self.troubles.pop(0)
            stored = self.rows.get(row.reference)
            if stored is None:
                raise TimerNotFound(row.reference)
            if stored.owner != row.owner:
                raise OwnershipLostError(row.instance_id)
            if self.now_ms() < row.timer.due_at:
                raise TimerNotDue(row.reference, row.timer.due_at)
            del self.rows[row.reference]
            self.fired.append((row.reference, self.now_ms()))
        finally:
            self.under_way -= 1
            self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once the condition holds; it is looked at as firings come and go."""
        async with asyncio.timeout(60):
            while not condition():
                self._changed.clear()
                await self._changed.wait()
