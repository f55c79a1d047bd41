"""Order of reads: a slow list does not delay other reads, and a cancelled read does not run."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from perdure_server.store.protocol import COMMITTED, InstanceFilter
from perdure_server.store.sqlite import SqliteStore
from perdure_server.store.sqlite.threads import ConnectionThreads
from support.factories import a_change, a_state


class Busy:
    """Keeps a thread busy until it is let go."""

    def __init__(self, threads: ConnectionThreads | None) -> None:
        assert threads is not None
        self._reached, self._go = threading.Event(), threading.Event()
        self._work = threads.submit(self._wait)

    def _wait(self, _connection: Any) -> None:
        self._reached.set()
        self._go.wait(20)

    async def reached(self) -> None:
        await asyncio.to_thread(self._reached.wait, 20)

    async def let_go(self) -> None:
        self._go.set()
        await self._work


async def test_a_list_that_takes_long_holds_up_no_other_read_and_no_commit(store: SqliteStore) -> None:
    state = a_state()
    list_under_way = Busy(store._database._lister)
    await list_under_way.reached()

    async with asyncio.timeout(60):
        assert list(await store.commit([a_change(state)])) == [COMMITTED]
        assert await store.load(state.instance_id) == state
        assert await store.get_instance(state.instance_id) is not None
    waiting = asyncio.create_task(store.list_instances(InstanceFilter(), limit=10))
    await list_under_way.let_go()

    assert [found.instance_id for found in (await waiting).instances] == [state.instance_id]


async def test_a_cancelled_read_does_not_run(store: SqliteStore) -> None:
    started = []
    list_under_way = Busy(store._database._lister)
    await list_under_way.reached()
    assert store._database._lister is not None
    left = store._database._lister.submit(lambda _connection: started.append("left"))
    kept = store._database._lister.submit(lambda _connection: started.append("kept"))

    left.cancel()
    await list_under_way.let_go()
    await kept

    assert started == ["kept"]
