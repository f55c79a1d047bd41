"""A server put together: the one place where every part meets the others.

`Core` is everything but the faces: store, runner, timers, executors. It runs workflows in any process, with or without
gRPC (`serve` and `perdure_server.testing` stand on it). What lives here: construction, start, stop, in order. What may
not: rules of any part.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop

from perdure import Workflow, graph_of
from perdure_server.api.server import ApiServer
from perdure_server.config import COROUTINES_MAX, GRACE_SECONDS, THREADS_MAX, Config
from perdure_server.engine import commands
from perdure_server.engine.commands import Grant
from perdure_server.engine.decide import Decision
from perdure_server.executors.in_process import Bind, InProcessExecutor, bind
from perdure_server.runtime.backups import Backups, backup_directory
from perdure_server.runtime.clock import SYSTEM_CHANCE, SYSTEM_CLOCK, Chance, Clock
from perdure_server.runtime.definitions import Definitions
from perdure_server.runtime.dispatcher import Dispatcher
from perdure_server.runtime.replica import LEASE_MS, Replica
from perdure_server.runtime.runner import Runner
from perdure_server.runtime.service import Runtime
from perdure_server.runtime.watch import WatchHub
from perdure_server.security.listen import (
    Address,
    cannot_be_had,
    check_exposure,
    check_free,
    check_metrics_exposure,
    parse_address,
    server_credentials,
)
from perdure_server.store.closing import finish
from perdure_server.store.group_commit import GroupCommitter
from perdure_server.store.open import open_store
from perdure_server.store.protocol import Store, TimerGuard, TimerRow
from perdure_server.telemetry.logs import log_to_stderr
from perdure_server.timers.alarm import Alarm
from perdure_server.timers.apscheduler_alarm import ApschedulerAlarm
from perdure_server.timers.window import WINDOW_MS, TimerWindow

if TYPE_CHECKING:
    from perdure_server.telemetry.endpoint import MetricsEndpoint

log = logging.getLogger(__name__)

HEALTH_SECONDS: Final = 0.5
"""How often readiness is looked at: what stops is noticed within a second."""

GC_THRESHOLDS: Final = (20_000, 10, 10)
"""When Python looks for cycles, those of steps included. Calls and commits make few, but many objects that live for
some milliseconds; with a first threshold of 700, looking through them takes a twentieth of a busy server's time."""

EXIT_STOPPED_AT_ONCE: Final = 130
"""The exit code after a second signal."""


class Core:
    """Store, runner, timers and executors of one process, on the running event loop.

    ``workflows`` are the classes whose code this process runs; instances of others are stored and wait. What is
    given from ``alarm`` on says what time, chance and code are; the defaults are the real ones.
    """

    def __init__(
        self,
        store: Store,
        workflows: Sequence[type[Workflow]] = (),
        *,
        coroutines_max: int = COROUTINES_MAX,
        threads_max: int = THREADS_MAX,
        alarm: Alarm | None = None,
        clock: Clock = SYSTEM_CLOCK,
        chance: Chance = SYSTEM_CHANCE,
        bind: Bind = bind,
        lease_ms: int = LEASE_MS,
        window_ms: int = WINDOW_MS,
        claim_ms_max: int | None = None,
        backup_dir: str | Path | None = None,
    ) -> None:
        """``backup_dir`` is the directory for backups, if any. Raises `BackupDirectoryError`."""
        self.store = store
        self._workflows = workflows
        self._coroutines_max = coroutines_max
        self._threads_max = threads_max
        self._chance = chance
        self._bind = bind
        self.replica = Replica(store, lease_ms=lease_ms)
        self.committer = GroupCommitter(store)
        self.definitions = Definitions(store)
        self.watch = WatchHub(store)
        self.dispatcher = Dispatcher(store, self._submit, self._submit_take, self.replica.id, chance=chance)
        self.timers = TimerWindow(
            store,
            alarm or ApschedulerAlarm(),
            self._submit_timer,
            self.replica.id,
            clock=clock,
            window_ms=window_ms,
            claim_ms_max=claim_ms_max,
        )
        self.runner = Runner(
            store=store,
            committer=self.committer,
            definitions=self.definitions,
            tasks=self.dispatcher,
            timers=self.timers,
            watch=self.watch,
        )
        self.backups = Backups(store, None if backup_dir is None else backup_directory(backup_dir))
        self.runtime = Runtime(
            store=store,
            backups=self.backups,
            runner=self.runner,
            definitions=self.definitions,
            watch=self.watch,
            has_code=self.dispatcher.has_code,
            chance=chance,
        )
        self.executor: InProcessExecutor | None = None

    async def start(self) -> None:
        """Open the store, register the definitions, recover what is due, begin to run.

        Raises a `StoreError` where the database cannot be had, and `DefinitionInUse`.
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
            # Told from the start, with zeros: a first failure is then seen as a rise.
            self.runner.facts.of(graph.name)
            self.dispatcher.ended.of(graph.name)
            self.dispatcher.lost.of(graph.name)
        await self.replica.start()
        self.replica.on_new_id(self.dispatcher.replica_changed)
        self.replica.on_new_id(self.timers.replica_changed)
        if self._workflows:
            await self._start_executor()
        self.dispatcher.start(await self.store.crash_report())
        await self.timers.start()

    async def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Run nothing new, commit what ends within the grace time, release the rest, close the store.

        Cancelling it ends the grace time. The store is closed in any case.
        """
        try:
            await self.quiesce(grace_seconds)
        finally:
            await finish(self._stop_at_once())

    async def _stop_at_once(self) -> None:
        """Stop whatever has been started, without grace. Does nothing after a complete stop."""
        try:
            await self.quiesce(0)
        finally:
            await self.close()

    async def quiesce(self, grace_seconds: float) -> None:
        """Run nothing new, commit what ends within the grace time, release the rest. Reads still work."""
        await self.backups.stop()
        await self.dispatcher.drain(grace_seconds)
        await self.timers.stop(grace_seconds)
        await self._stop_executor()
        self.watch.drain()

    async def close(self) -> None:
        """Finish what was accepted and close the store, after `quiesce`. May be called twice."""
        try:
            await self.runner.close()
            await self.committer.close()
            await self.replica.stop()
        finally:
            await self.store.close()

    def healthy(self) -> bool:
        """Whether this process does its work: it can write, timers fire in time, steps get their turn."""
        return not self.unhealthy_parts()

    def unhealthy_parts(self) -> tuple[str, ...]:
        """Return what does not work as it should, of ``database``, ``timers``, ``tasks`` and ``steps``."""
        healthy = {
            "database": self.store.healthy() and self.replica.healthy(),
            "timers": self.timers.healthy(),
            "tasks": self.dispatcher.healthy(),
            "steps": self.executor is None or self.executor.healthy(),
        }
        return tuple(part for part, is_healthy in healthy.items() if not is_healthy)

    async def _start_executor(self) -> None:
        code, lifespans = self._bind([workflow() for workflow in self._workflows])
        self.executor = InProcessExecutor(
            self.dispatcher,
            code,
            lifespans,
            coroutines_max=self._coroutines_max,
            threads_max=self._threads_max,
        )
        await self.executor.start()

    async def _stop_executor(self) -> None:
        if self.executor is not None:
            await self.executor.stop()

    # --- the ways into the runner ----------------------------------------------------------------------------

    def _submit(self, instance_id: str, command: commands.Command) -> asyncio.Future[Decision]:
        return self.runner.submit(instance_id, command)

    def _submit_take(
        self, instance_id: str, command: commands.TakeTask, grant: Grant
    ) -> asyncio.Future[Decision]:
        return self.runner.submit(instance_id, command, grant=grant)

    def _submit_timer(self, row: TimerRow) -> asyncio.Future[Any]:
        command = commands.FireTimer(at=self.store.now_ms(), timer=row.timer.revision, jitter=self._chance())
        guards = (TimerGuard(row.timer.revision, row.owner),)
        return self.runner.submit(row.instance_id, command, guards=guards)


class Server:
    """A core and its gRPC face, from start to drained."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._core = Core(
            open_store(config.database),
            config.workflows,
            coroutines_max=config.coroutines_max,
            threads_max=config.threads_max,
            backup_dir=config.backup_dir,
        )
        self._listen = address = parse_address(config.listen)
        credentials = server_credentials(config.tls_cert, config.tls_key, config.tls_client_ca)
        check_exposure(address, has_tls=credentials is not None, insecure=config.insecure)
        self._api = ApiServer(
            self._core.runtime, listen=address, credentials=credentials, reflect=config.reflection
        )
        self._health: asyncio.Task[None] | None = None
        self._metrics: MetricsEndpoint | None = None
        self._metrics_address: Address | None = None
        if config.metrics is not None:
            self._metrics_address = parse_address(config.metrics)
            check_metrics_exposure(self._metrics_address, insecure=config.insecure)

    @property
    def metrics_address(self) -> Address | None:
        """Where metrics are served, with the port that was taken, once started; None if nowhere."""
        return self._metrics_address

    async def start(self) -> Address:
        """Recover, listen, be ready; return the address.

        Raises `CannotListen`, where it can be told beforehand before anything is written, and what `Core.start` raises.
        """
        check_free("--listen", self._listen)
        try:
            # Before the rest, so that they tell of a long recovery too.
            self._start_metrics()
            await self._core.start()
            address = await self._api.start()
            await self._api.set_ready(ready=self._core.healthy())
        except BaseException:
            await finish(self._stop_at_once())
            raise
        self._health = asyncio.get_running_loop().create_task(self._watch_health())
        return address

    async def stop(self) -> None:
        """Drain: refuse new work, let what runs end within the grace time, release the rest, close.

        Cancelling it ends the grace time. Everything is closed in any case.
        """
        try:
            if self._health is not None:
                self._health.cancel()
            await self._api.drain()
            # The API stays up meanwhile: reads and watches tell how it goes until the end.
            await self._core.quiesce(self._config.grace_seconds)
            await self._api.stop(self._config.grace_seconds)
            await self._core.close()
            await self._stop_metrics()
        finally:
            await finish(self._stop_at_once())

    async def _stop_at_once(self) -> None:
        """Stop whatever has been started, without grace. Does nothing after a complete stop."""
        try:
            await self._api.stop(0)
        finally:
            try:
                await self._core.stop(0)
            finally:
                await self._stop_metrics()

    def _start_metrics(self) -> None:
        address = self._metrics_address
        if address is None:
            return
        # Not loaded where nobody asks for it.
        from perdure_server.readings import Parts, metrics_of
        from perdure_server.telemetry.endpoint import MetricsEndpoint
        from perdure_server.telemetry.metrics import registry_of

        core = self._core
        parts = Parts(
            api=self._api,
            runner=core.runner,
            committer=core.committer,
            timers=core.timers,
            dispatcher=core.dispatcher,
            executor=lambda: core.executor,
            replica=core.replica,
        )
        try:
            self._metrics = MetricsEndpoint(registry_of(metrics_of(parts)), address.host, address.port)
        except (OSError, UnicodeError) as error:
            raise cannot_be_had("--metrics", address) from error
        self._metrics_address = address.at(self._metrics.port)
        self._metrics.start()

    async def _stop_metrics(self) -> None:
        metrics, self._metrics = self._metrics, None
        if metrics is not None:
            await finish(asyncio.to_thread(metrics.close))

    async def _watch_health(self) -> None:
        told: tuple[str, ...] = ()
        while True:
            await asyncio.sleep(HEALTH_SECONDS)
            parts = self._core.unhealthy_parts()
            if parts != told:
                told = parts
                if parts:
                    log.error("not ready", extra={"parts": ", ".join(parts)})
                else:
                    log.info("ready again")
            await self._api.set_ready(ready=not parts)


async def serve(config: Config, on_ready: Callable[[str], None] | None = None) -> None:
    """Run a server until SIGTERM or SIGINT, then drain it. A second signal ends the process at once.

    ``on_ready`` is told the address once calls are taken, after the ready line.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            log.warning("second signal: stopping at once")
            os._exit(EXIT_STOPPED_AT_ONCE)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    server = Server(config)
    address = await server.start()
    told = {"address": str(address), "workflows": len(config.workflows)}
    if server.metrics_address is not None:
        told["metrics"] = str(server.metrics_address)
    # Before the ready line: whoever waits for that finds the rest in the log.
    log.info("started", extra=told)
    print(f"perdure listening on {address}", flush=True)
    if on_ready is not None:
        on_ready(str(address))
    await stop.wait()
    log.info("stopping", extra={"grace_seconds": config.grace_seconds})
    await server.stop()
    log.info("stopped")


def run(config: Config, on_ready: Callable[[str], None] | None = None) -> None:
    """Run `serve` on an event loop of its own, with logs on stderr.

    Raises what stops a start: a `StoreError`, `CannotListen`, `DefinitionInUse`, `LifespanFailed`, ``ValueError`` for a
    database URL.
    """
    log_to_stderr()
    gc.freeze()  # modules and classes stay for good
    gc.set_threshold(*GC_THRESHOLDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(config, on_ready))
