"""perdure inside a process of yours: `EmbeddedRunner`, and the API without a network that it stands on.

What a client sends reaches the handlers of the real services: requests are checked, refused and answered as a server
would, byte for byte; only sockets, connections and deadlines of calls are missing. What lives here: a channel's place
taken by calls, and a core that lives as long as its client. What may not: any RPC's meaning.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol, Self, TypeVar

import grpc
import grpc.aio

from perdure import AsyncClient, Workflow
from perdure.client import CallRetryPolicy
from perdure.client._grpc_aio import AioResponses
from perdure.client._status import error_of
from perdure_server.api.admission import AdmissionController
from perdure_server.api.limits import Limits
from perdure_server.api.server import SERVICES
from perdure_server.config import DATABASE_DEFAULT, SHUTDOWN_TIMEOUT_SECONDS
from perdure_server.core import Core
from perdure_server.runtime.operations import Operations
from perdure_server.store.factory import open_store

A = TypeVar("A")

UNREAD_MESSAGES_MAX: Final = 16
"""How many messages of a watch wait for their reader before the watch waits too."""


class _Method(Protocol):
    """What of a client's method matters here."""

    @property
    def path(self) -> str: ...
    @property
    def response(self) -> type[Any]: ...


class InProcessClient(AsyncClient):
    """An `perdure.AsyncClient` whose server is in this process.

    It belongs to the loop that it is made on, and may be used from the loop of the steps as well.
    """

    def __init__(self, runtime: Operations) -> None:
        super().__init__("in-process", retries=CallRetryPolicy(max_attempts=1))
        self._transport = InProcessTransport(runtime)


class InProcessTransport:
    """A `perdure.client._transport.AsyncTransport` to the handlers of the services in this process."""

    def __init__(self, runtime: Operations) -> None:
        self._home = asyncio.get_running_loop()
        self._closed = False
        gate = AdmissionController(Limits())
        self._handlers: dict[str, Any] = {
            f"/{name}/{rpc.name}": rpc.handler(gate)
            for name, service in SERVICES
            for rpc in service(runtime).rpcs()
        }

    @property
    def closed(self) -> bool:
        """True after `close` was called."""
        return self._closed

    async def unary(self, method: _Method, request: Any, *, timeout: float | None) -> Any:
        """Pass a request to its handler and return the response."""
        handler = self._handler(method)
        call = _Call(request.SerializeToString(), timeout)
        try:
            return method.response.FromString(await self._at_home(_answer(handler, call)))
        except grpc.aio.AioRpcError as failed:
            raise error_of(failed) from failed

    @asynccontextmanager
    async def stream(
        self, method: _Method, request: Any, *, timeout: float | None
    ) -> AsyncIterator[AsyncIterator[Any]]:
        """Open a stream of responses. Leaving the context cancels it."""
        handler = self._handler(method)
        if asyncio.get_running_loop() is not self._home:
            raise RuntimeError("a watch belongs to the client's own event loop; a step cannot open one")
        stream = _Stream(handler, request.SerializeToString(), timeout, method.response)
        try:
            yield AioResponses(stream)
        finally:
            stream.cancel()

    async def close(self) -> None:
        """Reject further calls."""
        self._closed = True

    def _handler(self, method: _Method) -> Any:
        if self._closed:
            raise RuntimeError("the client is closed")
        if method.path not in self._handlers:
            raise NotImplementedError(f"there is no {method.path} without a network")
        return self._handlers[method.path]

    async def _at_home(self, call: Coroutine[Any, Any, bytes]) -> bytes:
        if asyncio.get_running_loop() is self._home:
            return await call
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self._home))


class EmbeddedRunner(InProcessClient):
    """A whole perdure in this process, without a server: `perdure.runner.Runner`, and every other call of the API.

    ::

        async with EmbeddedRunner([OrderFlow], database="sqlite:///orders.db") as perdure:
            order = await perdure.start_instance("order", {"items": ["lamp"]})
            await perdure.resume(order.instance_id, "reserved")

    Entering it opens the database, recovers what is due and begins to run; it raises ``ValueError`` for what is no
    database's URL, a `StoreError` for one that cannot be had (another process has it, say) and
    `DefinitionInUseError`. What
    its calls return is durable, and goes on when the same database is opened again, here or by ``perdure serve``.
    `backup_database` writes to ``backup_dir``, a directory that must exist.
    Leaving it waits up to ``shutdown_timeout_seconds`` for steps that run. It is entered once, and belongs to one
    event loop.
    """

    def __init__(
        self,
        workflows: Sequence[type[Workflow]],
        *,
        database: str = DATABASE_DEFAULT,
        shutdown_timeout_seconds: float = SHUTDOWN_TIMEOUT_SECONDS,
        backup_dir: str | Path | None = None,
    ) -> None:
        self._core = Core(open_store(database), workflows, backup_dir=backup_dir)
        self._shutdown_timeout_seconds = shutdown_timeout_seconds
        super().__init__(self._core.operations)

    async def __aenter__(self) -> Self:
        await self._core.start()
        return self

    async def close(self) -> None:
        """Let the steps that run end within the grace time, release the others, close the database.

        Cancelling it ends the grace time. The database is closed in any case.
        """
        if self._transport.closed:
            return
        try:
            # Until the steps have ended, their code may still call.
            await self._core.quiesce(self._shutdown_timeout_seconds)
        finally:
            await super().close()
            await self._core.stop(0)


class _Call:
    """What a handler is told about its call, what it reads, and how it refuses."""

    def __init__(self, request: bytes, timeout: float | None) -> None:
        self._request = request
        self._timeout = timeout
        self._callbacks: list[Callable[[Any], None]] = []

    def time_remaining(self) -> float | None:
        return self._timeout

    def peer(self) -> str:
        return "in-process"

    async def read(self) -> bytes:
        return self._request

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    def done(self) -> None:
        """The call is over, and its answer with its reader."""
        for callback in self._callbacks:
            callback(self)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Iterable[tuple[str, Any]] = ()
    ) -> None:
        raise grpc.aio.AioRpcError(
            code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing_metadata), details=details
        )


async def _answer(handler: Any, call: _Call) -> bytes:
    try:
        # To grpc, every call streams its one request: the handler reads it from the call.
        answer: bytes = await handler.stream_unary(None, call)
        return answer
    finally:
        call.done()


class _Stream(_Call):
    """A stream of responses: the handler runs as a task and writes, the client iterates."""

    def __init__(self, handler: Any, request: bytes, timeout: float | None, response: type[Any]) -> None:
        super().__init__(request, timeout)
        self._response = response
        self._unread: asyncio.Queue[bytes | None] = asyncio.Queue(UNREAD_MESSAGES_MAX)
        self._task = asyncio.get_running_loop().create_task(self._run(handler))

    async def write(self, message: bytes) -> None:
        await self._unread.put(message)

    def cancel(self) -> None:
        self._task.cancel()

    async def _run(self, handler: Any) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await handler.stream_stream(None, self)
        except TimeoutError:
            await self.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the watch took longer than it may")
        finally:
            self.done()
            if not (task := asyncio.current_task()) or not task.cancelling():
                await self._unread.put(None)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self._unread.get()) is not None:
            yield self._response.FromString(message)
        await self._task
