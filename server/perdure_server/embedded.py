"""perdure inside another process: `EmbeddedRunner`, and the client of the API that works without a network.

Calls run through the same endpoint as those of a server: requests are validated, rejected and answered in the same
way. Connections and the deadlines of unary calls do not exist here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Final, Protocol, Self

from perdure import AsyncClient, PerdureError, Workflow
from perdure.client import CallRetryPolicy
from perdure.client._status import error_of_status
from perdure.errors import DeadlineExceededError
from perdure_server.api.admission import AdmissionController, Peer
from perdure_server.api.call import CallContext
from perdure_server.api.endpoint import BoundMethod, Endpoint
from perdure_server.api.errors import CallFailedError, ErrorResponse
from perdure_server.api.limits import Limits
from perdure_server.api.status import status_of
from perdure_server.config import DATABASE_DEFAULT, SHUTDOWN_TIMEOUT_SECONDS
from perdure_server.core import Core
from perdure_server.runtime.operations import Operations
from perdure_server.store.factory import open_store

UNREAD_MESSAGES_MAX: Final = 16
"""Maximum number of unread messages of a watch. The watch waits until the client reads on."""

PEER: Final = "in-process"


class _ClientMethod(Protocol):
    """The parts of a client's method that are used here."""

    @property
    def path(self) -> str: ...
    @property
    def response(self) -> type[Any]: ...


class InProcessClient(AsyncClient):
    """A `perdure.AsyncClient` whose server is in the same process.

    It belongs to the event loop that it is created on. The event loop of the steps can use it too, except for watches.
    """

    def __init__(self, operations: Operations) -> None:
        super().__init__(PEER, retries=CallRetryPolicy(max_attempts=1))
        self._transport = InProcessTransport(operations)


class InProcessTransport:
    """A `perdure.client._transport.AsyncTransport` to an endpoint in the same process."""

    def __init__(self, operations: Operations) -> None:
        self._home = asyncio.get_running_loop()
        self._endpoint = Endpoint(operations, AdmissionController(Limits()))
        self._closed = False

    @property
    def closed(self) -> bool:
        """True after `close` was called."""
        return self._closed

    async def unary(self, method: _ClientMethod, request: Any, *, timeout: float | None) -> Any:
        """Run a call and return its response. Raises the exceptions of ``perdure.errors``."""
        call = self._run_unary(self._find(method), request.SerializeToString(), _context_of(timeout))
        try:
            return method.response.FromString(await self._at_home(call))
        except CallFailedError as failed:
            raise _error_of(failed.response) from None

    @asynccontextmanager
    async def stream(
        self, method: _ClientMethod, request: Any, *, timeout: float | None
    ) -> AsyncIterator[AsyncIterator[Any]]:
        """Open a stream of responses. Leaving the context cancels it."""
        bound = self._find(method)
        if asyncio.get_running_loop() is not self._home:
            raise RuntimeError("a step cannot open a watch: watches belong to the event loop of the client")
        peer = self._endpoint.admission.peer_of(PEER)
        stream = _Stream(bound, peer, request.SerializeToString(), timeout, method.response)
        try:
            yield stream
        finally:
            stream.cancel()

    async def close(self) -> None:
        """Reject further calls."""
        self._closed = True

    async def _run_unary(self, method: BoundMethod, request: bytes, context: CallContext) -> bytes:
        transport = _Transport(request)
        try:
            response = await method.run(transport, self._endpoint.admission.peer_of(PEER), context)
        finally:
            transport.done()
        assert response is not None
        return response

    def _find(self, method: _ClientMethod) -> BoundMethod:
        if self._closed:
            raise RuntimeError("the client is closed")
        found = self._endpoint.find(method.path)
        if found is None:
            raise NotImplementedError(f"{method.path} is not available in process")
        return found

    async def _at_home(self, call: Coroutine[Any, Any, bytes]) -> bytes:
        if asyncio.get_running_loop() is self._home:
            return await call
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self._home))


class EmbeddedRunner(InProcessClient):
    """A complete perdure in this process, without a server. It implements `perdure.runner.Runner` and the whole API.

    ::

        async with EmbeddedRunner([OrderFlow], database="sqlite:///orders.db") as perdure:
            order = await perdure.start_instance("order", {"items": ["lamp"]})
            await perdure.resume(order.instance_id, "reserved")

    Entering it opens the database, recovers due work and starts to run workflows. Once a call returns, its effect is
    durable. Instances continue when the same database is opened again, here or by ``perdure serve``. Leaving it waits
    up to ``shutdown_timeout_seconds`` for running steps. It can be entered once, and belongs to one event loop.

    `backup_database` writes to ``backup_dir``, a directory that must exist.

    Raises:
        ValueError: ``database`` is not a valid URL.
        StoreError: the database cannot be opened, for example because another process has it.
        DefinitionInUseError: live instances use another graph of the same version of a workflow.
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
        """Let running steps end within the shutdown timeout, release the others, and close the database.

        If it is cancelled, it stops to wait for steps. The database is closed in any case.
        """
        if self._transport.closed:
            return
        try:
            # Steps can use the client until they have ended.
            await self._core.quiesce(self._shutdown_timeout_seconds)
        finally:
            await super().close()
            await self._core.stop(0)


class _Transport:
    """The transport of a call: its request, and the functions to call at its end."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._callbacks: list[Callable[[Any], None]] = []

    async def read(self) -> bytes:
        return self._request

    async def write(self, message: bytes, /) -> None:
        raise NotImplementedError("a unary call does not send messages")

    def add_done_callback(self, callback: Callable[[Any], None], /) -> None:
        self._callbacks.append(callback)

    def done(self) -> None:
        """Report that the call has ended and its response was read."""
        for callback in self._callbacks:
            callback(self)


class _StreamTransport(_Transport):
    """The transport of a stream: a queue of messages that ends with None."""

    def __init__(self, request: bytes) -> None:
        super().__init__(request)
        self.unread: asyncio.Queue[bytes | None] = asyncio.Queue(UNREAD_MESSAGES_MAX)

    async def write(self, message: bytes, /) -> None:
        await self.unread.put(message)


def _context_of(timeout: float | None) -> CallContext:
    return CallContext(deadline=None if timeout is None else monotonic() + timeout)


def _error_of(response: ErrorResponse) -> PerdureError:
    """Return the exception that a client of a server would raise for a response."""
    status = status_of(response)
    return error_of_status(response.code.name, status.message, status)


class _Stream:
    """A stream of responses. The method runs as a task, and the client iterates over its messages."""

    def __init__(
        self,
        method: BoundMethod,
        peer: Peer,
        request: bytes,
        seconds: float | None,
        response: type[Any],
    ) -> None:
        """``seconds`` is the timeout of the stream. None for no limit."""
        self._transport = _StreamTransport(request)
        self._seconds = seconds
        self._response = response
        self._ended = False
        self._task = asyncio.get_running_loop().create_task(self._run(method, peer))

    def cancel(self) -> None:
        self._task.cancel()

    async def _run(self, method: BoundMethod, peer: Peer) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await method.run(self._transport, peer, _context_of(self._seconds))
        except CallFailedError as failed:
            raise _error_of(failed.response) from None
        except TimeoutError:
            raise DeadlineExceededError("the watch reached its timeout") from None
        finally:
            self._transport.done()
            if not (task := asyncio.current_task()) or not task.cancelling():
                await self._transport.unread.put(None)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if not self._ended and (message := await self._transport.unread.get()) is not None:
            return self._response.FromString(message)
        self._ended = True
        await self._task
        raise StopAsyncIteration
