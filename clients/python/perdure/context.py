"""Input and results of a step: `Context`, `Outcome`, `SUSPEND` and `StepError`.

These are plain values, independent of the declaration of steps (``perdure.authoring``) and of the executor that runs
them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Input of one attempt of a step.

    Attributes:
        input: JSON object that the instance was started with. It never changes.
        steps: Output of every step that had ended when this step started, by step ref. It is the same on every
            attempt.
        instance_id: ID of the instance.
        workflow: Name of the workflow.
        version: Version of the workflow.
        step_ref: Ref of this step. It can carry a suffix such as ``@3.7``. Treat it as opaque.
        attempt: Number of this attempt, from 1. Redeliveries count, so it can exceed ``max_attempts``.

    ``input`` and ``steps`` are copies. Changing them has no effect. Return an `Outcome` to store a result.
    """

    input: Mapping[str, Any]
    steps: Mapping[str, Any] = field(default_factory=dict)
    instance_id: str
    workflow: str
    version: int
    step_ref: str
    attempt: int = 1

    @property
    def idempotency_key(self) -> str:
        """Key for side effects: ``instance_id/step_ref``, the same on every attempt.

        A step runs at least once. Pass the key to external services, for example to charge a card only once.
        """
        return f"{self.instance_id}/{self.step_ref}"


@dataclass(frozen=True, slots=True, init=False)
class Outcome:
    """Result of a task: an event, which selects the transition, and an output, which later steps read in ``ctx.steps``.

    ``Outcome("charged", payment_id="p-1")`` ends the step with the event ``charged`` and the output
    ``{"payment_id": "p-1"}``. The output must be valid JSON. An output that is not (NaN, a key that is not a string),
    or an event that the step does not declare, fails the step permanently.
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
    """Type of `SUSPEND`, for annotations: ``async def ask(self, ctx: Context) -> Suspend``."""

    SUSPEND = "SUSPEND"

    def __repr__(self) -> str:
        return "SUSPEND"


SUSPEND: Final[Literal[Suspend.SUSPEND]] = Suspend.SUSPEND
"""Result of a task that declares ``awaits``. The step then waits for one of these events."""


class StepError(Exception):
    """Failure of a step, raised by its code.

    With ``retryable=False`` the step fails at once: the instance takes the ``error`` transition, or fails if there is
    none. With ``retryable=True`` the retry policy of the step applies, as for any other exception. Raise a subclass to
    give the failure its own type: the output of the ``error`` event contains the name of the class as ``type``.
    """

    def __init__(self, message: str = "", *, retryable: bool = True) -> None:
        super().__init__(message)
        self.message: Final = message
        self.retryable: Final = retryable
