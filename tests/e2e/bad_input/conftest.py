"""A served core over a store that can fail, and a real channel to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from contract.runner_flows import FLOWS
from e2e.bad_input.faulty_store import FaultyStore
from support.api_fixture import ApiWorld, serving


@pytest.fixture
async def store() -> FaultyStore:
    return FaultyStore(None)


@pytest.fixture
async def world(store: FaultyStore) -> AsyncIterator[ApiWorld]:
    async with serving(FLOWS, store=store) as served:
        yield served
