"""A server put together: the one place where every part meets the others.

`Core` is everything but the faces: store, runner, timers, executors. It runs workflows in any process, with or without
gRPC (`serve` and `perdure_server.testing` stand on it). What lives here: construction, start, stop, in order. What may
not: rules of any part.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import uvloop

from perdure import Workflow, graph_of
from perdure_server.api.server import ApiServer
from perdure_server.config import ASYNC_STEPS_MAX, SHUTDOWN_TIMEOUT_SECONDS, SYNC_STEPS_MAX, Config
from perdure_server.engine import commands
from perdure_server.engine.commands import Grant
from perdure_server.engine.decide import Decision
from perdure_server.executors.in_process import Bind, InProcessExecutor, bind
from perdure_server.process.forks import FORKS
from perdure_server.process.host import EXIT_STOPPED, Host
from perdure_server.runtime.backups import Backups, backup_directory
from perdure_server.runtime.clock import SYSTEM_CHANCE, SYSTEM_CLOCK, Chance, Clock
from perdure_server.runtime.command_processor import Runner
from perdure_server.runtime.definitions import Definitions
from perdure_server.runtime.dispatcher import Dispatcher
from perdure_server.runtime.missing_code import MissingCode
from perdure_server.runtime.operations import Operations
from perdure_server.runtime.replica import LEASE_MS, Replica
from perdure_server.runtime.watch import WatchHub
from perdure_server.security.addresses import (
    Address,
    cannot_listen,
    parse_address,
)
from perdure_server.security.certificates import CHECK_SECONDS, Certificates
from perdure_server.security.tls import (
    check_exposure,
    check_health_exposure,
    check_metrics_exposure,
    load_certificates,
)
from perdure_server.security.unix_socket import Endpoint, check_available, parse_endpoint
from perdure_server.store.closing import finish
from perdure_server.store.factory import open_store
from perdure_server.store.group_commit import GroupCommitter
from perdure_server.store.protocol import Store, TimerGuard, TimerRow
from perdure_server.timers.apscheduler_adapter import ApschedulerAdapter
from perdure_server.timers.scheduler import TimerScheduler
from perdure_server.timers.window import WINDOW_MS, TimerWindow

if TYPE_CHECKING:
    from perdure_server.telemetry.metrics_server import MetricsEndpoint

log = logging.getLogger(__name__)

HEALTH_SECONDS: Final = 0.5
"""How often readiness is looked at: what stops is noticed within a second."""

START_CANCEL_SECONDS_MAX: Final = 5.0
"""Maximum time that a start that was interrupted by a signal has to undo what it did."""


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
        max_async_steps: int = ASYNC_STEPS_MAX,
        max_sync_steps: int = SYNC_STEPS_MAX,
        alarm: TimerScheduler | None = None,
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
        self._max_async_steps = max_async_steps
        self._max_sync_steps = max_sync_steps
        self._chance = chance
        self._bind = bind
        self.replica = Replica(store, lease_ms=lease_ms)
        self.committer = GroupCommitter(store)
        self.definitions = Definitions(store)
        self.watch = WatchHub(store)
        self.dispatcher = Dispatcher(store, self._submit, self._submit_take, self.replica.id, chance=chance)
        self.timers = TimerWindow(
            store,
            alarm or ApschedulerAdapter(),
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
        self.runtime = Operations(
            store=store,
            backups=self.backups,
            runner=self.runner,
            definitions=self.definitions,
            watch=self.watch,
            has_code=self.dispatcher.has_code,
            chance=chance,
        )
        self.missing_code = MissingCode(store, self.definitions, self.dispatcher.has_code)
        self.executor: InProcessExecutor | None = None

    async def start(self) -> None:
        """Open the store, register the definitions, recover what is due, begin to run.

        Raises a `StoreError` where the database cannot be had, and `DefinitionInUseError`.
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
            self.runner.unconsumed.of(graph.name)
            self.missing_code.serve(graph.name, graph.version)
            self.dispatcher.ended.of(graph.name)
            self.dispatcher.lost.of(graph.name)
        await self.replica.start()
        self.replica.on_new_id(self.dispatcher.replica_changed)
        self.replica.on_new_id(self.timers.replica_changed)
        if self._workflows:
            await self._start_executor()
        self.dispatcher.start(await self.store.crash_report())
        await self.timers.start()
        await self.missing_code.start()

    async def stop(self, shutdown_timeout_seconds: float = SHUTDOWN_TIMEOUT_SECONDS) -> None:
        """Run nothing new, commit what ends within the grace time, release the rest, close the store.

        Cancelling it ends the grace time. The store is closed in any case.
        """
        try:
            await self.quiesce(shutdown_timeout_seconds)
        finally:
            await finish(self._stop_at_once())

    async def _stop_at_once(self) -> None:
        """Stop whatever has been started, without grace. Does nothing after a complete stop."""
        try:
            await self.quiesce(0)
        finally:
            await self.close()

    async def quiesce(self, shutdown_timeout_seconds: float) -> None:
        """Run nothing new, commit what ends within the grace time, release the rest. Reads still work."""
        await self.backups.stop()
        await self.missing_code.stop()
        await self.dispatcher.drain(shutdown_timeout_seconds)
        await self.timers.stop(shutdown_timeout_seconds)
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
            max_async_steps=self._max_async_steps,
            max_sync_steps=self._max_sync_steps,
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

    def __init__(self, config: Config, host: Host | None = None) -> None:
        """``host`` is the process if it is the server's own. Its metrics are served then."""
        self._config = config
        self._core = Core(
            open_store(config.database),
            config.workflows,
            max_async_steps=config.max_async_steps,
            max_sync_steps=config.max_sync_steps,
            backup_dir=config.backup_dir,
        )
        self._listen = address = parse_endpoint(config.listen)
        health_listen = parse_endpoint(config.health_listen) if config.health_listen is not None else None
        if isinstance(health_listen, Address):
            check_health_exposure(health_listen, insecure=config.insecure)
        self._certificates = load_certificates(config.tls_cert, config.tls_key, config.tls_client_ca)
        if isinstance(address, Address):
            check_exposure(address, has_tls=self.has_tls, insecure=config.insecure)
        self._api = ApiServer(
            self._core.runtime,
            listen=address,
            credentials=self._certificates.credentials() if self._certificates else None,
            reflect=config.reflection,
            health_listen=health_listen,
        )
        self._host = host
        self._reload = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._metrics: MetricsEndpoint | None = None
        self._metrics_address: Address | None = None
        if config.metrics_listen is not None:
            self._metrics_address = parse_address(config.metrics_listen)
            check_metrics_exposure(self._metrics_address, insecure=config.insecure)

    @property
    def has_tls(self) -> bool:
        """True if the API is served over TLS."""
        return self._certificates is not None

    def reload_certificates(self) -> None:
        """Look at the TLS files now. Belongs to the server's loop, and returns at once."""
        self._reload.set()

    @property
    def metrics_address(self) -> Address | None:
        """Where metrics are served, with the port that was taken, once started; None if nowhere."""
        return self._metrics_address

    @property
    def health_address(self) -> Endpoint | None:
        """Address of the health listener, with its port once started. None if there is none."""
        return self._api.health_address

    async def start(self) -> Endpoint:
        """Recover, listen, be ready; return the address.

        Raises `CannotListenError`, where it can be told beforehand before anything is written, and what `Core.start`
        raises.
        """
        check_available("--listen", self._listen)
        try:
            # Before the rest, so that they tell of a long recovery too.
            self._start_metrics()
            await self._api.start_health()
            # Before code of users runs, which can fork: a child must not keep the listeners.
            _own(self._metrics_address, self.health_address, self._listen)
            await self._core.start()
            address = await self._api.start()
            _own(address)
            await self._api.set_ready(ready=self._core.healthy())
        except BaseException:
            await finish(self._stop_at_once())
            raise
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self._watch_health()))
        if self._certificates is not None:
            self._certificates.warn()
            self._tasks.append(loop.create_task(self._watch_certificates(self._certificates)))
        return address

    async def stop(self) -> None:
        """Drain: reject new work, let what runs end within the grace time, release the rest, close.

        Cancelling it ends the grace time. Everything is closed in any case.
        """
        try:
            for task in self._tasks:
                task.cancel()
            await self._api.drain()
            # The API stays up meanwhile: reads and watches tell how it goes until the end.
            await self._core.quiesce(self._config.shutdown_timeout_seconds)
            await self._api.stop(self._config.shutdown_timeout_seconds)
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
        from perdure_server.metrics import Parts, metrics_of
        from perdure_server.telemetry.metrics_server import MetricsEndpoint
        from perdure_server.telemetry.prometheus import registry_of

        core = self._core
        parts = Parts(
            api=self._api,
            runner=core.runner,
            committer=core.committer,
            timers=core.timers,
            dispatcher=core.dispatcher,
            executor=lambda: core.executor,
            replica=core.replica,
            missing_code=core.missing_code,
            certificates=self._certificates,
            output=None if self._host is None else self._host.output,
        )
        try:
            self._metrics = MetricsEndpoint(registry_of(metrics_of(parts)), address.host, address.port)
        except (OSError, UnicodeError) as error:
            raise cannot_listen("--metrics-listen", address) from error
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

    async def _watch_certificates(self, certificates: Certificates) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._reload.wait()
            self._reload.clear()
            try:
                await asyncio.to_thread(certificates.refresh)
            except Exception:  # the next look must come
                log.exception("TLS files not checked")


def _own(*endpoints: Endpoint | None) -> None:
    """Close the sockets of these addresses in every forked child. Port 0 is not an address yet."""
    for endpoint in endpoints:
        if isinstance(endpoint, Address):
            if endpoint.port:
                FORKS.own(endpoint.port)
        elif endpoint is not None:
            FORKS.own(endpoint.path)


async def serve(config: Config, host: Host, on_ready: Callable[[str], None] | None = None) -> None:
    """Run a server until a signal stops it, then drain it.

    A signal that comes before the server is ready undoes the start. SIGHUP reloads the certificates, and stops a
    server without TLS or whose terminal was closed. ``on_ready`` is called with the address once calls are taken,
    after the ready line.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = host.signals
    server = Server(config, host)

    def on_hangup(terminal_closed: bool) -> None:
        if server.has_tls and not terminal_closed:
            loop.call_soon_threadsafe(server.reload_certificates)
        elif not signals.ignores_hangup:
            signals.stop()

    signals.on_hangup = on_hangup
    signals.on_stop = functools.partial(_call_on, loop, stop.set)
    stopped = loop.create_task(stop.wait())
    starting = loop.create_task(server.start())
    await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        log.info("stopping", extra={"shutdown_timeout_seconds": 0.0})
        starting.cancel()
        await asyncio.wait((starting,), timeout=START_CANCEL_SECONDS_MAX)
        log.info("stopped")
        return
    address = starting.result()
    told = {"address": str(address), "workflows": len(config.workflows)}
    if server.metrics_address is not None:
        told["metrics"] = str(server.metrics_address)
    if server.health_address is not None:
        told["health"] = str(server.health_address)
    # Before the ready line: whoever waits for that finds the rest in the log.
    log.info("started", extra=told)
    host.output.print_line(f"perdure listening on {address}")
    if on_ready is not None:
        on_ready(str(address))
    await stopped
    log.info("stopping", extra={"shutdown_timeout_seconds": config.shutdown_timeout_seconds})
    await server.stop()
    log.info("stopped")


def _call_on(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    loop.call_soon_threadsafe(callback)


def run(config: Config, host: Host, on_ready: Callable[[str], None] | None = None) -> NoReturn:
    """Run `serve` and end the process right after it.

    The server's event loop has a thread of its own, and the main thread waits. Raises what stops a start: a
    `StoreError`, `CannotListenError`, `DefinitionInUseError`, `LifespanError`, ``ValueError`` for a database URL.
    """
    failures: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    async def main() -> None:
        try:
            await serve(config, host, on_ready)
            host.end(EXIT_STOPPED)
        except BaseException as error:  # noqa: BLE001 - raised again, in the main thread, which ends the process
            failures.put(error)
        # The loop never ends by itself: its end would join threads that can be busy for long.
        await asyncio.get_running_loop().create_future()

    def run_loop() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())

    threading.Thread(target=run_loop, name="perdure-server", daemon=True).start()
    raise failures.get()
