"""A core and its gRPC server in this process, with a real channel to them. Errors have all their details."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from perdure import Workflow
from perdure.model.constants import STATUS_DETAILS_KEY
from perdure.v1 import instance_service_pb2, runner_service_pb2, timer_service_pb2, workflow_service_pb2
from perdure_server.api.limits import Limits
from perdure_server.api.server import ApiServer
from perdure_server.core import Core
from perdure_server.security.addresses import Address
from perdure_server.store.protocol import Store
from perdure_server.store.sqlite import SqliteStore

METHODS: Final[dict[str, MethodDescriptor]] = {
    method.name: method
    for module in (runner_service_pb2, instance_service_pb2, timer_service_pb2, workflow_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
"""The methods of perdure.v1 by their name, without ServerService."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallError:
    """An error as a client sees it. It has no reason if gRPC itself rejected the call."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    """The metadata of ErrorInfo, without detail and hint."""
    detail: str = ""
    hint: str = ""
    violations: dict[str, str] = field(default_factory=dict)
    resource: tuple[str, str] = ("", "")
    preconditions: tuple[str, ...] = ()
    retry_after_ms: int = 0
    details_bytes: int = 0

    @property
    def what(self) -> tuple[str, str]:
        """The status and the reason."""
        return self.code.name, self.reason


def call_error(error: grpc.aio.AioRpcError) -> CallError:
    """Return an error with all its details."""
    body = dict(error.trailing_metadata() or ()).get(STATUS_DETAILS_KEY, b"")
    status = status_pb2.Status.FromString(body)
    found: dict[str, Any] = {}
    for packed in status.details:
        name = packed.TypeName()
        detail = getattr(error_details_pb2, name.rpartition(".")[2])()
        assert packed.Unpack(detail)
        match name:
            case "google.rpc.ErrorInfo":
                assert detail.domain == "perdure"
                metadata = dict(detail.metadata)
                found |= {key: metadata.pop(key, "") for key in ("detail", "hint")}
                found |= {"reason": detail.reason, "metadata": metadata}
            case "google.rpc.BadRequest":
                found["violations"] = {v.field: v.description for v in detail.field_violations}
            case "google.rpc.ResourceInfo":
                found["resource"] = (detail.resource_type, detail.resource_name)
            case "google.rpc.PreconditionFailure":
                found["preconditions"] = tuple(v.subject for v in detail.violations)
            case "google.rpc.RetryInfo":
                found["retry_after_ms"] = detail.retry_delay.ToMilliseconds()
            case _:
                raise AssertionError(f"unexpected detail: {name}")
    if body:
        assert status.code == error.code().value[0]
        assert status.message == error.details()
    return CallError(code=error.code(), message=error.details() or "", details_bytes=len(body), **found)


@dataclass
class ApiWorld:
    """A served core, and the channel to it."""

    core: Core
    api: ApiServer
    address: str
    channel: grpc.aio.Channel

    async def call(self, rpc: str, request: Message | bytes, *, timeout: float | None = 20.0) -> Any:
        """Call a method. Returns its response, the list of responses of a stream, or a `CallError`."""
        method = METHODS[rpc]
        path = f"/{method.containing_service.full_name}/{rpc}"
        body = request if isinstance(request, bytes) else request.SerializeToString()
        response = GetMessageClass(method.output_type)
        try:
            if method.server_streaming:
                stream = self.channel.unary_stream(path)(body, timeout=timeout)
                return [response.FromString(item) async for item in stream]
            return response.FromString(await self.channel.unary_unary(path)(body, timeout=timeout))
        except grpc.aio.AioRpcError as error:
            return call_error(error)

    async def start(self, workflow: str, instance_id: str = "", **opts: Any) -> Any:
        """Call StartInstance."""
        request = runner_service_pb2.StartInstanceRequest(
            workflow=workflow,
            opts=runner_service_pb2.StartOptions(instance_id=instance_id, **opts),
        )
        return await self.call("StartInstance", request)


@contextlib.asynccontextmanager
async def serving(
    workflows: Sequence[type[Workflow]] = (),
    *,
    store: Store | None = None,
    limits: Limits | None = None,
    options: Sequence[tuple[str, Any]] = (),
    **api: Any,
) -> AsyncIterator[ApiWorld]:
    """Serve workflows on a free loopback port. ``options`` are the channel arguments of the client."""
    core = Core(store or SqliteStore(None), workflows)
    await core.start()
    server = ApiServer(core.operations, listen=Address("127.0.0.1", 0), limits=limits, **api)
    await server.start_health()
    address = str(await server.start())
    await server.set_ready(ready=True)
    async with grpc.aio.insecure_channel(address, options=list(options)) as channel:
        try:
            yield ApiWorld(core, server, address, channel)
        finally:
            await server.drain()
            await core.quiesce(1)
            await server.stop(1)
            await core.close()
