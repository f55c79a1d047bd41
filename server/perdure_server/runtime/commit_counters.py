"""Counters and log events of committed decisions."""

from __future__ import annotations

import logging
from typing import Final

from perdure_server.engine import facts
from perdure_server.engine.decide import Decision
from perdure_server.engine.state import InstanceState, State
from perdure_server.telemetry.counters import CountersByName

log = logging.getLogger(__name__)

EVENTS_LOGGED_MAX: Final = 10
"""Maximum number of event names in one log event."""

UNCONSUMED: Final = "unconsumed"


class CommitCounters:
    """Counts by workflow."""

    def __init__(self) -> None:
        self.facts: CountersByName[type[facts.Fact]] = CountersByName(facts.KIND_OF)
        """Number of facts that were committed here, by workflow and type."""
        self.unconsumed: CountersByName[str] = CountersByName((UNCONSUMED,))
        """Number of events that were in the inbox of an instance when it ended, by workflow."""

    def add_workflow(self, workflow: str) -> None:
        """Export zeros for a workflow, so that its first failure is visible as a rise."""
        self.facts.of(workflow)
        self.unconsumed.of(workflow)

    def count(self, decision: Decision, before: State | None) -> None:
        """Count a committed decision, and log a failure and unconsumed events. ``before`` is the state before it."""
        state = decision.state
        counts = self.facts.of(state.workflow)
        for entry in decision.entries:
            counts[type(entry.fact)] += 1
        if state.status is InstanceState.FAILED and state.failure is not None:
            # Only the type of the failure: its message can contain a payload, and is in the history.
            extra = {"instance_id": state.instance_id, "workflow": state.workflow, "version": state.version}
            extra |= {"step_ref": state.failed_step, "error": state.failure.type}
            log.warning("instance failed", extra=extra)
        if state.inbox and not state.is_live and (before is None or before.is_live):
            self._count_unconsumed(state)

    def _count_unconsumed(self, state: State) -> None:
        # Only the names of events: payloads are never logged.
        self.unconsumed.of(state.workflow)[UNCONSUMED] += len(state.inbox)
        names = list(dict.fromkeys(buffered.event for buffered in state.inbox))
        listed = ", ".join(names[:EVENTS_LOGGED_MAX]) + (", ..." if len(names) > EVENTS_LOGGED_MAX else "")
        extra = {"instance_id": state.instance_id, "workflow": state.workflow, "version": state.version}
        extra |= {"state": state.status.value, "count": len(state.inbox), "events": listed}
        log.warning("instance ended with unconsumed events", extra=extra)
