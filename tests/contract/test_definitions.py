"""Definitions: the graph of a version is replaced only while no live instance runs on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perdure_server.engine.state import InstanceState
from perdure_server.store.protocol import DefinitionResult, Store
from support.factories import a_change, a_definition, a_state

LIVE = [InstanceState.PENDING, InstanceState.RUNNING, InstanceState.WAITING]
OVER = [InstanceState.COMPLETED, InstanceState.CANCELLED, InstanceState.FAILED]


async def test_a_definition_comes_back_as_it_was(store: Store, other: Store) -> None:
    definition = replace(a_definition("refund", 3), graph_json='{"é":"\\u00e9", "n": 9007199254740993}')
    assert await store.put_definition(definition) is DefinitionResult.STORED
    assert await other.get_definition("refund", 3) == definition


async def test_what_is_unknown_is_none(store: Store) -> None:
    assert await store.get_definition("order", 9) is None
    assert await store.get_definition("nowhere", 0) is None


async def test_the_same_again_changes_nothing(store: Store) -> None:
    again = replace(a_definition(), created_at=99)
    assert await store.put_definition(again) is DefinitionResult.UNCHANGED
    assert await store.get_definition("order", 1) == a_definition()


async def test_version_0_asks_for_the_newest(store: Store) -> None:
    for version in (10, 9, 2):
        await store.put_definition(a_definition(version=version))
    assert await store.get_definition("order", 0) == a_definition(version=10)


@pytest.mark.parametrize("status", LIVE)
async def test_a_definition_with_a_live_instance_stays(store: Store, status: InstanceState) -> None:
    await store.commit([a_change(a_state(status=status))])
    assert await store.put_definition(a_definition(digest="digest-2")) is DefinitionResult.IN_USE
    assert await store.get_definition("order", 1) == a_definition()


@pytest.mark.parametrize("status", OVER)
async def test_a_definition_whose_instances_are_over_is_replaced(store: Store, status: InstanceState) -> None:
    await store.commit([a_change(a_state(status=status))])
    changed = a_definition(digest="digest-2")
    assert await store.put_definition(changed) is DefinitionResult.REPLACED
    assert await store.get_definition("order", 1) == changed


async def test_live_instances_of_another_version_do_not_matter(store: Store) -> None:
    await store.put_definition(a_definition(version=2))
    await store.commit([a_change(a_state(version=2))])
    assert await store.put_definition(a_definition(digest="digest-2")) is DefinitionResult.REPLACED


async def test_definitions_are_listed_by_name_then_version(store: Store) -> None:
    for workflow, version in (("refund", 2), ("refund", 1), ("audit", 1), ("order", 10), ("order", 9)):
        await store.put_definition(a_definition(workflow, version))
    seen: list[tuple[str, int]] = []
    after = None
    while page := await store.list_definitions(limit=2, after=after):
        seen += [(definition.workflow, definition.version) for definition in page]
        after = seen[-1]
    assert seen == [("audit", 1), ("order", 1), ("order", 9), ("order", 10), ("refund", 1), ("refund", 2)]
