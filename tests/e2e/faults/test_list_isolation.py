"""A flood of lists that match nothing in a large table does not block other calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import apsw
import grpc.aio
import pytest

from e2e.faults.steady import steady_client
from perdure import AsyncClient
from perdure.v1 import instance_service_pb2 as pb
from perdure_server.api.limits import Limits
from perdure_server.store.sqlite.list_query import SCAN_ROWS_MAX
from perdure_server.store.sqlite.migrate import migrate
from support.server_process import ServerProcess

pytestmark = pytest.mark.e2e

APP: Final = Path(__file__).with_name("plain_app.py")
INSTANCES: Final = 3 * SCAN_ROWS_MAX
ROUNDS: Final = 20
CALL_SECONDS_MAX: Final = 60.0
LISTS: Final = Limits().calls_max + 32
"""Number of callers that list all the time. Without a limit for lists, they take the place of all other calls."""

FILL: Final = """
INSERT INTO instances (namespace, instance_id, workflow, version, status, revision, business_key, labels, created_at,
                       updated_at, ended_at, inbox_size, state)
WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :count)
SELECT '', printf('filler-%08d', n), 'filler', 1, 'completed', 1, '', '{"team":"web"}', 1700000000000 + n,
       1700000000000 + n, 1700000000000 + n, 0, '{}' FROM n;
INSERT INTO instance_labels (namespace, key, value, created_at, instance_id, workflow)
SELECT '', 'team', 'web', created_at, instance_id, workflow FROM instances;
"""

RARE: Final[tuple[dict[str, Any], ...]] = (
    {"workflow": "filler", "version": 2},
    {"labels": {"team": "web"}, "states": ["failed"]},
    {"labels": {"team": "web", "tier": "gold"}},
)


def fill(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = wal")
    migrate(connection)
    with connection:
        connection.execute(FILL, {"count": INSTANCES})
    connection.close()


async def test_other_calls_are_served_during_a_flood_of_rare_lists(
    server_process: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    fill(database := tmp_path / "large.db")
    server = server_process(APP, database=database)
    served = asyncio.Event()
    # Rejected callers wait as long as the server asks for and try again: the client does that.
    async with AsyncClient(server.address, timeout=CALL_SECONDS_MAX) as client:

        async def flood(where: dict[str, Any]) -> None:
            while True:
                assert [found async for found in client.list_instances(**where)] == []
                served.set()

        callers = [asyncio.create_task(flood(RARE[number % len(RARE)])) for number in range(LISTS)]
        await served.wait()
        async with steady_client(server.address) as steady:
            await steady.rounds(ROUNDS)
            errors = list(steady.errors)
        failed = [caller.exception() for caller in callers if caller.done()]
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)

    assert errors == []
    assert failed == []


async def test_a_page_without_matches_has_a_token(
    server_process: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    fill(database := tmp_path / "large.db")
    server = server_process(APP, database=database)
    pages = 0

    async with grpc.aio.insecure_channel(server.address) as channel:
        call = channel.unary_unary("/perdure.v1.InstanceService/ListInstances")
        request = pb.ListInstancesRequest(workflow="filler", version=2)
        while True:
            page = pb.ListInstancesResponse.FromString(await call(request.SerializeToString(), timeout=30))
            assert not page.instances
            pages += 1
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
    assert pages == INSTANCES // SCAN_ROWS_MAX + 1
