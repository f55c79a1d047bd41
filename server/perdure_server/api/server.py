"""The gRPC server: services, health, reflection, listening, drain. No RPC's meaning lives here."""

from __future__ import annotations

import logging
from typing import Final

import grpc
from grpc_reflection.v1alpha import reflection

from perdure_server.api import (
    health,
    instance_service,
    runner_service,
    server_service,
    timer_service,
    workflow_service,
)
from perdure_server.api.admission import AdmissionController
from perdure_server.api.limits import HEALTH_LIMITS, Limits
from perdure_server.closing import finish
from perdure_server.runtime.operations import Operations
from perdure_server.security.addresses import CannotListenError, cannot_be_had
from perdure_server.security.unix_socket import Endpoint, UnixAddress, remove_stale, restrict

log = logging.getLogger(__name__)

SERVICES: Final = (
    (runner_service.NAME, runner_service.RunnerService),
    (instance_service.NAME, instance_service.InstanceService),
    (timer_service.NAME, timer_service.TimerService),
    (workflow_service.NAME, workflow_service.WorkflowService),
    (server_service.NAME, server_service.ServerService),
)


class ApiServer:
    """One listening gRPC server over a runtime. Belongs to one event loop."""

    def __init__(
        self,
        runtime: Operations,
        *,
        listen: Endpoint,
        credentials: grpc.ServerCredentials | None = None,
        reflect: bool = False,
        limits: Limits | None = None,
        health_listen: Endpoint | None = None,
    ) -> None:
        """``health_listen`` is the address of a second listener that serves health only, without TLS."""
        self._runtime = runtime
        self._listen = listen
        self._credentials = credentials
        self._reflect = reflect
        self._limits = limits or Limits()
        self.admission = AdmissionController(self._limits)
        self._health = health.Health(name for name, _ in SERVICES)
        self._server: grpc.aio.Server | None = None
        self._health_listen = health_listen
        self._health_server: grpc.aio.Server | None = None

    @property
    def health_address(self) -> Endpoint | None:
        """Address of the health listener, with its port once `start_health` has returned. None if there is none."""
        return self._health_listen

    async def start_health(self) -> None:
        """Listen for health checks only, if there is an address for them. Raises `CannotListenError`."""
        if self._health_listen is None:
            return
        server = self._new_server(AdmissionController(HEALTH_LIMITS))
        self._health_listen = _bind(server, "--health-listen", self._health_listen, None)
        self._health_server = server
        await finish(server.start())

    async def start(self) -> Endpoint:
        """Listen, not ready yet, and return the address with its port. Raises `CannotListenError`."""
        server = self._new_server(self.admission)
        for name, service in SERVICES:
            handlers = {rpc.name: rpc.handler(self.admission) for rpc in service(self._runtime).rpcs()}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        if self._reflect:
            names = [name for name, _ in SERVICES]
            reflection.enable_server_reflection([*names, health.NAME, reflection.SERVICE_NAME], server)
        address = _bind(server, "--listen", self._listen, self._credentials)
        # Set before: a start that is cancelled holds the port until `stop`. A grpc server whose start is cut off
        # cannot be stopped any more.
        self._server = server
        await finish(server.start())
        return address

    def _new_server(self, admission: AdmissionController) -> grpc.aio.Server:
        """Return a gRPC server that has the health service."""
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
        """Tell load balancers whether to send calls here."""
        self._health.set_ready(ready=ready and not self.admission.draining)

    @property
    def ready(self) -> bool:
        """Whether load balancers were told to send calls here."""
        return self._health.ready

    async def drain(self) -> None:
        """Take no new work: not ready, mutating calls and watches refused. What is under way goes on."""
        self.admission.draining = True
        await self.set_ready(ready=False)

    async def stop(self, shutdown_timeout_seconds: float) -> None:
        """Let calls that are under way end within the grace time, then close every connection."""
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
    server: grpc.aio.Server, option: str, endpoint: Endpoint, credentials: grpc.ServerCredentials | None
) -> Endpoint:
    """Bind a gRPC server to an address and return it with its port. Raises `CannotListenError`."""
    remove_stale(option, endpoint)
    try:
        if credentials is None:
            port = server.add_insecure_port(str(endpoint))
        else:
            port = server.add_secure_port(str(endpoint), credentials)
    except RuntimeError as error:
        # gRPC does not say why.
        if isinstance(endpoint, UnixAddress):
            raise CannotListenError(
                f"{option} {endpoint}: the socket cannot be bound; name another path"
            ) from error
        raise cannot_be_had(option, endpoint) from error
    restrict(endpoint)
    return endpoint.at(port)
