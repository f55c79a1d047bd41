"""Valid values for tests, one factory per type. Every field has a default, so a test sets only relevant fields."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from perdure.model.graph import StepKind
from perdure_server.engine.commands import payload
from perdure_server.engine.facts import Entry, Fact, InstanceStarted, PayloadInfo, StepStarted, TimerKind
from perdure_server.engine.state import InstanceState, State, StepState, Timer
from perdure_server.store.protocol import (
    Change,
    Code,
    Guard,
    InstanceFilter,
    RequestKey,
    RequestRecord,
    StoredDefinition,
    TaskRow,
    TimerRow,
)

T0 = 1_700_000_000_000
"""Start time of tests, in milliseconds since the epoch."""

STEPS = frozenset({"validate", "charge", "reserve"})
ORDER: Code = {("order", 1): STEPS}
"""The steps of the tasks that tests create."""

_numbers = itertools.count(1)


def instance_id() -> str:
    """Return an id that no other test uses."""
    return f"instance-{next(_numbers):06}"


def info(text: str = "{}") -> PayloadInfo:
    return payload(text).info


def filter_id(where: InstanceFilter) -> str:
    """Return a test id that is the same in every process: sets print in another order in each."""
    parts = (
        sorted(where.states),
        where.workflow,
        where.version,
        where.business_key,
        sorted(where.labels.items()),
        "unconsumed" if where.unconsumed else "",
    )
    return "-".join(str(part) for part in parts if part) or "all"


def a_definition(workflow: str = "order", version: int = 1, *, digest: str = "digest-1") -> StoredDefinition:
    graph = f'{{"name":"{workflow}","version":{version},"digest":"{digest}"}}'
    return StoredDefinition(workflow, version, digest, graph, T0)


def a_state(
    *,
    id: str | None = None,  # noqa: A002 - a factory's arguments are named like what they make
    workflow: str = "order",
    version: int = 1,
    digest: str = "digest-1",
    status: InstanceState = InstanceState.RUNNING,
    revision: int = 1,
    business_key: str = "",
    labels: Mapping[str, str] | None = None,
    created_at: int = T0,
    updated_at: int | None = None,
    ended_at: int | None = None,
    steps: Mapping[str, StepState] | None = None,
    **more: Any,
) -> State:
    return State(
        instance_id=id or instance_id(),
        workflow=workflow,
        version=version,
        definition_digest=digest,
        start_step="validate",
        input=info(),
        business_key=business_key,
        labels=labels or {},
        status=status,
        revision=revision,
        created_at=created_at,
        updated_at=created_at if updated_at is None else updated_at,
        ended_at=ended_at,
        steps=steps or {},
        **more,
    )


def a_fact(step_ref: str = "validate") -> StepStarted:
    return StepStarted(step_ref=step_ref, kind=StepKind.TASK)


def a_start(state: State) -> InstanceStarted:
    """Return the first fact of an instance."""
    return InstanceStarted(
        workflow=state.workflow,
        version=state.version,
        definition_digest=state.definition_digest,
        start_step=state.start_step,
        input=state.input,
        business_key=state.business_key,
        labels=state.labels,
    )


def a_change(
    state: State,
    *,
    expected: int | None = None,
    facts: tuple[Fact, ...] = (),
    payloads: Mapping[int, str] | None = None,
    tasks: tuple[TaskRow, ...] = (),
    tasks_removed: tuple[str, ...] = (),
    timers: tuple[TimerRow, ...] = (),
    timers_removed: tuple[int, ...] = (),
    request: RequestRecord | None = None,
    guards: tuple[Guard, ...] = (),
) -> Change:
    """Return a change that ends in ``state``: by default one entry, on the revision before."""
    if expected is None:
        expected = state.revision - (len(facts) or 1)
    facts = facts or ((a_start(state),) if expected == 0 else (a_fact(),))
    request_id = request.key.request_id if request else ""
    return Change(
        state=state,
        expected_revision=expected,
        entries=tuple(
            Entry(expected + number, state.updated_at, fact, request_id if number == 1 else "")
            for number, fact in enumerate(facts, 1)
        ),
        payloads=({1: "{}"} if expected == 0 else {}) if payloads is None else payloads,
        tasks=tasks,
        tasks_removed=tasks_removed,
        timers=timers,
        timers_removed=timers_removed,
        request=request,
        guards=guards,
    )


def a_task(state: State, step_ref: str = "validate", *, attempt: int = 0, owner: str = "") -> TaskRow:
    return TaskRow(state.instance_id, step_ref, state.workflow, state.version, attempt, owner)


def a_timer(
    state: State,
    revision: int = 1,
    *,
    due_at: int = T0 + 1_000,
    owner: str = "",
    kind: TimerKind = TimerKind.TIMEOUT,
    step_ref: str = "approval",
    client_requested: bool = False,
) -> TimerRow:
    return TimerRow(
        state.instance_id, Timer(revision, kind, step_ref, due_at, due_at - T0, client_requested), owner
    )


def a_request(
    request_id: str = "request-1",
    *,
    rpc: str = "StartInstance",
    id: str = "",  # noqa: A002 - a factory's arguments are named like what they make
    digest: str = "fields-1",
    response: str = '{"revision":1}',
) -> RequestRecord:
    return RequestRecord(RequestKey(rpc, id, request_id), digest, response)
