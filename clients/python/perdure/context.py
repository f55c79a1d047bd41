"""What a step is given and what it gives back: plain values, the same for every executor.

What lives here: `Context`, `Outcome`, `SUSPEND` and `StepError`. What may not: anything about how steps are
declared (``perdure.authoring``) or how they are run (the server's executors and ``perdure.worker``).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What one attempt of a step may know of its instance.

    ``input`` is the JSON object that the instance was started with; it never changes. ``steps`` holds the
    output of every step that had ended when this step began, under its ref; it is the same on every attempt.
    Both are copies: writing to them changes nothing, a step tells the world something through its `Outcome`.
    """

    input: Mapping[str, Any]
    steps: Mapping[str, Any] = field(default_factory=dict)
    instance_id: str
    workflow: str
    version: int
    step_ref: str
    attempt: int = 1
    """Which run of the step this is, from 1; redeliveries count, so it may exceed the policy's
    ``max_attempts``.
    """

    @property
    def idempotency_key(self) -> str:
        """``instance_id/step_ref``: the same on every attempt, so that a payment provider charges once."""
        return f"{self.instance_id}/{self.step_ref}"


@dataclass(frozen=True, slots=True, init=False)
class Outcome:
    """How a task ended: the event, which picks the arrow, and the output, which later steps read in
    ``ctx.steps``.

    ``Outcome("charged", payment_id="p-1")`` ends the step with the event ``charged`` and the output
    ``{"payment_id": "p-1"}``. The output must be JSON (no NaN, text keys); anything else, like an event that
    the step does not declare, fails the step for good.
    """

    event: str
    output: Mapping[str, Any]

    def __init__(self, event: str, /, **output: Any) -> None:
        object.__setattr__(self, "event", event)
        object.__setattr__(self, "output", output)

    def __repr__(self) -> str:
        fields = "".join(f", {key}={value!r}" for key, value in self.output.items())
        return f"Outcome({self.event!r}{fields})"


class Suspend(enum.Enum):
    """The type of `SUSPEND`, for annotations: ``async def ask(self, ctx: Context) -> Suspend``."""

    SUSPEND = "SUSPEND"

    def __repr__(self) -> str:
        return "SUSPEND"


SUSPEND: Final[Literal[Suspend.SUSPEND]] = Suspend.SUSPEND
"""Returned by a task that declares ``awaits``: its code is done, the step now waits to be resumed."""


class StepError(Exception):
    """A failure that a step reports on purpose.

    With ``retryable=False`` the step fails at once: the ``error`` arrow is taken, or the instance is FAILED.
    With ``retryable=True``, as with every other exception, the step's retry policy decides. Subclass it to
    give the failure a type of its own: the class's name is the ``type`` in the output of the ``error`` event.
    """

    def __init__(self, message: str = "", *, retryable: bool = True) -> None:
        super().__init__(message)
        self.message: Final = message
        self.retryable: Final = retryable
