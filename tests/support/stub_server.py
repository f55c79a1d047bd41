"""A real gRPC server that returns responses of the test, for errors that a real server returns only during outages."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from perdure.v1 import instance_service_pb2, runner_service_pb2, timer_service_pb2, workflow_service_pb2


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An answer that is an error, as rich as the server's own."""

    code: grpc.StatusCode
    reason: str = ""
    message: str = "no"
    metadata: dict[str, str] = field(default_factory=dict)
    details: tuple[Message, ...] = ()
    retry_after_ms: int | None = None

    def status(self) -> bytes:
        packed = []
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain="perdure", metadata=self.metadata)
        retry = (
            []
            if self.retry_after_ms is None
            else [error_details_pb2.RetryInfo(retry_delay=_duration(self.retry_after_ms))]
        )
        for detail in [*([info] if self.reason else []), *self.details, *retry]:
            packed.append(Packed())
            packed[-1].Pack(detail)
        return status_pb2.Status(
            code=self.code.value[0], message=self.message, details=packed
        ).SerializeToString()


class Hang:
    """An answer that never comes."""


Answer = Message | ErrorResponse | Hang
HANG = Hang()


class StubServer:
    """Answers each method by what the test put into ``answers``; the last answer repeats. Keeps what was asked.

    A streaming method takes one list of messages for each stream, which a `ErrorResponse` or `Hang` may end.
    """

    def __init__(self, port: int = 0, credentials: grpc.ServerCredentials | None = None) -> None:
        self.answers: dict[str, deque[Any]] = defaultdict(deque)
        self.requests: dict[str, list[Any]] = defaultdict(list)
        self._asked: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.metadata: list[tuple[str, Any]] = []
        self._port = port
        self._credentials = credentials
        self._server: grpc.aio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        address = f"127.0.0.1:{self._port}"
        if self._credentials is None:
            self._port = self._server.add_insecure_port(address)
        else:
            self._port = self._server.add_secure_port(address, self._credentials)
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await self._server.stop(None)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self._port}"

    def note(self, method: str, request: Any) -> None:
        self.requests[method].append(request)
        self._asked[method].set()

    async def asked(self, method: str) -> None:
        """Return when a request for the method has come since the last time that this returned."""
        await self._asked[method].wait()
        self._asked[method].clear()

    def next_answer(self, method: str) -> Any:
        queue = self.answers[method]
        return queue.popleft() if len(queue) > 1 else queue[0]


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, server: StubServer) -> None:
        self._canned = server

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        path = handler_call_details.method
        assert path is not None
        method = _METHODS.get(path)
        if method is None:
            return None
        request_type = GetMessageClass(method.input_type)
        if method.server_streaming:

            async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
                self._canned.note(method.name, request)
                for answer in self._canned.next_answer(method.name):
                    yield await _answered(answer, context)

            return grpc.unary_stream_rpc_method_handler(
                stream,  # type: ignore[arg-type]
                request_deserializer=request_type.FromString,
                response_serializer=_serialize,
            )

        async def unary(request: Any, context: Any) -> Any:
            self._canned.note(method.name, request)
            self._canned.metadata += context.invocation_metadata()
            return await _answered(self._canned.next_answer(method.name), context)

        return grpc.unary_unary_rpc_method_handler(
            unary,  # type: ignore[arg-type]
            request_deserializer=request_type.FromString,
            response_serializer=_serialize,
        )


async def _answered(answer: Answer, context: Any) -> Any:
    if isinstance(answer, Hang):
        await asyncio.get_running_loop().create_future()
    if isinstance(answer, ErrorResponse):
        await context.abort(answer.code, answer.message, (("grpc-status-details-bin", answer.status()),))
    return answer


def _serialize(message: Any) -> bytes:
    body: bytes = message.SerializeToString()
    return body


def _duration(ms: int) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(ms)
    return duration


_METHODS = {
    f"/{service.full_name}/{method.name}": method
    for module in (runner_service_pb2, instance_service_pb2, timer_service_pb2, workflow_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
