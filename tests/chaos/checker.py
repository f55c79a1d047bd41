"""The checker of a round: pure functions over its recording that return named violations.

An empty list means that the round found no broken promise of DESIGN section 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from chaos.checks_calls import check_calls
from chaos.checks_history import check_histories
from chaos.checks_reads import check_reads, check_watches
from chaos.checks_steps import check_steps
from chaos.ledger import Recording
from chaos.violations import Name, Violation
from chaos.walk import Walk, walks_of
from perdure_server.engine.state import InstanceState

LATE_MS_MAX: Final = 1_000
"""Maximum lateness of a timer when an idle server is stopped, in milliseconds."""


def judge(recording: Recording) -> list[Violation]:
    """Return everything that is wrong with a recording."""
    walks = walks_of(recording)
    return [
        *check_histories(recording, walks),
        *check_calls(recording, walks),
        *check_reads(recording, walks),
        *check_watches(recording, walks),
        *check_steps(recording, walks),
        *check_rest(recording, walks),
    ]


def check_rest(recording: Recording, walks: Mapping[str, Walk]) -> Iterator[Violation]:
    """Judge what the server left when nothing more could run."""
    for complaint in recording.complaints:
        yield Violation(Name.SERVER_COMPLAINED, "log", complaint)
    if not recording.quiet:
        yield Violation(Name.NOT_QUIET, "server", "it still had work to do, or never came to an end of it")
    for walk in walks.values():
        state = walk.row.state
        overdue = [
            timer for timer in state.timers.values() if timer.due_at < recording.ended_ms - LATE_MS_MAX
        ]
        for timer in overdue:
            late_ms = recording.ended_ms - timer.due_at
            yield Violation(Name.TIMER_LOST, state.reference(timer.revision), f"{timer}, {late_ms} ms late")
        if state.status is InstanceState.RUNNING and not overdue:
            # Nothing that the rounds do leaves a step running or backing off for long.
            yield Violation(Name.STUCK, walk.instance_id, f"RUNNING, steps {state.steps}")
