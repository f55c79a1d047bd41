"""The stores that the contract holds for.

A test gets ``store`` and, where two runners meet, ``other``: the same database as a second server sees it. A store
that only one process may open gives itself twice. ``clock`` is the store's clock, which only tests move.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perdure_server.store.protocol import Store
from support.factories import a_definition
from support.stores import KINDS, Clock, Kind


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(kind: Kind, tmp_path: Path, clock: Clock) -> AsyncIterator[Store]:
    """An open store with one definition, that of the factories' instances."""
    made = kind.make(tmp_path, clock)
    await made.open()
    await made.put_definition(a_definition())
    yield made
    await made.close()


@pytest.fixture
async def other(kind: Kind, tmp_path: Path, clock: Clock, store: Store) -> AsyncIterator[Store]:
    """The same database as another server sees it."""
    if not store.shared:
        yield store
        return
    made = kind.make(tmp_path, clock)
    await made.open()
    yield made
    await made.close()
