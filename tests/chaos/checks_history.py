"""Checks of histories, states and rows: each history is gapless and legal, and all stored data follows from it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from itertools import pairwise

from chaos.database import TimerColumns
from chaos.ledger import Recording
from chaos.legal import objections, unsettled
from chaos.violations import Name, Violation
from chaos.walk import Walk
from perdure_server.engine import facts
from perdure_server.engine.facts import PayloadInfo
from perdure_server.engine.state import Queued, Running, State
from perdure_server.store.protocol import TaskRow


def check_histories(recording: Recording, walks: Mapping[str, Walk]) -> Iterator[Violation]:
    """Judge the database on its own word."""
    database = recording.database
    for text in database.integrity:
        yield Violation(Name.DATABASE_CORRUPT, "database", text)
    for table, rows in (
        ("history", database.histories),
        ("payloads", database.payloads),
        ("timers", database.timers),
        ("tasks", database.tasks),
    ):
        for instance_id in rows.keys() - database.instances.keys():
            yield Violation(Name.ORPHAN_ROWS, instance_id, f"in {table}")
    for walk in walks.values():
        yield from _facts(walk)
        yield from _state(walk)
        yield from _rows(recording, walk)
        yield from _payloads(walk)


def _facts(walk: Walk) -> Iterator[Violation]:
    revisions = [entry.revision for entry in walk.entries]
    if revisions != list(range(1, len(revisions) + 1)) or not revisions:
        yield Violation(Name.HISTORY_GAP, walk.instance_id, f"revisions {revisions}")
    if walk.broken:
        yield Violation(Name.HISTORY_UNFOLDABLE, walk.instance_id, walk.broken)
    named = {ref for state in walk.states.values() for ref in (*state.steps, *state.arrivals)}
    if strangers := named - walk.graph.steps.keys():
        # Two histories in one: there is no graph to judge the rest by.
        yield Violation(Name.FACT_ILLEGAL, walk.instance_id, f"the workflow has no steps {sorted(strangers)}")
        return
    fired: set[int] = set()
    for before, entry in pairwise(walk.entries):
        if isinstance(entry.fact, facts.TimerFired):
            if entry.fact.timer in fired:
                message = f"timer {entry.fact.timer}, again at {entry.revision}"
                yield Violation(Name.TIMER_FIRED_TWICE, walk.instance_id, message)
            fired.add(entry.fact.timer)
        state = walk.states.get(before.revision)
        if state is not None:
            for name, message in objections(walk.graph, state, entry, before):
                yield Violation(name, walk.instance_id, f"revision {entry.revision}: {message}")
    if walk.final is not None:
        for name, message in unsettled(walk.graph, walk.final):
            yield Violation(name, walk.instance_id, message)


def _state(walk: Walk) -> Iterator[Violation]:
    stored, folded = walk.row.state, walk.final
    if folded is not None and stored != folded:
        differing = [
            f"{field.name}: stored {getattr(stored, field.name)!r}, folded {getattr(folded, field.name)!r}"
            for field in dataclasses.fields(State)
            if getattr(stored, field.name) != getattr(folded, field.name)
        ]
        yield Violation(Name.STATE_IS_NOT_THE_FOLD, walk.instance_id, "; ".join(differing)[:1_000])
    for column, value in walk.row.columns.items():
        expected = getattr(stored, column)
        if value != (dict(expected) if column == "labels" else expected):
            yield Violation(Name.COLUMNS_DIFFER, walk.instance_id, f"{column}={value!r}, not {expected!r}")
    held = stored.business_key if stored.business_key and stored.is_live else None
    if walk.row.live_business_key != held:
        message = f"live_business_key={walk.row.live_business_key!r}, not {held!r}"
        yield Violation(Name.COLUMNS_DIFFER, walk.instance_id, message)


def _rows(recording: Recording, walk: Walk) -> Iterator[Violation]:
    state = walk.row.state
    timers = {
        revision: TimerColumns(
            timer.kind.value, timer.step_ref, timer.due_at, timer.delay_ms, timer.client_requested
        )
        for revision, timer in state.timers.items()
    }
    stored_timers = recording.database.timers.get(walk.instance_id, {})
    if stored_timers != timers:
        yield Violation(
            Name.TIMER_ROWS_DIFFER, walk.instance_id, f"stored {stored_timers}, expected {timers}"
        )
    tasks = {
        ref: TaskRow(
            state.instance_id,
            ref,
            state.workflow,
            state.version,
            step.attempt,
            step.owner if isinstance(step, Running) else "",
        )
        for ref, step in state.steps.items()
        if isinstance(step, Queued | Running)
    }
    stored_tasks = recording.database.tasks.get(walk.instance_id, {})
    if stored_tasks != tasks:
        yield Violation(Name.TASK_ROWS_DIFFER, walk.instance_id, f"stored {stored_tasks}, expected {tasks}")


def _payloads(walk: Walk) -> Iterator[Violation]:
    expected: dict[int, PayloadInfo] = {}
    for entry in walk.entries:
        match entry.fact:
            case facts.InstanceStarted(input=info):
                expected[entry.revision] = info
            case facts.EventBuffered(payload=info) if info is not None:
                expected[entry.revision] = info
            case facts.StepFinished(output=info, buffered_revision=0) if info is not None:
                expected[entry.revision] = info
    found = {
        revision: PayloadInfo(len(text.encode()), hashlib.blake2b(text.encode(), digest_size=16).hexdigest())
        for revision, text in walk.payloads.items()
    }
    if found != expected:
        yield Violation(Name.PAYLOAD_DIFFERS, walk.instance_id, f"stored {found}, expected {expected}")
