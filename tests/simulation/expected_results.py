"""Expected results of commands by the reference model: the name of a rejection, or none."""

from __future__ import annotations

from perdure_server.engine import commands
from perdure_server.engine.commands import Command, Grant
from perdure_server.engine.facts import TimerKind
from perdure_server.engine.state import InstanceState
from simulation.reference_model import (
    ACTIVE,
    BACKOFF,
    FINISHED,
    READY,
    RUNNING,
    SKIPPED,
    WAITING,
    ReferenceModel,
    info_of,
)


def expected_rejection(model: ReferenceModel, command: Command, grant: Grant) -> str:
    """Return the name of the expected rejection, empty if the command must be executed."""
    live = model.status in {InstanceState.PENDING, InstanceState.RUNNING}
    match command:
        case commands.CancelInstance():
            return "" if live or model.status is InstanceState.FAILED else "InstanceEnded"
        case commands.RetryInstance():
            return "" if model.status is InstanceState.FAILED else "InstanceNotFailed"
        case commands.Resume():
            return _resume_rejection(model, command) if live else "InstanceEnded"
        case commands.ScheduleResume():
            return _schedule_rejection(model, command.step_ref) if live else "InstanceEnded"
        case commands.CancelTimer() | commands.FireTimer():
            return _timer_rejection(model, command)
        case commands.TakeTask():
            ref = command.step_ref
            free = model.phase.get(ref) == READY and command.lost_attempt == 0
            lost = model.phase.get(ref) == RUNNING and command.lost_attempt == model.attempt[ref]
            granted = live and grant.slots and ref in grant.step_refs
            return "" if granted and (free or lost) else "AttemptStale"
        case _:
            runs = live and model.phase.get(command.step_ref) == RUNNING
            return "" if runs and model.attempt[command.step_ref] == command.attempt else "AttemptStale"


def _resume_rejection(model: ReferenceModel, command: commands.Resume) -> str:
    steps, event = model.graph.steps, command.event
    if command.step_ref and command.step_ref not in steps:
        return "StepNotFound"
    accepting = [ref for ref in steps if event in steps[ref].events and command.step_ref in {"", ref}]
    waiting = [ref for ref in accepting if model.phase.get(ref) == WAITING]
    busy = [ref for ref in accepting if model.phase.get(ref) in {READY, RUNNING, BACKOFF}]
    later = [ref for ref in accepting if model.tokens.can_start(ref)]
    if len(waiting) > 1:
        return "AmbiguousEvent"
    if not waiting and not busy and not later:
        return _not_taken_rejection(model, command)
    if not waiting and not busy and not command.buffer:
        return "EventNotAwaited"
    info = info_of(command.payload)
    if info and (info.size_bytes > 1 << 20 or model.size_bytes + info.size_bytes > 3 << 20):
        return "PayloadTooLarge"
    return "InboxFull" if not waiting and len(model.inbox) >= 1_000 else ""


def _not_taken_rejection(model: ReferenceModel, command: commands.Resume) -> str:
    ref = command.step_ref
    if not ref:
        return "EventNeverAccepted"
    if command.event not in model.graph.steps[ref].events:
        return "StepNeverAccepts"
    return "StepAlreadyFinished" if model.phase.get(ref) in {FINISHED, SKIPPED} else "StepUnreachable"


def _schedule_rejection(model: ReferenceModel, ref: str) -> str:
    if ref not in model.graph.steps:
        return "StepNotFound"
    if "timeout" not in model.graph.steps[ref].on:
        return "StepHasNoTimeout"
    if model.phase.get(ref) in {FINISHED, SKIPPED}:
        return "StepAlreadyFinished"
    if model.phase.get(ref) not in ACTIVE and not model.tokens.can_start(ref):
        return "StepUnreachable"
    return "TooManyTimers" if sum(timer.client_requested for timer in model.timers.values()) >= 1_000 else ""


def _timer_rejection(model: ReferenceModel, command: commands.CancelTimer | commands.FireTimer) -> str:
    timer = model.timers.get(command.timer)
    if timer is None:
        return "TimerNotFound"
    if isinstance(command, commands.CancelTimer):
        return "" if timer.kind is TimerKind.TIMEOUT else "TimerNotCancellable"
    return "" if command.forced or command.at >= timer.due_at else "TimerNotDue"
