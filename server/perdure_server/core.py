"""The core of a server: store, runtime, timers and executors of one process, without any API.

It runs workflows in any process. `app`, `embedded` and `perdure_server.testing` build on it.

Owns: construction, and the order of start and stop. Must not: own a rule of any part.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perdure import Workflow, graph_of
from perdure_server.closing import finish
from perdure_server.config import ASYNC_STEPS_MAX, SHUTDOWN_TIMEOUT_SECONDS, SYNC_STEPS_MAX
from perdure_server.executors.in_process import Bind, InProcessExecutor, bind
from perdure_server.runtime.backups import Backups, backup_directory
from perdure_server.runtime.clock import SYSTEM_CLOCK, SYSTEM_RNG, Clock, Rng
from perdure_server.runtime.command_processor import CommandProcessor
from perdure_server.runtime.definitions import Definitions
from perdure_server.runtime.dispatch.dispatcher import Dispatcher
from perdure_server.runtime.missing_code import MissingCode
from perdure_server.runtime.operations import Operations
from perdure_server.runtime.queries import Queries
from perdure_server.runtime.replica import LEASE_MS, Replica
from perdure_server.runtime.watch import WatchHub
from perdure_server.store.group_commit import GroupCommitter
from perdure_server.store.protocol import Store
from perdure_server.timers.apscheduler_adapter import ApschedulerAdapter
from perdure_server.timers.scheduler import TimerScheduler
from perdure_server.timers.window import WINDOW_MS, TimerWindow


class Core:
    """Store, runtime, timers and executors of one process, on the running event loop.

    ``workflows`` are the classes whose steps this process runs. Instances of other workflows are stored and wait. The
    arguments from ``scheduler`` to ``max_claim_ms`` replace time, random numbers and handlers, for tests.
    """

    def __init__(
        self,
        store: Store,
        workflows: Sequence[type[Workflow]] = (),
        *,
        max_async_steps: int = ASYNC_STEPS_MAX,
        max_sync_steps: int = SYNC_STEPS_MAX,
        scheduler: TimerScheduler | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: Rng = SYSTEM_RNG,
        bind: Bind = bind,
        lease_ms: int = LEASE_MS,
        window_ms: int = WINDOW_MS,
        max_claim_ms: int | None = None,
        backup_dir: str | Path | None = None,
    ) -> None:
        """``backup_dir`` is the directory for backups, if any. Raises `BackupDirectoryError`."""
        self.store = store
        self._workflows = workflows
        self._max_async_steps = max_async_steps
        self._max_sync_steps = max_sync_steps
        self._bind = bind
        self.replica = Replica(store, lease_ms=lease_ms)
        self.committer = GroupCommitter(store)
        self.definitions = Definitions(store)
        self.watch = WatchHub(store)
        self.processor = CommandProcessor(
            store=store, committer=self.committer, definitions=self.definitions, watch=self.watch
        )
        self.dispatcher = Dispatcher(store, self.processor.submit, self.replica.id, rng=rng)
        self.timers = TimerWindow(
            store,
            scheduler or ApschedulerAdapter(),
            self.processor.submit,
            self.replica.id,
            clock=clock,
            rng=rng,
            window_ms=window_ms,
            max_claim_ms=max_claim_ms,
        )
        self.processor.connect(tasks=self.dispatcher, timers=self.timers)
        self.backups = Backups(store, None if backup_dir is None else backup_directory(backup_dir))
        self.operations = Operations(
            store=store,
            processor=self.processor,
            definitions=self.definitions,
            queries=Queries(store, self.definitions, self.watch, self.dispatcher.has_handler),
            rng=rng,
            backups=self.backups,
        )
        self.missing_code = MissingCode(store, self.definitions, self.dispatcher.has_handler)
        self.executor: InProcessExecutor | None = None

    async def start(self) -> None:
        """Open the store, register the definitions, recover what is due, and start to run steps.

        Raises a `StoreError` if the database cannot be opened, and `DefinitionInUseError`.
        """
        try:
            await self._start()
        except BaseException:
            await finish(self._stop_at_once())
            raise

    async def _start(self) -> None:
        await self.store.open()
        for workflow in self._workflows:
            graph = graph_of(workflow)
            await self.definitions.register(graph)
            self.processor.counters.add_workflow(graph.name)
            self.dispatcher.add_workflow(graph.name)
            self.missing_code.serve(graph.name, graph.version)
        await self.replica.start()
        self.replica.on_new_id(self.dispatcher.replica_changed)
        self.replica.on_new_id(self.timers.replica_changed)
        if self._workflows:
            await self._start_executor()
        self.dispatcher.start(await self.store.crash_report())
        await self.timers.start()
        await self.missing_code.start()

    async def stop(self, shutdown_timeout_seconds: float = SHUTDOWN_TIMEOUT_SECONDS) -> None:
        """Start no more steps, store the results of those that end by the timeout, release the rest, close the store.

        Cancelling it ends the timeout. The store is closed in any case.
        """
        try:
            await self.quiesce(shutdown_timeout_seconds)
        finally:
            await finish(self._stop_at_once())

    async def _stop_at_once(self) -> None:
        """Stop everything that was started, without a timeout. Does nothing after a complete stop."""
        try:
            await self.quiesce(0)
        finally:
            await self.close()

    async def quiesce(self, shutdown_timeout_seconds: float) -> None:
        """Start no more steps, store the results of those that end by the timeout, release the rest. Reads still
        work.
        """
        await self.backups.stop()
        await self.missing_code.stop()
        await self.dispatcher.drain(shutdown_timeout_seconds)
        await self.timers.stop(shutdown_timeout_seconds)
        await self._stop_executor()
        self.watch.drain()

    async def close(self) -> None:
        """Finish accepted commands and close the store, after `quiesce`. Can be called twice."""
        try:
            await self.processor.close()
            await self.committer.close()
            await self.replica.stop()
        finally:
            await self.store.close()

    def healthy(self) -> bool:
        """Return True if this process can write, timers fire on time, and steps run."""
        return not self.unhealthy_parts()

    def unhealthy_parts(self) -> tuple[str, ...]:
        """Return those of ``database``, ``timers``, ``tasks`` and ``steps`` that do not work."""
        healthy = {
            "database": self.store.healthy() and self.replica.healthy(),
            "timers": self.timers.healthy(),
            "tasks": self.dispatcher.healthy(),
            "steps": self.executor is None or self.executor.healthy(),
        }
        return tuple(part for part, is_healthy in healthy.items() if not is_healthy)

    async def _start_executor(self) -> None:
        handlers, lifespans = self._bind([workflow() for workflow in self._workflows])
        self.executor = InProcessExecutor(
            self.dispatcher,
            handlers,
            lifespans,
            max_async_steps=self._max_async_steps,
            max_sync_steps=self._max_sync_steps,
        )
        await self.executor.start()

    async def _stop_executor(self) -> None:
        if self.executor is not None:
            await self.executor.stop()
