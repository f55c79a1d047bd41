"""`AsyncClient` over a real server is a `Runner`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from contract.runner_flows import FLOWS
from contract.runner_suite import RunnerSuite
from perdure import AsyncClient
from perdure_server.app import Server
from perdure_server.config import Config


class TestAsyncClientAsRunner(RunnerSuite):
    """Everything crosses a channel to a server on a database in memory."""

    @pytest.fixture
    async def runner(self) -> AsyncIterator[AsyncClient]:
        server = Server(Config(workflows=FLOWS, database=":memory:", listen="127.0.0.1:0"))
        address = await server.start()
        async with AsyncClient(str(address)) as client:
            yield client
        await server.stop()
