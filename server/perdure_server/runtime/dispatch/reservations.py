"""The number of slots that are reserved for decisions in progress. Reservations that are never returned expire."""

from __future__ import annotations

import time
from typing import Final

RESERVATION_SECONDS_MAX: Final = 30
"""Time until an unreturned slot is freed, in seconds. A slot is lost, for example, if the read for its task fails."""


class Reservations:
    """A counter whose entries expire. Slots are grouped by the second in which they were reserved.

    `take` removes slots from the newest second first, so that lost slots stay in their second and age.
    """

    def __init__(self) -> None:
        self.total = 0
        self._seconds: list[list[int]] = []

    def add(self, slots: int) -> None:
        """Reserve slots."""
        second = int(time.monotonic())
        seconds = self._seconds
        if not seconds or seconds[-1][0] != second:
            self._expire(second)
            seconds.append([second, 0])
        seconds[-1][1] += slots
        self.total += slots

    def take(self, slots: int) -> None:
        """Remove slots that were used or returned. Slots beyond the total have expired and are ignored."""
        seconds = self._seconds
        while slots > 0 and seconds:
            taken = min(slots, seconds[-1][1])
            seconds[-1][1] -= taken
            self.total -= taken
            slots -= taken
            if seconds[-1][1] == 0 and slots > 0:
                seconds.pop()

    def _expire(self, second: int) -> None:
        seconds = self._seconds
        while seconds and (seconds[0][0] < second - RESERVATION_SECONDS_MAX or seconds[0][1] == 0):
            self.total -= seconds.pop(0)[1]
