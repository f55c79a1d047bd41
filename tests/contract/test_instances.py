"""Instances: reading one, listing many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from perdure_server.engine.state import Buffered, InstanceState, State
from perdure_server.store.protocol import InstanceCursor, InstanceFilter, LiveDefinition, Store
from support.factories import T0, a_change, a_definition, a_state, filter_id

ALL = InstanceFilter()
S = InstanceState


async def keep(store: Store, states: Iterable[State]) -> list[State]:
    states = list(states)
    await store.commit([a_change(state) for state in states])
    return states


async def ids(
    store: Store, where: InstanceFilter = ALL, *, limit: int = 100, after: InstanceCursor | None = None
) -> list[str]:
    page = await store.list_instances(where, limit=limit, after=after)
    return [line.instance_id for line in page.instances]


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
    (line,) = (await store.list_instances(ALL, limit=10)).instances
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
    assert await ids(store, InstanceFilter(states=frozenset({S.RUNNING}))) == []
    assert await ids(store, InstanceFilter(states=frozenset({S.WAITING}))) == [state.instance_id]


FILTERS = [
    ALL,
    InstanceFilter(states=frozenset({S.FAILED})),
    InstanceFilter(states=frozenset({S.FAILED, S.COMPLETED, S.WAITING})),
    InstanceFilter(workflow="refund"),
    InstanceFilter(workflow="refund", states=frozenset({S.RUNNING})),
    InstanceFilter(workflow="order", states=frozenset({S.RUNNING, S.COMPLETED})),
    InstanceFilter(business_key="b-2"),
    InstanceFilter(business_key="b-2", workflow="order", states=frozenset({S.RUNNING})),
    InstanceFilter(labels={"region": "eu"}),
    InstanceFilter(labels={"region": "eu", "tier": "gold"}),
    InstanceFilter(labels={"region": "eu"}, workflow="order", states=frozenset({S.FAILED, S.RUNNING})),
    InstanceFilter(labels={"region": "eu"}, business_key="b-1"),
    InstanceFilter(labels={"region": "nowhere"}),
    InstanceFilter(workflow="order", version=2),
    InstanceFilter(workflow="order", version=2, states=frozenset({S.RUNNING, S.WAITING})),
    InstanceFilter(workflow="order", version=1, states=frozenset({S.FAILED, S.WAITING})),
    InstanceFilter(unconsumed=True),
    InstanceFilter(unconsumed=True, workflow="order", states=frozenset({S.COMPLETED})),
    InstanceFilter(unconsumed=True, labels={"region": "eu"}),
    InstanceFilter(workflow="nowhere"),
]


def admits(where: InstanceFilter, state: State) -> bool:
    return (
        (not where.states or state.status in where.states)
        and where.workflow in ("", state.workflow)
        and where.version in (0, state.version)
        and where.business_key in ("", state.business_key)
        and not (where.unconsumed and (not state.inbox or state.is_live))
        and where.labels.items() <= state.labels.items()
    )


def variety() -> list[State]:
    """Return instances of every mix; ended ones hold no business key, so keys may repeat."""
    return [
        a_state(
            workflow=("order", "refund")[number % 2],
            version=1 + number % 5 % 2,
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
            ended_at=T0 + 500 if number % 6 > 2 else 0,
            inbox=(Buffered(1, "paid", "", None),) if number % 7 == 0 else (),
        )
        for number in range(120)
    ]


@pytest.mark.parametrize("where", FILTERS, ids=filter_id)
async def test_pages_of_a_list_add_up_to_what_the_filter_admits(store: Store, where: InstanceFilter) -> None:
    for workflow, version in (("refund", 1), ("refund", 2), ("order", 2)):
        await store.put_definition(a_definition(workflow, version))
    states = await keep(store, variety())
    wanted = sorted(
        ((state.created_at, state.instance_id) for state in states if admits(where, state)), reverse=True
    )
    seen: list[tuple[int, str]] = []
    after = None
    while True:
        page = await store.list_instances(where, limit=7, after=after)
        assert len(page.instances) <= 7
        seen += [(line.created_at, line.instance_id) for line in page.instances]
        after = page.next
        if after is None:
            break
    assert seen == wanted


async def test_instances_that_are_born_between_two_pages_do_not_disturb_the_second(store: Store) -> None:
    states = await keep(store, [a_state(created_at=T0 + number) for number in range(4)])
    first = await store.list_instances(ALL, limit=2)
    await keep(store, [a_state(created_at=T0 + 100)])
    assert first.next == InstanceCursor(T0 + 2, states[2].instance_id)
    assert await ids(store, after=first.next) == [states[1].instance_id, states[0].instance_id]


async def test_a_list_shows_the_size_of_the_inbox(store: Store) -> None:
    state = a_state(inbox=(Buffered(1, "paid", "", None), Buffered(1, "paid", "", None)))
    await keep(store, [state])
    assert (await store.list_instances(ALL, limit=10)).instances[0].inbox_size == 2
    await store.commit([a_change(replace(state, inbox=(), revision=2))])
    assert (await store.list_instances(ALL, limit=10)).instances[0].inbox_size == 0


async def test_an_instance_is_unconsumed_from_its_end_until_it_is_retried(store: Store) -> None:
    unconsumed = InstanceFilter(unconsumed=True)
    live = a_state(inbox=(Buffered(1, "paid", "", None),))
    await keep(store, [live])
    assert await ids(store, unconsumed) == []
    failed = replace(live, status=S.FAILED, ended_at=T0 + 1, revision=2)
    await store.commit([a_change(failed)])
    assert await ids(store, unconsumed) == [live.instance_id]
    await store.commit([a_change(replace(live, revision=3))])
    assert await ids(store, unconsumed) == []


async def test_live_definitions_are_those_that_live_instances_run_on(store: Store) -> None:
    for workflow, version in (("order", 2), ("order", 3), ("refund", 1)):
        await store.put_definition(a_definition(workflow, version))
    await keep(
        store,
        [
            a_state(version=3, status=S.WAITING),
            a_state(version=3),
            a_state(workflow="refund", status=S.PENDING),
            a_state(version=2, status=S.COMPLETED, ended_at=T0),
        ],
    )
    found = await store.live_definitions(limit=10)
    assert list(found) == [LiveDefinition("order", 3), LiveDefinition("refund", 1)]
    assert len(await store.live_definitions(limit=1)) == 1
    assert await store.count_live(LiveDefinition("order", 3), count_max=10) == 2
    assert await store.count_live(LiveDefinition("order", 3), count_max=1) == 1
    assert await store.count_live(LiveDefinition("order", 2), count_max=10) == 0
