"""Counts of ended calls, by method and result."""

from __future__ import annotations

from typing import Final

from perdure_server.telemetry.counters import Histogram

CALL_SECONDS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Upper bounds of the histogram of call durations, in seconds."""


class CallCounters:
    """Ended calls of one method."""

    __slots__ = ("ok", "others", "seconds")

    def __init__(self, seconds: Histogram | None = None) -> None:
        self.ok = 0
        """Number of calls that returned OK."""
        self.others: dict[tuple[str, str], int] = {}
        """Number of other calls by the name of the status code and the reason."""
        self.seconds = seconds
        """Durations of admitted calls, from the request to the response. None for watches, since clients end them."""

    def failed(self, code: str, reason: str = "") -> None:
        """Count a call that ended with an error. Codes and reasons come from published lists, so there are few."""
        key = code, reason
        self.others[key] = self.others.get(key, 0) + 1

    def cancelled(self) -> None:
        """Count a call whose client is gone or whose deadline has passed."""
        self.failed("CANCELLED")
