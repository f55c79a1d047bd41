"""Rounds of load and `kill -9` against a real server: the promises hold across crashes.

``PERDURE_CHAOS_ROUNDS`` sets the number of rounds (default: 10), ``PERDURE_CHAOS_SEED`` the first seed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import pytest

from chaos.checker import judge
from chaos.rounds import Plan, run_round

ROUNDS: Final = int(os.environ.get("PERDURE_CHAOS_ROUNDS", "10"))
FIRST_SEED: Final = int(os.environ.get("PERDURE_CHAOS_SEED", "1"))
ROUNDS_PER_TEST: Final = 5
FINDINGS_SHOWN_MAX: Final = 25

pytestmark = [pytest.mark.chaos, pytest.mark.e2e, pytest.mark.slow]


@pytest.mark.parametrize("first_seed", range(FIRST_SEED, FIRST_SEED + ROUNDS, ROUNDS_PER_TEST))
async def test_every_promise_holds_through_kill_9_under_load(first_seed: int, tmp_path: Path) -> None:
    last = min(first_seed + ROUNDS_PER_TEST, FIRST_SEED + ROUNDS)
    for seed in range(first_seed, last):
        folder = tmp_path / f"seed-{seed}"
        recording = await run_round(Plan(seed=seed), folder)
        violations = judge(recording)
        if violations:
            shown = "\n".join(str(violation) for violation in violations[:FINDINGS_SHOWN_MAX])
            pytest.fail(
                f"seed {seed}: {len(violations)} violations\n{shown}\n"
                f"files: {folder}\n"
                f"again: PERDURE_CHAOS_SEED={seed} make chaos ROUNDS=1",
                pytrace=False,
            )
        shutil.rmtree(folder)
