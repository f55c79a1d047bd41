"""What a decision asks of the world, as values. The runner carries them out, in order, after the commit.

Losing an effect loses nothing: tasks and timers are rows, and sweeps find what was not offered or armed.
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
    """A task is ready and nobody has taken it."""

    step_ref: str


@value(frozen=True, slots=True)
class StopTask:
    """An attempt's result will be refused from now on: tell it to stop."""

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
