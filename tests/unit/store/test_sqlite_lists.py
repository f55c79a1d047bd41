"""Bounded lists: each page finds what a brute-force search finds, and no filter makes a statement visit more rows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure_server.engine.state import LIVE, InstanceState
from perdure_server.store.protocol import InstanceCursor, InstanceFilter
from perdure_server.store.sqlite import queries
from perdure_server.store.sqlite.list_query import SCAN_ROWS_MAX, fetch_page, list_query
from perdure_server.store.sqlite.migrate import migrate
from support.factories import T0

ROWS: Final = 2_000
SCAN_MAX: Final = 40
STEPS_MAX: Final = 12_000
"""Maximum number of virtual machine steps of a page: about 40 index rows with 4 look-ups each, and 41 summaries. A
statement that reads all rows takes more than 20,000."""

LABELS: Final = (("region", "eu"), ("region", "us"), ("tier", "gold"), ("rare", "yes"))
WORKFLOWS: Final = ("order", "refund", "nightly")


class Table:
    """Random instances in a database, and the same in memory."""

    def __init__(self, rows: int = ROWS) -> None:
        self.connection = apsw.Connection(":memory:")
        migrate(self.connection)
        rng = random.Random(7)
        self.rows: list[dict[str, Any]] = []
        for number in range(rows):
            status = rng.choice(list(InstanceState))
            labels = dict(label for label in LABELS[:3] if rng.random() < 0.5)
            if rng.random() < 0.002:
                labels["rare"] = "yes"
            self.rows.append(
                {
                    "instance_id": f"i-{rng.randrange(10**9):09}",
                    "workflow": rng.choices(WORKFLOWS, (900, 99, 1))[0],
                    "version": rng.choices((1, 2, 3), (950, 49, 1))[0],
                    "status": status,
                    "business_key": rng.choice(("", "", "b-1", f"b-{number}")),
                    "labels": labels,
                    "created_at": T0 + rng.randrange(rows // 3),
                    "ended_at": 0 if status in LIVE else T0 + rows,
                    "inbox_size": 0 if rng.random() < 0.95 else 2,
                }
            )
        self._store()
        self.steps = 0
        self.connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, self._traced)

    def _store(self) -> None:
        instances, labels = queries.rows("write_instances"), queries.rows("write_labels")
        live = queries.rows("write_live_instances")
        with self.connection:
            for row in self.rows:
                values = [row["instance_id"], row["workflow"], row["version"], row["status"].value, 1]
                values += [row["business_key"], None, "{}", row["created_at"], row["created_at"]]
                values += [row["ended_at"], row["inbox_size"], "{}"]
                for sql, part in instances.statements(values):
                    self.connection.execute(sql, part)
                if row["status"] in LIVE:
                    of_live = [row["workflow"], row["version"], row["created_at"], row["instance_id"]]
                    for sql, part in live.statements(of_live):
                        self.connection.execute(sql, part)
                for label, value in row["labels"].items():
                    of_label = [label, value, row["created_at"], row["instance_id"], row["workflow"]]
                    for sql, part in labels.statements(of_label):
                        self.connection.execute(sql, part)

    def _traced(self, event: dict[str, Any]) -> None:
        self.steps += event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]

    def expected(self, where: InstanceFilter) -> list[tuple[int, str]]:
        found = [row for row in self.rows if _matches(where, row)]
        return sorted(((row["created_at"], row["instance_id"]) for row in found), reverse=True)

    def pages(self, where: InstanceFilter, limit: int) -> Iterator[list[tuple[int, str]]]:
        """Yield the pages of a list as the store cuts them, and check the cost of each."""
        after = None
        while True:
            query = list_query(where, limit=limit + 1, after=after, scan_max=SCAN_MAX)
            self.steps = 0
            rows, after = fetch_page(self.connection, query)
            assert self.steps <= STEPS_MAX, (where, self.steps)
            page = [(row[7], row[0]) for row in rows[:limit]]
            yield page
            if len(rows) > limit:
                after = InstanceCursor(*page[-1])
            if after is None:
                return


def _matches(where: InstanceFilter, row: dict[str, Any]) -> bool:
    return (
        (not where.states or row["status"] in where.states)
        and where.workflow in ("", row["workflow"])
        and where.version in (0, row["version"])
        and where.business_key in ("", row["business_key"])
        and where.labels.items() <= row["labels"].items()
        and not (where.unconsumed and not (row["inbox_size"] and row["ended_at"]))
    )


@pytest.fixture(scope="module")
def table() -> Table:
    return Table()


@st.composite
def filters(draw: st.DrawFn) -> InstanceFilter:
    workflow = draw(st.sampled_from(("", *WORKFLOWS, "unknown")))
    return InstanceFilter(
        states=draw(st.frozensets(st.sampled_from(InstanceState), max_size=6)),
        workflow=workflow,
        version=draw(st.sampled_from((0, 1, 2, 3, 9))) if workflow else 0,
        business_key=draw(st.sampled_from(("", "", "b-1", "unknown"))),
        labels=dict(draw(st.lists(st.sampled_from((*LABELS, ("none", "x"))), max_size=4))),
        unconsumed=draw(st.booleans()),
    )


@settings(max_examples=300, deadline=None)
@given(where=filters(), limit=st.integers(1, SCAN_MAX))
def test_every_filter_finds_all_matches_at_a_bounded_cost(
    table: Table, where: InstanceFilter, limit: int
) -> None:
    found = [row for page in table.pages(where, limit) for row in page]
    assert found == table.expected(where)


@pytest.mark.parametrize("mask", range(64))
def test_every_combination_of_filters_is_bounded(table: Table, mask: int) -> None:
    used = [bool(mask >> bit & 1) for bit in range(6)]
    where = InstanceFilter(
        states=frozenset({InstanceState.FAILED, InstanceState.WAITING}) if used[0] else frozenset(),
        workflow="order" if used[1] or used[2] else "",
        version=3 if used[2] else 0,
        business_key="b-1" if used[3] else "",
        labels={"region": "eu", "tier": "gold", "rare": "yes"} if used[4] else {},
        unconsumed=used[5],
    )
    pages = list(table.pages(where, 3))
    assert [row for page in pages for row in page] == table.expected(where)


def test_a_page_without_matches_still_has_a_position(table: Table) -> None:
    where = InstanceFilter(workflow="order", version=3)
    pages = list(table.pages(where, 10))
    assert [] in pages[:-1]
    assert [row for page in pages for row in page] == table.expected(where) != []


def test_a_page_without_matches_costs_the_same_in_a_larger_table(table: Table) -> None:
    where = InstanceFilter(workflow="order", version=9)
    query = list_query(where, limit=51, after=None, scan_max=SCAN_MAX)
    steps = []
    for at in (Table(200), table):
        at.steps = 0
        assert fetch_page(at.connection, query)[1] is not None
        steps.append(at.steps)
    assert steps[1] <= steps[0] + 100


@pytest.mark.parametrize("name", ["definition_in_use", "live_definitions", "count_live"])
def test_the_cost_of_a_definition_statement_does_not_grow_with_instances(table: Table, name: str) -> None:
    values = {"workflow": "order", "version": 9, "count_max": 10, "limit": 100}
    table.steps = 0
    queries.fetch(table.connection, queries.one(name), values)
    assert table.steps < 1_000


@pytest.mark.parametrize("name", ["list_timers", "list_definitions", "history", "next_timer_due_at"])
def test_other_lists_read_a_range_of_an_index_in_order(table: Table, name: str) -> None:
    sql = f"EXPLAIN QUERY PLAN {queries.one(name)}"
    names = ("limit", "after", "instance_id", "after_due_at", "after_instance_id", "after_revision")
    values = dict.fromkeys((*names, "after_workflow", "after_version"), "")
    plan = [row[3] for row in table.connection.execute(sql, values)]
    assert any(line.startswith("SEARCH") for line in plan), plan
    assert not any("TEMP B-TREE" in line or line.startswith("SCAN timers") for line in plan), plan


def test_the_store_examines_as_many_rows_as_documented() -> None:
    query = list_query(InstanceFilter(), limit=10, after=None)
    assert query.parameters["scan_rows"] == SCAN_ROWS_MAX == 10_000
    many = InstanceFilter(labels={f"key-{number}": "x" for number in range(32)})
    assert list_query(many, limit=10, after=None).parameters["scan_rows"] == 312
