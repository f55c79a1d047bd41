"""Stalls of the step event loop: their duration, their owner, and the time that other attempts lost to them.

Fed once per ping by the executor. Time is an argument and counts in pings, so a suspended process is not a stall.

Owns: the arithmetic and the log lines of stalls. Must not: replace loops or end attempts (``in_process``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from perdure_server.executors.ownership import Owner
from perdure_server.runtime.dispatch.protocol import TaskKey

log = logging.getLogger(__name__)

STALL_LOGGED_SECONDS: Final = 0.7
"""Age of an unanswered ping, in seconds, at which a stall is logged. With one ping in `PING_MS` = 250 ms, every stall
of one second is at least this old at one of the pings."""

LAG_WINDOW_SECONDS: Final = 30.0
"""Length of one of the two windows of `StallWatch.lag_seconds`, in seconds."""

UNEXPLAINED_STALLS_MAX: Final = 3
"""Number of stalls in a row with an unknown owner after which an attempt that was on the loop in each is charged."""


@dataclass(frozen=True, slots=True)
class Ping:
    """State of the last ping of a loop."""

    unanswered: int
    """Number of checks in a row that found it pending. 0 once it has arrived."""
    lag_seconds: float
    """Time to its arrival, or its age while it is pending."""


class StallWatch:
    """The stalls of one executor's loops. `observe` belongs to the server's loop."""

    def __init__(self, ping_seconds: float) -> None:
        self._ping_seconds = ping_seconds
        self._owner: Owner | None = None
        self._pings = 0
        self._is_logged = False
        self._seen_at: float | None = None
        self._window_at = 0.0
        self._lag_max = self._lag_max_before = 0.0
        self._unexplained: dict[tuple[str, str], int] = {}
        self.lost_seconds = 0.0
        """Total time that the loop was blocked, in seconds."""

    @property
    def owner(self) -> Owner | None:
        """Owner of the code that blocks the loop, None if the loop is not blocked or the owner is unknown."""
        return self._owner

    @property
    def lag_seconds(self) -> float:
        """Longest time that the loop took to run a callback in the last 30 to 60 seconds. Readable from any thread."""
        return max(self._lag_max, self._lag_max_before)

    def observe(self, now: float, ping: Ping, owner: Owner | None, place: Callable[[], str]) -> int:
        """Record one ping. ``owner`` and ``place`` describe the code that the loop runs.

        Returns the number of pings in a row that found the loop blocked by the same owner.
        """
        passed = self.interval(now)
        self._seen_at = now
        self._note_lag(now, ping.lag_seconds)
        if not ping.unanswered:
            if not self._is_logged and ping.lag_seconds >= STALL_LOGGED_SECONDS:
                self._log_stall(ping.lag_seconds, "")
            if self._is_logged:
                log.info("step event loop responds again", extra={"seconds": round(ping.lag_seconds, 2)})
            self.on_replaced()
            return 0
        self.lost_seconds += passed
        if self._pings == 0 or owner != self._owner:
            # Many steps that each hold the loop for a moment are a busy loop. None of them blocks it.
            self._owner, self._pings, self._is_logged = owner, 0, False
        self._pings += 1
        blocked = self._pings * self._ping_seconds
        if not self._is_logged and blocked >= STALL_LOGGED_SECONDS:
            self._log_stall(blocked, place())
        return self._pings

    def interval(self, now: float) -> float:
        """Return the time since the last ping, in seconds, bounded so that a suspended process does not count."""
        return 0.0 if self._seen_at is None else min(now - self._seen_at, 2 * self._ping_seconds)

    def on_replaced(self) -> None:
        """Forget the current stall: the loop responds again or was replaced."""
        self._owner, self._pings, self._is_logged = None, 0, False

    def unexplained(self, keys: list[TaskKey]) -> set[TaskKey]:
        """Record a stall with an unknown owner. Returns the attempts to charge.

        An attempt is charged if its step was on the loop in `UNEXPLAINED_STALLS_MAX` such stalls in a row. Otherwise
        a step that hides itself could block loops indefinitely.
        """
        before = self._unexplained
        self._unexplained = {key[:2]: before.get(key[:2], 0) + 1 for key in keys}
        return {key for key in keys if self._unexplained[key[:2]] >= UNEXPLAINED_STALLS_MAX}

    def _log_stall(self, lag: float, place: str) -> None:
        self._is_logged = True
        owner = {} if self._owner is None else self._owner.fields()
        log.warning("step blocks the event loop", extra={**owner, "where": place, "seconds": round(lag, 2)})

    def _note_lag(self, now: float, lag: float) -> None:
        if now - self._window_at >= LAG_WINDOW_SECONDS:
            self._lag_max_before, self._lag_max, self._window_at = self._lag_max, 0.0, now
        self._lag_max = max(self._lag_max, lag)
