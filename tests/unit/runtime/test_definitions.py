"""Errors for definitions that are not stored."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from perdure_server.engine.rejections import WorkflowNotFound
from perdure_server.runtime.definitions import KNOWN_MAX, Definitions
from perdure_server.store.sqlite import SqliteStore
from support.factories import a_definition


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    store = SqliteStore(None)
    await store.open()
    yield store
    await store.close()


async def refused(definitions: Definitions, workflow: str, version: int) -> WorkflowNotFound:
    with pytest.raises(WorkflowNotFound) as caught:
        await definitions.get(workflow, version)
    return caught.value


async def test_an_unknown_version_names_the_existing_versions(store: SqliteStore) -> None:
    for version in (1, 2):
        await store.put_definition(a_definition("order", version))
    definitions = Definitions(store)

    assert (await refused(definitions, "order", 3)).versions == (1, 2)
    assert (await refused(definitions, "ordr", 3)).versions == ()
    assert (await refused(definitions, "ordr", 0)).known == ("order",)


async def test_an_unknown_version_of_an_unlisted_workflow_names_the_newest(
    store: SqliteStore,
) -> None:
    for number in range(KNOWN_MAX):
        await store.put_definition(a_definition(f"a{number}"))
    for version in (1, 2):
        await store.put_definition(a_definition("order", version))
    definitions = Definitions(store)

    assert (await refused(definitions, "order", 3)).versions == (2,)
    assert (await refused(definitions, "ordr", 3)).versions == ()
