"""A server process: the core, the API, health, metrics and certificates, from start to stop.

Owns: construction, and the order of start and stop. Must not: own a rule of any part.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn

import uvloop

from perdure_server.api.server import ApiServer
from perdure_server.closing import finish
from perdure_server.config import Config
from perdure_server.core import Core
from perdure_server.process.forks import FORKS
from perdure_server.process.host import EXIT_STOPPED, Host
from perdure_server.runtime.background import BackgroundLoop
from perdure_server.security.addresses import (
    Address,
    cannot_be_had,
    check_exposure,
    check_health_exposure,
    check_metrics_exposure,
    load_certificates,
    parse_address,
)
from perdure_server.security.certificates import CHECK_SECONDS
from perdure_server.security.unix_socket import Endpoint, check_available, parse_endpoint
from perdure_server.store.factory import open_store

if TYPE_CHECKING:
    from perdure_server.telemetry.metrics_server import MetricsEndpoint

log = logging.getLogger(__name__)

HEALTH_SECONDS: Final = 0.5
"""Interval of the readiness check, in seconds. A part that stops is noticed within a second."""

START_CANCEL_SECONDS_MAX: Final = 5.0
"""Maximum time for the cleanup of a start that a signal interrupted, in seconds."""


class Server:
    """A core and its gRPC API, from start to stop."""

    def __init__(self, config: Config, host: Host | None = None) -> None:
        """``host`` is the process, if it belongs to the server. Its metrics are exported in that case."""
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
            self._core.operations,
            listen=address,
            credentials=self._certificates.credentials() if self._certificates else None,
            reflect=config.reflection,
            health_listen=health_listen,
        )
        self._host = host
        self._unhealthy: tuple[str, ...] = ()
        self._health_loop = BackgroundLoop(
            log,
            "health check failed",
            self._check_health,
            name="perdure-health",
            interval_seconds=HEALTH_SECONDS,
        )
        self._certificate_loop = BackgroundLoop(
            log,
            "TLS certificate check failed",
            self._check_certificates,
            name="perdure-certificates",
            interval_seconds=CHECK_SECONDS,
        )
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
        """Check the TLS files now. Call it on the server's event loop. Returns at once."""
        self._certificate_loop.wake()

    @property
    def metrics_address(self) -> Address | None:
        """Address of the metrics, with its port once started. None if they are not served."""
        return self._metrics_address

    @property
    def health_address(self) -> Endpoint | None:
        """Address of the health listener, with its port once started. None if there is none."""
        return self._api.health_address

    async def start(self) -> Endpoint:
        """Recover, listen, become ready, and return the address.

        Raises `CannotListenError`, if possible before the database is opened, and the errors of `Core.start`.
        """
        check_available("--listen", self._listen)
        try:
            # Before the rest, so that metrics and health are available during a long recovery.
            self._start_metrics()
            await self._api.start_health()
            # Before user code runs, which can fork: a child must not keep the listeners.
            _own(self._metrics_address, self.health_address, self._listen)
            await self._core.start()
            address = await self._api.start()
            _own(address)
            await self._api.set_ready(ready=self._core.healthy())
        except BaseException:
            await finish(self._stop_at_once())
            raise
        self._health_loop.start()
        if self._certificates is not None:
            self._certificates.warn()
            self._certificate_loop.start()
        return address

    async def stop(self) -> None:
        """Reject new work, wait for running steps up to the shutdown timeout, release the rest, and close.

        Cancelling it ends the wait. Everything is closed in any case.
        """
        try:
            await self._health_loop.stop()
            await self._certificate_loop.stop()
            await self._api.drain()
            # The API stays up meanwhile: reads and watches work until the end.
            await self._core.quiesce(self._config.shutdown_timeout_seconds)
            await self._api.stop(self._config.shutdown_timeout_seconds)
            await self._core.close()
            await self._stop_metrics()
        finally:
            await finish(self._stop_at_once())

    async def _stop_at_once(self) -> None:
        """Stop everything that was started, without waiting. Does nothing after a complete stop."""
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
        # Imported only if metrics are enabled.
        from perdure_server.metrics import Parts, metrics_of
        from perdure_server.telemetry.metrics_server import MetricsEndpoint
        from perdure_server.telemetry.prometheus import registry_of

        core = self._core
        parts = Parts(
            api=self._api,
            processor=core.processor,
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
            raise cannot_be_had("--metrics-listen", address) from error
        self._metrics_address = address.at(self._metrics.port)
        self._metrics.start()

    async def _stop_metrics(self) -> None:
        metrics, self._metrics = self._metrics, None
        if metrics is not None:
            await finish(asyncio.to_thread(metrics.close))

    async def _check_health(self) -> None:
        parts = self._core.unhealthy_parts()
        if parts != self._unhealthy:
            self._unhealthy = parts
            if parts:
                log.error("not ready", extra={"parts": ", ".join(parts)})
            else:
                log.info("ready again")
        await self._api.set_ready(ready=not parts)

    async def _check_certificates(self) -> None:
        if self._certificates is not None:
            await asyncio.to_thread(self._certificates.refresh)


def _own(*endpoints: Endpoint | None) -> None:
    """Close the sockets of these addresses in every forked child. Port 0 is not an address yet."""
    for endpoint in endpoints:
        if isinstance(endpoint, Address):
            if endpoint.port:
                FORKS.own(endpoint.port)
        elif endpoint is not None:
            FORKS.own(endpoint.path)


async def serve(config: Config, host: Host, on_ready: Callable[[str], None] | None = None) -> None:
    """Run a server until a signal stops it.

    A signal before the server is ready cancels the start. SIGHUP reloads the certificates. It stops a server without
    TLS, or whose terminal was closed. ``on_ready`` is called with the address after the ready line.
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
    extra: dict[str, object] = {"address": str(address), "workflows": len(config.workflows)}
    if server.metrics_address is not None:
        extra["metrics"] = str(server.metrics_address)
    if server.health_address is not None:
        extra["health"] = str(server.health_address)
    # Before the ready line, so that the log is complete when it is printed.
    log.info("started", extra=extra)
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
    """Run `serve` and end the process after it.

    The server's event loop has its own thread, and the main thread waits. A failed start raises a `StoreError`,
    `CannotListenError`, `DefinitionInUseError`, `LifespanError`, or ``ValueError`` for an invalid database URL.
    """
    failures: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    async def main() -> None:
        try:
            await serve(config, host, on_ready)
            host.end(EXIT_STOPPED)
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread, which ends the process
            failures.put(error)
        # The event loop never ends by itself, because its end would join threads that can be busy for long.
        await asyncio.get_running_loop().create_future()

    def run_loop() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())

    threading.Thread(target=run_loop, name="perdure-server", daemon=True).start()
    raise failures.get()
