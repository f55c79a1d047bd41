"""A store that can fail."""

from __future__ import annotations

from typing import Any

from perdure_server.store.protocol import StoredInstance, StoreError
from perdure_server.store.sqlite import SqliteStore


class FaultyStore(SqliteStore):
    """The real store. Its reads and commits raise ``fault`` while it is set."""

    fault: StoreError | None = None

    async def commit(self, changes: Any) -> Any:
        if self.fault is not None:
            raise self.fault
        return await super().commit(changes)

    async def get_instance(self, instance_id: str) -> StoredInstance | None:
        if self.fault is not None:
            raise self.fault
        return await super().get_instance(instance_id)
