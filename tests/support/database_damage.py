"""Databases to damage: valid ones with every kind of row, every change of a single field, and its expected effect."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final

import apsw

from corpus.scenarios import SCENARIOS
from perdure import Context, Outcome, StepError, Workflow, step, wait_for
from perdure.runner import ConflictPolicy
from perdure_server.embedded import EmbeddedRunner
from perdure_server.engine.evolve import fold
from perdure_server.engine.facts import Entry
from perdure_server.runtime.change_builder import task_row
from perdure_server.runtime.integrity_check import Checked, check_database, check_instance, read_definitions
from perdure_server.store.factory import open_store
from perdure_server.store.protocol import COMMITTED, Change, StoredDefinition, TimerRow
from perdure_server.store.sqlite.migrate import migrations
from perdure_server.store.sqlite.offline import COLUMNS, OfflineDatabase

JSON_COLUMNS: Final = frozenset({"state", "body", "labels", "response", "graph"})


class Failing(Workflow, name="failing", version=1):
    """A step that fails its instance."""

    start = "work"

    @step(on={"done": "end"})
    async def work(self, ctx: Context) -> Outcome:
        raise StepError("broken", retryable=False)


class Waits(Workflow, name="waits", version=1):
    """Two waits that can time out."""

    start = "decide"
    decide = wait_for("go", "stop", timeout="1h", on={"go": "rest", "stop": "end", "timeout": "rest"})
    rest = wait_for("done", timeout="1h", on={"done": "end", "timeout": "end"})


async def write_database(path: Path) -> None:
    """Write a sound database with lives of every kind, and requests of every method."""
    await _write_requests(path)
    await _write_lives(path)


async def _write_requests(path: Path) -> None:
    async with EmbeddedRunner([Waits, Failing], database=f"sqlite:///{path}") as perdure:
        for name in ("a", "b", "c", "d"):
            await perdure.start_instance(
                "waits",
                {"name": name},
                instance_id=f"asked-{name}",
                business_key=f"key-{name}",
                labels={"team": "blue", "place": name},
                request_id=f"start-{name}",
            )
        await perdure.start_instance(
            "waits",
            business_key="key-a",
            conflict_policy=ConflictPolicy.USE_EXISTING,
            request_id="use-a",
        )
        await perdure.start_instance("waits", start_delay="1h", request_id="later")
        await perdure.resume("asked-a", "done", {"n": 1}, buffer=True, request_id="early")
        await perdure.resume("asked-a", "go", {"n": 2}, request_id="go")
        await perdure.resume("asked-b", "go", request_id="go")
        scheduled = await perdure.schedule_resume("asked-b", "rest", 60_000, request_id="soon")
        await perdure.cancel_timer(scheduled.reference, request_id="not-so-soon")
        await perdure.schedule_resume("asked-b", "rest", 90_000, request_id="sooner")
        await perdure.cancel_instance("asked-c", reason="enough", request_id="cancel")
        timers = [timer async for timer in perdure.list_timers("asked-d")]
        await perdure.fire_timer(timers[0].reference, request_id="fire")
        await perdure.start_instance("waits", instance_id="asked-e")
        await perdure.resume("asked-e", "done", buffer=True, request_id="kept")
        await perdure.start_instance("failing", instance_id="failed", request_id="fail")
        await perdure.wait_for_end("failed")
        await perdure.retry_instance("failed", request_id="retry")
        await perdure.wait_for_end("failed")


async def _write_lives(path: Path) -> None:
    """Store the lives of the corpus, each as an instance of a workflow of its name."""
    store = open_store(f"sqlite:///{path}")
    await store.open()
    try:
        for name, story in SCENARIOS.items():
            life = story()
            graph = replace(life.graph, name=name)
            await store.put_definition(
                StoredDefinition(graph.name, graph.version, graph.digest, graph.canonical_json, life.now)
            )
            first = replace(life.oracle.history[0].fact, workflow=name, definition_digest=graph.digest)  # type: ignore[call-arg]
            entries = [
                Entry(entry.revision, entry.at, first if entry.revision == 1 else entry.fact)
                for entry in life.oracle.history
            ]
            state = fold(name, entries)
            assert state is not None
            tasks = [task_row(state, ref, step) for ref, step in state.steps.items()]
            change = Change(
                state=state,
                expected_revision=0,
                entries=tuple(entries),
                payloads=life.bodies,
                tasks=tuple(row for row in tasks if row is not None),
                timers=tuple(TimerRow(name, timer, "somebody") for timer in state.timers.values()),
            )
            assert await store.commit([change]) == [COMMITTED], name
    finally:
        await store.close()


# --- one field at a time ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Field:
    """A field of a row: ``name`` is what the documentation calls it, ``table`` and ``where`` find the row.

    ``path`` leads into the JSON of ``column``, and is empty for the column itself.
    """

    name: str
    table: str
    column: str
    where: Mapping[str, Any]
    path: tuple[str | int, ...] = ()
    deed: str = "change"


def fields_of(connection: apsw.Connection, samples: int) -> list[Field]:
    """Return fields to damage: of each name and way up to ``samples``, spread over the rows."""
    groups: dict[tuple[str, str], list[Field]] = {}
    for field in _every_field(connection):
        groups.setdefault((field.name, field.deed), []).append(field)
    return [field for group in groups.values() for field in group[:: -(-len(group) // samples)]]


def _every_field(connection: apsw.Connection) -> Iterator[Field]:
    for table in COLUMNS:
        columns = [str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")]
        for values in connection.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall():
            row = dict(zip(columns, values, strict=True))
            for column, value in row.items():
                prefix = f"{table}.{row['kind']}" if column == "body" and table == "history" else table
                name = prefix if column == "body" and table == "history" else f"{table}.{column}"
                yield Field(name, table, column, row)
                if column in JSON_COLUMNS and table != "payloads":
                    assert isinstance(value, str)
                    yield from _json_fields(name, table, column, row, json.loads(value), ())


def _json_fields(
    name: str, table: str, column: str, row: Mapping[str, Any], value: Any, path: tuple[str | int, ...]
) -> Iterator[Field]:
    match value:
        case dict():
            for key, item in value.items():
                # The keys of these objects are names of steps or labels, not of fields.
                own = (
                    f"{name}.*"
                    if name.rpartition(".")[2] in ("steps", "arrivals", "labels", "on")
                    else f"{name}.{key}"
                )
                yield Field(own, table, column, row, (*path, key), "rename")
                yield from _json_fields(own, table, column, row, item, (*path, key))
        case list():
            for index, item in enumerate(value):
                yield from _json_fields(f"{name}[]", table, column, row, item, (*path, index))
        case _:
            yield Field(name, table, column, row, path)


def damage_field(connection: apsw.Connection, field: Field) -> None:
    """Change one field in place."""
    value = field.where[field.column]
    if field.path:
        document = json.loads(value)
        parent = document
        for part in field.path[:-1]:
            parent = parent[part]
        last = field.path[-1]
        if field.deed == "rename":
            changed = {(f"{key}x" if key == last else key): item for key, item in parent.items()}
            parent.clear()
            parent.update(changed)
        else:
            parent[last] = _other(parent[last])
        value = json.dumps(document, separators=(",", ":"))
    else:
        value = _other(value)
    condition = " AND ".join(f"{column} IS ?" for column in field.where)
    connection.execute(
        f"UPDATE {field.table} SET {field.column} = ? WHERE {condition}", (value, *field.where.values())
    )
    assert connection.changes() == 1


def _other(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value + 0.5
        case None:
            return "x"
        case _:
            return f"{value}x"


def issues(connection: apsw.Connection) -> list[Checked]:
    """Return what the check finds in an open database."""
    return [checked for checked in check_database(OfflineDatabase("", connection)) if checked.issues]


def in_memory(path: Path) -> apsw.Connection:
    """Return a copy of a database to damage."""
    source, copy = apsw.Connection(str(path)), apsw.Connection(":memory:")
    with copy.backup("main", source, "main") as backup:
        backup.step()
    source.close()
    return copy


def missed_fields(connection: apsw.Connection, fields: list[Field]) -> dict[str, set[bool]]:
    """Damage each field, one at a time, and return for each name in which cases the check found nothing."""
    found: dict[str, set[bool]] = {}
    database = OfflineDatabase("", connection)
    _, graphs = read_definitions(database)
    for field in fields:
        connection.execute("SAVEPOINT damage")
        try:
            damage_field(connection, field)
        except apsw.ConstraintError:
            pass  # the database itself rejects it
        else:
            # The instance alone is checked first, since the rest of the database takes longer.
            instance_id = str(field.where.get("instance_id", "")).encode()
            missed = not (
                field.table in ("instances", "history", "payloads", "timers", "tasks")
                and check_instance(database, instance_id, graphs).issues
            )
            found.setdefault(field.name, set()).add(missed and not issues(connection))
        finally:
            connection.execute("ROLLBACK TO damage")
            connection.execute("RELEASE damage")
    return found


# --- bytes -----------------------------------------------------------------------------------------------------

PAGE_BYTES: Final = 4096

Content = dict[str, list[tuple[Any, ...]]]


def bytes_damaged(sound: bytes, rng: Random) -> bytes:
    """Return a database file with one piece of damage: a byte, a run of bytes, or a whole page."""
    damaged = bytearray(sound)
    pages = len(sound) // PAGE_BYTES
    page = rng.randrange(pages) * PAGE_BYTES
    match rng.randrange(8):
        case 0:
            damaged[page : page + PAGE_BYTES] = bytes(PAGE_BYTES)
        case 1:
            other = rng.randrange(pages) * PAGE_BYTES
            damaged[page : page + PAGE_BYTES] = sound[other : other + PAGE_BYTES]
        case 2:
            at, length = rng.randrange(len(sound)), rng.randrange(1, 600)
            damaged[at : at + length] = rng.randbytes(len(damaged[at : at + length]))
        case _:
            at = rng.randrange(len(sound))
            damaged[at] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def content_of(path: Path) -> Content | None:
    """Return the rows of every table and the entries of every index, each read alone; None if one cannot be read."""
    try:
        connection = apsw.Connection(
            f"file:{path}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        )
        try:
            return {name: connection.execute(sql).fetchall() for name, sql in _reads().items()}
        finally:
            connection.close()
    except (apsw.Error, UnicodeError):
        return None


@cache
def _reads() -> dict[str, str]:
    queries = {"sqlite_schema": "SELECT type, name, tbl_name, sql FROM sqlite_schema"}
    fresh = apsw.Connection(":memory:")
    for text in migrations().values():
        fresh.execute(text)
    for table in COLUMNS:
        queries[table] = f"SELECT * FROM {table} NOT INDEXED"
    for name, table, sql in fresh.execute(
        "SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"
    ).fetchall():
        key = [str(row[2]) for row in fresh.execute(f"PRAGMA index_xinfo({name})") if row[2] is not None]
        condition = str(sql).partition(" WHERE ")[2] or "TRUE"
        queries[str(name)] = f"SELECT {', '.join(key)} FROM {table} INDEXED BY {name} WHERE {condition}"
    fresh.close()
    return queries


def changed_fields(before: Content, after: Content) -> set[str]:
    """Return the names of the fields that differ; ``rows`` means everything that is not a field."""
    changed: set[str] = set()
    for name, rows in before.items():
        if rows == after[name]:
            continue
        if name not in COLUMNS or len(rows) != len(after[name]):
            changed.add("rows")
            continue
        columns = _columns_of(name)
        for old, new in zip(rows, after[name], strict=True):
            if old != new:
                changed |= _changed_in_row(
                    name, dict(zip(columns, old, strict=True)), dict(zip(columns, new, strict=True))
                )
    return changed


@cache
def _columns_of(table: str) -> tuple[str, ...]:
    fresh = apsw.Connection(":memory:")
    for text in migrations().values():
        fresh.execute(text)
    columns = tuple(str(row[1]) for row in fresh.execute(f"PRAGMA table_info({table})"))
    fresh.close()
    return columns


def _changed_in_row(table: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    changed = set()
    for column, value in old.items():
        if value == new[column]:
            continue
        if column not in JSON_COLUMNS or table == "payloads":
            changed.add(f"{table}.{column}")
            continue
        name = f"{table}.{old['kind']}" if table == "history" else f"{table}.{column}"
        try:
            leaves = [_leaves(name, table, column, row) for row in (old, new)]
        except ValueError:
            changed.add("rows")
        else:
            paths = leaves[0].keys() | leaves[1].keys()
            changed |= {
                leaves[0].get(path, leaves[1].get(path, ("rows", None)))[0]
                for path in paths
                if leaves[0].get(path) != leaves[1].get(path)
            }
    return changed


def _leaves(name: str, table: str, column: str, row: Mapping[str, Any]) -> dict[object, tuple[str, Any]]:
    found: dict[object, tuple[str, Any]] = {}
    document = json.loads(row[column])
    for field in _json_fields(name, table, column, row, document, ()):
        if field.deed == "change":
            value = document
            for part in field.path:
                value = value[part]
            found[field.path] = (field.name, value)
    return found
