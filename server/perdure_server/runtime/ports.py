"""Ports of the command processor: executors and timers are in higher layers and plug in here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from perdure_server.engine.commands import Command, Grant
from perdure_server.engine.value_type import value
from perdure_server.store.protocol import Guard, TimerRow


@value(frozen=True, slots=True)
class TaskToRun:
    """One attempt of one step, with everything that its handler can read. Payloads are JSON texts.

    ``steps`` holds the outputs up to the revision at which the step started. ``attempt_timeout_ms`` limits this
    attempt; None means no limit.
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
    """The command processor's side of task dispatch: slots before a decision, tasks after its commit."""

    def reserve(self, workflow: str, version: int) -> Grant:
        """Reserve free slots of executors that can run this workflow version.

        Returns `NO_GRANT` if no slot is free. Pass every reserved slot to `run` or `release`. Unused slots are released
        after `RESERVATION_SECONDS_MAX`.
        """
        ...

    def release(self, grant: Grant, unused: int) -> None:
        """Release ``unused`` slots of a grant."""
        ...

    def run(self, task: TaskToRun) -> None:
        """Run an attempt that a commit granted. It uses one slot until its result is stored."""
        ...

    def offer(self, workflow: str, version: int, step_ref: str) -> None:
        """Announce a task of this step that is ready and has no owner."""
        ...

    def stop(self, instance_id: str, step_ref: str, attempt: int) -> None:
        """Stop an attempt whose result no longer counts. Unknown attempts are ignored."""
        ...


class TimerPort(Protocol):
    """The command processor's side of the timer window."""

    def assign_owner(self, due_at: int) -> str:
        """Return this replica's ID if a timer due at ``due_at`` belongs in its window now, else the empty string."""
        ...

    def arm(self, row: TimerRow) -> None:
        """Arm a timer that was claimed at creation. For one without an owner, claim it soon if it is due soon."""
        ...

    def disarm(self, reference: str) -> None:
        """Remove a timer that no longer exists. Unknown timers and those that are firing are ignored."""
        ...


class SubmitCommand(Protocol):
    """The command processor's entry point; see `CommandProcessor.submit`."""

    def __call__(
        self,
        instance_id: str,
        command: Command,
        *,
        guards: tuple[Guard, ...] = (),
        grant: Grant | None = None,
    ) -> asyncio.Future[Any]: ...
