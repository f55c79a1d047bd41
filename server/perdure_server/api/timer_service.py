"""Timers: get, list, cancel, fire."""

from __future__ import annotations

from typing import Final

from perdure.v1 import timer_service_pb2 as pb
from perdure_server.api import convert
from perdure_server.api.handlers import Rpc, Unary
from perdure_server.api.pagination import fill, page_token, read_page_token
from perdure_server.runtime.operations import Operations
from perdure_server.runtime.request_validation import Violations
from perdure_server.store.protocol import TimerCursor

NAME: Final = "perdure.v1.TimerService"


class TimerService:
    """See ``proto/perdure/v1/timer_service.proto``."""

    def __init__(self, runtime: Operations) -> None:
        self._runtime = runtime

    def rpcs(self) -> list[Rpc]:
        """The RPCs of the service."""
        return [
            Unary("GetTimer", pb.GetTimerRequest, self.get_timer),
            Unary("ListTimers", pb.ListTimersRequest, self.list_timers, is_list=True),
            Unary("CancelTimer", pb.CancelTimerRequest, self.cancel_timer, mutating=True),
            Unary("FireTimer", pb.FireTimerRequest, self.fire_timer, mutating=True),
        ]

    async def get_timer(self, request: pb.GetTimerRequest) -> pb.GetTimerResponse:
        violations = Violations()
        instance_id, revision = violations.reference("reference", request.reference)
        violations.raise_if_invalid()
        row = await self._runtime.queries.get_timer(instance_id, revision)
        return pb.GetTimerResponse(timer=convert.timer(row))

    async def list_timers(self, request: pb.ListTimersRequest) -> pb.ListTimersResponse:
        violations = Violations()
        instance_id = violations.instance_id("instance_id", request.instance_id, optional=True)
        limit = violations.page_size("page_size", request.page_size)
        query = ("timers", instance_id)
        cursor = read_page_token(violations, query, request.page_token, (int, str, int))
        violations.raise_if_invalid()
        after = TimerCursor(*cursor) if cursor else None
        found = await self._runtime.queries.list_timers(instance_id, limit=limit + 1, after=after)
        response = pb.ListTimersResponse(timers=await fill(found[:limit], convert.timer))
        if len(response.timers) < len(found):
            last = found[len(response.timers) - 1]
            cursor = (last.timer.due_at, last.instance_id, last.timer.revision)
            response.next_page_token = page_token(query, cursor)
        return response

    async def cancel_timer(self, request: pb.CancelTimerRequest) -> pb.CancelTimerResponse:
        violations = Violations()
        instance_id, revision = violations.reference("reference", request.reference)
        request_id = violations.request_id("opts.request_id", request.opts.request_id)
        violations.raise_if_invalid()
        answer = await self._runtime.cancel_timer(instance_id, revision, request_id=request_id)
        return pb.CancelTimerResponse(revision=answer.revision)

    async def fire_timer(self, request: pb.FireTimerRequest) -> pb.FireTimerResponse:
        violations = Violations()
        instance_id, revision = violations.reference("reference", request.reference)
        request_id = violations.request_id("opts.request_id", request.opts.request_id)
        violations.raise_if_invalid()
        answer = await self._runtime.fire_timer(instance_id, revision, request_id=request_id)
        return pb.FireTimerResponse(revision=answer.revision, used=answer.used)
