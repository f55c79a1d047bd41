"""Bounded lists of instances, newest first.

A page reads one range of an index, or several ranges that SQLite merges, in the order of the list. It stops after
`SCAN_ROWS_MAX` index rows. A filter that the index cannot answer is checked row by row within that range, so a page
costs the same however few instances match. The page then has fewer matches than asked for, possibly none, and its
cursor is the scan position.

Each statement names its index, so that statistics cannot change the plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import apsw
import orjson

from perdure_server.engine.state import LIVE, InstanceState
from perdure_server.store.codec import instance_state
from perdure_server.store.protocol import InstanceCursor, InstanceFilter, InstanceSummary
from perdure_server.store.sqlite.queries import fetch

SCAN_ROWS_MAX: Final = 10_000
"""Maximum number of index rows that one page examines. A filter with several labels needs a look-up for each further
label, so its range is shorter by that factor."""

_COLUMNS: Final = (
    "i.instance_id, i.workflow, i.version, i.status, i.revision, i.business_key, i.labels, "
    "i.created_at, i.updated_at, i.ended_at, i.inbox_size"
)

_UNCONSUMED: Final = "i.inbox_size > 0 AND i.status IN ('completed', 'failed', 'cancelled')"
"""Condition of the partial index `instances_unconsumed`, in its words. The end's time says nothing: it can be 0."""


@dataclass(frozen=True, slots=True)
class ListQuery:
    """The two statements of a page. ``matches`` returns one row, a JSON array of `summary_of` rows.

    ``position`` returns the creation time and the ID in the last index row that ``matches`` can examine, or no row if
    the range ends earlier.
    """

    matches: str
    position: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Scan:
    """Index ranges to merge.

    ``columns`` are the columns of the index that a filter can check without a look-up. ``row`` names the column with
    the rowid in `instances`, and is empty if the index has only the instance ID.
    """

    source: str
    ranges: tuple[str, ...]
    columns: tuple[str, ...] = ()
    row: str = ""


def list_query(
    where: InstanceFilter, *, limit: int, after: InstanceCursor | None, scan_max: int = SCAN_ROWS_MAX
) -> ListQuery:
    """Return the statements of the page after a cursor, with at most ``limit`` matches."""
    labels = sorted(where.labels.items())
    scan_rows = max(1, scan_max // max(1, len(labels)))
    parameters: dict[str, Any] = {"limit": limit, "scan_rows": scan_rows, "last_scan_row": scan_rows - 1}
    for number, (key, value) in enumerate(labels):
        parameters |= {f"key{number}": key, f"value{number}": value}
    parameters |= {f"status{number}": status.value for number, status in enumerate(InstanceState)}
    parameters |= {
        "workflow": where.workflow,
        "version": where.version,
        "business_key": where.business_key,
    }
    if after is not None:
        parameters |= {"created_at": after.created_at, "instance_id": after.instance_id}
    scan = _scan_of(where)
    rows = _rows_of(scan, after is not None)
    join = (
        f"i.rowid = examined.{scan.row}"
        if scan.row
        else "i.namespace = '' AND i.instance_id = examined.instance_id"
    )
    conditions = [join, *_conditions(where, scan, len(labels))]
    matches = (
        f"SELECT {_COLUMNS} FROM ({rows} LIMIT :scan_rows) AS examined CROSS JOIN instances AS i "
        f"WHERE {' AND '.join(conditions)} LIMIT :limit"
    )
    return ListQuery(
        f"SELECT json_group_array(json_array({_COLUMNS.replace('i.', '')})) FROM ({matches})",
        f"SELECT created_at, instance_id FROM ({rows} LIMIT 1 OFFSET :last_scan_row)",
        parameters,
    )


def fetch_page(
    connection: apsw.Connection, query: ListQuery
) -> tuple[list[list[Any]], InstanceCursor | None]:
    """Return the rows that match, and the scan position if the scan limit cut the page short.

    Both statements read one snapshot: in a newer one, the position could pass over rows that were never examined.
    """
    with connection:
        rows: list[list[Any]] = orjson.loads(fetch(connection, query.matches, query.parameters)[0][0])
        if len(rows) >= query.parameters["limit"]:
            return rows, None
        position = fetch(connection, query.position, query.parameters)
    return rows, InstanceCursor(*position[0]) if position else None


def _scan_of(where: InstanceFilter) -> _Scan:
    """Choose the index. The first that applies is usually the one with the shortest range."""
    if where.business_key:
        condition = "i.business_key = :business_key AND i.business_key <> ''"
        return _instances("instances_by_business_key", condition)
    if where.unconsumed:
        condition = _UNCONSUMED
        return _instances("instances_unconsumed", condition, columns=("workflow", "version", "status"))
    if where.labels:
        condition = "i.namespace = '' AND i.key = :key0 AND i.value = :value0"
        if where.workflow:
            source = "instance_labels AS i INDEXED BY instance_labels_by_workflow"
            return _Scan(source, (f"{condition} AND i.workflow = :workflow",), ("workflow",))
        return _Scan("instance_labels AS i", (condition,))
    if where.version and where.states and where.states <= LIVE:
        condition = "i.namespace = '' AND i.workflow = :workflow AND i.version = :version"
        return _Scan("live_instances AS i", (condition,), ("workflow", "version"))
    chosen = [number for number, status in enumerate(InstanceState) if status in where.states]
    if where.workflow:
        chosen = chosen or list(range(len(InstanceState)))
        conditions = [f"i.workflow = :workflow AND i.status = :status{number}" for number in chosen]
        return _instances("instances_by_workflow", *conditions, columns=("workflow", "status", "version"))
    if chosen:
        conditions = [f"i.status = :status{number}" for number in chosen]
        return _instances("instances_by_status", *conditions, columns=("status",))
    return _instances("instances_newest", "TRUE")


def _instances(index: str, *conditions: str, columns: tuple[str, ...] = ()) -> _Scan:
    ranges = tuple(f"i.namespace = '' AND {condition}" for condition in conditions)
    return _Scan(f"instances AS i INDEXED BY {index}", ranges, columns, "row")


def _rows_of(scan: _Scan, after: bool) -> str:
    """Return the merged ranges as a statement without its limit."""
    columns = ["i.created_at AS created_at", "i.instance_id AS instance_id"]
    columns += [f"i.{column} AS {column}" for column in scan.columns]
    if scan.row:
        columns.append(f"i.rowid AS {scan.row}")
    cursor = " AND (i.created_at, i.instance_id) < (:created_at, :instance_id)" if after else ""
    ranges = [
        f"SELECT {', '.join(columns)} FROM {scan.source} WHERE {condition}{cursor}"
        for condition in scan.ranges
    ]
    return f"{' UNION ALL '.join(ranges)} ORDER BY created_at DESC, instance_id DESC"


def _conditions(where: InstanceFilter, scan: _Scan, labels: int) -> list[str]:
    """Return the conditions of every filter, on the index row if it has the column."""

    def column(name: str) -> str:
        return f"examined.{name}" if name in scan.columns else f"i.{name}"

    conditions = []
    if where.workflow:
        conditions.append(f"{column('workflow')} = :workflow")
    if where.version:
        conditions.append(f"{column('version')} = :version")
    if where.states:
        chosen = [f":status{number}" for number, status in enumerate(InstanceState) if status in where.states]
        conditions.append(f"{column('status')} IN ({', '.join(chosen)})")
    if where.unconsumed:
        conditions.append(_UNCONSUMED)
    if where.business_key:
        conditions.append("i.business_key = :business_key")
    conditions += [
        "EXISTS (SELECT 1 FROM instance_labels AS m WHERE m.namespace = '' "
        f"AND m.key = :key{number} AND m.value = :value{number} "
        "AND m.created_at = examined.created_at AND m.instance_id = examined.instance_id)"
        for number in range(labels)
    ]
    return conditions


def summary_of(row: list[Any]) -> InstanceSummary:
    """Return a line of a list from its row."""
    (
        instance_id,
        workflow,
        version,
        stored,
        revision,
        key,
        labels,
        created_at,
        updated_at,
        ended_at,
        inbox_size,
    ) = row
    status = instance_state(stored)
    return InstanceSummary(
        instance_id,
        workflow,
        version,
        status,
        revision,
        key,
        orjson.loads(labels),
        created_at,
        updated_at,
        None if status in LIVE else ended_at,
        inbox_size,
    )
