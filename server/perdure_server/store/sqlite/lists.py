"""The statement of a list of instances, composed from its filter.

Each filter has an index that holds its lines in the order of the list, so that a page costs what it shows, however
many instances there are; the statement names the index, so that no statistics can change its mind. Where the filter
admits several statuses, each is a page of its own and the pages are merged. Further settings are looked up per line.
"""

from __future__ import annotations

from typing import Any

import orjson

from perdure_server.engine.state import LIVE, InstanceStatus
from perdure_server.store.codec import instance_status
from perdure_server.store.protocol import InstanceCursor, InstanceFilter, InstanceSummary

_COLUMNS = (
    "i.instance_id, i.workflow, i.version, i.status, i.revision, i.business_key, i.labels, "
    "i.created_at, i.updated_at, i.ended_at"
)


def list_statement(
    where: InstanceFilter, *, limit: int, after: InstanceCursor | None
) -> tuple[str, dict[str, Any]]:
    """Return the statement and its parameters. It answers with one row, a JSON array of `summary_of` rows."""
    parameters: dict[str, Any] = {"limit": limit}
    conditions = []
    labels = sorted(where.labels.items())
    for number, (key, value) in enumerate(labels):
        parameters |= {f"key{number}": key, f"value{number}": value}
    statuses = sorted(where.statuses)
    for number, status in enumerate(statuses):
        parameters[f"status{number}"] = status.value
    if where.workflow:
        parameters["workflow"] = where.workflow
        conditions.append("i.workflow = :workflow")
    if where.business_key:
        parameters["business_key"] = where.business_key
        conditions.append("i.business_key = :business_key AND i.business_key <> ''")
    if after is not None:
        parameters |= {"created_at": after.created_at, "instance_id": after.instance_id}
    any_status = f"i.status IN ({', '.join(f':status{number}' for number in range(len(statuses)))})"

    if labels:
        source = (
            "instance_labels AS l CROSS JOIN instances AS i "
            "ON i.namespace = l.namespace AND i.instance_id = l.instance_id"
        )
        conditions.append("l.namespace = '' AND l.key = :key0 AND l.value = :value0")
        conditions += [
            "EXISTS (SELECT 1 FROM instance_labels AS m WHERE m.namespace = '' "
            f"AND m.key = :key{number} AND m.value = :value{number} "
            "AND m.created_at = l.created_at AND m.instance_id = l.instance_id)"
            for number in range(1, len(labels))
        ]
        order = "l"
    else:
        if where.business_key:
            index = "instances_by_business_key"
        elif where.workflow:
            index = "instances_by_workflow"
            statuses = statuses or sorted(InstanceStatus)
        elif statuses:
            index = "instances_by_status"
        else:
            index = "instances_newest"
        source = f"instances AS i INDEXED BY {index}"
        conditions.append("i.namespace = ''")
        order = "i"
    if after is not None:
        conditions.append(f"({order}.created_at, {order}.instance_id) < (:created_at, :instance_id)")

    def page(condition: str) -> str:
        return (
            f"SELECT {_COLUMNS} FROM {source} WHERE {' AND '.join([*conditions, condition])} "
            f"ORDER BY {order}.created_at DESC, {order}.instance_id DESC LIMIT :limit"
        )

    if not statuses:
        pages = page("TRUE")
    elif labels or where.business_key:
        pages = page(any_status)
    else:
        for number, status in enumerate(statuses):
            parameters[f"status{number}"] = status.value
        pages = " UNION ALL ".join(
            f"SELECT * FROM ({page(f'i.status = :status{number}')})" for number in range(len(statuses))
        )
        pages += " ORDER BY created_at DESC, instance_id DESC LIMIT :limit"
    return f"SELECT json_group_array(json_array({_COLUMNS.replace('i.', '')})) FROM ({pages})", parameters


def summary_of(row: list[Any]) -> InstanceSummary:
    """Return a line of a list from its row."""
    instance_id, workflow, version, stored, revision, key, labels, created_at, updated_at, ended_at = row
    status = instance_status(stored)
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
    )
