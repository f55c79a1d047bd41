"""The SQLite file: taking it, rejecting foreign files, and bringing its schema up to date."""

# ruff: noqa: ASYNC220, ASYNC240 - a test may look at its own few files while its loop does not run

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest

from perdure_server.engine.state import InstanceState
from perdure_server.store.factory import open_store
from perdure_server.store.protocol import (
    COMMITTED,
    CannotOpenError,
    DatabaseInUseError,
    InstanceCursor,
    InstanceFilter,
)
from perdure_server.store.sqlite import SqliteStore, migrate
from perdure_server.store.sqlite import database as database_module
from perdure_server.store.sqlite.connection import connect_writer
from perdure_server.store.sqlite.list_query import list_query
from perdure_server.store.sqlite.offline import open_offline
from perdure_server.store.sqlite.queries import ROWS_SIZES, Rows, rows, texts
from perdure_server.store.sqlite.restore import restore
from support.factories import a_change, a_state, filter_id

# --- ownership ---------------------------------------------------------------------------------------------


async def test_a_second_store_on_a_file_is_rejected_until_the_first_closes(
    store: SqliteStore, path: str
) -> None:
    second = SqliteStore(path)
    with pytest.raises(DatabaseInUseError, match="in use by another server") as caught:
        await second.open()
    assert caught.value.path == path
    await store.close()
    await second.open()
    await second.close()


async def test_a_second_process_is_rejected_and_a_dead_one_leaves_nothing_behind(path: str) -> None:
    program = (
        "import asyncio, sys\n"
        "from perdure_server.store.sqlite import SqliteStore\n"
        "async def main():\n"
        "    await SqliteStore(sys.argv[1]).open()\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.read()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        second = SqliteStore(path)
        with pytest.raises(DatabaseInUseError):
            await second.open()
        holder.kill()
        holder.wait()
        await second.open()
        await second.close()


async def test_a_link_to_the_file_is_the_same_file(store: SqliteStore, path: str, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    with pytest.raises(DatabaseInUseError):
        await SqliteStore(str(link)).open()


# --- what cannot be opened -----------------------------------------------------------------------------------------


async def rejected(path: str) -> str:
    store = SqliteStore(path)
    with pytest.raises(CannotOpenError) as caught:
        await store.open()
    await store.close()
    return str(caught.value)


async def test_a_directory_is_rejected_by_name(tmp_path: Path) -> None:
    assert f"{tmp_path} is a directory" in await rejected(str(tmp_path))


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path / 'no'} of the database does not exist" in await rejected(
        str(tmp_path / "no" / "p.db")
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "Permission denied" in await rejected(str(tmp_path / "p.db"))


async def test_a_file_that_is_not_a_database_is_left_as_it_was(path: str) -> None:
    Path(path).write_text("dear diary, " * 100)
    assert "is not an SQLite database" in await rejected(path)
    assert Path(path).read_text() == "dear diary, " * 100


async def test_another_programs_database_is_left_as_it_was(path: str) -> None:
    with apsw.Connection(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    before = Path(path).read_bytes()
    assert "another program" in await rejected(path)
    assert Path(path).read_bytes() == before


async def test_a_newer_servers_database_is_left_as_it_was(store: SqliteStore, path: str) -> None:
    await store.close()
    newer = migrate.newest_schema() + 1
    connection = apsw.Connection(path)
    connection.execute(f"PRAGMA user_version = {newer}")
    connection.close()
    assert (
        f"newer version of perdure (schema {newer}; this version supports up to {newer - 1})"
        in await rejected(path)
    )


@pytest.mark.parametrize("schema_number", [1, 2])
async def test_a_database_of_a_development_version_is_rejected_unchanged(
    path: str, schema_number: int
) -> None:
    with apsw.Connection(path) as connection:
        connection.execute(f"CREATE TABLE instances (namespace TEXT); PRAGMA user_version = {schema_number}")
        connection.execute(f"PRAGMA application_id = {migrate.APPLICATION_ID}")
    connection.close()
    before = Path(path).read_bytes()

    message = await rejected(path)

    assert f"development version of perdure (schema {schema_number})" in message
    assert "start with a new file" in message
    assert Path(path).read_bytes() == before
    with pytest.raises(CannotOpenError, match="development version"), open_offline(path):
        pass
    with pytest.raises(CannotOpenError, match="development version"):
        restore(path, f"{path}.restored", suffix=".old", verify=lambda _: None)
    assert Path(path).read_bytes() == before


async def test_a_store_that_could_not_be_opened_holds_no_lock(path: str) -> None:
    Path(path).write_text("dear diary, " * 100)
    await rejected(path)
    Path(path).unlink()
    store = SqliteStore(path)
    await store.open()
    await store.close()


# --- the schema ----------------------------------------------------------------------------------------------------


def schema(connection: apsw.Connection) -> dict[str, str]:
    rows_ = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    return {str(name): re.sub(r"\s*--[^\n]*", "", str(sql)) for name, sql in rows_}


def test_the_migrations_give_the_schema_of_their_files(path: str) -> None:
    migrated, documented = connect_writer(path), apsw.Connection(":memory:")
    migrate.migrate(migrated)
    for text in migrate.migrations().values():
        documented.execute(text)
    assert schema(migrated) == schema(documented)
    assert migrated.pragma("user_version") == migrate.newest_schema()
    assert set(schema(migrated)) >= {
        "instances", "live_instances", "instance_labels", "history", "payloads", "requests", "timers", "tasks",
        "definitions", "replicas", "database_identity",
    }  # fmt: skip
    migrated.close()


def test_every_unique_index_but_the_replicas_starts_with_the_namespace(path: str) -> None:
    connection = connect_writer(path)
    migrate.migrate(connection)
    unique = connection.execute(
        'SELECT t.name, x.name FROM sqlite_schema AS t JOIN pragma_index_list(t.name) AS l ON l."unique" '
        "JOIN pragma_index_info(l.name) AS x ON x.seqno = 0 WHERE t.type = 'table'"
    ).fetchall()
    assert {table for table, first in unique if first != "namespace"} == {"replicas"}
    connection.close()


def test_migrating_twice_changes_nothing(path: str) -> None:
    connection = connect_writer(path)
    migrate.migrate(connection)
    before = schema(connection)
    migrate.migrate(connection)
    assert schema(connection) == before
    connection.close()


def test_a_migration_that_fails_leaves_the_schema_before_it(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = connect_writer(path)
    migrate.migrate(connection)
    before = schema(connection)
    good, bad = "CREATE TABLE second (x)", "CREATE TABLE third (x); SELECT no_such_function()"
    newest = migrate.newest_schema()
    more = {**migrate.migrations(), newest + 1: good, newest + 2: bad}
    monkeypatch.setattr(migrate, "migrations", lambda: more)
    with pytest.raises(apsw.SQLError):
        migrate.migrate(connection)
    assert set(schema(connection)) == {*before, "second"}
    assert connection.pragma("user_version") == newest + 1
    connection.close()


def test_the_writer_syncs_every_commit(path: str) -> None:
    connection = connect_writer(path)
    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("synchronous") == 2
    assert connection.pragma("wal_autocheckpoint") == 0
    connection.close()


# --- the statements ------------------------------------------------------------------------------------------------


def plan(sql: str, values: Any) -> list[str]:
    """Return the steps by which SQLite would run a statement on the migrated schema."""
    connection = connect_writer(":memory:")
    migrate.migrate(connection)
    steps = [str(step[3]) for step in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()]
    connection.close()
    return steps


def steps_of(sql: str) -> list[str]:
    """Return the steps of a named statement, with parameters of no meaning."""
    if ":rows" not in sql:
        return plan(sql, dict.fromkeys(re.findall(r":(\w+)", sql), "x"))
    statement = Rows(sql)
    ((sized, values),) = statement.statements([None] * statement.width * 3)
    return plan(sized, values)


def scanned(steps: list[str]) -> list[str]:
    tables = (
        "instances|live_instances|instance_labels|history|payloads|requests|timers|tasks|definitions|[a-z]"
    )
    return [step for step in steps if re.fullmatch(rf"SCAN ({tables})( USING .*)?", step)]


@pytest.mark.parametrize("name", texts())
def test_no_statement_scans_a_table_but_that_of_the_replicas(name: str) -> None:
    assert not scanned(steps_of(texts()[name]))


OWNED = {"instances", "live_instances", "history", "payloads", "requests", "timers", "tasks"}
"""The tables whose rows belong to one instance each."""

ACROSS = {
    "conflicting": {
        ("instances", "workflow, live_business_key")
    },  # a business key is one among all instances of a workflow
    "find_business_key": {("instances", "workflow, live_business_key")},
    "definition_in_use": {("live_instances", "workflow, version")},
    "live_definitions": {
        ("live_instances", ""),
        ("live_instances", "workflow"),
        ("live_instances", "workflow, version"),
    },
    "count_live": {("live_instances", "workflow, version")},
    "add_left_attempts": {("tasks", "owner")},
    "claimable_timers": {("timers", "due_at")},
    "list_timers": {("timers", "(due_at,instance_id,revision)")},
    "next_timer_due_at": {("timers", "")},
    "free_owners": {("tasks", ""), ("tasks", "owner")},
    "tasks_of": {("tasks", "owner, workflow, version")},
    "owned_tasks": {("tasks", "owner")},
}
"""The statements that find such rows by anything else than their instance, and by what. Request ids of StartInstance
are global: their rows have no instance (an empty one), which no plan shows.
"""


def test_statements_that_reach_across_instances_are_known() -> None:
    # docs/scaling.md explains these for a database that is partitioned by instance.
    across: dict[str, set[tuple[str, str]]] = {}
    for name, sql in texts().items():
        tables = {
            alias or table: table for table, alias in re.findall(r"(?:FROM|JOIN) (\w+)(?: AS (\w+))?", sql)
        }
        for step in steps_of(sql):
            found = re.match(r"SEARCH (\w+) USING .*?\(namespace=\?(?: AND )?(.*)\)$", step)
            if found is None or "instance_id=?" in found[2]:
                continue
            if (table := tables.get(found[1], found[1])) in OWNED:
                by = ", ".join(re.split(r"[=<>]", term)[0] for term in found[2].split(" AND ") if term)
                across.setdefault(name, set()).add((table, by))

    assert across == ACROSS


def test_the_timers_of_one_instance_are_found_by_its_id() -> None:
    steps = steps_of(texts()["list_timers_of"])
    assert "SEARCH timers USING PRIMARY KEY (namespace=? AND instance_id=?)" in steps


@pytest.mark.parametrize(
    "where",
    [
        InstanceFilter(),
        InstanceFilter(states=frozenset({InstanceState.FAILED, InstanceState.WAITING})),
        InstanceFilter(workflow="order"),
        InstanceFilter(workflow="order", states=frozenset({InstanceState.FAILED})),
        InstanceFilter(business_key="b", states=frozenset({InstanceState.FAILED})),
        InstanceFilter(labels={"a": "1", "b": "2"}, workflow="order"),
        InstanceFilter(labels={"a": "1", "b": "2"}),
        InstanceFilter(workflow="order", version=2),
        InstanceFilter(workflow="order", version=2, states=frozenset({InstanceState.WAITING})),
        InstanceFilter(unconsumed=True, workflow="order"),
    ],
    ids=filter_id,
)
def test_a_page_of_a_list_starts_at_its_cursor(where: InstanceFilter) -> None:
    """Every range is entered by the filter and the cursor together, and nothing is sorted."""
    query = list_query(where, limit=5, after=InstanceCursor(1, "x"))
    for statement in (query.matches, query.position):
        steps = plan(statement, query.parameters)
        assert not scanned(steps)
        assert not any("TEMP B-TREE" in step for step in steps)
        ranges = [step for step in steps if "(created_at,instance_id)<(?,?)" in step]
        assert ranges
        others = [step for step in steps if step.startswith("SEARCH") and step not in ranges]
        assert all("instance_id=?" in step or "INTEGER PRIMARY KEY" in step for step in others)


def test_every_set_based_statement_stays_prepared_in_every_size() -> None:
    statement_bytes_max = 16 << 10  # apsw's limit for its cache
    for name, sql in texts().items():
        if ":rows" in sql:
            statement = rows(name)
            ((largest, _),) = statement.statements([0] * statement.width * ROWS_SIZES[-1])
            assert len(largest) < statement_bytes_max, name


def test_rows_are_cut_into_statements_and_padded() -> None:
    statement = rows("remove_tasks")
    cut = [len(values) // 2 for _, values in statement.statements(list(range(2 * (128 + 128 + 5))))]
    assert cut == [128, 128, 6]
    assert list(statement.statements([])) == []


# --- the log -------------------------------------------------------------------------------------------------------


async def test_the_log_does_not_grow_without_bound(
    store: SqliteStore, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "WAL_PAGES_MAX", 100)
    largest = 0
    for _ in range(60):
        states = [a_state() for _ in range(20)]
        outcomes = await store.commit(
            [a_change(state, payloads={1: '"' + "x" * 2_000 + '"'}) for state in states]
        )
        assert list(outcomes) == [COMMITTED] * 20
        largest = max(largest, os.path.getsize(f"{path}-wal"))
    assert largest < 2 << 20
    assert os.path.getsize(path) > largest


async def test_a_closed_store_leaves_one_whole_file(store: SqliteStore, path: str) -> None:
    await store.commit([a_change(a_state())])
    await store.close()
    assert not os.path.exists(f"{path}-wal")


# --- URLs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", [":memory:", "sqlite:///:memory:"])
async def test_a_memory_url_needs_no_file(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(url)
    await store.open()
    await store.close()
    assert not list(tmp_path.iterdir())


async def test_three_slashes_are_relative_and_four_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for url, name in (("sqlite:///here.db", "here.db"), (f"sqlite:///{tmp_path}/there.db", "there.db")):
        store = open_store(url)
        await store.open()
        await store.close()
        assert (tmp_path / name).is_file()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "perdure.db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///dir/",
        "sqlite:perdure.db",
        "mysql://x/y",
        "a\0b",
    ],
)
def test_any_other_url_is_rejected_with_those_that_are_allowed(url: str) -> None:
    with pytest.raises(ValueError, match=r"use .*sqlite:///"):
        open_store(url)
