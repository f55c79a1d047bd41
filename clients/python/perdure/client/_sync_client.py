# Generated from _async_client.py by clients/python/generate_sync.py. Do not edit.
"""`Client`: the API of perdure for code without asyncio.
"""

from __future__ import annotations

import time
import math
from collections.abc import Generator, Iterator, Callable, Collection, Iterable, Mapping
from contextlib import closing
from types import TracebackType
from typing import Any, Self, TypeVar

from perdure.client import _calls
from perdure.client._arguments import deadline, seconds
from perdure.client._calls import BACKUP_SECONDS, PAGE_SIZE, Call
from perdure.client._channel import TlsOptions, metadata_of
from perdure.client._grpc_sync import GrpcTransport
from perdure.client._retry import (
    NO_RETRIES,
    RECONNECT_SECONDS,
    STREAM_SECONDS_MAX,
    Attempts,
    CallRetryPolicy,
    OnDisconnect,
    OnReconnect,
    call_error,
    retries_of,
    watch_error,
)
from perdure.client._transport import Transport
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
from perdure.model.constants import DEFAULT_TARGET
from perdure.model.durations import Duration
from perdure.model.payloads import RawJson
from perdure.runner import ConflictPolicy, Resumed, ScheduledResume, StartedInstance

A = TypeVar("A")


class Client:
    """A connection to a perdure server, for any number of threads. `AsyncClient` without ``await``.

    After a fork, the child can use the client and opens its own connections. Watches stay with the parent.

    ::

        with Client("127.0.0.1:7420") as client:
            started = client.start_instance("order", {"items": [1, 2]})
            client.resume(started.instance_id, "reserved")

    Every method accepts a ``timeout`` of its own, which defaults to the timeout of the client. Calls that fail for a
    temporary reason (connection lost, server restarting, overload) are retried with the same request ID, see
    `CallRetryPolicy`. Methods raise the exceptions of ``perdure.errors``.

    Args:
        target: Address of the server, HOST:PORT or unix:PATH. Default ``127.0.0.1:7420``.
        tls: TLS settings. Default: no TLS.
        timeout: Limit for each call including retries, a `Duration`. ``math.inf`` or more than ten years means no
            limit. Default 30 s.
        metadata: gRPC metadata that is sent with every call.
        retries: Retry policy for calls. Pass `NO_RETRIES` to disable retries.

    Raises:
        InvalidFieldError: An argument is invalid.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        tls: TlsOptions | None = None,
        timeout: Duration = 30.0,
        metadata: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        retries: CallRetryPolicy | None = None,
    ) -> None:
        self.target = target
        self.timeout = seconds("timeout", timeout)
        self._tls = tls
        self._retries = retries_of(retries)
        self._transport: Transport = GrpcTransport(target, tls=tls, metadata=metadata_of(metadata))

    def __repr__(self) -> str:
        state = ", closed" if self._transport.closed else ""
        return f"Client({self.target!r}, tls={self._tls is not None}, timeout={self.timeout:g}{state})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection and cancel calls in progress. Can be called several times."""
        self._transport.close()

    # --- start, resume, schedule ------------------------------------------------------------------------------------

    def start_instance(
        self,
        workflow: str,
        context: Mapping[str, Any] | RawJson | None = None,
        *,
        instance_id: str | None = None,
        version: int | None = None,
        business_key: str | None = None,
        conflict_policy: ConflictPolicy = ConflictPolicy.FAIL,
        start_delay: Duration | None = None,
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
        timeout: Duration | None = None,
    ) -> StartedInstance:
        """Store a new instance and start running it, see `Runner.start_instance`."""
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
        step_ref: str | None = None,
        buffer: bool = False,
        request_id: str | None = None,
        timeout: Duration | None = None,
    ) -> Resumed:
        """Deliver an event to the step that waits for it, see `Runner.resume`."""
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
        request_id: str | None = None,
        timeout: Duration | None = None,
    ) -> ScheduledResume:
        """Resume a step with the event ``timeout`` after ``delay_ms`` milliseconds, see `Runner.schedule_resume`."""
        call = _calls.schedule_resume(instance_id, step_ref, delay_ms, request_id=request_id)
        return self._call(call, timeout)

    # --- instances -----------------------------------------------------------------------------------------------

    def get_instance(
        self, instance_id: str, *, raw_json: bool = False, timeout: Duration | None = None
    ) -> Instance:
        """Return the current state of an instance with its payloads.

        With ``raw_json``, ``input`` and ``outputs`` are `RawJson`, byte for byte as they were sent.

        Raises:
            InstanceNotFoundError: The instance does not exist.
        """
        return self._call(_calls.get_instance(instance_id, raw_json=raw_json), timeout)

    def list_instances(
        self,
        *,
        states: Collection[InstanceState | str] = (),
        workflow: str | None = None,
        version: int | None = None,
        labels: Mapping[str, str] | None = None,
        business_key: str | None = None,
        unconsumed_events: bool = False,
        page_size: int = PAGE_SIZE,
        timeout: Duration | None = None,
    ) -> Iterator[InstanceSummary]:
        """Return an iterator of the instances that match every given filter, newest first.

        The server examines a limited number of instances for each page. If few instances match, the iterator requests
        several pages, some of them empty, before it yields.

        Args:
            states: States to include. Default: all.
            workflow: Name of the workflow.
            version: Version of ``workflow``, which is then required.
            labels: Labels that an instance must have.
            business_key: Business key of the instance.
            unconsumed_events: Only instances that ended with accepted events that no step consumed.
            page_size: Maximum number of instances per call.
            timeout: Limit for each page, a `Duration`.
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
        timeout: Duration | None = None,
    ) -> Iterator[HistoryEntry]:
        """Return an iterator of the history entries after a revision, in order, up to now. 0 means all.

        Raises:
            InstanceNotFoundError: The instance does not exist.
        """

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
        timeout: Duration | None = None,
        reconnect_timeout: Duration = RECONNECT_SECONDS,
        on_disconnect: OnDisconnect | None = None,
        on_reconnect: OnReconnect | None = None,
    ) -> Generator[WatchEvent, None]:
        """Watch an instance: yield a `Snapshot`, then each later `HistoryEntry` once and in order, then a `WatchEnd`.

        If the stream breaks, the watch reconnects and continues after the last revision that it yielded. The first
        response must arrive within the timeout of the client. To stop early, wrap the generator in
        ``contextlib.closing``. Otherwise the stream stays open until the generator is collected.

        Args:
            instance_id: ID of the instance.
            after_revision: Yield the entries after this revision, without a snapshot. 0 yields the whole history.
                Default: start with a snapshot.
            raw_json: The payloads of the snapshot are `RawJson`, as in `get_instance`.
            timeout: Limit for the whole watch, a `Duration`. Default: no limit.
            reconnect_timeout: Maximum time without a server before the watch fails, a `Duration`. Default 5 minutes.
            on_disconnect: Called with the error when reconnecting has failed for the first time. A stream that is
                replaced at once, for example during a rolling restart, is not reported.
            on_reconnect: Called when the server responds again after `on_disconnect`.

        Raises:
            InstanceNotFoundError: The instance does not exist.
            RevisionInFutureError: The instance has not reached ``after_revision``.
            RevisionCompactedError: The history no longer contains the entries after ``after_revision``.
            DeadlineExceededError: ``timeout`` expired.
            UnavailableError: ``reconnect_timeout`` expired.
        """
        watching = _calls.Watching(instance_id, after_revision, raw_json=raw_json)
        limit = None if timeout is None else seconds("timeout", timeout)
        reconnect = seconds("reconnect_timeout", reconnect_timeout)
        return self._watch(watching, limit, reconnect, on_disconnect, on_reconnect)

    def _watch(
        self,
        watching: _calls.Watching,
        timeout: float | None,
        reconnect_seconds: float,
        on_disconnect: OnDisconnect | None,
        on_reconnect: OnReconnect | None,
    ) -> Generator[WatchEvent, None]:
        whole = Attempts(NO_RETRIES, math.inf if timeout is None else timeout)
        attempts = Attempts(self._retries, min(self.timeout, whole.seconds_left))
        while True:
            stream_seconds = min(STREAM_SECONDS_MAX, whole.seconds_left)
            try:
                with self._transport.stream(
                    _calls.WATCH, watching.request(), timeout=stream_seconds
                ) as responses:
                    for response in responses:
                        attempts.succeeded(on_reconnect)
                        event = watching.take(response)
                        if event is not None:
                            yield event
                if watching.ended:
                    return
                error: PerdureError = UnavailableError(
                    f"the watch of {watching.instance_id!r} ended before the instance did"
                )
            except PerdureError as failed:
                error = watch_error(failed, whole.seconds_left)
                if not error.retryable:
                    raise error from failed.__cause__
            pause = attempts.pause_after(error, reconnect_seconds=reconnect_seconds)
            if pause is None:
                raise error
            if pause > whole.seconds_left:
                raise _still_running(watching.instance_id, timeout)
            attempts.failed(error, on_disconnect)
            time.sleep(pause)

    def wait_for_end(
        self,
        instance_id: str,
        *,
        timeout: Duration | None = None,
        reconnect_timeout: Duration = RECONNECT_SECONDS,
        on_disconnect: OnDisconnect | None = None,
        on_reconnect: OnReconnect | None = None,
    ) -> Instance:
        """Wait until the instance is COMPLETED, FAILED or CANCELLED, and return it.

        Args:
            instance_id: ID of the instance.
            timeout: Limit for the wait, a `Duration`. Default: no limit.
            reconnect_timeout: As for `watch_instance`.
            on_disconnect: As for `watch_instance`.
            on_reconnect: As for `watch_instance`.

        Raises:
            InstanceNotFoundError: The instance does not exist.
            DeadlineExceededError: ``timeout`` expired.
            UnavailableError: ``reconnect_timeout`` expired.
        """
        limit = math.inf if timeout is None else seconds("timeout", timeout)
        reconnect = seconds("reconnect_timeout", reconnect_timeout)
        whole = Attempts(NO_RETRIES, limit)
        while True:
            if whole.seconds_left == 0:
                raise _still_running(instance_id, limit)
            watching = _calls.Watching(instance_id, None)
            watch = self._watch(watching, whole.seconds_left, reconnect, on_disconnect, on_reconnect)
            with closing(watch) as events:
                for _ in events:
                    pass
            instance = self.get_instance(instance_id)
            if instance.state.has_ended:  # otherwise it was retried after the watch ended
                return instance

    def cancel_instance(
        self,
        instance_id: str,
        *,
        reason: str | None = None,
        request_id: str | None = None,
        timeout: Duration | None = None,
    ) -> CancelledInstance:
        """Cancel an instance.

        Raises:
            InstanceNotFoundError: The instance does not exist.
            InstanceEndedError: The instance has ended.
        """
        return self._call(
            _calls.cancel_instance(instance_id, reason=reason, request_id=request_id), timeout
        )

    def retry_instance(
        self, instance_id: str, *, request_id: str | None = None, timeout: Duration | None = None
    ) -> RetriedInstance:
        """Continue a FAILED instance.

        Every timer of `schedule_resume` keeps its due time and gets a new reference.

        Raises:
            InstanceNotFoundError: The instance does not exist.
            InstanceNotFailedError: The instance is not FAILED.
            BusinessKeyInUseError: Another live instance holds the business key.
        """
        return self._call(_calls.retry_instance(instance_id, request_id=request_id), timeout)

    # --- timers --------------------------------------------------------------------------------------------------

    def get_timer(self, reference: str, *, timeout: Duration | None = None) -> Timer:
        """Return a pending timer.

        Raises:
            TimerNotFoundError: The timer does not exist or is no longer pending.
        """
        return self._call(_calls.get_timer(reference), timeout)

    def list_timers(
        self, instance_id: str | None = None, *, page_size: int = PAGE_SIZE, timeout: Duration | None = None
    ) -> Iterator[Timer]:
        """Return an iterator of the pending timers of one instance, or of all, sorted by due time."""
        return self._pages(
            lambda token: _calls.list_timers(instance_id, page_size=page_size, page_token=token), timeout
        )

    def cancel_timer(
        self, reference: str, *, request_id: str | None = None, timeout: Duration | None = None
    ) -> CancelledTimer:
        """Cancel a timer of kind TIMEOUT.

        Raises:
            TimerNotFoundError: The timer does not exist or is no longer pending.
            TimerNotCancellableError: The timer has another kind.
        """
        return self._call(_calls.cancel_timer(reference, request_id=request_id), timeout)

    def fire_timer(
        self, reference: str, *, request_id: str | None = None, timeout: Duration | None = None
    ) -> FiredTimer:
        """Fire a pending timer now.

        Raises:
            TimerNotFoundError: The timer does not exist or is no longer pending.
        """
        return self._call(_calls.fire_timer(reference, request_id=request_id), timeout)

    # --- workflows, health ---------------------------------------------------------------------------------------

    def get_workflow(
        self, workflow: str, *, version: int | None = None, timeout: Duration | None = None
    ) -> WorkflowVersion:
        """Return a version of a workflow with its graph. Default: the newest version.

        Raises:
            WorkflowNotFoundError: The workflow or the version does not exist.
        """
        return self._call(_calls.get_workflow(workflow, version=version), timeout)

    def list_workflows(
        self, *, page_size: int = PAGE_SIZE, timeout: Duration | None = None
    ) -> Iterator[WorkflowSummary]:
        """Return an iterator of every version of every workflow."""
        return self._pages(
            lambda token: _calls.list_workflows(page_size=page_size, page_token=token), timeout
        )

    def check_health(self, service: str | None = None, *, timeout: Duration | None = None) -> Health:
        """Return the health of the server, or of one gRPC service of it. The call is not retried.

        Raises:
            UnavailableError: The server does not respond.
        """
        return self._call(_calls.check_health(service), timeout, NO_RETRIES)

    def backup_database(self, file_name: str, *, timeout: Duration | None = None) -> Backup:
        """Write a backup of the server's database to the backup directory of the server.

        Returns after the backup is complete and verified. The call is not retried. If it fails, the server removes the
        incomplete backup.

        Args:
            file_name: At most 128 characters of ``A-Z a-z 0-9 . _ -``. The first is a letter or a digit.
            timeout: Limit for the call, a `Duration`. Default 1 hour.

        Raises:
            BackupNotConfiguredError: The server has no backup directory.
            BackupAlreadyExistsError: A backup with this name exists.
            BackupFailedError: The server could not write or verify the backup.
            OverloadedError: Another backup is running.
        """
        limit = BACKUP_SECONDS if timeout is None else timeout
        return self._call(_calls.backup_database(file_name), limit, NO_RETRIES)

    # --- sending -------------------------------------------------------------------------------------------------

    def _call(
        self, call: Call[A], timeout: Duration | None, retries: CallRetryPolicy | None = None
    ) -> A:
        limit = self.timeout if timeout is None else seconds("timeout", timeout)
        attempts = Attempts(retries or self._retries, limit)
        while True:
            try:
                response = self._transport.unary(
                    call.method, call.request, timeout=deadline(attempts.seconds_left)
                )
            except PerdureError as failed:
                failed.request_id = call.request_id
                error = call_error(failed, attempts.seconds_left)
                pause = attempts.pause_after(error)
                if pause is None:
                    raise error from failed.__cause__
                time.sleep(pause)
            else:
                return call.answer(response)

    def _pages(
        self, page_at: Callable[[str], Call[Page[A]]], timeout: Duration | None
    ) -> Iterator[A]:
        token = ""
        while True:
            page = self._call(page_at(token), timeout)
            for item in page.items:
                yield item
            token = page.next_page_token
            if not token:
                return


def _still_running(instance_id: str, timeout: float | None) -> DeadlineExceededError:
    return DeadlineExceededError(f"instance {instance_id!r} did not end within {timeout:g} s")
