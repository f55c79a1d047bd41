"""The checker finds each bug that is injected into a running server, under the name of its violation."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Final

import pytest

from chaos.bug_injection import PLANT_VARIABLE, PLANTS
from chaos.checker import judge
from chaos.rounds import HERE, Plan, run_round
from chaos.violations import Name

CALLS_MIN: Final = 150
CALLS_MORE: Final = 100
"""Calls of the first round, and calls that each further round adds."""

# A round is repeated with the next seed until the checker has found the bug. Only the time limit ends a search in vain.
pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

FOUND_AS: Final = {
    "drop_a_commit": Name.ANSWERED_BUT_MISSING,
    "answer_before_the_commit": Name.ANSWERED_BUT_MISSING,
    "leave_a_gap": Name.HISTORY_GAP,
    "store_another_state": Name.STATE_IS_NOT_THE_FOLD,
    "leave_timer_rows": Name.TIMER_ROWS_DIFFER,
    "leave_task_rows": Name.TASK_ROWS_DIFFER,
    "store_another_payload": Name.PAYLOAD_DIFFERS,
    "forget_request_ids": Name.EFFECT_TWICE,
    "reject_applied_events": Name.REJECTED_BUT_APPLIED,
    "answer_another_revision": Name.ANSWERED_BUT_MISSING,
    "fire_a_timer_twice": Name.TIMER_FIRED_TWICE,
    "fire_timers_early": Name.TIMER_EARLY,
    "lose_timers_at_restart": Name.TIMER_LOST,
    "fire_a_cancelled_timer": Name.TIMER_UNKNOWN,
    "lose_a_buffered_event": Name.EVENT_OVERTAKEN,
    "take_the_newest_event_first": Name.EVENT_OUT_OF_ORDER,
    "consume_an_event_twice": Name.EVENT_CONSUMED_TWICE,
    "continue_after_cancel": Name.FACT_AFTER_END,
    "start_joins_at_once": Name.JOIN_BROKEN,
    "count_late_results": Name.RESULT_STALE,
    "run_an_attempt_twice": Name.ATTEMPT_TWICE,
    "run_a_finished_step_again": Name.ATTEMPT_AFTER_FINISH,
    "give_steps_the_input_of_others": Name.STEP_SAW_WRONG_INPUT,
    "lose_tasks_at_restart": Name.STUCK,
    "read_from_a_stale_cache": Name.READ_STALE,
    "hide_the_newest_instance": Name.LIST_MISSES,
    "raise_unmapped_errors": Name.SERVER_COMPLAINED,
    "repeat_in_a_watch": Name.WATCH_REPEAT,
    "leave_out_of_a_watch": Name.WATCH_GAP,
    "reorder_a_watch": Name.WATCH_ORDER,
    "stop_telling_watchers": Name.WATCH_FELL_SHORT,
}

_NEEDS_A_CRASH: Final = frozenset(
    {"answer_before_the_commit", "lose_timers_at_restart", "lose_tasks_at_restart"}
)


def test_every_bug_is_tried() -> None:
    assert FOUND_AS.keys() == PLANTS.keys()


@pytest.mark.parametrize("plant", PLANTS)
async def test_a_bug_in_a_running_server_is_found(plant: str, tmp_path: Path) -> None:
    found: set[Name] = set()
    seeds = itertools.count(1)
    while FOUND_AS[plant] not in found:
        seed = next(seeds)
        plan = Plan(
            seed=seed,
            calls=CALLS_MIN + CALLS_MORE * seed,
            kills=int(plant in _NEEDS_A_CRASH),
            rest_seconds_max=1.5,
            app=HERE / "buggy_app.py",
            environment={PLANT_VARIABLE: plant},
        )
        recording = await run_round(plan, tmp_path / f"seed-{seed}")
        found |= {violation.name for violation in judge(recording)}
        print(f"{plant}, seed {seed}: found {sorted(name.name for name in found)}")
