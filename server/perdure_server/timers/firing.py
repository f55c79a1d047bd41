"""The command and the guard of a due timer."""

from __future__ import annotations

from perdure_server.engine.commands import FireTimer
from perdure_server.store.protocol import TimerGuard, TimerRow


def fire_command(row: TimerRow, *, now_ms: int, jitter: float) -> FireTimer:
    """Return the command that fires a due timer. ``now_ms`` is the store's time, ``jitter`` is in [0, 1)."""
    return FireTimer(at=now_ms, timer=row.timer.revision, jitter=jitter)


def fire_guard(row: TimerRow) -> TimerGuard:
    """Return the guard of that command: only the replica that owns the timer fires it."""
    return TimerGuard(row.timer.revision, row.owner)
