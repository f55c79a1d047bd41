"""Maps RPCs and their fields to facts: the entries that only a call can cause, and the call that an entry fits.

Must not: judge (`checks_calls` does).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from chaos.ledger import Send
from chaos.walk import Walk
from perdure_server.engine import facts
from perdure_server.engine.commands import EMPTY_OBJECT
from perdure_server.engine.facts import Entry

MUTATING: Final = frozenset(
    {
        "StartInstance",
        "Resume",
        "ScheduleResume",
        "CancelInstance",
        "RetryInstance",
        "CancelTimer",
        "FireTimer",
    }
)

Key = tuple[str, str, str]
"""A request id in its scope: (rpc, instance or "" for StartInstance, request id)."""


@dataclass(frozen=True, slots=True)
class Effect:
    """An entry that a call caused."""

    instance_id: str
    rpc: str
    entry: Entry

    @property
    def key(self) -> Key:
        return self.rpc, "" if self.rpc == "StartInstance" else self.instance_id, self.entry.request_id

    @property
    def where(self) -> str:
        return f"{self.instance_id} revision {self.entry.revision} ({self.rpc})"


def effects_of(walk: Walk) -> Iterator[Effect]:
    """Yield the entries of a history that calls caused."""
    before: Entry | None = None
    for entry in walk.entries:
        rpc = _rpc_of(walk, entry, before)
        if rpc:
            yield Effect(walk.instance_id, rpc, entry)
        before = entry


def _rpc_of(walk: Walk, entry: Entry, before: Entry | None) -> str:
    match entry.fact:
        case facts.InstanceStarted():
            return "StartInstance"
        case facts.EventBuffered():
            return "Resume"
        case facts.StepFinished(step_ref=ref, event=event, buffered_revision=0):
            definition = walk.graph.steps.get(ref)
            return "Resume" if definition is not None and event in definition.events else ""
        case facts.TimerArmed(client_requested=True):
            return "" if _rearmed(entry, before) else "ScheduleResume"
        case facts.InstanceCancelled():
            return "CancelInstance"
        case facts.InstanceRetried():
            return "RetryInstance"
        case facts.TimerCancelled():
            return "CancelTimer"
        case facts.TimerFired(forced=True):
            return "FireTimer"
        case _:
            return ""


def _rearmed(entry: Entry, before: Entry | None) -> bool:
    """Return True if RetryInstance armed the timer again. Such entries follow it directly and have no request ID."""
    if entry.request_id or before is None:
        return False
    fact = entry.fact
    assert isinstance(fact, facts.TimerArmed)
    return fact.due_at != entry.at + fact.delay_ms or isinstance(before.fact, facts.InstanceRetried)


def asked_for(send: Send, walk: Walk, entry: Entry) -> bool:
    """Return True if the entry is the requested effect of the call, including the exact bytes of the payload."""
    wanted, fact = send.fields, entry.fact
    match send.rpc, fact:
        case "StartInstance", facts.InstanceStarted():
            return (
                fact.workflow == wanted["workflow"]
                and fact.business_key == wanted["business_key"]
                and dict(fact.labels) == dict(wanted["labels"])
                and fact.start_delay_ms == wanted["start_delay_ms"]
                and wanted["instance_id"] in ("", walk.instance_id)
                and walk.payloads.get(entry.revision) == wanted["context"]
            )
        case "Resume", facts.EventBuffered() | facts.StepFinished():
            body = wanted["payload"] or EMPTY_OBJECT
            return (
                fact.event == wanted["event"]
                and wanted["step_ref"] in ("", fact.step_ref)
                and walk.payloads.get(entry.revision, EMPTY_OBJECT) == body
            )
        case "ScheduleResume", facts.TimerArmed():
            return fact.step_ref == wanted["step_ref"] and fact.delay_ms == wanted["delay_ms"]
        case "CancelInstance", facts.InstanceCancelled():
            return fact.reason == wanted["reason"]
        case "RetryInstance", facts.InstanceRetried():
            return True
        case "CancelTimer", facts.TimerCancelled():
            return f"{walk.instance_id}.{fact.timer}" == wanted["reference"]
        case "FireTimer", facts.TimerFired():
            return f"{walk.instance_id}.{fact.timer}" == wanted["reference"]
        case _:
            return False


def answered_with(send: Send, walk: Walk, entry: Entry) -> bool:
    """Return True if an OK response agrees with the entry that it names."""
    answer, fact = send.answer, entry.fact
    match fact:
        case facts.InstanceStarted():
            return answer["instance_id"] == walk.instance_id and answer["version"] == fact.version
        case facts.EventBuffered():
            return answer["disposition"] == "BUFFERED" and answer["step_ref"] == fact.step_ref
        case facts.StepFinished():
            return answer["disposition"] == "DELIVERED" and answer["step_ref"] == fact.step_ref
        case facts.TimerArmed():
            reference = f"{walk.instance_id}.{entry.revision}"
            return answer["reference"] == reference and answer["due_ms"] == fact.due_at
        case facts.TimerFired():
            return answer["used"] == fact.used
        case _:
            return True
