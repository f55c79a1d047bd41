"""Check a database against itself: its structure, then every stored column against the history it follows from.

A issue is a broken promise (number 4: an instance's history is gapless and folds to its state), or a damaged file.
Owns: the comparison. Must not: repair. The history is the truth, and nothing should change it by guesswork.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import orjson

from perdure.model.graph import WorkflowGraph, from_json
from perdure_server.engine.commands import payload
from perdure_server.engine.facts import Entry
from perdure_server.engine.state import Interrupted, State, StepState
from perdure_server.runtime.change_builder import task_row
from perdure_server.runtime.integrity_history import Folded, entry_of, fold_checked
from perdure_server.runtime.integrity_requests import expected_request, request_problems
from perdure_server.store.codec import decode_state, state_names_unknown
from perdure_server.store.protocol import Change, TimerRow
from perdure_server.store.sqlite.offline import OfflineDatabase, expected_rows, readable

FINDINGS_PER_INSTANCE_MAX: Final = 20
"""Maximum number of issues that are reported of one instance. One more line counts the others."""

STRUCTURE_FINDINGS_MAX: Final = 100
"""Maximum number of issues of each structural check."""

_TEXT_CHARS_MAX: Final = 80

Graphs = Mapping[tuple[str, int, str], WorkflowGraph]
"""The stored graphs by workflow, version and digest."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Issues in one instance, or in the rest of the database (``instance_id`` is empty).

    ``entries`` is the length of the history.
    """

    instance_id: str
    entries: int
    issues: tuple[str, ...]


def check_database(database: OfflineDatabase) -> Iterator[Checked]:
    """Violations everything: first what belongs to no instance, in one or more `Checked`, then each instance."""
    for problem in database.structure_problems(STRUCTURE_FINDINGS_MAX):
        yield Checked("", 0, (problem,))
    problems, graphs = read_definitions(database)
    yield from (Checked("", 0, (problem,)) for problem in problems)
    yield from _rest(request_problems(database, STRUCTURE_FINDINGS_MAX), "requests")
    try:
        for instance_id in database.instance_ids():
            yield check_instance(database, instance_id, graphs)
    except Exception as error:  # noqa: BLE001 - damage can raise anything
        yield Checked("", 0, (f"table instances: cannot be read to its end: {_told(error)}",))


def check_instance(database: OfflineDatabase, instance_id: bytes, graphs: Graphs) -> Checked:
    """Check one instance. A part that cannot be read is an issue."""
    name = readable(instance_id)
    check = _InstanceCheck(database, instance_id, graphs)
    issues: list[str] = []
    try:
        for issue in check.run():
            issues.append(issue)  # noqa: PERF402 - what was found before an error counts
    except Exception as error:  # noqa: BLE001 - damage can raise anything, and the next instance is checked all the same
        issues.append(f"cannot be read: {_told(error)}")
    issues = list(dict.fromkeys(issues))
    if (more := len(issues) - FINDINGS_PER_INSTANCE_MAX) > 0:
        issues = [*issues[:FINDINGS_PER_INSTANCE_MAX], f"and {more} more"]
    return Checked(name, check.entries, tuple(issues))


class _InstanceCheck:
    """The check of one instance, step by step."""

    def __init__(self, database: OfflineDatabase, instance_id: bytes, graphs: Graphs) -> None:
        self._database = database
        self._id = instance_id
        self._graphs = graphs
        self.entries = 0

    def run(self) -> Iterator[str]:
        """Yield what is wrong."""
        history: list[Entry] = []
        for row in self._database.rows("history", self._id):
            self.entries += 1
            entry = entry_of(row)
            if isinstance(entry, str):
                yield entry
            else:
                history.append(entry)
        if not self.entries:
            yield "history: missing"
        if len(history) < self.entries or not history:
            return
        folded = fold_checked(readable(self._id), history, self._graphs)
        yield from folded.problems
        yield from self._payload_problems(folded)
        yield from self._request_problems(folded)
        if folded.state is not None:
            yield from self._row_problems(folded.state)
            yield from self._definition_problems(folded.state)

    def _row_problems(self, state: State) -> Iterator[str]:
        """Compare each column of the rows that follow from the state."""
        for table, expected in expected_rows(_change_of(state)).items():
            if table == "instance_labels":
                found = self._database.labels(self._id, state.created_at, state.labels)
            else:
                found = self._database.rows(table, self._id)
            keys = _KEYS[table]
            wanted = {tuple(row[key] for key in keys): row for row in expected}
            there = {tuple(row[key] for key in keys): row for row in found}
            for key in [*wanted, *(key for key in there if key not in wanted)]:
                label = f"{table} {' '.join(map(_short, key))}".rstrip()
                if key not in there:
                    yield f"{label}: missing"
                elif key not in wanted:
                    yield f"{label}: not expected"
                else:
                    yield from _column_problems(table, label, wanted[key], there[key], state)

    def _payload_problems(self, folded: Folded) -> Iterator[str]:
        bodies = {row["revision"]: row["body"] for row in self._database.rows("payloads", self._id)}
        for revision, info in folded.payloads.items():
            body = bodies.pop(revision, None)
            if body is None:
                yield f"payload of revision {revision}: missing"
            elif payload(body).info != info:
                yield f"payload of revision {revision}: differs from the digest in the history"
        for revision in bodies:
            yield f"payload of revision {revision}: not expected"

    def _request_problems(self, folded: Folded) -> Iterator[str]:
        for entry in folded.history:
            if entry.request_id:
                wanted = expected_request(readable(self._id), entry)
                if wanted is None:
                    yield f"history revision {entry.revision}: has a request ID that it cannot have"
                elif self._database.request(wanted.rpc, wanted.scope, entry.request_id) is None:
                    yield f"request {_short(entry.request_id)} of revision {entry.revision}: missing"

    def _definition_problems(self, state: State) -> Iterator[str]:
        key = (state.workflow, state.version, state.definition_digest)
        if state.is_live and key not in self._graphs:
            yield f"definition {state.workflow} version {state.version}: missing, or with another digest"


_KEYS: Final = {
    "instances": ("instance_id",),
    "instance_labels": ("key", "value"),
    "timers": ("revision",),
    "tasks": ("step_ref",),
}
"""The columns that distinguish the rows of one instance."""

_NO_SECOND_COPY: Final = frozenset({("timers", "owner")})
"""Columns that nothing else in the database repeats. docs/operating.md lists them."""


def _column_problems(
    table: str, label: str, wanted: Mapping[str, Any], found: Mapping[str, Any], state: State
) -> Iterator[str]:
    for column, value in wanted.items():
        if (table, column) in _NO_SECOND_COPY:
            continue
        there = found[column]
        if (table, column) == ("instances", "state"):
            yield from _state_problems(there, state)
        elif (table, column) == ("instances", "labels"):
            if orjson.loads(there) != dict(state.labels):
                yield "instances: labels differ from the history"
        elif there != value or type(there) is not type(value):
            yield f"{label}: {column} is {_short(there)} instead of {_short(value)}"


def _state_problems(text: str, folded: State) -> Iterator[str]:
    stored = decode_state(text)
    if stored != folded:
        names = [f.name for f in fields(State) if getattr(folded, f.name) != getattr(stored, f.name)]
        yield f"its history does not fold to its state: {', '.join(names)} differ"
    else:
        yield from _attempt_time_problems(stored, folded)
    for name in state_names_unknown(text):
        yield f"instances: the state has the unknown field {_short(name)}"


def _attempt_time_problems(stored: State, folded: State) -> Iterator[str]:
    """Compare when attempts started. States of earlier versions do not have these times (see `engine.state`)."""
    for ref, step in stored.steps.items():
        at = _attempt_at(step)
        if at is not None and at != _attempt_at(folded.steps[ref]):
            yield f"step {ref}: the start of its attempt differs from the history"


def _attempt_at(step: StepState) -> int | None:
    found = step.was if isinstance(step, Interrupted) else step
    at: int | None = getattr(found, "attempt_at", None)
    return at


def _change_of(state: State) -> Change:
    """Return a change that writes every row which follows from a state."""
    tasks = [task_row(state, ref, step) for ref, step in state.steps.items()]
    return Change(
        state=state,
        expected_revision=0,
        entries=(),
        tasks=tuple(row for row in tasks if row is not None),
        timers=tuple(TimerRow(state.instance_id, timer, "") for timer in state.timers.values()),
    )


def read_definitions(database: OfflineDatabase) -> tuple[list[str], Graphs]:
    """Return what is wrong with definitions, and the graphs of the sound ones."""
    problems: list[str] = []
    graphs: dict[tuple[str, int, str], WorkflowGraph] = {}
    try:
        for row in database.every_row("definitions"):
            label = f"definition {_short(row['workflow'])} version {_short(row['version'])}"
            try:
                graph = from_json(orjson.loads(row["graph"]))
                digest = graph.digest
            except Exception as error:  # noqa: BLE001 - damage can raise anything
                problems.append(f"{label}: the graph cannot be read: {_told(error)}")
                continue
            if digest != row["digest"] or (graph.name, graph.version) != (row["workflow"], row["version"]):
                problems.append(f"{label}: the graph differs from its name, version or digest")
            else:
                graphs[graph.name, graph.version, digest] = graph
    except Exception as error:  # noqa: BLE001 - damage can raise anything
        problems.append(f"table definitions: cannot be read to its end: {_told(error)}")
    return problems, graphs


def _rest(problems: Iterator[str], name: str) -> Iterator[Checked]:
    try:
        for problem in problems:
            yield Checked("", 0, (problem,))
    except Exception as error:  # noqa: BLE001 - damage can raise anything
        yield Checked("", 0, (f"table {name}: cannot be read to its end: {_told(error)}",))


def _short(value: object) -> str:
    text = value if isinstance(value, str) and value.isprintable() and value else repr(value)
    return text if len(text) <= _TEXT_CHARS_MAX else f"{text[:_TEXT_CHARS_MAX]}..."


def _told(error: Exception) -> str:
    """Return an error in one line, without a payload's text."""
    text = " ".join(str(error).split())
    return _short(f"{type(error).__name__}: {text}" if text else type(error).__name__)


__all__: Sequence[str] = ("Checked", "check_database", "check_instance", "read_definitions")
