"""RunnerService: start, resume and schedule a resume of instances."""

from __future__ import annotations

from typing import Final

from perdure.v1 import runner_service_pb2 as pb
from perdure_server.api.call import CallContext
from perdure_server.api.convert import timestamp
from perdure_server.api.large_payloads import LargePayloads
from perdure_server.api.methods import LimitsClass, Method
from perdure_server.engine import commands
from perdure_server.runtime.operations import Operations
from perdure_server.runtime.request_validation import BUSINESS_KEY_BYTES_MAX, LARGE_PAYLOAD_BYTES, Violations
from perdure_server.runtime.results import ConflictPolicy, Disposition

NAME: Final = "perdure.v1.RunnerService"

_EMPTY: Final = commands.payload(commands.EMPTY_OBJECT)
_CONFLICT_POLICY: Final = {
    pb.CONFLICT_POLICY_UNSPECIFIED: ConflictPolicy.FAIL,
    pb.CONFLICT_POLICY_FAIL: ConflictPolicy.FAIL,
    pb.CONFLICT_POLICY_USE_EXISTING: ConflictPolicy.USE_EXISTING,
}
_DISPOSITION: Final = {
    Disposition.DELIVERED: pb.DISPOSITION_DELIVERED,
    Disposition.BUFFERED: pb.DISPOSITION_BUFFERED,
}


class RunnerService:
    """The handlers of ``proto/perdure/v1/runner_service.proto``."""

    def __init__(self, runtime: Operations) -> None:
        self._runtime = runtime
        self._large = LargePayloads()

    def methods(self) -> list[Method]:
        """Return the methods of the service."""
        return [
            Method("StartInstance", pb.StartInstanceRequest, self.start_instance, LimitsClass.WRITE),
            Method("Resume", pb.ResumeRequest, self.resume, LimitsClass.WRITE),
            Method("ScheduleResume", pb.ScheduleResumeRequest, self.schedule_resume, LimitsClass.WRITE),
        ]

    async def start_instance(
        self, request: pb.StartInstanceRequest, _: CallContext
    ) -> pb.StartInstanceResponse:
        violations = Violations()
        opts = request.opts
        workflow = violations.name("workflow", request.workflow)
        # An absent context, or one without a body, is the empty object.
        context = _EMPTY
        payload = request.context
        if payload.HasField("json"):
            text = payload.json
            # Repeated in `resume`: a shared coroutine would cost small calls more than this comparison.
            if len(text) > LARGE_PAYLOAD_BYTES:
                found = await self._large.payload(violations, "context", text, must_be_object=True)
            else:
                found = violations.payload("context", text, must_be_object=True)
            del text
            context = found or _EMPTY
        request_id = violations.request_id("opts.request_id", opts.request_id)
        instance_id = violations.instance_id("opts.instance_id", opts.instance_id, optional=True)
        version = violations.version("opts.version", opts.version)
        business_key = violations.text("opts.business_key", opts.business_key, BUSINESS_KEY_BYTES_MAX)
        policy = _CONFLICT_POLICY.get(opts.conflict_policy)
        if policy is None:
            violations.add_violation(
                "opts.conflict_policy", "must be CONFLICT_POLICY_FAIL or CONFLICT_POLICY_USE_EXISTING"
            )
        start_delay_ms = violations.delay_ms("opts.start_delay_ms", opts.start_delay_ms, smallest=0)
        labels = violations.labels("opts.labels", opts.labels)
        violations.raise_if_invalid()
        # A call can wait for its commit. It keeps the payload until then, but not the whole request.
        del request, opts, payload
        result = await self._runtime.start_instance(
            workflow=workflow,
            version=version,
            context=context,
            instance_id=instance_id,
            business_key=business_key,
            conflict_policy=policy or ConflictPolicy.FAIL,
            start_delay_ms=start_delay_ms,
            labels=labels,
            request_id=request_id,
        )
        return pb.StartInstanceResponse(
            instance_id=result.instance_id,
            created=result.created,
            version=result.version,
            revision=result.revision,
        )

    async def resume(self, request: pb.ResumeRequest, _: CallContext) -> pb.ResumeResponse:
        violations = Violations()
        opts = request.opts
        instance_id = violations.instance_id("instance_id", request.instance_id)
        event = violations.event("event", request.event)
        request_id = violations.request_id("opts.request_id", opts.request_id)
        body = None
        payload = opts.payload
        if payload.HasField("json"):
            text = payload.json
            if len(text) > LARGE_PAYLOAD_BYTES:
                body = await self._large.payload(violations, "opts.payload", text)
            else:
                body = violations.payload("opts.payload", text)
            del text
        step_ref = violations.name("opts.step_ref", opts.step_ref, optional=True)
        buffer = opts.buffer
        violations.raise_if_invalid()
        del request, opts, payload
        result = await self._runtime.resume(
            instance_id,
            event=event,
            payload=body,
            step_ref=step_ref,
            buffer=buffer,
            request_id=request_id,
        )
        return pb.ResumeResponse(
            disposition=_DISPOSITION[result.disposition],
            step_ref=result.step_ref,
            revision=result.revision,
        )

    async def schedule_resume(
        self, request: pb.ScheduleResumeRequest, _: CallContext
    ) -> pb.ScheduleResumeResponse:
        violations = Violations()
        instance_id = violations.instance_id("instance_id", request.instance_id)
        step_ref = violations.name("step_ref", request.step_ref)
        delay_ms = violations.delay_ms("delay_ms", request.delay_ms)
        request_id = violations.request_id("opts.request_id", request.opts.request_id)
        violations.raise_if_invalid()
        result = await self._runtime.schedule_resume(
            instance_id, step_ref=step_ref, delay_ms=delay_ms, request_id=request_id
        )
        return pb.ScheduleResumeResponse(
            reference=result.reference, due_time=timestamp(result.due_at), revision=result.revision
        )
