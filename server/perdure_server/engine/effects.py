"""Effects of a decision, as values. The command processor executes them in order after the commit.

A lost effect does no harm: tasks and timers are rows, and polls find those that were not offered or armed.
"""

from __future__ import annotations

from perdure_server.engine.state import Timer
from perdure_server.engine.value_type import value


@value(frozen=True, slots=True)
class RunTask:
    """Attempt ``attempt`` was granted to ``owner``: run it now."""

    step_ref: str
    attempt: int
    owner: str


@value(frozen=True, slots=True)
class OfferTask:
    """A task is queued and has no owner."""

    step_ref: str


@value(frozen=True, slots=True)
class StopTask:
    """Stop an attempt. Its result is rejected from now on."""

    step_ref: str
    attempt: int
    owner: str


@value(frozen=True, slots=True)
class ArmTimer:
    timer: Timer


@value(frozen=True, slots=True)
class DisarmTimer:
    revision: int


Effect = RunTask | OfferTask | StopTask | ArmTimer | DisarmTimer
