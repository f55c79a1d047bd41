"""Reads: instances, histories, timers, definitions, and watches. Each read goes to the store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

from perdure_server.engine.facts import Entry
from perdure_server.engine.rejections import InstanceNotFound, TimerNotFound
from perdure_server.runtime.definitions import Definitions
from perdure_server.runtime.errors import UnreachedRevisionError
from perdure_server.runtime.watch import WatchEvent, WatchHub
from perdure_server.store.protocol import (
    DefinitionSummary,
    InstanceCursor,
    InstanceFilter,
    InstancePage,
    Store,
    StoredDefinition,
    StoredInstance,
    TimerCursor,
    TimerRow,
)


class Queries:
    """The reads of one process over one store. Each method raises what the store raises."""

    def __init__(
        self,
        store: Store,
        definitions: Definitions,
        watch: WatchHub,
        has_handler: Callable[[str, int, str], bool],
    ) -> None:
        self._store = store
        self._definitions = definitions
        self._watch = watch
        self._has_handler = has_handler

    async def get_instance(self, instance_id: str) -> StoredInstance:
        """Return a stored instance. Raises `InstanceNotFound`."""
        stored = await self._store.get_instance(instance_id)
        if stored is None:
            raise InstanceNotFound(instance_id)
        return stored

    async def list_instances(
        self, where: InstanceFilter, *, limit: int, after: InstanceCursor | None = None
    ) -> InstancePage:
        """Return instances that match a filter, newest first; see `Store.list_instances`."""
        return await self._store.list_instances(where, limit=limit, after=after)

    async def history(self, instance_id: str, *, after_revision: int, limit: int) -> Sequence[Entry]:
        """Return the entries of an instance after a revision, oldest first.

        Raises `InstanceNotFound`, and `UnreachedRevisionError` if the instance has not reached ``after_revision``.
        """
        entries = await self._store.history(instance_id, after_revision=after_revision, limit=limit)
        if not entries:
            state = await self._store.load(instance_id)
            if state is None:
                raise InstanceNotFound(instance_id)
            if after_revision > state.revision:
                raise UnreachedRevisionError(instance_id, after_revision, state.revision)
        return entries

    def watch(self, instance_id: str, after_revision: int | None = None) -> AsyncGenerator[WatchEvent, None]:
        """See `WatchHub.watch`."""
        return self._watch.watch(instance_id, after_revision)

    async def get_timer(self, instance_id: str, revision: int) -> TimerRow:
        """Return a pending timer by the revision of the entry that armed it. Raises `TimerNotFound`."""
        row = await self._store.get_timer(instance_id, revision)
        if row is None:
            raise TimerNotFound(f"{instance_id}.{revision}")
        return row

    async def list_timers(
        self, instance_id: str = "", *, limit: int, after: TimerCursor | None = None
    ) -> Sequence[TimerRow]:
        """Return pending timers, the soonest first; see `Store.list_timers`."""
        return await self._store.list_timers(instance_id, limit=limit, after=after)

    async def get_definition(self, workflow: str, version: int) -> StoredDefinition:
        """Return a stored graph. Version 0 means the newest. Raises `WorkflowNotFound`."""
        return await self._definitions.get(workflow, version)

    async def list_definitions(
        self, *, limit: int, after: tuple[str, int] | None = None
    ) -> Sequence[DefinitionSummary]:
        """Return stored graphs; see `Store.list_definitions`."""
        return await self._store.list_definitions(limit=limit, after=after)

    def has_handler(self, workflow: str, version: int, step_ref: str) -> bool:
        """Return True if an executor of this process can run the step."""
        return self._has_handler(workflow, version, step_ref)
