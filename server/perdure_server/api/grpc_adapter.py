"""The gRPC transport of the endpoint: handlers for a gRPC server.

Handlers are registered on raw bytes. gRPC's own deserialiser responds to bytes that it cannot decode with UNKNOWN and
the name of a Python class. They are registered as if the client streamed, so that gRPC starts a call as soon as its
headers have arrived. This allows the server to end calls whose request never arrives, and costs nothing.

Owns: gRPC's context of a call (the health service has its own handlers). Must not: know a method.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any, TypeAlias, cast

import grpc

from perdure.model.constants import STATUS_DETAILS_KEY
from perdure_server.api.admission import AdmissionController
from perdure_server.api.call import CallContext, ClientGoneError
from perdure_server.api.endpoint import BoundMethod, Endpoint
from perdure_server.api.errors import CallFailedError, ErrorResponse
from perdure_server.api.methods import Kind
from perdure_server.api.status import status_of

Requests: TypeAlias = AsyncIterator[bytes]
Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]


def generic_handlers(endpoint: Endpoint) -> list[grpc.GenericRpcHandler]:
    """Return a handler for each service of the endpoint."""
    return [
        grpc.method_handlers_generic_handler(
            service, {name: _handler(method, endpoint.admission) for name, method in methods.items()}
        )
        for service, methods in endpoint.services.items()
    ]


def _handler(method: BoundMethod, admission: AdmissionController) -> Any:
    run = method.run

    async def unary(_: Requests, context: Any) -> Any:
        # gRPC's context has the methods of a `Transport`.
        try:
            seconds_left = context.time_remaining()
            deadline = None if seconds_left is None else monotonic() + seconds_left
            peer = admission.peer_of(context.peer())
            return await run(context, peer, CallContext("", "", deadline, ""))
        except CallFailedError as failed:
            response = failed.response
        # Outside of the handler, because gRPC keeps this exception and its context in a cycle with the call.
        await abort(context, response)
        raise AssertionError("abort returned")

    async def stream(_: Requests, context: Any) -> None:
        try:
            seconds_left = context.time_remaining()
            deadline = None if seconds_left is None else monotonic() + seconds_left
            peer = admission.peer_of(context.peer())
            await run(_StreamTransport(context), peer, CallContext(deadline=deadline))
            return
        except ClientGoneError:
            return
        except CallFailedError as failed:
            response = failed.response
        await abort(context, response)

    if method.kind is Kind.STREAM:
        return grpc.stream_stream_rpc_method_handler(stream)
    return grpc.stream_unary_rpc_method_handler(unary)


class _StreamTransport:
    """The transport of a stream."""

    __slots__ = ("_context", "add_done_callback", "read")

    def __init__(self, context: Context) -> None:
        self._context = context
        self.read = context.read
        self.add_done_callback = cast("Callable[[Callable[[Any], None]], None]", context.add_done_callback)

    async def write(self, message: bytes) -> None:
        try:
            await self._context.write(message)
        except grpc.aio.InternalError as error:
            raise ClientGoneError from error


async def abort(context: Context, response: ErrorResponse) -> None:
    """End a call with an error. Raises gRPC's exception for this, and does not return."""
    code = grpc.StatusCode[response.code.name]
    if not response.reason:
        await context.abort(code, response.message)
    status = status_of(response)
    await context.abort(
        code, status.message, trailing_metadata=((STATUS_DETAILS_KEY, status.SerializeToString()),)
    )
