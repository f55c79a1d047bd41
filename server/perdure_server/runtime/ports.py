"""What the runner needs of the world around it, as protocols: executors and timers stand above it and plug in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from perdure_server.engine.commands import Grant
from perdure_server.engine.value_type import value
from perdure_server.store.protocol import TimerRow


@value(frozen=True, slots=True)
class TaskToRun:
    """One attempt of one step, with everything that its code may see. Payloads are JSON texts.

    ``steps`` holds the outputs up to the revision at which the step began. ``attempt_timeout_ms`` bounds this
    attempt, None leaves it unbounded.
    """

    instance_id: str
    workflow: str
    version: int
    step_ref: str
    attempt: int
    owner: str
    input: str
    steps: Mapping[str, str]
    attempt_timeout_ms: int | None


class TaskPort(Protocol):
    """Where tasks go: credits before a decision, tasks after its commit."""

    def reserve(self, workflow: str, version: int) -> Grant:
        """Set aside free slots of executors that have code of this version; `NO_GRANT` where there are none."""
        ...

    def give_back(self, grant: Grant, unused: int) -> None:
        """Free ``unused`` slots of a grant."""
        ...

    def run(self, task: TaskToRun) -> None:
        """Run an attempt that a commit granted. It uses one slot until its result is stored."""
        ...

    def offer(self, workflow: str, version: int, step_ref: str) -> None:
        """Say that a task of this step is ready and unowned."""
        ...

    def stop(self, instance_id: str, step_ref: str, attempt: int) -> None:
        """Tell an attempt that its result no longer counts. Unknown attempts are ignored."""
        ...


class TimerPort(Protocol):
    """Where timers go: an owner before the commit, an alarm after it."""

    def adopt(self, due_at: int) -> str:
        """Return this replica's id if a timer due then belongs in its window now, else the empty string."""
        ...

    def arm(self, row: TimerRow) -> None:
        """Arm a timer that was born owned, or (unowned) look whether the window must be filled sooner."""
        ...

    def disarm(self, reference: str) -> None:
        """Forget a timer that is gone. Unknown ones, and one whose body runs right now, are ignored."""
        ...
