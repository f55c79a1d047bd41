"""The gRPC server: services, health, reflection, listeners and drain."""

from __future__ import annotations

import logging

import grpc
from grpc_reflection.v1alpha import reflection

from perdure_server.api import grpc_adapter, health
from perdure_server.api.admission import AdmissionController
from perdure_server.api.endpoint import SERVICES, Endpoint
from perdure_server.api.limits import HEALTH_LIMITS, Limits
from perdure_server.closing import finish
from perdure_server.runtime.operations import Operations
from perdure_server.security.addresses import CannotListenError, cannot_listen
from perdure_server.security.unix_socket import Endpoint as ListenAddress
from perdure_server.security.unix_socket import UnixAddress, remove_stale, restrict

log = logging.getLogger(__name__)


class ApiServer:
    """A gRPC server over a runtime. Belongs to one event loop."""

    def __init__(
        self,
        runtime: Operations,
        *,
        listen: ListenAddress,
        credentials: grpc.ServerCredentials | None = None,
        reflect: bool = False,
        limits: Limits | None = None,
        health_listen: ListenAddress | None = None,
    ) -> None:
        """``health_listen`` is the address of a second listener that serves health checks only, without TLS."""
        self._listen = listen
        self._credentials = credentials
        self._reflect = reflect
        self.admission = AdmissionController(limits or Limits())
        self.endpoint = Endpoint(runtime, self.admission)
        self._health = health.Health(name for name, _ in SERVICES)
        self._server: grpc.aio.Server | None = None
        self._health_listen = health_listen
        self._health_server: grpc.aio.Server | None = None

    @property
    def health_address(self) -> ListenAddress | None:
        """Address of the health listener, with its port once `start_health` has returned. None if there is none."""
        return self._health_listen

    async def start_health(self) -> None:
        """Start the health listener, if it has an address. Raises `CannotListenError`."""
        if self._health_listen is None:
            return
        server = self._new_server(AdmissionController(HEALTH_LIMITS))
        self._health_listen = _bind(server, "--health-listen", self._health_listen, None)
        self._health_server = server
        await finish(server.start())

    async def start(self) -> ListenAddress:
        """Start to listen, not ready yet. Returns the address with its port. Raises `CannotListenError`."""
        server = self._new_server(self.admission)
        server.add_generic_rpc_handlers(grpc_adapter.generic_handlers(self.endpoint))
        if self._reflect:
            names = [name for name, _ in SERVICES]
            reflection.enable_server_reflection([*names, health.NAME, reflection.SERVICE_NAME], server)
        address = _bind(server, "--listen", self._listen, self._credentials)
        # Set first, so that `stop` releases the port if the start is cancelled. The start itself always finishes,
        # since a gRPC server cannot be stopped after its start was interrupted.
        self._server = server
        await finish(server.start())
        return address

    def _new_server(self, admission: AdmissionController) -> grpc.aio.Server:
        """Return a gRPC server with the health service."""
        limits = admission.limits
        server = grpc.aio.server(
            options=limits.channel_options(),
            maximum_concurrent_rpcs=limits.rpcs_max(),
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(health.NAME, self._health.handlers(admission)),)
        )
        return server

    async def set_ready(self, *, ready: bool) -> None:
        """Set the readiness that health checks report. A draining server is never ready."""
        self._health.set_ready(ready=ready and not self.admission.draining)

    @property
    def ready(self) -> bool:
        """True if health checks report that the server is ready."""
        return self._health.ready

    async def drain(self) -> None:
        """Become not ready, and reject writes and new watches. Calls in progress continue."""
        self.admission.draining = True
        await self.set_ready(ready=False)

    async def stop(self, shutdown_timeout_seconds: float) -> None:
        """Let calls in progress end within the shutdown timeout, then close every connection."""
        self._health.close()
        if self._server is not None:
            await self._server.stop(shutdown_timeout_seconds)
        await self.stop_health()

    async def stop_health(self) -> None:
        """Close the health listener."""
        if self._health_server is not None:
            await self._health_server.stop(0)

    def __repr__(self) -> str:
        return f"ApiServer({self._listen})"


def _bind(
    server: grpc.aio.Server, option: str, endpoint: ListenAddress, credentials: grpc.ServerCredentials | None
) -> ListenAddress:
    """Bind a gRPC server to an address and return it with its port. Raises `CannotListenError`."""
    remove_stale(option, endpoint)
    try:
        if credentials is None:
            port = server.add_insecure_port(str(endpoint))
        else:
            port = server.add_secure_port(str(endpoint), credentials)
    except RuntimeError as error:
        # gRPC does not report the cause.
        if isinstance(endpoint, UnixAddress):
            raise CannotListenError(
                f"{option} {endpoint}: the socket cannot be bound", hint="use another path"
            ) from error
        raise cannot_listen(option, endpoint) from error
    restrict(endpoint)
    return endpoint.at(port)
