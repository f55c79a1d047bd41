"""This process's clocks, and chance, as arguments: what waits, measures or draws is given one, so that tests can give
another.

The clock that counts for due times is the store's (`Store.now_ms`). This one only says how long to wait and
how long something took.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

Chance: TypeAlias = Callable[[], float]
"""Draws a number in [0, 1): how much of its jitter a retry's pause is shortened by."""


class Clock(Protocol):
    """Two readings in milliseconds."""

    def now_ms(self) -> int:
        """Return this machine's time of day since the Unix epoch. It may jump."""
        ...

    def monotonic_ms(self) -> int:
        """Return a time that only grows, from an arbitrary start."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000


SYSTEM_CLOCK: Final = SystemClock()
SYSTEM_CHANCE: Final[Chance] = random.random
