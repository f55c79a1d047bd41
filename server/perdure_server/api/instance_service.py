"""Instances: get, list, history, watch, cancel, retry."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Final, assert_never

from perdure.model.validation import VERSION_MAX
from perdure.v1 import instance_service_pb2 as pb
from perdure_server.api import convert
from perdure_server.api.handlers import Rpc, Streaming, Unary
from perdure_server.api.pagination import fill, page_token, read_page_token
from perdure_server.engine.rejections import InstanceNotFound
from perdure_server.runtime.errors import UnreachedRevisionError
from perdure_server.runtime.operations import Operations
from perdure_server.runtime.request_validation import BUSINESS_KEY_BYTES_MAX, REASON_BYTES_MAX, Violations
from perdure_server.runtime.watch import WatchEnd, WatchEntry, WatchEvent, WatchHeartbeat, WatchSnapshot
from perdure_server.store.protocol import InstanceCursor, InstanceFilter, StoredInstance

NAME: Final = "perdure.v1.InstanceService"

_END_REASON: Final = {
    "finished": pb.WATCH_END_REASON_INSTANCE_ENDED,
    "draining": pb.WATCH_END_REASON_SERVER_DRAINING,
}


class InstanceService:
    """See ``proto/perdure/v1/instance_service.proto``."""

    def __init__(self, runtime: Operations) -> None:
        self._runtime = runtime

    def rpcs(self) -> list[Rpc]:
        """The RPCs of the service."""
        return [
            Unary("GetInstance", pb.GetInstanceRequest, self.get_instance),
            Unary("ListInstances", pb.ListInstancesRequest, self.list_instances, is_list=True),
            Unary("ListHistory", pb.ListHistoryRequest, self.list_history, is_list=True),
            Streaming("WatchInstance", pb.WatchInstanceRequest, self.watch_instance),
            Unary("CancelInstance", pb.CancelInstanceRequest, self.cancel_instance, mutating=True),
            Unary("RetryInstance", pb.RetryInstanceRequest, self.retry_instance, mutating=True),
        ]

    async def get_instance(self, request: pb.GetInstanceRequest) -> pb.GetInstanceResponse:
        violations = Violations()
        instance_id = violations.instance_id("instance_id", request.instance_id)
        violations.raise_if_invalid()
        stored = await self._runtime.get_instance(instance_id)
        return pb.GetInstanceResponse(instance=self._instance(stored))

    async def list_instances(self, request: pb.ListInstancesRequest) -> pb.ListInstancesResponse:
        violations = Violations()
        limit = violations.page_size("page_size", request.page_size)
        workflow = violations.name("workflow", request.workflow, optional=True)
        version = _version_filter(violations, request)
        business_key = violations.text("business_key", request.business_key, BUSINESS_KEY_BYTES_MAX)
        labels = violations.labels("labels", request.labels)
        for state in request.states:
            if state not in convert.STATUS_OF:
                violations.add_violation("states", f"must be states of an instance, not {state}")
        where = InstanceFilter(
            statuses=frozenset(convert.STATUS_OF[s] for s in request.states if s in convert.STATUS_OF),
            workflow=workflow,
            version=version,
            business_key=business_key,
            labels=labels,
            unconsumed=request.unconsumed_events,
        )
        query = _list_query(where)
        cursor = read_page_token(violations, query, request.page_token, (int, str))
        violations.raise_if_invalid()
        after = InstanceCursor(*cursor) if cursor else None
        page = await self._runtime.store.list_instances(where, limit=limit, after=after)
        response = pb.ListInstancesResponse(instances=await fill(page.instances, convert.summary))
        position = page.next
        if len(response.instances) < len(page.instances):
            last = page.instances[len(response.instances) - 1]
            position = InstanceCursor(last.created_at, last.instance_id)
        if position is not None:
            response.next_page_token = page_token(query, (position.created_at, position.instance_id))
        return response

    async def list_history(self, request: pb.ListHistoryRequest) -> pb.ListHistoryResponse:
        violations = Violations()
        instance_id = violations.instance_id("instance_id", request.instance_id)
        after_revision = violations.revision("after_revision", request.after_revision)
        limit = violations.page_size("page_size", request.page_size)
        query = ("history", instance_id, after_revision)
        cursor = read_page_token(violations, query, request.page_token, (int,))
        violations.raise_if_invalid()
        position = cursor[0] if cursor else after_revision
        store = self._runtime.store
        found = await store.history(instance_id, after_revision=position, limit=limit + 1)
        if not found:
            state = await store.load(instance_id)
            if state is None:
                raise InstanceNotFound(instance_id)
            if after_revision > state.revision:
                raise UnreachedRevisionError(instance_id, after_revision, state.revision)
        entries = await fill(found[:limit], lambda entry: convert.entry(instance_id, entry))
        response = pb.ListHistoryResponse(entries=entries)
        if len(entries) < len(found):
            response.next_page_token = page_token(query, (found[len(entries) - 1].revision,))
        return response

    async def watch_instance(
        self, request: pb.WatchInstanceRequest
    ) -> AsyncGenerator[pb.WatchInstanceResponse, None]:
        violations = Violations()
        instance_id = violations.instance_id("instance_id", request.instance_id)
        after_revision = None
        if request.HasField("after_revision"):
            after_revision = violations.revision("after_revision", request.after_revision)
        violations.raise_if_invalid()
        async with aclosing(self._runtime.watch(instance_id, after_revision)) as events:
            with suppress(StopAsyncIteration):
                # Not by `async for`, whose variable would keep a snapshot for as long as nothing follows it.
                while True:
                    yield await self._next_response(instance_id, events)

    async def cancel_instance(self, request: pb.CancelInstanceRequest) -> pb.CancelInstanceResponse:
        violations = Violations()
        instance_id = violations.instance_id("instance_id", request.instance_id)
        request_id = violations.request_id("opts.request_id", request.opts.request_id)
        reason = violations.text("opts.reason", request.opts.reason, REASON_BYTES_MAX)
        violations.raise_if_invalid()
        answer = await self._runtime.cancel_instance(instance_id, reason=reason, request_id=request_id)
        return pb.CancelInstanceResponse(revision=answer.revision)

    async def retry_instance(self, request: pb.RetryInstanceRequest) -> pb.RetryInstanceResponse:
        violations = Violations()
        instance_id = violations.instance_id("instance_id", request.instance_id)
        request_id = violations.request_id("opts.request_id", request.opts.request_id)
        violations.raise_if_invalid()
        answer = await self._runtime.retry_instance(instance_id, request_id=request_id)
        return pb.RetryInstanceResponse(revision=answer.revision)

    async def _next_response(
        self, instance_id: str, events: AsyncGenerator[WatchEvent, None]
    ) -> pb.WatchInstanceResponse:
        match event := await anext(events):
            case WatchSnapshot(instance=stored):
                return pb.WatchInstanceResponse(snapshot=self._instance(stored))
            case WatchEntry(entry=entry):
                return pb.WatchInstanceResponse(entry=convert.entry(instance_id, entry))
            case WatchHeartbeat(revision=revision):
                return pb.WatchInstanceResponse(heartbeat=pb.WatchHeartbeat(revision=revision))
            case WatchEnd(revision=revision, reason=reason):
                return pb.WatchInstanceResponse(
                    end=pb.WatchEnd(revision=revision, reason=_END_REASON[reason])
                )
            case _:
                assert_never(event)

    def _instance(self, stored: StoredInstance) -> pb.Instance:
        return convert.instance(stored, self._runtime.has_code)


def _version_filter(violations: Violations, request: pb.ListInstancesRequest) -> int:
    version = request.version
    if version > VERSION_MAX:
        violations.add_violation("version", f"must be 0 (any version) to {VERSION_MAX}, not {version}")
    elif version and not request.workflow:
        violations.add_violation(
            "version", f"requires workflow: set the workflow that {version} is a version of"
        )
    return version


def _list_query(where: InstanceFilter) -> tuple[object, ...]:
    """Return what a page token is bound to. Filters that are newer than the first release are left out if absent."""
    query: tuple[object, ...] = (
        "instances",
        where.workflow,
        where.business_key,
        sorted(where.labels.items()),
        sorted(where.statuses),
    )
    if where.version or where.unconsumed:
        query += (where.version, where.unconsumed)
    return query
