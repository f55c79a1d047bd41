"""Live instances whose workflow version has steps that this server has no code for.

A deployment that drops a version leaves its instances waiting without an error. `MissingCode` finds them at start and
once a minute. A check reads one index entry for each definition with live instances, and counts at most `COUNT_MAX`
instances of each that lacks code, so its cost does not grow with the number of instances.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from perdure.model.graph import StepKind
from perdure_server.engine.rejections import WorkflowNotFound
from perdure_server.runtime.definitions import Definitions
from perdure_server.store.protocol import LiveDefinition, Store, StoreError

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 60.0
"""Time between two checks, in seconds."""

DEFINITIONS_MAX: Final = 1_000
"""Maximum number of definitions with live instances that a check looks at."""

COUNT_MAX: Final = 10_000
"""Maximum number of instances that are counted for one definition."""

LINES_MAX: Final = 100
"""Maximum number of definitions that are logged and exported."""


class MissingCode:
    """Counts of live instances by workflow version that lacks code. Belongs to one event loop."""

    def __init__(
        self, store: Store, definitions: Definitions, has_code: Callable[[str, int, str], bool]
    ) -> None:
        self._store = store
        self._definitions = definitions
        self._has_code = has_code
        self._task: asyncio.Task[None] | None = None
        self._logged: set[LiveDefinition] = set()
        self._served: tuple[LiveDefinition, ...] = ()
        self._counts: Mapping[LiveDefinition, int] = {}

    @property
    def counts(self) -> Mapping[LiveDefinition, int]:
        """The result of the last check, each count at most `COUNT_MAX`. Can be read from any thread."""
        return dict.fromkeys(self._served, 0) | dict(self._counts)

    def serve(self, workflow: str, version: int) -> None:
        """Export 0 for a version that has code, so that a later count is visible as a rise."""
        if len(self._served) < LINES_MAX:
            self._served += (LiveDefinition(workflow, version),)

    async def start(self) -> None:
        """Violations once, then periodically until `stop`."""
        await self.check()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="perdure-missing-code")

    async def stop(self) -> None:
        """Stop checking. Can be called twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def check(self) -> None:
        """Count again, and log each definition that was not missing code before."""
        try:
            counts = await self._count()
        except StoreError as error:
            log.warning("check for instances without code failed: %s", error)
            return
        for definition, count in counts.items():
            if definition not in self._logged:
                instances = f"{COUNT_MAX} or more" if count == COUNT_MAX else str(count)
                extra = {"workflow": definition.workflow, "version": definition.version}
                log.warning("live instances without code", extra=extra | {"instances": instances})
        self._logged = set(counts)
        self._counts = counts

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                await self.check()
            except Exception:  # the next check must come
                log.exception("unhandled error in the check for instances without code")

    async def _count(self) -> dict[LiveDefinition, int]:
        counts: dict[LiveDefinition, int] = {}
        for definition in await self._store.live_definitions(limit=DEFINITIONS_MAX):
            if len(counts) < LINES_MAX and await self._lacks_code(definition):
                counts[definition] = await self._store.count_live(definition, count_max=COUNT_MAX)
        return counts

    async def _lacks_code(self, definition: LiveDefinition) -> bool:
        workflow, version = definition.workflow, definition.version
        graph = self._definitions.current(workflow, version)
        if graph is None:
            try:
                graph = await self._definitions.load_current(workflow, version)
            except WorkflowNotFound:
                return True
        return any(
            step.kind is StepKind.TASK and not self._has_code(workflow, version, step.ref)
            for step in graph.steps.values()
        )
