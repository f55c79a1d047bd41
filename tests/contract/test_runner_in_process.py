"""The Runner suite in one process: the embedded runner, over the real handlers, without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contract.runner_flows import FLOWS
from contract.runner_suite import RunnerSuite
from perdure.client import InstanceState
from perdure.runner import Runner
from perdure_server.embedded import EmbeddedRunner
from perdure_server.store.protocol import DatabaseInUseError


class TestEmbeddedRunner(RunnerSuite):
    """The client is where the server is."""

    @pytest.fixture
    async def runner(self) -> AsyncIterator[Runner]:
        async with EmbeddedRunner(FLOWS, database=":memory:", shutdown_timeout_seconds=0) as runner:
            yield runner


async def test_what_was_started_continues_when_the_database_is_opened_again(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'p.db'}"
    async with EmbeddedRunner(FLOWS, database=database) as first:
        started = await first.start_instance("approval")

    async with EmbeddedRunner(FLOWS, database=database) as second:
        await second.resume(started.instance_id, "approved")
        instance = await second.get_instance(started.instance_id)

    assert instance.state is InstanceState.COMPLETED


async def test_a_database_has_one_runner_at_a_time(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'p.db'}"
    async with EmbeddedRunner(FLOWS, database=database):
        with pytest.raises(DatabaseInUseError):
            await EmbeddedRunner(FLOWS, database=database).__aenter__()


async def test_a_closed_runner_says_so(tmp_path: Path) -> None:
    async with EmbeddedRunner(FLOWS, database=":memory:") as runner:
        pass

    with pytest.raises(RuntimeError, match="closed"):
        await runner.start_instance("approval")
    await runner.close()
