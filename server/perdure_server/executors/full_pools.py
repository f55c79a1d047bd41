"""Pools of step slots that stay full: one log line per period with the steps that hold the slots, one when it is over.

Time is an argument, so tests need no clock.

Owns: the periods and the log lines. Must not: count slots (``in_process``).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

log = logging.getLogger(__name__)

FULL_SECONDS: Final = 60.0
"""Time in seconds for which a pool has to be full without a break before it is logged, and between two log lines."""

HOLDERS_MAX: Final = 5
"""Maximum number of steps that a log line names. The rest is counted."""

Holder = tuple[str, int, str]
"""Workflow, version and step of an attempt that holds a slot."""


@dataclass(slots=True, eq=False)
class _Full:
    since: float
    logged_at: float | None = None


class FullPools:
    """The pools of one executor, checked once per ping."""

    def __init__(self) -> None:
        self._full: dict[str, _Full] = {}

    def observe(
        self, now: float, pool: str, *, size: int, used: int, holders: Callable[[], Iterable[Holder]]
    ) -> None:
        """Record the state of a pool. ``holders`` is called only to write a log line: one item per attempt."""
        full = self._full.get(pool)
        if used < size:
            if full is not None:
                del self._full[pool]
                if full.logged_at is not None:
                    seconds = round(now - full.since)
                    log.info("step pool has free slots again", extra={"pool": pool, "seconds": seconds})
            return
        if full is None:
            full = self._full[pool] = _Full(since=now)
        if now - (full.since if full.logged_at is None else full.logged_at) >= FULL_SECONDS:
            full.logged_at = now
            log.warning(
                "step pool is full, steps wait for a slot",
                extra={
                    "pool": pool,
                    "slots": size,
                    "seconds": round(now - full.since),
                    "steps": _named(holders()),
                },
            )


def _named(holders: Iterable[Holder]) -> str:
    """Return the steps with the most slots: ``order v1 charge: 30, report v2 poll: 2``."""
    counts = Counter(holders)
    # The most frequent first, then by name, so that two log events can be compared.
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [
        f"{workflow} v{version} {ref}: {count}" for (workflow, version, ref), count in ordered[:HOLDERS_MAX]
    ]
    if ordered[HOLDERS_MAX:]:
        named.append(f"and {len(ordered) - HOLDERS_MAX} more")
    return ", ".join(named)
