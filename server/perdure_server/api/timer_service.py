"""Timers: get, list, cancel, fire."""

from __future__ import annotations

from typing import Final

from perdure.v1 import timer_service_pb2 as pb
from perdure_server.api import convert
from perdure_server.api.handlers import Rpc, Unary
from perdure_server.api.pages import fill, page_token, read_page_token
from perdure_server.engine.rejections import TimerNotFound
from perdure_server.runtime.fields import Check
from perdure_server.runtime.service import Runtime
from perdure_server.store.protocol import TimerCursor

NAME: Final = "perdure.v1.TimerService"


class TimerService:
    """See ``proto/perdure/v1/timer_service.proto``."""

    def __init__(self, runtime: Runtime) -> None:
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
        check = Check()
        instance_id, revision = check.reference("reference", request.reference)
        check.done()
        row = await self._runtime.store.get_timer(instance_id, revision)
        if row is None:
            raise TimerNotFound(request.reference)
        return pb.GetTimerResponse(timer=convert.timer(row))

    async def list_timers(self, request: pb.ListTimersRequest) -> pb.ListTimersResponse:
        check = Check()
        instance_id = check.instance_id("instance_id", request.instance_id, optional=True)
        limit = check.page_size("page_size", request.page_size)
        query = ("timers", instance_id)
        cursor = read_page_token(check, query, request.page_token, (int, str, int))
        check.done()
        after = TimerCursor(*cursor) if cursor else None
        found = await self._runtime.store.list_timers(instance_id, limit=limit + 1, after=after)
        response = pb.ListTimersResponse(timers=await fill(found[:limit], convert.timer))
        if len(response.timers) < len(found):
            last = found[len(response.timers) - 1]
            cursor = (last.timer.due_at, last.instance_id, last.timer.revision)
            response.next_page_token = page_token(query, cursor)
        return response

    async def cancel_timer(self, request: pb.CancelTimerRequest) -> pb.CancelTimerResponse:
        check = Check()
        instance_id, revision = check.reference("reference", request.reference)
        request_id = check.request_id("opts.request_id", request.opts.request_id)
        check.done()
        answer = await self._runtime.cancel_timer(instance_id, revision, request_id=request_id)
        return pb.CancelTimerResponse(revision=answer.revision)

    async def fire_timer(self, request: pb.FireTimerRequest) -> pb.FireTimerResponse:
        check = Check()
        instance_id, revision = check.reference("reference", request.reference)
        request_id = check.request_id("opts.request_id", request.opts.request_id)
        check.done()
        answer = await self._runtime.fire_timer(instance_id, revision, request_id=request_id)
        return pb.FireTimerResponse(revision=answer.revision, used=answer.used)
