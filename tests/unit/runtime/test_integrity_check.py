"""`perdure db check` reports damage to every byte that has a second copy, and to nothing else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

import apsw
import pytest

from perdure_server.runtime import integrity_check, integrity_history
from perdure_server.runtime.integrity_check import ISSUES_PER_INSTANCE_MAX, check_database
from perdure_server.store.protocol import StoreError
from perdure_server.store.sqlite.offline import COLUMNS, OfflineDatabase, open_offline
from support.database_damage import (
    bytes_damaged,
    changed_fields,
    content_of,
    fields_of,
    in_memory,
    issues,
    missed_fields,
    write_database,
)
from support.doc_pages import table, text_of

SAMPLES: Final = 3
"""Number of rows in which each field is damaged."""

SEEDS: Final = range(150)

DOCUMENTED: Final = frozenset(
    name
    for row in table(text_of("docs/operate/back-up-and-restore.md"), "Check a database")
    for name in re.findall(r"`([^`]+)`", row[0])
)
"""The fields without a second copy, as the documentation lists them."""


PARTLY: Final = frozenset(("requests.digest", "requests.response.revision"))
"""Documented fields that `damage_field` always changes in a way that is noticed."""

EMPTY: Final = frozenset(("replicas", "left_attempts", "crashed_steps", "solo_attempts"))
"""The tables that are empty after a clean stop. All their fields are documented."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "perdure.db"
    asyncio.run(write_database(path))
    return path


@pytest.fixture
def copy(sound: Path) -> Iterator[apsw.Connection]:
    connection = in_memory(sound)
    yield connection
    connection.close()


def is_documented(name: str) -> bool:
    return any(name == known or name.startswith(f"{known}.") for known in DOCUMENTED)


def test_an_intact_database_with_every_kind_of_row_has_no_issues(copy: apsw.Connection) -> None:
    assert issues(copy) == []
    rows = {table: copy.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0] for table in COLUMNS}
    assert {table for table, count in rows.items() if not count} == EMPTY
    assert all(is_documented(f"{table}.{column}") for table in EMPTY for column in COLUMNS[table])


def test_every_column_of_every_table_is_compared_or_documented(copy: apsw.Connection) -> None:
    for name, compared in COLUMNS.items():
        real = {str(row[1]) for row in copy.execute(f"PRAGMA table_info({name})")}
        others = real - set(compared) - {"namespace"}
        assert all(is_documented(f"{name}.{column}") for column in others), (name, others)


@pytest.fixture(scope="module")
def missed(sound: Path) -> dict[str, set[bool]]:
    """The cases in which the check found no damage, by field."""
    connection = in_memory(sound)
    try:
        return missed_fields(connection, fields_of(connection, SAMPLES))
    finally:
        connection.close()


def test_damage_to_each_field_is_found_unless_documented(missed: dict[str, set[bool]]) -> None:
    assert {name for name, cases in missed.items() if True in cases and not is_documented(name)} == set()
    assert len(missed) > 150


def test_every_documented_field_has_no_second_copy(missed: dict[str, set[bool]]) -> None:
    found = {name for name, cases in missed.items() if True in cases}
    stale = {
        known
        for known in DOCUMENTED
        if known not in PARTLY
        and known.partition(".")[0] not in EMPTY
        and not any(name == known or name.startswith(f"{known}.") for name in found)
    }
    assert stale == set()


@pytest.mark.parametrize("part", range(3))
def test_damaged_bytes_are_found_unless_they_are_unused(sound: Path, tmp_path: Path, part: int) -> None:
    original, before = sound.read_bytes(), content_of(sound)
    assert before is not None
    reported = 0
    for seed in SEEDS[part::3]:
        path = tmp_path / "damaged.db"
        path.write_bytes(bytes_damaged(original, Random(seed)))
        after = content_of(path)
        if after == before:
            continue
        try:
            with open_offline(str(path)) as database:
                is_found = any(checked.issues for checked in check_database(database))
        except StoreError:
            is_found = True
        reported += is_found
        assert is_found or (after is not None and all(map(is_documented, changed_fields(before, after)))), (
            seed
        )
    assert reported > len(SEEDS) // 9


COMPARISONS: Final = (
    (integrity_check, "_state_problems", r"instances\.state"),
    (integrity_check, "_column_problems", r"(instances|timers|tasks)\."),
    (integrity_check._InstanceCheck, "_payload_problems", r"payloads\."),
    (integrity_check, "request_problems", r"requests\."),
    (integrity_history, "_off_graph", r"history\.step_"),
    (integrity_history, "_misfits", r"history\.(attempt|timer|instance)_"),
    (OfflineDatabase, "_namespace_problems", r"\w+\.namespace"),
)
"""Parts that are left out of the check, and the fields whose damage is then not found."""


@pytest.mark.parametrize("where", COMPARISONS, ids=lambda where: where[1])
def test_a_check_without_one_comparison_misses_damage(
    copy: apsw.Connection,
    missed: dict[str, set[bool]],
    monkeypatch: pytest.MonkeyPatch,
    where: tuple[Any, str, str],
) -> None:
    owner, name, fields = where
    always_found = [
        field
        for field in fields_of(copy, SAMPLES)
        if re.match(fields, field.name) and missed.get(field.name) == {False}
    ]

    monkeypatch.setattr(owner, name, lambda *_: iter(()))

    assert any(True in cases for field in always_found for cases in missed_fields(copy, [field]).values())


def test_a_check_without_sqlites_own_check_misses_damage(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = apsw.Connection(str(sound))
    root = connection.execute(
        "SELECT rootpage FROM sqlite_schema WHERE name = 'instances_by_status'"
    ).fetchall()[0][0]
    connection.close()
    damaged = bytearray(sound.read_bytes())
    start = (int(str(root)) - 1) * 4096
    at = damaged.index(b"waiting", start, start + 4096)
    damaged[at] ^= 1
    path = tmp_path / "index.db"
    path.write_bytes(damaged)

    def is_found() -> bool:
        with open_offline(str(path)) as database:
            return any(checked.issues for checked in check_database(database))

    assert is_found()
    monkeypatch.setattr(OfflineDatabase, "_integrity_problems", lambda *_: iter(()))
    assert not is_found()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE instances SET state = '{' WHERE instance_id = 'asked-a'",
        "UPDATE instances SET state = '[]' WHERE instance_id = 'asked-a'",
        "UPDATE instances SET labels = 'null' WHERE instance_id = 'asked-a'",
        "UPDATE instances SET status = 'asleep' WHERE instance_id = 'asked-a'",
        "UPDATE history SET body = '{\"' WHERE instance_id = 'asked-a' AND revision = 2",
        "UPDATE history SET kind = 'new_kind' WHERE instance_id = 'asked-a' AND revision = 2",
        "UPDATE history SET body = '[1]' WHERE instance_id = 'asked-a' AND revision = 1",
        "UPDATE history SET kind = 'attempt_failed' WHERE instance_id = 'asked-a' AND revision = 1",
        "UPDATE history SET body = CAST(x'ff22' AS TEXT) WHERE instance_id = 'asked-a' AND revision = 2",
        "UPDATE instances SET instance_id = CAST(x'fffe' AS TEXT) WHERE instance_id = 'asked-a'",
        "UPDATE payloads SET body = CAST(x'ff' AS TEXT) WHERE instance_id = 'asked-a' AND revision = 1",
        "UPDATE requests SET response = '7' WHERE request_id = 'start-a'",
        "UPDATE requests SET response = '{}' WHERE request_id = 'go'",
        "UPDATE definitions SET graph = '[]' WHERE workflow = 'waits'",
        "DELETE FROM definitions WHERE workflow = 'waits'",
        "DELETE FROM instances WHERE instance_id = 'asked-a'",
        "DELETE FROM history WHERE instance_id = 'asked-a'",
        "DELETE FROM requests WHERE request_id = 'start-a'",
        "DELETE FROM instance_labels WHERE instance_id = 'asked-a'",
        "DELETE FROM live_instances WHERE instance_id = 'asked-b'",
        "UPDATE live_instances SET version = 2 WHERE instance_id = 'asked-b'",
        "INSERT INTO live_instances VALUES ('', 'waits', 1, 1, 'asked-c')",
        "INSERT INTO live_instances VALUES ('', 'waits', 2, 1, 'asked-b')",
        "INSERT INTO live_instances VALUES ('', 'waits', 1, 1, 'unknown')",
        "DELETE FROM tasks",
        "UPDATE timers SET revision = revision + 90",
        "UPDATE instance_labels SET key = 'new' WHERE instance_id = 'asked-a' AND key = 'team'",
        "DROP INDEX instances_by_status",
        "CREATE TABLE foreign_table (x)",
    ],
)
def test_unreadable_and_missing_rows_are_reported_as_issues(copy: apsw.Connection, statement: str) -> None:
    copy.execute(statement)

    assert issues(copy)


def test_an_unknown_field_is_reported_with_its_record(copy: apsw.Connection) -> None:
    copy.execute("UPDATE instances SET state = json_set(state, '$.new', 1) WHERE instance_id = 'asked-a'")
    copy.execute(
        "UPDATE history SET body = json_set(body, '$.new', 1) WHERE instance_id = 'asked-b' AND revision = 2"
    )
    copy.execute(
        "UPDATE history SET body = json_set(body, '$.new', 1, '$.v', 2) WHERE instance_id = 'asked-d' AND revision = 2"
    )

    assert {checked.instance_id: checked.issues for checked in issues(copy)} == {
        "asked-a": ("instances: the state has the unknown field 'new'",),
        "asked-b": ("history revision 2: has the unknown field 'new'",),
        "asked-d": ("history revision 2: has a newer format, which this version cannot check",),
    }


def test_the_findings_of_one_instance_are_bounded(copy: apsw.Connection) -> None:
    copy.execute("UPDATE history SET kind = 'new_kind' WHERE instance_id = 'order_shipped'")

    (found,) = [checked for checked in issues(copy) if checked.instance_id == "order_shipped"]

    assert len(found.issues) == ISSUES_PER_INSTANCE_MAX + 1
    assert re.fullmatch(r"and \d+ more", found.issues[-1])


def test_a_check_changes_no_byte_of_the_database(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "perdure.db"
    path.write_bytes(sound.read_bytes())

    with open_offline(str(path)) as database:
        assert [checked for checked in check_database(database) if checked.issues] == []

    assert path.read_bytes() == sound.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["perdure.db", "perdure.db.lock"]


def test_a_check_reads_the_log_and_leaves_it(sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "perdure.db"
    path.write_bytes(sound.read_bytes())
    writer = apsw.Connection(str(path))
    writer.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    writer.execute("UPDATE instances SET revision = 99 WHERE instance_id = 'asked-a'")
    writer.close()
    files = {name: (tmp_path / name).read_bytes() for name in ("perdure.db", "perdure.db-wal")}
    assert files["perdure.db-wal"]

    with open_offline(str(path)) as database:
        found = [checked.instance_id for checked in check_database(database) if checked.issues]

    assert found == ["asked-a"]
    assert {name: (tmp_path / name).read_bytes() for name in files} == files
