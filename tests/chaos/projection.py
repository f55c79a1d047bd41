"""An entry as plain fields, from the database or from the wire. Watches and lists are compared with it.

It does not use the server's own conversion, which is under test. It omits the step of a START timer, which the API does
not show.
"""

from __future__ import annotations

from typing import Any

from perdure.v1 import common_pb2, history_pb2
from perdure_server.engine import facts
from perdure_server.engine.facts import KIND_OF, Entry, TimerKind

_FIELDS = (
    "step_ref",
    "event",
    "attempt",
    "events",
    "targets",
    "used",
    "forced",
    "retrying",
    "client_requested",
)


def of_entry(instance_id: str, entry: Entry) -> dict[str, Any]:
    """Return the fields of a stored entry; those that are empty are left out."""
    fact: Any = entry.fact
    found: dict[str, Any] = {
        "revision": entry.revision,
        "at": entry.at,
        "request_id": entry.request_id,
        "kind": KIND_OF[type(entry.fact)],
    }
    for name in _FIELDS:
        value = getattr(fact, name, None)
        found[name] = list(value) if isinstance(value, tuple) else value
    if isinstance(fact, facts.TimerArmed):
        found["timer"] = f"{instance_id}.{entry.revision}"
    elif isinstance(fact, facts.TimerFired | facts.TimerCancelled):
        found["timer"] = f"{instance_id}.{fact.timer}"
    if getattr(fact, "kind", None) is TimerKind.START:
        found["step_ref"] = ""
    return _short(found)


def of_message(message: history_pb2.HistoryEntry) -> dict[str, Any]:
    """Return the same of an entry from the wire."""
    kind = message.WhichOneof("fact") or "unknown"
    fact = getattr(message, kind, None)
    found: dict[str, Any] = {
        "revision": message.revision,
        "at": ms_of(message.time),
        "request_id": message.request_id,
        "kind": kind,
    }
    for name in _FIELDS:
        value = getattr(fact, name, None)
        found[name] = value if isinstance(value, str | int | bool | None) else list(value)
    found["timer"] = getattr(fact, "reference", "")
    if getattr(fact, "kind", 0) == common_pb2.TIMER_KIND_START and kind.startswith("timer_"):
        found["step_ref"] = ""
    return _short(found)


def ms_of(timestamp: Any) -> int:
    """Return a Timestamp as milliseconds since the epoch."""
    return int(timestamp.seconds) * 1_000 + int(timestamp.nanos) // 1_000_000


def _short(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value}
