"""`AsyncClient`: perdure's API for asyncio, over ``grpc.aio``."""

from __future__ import annotations

import asyncio
import math
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Mapping,
)
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from perdure.client import _calls
from perdure.client._arguments import deadline, seconds
from perdure.client._calls import BACKUP_SECONDS, PAGE_SIZE, Call, Method
from perdure.client._channel import DEFAULT_TARGET, TlsOptions, channel_options, metadata_of
from perdure.client._retry import (
    NO_RETRIES,
    OUTAGE_SECONDS,
    STREAM_SECONDS_MAX,
    Attempts,
    CallRetryPolicy,
    OnOutage,
    call_error,
    retries_of,
    watch_error,
)
from perdure.client._status import error_of
from perdure.client._watch_connections import OPTIONS as WATCH_OPTIONS
from perdure.client._watch_connections import WatchConnections
from perdure.client.facts import HistoryEntry
from perdure.client.types import (
    Backup,
    CancelledInstance,
    CancelledTimer,
    FiredTimer,
    Health,
    Instance,
    InstanceState,
    InstanceSummary,
    Page,
    RetriedInstance,
    Timer,
    WatchEvent,
    WorkflowSummary,
    WorkflowVersion,
)
from perdure.errors import DeadlineExceededError, PerdureError, UnavailableError
from perdure.model.payloads import RawJson
from perdure.runner import ConflictPolicy, Resumed, ScheduledResume, StartedInstance

A = TypeVar("A")


class AsyncClient:
    """A connection to a perdure server, for one event loop. It meets `perdure.runner.Runner`.

    ::

        async with AsyncClient("127.0.0.1:7420") as client:
            started = await client.start_instance("order", {"items": [1, 2]})
            await client.resume(started.instance_id, "reserved")

    ``timeout`` is in seconds and limits each call, including retries. ``math.inf`` removes the limit, and so
    does anything above ten years. Zero, a negative number and NaN raise `InvalidFieldError`. Each method takes a
    timeout of its own.
    ``metadata`` is sent with every call. A call that fails for a retryable reason (connection lost, server restarting,
    overload) is sent again with the same request ID, see `CallRetryPolicy`. Methods raise the exceptions of
    ``perdure.errors``.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        tls: TlsOptions | None = None,
        timeout: float = 30.0,
        metadata: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        retries: CallRetryPolicy | None = None,
    ) -> None:
        self.target = target
        self.timeout = seconds("timeout", timeout)
        self._tls = tls
        self._metadata = metadata_of(metadata)
        self._retries = retries_of(retries)
        self._channel: grpc.aio.Channel | None = None
        self._watch_connections = WatchConnections(self._connect_watch)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._methods: dict[str, Callable[..., Any]] = {}

    def __repr__(self) -> str:
        state = ", closed" if self._closed else ""
        return f"AsyncClient({self.target!r}, tls={self._tls is not None}, timeout={self.timeout:g}{state})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection and cancel calls in progress. Can be called twice, also after it was cancelled."""
        self._closed = True
        self._methods.clear()
        channels = [*([self._channel] if self._channel else []), *self._watch_connections.channels]
        # Forgotten only once they are closed: a call that was cancelled can be made again.
        await asyncio.gather(*(channel.close() for channel in channels))
        self._channel = None
        self._watch_connections.clear()

    # --- the three verbs -----------------------------------------------------------------------------------------

    async def start_instance(
        self,
        workflow: str,
        context: Mapping[str, Any] | RawJson | None = None,
        *,
        instance_id: str = "",
        version: int = 0,
        business_key: str = "",
        conflict_policy: ConflictPolicy = ConflictPolicy.FAIL,
        start_delay: timedelta | str | None = None,
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
        timeout: float | None = None,
    ) -> StartedInstance:
        """Store a new instance, which begins to run; see `Runner.start_instance`."""
        call = _calls.start_instance(
            workflow,
            context,
            instance_id=instance_id,
            version=version,
            business_key=business_key,
            conflict_policy=conflict_policy,
            start_delay=start_delay,
            labels=labels,
            request_id=request_id,
        )
        return await self._call(call, timeout)

    async def resume(
        self,
        instance_id: str,
        event: str,
        payload: Any = None,
        *,
        step_ref: str = "",
        buffer: bool = False,
        request_id: str = "",
        timeout: float | None = None,
    ) -> Resumed:
        """Bring an event to the step that waits for it; see `Runner.resume`."""
        call = _calls.resume(
            instance_id, event, payload, step_ref=step_ref, buffer=buffer, request_id=request_id
        )
        return await self._call(call, timeout)

    async def schedule_resume(
        self,
        instance_id: str,
        step_ref: str,
        delay_ms: int,
        *,
        request_id: str = "",
        timeout: float | None = None,
    ) -> ScheduledResume:
        """Resume a step with ``timeout`` after ``delay_ms``, durably; see `Runner.schedule_resume`."""
        call = _calls.schedule_resume(instance_id, step_ref, delay_ms, request_id=request_id)
        return await self._call(call, timeout)

    # --- instances -----------------------------------------------------------------------------------------------

    async def get_instance(
        self, instance_id: str, *, raw_json: bool = False, timeout: float | None = None
    ) -> Instance:
        """Return an instance as it is now, with its payloads. Raises `InstanceNotFoundError`.

        With ``raw_json``, ``input`` and the ``outputs`` are `RawJson`, byte for byte as they were sent.
        """
        return await self._call(_calls.get_instance(instance_id, raw_json=raw_json), timeout)

    def list_instances(
        self,
        *,
        states: Collection[InstanceState | str] = (),
        workflow: str = "",
        version: int = 0,
        labels: Mapping[str, str] | None = None,
        business_key: str = "",
        unconsumed_events: bool = False,
        page_size: int = PAGE_SIZE,
        timeout: float | None = None,
    ) -> AsyncIterator[InstanceSummary]:
        """Yield the instances that match every given filter, newest first.

        ``version`` is a version of ``workflow``, which is then required. ``unconsumed_events`` matches instances that
        ended with accepted events that no step consumed. ``timeout`` limits each page, in seconds.

        The server examines a limited number of instances for each page. With a filter that few instances match, the
        iterator requests several pages, some of them empty, before it yields.
        """

        def page(token: str) -> Call[Page[InstanceSummary]]:
            return _calls.list_instances(
                states=states,
                workflow=workflow,
                version=version,
                labels=labels,
                business_key=business_key,
                unconsumed_events=unconsumed_events,
                page_size=page_size,
                page_token=token,
            )

        return self._pages(page, timeout)

    def list_history(
        self,
        instance_id: str,
        *,
        after_revision: int = 0,
        page_size: int = PAGE_SIZE,
        timeout: float | None = None,
    ) -> AsyncIterator[HistoryEntry]:
        """Yield the entries after a revision, in order, up to now. Raises `InstanceNotFoundError`."""

        def page(token: str) -> Call[Page[HistoryEntry]]:
            return _calls.list_history(
                instance_id, after_revision=after_revision, page_size=page_size, page_token=token
            )

        return self._pages(page, timeout)

    def watch_instance(
        self,
        instance_id: str,
        *,
        after_revision: int | None = None,
        raw_json: bool = False,
        timeout: float | None = None,
        outage: float = OUTAGE_SECONDS,
        on_outage: OnOutage | None = None,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Follow an instance: a `Snapshot`, each later `HistoryEntry` once and in order, then a `WatchEnd`.

        With ``after_revision`` there is no snapshot; 0 gives the whole history. ``raw_json`` is for the snapshot what
        it is for `get_instance`. A stream that breaks is taken up again
        after the last revision given out. ``timeout`` bounds the watch (None: for ever), ``outage`` how long the server
        may stay away in between; the first answer must come within the client's timeout. ``on_outage`` is called with
        the error when the server stays away, and with None once it has answered again. Wrap it in
        ``contextlib.aclosing`` to leave early without waiting for the garbage collector.

        Raises `InstanceNotFoundError`, `RevisionInFutureError`, `RevisionCompactedError`, `DeadlineExceededError`,
        `UnavailableError`.
        """
        watching = _calls.Watching(instance_id, after_revision, raw_json=raw_json)
        limit = None if timeout is None else seconds("timeout", timeout)
        return self._watch(watching, limit, seconds("outage", outage), on_outage)

    async def _watch(
        self, watching: _calls.Watching, timeout: float | None, outage: float, on_outage: OnOutage | None
    ) -> AsyncGenerator[WatchEvent, None]:
        whole = Attempts(NO_RETRIES, math.inf if timeout is None else timeout)
        attempts = Attempts(self._retries, min(self.timeout, whole.seconds_left))
        while True:
            stream_seconds = min(STREAM_SECONDS_MAX, whole.seconds_left)
            try:
                async with self._watch_stream(watching.request(), stream_seconds) as stream:
                    async for response in stream:
                        attempts.answered(on_outage)
                        event = watching.take(response)
                        if event is not None:
                            yield event
                if watching.ended:
                    return
                error: PerdureError = UnavailableError(f"the watch of {watching.instance_id} broke off")
            except grpc.aio.AioRpcError as failed:
                error = watch_error(error_of(failed), whole.seconds_left)
                if not error.retryable:
                    raise error from failed
            pause = attempts.pause_after(error, outage=outage)
            if pause is None:
                raise error
            if pause > whole.seconds_left:
                raise DeadlineExceededError(f"{watching.instance_id} did not end within {timeout:g} s")
            attempts.failed(error, on_outage)
            await asyncio.sleep(pause)

    async def wait_for_end(
        self, instance_id: str, *, timeout: float | None = None, on_outage: OnOutage | None = None
    ) -> Instance:
        """Return the instance once it is COMPLETED, FAILED or CANCELLED.

        Raises `InstanceNotFoundError`, and `DeadlineExceededError` when ``timeout`` (None: for ever) passes first.
        ``on_outage`` is that of `watch_instance`.
        """
        whole = Attempts(NO_RETRIES, math.inf if timeout is None else seconds("timeout", timeout))
        while True:
            if whole.seconds_left == 0:
                raise DeadlineExceededError(f"{instance_id} did not end within {timeout:g} s")
            watching = _calls.Watching(instance_id, None)
            async with aclosing(
                self._watch(watching, whole.seconds_left, OUTAGE_SECONDS, on_outage)
            ) as events:
                async for _ in events:
                    pass
            instance = await self.get_instance(instance_id)
            if instance.state.has_ended:  # else somebody retried it in between
                return instance

    async def cancel_instance(
        self, instance_id: str, *, reason: str = "", request_id: str = "", timeout: float | None = None
    ) -> CancelledInstance:
        """End an instance. Raises `InstanceNotFoundError`, `InstanceEndedError`."""
        return await self._call(
            _calls.cancel_instance(instance_id, reason=reason, request_id=request_id), timeout
        )

    async def retry_instance(
        self, instance_id: str, *, request_id: str = "", timeout: float | None = None
    ) -> RetriedInstance:
        """Set a FAILED instance going again. Raises `InstanceNotFoundError`, `InstanceNotFailedError`,
        `BusinessKeyInUseError`.

        Every timer of `schedule_resume` is kept with its original due time and gets a new reference.
        """
        return await self._call(_calls.retry_instance(instance_id, request_id=request_id), timeout)

    # --- timers --------------------------------------------------------------------------------------------------

    async def get_timer(self, reference: str, *, timeout: float | None = None) -> Timer:
        """Return a pending timer. Raises `TimerNotFoundError`."""
        return await self._call(_calls.get_timer(reference), timeout)

    def list_timers(
        self, instance_id: str = "", *, page_size: int = PAGE_SIZE, timeout: float | None = None
    ) -> AsyncIterator[Timer]:
        """Yield pending timers, of one instance or of all, the one that is due first on top."""
        return self._pages(
            lambda token: _calls.list_timers(instance_id, page_size=page_size, page_token=token), timeout
        )

    async def cancel_timer(
        self, reference: str, *, request_id: str = "", timeout: float | None = None
    ) -> CancelledTimer:
        """Cancel a timer of kind TIMEOUT. Raises `TimerNotFoundError`, `TimerNotCancellableError`."""
        return await self._call(_calls.cancel_timer(reference, request_id=request_id), timeout)

    async def fire_timer(
        self, reference: str, *, request_id: str = "", timeout: float | None = None
    ) -> FiredTimer:
        """Make a pending timer act now. Raises `TimerNotFoundError`."""
        return await self._call(_calls.fire_timer(reference, request_id=request_id), timeout)

    # --- workflows, health ---------------------------------------------------------------------------------------

    async def get_workflow(
        self, workflow: str, *, version: int = 0, timeout: float | None = None
    ) -> WorkflowVersion:
        """Return a workflow with its graph; version 0 is the newest. Raises `WorkflowNotFoundError`."""
        return await self._call(_calls.get_workflow(workflow, version=version), timeout)

    def list_workflows(
        self, *, page_size: int = PAGE_SIZE, timeout: float | None = None
    ) -> AsyncIterator[WorkflowSummary]:
        """Yield every version of every workflow."""
        return self._pages(
            lambda token: _calls.list_workflows(page_size=page_size, page_token=token), timeout
        )

    async def check_health(self, service: str = "", *, timeout: float | None = None) -> Health:
        """Ask once, without retries, how the server is. Raises `UnavailableError` when nobody answers."""
        return await self._call(_calls.check_health(service), timeout, NO_RETRIES)

    async def backup_database(self, file_name: str, *, timeout: float | None = None) -> Backup:
        """Write a backup of the server's database into the directory that the server was started with.

        Returns once the backup is complete and verified. ``file_name`` is at most 128 characters of
        ``A-Z a-z 0-9 . _ -``, and the first one is a letter or a digit. ``timeout`` is one hour by default. The call
        is not retried, and the server removes an incomplete backup when it ends.

        Raises `BackupNotConfiguredError`, `BackupAlreadyExistsError`, `BackupFailedError`, `InvalidFieldError`, and
        `OverloadedError` if a backup is running.
        """
        limit = BACKUP_SECONDS if timeout is None else timeout
        return await self._call(_calls.backup_database(file_name), limit, NO_RETRIES)

    # --- sending -------------------------------------------------------------------------------------------------

    async def _call(self, call: Call[A], timeout: float | None, retries: CallRetryPolicy | None = None) -> A:
        limit = self.timeout if timeout is None else seconds("timeout", timeout)
        attempts = Attempts(retries or self._retries, limit)
        while True:
            send = self._unary(call.method)
            try:
                response = await send(
                    call.request, timeout=deadline(attempts.seconds_left), metadata=self._metadata
                )
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._closed and not (task and task.cancelling()):
                    # `close` cancelled the call, not somebody the task: its owner must not take it for its own end.
                    raise RuntimeError("the client was closed during the call") from None
                raise
            except grpc.aio.AioRpcError as failed:
                error = call_error(error_of(failed, request_id=call.request_id), attempts.seconds_left)
                pause = attempts.pause_after(error)
                if pause is None:
                    raise error from failed
                await asyncio.sleep(pause)
            else:
                return call.answer(response)

    async def _pages(
        self, page_at: Callable[[str], Call[Page[A]]], timeout: float | None
    ) -> AsyncIterator[A]:
        token = ""
        while True:
            page = await self._call(page_at(token), timeout)
            for item in page.items:
                yield item
            token = page.next_page_token
            if not token:
                return

    def _unary(self, method: Method) -> Callable[..., Any]:
        channel = self._open()
        found = self._methods.get(method.path)
        if found is None:
            found = channel.unary_unary(
                method.path,
                request_serializer=_calls.serialize,
                response_deserializer=method.response.FromString,
            )
            self._methods[method.path] = found
        return found

    @asynccontextmanager
    async def _watch_stream(self, request: Message, seconds: float) -> AsyncIterator[AsyncIterable[Any]]:
        """Open a stream on a watch connection with room, and give up its place at the end."""
        self._check_open()
        connection = self._watch_connections.acquire()
        try:
            method = _calls.WATCH
            send: Callable[..., Any] = connection.channel.unary_stream(
                method.path,
                request_serializer=_calls.serialize,
                response_deserializer=method.response.FromString,
            )
            stream = send(request, timeout=seconds, metadata=self._metadata)
            try:
                yield stream
            finally:
                stream.cancel()
        finally:
            if (unused := self._watch_connections.release(connection)) is not None:
                await unused.close()

    def _open(self) -> grpc.aio.Channel:
        self._check_open()
        if self._channel is None:
            self._channel = self._connect()
        return self._channel

    def _check_open(self) -> None:
        # Channels of grpc.aio belong to the loop in which they are created.
        loop = asyncio.get_running_loop()
        if self._closed:
            raise RuntimeError("the client is closed")
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError(
                "an AsyncClient belongs to the event loop of its first call; make one per loop, or use Client"
            )

    def _connect(self, options: Iterable[tuple[str, str | int]] = ()) -> grpc.aio.Channel:
        arguments = [*channel_options(self.target, self._tls), *options]
        if self._tls is None:
            return grpc.aio.insecure_channel(self.target, options=arguments)
        return grpc.aio.secure_channel(self.target, self._tls.credentials(), options=arguments)

    def _connect_watch(self) -> grpc.aio.Channel:
        return self._connect(WATCH_OPTIONS)
