"""What became of calls: counts by RPC, which a call adds to as it ends."""

from __future__ import annotations

from typing import Final

from perdure_server.telemetry.counters import Histogram

CALL_SECONDS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""The bounds between which calls are counted by how long they took."""


class CallCounters:
    """The calls of one RPC that have ended: ``ok`` of them well, ``others`` by the names of status code and reason.

    ``seconds`` has those that were let in, from their message to their answer. Watches have none: they end when their
    clients have seen enough.
    """

    __slots__ = ("ok", "others", "seconds")

    def __init__(self, seconds: Histogram | None = None) -> None:
        self.ok = 0
        self.others: dict[tuple[str, str], int] = {}
        self.seconds = seconds

    def refused(self, code: str, reason: str = "") -> None:
        """Count a call that ended otherwise. Both are of published lists, and few."""
        what = code, reason
        self.others[what] = self.others.get(what, 0) + 1

    def cancelled(self) -> None:
        """Count a call whose client is gone, or whose deadline has passed there."""
        self.refused("CANCELLED")
