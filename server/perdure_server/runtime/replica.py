"""This process among its peers: an id, and a lease in the database that heartbeats prolong.

What a replica owns (timers of its window, running attempts) is free for others once its lease has ended. A process
that finds its own lease ended (it was stopped, or the database was away) goes on under a new id, since the old one's
work may be anyone's by then.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

import uuid_utils

from perdure_server.store.protocol import Store, StoreError

log = logging.getLogger(__name__)

LEASE_MS: Final = 15_000
HEARTBEAT_MS: Final = 3_000
"""A third and less of the lease: two heartbeats may be lost before it ends."""


class Replica:
    """The id under which this process owns work. ``on_new_id`` is told of each id after the first."""

    def __init__(self, store: Store, *, lease_ms: int = LEASE_MS, heartbeat_ms: int = HEARTBEAT_MS) -> None:
        self._store = store
        self._lease_ms = lease_ms
        self._heartbeat_ms = heartbeat_ms
        self._on_new_id: list[Callable[[str], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._beat_at = 0.0
        self._is_registered = False
        self.id = _new_id()
        self.leases_lost = 0
        """How often this process went on under a new id."""

    def on_new_id(self, tell: Callable[[str], None]) -> None:
        """Ask to be told when the id changes."""
        self._on_new_id.append(tell)

    def healthy(self) -> bool:
        """Whether the database took a heartbeat lately: what it refuses to us, it refuses to everybody."""
        return time.monotonic() - self._beat_at <= 2.5 * self._heartbeat_ms / 1000

    async def start(self) -> None:
        """Take the lease and begin to prolong it."""
        # Set before the row exists: a start that is cancelled meanwhile can have written it.
        self._is_registered = True
        await self._store.register_replica(self.id, lease_ms=self._lease_ms)
        self._beat_at = time.monotonic()
        self._task = asyncio.get_running_loop().create_task(self._beat(), name="perdure-heartbeat")

    async def stop(self) -> None:
        """Give up the lease: what is still owned is free at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if not self._is_registered:
            return
        self._is_registered = False
        try:
            await self._store.end_replica(self.id)
        except StoreError as error:
            log.warning("the lease was not given up and will run out: %s", error)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_ms / 1000)
            try:
                if not await self._store.heartbeat(self.id, lease_ms=self._lease_ms):
                    await self._renew()
                self._beat_at = time.monotonic()
            except StoreError as error:
                log.warning("no heartbeat: %s", error)

    async def _renew(self) -> None:
        old, new = self.id, _new_id()
        await self._store.register_replica(new, lease_ms=self._lease_ms)
        self.id = new
        self.leases_lost += 1
        log.warning("lease lost, going on under a new id", extra={"old_id": old, "new_id": new})
        for tell in self._on_new_id:
            tell(new)


def _new_id() -> str:
    return f"r-{uuid_utils.uuid7()}"
