"""Instances: reading one, listing many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from factories import T0, a_change, a_definition, a_state, filter_id
from perdure_server.engine.state import InstanceStatus, State
from perdure_server.store.protocol import InstanceCursor, InstanceFilter, Store

ALL = InstanceFilter()
S = InstanceStatus


async def keep(store: Store, states: Iterable[State]) -> list[State]:
    states = list(states)
    await store.commit([a_change(state) for state in states])
    return states


async def ids(
    store: Store, where: InstanceFilter = ALL, *, limit: int = 100, after: InstanceCursor | None = None
) -> list[str]:
    return [line.instance_id for line in await store.list_instances(where, limit=limit, after=after)]


async def test_an_instance_comes_with_all_its_bodies(store: Store) -> None:
    state = a_state()
    await store.commit([a_change(state, payloads={1: '{"a": 1}'})])
    later = replace(state, revision=2)
    await store.commit([a_change(later, payloads={2: '{"b": 2}'})])
    found = await store.get_instance(state.instance_id)
    assert found is not None
    assert found.state == later
    assert found.payloads == {1: '{"a": 1}', 2: '{"b": 2}'}


async def test_a_line_of_a_list_says_what_the_state_says(store: Store) -> None:
    state = a_state(
        status=S.COMPLETED,
        business_key="b-1",
        labels={"region": "eu", "tier": "gold"},
        updated_at=T0 + 7,
        ended_at=T0 + 7,
    )
    await keep(store, [state])
    (line,) = await store.list_instances(ALL, limit=10)
    for name in ("instance_id", "workflow", "version", "status", "revision", "business_key", "labels"):
        assert getattr(line, name) == getattr(state, name), name
    assert (line.created_at, line.updated_at, line.ended_at) == (T0, T0 + 7, T0 + 7)


async def test_a_list_is_newest_first_and_ties_are_broken_by_id(store: Store) -> None:
    old, new = a_state(created_at=T0), a_state(created_at=T0 + 1)
    twin = a_state(created_at=T0 + 1)
    await keep(store, [old, new, twin])
    assert await ids(store) == [twin.instance_id, new.instance_id, old.instance_id]


async def test_a_list_shows_the_status_as_it_is_now(store: Store) -> None:
    state = a_state(status=S.RUNNING)
    await keep(store, [state])
    await store.commit([a_change(replace(state, status=S.WAITING, revision=2))])
    assert await ids(store, InstanceFilter(statuses=frozenset({S.RUNNING}))) == []
    assert await ids(store, InstanceFilter(statuses=frozenset({S.WAITING}))) == [state.instance_id]


FILTERS = [
    ALL,
    InstanceFilter(statuses=frozenset({S.FAILED})),
    InstanceFilter(statuses=frozenset({S.FAILED, S.COMPLETED, S.WAITING})),
    InstanceFilter(workflow="refund"),
    InstanceFilter(workflow="refund", statuses=frozenset({S.RUNNING})),
    InstanceFilter(workflow="order", statuses=frozenset({S.RUNNING, S.COMPLETED})),
    InstanceFilter(business_key="b-2"),
    InstanceFilter(business_key="b-2", workflow="order", statuses=frozenset({S.RUNNING})),
    InstanceFilter(labels={"region": "eu"}),
    InstanceFilter(labels={"region": "eu", "tier": "gold"}),
    InstanceFilter(labels={"region": "eu"}, workflow="order", statuses=frozenset({S.FAILED, S.RUNNING})),
    InstanceFilter(labels={"region": "eu"}, business_key="b-1"),
    InstanceFilter(labels={"region": "nowhere"}),
    InstanceFilter(workflow="nowhere"),
]


def admits(where: InstanceFilter, state: State) -> bool:
    return (
        (not where.statuses or state.status in where.statuses)
        and where.workflow in ("", state.workflow)
        and where.business_key in ("", state.business_key)
        and where.labels.items() <= state.labels.items()
    )


def variety() -> list[State]:
    """Return instances of every mix; ended ones hold no business key, so keys may repeat."""
    return [
        a_state(
            workflow=("order", "refund")[number % 2],
            status=list(S)[number % 6],
            business_key=("", "b-1", "b-2", f"b-{number}")[number % 4] if number % 6 > 2 else "",
            labels=[
                {},
                {"region": "eu"},
                {"region": "us"},
                {"region": "eu", "tier": "gold"},
                {"tier": "gold"},
            ][number % 5],
            created_at=T0 + number // 3,
        )
        for number in range(120)
    ]


@pytest.mark.parametrize("where", FILTERS, ids=filter_id)
async def test_pages_of_a_list_add_up_to_what_the_filter_admits(store: Store, where: InstanceFilter) -> None:
    await store.put_definition(a_definition("refund"))
    states = await keep(store, variety())
    wanted = sorted(
        ((state.created_at, state.instance_id) for state in states if admits(where, state)), reverse=True
    )
    seen: list[tuple[int, str]] = []
    after = None
    while page := await store.list_instances(where, limit=7, after=after):
        assert len(page) <= 7
        seen += [(line.created_at, line.instance_id) for line in page]
        after = InstanceCursor(*seen[-1])
    assert seen == wanted


async def test_instances_that_are_born_between_two_pages_do_not_disturb_the_second(store: Store) -> None:
    states = await keep(store, [a_state(created_at=T0 + number) for number in range(4)])
    first = await store.list_instances(ALL, limit=2)
    await keep(store, [a_state(created_at=T0 + 100)])
    after = InstanceCursor(first[-1].created_at, first[-1].instance_id)
    assert await ids(store, after=after) == [states[1].instance_id, states[0].instance_id]
