"""The definitions that instances run on: stored graphs, parsed once and cached.

The engine uses stored graphs only, so a graph that code declares is stored here first. The cache key includes the
digest, because a version can be replaced by another graph.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from typing import Final

from perdure.model.graph import WorkflowGraph, from_json
from perdure_server.engine.rejections import DefinitionReplaced, WorkflowNotFound
from perdure_server.engine.state import State
from perdure_server.store.protocol import DefinitionResult, Store, StoredDefinition

GRAPHS_CACHED_MAX: Final = 1_000
NEWEST_FRESH_MS: Final = 1_000
"""Time for which the newest version is cached on a shared store, in milliseconds."""

KNOWN_MAX: Final = 500
"""Maximum number of definitions that are read to list the known workflows in an error."""

KNOWN_FRESH_MS: Final = 1_000
"""Time for which that list is cached, in milliseconds, so that calls with unknown names do not each read it."""


class DefinitionInUseError(Exception):
    """A version was declared with another graph while live instances run on the stored one."""

    def __init__(self, workflow: str, version: int) -> None:
        super().__init__(
            f"workflow {workflow!r} version {version} is in use with another graph; "
            f"bump the version: declare this graph as version {version + 1} and keep serving both"
        )


class Definitions:
    """Stored graphs by (workflow, version, digest), and the current one by (workflow, version)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._graphs: OrderedDict[tuple[str, int, str], WorkflowGraph] = OrderedDict()
        self._current: dict[tuple[str, int], tuple[WorkflowGraph, int]] = {}
        self._known: dict[str, list[int]] = {}
        self._known_until = 0
        self._known_read = asyncio.Lock()

    async def register(self, graph: WorkflowGraph) -> DefinitionResult:
        """Store a graph that code declares. Raises `DefinitionInUseError`."""
        definition = StoredDefinition(
            graph.name, graph.version, graph.digest, graph.canonical_json, self._store.now_ms()
        )
        outcome = await self._store.put_definition(definition)
        if outcome is DefinitionResult.IN_USE:
            raise DefinitionInUseError(graph.name, graph.version)
        self._remember(graph)
        self._current.clear()
        self._known_until = 0
        return outcome

    def of(self, state: State) -> WorkflowGraph | None:
        """Return the graph that an instance runs on, if it is cached."""
        return self._graphs.get((state.workflow, state.version, state.definition_digest))

    async def load(self, state: State) -> WorkflowGraph:
        """Return the graph that an instance runs on. Raises `DefinitionReplaced`: only live instances keep theirs."""
        graph = self.of(state)
        if graph is None:
            stored = await self._store.get_definition(state.workflow, state.version)
            if stored is None or stored.digest != state.definition_digest:
                raise DefinitionReplaced(state.instance_id, state.workflow, state.version)
            graph = self._parse(stored)
        return graph

    def current(self, workflow: str, version: int) -> WorkflowGraph | None:
        """Return the graph to start instances on, if it is cached and fresh. Version 0 means the newest."""
        found = self._current.get((workflow, version))
        if found is None:
            return None
        graph, read_at = found
        if self._store.shared and self._store.now_ms() - read_at > NEWEST_FRESH_MS:
            return None
        return graph

    async def load_current(self, workflow: str, version: int) -> WorkflowGraph:
        """Read the graph to start instances on. Raises `WorkflowNotFound`."""
        stored = await self.get(workflow, version)
        key = (stored.workflow, stored.version, stored.digest)
        graph = self._graphs.get(key) or self._parse(stored)
        if len(self._current) >= GRAPHS_CACHED_MAX:
            self._current.clear()
        self._current[workflow, version] = (graph, self._store.now_ms())
        return graph

    async def get(self, workflow: str, version: int) -> StoredDefinition:
        """Return a stored graph. Version 0 means the newest. Raises `WorkflowNotFound`."""
        stored = await self._store.get_definition(workflow, version)
        if stored is None:
            raise await self._not_found(workflow, version)
        return stored

    async def _not_found(self, workflow: str, version: int) -> WorkflowNotFound:
        """Return the rejection for a workflow that is not stored. It names similar workflows and versions."""
        async with self._known_read:
            now = self._store.now_ms()
            if not self._known_until - KNOWN_FRESH_MS <= now < self._known_until:
                self._known = {}
                for stored in await self._store.list_definitions(limit=KNOWN_MAX):
                    self._known.setdefault(stored.workflow, []).append(stored.version)
                self._known_until = now + KNOWN_FRESH_MS
        versions = tuple(self._known.get(workflow, ()))
        if version and not versions:
            # The list is limited, so the workflow can have versions that are not in it.
            newest = await self._store.get_definition(workflow, 0)
            versions = (newest.version,) if newest is not None else ()
        return WorkflowNotFound(workflow, version, tuple(self._known), versions)

    def forget_current(self, workflow: str) -> None:
        """Read the workflow's definitions again, because a start found another one than it was decided on."""
        self._current = {key: value for key, value in self._current.items() if key[0] != workflow}

    def _parse(self, stored: StoredDefinition) -> WorkflowGraph:
        graph = from_json(json.loads(stored.graph_json))
        self._remember(graph)
        return graph

    def _remember(self, graph: WorkflowGraph) -> None:
        self._graphs[graph.name, graph.version, graph.digest] = graph
        while len(self._graphs) > GRAPHS_CACHED_MAX:
            self._graphs.popitem(last=False)
