"""A store that can be made to fail."""

from __future__ import annotations

from typing import Any

from perdure_server.store.protocol import StoredInstance, StoreError
from perdure_server.store.sqlite import SqliteStore


class FaultyStore(SqliteStore):
    """The real store, whose reads and commits fail while a test says so."""

    fault: StoreError | None = None

    async def commit(self, changes: Any) -> Any:
        if self.fault is not None:
            raise self.fault
        return await super().commit(changes)

    async def get_instance(self, instance_id: str) -> StoredInstance | None:
        if self.fault is not None:
            raise self.fault
        return await super().get_instance(instance_id)
