"""This process as a replica: an ID, and a lease in the database that heartbeats renew.

Other replicas can take over a replica's timers and running attempts after its lease has ended. A process whose own
lease has ended (it was suspended, or the database was unavailable) continues under a new ID, because other replicas
can own the work of the old one by then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

import uuid_utils

from perdure_server.runtime.background import BackgroundLoop
from perdure_server.store.protocol import Store, StoreError

log = logging.getLogger(__name__)

LEASE_MS: Final = 15_000
"""Lease duration in milliseconds. Must be more than three heartbeat intervals, so that two lost heartbeats do not end
the lease.
"""

HEARTBEAT_MS: Final = 3_000
"""Interval between heartbeats, in milliseconds."""


class Replica:
    """The ID under which this process owns work."""

    def __init__(self, store: Store, *, lease_ms: int = LEASE_MS, heartbeat_ms: int = HEARTBEAT_MS) -> None:
        self._store = store
        self._lease_ms = lease_ms
        self._heartbeat_ms = heartbeat_ms
        self._on_new_id: list[Callable[[str], None]] = []
        self._heartbeat_at = 0.0
        self._loop = BackgroundLoop(
            log,
            "heartbeat failed",
            self._heartbeat,
            name="perdure-heartbeat",
            interval_seconds=heartbeat_ms / 1000,
        )
        self._is_registered = False
        self.id = _new_id()
        self.leases_lost = 0
        """Number of times that this process continued under a new ID."""

    def on_new_id(self, callback: Callable[[str], None]) -> None:
        """Call ``callback`` with each new ID after the first."""
        self._on_new_id.append(callback)

    def healthy(self) -> bool:
        """Return True if a recent heartbeat was stored. If the database rejects heartbeats, it rejects all writes."""
        return time.monotonic() - self._heartbeat_at <= 2.5 * self._heartbeat_ms / 1000

    async def start(self) -> None:
        """Take the lease and start to renew it."""
        # Set before the row exists, because a start that is cancelled now can have written it.
        self._is_registered = True
        await self._store.register_replica(self.id, lease_ms=self._lease_ms)
        self._heartbeat_at = time.monotonic()
        self._loop.start()

    async def stop(self) -> None:
        """End the lease, which frees everything that is still owned. Can be called twice."""
        await self._loop.stop()
        if not self._is_registered:
            return
        self._is_registered = False
        try:
            await self._store.end_replica(self.id)
        except StoreError as error:
            log.warning("lease release failed, it will expire", extra={"reason": str(error)})

    async def _heartbeat(self) -> None:
        if not await self._store.heartbeat(self.id, lease_ms=self._lease_ms):
            await self._take_new_id()
        self._heartbeat_at = time.monotonic()

    async def _take_new_id(self) -> None:
        old, new = self.id, _new_id()
        await self._store.register_replica(new, lease_ms=self._lease_ms)
        self.id = new
        self.leases_lost += 1
        log.warning("lease lost, continuing under a new replica ID", extra={"old_id": old, "new_id": new})
        for callback in self._on_new_id:
            callback(new)


def _new_id() -> str:
    return f"r-{uuid_utils.uuid7()}"
