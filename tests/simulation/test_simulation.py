"""Lives of instances under crashes, early and late alarms, lost tasks, stale results and repeated calls.

``PERDURE_SIMULATION_SEEDS`` says how many seeds (2,000 by default), ``PERDURE_SIMULATION_FIRST`` with which to start. A
failure names its seed; ``simulation.world.live(seed)`` shows it again.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from perdure_server.engine.facts import KIND_OF, AttemptFailed
from simulation.world import live

SEEDS = int(os.environ.get("PERDURE_SIMULATION_SEEDS", "2000"))
FIRST = int(os.environ.get("PERDURE_SIMULATION_FIRST", "0"))
SHARES = 8


@pytest.mark.timeout(0 if SEEDS > 2_000 else 120)
@pytest.mark.parametrize("share", range(SHARES))
def test_every_promise_of_the_engine_holds_for_every_seed(share: int) -> None:
    for seed in range(FIRST + share, FIRST + SEEDS, SHARES):
        live(seed)


def test_the_same_seed_lives_the_same_life() -> None:
    for seed in range(20):
        assert live(seed).entries == live(seed).entries


def test_the_simulated_lives_are_full_of_everything() -> None:
    seen: Counter[str] = Counter()
    crashes = 0
    for seed in range(300):
        world = live(seed)
        crashes += int(world.process.name[1:]) - 1
        seen.update(KIND_OF[type(entry.fact)] for entry in world.entries)
        seen.update("unused timer" for entry in world.entries if getattr(entry.fact, "used", True) is False)
        seen.update(
            "consumed event" for entry in world.entries if getattr(entry.fact, "buffered_revision", 0)
        )
        seen.update("lost attempt" for entry in world.entries if getattr(entry.fact, "lost", False))
        seen.update(
            "crash loop that was ended"
            for entry in world.entries
            if isinstance(entry.fact, AttemptFailed) and entry.fact.failure.type == "AttemptLost"
        )
        seen.update("unconsumed event" for entry in world.entries if getattr(entry.fact, "unconsumed", ()))

    assert crashes > 300
    assert set(KIND_OF.values()) <= seen.keys()
    assert min(seen.values()) >= 5, seen
