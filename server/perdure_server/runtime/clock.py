"""Clocks and random numbers of this process, as arguments, so that tests can pass their own.

Due times are measured by the store's clock (`Store.now_ms`). The clocks here only measure pauses and durations.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

Rng: TypeAlias = Callable[[], float]
"""Returns a random number in [0, 1). It is the part of its jitter by which a retry's pause is shortened."""


class Clock(Protocol):
    """Two clocks, in milliseconds."""

    def now_ms(self) -> int:
        """Return this machine's time since the Unix epoch. It can jump."""
        ...

    def monotonic_ms(self) -> int:
        """Return a time that never decreases, from an arbitrary start."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000


SYSTEM_CLOCK: Final = SystemClock()
SYSTEM_RNG: Final[Rng] = random.random
