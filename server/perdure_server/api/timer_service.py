"""TimerService: get, list, cancel and fire timers."""

from __future__ import annotations

from typing import Final

from perdure.v1 import timer_service_pb2 as pb
from perdure_server.api import convert
from perdure_server.api.call import CallContext
from perdure_server.api.methods import LimitsClass, Method
from perdure_server.api.pagination import fill_page, read_page_token
from perdure_server.runtime.operations import Operations
from perdure_server.runtime.request_validation import Violations
from perdure_server.store.protocol import TimerCursor, TimerRow

NAME: Final = "perdure.v1.TimerService"


class TimerService:
    """The handlers of ``proto/perdure/v1/timer_service.proto``."""

    def __init__(self, runtime: Operations) -> None:
        self._runtime = runtime

    def methods(self) -> list[Method]:
        """Return the methods of the service."""
        return [
            Method("GetTimer", pb.GetTimerRequest, self.get_timer, LimitsClass.READ),
            Method("ListTimers", pb.ListTimersRequest, self.list_timers, LimitsClass.LIST),
            Method("CancelTimer", pb.CancelTimerRequest, self.cancel_timer, LimitsClass.WRITE),
            Method("FireTimer", pb.FireTimerRequest, self.fire_timer, LimitsClass.WRITE),
        ]

    async def get_timer(self, request: pb.GetTimerRequest, _: CallContext) -> pb.GetTimerResponse:
        violations = Violations()
        instance_id, revision = violations.reference("reference", request.reference)
        violations.raise_if_invalid()
        row = await self._runtime.queries.get_timer(instance_id, revision)
        return pb.GetTimerResponse(timer=convert.timer(row))

    async def list_timers(self, request: pb.ListTimersRequest, _: CallContext) -> pb.ListTimersResponse:
        violations = Violations()
        instance_id = violations.instance_id("instance_id", request.instance_id, optional=True)
        limit = violations.page_size("page_size", request.page_size)
        query = ("timers", instance_id)
        cursor = read_page_token(violations, query, request.page_token, (int, str, int))
        violations.raise_if_invalid()
        after = TimerCursor(*cursor) if cursor else None
        found = await self._runtime.queries.list_timers(instance_id, limit=limit + 1, after=after)
        timers, token = await fill_page(found, convert.timer, limit=limit, query=query, cursor_of=_cursor_of)
        return pb.ListTimersResponse(timers=timers, next_page_token=token)

    async def cancel_timer(self, request: pb.CancelTimerRequest, _: CallContext) -> pb.CancelTimerResponse:
        instance_id, revision, request_id = _checked(request)
        cancelled = await self._runtime.cancel_timer(instance_id, revision, request_id=request_id)
        return pb.CancelTimerResponse(revision=cancelled.revision)

    async def fire_timer(self, request: pb.FireTimerRequest, _: CallContext) -> pb.FireTimerResponse:
        instance_id, revision, request_id = _checked(request)
        fired = await self._runtime.fire_timer(instance_id, revision, request_id=request_id)
        return pb.FireTimerResponse(revision=fired.revision, used=fired.used)


def _checked(request: pb.CancelTimerRequest | pb.FireTimerRequest) -> tuple[str, int, str]:
    """Return the instance ID, the revision and the request ID. Raises `InvalidRequestError`."""
    violations = Violations()
    instance_id, revision = violations.reference("reference", request.reference)
    request_id = violations.request_id("opts.request_id", request.opts.request_id)
    violations.raise_if_invalid()
    return instance_id, revision, request_id


def _cursor_of(row: TimerRow) -> tuple[int, str, int]:
    return row.timer.due_at, row.instance_id, row.timer.revision
