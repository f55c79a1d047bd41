"""The gRPC server: services, health, reflection, listening, drain. No RPC's meaning lives here."""

from __future__ import annotations

import errno
import logging
import socket
from typing import Final

import grpc
from grpc_reflection.v1alpha import reflection

from perdure_server.api import health, instance_service, runner_service, timer_service, workflow_service
from perdure_server.api.handlers import Gate
from perdure_server.api.limits import Limits
from perdure_server.runtime.service import Runtime
from perdure_server.security.listen import Address, CannotListen

log = logging.getLogger(__name__)

SERVICES: Final = (
    (runner_service.NAME, runner_service.RunnerService),
    (instance_service.NAME, instance_service.InstanceService),
    (timer_service.NAME, timer_service.TimerService),
    (workflow_service.NAME, workflow_service.WorkflowService),
)


class ApiServer:
    """One listening gRPC server over a runtime. Belongs to one event loop."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        listen: Address,
        credentials: grpc.ServerCredentials | None = None,
        reflect: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self._runtime = runtime
        self._listen = listen
        self._credentials = credentials
        self._reflect = reflect
        self._limits = limits or Limits()
        self.gate = Gate(self._limits)
        self._health = health.Health((name for name, _ in SERVICES), self.gate)
        self._server: grpc.aio.Server | None = None
        self._address: Address | None = None

    async def start(self) -> Address:
        """Answer calls, not ready yet, and return the address with its port. Raises `CannotListen`."""
        address = self._address or await self.bind()
        assert self._server is not None
        await self._server.start()
        return address

    async def bind(self) -> Address:
        """Take the address, and return it with its port; who calls there waits for `start`. Raises `CannotListen`.

        A server that cannot be reached must not leave a database behind: so this comes before the store is opened.
        """
        limits = self._limits
        server = grpc.aio.server(
            options=limits.channel_options(),
            maximum_concurrent_rpcs=limits.rpcs_max(),
        )
        for name, service in SERVICES:
            handlers = {rpc.name: rpc.handler(self.gate) for rpc in service(self._runtime).rpcs()}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(health.NAME, self._health.handlers()),)
        )
        if self._reflect:
            names = [name for name, _ in SERVICES]
            reflection.enable_server_reflection([*names, health.NAME, reflection.SERVICE_NAME], server)
        try:
            if self._credentials is None:
                port = server.add_insecure_port(str(self._listen))
            else:
                port = server.add_secure_port(str(self._listen), self._credentials)
        except RuntimeError as error:
            raise CannotListen(
                f"--listen {self._listen}: {_why_not(self._listen)}: "
                "name another address with --listen, or port 0, which takes a free one"
            ) from error
        self._server = server
        self._address = self._listen.at(port)
        return self._address

    async def set_ready(self, *, ready: bool) -> None:
        """Tell load balancers whether to send calls here."""
        self._health.set_ready(ready=ready and not self.gate.draining)

    @property
    def ready(self) -> bool:
        """Whether load balancers were told to send calls here."""
        return self._health.ready

    async def drain(self) -> None:
        """Take no new work: not ready, mutating calls and watches refused. What is under way goes on."""
        self.gate.draining = True
        await self.set_ready(ready=False)

    async def stop(self, grace_seconds: float) -> None:
        """Let calls that are under way end within the grace time, then close every connection."""
        self._health.close()
        if self._server is not None:
            await self._server.stop(grace_seconds)

    def __repr__(self) -> str:
        return f"ApiServer({self._listen})"


def _why_not(address: Address) -> str:
    """Ask the system why an address cannot be had: gRPC does not tell."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, place in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return "the address is in use; another server may be running there"
        return f"the address cannot be had; the system says {error.strerror or error}"
    return "the address cannot be had; the system does not say why"
