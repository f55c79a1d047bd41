"""``grpc.health.v1``: whether this process lives (`LIVENESS`), and whether calls should be sent here (all other names).

It stands here because the servicer that grpc ships waits for its slowest watcher, so that one client that stops
reading would hold up a drain, and lets in any number of them. Messages are waited for and parsed as in ``handlers``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from perdure_server.api.admission import AdmissionController, Peer
from perdure_server.api.handlers import Context, Requests, SilentCallError, read_message, refuse
from perdure_server.runtime.errors import ServerOverloadedError
from perdure_server.runtime.request_validation import InvalidRequestError

NAME: Final = "grpc.health.v1.Health"
LIVENESS: Final = "liveness"
"""SERVING for as long as the process answers at all; the other names tell readiness."""

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN: Final = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """The health of the services ``names`` and of the whole (the empty name), which are ready together."""

    def __init__(self, names: Iterable[str]) -> None:
        self._readiness = frozenset(["", *names])
        self._ready = False
        self._closed = False
        self._changes: set[asyncio.Event] = set()

    def set_ready(self, *, ready: bool) -> None:
        """Tell everybody who asks, and everybody who watches."""
        if ready != self._ready:
            self._ready = ready
            self._tell()

    @property
    def ready(self) -> bool:
        """What was told last."""
        return self._ready

    def close(self) -> None:
        """End the watches."""
        self._closed = True
        self._tell()

    def handlers(self, admission: AdmissionController) -> dict[str, Any]:
        """Return the handlers for a gRPC server with this admission. Each listener has a admission of its own."""

        async def check(_: Requests, context: Context) -> bytes:
            return await self._check(context, admission, admission.peer_of(context))

        async def watch(_: Requests, context: Context) -> None:
            await self._watch(context, admission, admission.peer_of(context))

        return {
            "Check": grpc.stream_unary_rpc_method_handler(check),
            "Watch": grpc.stream_stream_rpc_method_handler(watch),
        }

    def _tell(self) -> None:
        for change in self._changes:
            change.set()

    def _status(self, service: str) -> Any:
        if service == LIVENESS:
            return _SERVING
        if service in self._readiness:
            return _SERVING if self._ready else _NOT_SERVING
        return None

    async def _check(self, context: Context, admission: AdmissionController, peer: Peer) -> bytes:
        status = self._status(await self._service(context, admission, peer))
        if status is None:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, "no such service; ask for '' to hear of the whole server"
            )
        return health_pb2.HealthCheckResponse(status=status).SerializeToString()

    async def _watch(self, context: Context, admission: AdmissionController, peer: Peer) -> None:
        service = await self._service(context, admission, peer)
        if self._closed or not admission.enter_health_watch(peer):
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watch the health; call Violations instead"
            )
        change = asyncio.Event()
        self._changes.add(change)
        told = None
        try:
            while not self._closed:
                change.clear()
                status = self._status(service)
                if status is None:
                    status = _UNKNOWN
                if status != told:
                    async with asyncio.timeout(admission.limits.watch_write_seconds):
                        await context.write(health_pb2.HealthCheckResponse(status=status).SerializeToString())
                    told = status
                await change.wait()
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the watch was unread for too long")
        finally:
            self._changes.discard(change)
            admission.leave_health_watch(peer)

    async def _service(self, context: Context, admission: AdmissionController, peer: Peer) -> str:
        """Return the name that the call's message asks about."""
        try:
            return health_pb2.HealthCheckRequest.FromString(
                await read_message(context, admission, peer)
            ).service
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the bytes are no {NAME} request")
        except (SilentCallError, InvalidRequestError, ServerOverloadedError) as error:
            await refuse(context, error)
            raise AssertionError("abort returned") from error
