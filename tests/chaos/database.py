"""Reads the database file of a stopped server with the checker's own SQL.

Must not: judge, or use the server's store, which is under test. The server's codec decodes the texts of states and
facts. Folding the history then shows that states and facts agree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from perdure.model.graph import WorkflowGraph, from_json
from perdure_server.engine.facts import Entry
from perdure_server.engine.state import LIVE, State
from perdure_server.store.codec import decode_fact, decode_state
from perdure_server.store.protocol import RequestKey, RequestRecord, TaskRow


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRow:
    """A row of `instances`: the state, and the columns that repeat parts of it."""

    state: State
    columns: Mapping[str, object]
    live_business_key: str | None


@dataclass(frozen=True, slots=True)
class TimerColumns:
    kind: str
    step_ref: str
    due_at: int
    delay_ms: int
    client_requested: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """Everything durable, keyed by instance."""

    instances: Mapping[str, InstanceRow]
    histories: Mapping[str, tuple[Entry, ...]]
    payloads: Mapping[str, Mapping[int, str]]
    timers: Mapping[str, Mapping[int, TimerColumns]]
    tasks: Mapping[str, Mapping[str, TaskRow]]
    requests: Mapping[RequestKey, RequestRecord]
    graphs: Mapping[tuple[str, int, str], WorkflowGraph]
    integrity: tuple[str, ...] = field(default=())
    """Issues that the database's own check found."""


def read_database(path: Path) -> Database:
    """Read the whole file; the server must have ended."""
    connection = apsw.Connection(str(path))
    try:
        return _read(connection)
    finally:
        connection.close()


def _read(connection: apsw.Connection) -> Database:
    integrity = tuple(text for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok")
    instances: dict[str, InstanceRow] = {}
    names = "instance_id workflow version status revision business_key labels created_at updated_at ended_at".split()
    for live, state, *values in connection.execute(
        f"SELECT live_business_key, state, {', '.join(names)} FROM instances"
    ):
        columns = dict(zip(names, values, strict=True))
        columns["labels"] = json.loads(str(columns["labels"]))
        if columns["status"] in LIVE:
            # The column is NOT NULL and holds 0 then, which is also a time.
            columns["ended_at"] = None
        instances[str(columns["instance_id"])] = InstanceRow(
            state=decode_state(state), columns=columns, live_business_key=live
        )
    histories: dict[str, list[Entry]] = {}
    for instance_id, revision, at, kind, body, request_id in connection.execute(
        "SELECT instance_id, revision, at, kind, body, request_id FROM history ORDER BY instance_id, revision"
    ):
        entry = Entry(revision, at, decode_fact(kind, body), request_id)
        histories.setdefault(instance_id, []).append(entry)
    payloads: dict[str, dict[int, str]] = {}
    for instance_id, revision, body in connection.execute("SELECT instance_id, revision, body FROM payloads"):
        payloads.setdefault(instance_id, {})[revision] = body
    timers: dict[str, dict[int, TimerColumns]] = {}
    for instance_id, revision, kind, step_ref, due_at, delay_ms, requested in connection.execute(
        "SELECT instance_id, revision, kind, step_ref, due_at, delay_ms, client_requested FROM timers"
    ):
        row = TimerColumns(kind, step_ref, due_at, delay_ms, bool(requested))
        timers.setdefault(instance_id, {})[revision] = row
    tasks: dict[str, dict[str, TaskRow]] = {}
    for fields in connection.execute(
        "SELECT instance_id, step_ref, workflow, version, attempt, owner FROM tasks"
    ):
        tasks.setdefault(fields[0], {})[fields[1]] = TaskRow(*fields)
    requests: dict[RequestKey, RequestRecord] = {}
    for rpc, instance_id, request_id, digest, answer in connection.execute(
        "SELECT rpc, instance_id, request_id, digest, response FROM requests"
    ):
        key = RequestKey(rpc, instance_id, request_id)
        requests[key] = RequestRecord(key, digest, answer)
    graphs = {
        (workflow, version, digest): from_json(json.loads(graph))
        for workflow, version, digest, graph in connection.execute(
            "SELECT workflow, version, digest, graph FROM definitions"
        )
    }
    return Database(
        instances=instances,
        histories={instance_id: tuple(entries) for instance_id, entries in histories.items()},
        payloads=payloads,
        timers=timers,
        tasks=tasks,
        requests=requests,
        graphs=graphs,
        integrity=integrity,
    )
