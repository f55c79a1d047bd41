"""The definitions that instances run on: stored graphs, parsed once and kept while the process lives.

The engine uses the stored graph only, so what code declares is first stored here. A graph is cached by name, version
*and* digest: a version that was replaced is another graph.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from typing import Final

from perdure.model.graph import WorkflowGraph, from_json
from perdure_server.engine.rejections import DefinitionReplaced, WorkflowNotFound
from perdure_server.engine.state import State
from perdure_server.store.protocol import DefinitionOutcome, Store, StoredDefinition

GRAPHS_CACHED_MAX: Final = 1_000
NEWEST_FRESH_MS: Final = 1_000
"""How long the answer to "which version is the newest" is believed on a store that others write to."""

KNOWN_MAX: Final = 500
"""How many definitions are looked through to say which workflows there are."""

KNOWN_FRESH_MS: Final = 1_000
"""How long that is remembered: calls with wrong names must not read them each."""


class DefinitionInUseError(Exception):
    """A version was declared anew with another graph while live instances run on the stored one."""

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

    async def register(self, graph: WorkflowGraph) -> DefinitionOutcome:
        """Store a graph that code declares. Raises `DefinitionInUseError`."""
        definition = StoredDefinition(
            graph.name, graph.version, graph.digest, graph.canonical_json, self._store.now_ms()
        )
        outcome = await self._store.put_definition(definition)
        if outcome is DefinitionOutcome.IN_USE:
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
        """Return the graph to start instances on, if it is cached and fresh; version 0 asks for the newest."""
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
        """Return a graph as it is stored; version 0 asks for the newest. Raises `WorkflowNotFound`."""
        stored = await self._store.get_definition(workflow, version)
        if stored is None:
            raise await self._not_found(workflow, version)
        return stored

    async def _not_found(self, workflow: str, version: int) -> WorkflowNotFound:
        """Return the rejection for a workflow that is not stored: it tells what is."""
        async with self._known_read:
            now = self._store.now_ms()
            if not self._known_until - KNOWN_FRESH_MS <= now < self._known_until:
                self._known = {}
                for stored in await self._store.list_definitions(limit=KNOWN_MAX):
                    self._known.setdefault(stored.workflow, []).append(stored.version)
                self._known_until = now + KNOWN_FRESH_MS
        versions = tuple(self._known.get(workflow, ()))
        if version and not versions:
            # Among more than are looked through there may be other versions of it.
            newest = await self._store.get_definition(workflow, 0)
            versions = (newest.version,) if newest is not None else ()
        return WorkflowNotFound(workflow, version, tuple(self._known), versions)

    def forget_current(self, workflow: str) -> None:
        """Read the workflow's definitions anew: a start met another one than it was decided on."""
        self._current = {key: value for key, value in self._current.items() if key[0] != workflow}

    def _parse(self, stored: StoredDefinition) -> WorkflowGraph:
        graph = from_json(json.loads(stored.graph_json))
        self._remember(graph)
        return graph

    def _remember(self, graph: WorkflowGraph) -> None:
        self._graphs[graph.name, graph.version, graph.digest] = graph
        while len(self._graphs) > GRAPHS_CACHED_MAX:
            self._graphs.popitem(last=False)
