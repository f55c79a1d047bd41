"""Encoding of changes as flat sequences of parameters, one for each set-based statement.

This runs on the event loop, so that the writer thread only executes statements. Owns: the mapping to columns. Must not:
use connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from perdure_server.engine.facts import KIND_OF, InstanceRetried
from perdure_server.store.codec import encode_fact, encode_labels, encode_state
from perdure_server.store.protocol import Change, ReplicaGuard, TimerGuard

Values = list[Any]


def _values() -> Values:
    return []


@dataclass(slots=True)
class Batch:
    """The parameters of a batch's statements. Each field belongs to the statement of its name in ``queries.sql``
    (``instances`` to ``write_instances`` and so on). ``replicas`` maps a replica to the changes that need its lease.
    """

    conditions: Values = field(default_factory=_values)
    timer_guards: Values = field(default_factory=_values)
    replicas: dict[str, list[int]] = field(default_factory=dict)
    instances: Values = field(default_factory=_values)
    live_instances_removed: Values = field(default_factory=_values)
    live_instances: Values = field(default_factory=_values)
    labels: Values = field(default_factory=_values)
    history: Values = field(default_factory=_values)
    payloads: Values = field(default_factory=_values)
    requests: Values = field(default_factory=_values)
    timers_removed: Values = field(default_factory=_values)
    timers: Values = field(default_factory=_values)
    tasks_removed: Values = field(default_factory=_values)
    tasks: Values = field(default_factory=_values)


def encode(changes: Sequence[Change]) -> Batch:
    """Encode a batch. The number of a change is its index."""
    batch = Batch()
    for number, change in enumerate(changes):
        _encode(batch, number, change)
    return batch


def _encode(batch: Batch, number: int, change: Change) -> None:
    state = change.state
    instance_id = state.instance_id
    becomes_live = change.expected_revision == 0
    for entry in change.entries:
        fact = entry.fact
        fact_type = type(fact)
        if fact_type is InstanceRetried:
            becomes_live = True
        batch.history += (
            instance_id,
            entry.revision,
            entry.at,
            KIND_OF[fact_type],
            encode_fact(fact),
            entry.request_id,
        )
    live_business_key = state.business_key if state.business_key and state.is_live else None
    rpc = scope = request_id = None
    request = change.request
    if request is not None:
        key = request.key
        rpc, scope, request_id = key.rpc, key.instance_id, key.request_id
        batch.requests += (rpc, scope, request_id, request.digest, request.response)
    batch.conditions += (
        number,
        instance_id,
        change.expected_revision,
        rpc,
        scope,
        request_id,
        state.workflow,
        state.version,
        state.definition_digest if becomes_live else None,
        live_business_key if becomes_live else None,
    )
    batch.instances += (
        instance_id,
        state.workflow,
        state.version,
        state.status.value,
        state.revision,
        state.business_key,
        live_business_key,
        encode_labels(state.labels),
        state.created_at,
        state.updated_at,
        state.ended_at or 0,  # the column is NOT NULL, and the status shows if the instance has ended
        len(state.inbox),
        encode_state(state),
    )
    if not state.is_live:
        # Also if the change started or retried the instance: then there is no row, and nothing is removed.
        batch.live_instances_removed += (state.workflow, state.version, state.created_at, instance_id)
    elif becomes_live:
        batch.live_instances += (state.workflow, state.version, state.created_at, instance_id)
    if change.expected_revision == 0 and state.labels:
        for label, value in state.labels.items():
            batch.labels += (label, value, state.created_at, instance_id, state.workflow)
    for revision, body in change.payloads.items():
        batch.payloads += (instance_id, revision, body)
    for revision in change.timers_removed:
        batch.timers_removed += (instance_id, revision)
    for row in change.timers:
        timer = row.timer
        batch.timers += (
            instance_id,
            timer.revision,
            timer.kind.value,
            timer.step_ref,
            timer.due_at,
            timer.delay_ms,
            int(timer.client_requested),
            row.owner,
        )
    for step_ref in change.tasks_removed:
        batch.tasks_removed += (instance_id, step_ref)
    for task in change.tasks:
        batch.tasks += (instance_id, task.step_ref, task.workflow, task.version, task.attempt, task.owner)
    for guard in change.guards:
        match guard:
            case TimerGuard(timer=revision, owner=owner):
                batch.timer_guards += (number, instance_id, revision, owner)
            case ReplicaGuard(replica_id=replica_id):
                batch.replicas.setdefault(replica_id, []).append(number)
            case _:
                assert_never(guard)
