"""One call over raw stubs, recorded before and after, without retries, so that unknown outcomes stay visible.

Owns: requests and responses as plain fields, and the connection to a server that crashes and restarts. Must not: choose
calls (`load` does).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any, Final

from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from chaos.ledger import Ledger, Outcome, Send, clocks
from chaos.projection import ms_of, of_message
from perdure.v1 import common_pb2, instance_service_pb2, runner_service_pb2, timer_service_pb2
from perdure.v1.instance_service_pb2_grpc import InstanceServiceStub
from perdure.v1.runner_service_pb2_grpc import RunnerServiceStub
from perdure.v1.timer_service_pb2_grpc import TimerServiceStub

CALL_SECONDS_MAX: Final = 30.0
PAGE_SIZE: Final = 200


class Link:
    """Connection to a server that is killed and restarted, each time at another address. Counts the calls' results."""

    def __init__(self) -> None:
        self._up = asyncio.Event()
        self._channels: list[aio.Channel] = []
        self._counted = asyncio.Condition()
        self._succeeded = 0
        self._unavailable = 0

    def connect(self, address: str) -> None:
        """Send calls there from now on."""
        # The subchannel pool is shared by address otherwise, and a port may come twice.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 50)]
        self._channels.append(aio.insecure_channel(address, options=options))
        self._up.set()

    def disconnect(self) -> None:
        """Hold new calls back. Those under way see for themselves what becomes of them."""
        self._up.clear()

    async def channel(self) -> aio.Channel:
        await self._up.wait()
        return self._channels[-1]

    async def count(self, status: str) -> None:
        """Count a finished call by its status."""
        self._succeeded += status == "OK"
        self._unavailable += status == "UNAVAILABLE"
        async with self._counted:
            self._counted.notify_all()

    async def until(self, *, succeeded: int, unavailable: int = 0) -> None:
        """Return once so many calls have succeeded and so many have failed with UNAVAILABLE."""
        async with self._counted:
            await self._counted.wait_for(
                lambda: self._succeeded >= succeeded and self._unavailable >= unavailable
            )

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


class Wire:
    """Makes calls for one client and keeps its part of the ledger."""

    _ops = itertools.count(1)

    def __init__(self, name: str, link: Link, ledger: Ledger) -> None:
        self.name = name
        self.link = link
        self._ledger = ledger

    async def call(
        self, rpc: str, fields: Mapping[str, Any], *, instance_id: str = "", request_id: str = ""
    ) -> Send:
        """Make a call; whatever becomes of it, it is returned as what a client knows of it."""
        channel = await self.link.channel()
        op = f"{self.name}-{next(self._ops)}"
        invoked_ns, invoked_ms = clocks()
        asked: dict[str, Any] = {
            "op": op,
            "rpc": rpc,
            "instance_id": instance_id,
            "request_id": request_id,
            "fields": dict(fields),
            "invoked_ns": invoked_ns,
            "invoked_ms": invoked_ms,
        }
        self._ledger.write(**asked)
        status, reason, answer = "OK", "", {}
        try:
            answer = await _CALLS[rpc](channel, instance_id, request_id, fields)
        except aio.AioRpcError as error:
            status, reason = error.code().name, reason_of(error)
        answered_ns, answered_ms = clocks()
        told: dict[str, Any] = {
            "answered_ns": answered_ns,
            "answered_ms": answered_ms,
            "status": status,
            "reason": reason,
            "answer": answer,
        }
        self._ledger.write(op=op, **told)
        await self.link.count(status)
        return Send(**asked, **told)

    async def again(self, send: Send) -> Send:
        """Send the same call once more, to the byte."""
        return await self.call(
            send.rpc, send.fields, instance_id=send.instance_id, request_id=send.request_id
        )


def ok(send: Send) -> bool:
    return send.outcome is Outcome.OK


def reason_of(error: aio.AioRpcError) -> str:
    """Return the reason of a perdure error, empty for what grpc itself raised."""
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info) and info.domain == "perdure":
                    return str(info.reason)
    return ""


# --- each rpc: fields in, fields out ---------------------------------------------------------------------------


async def _start(channel: aio.Channel, _: str, request_id: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    request = runner_service_pb2.StartInstanceRequest(
        workflow=fields["workflow"],
        context=common_pb2.Payload(json=fields["context"]),
        opts=runner_service_pb2.StartOptions(
            request_id=request_id,
            instance_id=fields["instance_id"],
            business_key=fields["business_key"],
            conflict_policy=fields["conflict_policy"],
            start_delay_ms=fields["start_delay_ms"],
            labels=fields["labels"],
        ),
    )
    answer = await RunnerServiceStub(channel).StartInstance(request, timeout=CALL_SECONDS_MAX)
    return {
        "instance_id": answer.instance_id,
        "created": answer.created,
        "version": answer.version,
        "revision": answer.revision,
    }


async def _resume(
    channel: aio.Channel, instance_id: str, request_id: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    payload = common_pb2.Payload(json=fields["payload"]) if fields["payload"] else None
    request = runner_service_pb2.ResumeRequest(
        instance_id=instance_id,
        event=fields["event"],
        opts=runner_service_pb2.ResumeOptions(
            request_id=request_id, payload=payload, step_ref=fields["step_ref"], buffer=fields["buffer"]
        ),
    )
    answer = await RunnerServiceStub(channel).Resume(request, timeout=CALL_SECONDS_MAX)
    disposition = runner_service_pb2.Disposition.Name(answer.disposition)
    return {
        "instance_id": instance_id,
        "disposition": disposition.removeprefix("DISPOSITION_"),
        "step_ref": answer.step_ref,
        "revision": answer.revision,
    }


async def _schedule(
    channel: aio.Channel, instance_id: str, request_id: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    request = runner_service_pb2.ScheduleResumeRequest(
        instance_id=instance_id,
        step_ref=fields["step_ref"],
        delay_ms=fields["delay_ms"],
        opts=runner_service_pb2.ScheduleOptions(request_id=request_id),
    )
    answer = await RunnerServiceStub(channel).ScheduleResume(request, timeout=CALL_SECONDS_MAX)
    return {
        "instance_id": instance_id,
        "reference": answer.reference,
        "due_ms": ms_of(answer.due_time),
        "revision": answer.revision,
    }


async def _cancel(
    channel: aio.Channel, instance_id: str, request_id: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    request = instance_service_pb2.CancelInstanceRequest(
        instance_id=instance_id,
        opts=instance_service_pb2.CancelInstanceOptions(request_id=request_id, reason=fields["reason"]),
    )
    answer = await InstanceServiceStub(channel).CancelInstance(request, timeout=CALL_SECONDS_MAX)
    return {"instance_id": instance_id, "revision": answer.revision}


async def _retry(
    channel: aio.Channel, instance_id: str, request_id: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    request = instance_service_pb2.RetryInstanceRequest(
        instance_id=instance_id, opts=instance_service_pb2.RetryInstanceOptions(request_id=request_id)
    )
    answer = await InstanceServiceStub(channel).RetryInstance(request, timeout=CALL_SECONDS_MAX)
    return {"instance_id": instance_id, "revision": answer.revision}


async def _cancel_timer(
    channel: aio.Channel, instance_id: str, request_id: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    request = timer_service_pb2.CancelTimerRequest(
        reference=fields["reference"], opts=timer_service_pb2.CancelTimerOptions(request_id=request_id)
    )
    answer = await TimerServiceStub(channel).CancelTimer(request, timeout=CALL_SECONDS_MAX)
    return {"instance_id": instance_id, "revision": answer.revision}


async def _fire_timer(
    channel: aio.Channel, instance_id: str, request_id: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    request = timer_service_pb2.FireTimerRequest(
        reference=fields["reference"], opts=timer_service_pb2.FireTimerOptions(request_id=request_id)
    )
    answer = await TimerServiceStub(channel).FireTimer(request, timeout=CALL_SECONDS_MAX)
    return {"instance_id": instance_id, "revision": answer.revision, "used": answer.used}


async def _get(channel: aio.Channel, instance_id: str, _: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    request = instance_service_pb2.GetInstanceRequest(instance_id=instance_id)
    answer = await InstanceServiceStub(channel).GetInstance(request, timeout=CALL_SECONDS_MAX)
    shown = answer.instance
    state = instance_service_pb2.InstanceState.Name(shown.state).removeprefix("INSTANCE_STATE_")
    return {
        "instance_id": instance_id,
        "revision": shown.revision,
        "state": state,
        "input": shown.input.json,
        "outputs": {ref: body.json for ref, body in shown.outputs.items() if body.json not in ("", "{}")},
        "finished": {
            result.step_ref: result.event
            for result in shown.step_results
            if result.state == instance_service_pb2.STEP_STATE_FINISHED
        },
        "inbox": [buffered.revision for buffered in shown.inbox],
    }


async def _history(
    channel: aio.Channel, instance_id: str, _: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    """Read a history to its end, page by page."""
    request = instance_service_pb2.ListHistoryRequest(
        instance_id=instance_id, after_revision=fields["after_revision"], page_size=fields["page_size"]
    )
    entries: list[dict[str, Any]] = []
    while True:
        answer = await InstanceServiceStub(channel).ListHistory(request, timeout=CALL_SECONDS_MAX)
        entries += map(of_message, answer.entries)
        if not answer.next_page_token:
            break
        request.page_token = answer.next_page_token
    revision = entries[-1]["revision"] if entries else 0
    return {"instance_id": instance_id, "revision": revision, "entries": entries}


async def _list(channel: aio.Channel, _: str, __: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Read a list to its end, page by page."""
    request = instance_service_pb2.ListInstancesRequest(
        labels=fields["labels"], page_size=fields["page_size"]
    )
    ids: list[str] = []
    while True:
        answer = await InstanceServiceStub(channel).ListInstances(request, timeout=CALL_SECONDS_MAX)
        ids += [shown.instance_id for shown in answer.instances]
        if not answer.next_page_token:
            return {"ids": ids}
        request.page_token = answer.next_page_token


async def _list_timers(
    channel: aio.Channel, instance_id: str, _: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    request = timer_service_pb2.ListTimersRequest(instance_id=instance_id, page_size=PAGE_SIZE)
    answer = await TimerServiceStub(channel).ListTimers(request, timeout=CALL_SECONDS_MAX)
    return {"references": [timer.reference for timer in answer.timers]}


_CALLS: Final[Mapping[str, Any]] = {
    "StartInstance": _start,
    "Resume": _resume,
    "ScheduleResume": _schedule,
    "CancelInstance": _cancel,
    "RetryInstance": _retry,
    "CancelTimer": _cancel_timer,
    "FireTimer": _fire_timer,
    "GetInstance": _get,
    "ListHistory": _history,
    "ListInstances": _list,
    "ListTimers": _list_timers,
}
