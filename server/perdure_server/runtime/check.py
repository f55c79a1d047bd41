"""Check a database against itself: every history is folded anew and held against what is stored beside it.

A finding is a broken promise (number 4: an instance's history is gapless and folds to its state), or a damaged file.
What lives here: the comparison. What may not: repairs; the history is the truth, and nobody should change it by
guesswork.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, fields
from typing import Final

from perdure_server.engine.commands import payload
from perdure_server.engine.evolve import fold
from perdure_server.engine.facts import Entry, EventBuffered, InstanceStarted, PayloadInfo, StepFinished
from perdure_server.engine.state import State
from perdure_server.store.protocol import InstanceCursor, InstanceFilter, Store, StoredInstance

PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Checked:
    """One instance: how many entries its history has, and what is wrong with it (nothing, it is hoped)."""

    instance_id: str
    entries: int
    findings: tuple[str, ...]


async def check_store(store: Store) -> AsyncIterator[Checked]:
    """Check every instance, newest first. Raises what the store raises; nothing may write meanwhile."""
    after: InstanceCursor | None = None
    while True:
        page = await store.list_instances(InstanceFilter(), limit=PAGE, after=after)
        for summary in page.instances:
            yield await check_instance(store, summary.instance_id)
        after = page.next
        if after is None:
            return


async def check_instance(store: Store, instance_id: str) -> Checked:
    """Check one instance."""
    stored = await store.get_instance(instance_id)
    if stored is None:
        return Checked(instance_id, 0, ("it is listed, but has no state",))
    history = await _history(store, instance_id)
    findings = [*_gaps(history)]
    if not findings:
        try:
            findings += _differences(fold(instance_id, history), stored.state)
        except (KeyError, TypeError, AttributeError) as error:
            findings.append(f"its history cannot be folded: {type(error).__name__}")
    findings += _payloads(history, stored)
    findings += await _timers(store, stored.state)
    return Checked(instance_id, len(history), tuple(findings))


async def _history(store: Store, instance_id: str) -> list[Entry]:
    history: list[Entry] = []
    while True:
        page = await store.history(instance_id, after_revision=len(history), limit=PAGE)
        history += page
        if len(page) < PAGE:
            return history


def _gaps(history: list[Entry]) -> list[str]:
    if not history:
        return ["it has no history"]
    for expected, entry in enumerate(history, start=1):
        if entry.revision != expected:
            return [f"its history goes from revision {expected - 1} to {entry.revision}"]
    return []


def _differences(folded: State | None, stored: State) -> list[str]:
    if folded == stored:
        return []
    names = [f.name for f in fields(State) if getattr(folded, f.name) != getattr(stored, f.name)]
    return [f"its history does not fold to its state: {', '.join(names)} differ"]


def _payloads(history: list[Entry], stored: StoredInstance) -> list[str]:
    findings = []
    for revision, info in _payloads_of(history).items():
        text = stored.payloads.get(revision)
        if text is None:
            findings.append(f"the payload of revision {revision} is missing")
        elif payload(text).info != info:
            findings.append(f"the payload of revision {revision} is not the one that was accepted")
    return findings


def _payloads_of(history: list[Entry]) -> Mapping[int, PayloadInfo]:
    found: dict[int, PayloadInfo] = {}
    for entry in history:
        match entry.fact:
            case InstanceStarted(initial=info):
                found[entry.revision] = info
            case StepFinished(output=PayloadInfo() as info, buffered_revision=0):
                found[entry.revision] = info
            case EventBuffered(payload=PayloadInfo() as info):
                found[entry.revision] = info
            case _:
                pass
    return found


async def _timers(store: Store, state: State) -> list[str]:
    # One more than there should be is enough to see that there are too many.
    found = await store.list_timers(state.instance_id, limit=len(state.timers) + 1)
    rows = {row.timer.revision: row.timer for row in found}
    if rows == dict(state.timers):
        return []
    wrong = sorted(rev for rev in rows.keys() | state.timers.keys() if rows.get(rev) != state.timers.get(rev))
    return [f"the timers table differs from its state: {', '.join(map(state.reference, wrong))}"]
