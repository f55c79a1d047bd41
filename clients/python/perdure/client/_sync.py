"""`Client`: perdure's API for code without asyncio.

It stands on gRPC's own blocking channel and not on an `AsyncClient` in a thread: there is no second loop to keep alive,
to fork or to shut down, any number of threads share one connection, and it works where a loop runs already (Jupyter).
What both clients know is in ``_calls``, ``_retry`` and ``_status``; a test holds their methods to the same signatures.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message

from perdure.client import _calls
from perdure.client._arguments import deadline, seconds
from perdure.client._calls import BACKUP_SECONDS, PAGE_SIZE, Call
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


class Client:
    """A connection to a perdure server, for any number of threads; `AsyncClient` without ``await``.

    ::

        with Client("127.0.0.1:7420") as client:
            started = client.start_instance("order", {"items": [1, 2]})
            client.resume(started.instance_id, "reserved")

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
        self._channel: grpc.Channel | None = None
        self._watch_connections = WatchConnections(self._connect_watch)
        self._opening = threading.Lock()
        self._process_id = os.getpid()
        self._closed = False

    def __repr__(self) -> str:
        state = ", closed" if self._closed else ""
        return f"Client({self.target!r}, tls={self._tls is not None}, timeout={self.timeout:g}{state})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection and cancel calls in progress. Can be called twice."""
        self._leave_parent_process()
        with self._opening:
            self._closed = True
            channel, self._channel = self._channel, None
        for open_channel in [*([channel] if channel else []), *self._watch_connections.clear()]:
            open_channel.close()

    # --- the three verbs -----------------------------------------------------------------------------------------

    def start_instance(
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
        return self._call(call, timeout)

    def resume(
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
        return self._call(call, timeout)

    def schedule_resume(
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
        return self._call(call, timeout)

    # --- instances -----------------------------------------------------------------------------------------------

    def get_instance(
        self, instance_id: str, *, raw_json: bool = False, timeout: float | None = None
    ) -> Instance:
        """Return an instance as it is now, with its payloads. Raises `InstanceNotFoundError`.

        With ``raw_json``, ``input`` and the ``outputs`` are `RawJson`, byte for byte as they were sent.
        """
        return self._call(_calls.get_instance(instance_id, raw_json=raw_json), timeout)

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
    ) -> Iterator[InstanceSummary]:
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
    ) -> Iterator[HistoryEntry]:
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
    ) -> Generator[WatchEvent]:
        """Follow an instance: a `Snapshot`, each later `HistoryEntry` once and in order, then a `WatchEnd`.

        With ``after_revision`` there is no snapshot; 0 gives the whole history. ``raw_json`` is for the snapshot what
        it is for `get_instance`. A stream that breaks is taken up again
        after the last revision given out. ``timeout`` bounds the watch (None: for ever), ``outage`` how long the server
        may stay away in between; the first answer must come within the client's timeout. ``on_outage`` is called with
        the error when the server stays away, and with None once it has answered again. Close the
        generator (``contextlib.closing``) to leave early without waiting for the garbage collector.

        Raises `InstanceNotFoundError`, `RevisionInFutureError`, `RevisionCompactedError`, `DeadlineExceededError`,
        `UnavailableError`.
        """
        watching = _calls.Watching(instance_id, after_revision, raw_json=raw_json)
        limit = None if timeout is None else seconds("timeout", timeout)
        return self._watch(watching, limit, seconds("outage", outage), on_outage)

    def _watch(
        self, watching: _calls.Watching, timeout: float | None, outage: float, on_outage: OnOutage | None
    ) -> Generator[WatchEvent]:
        whole = Attempts(NO_RETRIES, math.inf if timeout is None else timeout)
        attempts = Attempts(self._retries, min(self.timeout, whole.seconds_left))
        process_id = os.getpid()
        while True:
            stream_seconds = min(STREAM_SECONDS_MAX, whole.seconds_left)
            try:
                with self._watch_stream(watching.request(), stream_seconds) as stream:
                    for response in stream:
                        attempts.answered(on_outage)
                        event = watching.take(response)
                        if event is not None:
                            yield event
                            _check_process(process_id)
                if watching.ended:
                    return
                error: PerdureError = UnavailableError(f"the watch of {watching.instance_id} broke off")
            except grpc.RpcError as failed:
                error = watch_error(error_of(failed), whole.seconds_left)
                if not error.retryable:
                    raise error from failed
            pause = attempts.pause_after(error, outage=outage)
            if pause is None:
                raise error
            if pause > whole.seconds_left:
                raise DeadlineExceededError(f"{watching.instance_id} did not end within {timeout:g} s")
            attempts.failed(error, on_outage)
            time.sleep(pause)

    def wait_for_end(
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
            with closing(self._watch(watching, whole.seconds_left, OUTAGE_SECONDS, on_outage)) as events:
                for _ in events:
                    pass
            instance = self.get_instance(instance_id)
            if instance.state.has_ended:  # else somebody retried it in between
                return instance

    def cancel_instance(
        self, instance_id: str, *, reason: str = "", request_id: str = "", timeout: float | None = None
    ) -> CancelledInstance:
        """End an instance. Raises `InstanceNotFoundError`, `InstanceEndedError`."""
        return self._call(_calls.cancel_instance(instance_id, reason=reason, request_id=request_id), timeout)

    def retry_instance(
        self, instance_id: str, *, request_id: str = "", timeout: float | None = None
    ) -> RetriedInstance:
        """Set a FAILED instance going again. Raises `InstanceNotFoundError`, `InstanceNotFailedError`,
        `BusinessKeyInUseError`.

        Every timer of `schedule_resume` is kept with its original due time and gets a new reference.
        """
        return self._call(_calls.retry_instance(instance_id, request_id=request_id), timeout)

    # --- timers --------------------------------------------------------------------------------------------------

    def get_timer(self, reference: str, *, timeout: float | None = None) -> Timer:
        """Return a pending timer. Raises `TimerNotFoundError`."""
        return self._call(_calls.get_timer(reference), timeout)

    def list_timers(
        self, instance_id: str = "", *, page_size: int = PAGE_SIZE, timeout: float | None = None
    ) -> Iterator[Timer]:
        """Yield pending timers, of one instance or of all, the one that is due first on top."""
        return self._pages(
            lambda token: _calls.list_timers(instance_id, page_size=page_size, page_token=token), timeout
        )

    def cancel_timer(
        self, reference: str, *, request_id: str = "", timeout: float | None = None
    ) -> CancelledTimer:
        """Cancel a timer of kind TIMEOUT. Raises `TimerNotFoundError`, `TimerNotCancellableError`."""
        return self._call(_calls.cancel_timer(reference, request_id=request_id), timeout)

    def fire_timer(self, reference: str, *, request_id: str = "", timeout: float | None = None) -> FiredTimer:
        """Make a pending timer act now. Raises `TimerNotFoundError`."""
        return self._call(_calls.fire_timer(reference, request_id=request_id), timeout)

    # --- workflows, health ---------------------------------------------------------------------------------------

    def get_workflow(
        self, workflow: str, *, version: int = 0, timeout: float | None = None
    ) -> WorkflowVersion:
        """Return a workflow with its graph; version 0 is the newest. Raises `WorkflowNotFoundError`."""
        return self._call(_calls.get_workflow(workflow, version=version), timeout)

    def list_workflows(
        self, *, page_size: int = PAGE_SIZE, timeout: float | None = None
    ) -> Iterator[WorkflowSummary]:
        """Yield every version of every workflow."""
        return self._pages(
            lambda token: _calls.list_workflows(page_size=page_size, page_token=token), timeout
        )

    def check_health(self, service: str = "", *, timeout: float | None = None) -> Health:
        """Ask once, without retries, how the server is. Raises `UnavailableError` when nobody answers."""
        return self._call(_calls.check_health(service), timeout, NO_RETRIES)

    def backup_database(self, file_name: str, *, timeout: float | None = None) -> Backup:
        """Write a backup of the server's database into the directory that the server was started with.

        Returns once the backup is complete and verified. ``file_name`` is at most 128 characters of
        ``A-Z a-z 0-9 . _ -``, and the first one is a letter or a digit. ``timeout`` is one hour by default. The call
        is not retried, and the server removes an incomplete backup when it ends.

        Raises `BackupNotConfiguredError`, `BackupAlreadyExistsError`, `BackupFailedError`, `InvalidFieldError`, and
        `OverloadedError` if a backup is running.
        """
        limit = BACKUP_SECONDS if timeout is None else timeout
        return self._call(_calls.backup_database(file_name), limit, NO_RETRIES)

    # --- sending -------------------------------------------------------------------------------------------------

    def _call(self, call: Call[A], timeout: float | None, retries: CallRetryPolicy | None = None) -> A:
        limit = self.timeout if timeout is None else seconds("timeout", timeout)
        attempts = Attempts(retries or self._retries, limit)
        while True:
            send = self._open().unary_unary(
                call.method.path,
                request_serializer=_calls.serialize,
                response_deserializer=call.method.response.FromString,
            )
            try:
                response = send(
                    call.request, timeout=deadline(attempts.seconds_left), metadata=self._metadata
                )
            except grpc.RpcError as failed:
                error = call_error(error_of(failed, request_id=call.request_id), attempts.seconds_left)
                pause = attempts.pause_after(error)
                if pause is None:
                    raise error from failed
                time.sleep(pause)
            else:
                return call.answer(response)

    def _pages(self, page_at: Callable[[str], Call[Page[A]]], timeout: float | None) -> Iterator[A]:
        token = ""
        while True:
            page = self._call(page_at(token), timeout)
            yield from page.items
            token = page.next_page_token
            if not token:
                return

    @contextmanager
    def _watch_stream(self, request: Message, seconds: float) -> Iterator[Iterable[Any]]:
        """Open a stream on a watch connection with room, and give up its place at the end."""
        self._check_open()
        connections, process_id = self._watch_connections, self._process_id
        connection = connections.acquire()
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
                if os.getpid() == process_id:  # a forked child leaves the stream to its parent
                    stream.cancel()
        finally:
            if os.getpid() == process_id and (unused := connections.release(connection)) is not None:
                unused.close()

    def _open(self) -> grpc.Channel:
        self._check_open()
        with self._opening:
            if self._channel is None:
                self._channel = self._connect()
            return self._channel

    def _check_open(self) -> None:
        self._leave_parent_process()
        if self._closed:
            raise RuntimeError("the client is closed")

    def _leave_parent_process(self) -> None:
        """In a forked child, leave the parent's connections to the parent: the next call opens new ones."""
        if self._process_id == os.getpid():
            return
        # Kept, because a channel that is collected closes its connection, which is also the parent's.
        _INHERITED.append((self._channel, self._watch_connections))
        self._channel = None
        self._watch_connections = WatchConnections(self._connect_watch)
        self._opening = threading.Lock()  # another thread of the parent may have held it
        self._process_id = os.getpid()

    def _connect(self, options: Iterable[tuple[str, str | int]] = ()) -> grpc.Channel:
        arguments = [*channel_options(self.target, self._tls), *options]
        if self._tls is None:
            return grpc.insecure_channel(self.target, arguments)
        return grpc.secure_channel(self.target, self._tls.credentials(), arguments)

    def _connect_watch(self) -> grpc.Channel:
        if self._closed:  # by another thread
            raise RuntimeError("the client is closed")
        return self._connect(WATCH_OPTIONS)


_INHERITED: list[object] = []
"""Connections of the parent process, in a forked child."""


def _check_process(process_id: int) -> None:
    if os.getpid() != process_id:
        raise RuntimeError("the watch belongs to the parent process; start a new one after the fork")
