"""The Runner suite in one process: the test kit's client, over the real handlers, without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from contract.runner_flows import FLOWS
from contract.runner_suite import RunnerSuite
from perdure.runner import Runner
from perdure_server.app import Core
from perdure_server.store.sqlite import SqliteStore
from perdure_server.testing.client import InProcessClient


class TestInProcessClient(RunnerSuite):
    """The client is where the server is."""

    @pytest.fixture
    async def runner(self) -> AsyncIterator[Runner]:
        core = Core(SqliteStore(None), FLOWS)
        await core.start()
        async with InProcessClient(core.runtime) as client:
            yield client
        await core.stop(0)
