"""The health service ``grpc.health.v1``.

`LIVENESS` reports if the process runs. All other names report if the server is ready for calls.

gRPC's own servicer is not used, because it waits for its slowest watcher and does not limit the number of watchers. One
client that stops reading would hold up a drain.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, cast

import grpc
from grpc_health.v1 import health_pb2

from perdure_server.api.admission import AdmissionController
from perdure_server.api.call import Transport
from perdure_server.api.errors import RequestTimeoutError
from perdure_server.api.grpc_adapter import Context, Requests, abort
from perdure_server.api.pipeline.decode import decoder
from perdure_server.api.pipeline.errors import response_for
from perdure_server.api.pipeline.read import reader
from perdure_server.runtime.errors import ServerOverloadedError
from perdure_server.runtime.request_validation import InvalidRequestError

NAME: Final = "grpc.health.v1.Health"
LIVENESS: Final = "liveness"
"""Name that is SERVING as long as the process responds."""

_decode: Final = decoder(health_pb2.HealthCheckRequest)
_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN: Final = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """The health of the services ``names`` and of the whole server (the empty name). All of them are ready together."""

    def __init__(self, names: Iterable[str]) -> None:
        self._readiness = frozenset(["", *names])
        self._ready = False
        self._closed = False
        self._changes: set[asyncio.Event] = set()

    def set_ready(self, *, ready: bool) -> None:
        """Set the readiness, and report a change to all watchers."""
        if ready != self._ready:
            self._ready = ready
            self._notify()

    @property
    def ready(self) -> bool:
        """The readiness that was set last. False at first."""
        return self._ready

    def close(self) -> None:
        """End all watches."""
        self._closed = True
        self._notify()

    def handlers(self, admission: AdmissionController) -> dict[str, Any]:
        """Return the handlers for a gRPC server. Each listener has an admission controller of its own."""

        async def check(_: Requests, context: Context) -> bytes:
            return await self._check(context, admission)

        async def watch(_: Requests, context: Context) -> None:
            await self._watch(context, admission)

        return {
            "Check": grpc.stream_unary_rpc_method_handler(check),
            "Watch": grpc.stream_stream_rpc_method_handler(watch),
        }

    def _notify(self) -> None:
        for change in self._changes:
            change.set()

    def _status(self, service: str) -> Any:
        if service == LIVENESS:
            return _SERVING
        if service in self._readiness:
            return _SERVING if self._ready else _NOT_SERVING
        return None

    async def _check(self, context: Context, admission: AdmissionController) -> bytes:
        status = self._status(await _requested_service(context, admission))
        if status is None:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, "unknown service; use '' for the health of the whole server"
            )
        return health_pb2.HealthCheckResponse(status=status).SerializeToString()

    async def _watch(self, context: Context, admission: AdmissionController) -> None:
        service = await _requested_service(context, admission)
        peer = admission.peer_of(context.peer())
        if self._closed or not admission.acquire_health_watch(peer):
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "too many health watches; call Check instead"
            )
        change = asyncio.Event()
        self._changes.add(change)
        sent = None
        try:
            while not self._closed:
                change.clear()
                status = self._status(service)
                if status is None:
                    status = _UNKNOWN
                if status != sent:
                    async with asyncio.timeout(admission.limits.watch_write_seconds):
                        await context.write(health_pb2.HealthCheckResponse(status=status).SerializeToString())
                    sent = status
                await change.wait()
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the watch was unread for too long")
        finally:
            self._changes.discard(change)
            admission.release_health_watch(peer)


async def _requested_service(context: Context, admission: AdmissionController) -> str:
    """Return the name in a request. Ends the call if there is none."""
    try:
        body = await reader(admission)(cast("Transport", context), admission.peer_of(context.peer()))
        request = _decode(body)
    except (RequestTimeoutError, InvalidRequestError, ServerOverloadedError) as error:
        await abort(context, response_for(error))
        raise AssertionError("abort returned") from None
    service: str = request.service
    return service
