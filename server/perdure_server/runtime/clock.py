"""This process's clocks, as an argument: what waits and measures is given one, so that tests can give
another.

The clock that counts for due times is the store's (`Store.now_ms`). This one only says how long to wait and
how long something took.
"""

from __future__ import annotations

import time
from typing import Final, Protocol


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
