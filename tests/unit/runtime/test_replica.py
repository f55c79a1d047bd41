"""A replica whose lease has ended."""

from __future__ import annotations

import asyncio

from perdure_server.runtime.replica import Replica
from perdure_server.store.sqlite import SqliteStore


async def test_a_process_whose_lease_has_ended_continues_under_a_new_id() -> None:
    store = SqliteStore(None)
    await store.open()
    replica = Replica(store, heartbeat_ms=1)
    first = replica.id
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    replica.on_new_id(told.set_result)
    await replica.start()
    try:
        assert replica.leases_lost == 0

        await store.end_replica(first)
        async with asyncio.timeout(60):
            assert await told == replica.id != first

        assert replica.leases_lost == 1
    finally:
        await replica.stop()
        await store.close()
