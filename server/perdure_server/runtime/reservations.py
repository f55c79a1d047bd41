"""How many slots are promised to decisions that are under way, and what becomes of a promise nobody came back
for.
"""

from __future__ import annotations

import time
from typing import Final

RESERVATION_SECONDS_MAX: Final = 30
"""A slot that was neither used nor given back by then was lost (say, with the read that its task needed)."""


class Reservations:
    """A count that forgets: slots by the second in which they were set aside.

    Slots are taken back from the newest second first, so that lost ones stay behind in theirs, and age.
    """

    def __init__(self) -> None:
        self.total = 0
        self._seconds: list[list[int]] = []

    def add(self, slots: int) -> None:
        """Set slots aside."""
        second = int(time.monotonic())
        seconds = self._seconds
        if not seconds or seconds[-1][0] != second:
            self._expire(second)
            seconds.append([second, 0])
        seconds[-1][1] += slots
        self.total += slots

    def take(self, slots: int) -> None:
        """Count slots as used or given back. More than there are (some had expired) are ignored."""
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
