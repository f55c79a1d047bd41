"""A gRPC proxy in front of the real server. It injects errors as a test asks and records the calls that it received.

It produces responses that a real server gives only during outages or in later versions: OVERLOADED, COMMIT_UNKNOWN, or
unknown states and facts. All other calls are forwarded unchanged.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import grpc
import grpc.aio

from conformance.tcp_proxy import LoopThread
from perdure.model.constants import STATUS_DETAILS_KEY
from perdure.v1 import history_pb2
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner
from perdure.v1 import timer_service_pb2 as timers
from perdure.v1 import workflow_service_pb2 as workflows
from perdure_server.api.error_table import Code
from perdure_server.api.errors import ErrorResponse
from perdure_server.api.status import status_of

UNKNOWN_FACT: Final = bytes([0x9A, 0x06, 0x00])
"""Field 99 of a message, empty: a kind of fact that no version knows yet."""

NEW_NUMBER: Final = 99
"""A value of an enum that no version knows yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault of a call: the proxy rejects it before, or with ``after`` after, the real server has carried it out."""

    code: str
    reason: str = ""
    after: bool = False
    retry_after_ms: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[tuple[str, str], ...] = ()

    async def end(self, context: Any) -> None:
        """End a call with this error."""
        code, message = grpc.StatusCode[self.code], f"rejected by the test: {self.reason or self.code}"
        if not self.reason:
            await context.abort(code, message)
        response = ErrorResponse(
            code=Code[self.code],
            reason=self.reason,
            message=message,
            metadata=self.metadata,
            violations=self.violations,
            retry_after_ms=self.retry_after_ms,
        )
        await context.abort(code, message, ((STATUS_DETAILS_KEY, status_of(response).SerializeToString()),))


class Front:
    """Listens on a port of its own; ``upstream`` is the real server's HOST:PORT."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._newer = False
        self._sent: dict[str, list[str]] = defaultdict(list)
        self._empty_pages: dict[str, int] = defaultdict(int)
        self._thread = LoopThread()
        self.address = self._thread.run(self._start())

    def fault(self, method: str, fault: Fault, times: int) -> None:
        """Reject the next ``times`` calls of a method."""
        self._faults[method].extend([fault] * times)

    def speak_newer(self, newer: bool) -> None:
        """Respond as a newer version would, with unknown states and facts."""
        self._newer = newer

    def empty_pages(self, method: str, times: int) -> None:
        """Respond to the next ``times`` calls of a list with an empty page that has a token."""
        self._empty_pages[method] = times

    def sent(self, method: str) -> list[str]:
        """Return the request ids of the calls of a method since this was last asked, in order, and forget them."""
        return self._sent.pop(method, [])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.run(self._stop())
        self._thread.stop()

    async def _start(self) -> str:
        self._channel = grpc.aio.insecure_channel(self._upstream)
        self._server = grpc.aio.server(
            options=[("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 10_000)]
        )
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return f"127.0.0.1:{port}"

    async def _stop(self) -> None:
        await self._server.stop(None)
        await self._channel.close()

    async def unary(self, path: str, body: bytes, context: Any) -> bytes:
        method = path.rpartition("/")[2]
        self._sent[method].append(_request_id(method, body))
        if method in _LISTS:
            request_type, response_type = _LISTS[method]
            request = request_type.FromString(body)
            request.page_token = request.page_token.partition(EMPTY_PAGE)[0]
            body = request.SerializeToString()
            if self._empty_pages[method]:
                self._empty_pages[method] -= 1
                token = f"{request.page_token}{EMPTY_PAGE}{self._empty_pages[method]}"
                return bytes(response_type(next_page_token=token).SerializeToString())
        fault = self._faults[method].popleft() if self._faults[method] else None
        if fault is not None and not fault.after:
            await fault.end(context)
        try:
            answer: bytes = await self._channel.unary_unary(path)(body, timeout=context.time_remaining())
        except grpc.aio.AioRpcError as error:
            await _hand_on(context, error)
        if fault is not None:
            await fault.end(context)
        return _newer(method, answer) if self._newer else answer

    async def stream(self, path: str, body: bytes, context: Any) -> AsyncIterator[bytes]:
        method = path.rpartition("/")[2]
        self._sent[method].append("")
        if self._faults[method]:
            await self._faults[method].popleft().end(context)
        call = self._channel.unary_stream(path)(body, timeout=context.time_remaining())
        try:
            async for message in call:
                yield _newer(method, message) if self._newer else message
        except grpc.aio.AioRpcError as error:
            await _hand_on(context, error)
        finally:
            call.cancel()


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, front: Front) -> None:
        self._front = front

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        path = handler_call_details.method
        assert path is not None

        async def unary(body: bytes, context: Any) -> bytes:
            return await self._front.unary(path, body, context)

        async def stream(body: bytes, context: Any) -> AsyncIterator[bytes]:
            async for message in self._front.stream(path, body, context):
                yield message

        if path.endswith("/WatchInstance"):
            return grpc.unary_stream_rpc_method_handler(stream)  # type: ignore[arg-type]
        return grpc.unary_unary_rpc_method_handler(unary)  # type: ignore[arg-type]


async def _hand_on(context: Any, error: grpc.aio.AioRpcError) -> None:
    trailing = tuple((key, value) for key, value in error.trailing_metadata() if key == STATUS_DETAILS_KEY)
    await context.abort(error.code(), error.details() or "", trailing)


EMPTY_PAGE: Final = "-empty-"
"""Separates the server's token from the number that the front adds, so that the tokens of two pages differ."""

_LISTS: Final[Mapping[str, tuple[Any, Any]]] = {
    "ListInstances": (instances.ListInstancesRequest, instances.ListInstancesResponse),
    "ListHistory": (instances.ListHistoryRequest, instances.ListHistoryResponse),
    "ListTimers": (timers.ListTimersRequest, timers.ListTimersResponse),
    "ListWorkflows": (workflows.ListWorkflowsRequest, workflows.ListWorkflowsResponse),
}

_REQUESTS: Final[Mapping[str, Any]] = {
    "StartInstance": runner.StartInstanceRequest,
    "Resume": runner.ResumeRequest,
    "ScheduleResume": runner.ScheduleResumeRequest,
    "CancelInstance": instances.CancelInstanceRequest,
    "RetryInstance": instances.RetryInstanceRequest,
    "CancelTimer": timers.CancelTimerRequest,
    "FireTimer": timers.FireTimerRequest,
}


def _request_id(method: str, body: bytes) -> str:
    message = _REQUESTS.get(method)
    return message.FromString(body).opts.request_id if message is not None else ""


def _newer(method: str, body: bytes) -> bytes:
    """Return an answer as a newer version might give it."""
    match method:
        case "GetInstance":
            got = instances.GetInstanceResponse.FromString(body)
            got.instance.state = NEW_NUMBER  # type: ignore[assignment]
            for step in got.instance.active_steps:
                step.state = NEW_NUMBER  # type: ignore[assignment]
            return got.SerializeToString()
        case "ListHistory":
            page = instances.ListHistoryResponse.FromString(body)
            for entry in page.entries:
                _make_newer(entry)
            return page.SerializeToString()
        case "WatchInstance":
            told = instances.WatchInstanceResponse.FromString(body)
            if told.WhichOneof("event") == "entry":
                _make_newer(told.entry)
            return told.SerializeToString()
        case _:
            return body


def _make_newer(entry: history_pb2.HistoryEntry) -> None:
    if entry.WhichOneof("fact") == "timer_armed":
        entry.ClearField("timer_armed")
        entry.MergeFromString(UNKNOWN_FACT)
