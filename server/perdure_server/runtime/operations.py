"""The methods that write, as every API of the server offers them.

Owns: IDs, times, request IDs, the meaning of a conflict for the caller. Must not: decide (the engine's), validate
arguments (`request_validation`), or encode messages (the API's).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import orjson
import uuid_utils

from perdure_server.engine import commands, facts
from perdure_server.engine import rejections as reject
from perdure_server.engine.commands import EMPTY_OBJECT, Command, Payload
from perdure_server.engine.commands import payload as payload_of
from perdure_server.engine.decide import Decision
from perdure_server.runtime.backups import Backups
from perdure_server.runtime.clock import SYSTEM_RNG, Rng
from perdure_server.runtime.command_processor import (
    ChangeConflictError,
    CommandProcessor,
    Request,
    RequestRepeatedError,
)
from perdure_server.runtime.definitions import Definitions
from perdure_server.runtime.errors import ServerOverloadedError
from perdure_server.runtime.queries import Queries
from perdure_server.runtime.results import (
    ConflictPolicy,
    Disposition,
    FireResult,
    ResumeResult,
    RevisionResult,
    ScheduleResult,
    StartResult,
)
from perdure_server.store.protocol import (
    Conflict,
    ConflictKind,
    RequestKey,
    RequestRecord,
    Store,
    StoreUnavailableError,
)

R = TypeVar("R")

STARTS_MAX: Final = 10
"""Maximum number of tries of a start whose conflict was gone by the time it was looked up."""

RPC_START: Final = "StartInstance"

_EMPTY: Final = payload_of(EMPTY_OBJECT)
"""The meaning of an absent payload. A repeat of the request can send it explicitly."""


class Operations:
    """The methods of one process over one store. Belongs to one event loop. Reads are in ``queries``."""

    def __init__(
        self,
        *,
        store: Store,
        processor: CommandProcessor,
        definitions: Definitions,
        queries: Queries,
        rng: Rng = SYSTEM_RNG,
        backups: Backups | None = None,
    ) -> None:
        self._store = store
        self.backups = backups or Backups(store)
        self._processor = processor
        self._definitions = definitions
        self.queries = queries
        self._rng = rng

    # --- the three main methods -------------------------------------------------------------------------------------

    async def start_instance(
        self,
        *,
        workflow: str,
        version: int = 0,
        context: Payload,
        instance_id: str = "",
        business_key: str = "",
        conflict_policy: ConflictPolicy = ConflictPolicy.FAIL,
        start_delay_ms: int = 0,
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> StartResult:
        """Create an instance and start it. Durable on return.

        Raises `WorkflowNotFound`, `RequestIdReused`, `InstanceAlreadyExists`, `BusinessKeyInUse`,
        `PayloadTooLarge`, and a `StoreError`.
        """
        labels = labels or {}
        fields = (
            workflow,
            version,
            context.info.digest,
            instance_id,
            business_key,
            conflict_policy,
            start_delay_ms,
            sorted(labels.items()),
        )
        digest = request_digest(fields) if request_id else ""
        key = RequestKey(RPC_START, "", request_id)
        for _ in range(STARTS_MAX):
            graph = self._definitions.current(workflow, version)
            if graph is None:
                try:
                    graph = await self._definitions.load_current(workflow, version)
                except reject.WorkflowNotFound as error:
                    return await self._repeated_or(key, digest, StartResult, error)
            result = StartResult(instance_id or str(uuid_utils.uuid7()), True, graph.version, 1)
            command = commands.StartInstance(
                at=self._store.now_ms(),
                instance_id=result.instance_id,
                input=context,
                business_key=business_key,
                labels=labels,
                start_delay_ms=start_delay_ms,
                request_id=request_id,
            )
            request = None
            if request_id:
                request = Request(key, digest, lambda _, result=result: _to_json(result))  # type: ignore[misc]
            try:
                await self._processor.start(command, graph, request=request)
                return result
            except RequestRepeatedError as repeated:
                return _first_result(repeated.record, digest, StartResult)
            except ChangeConflictError as conflict:
                existing = await self._find_existing(
                    conflict.kind, workflow, business_key, result.instance_id
                )
            if existing is None:
                continue
            if conflict_policy is ConflictPolicy.FAIL:
                raise reject.BusinessKeyInUse(workflow, business_key, existing)
            used = await self._use_existing(existing, key, digest)
            if used is not None:
                return used
        raise ServerOverloadedError(retry_after_ms=100)

    async def _find_existing(
        self, kind: ConflictKind, workflow: str, business_key: str, instance_id: str
    ) -> str | None:
        """Return the live instance that holds the business key, or None to try again."""
        match kind:
            case ConflictKind.REVISION:
                raise reject.InstanceAlreadyExists(instance_id)
            case ConflictKind.BUSINESS_KEY:
                return await self._store.find_business_key(workflow, business_key)
            case _:
                self._definitions.forget_current(workflow)
                return None

    async def _use_existing(self, instance_id: str, key: RequestKey, digest: str) -> StartResult | None:
        """Return an existing instance and store that response, or None if the instance has ended meanwhile."""
        state = await self._store.load(instance_id)
        if state is None or not state.is_live:
            return None
        result = StartResult(instance_id, False, state.version, state.revision)
        if key.request_id:
            record = RequestRecord(key, digest, _to_json(result))
            outcome = await self._processor.store_response(state, record)
            if isinstance(outcome, Conflict):
                if outcome.kind is ConflictKind.REQUEST:
                    found = await self._store.find_request(key)
                    return _first_result(found, digest, StartResult) if found else None
                return None
        return result

    async def resume(
        self,
        instance_id: str,
        *,
        event: str,
        payload: Payload | None = None,
        step_ref: str = "",
        buffer: bool = False,
        request_id: str = "",
    ) -> ResumeResult:
        """Deliver an event to the step that waits for it, or buffer it. Durable on return.

        Raises `InstanceNotFound`, `InstanceEnded`, `StepNotFound`, `StepNeverAccepts`, `StepAlreadyFinished`,
        `StepUnreachable`, `EventNotAwaited`, `EventNeverAccepted`, `AmbiguousEvent`, `PayloadTooLarge`, `InboxFull`,
        `RequestIdReused`, and a `StoreError`.
        """
        command = commands.Resume(
            at=self._store.now_ms(),
            event=event,
            payload=payload,
            step_ref=step_ref,
            buffer=buffer,
            request_id=request_id,
        )
        fields = (event, (payload or _EMPTY).info.digest, step_ref, buffer)
        return await self._call("Resume", instance_id, command, fields, ResumeResult, _resumed)

    async def schedule_resume(
        self, instance_id: str, *, step_ref: str, delay_ms: int, request_id: str = ""
    ) -> ScheduleResult:
        """Arm a timer that resumes the step with `timeout`. Durable on return.

        Raises `InstanceNotFound`, `InstanceEnded`, `StepNotFound`, `StepHasNoTimeout`, `StepAlreadyFinished`,
        `StepUnreachable`, `TooManyTimers`, `RequestIdReused`, and a `StoreError`.
        """
        command = commands.ScheduleResume(
            at=self._store.now_ms(), step_ref=step_ref, delay_ms=delay_ms, request_id=request_id
        )
        fields = (step_ref, delay_ms)
        return await self._call("ScheduleResume", instance_id, command, fields, ScheduleResult, _scheduled)

    # --- other methods -------------------------------------------------------------------------------------

    async def cancel_instance(
        self, instance_id: str, *, reason: str = "", request_id: str = ""
    ) -> RevisionResult:
        """End the instance as CANCELLED. Raises `InstanceNotFound`, `InstanceEnded`, `RequestIdReused`."""
        command = commands.CancelInstance(at=self._store.now_ms(), reason=reason, request_id=request_id)
        return await self._call("CancelInstance", instance_id, command, (reason,), RevisionResult, _revised)

    async def retry_instance(self, instance_id: str, *, request_id: str = "") -> RevisionResult:
        """Continue a FAILED instance.

        Raises `InstanceNotFound`, `InstanceNotFailed`, `BusinessKeyInUse`, `DefinitionReplaced`.
        """
        command = commands.RetryInstance(at=self._store.now_ms(), request_id=request_id)
        try:
            return await self._call("RetryInstance", instance_id, command, (), RevisionResult, _revised)
        except ChangeConflictError as conflict:
            if conflict.kind is not ConflictKind.BUSINESS_KEY:
                raise ServerOverloadedError(retry_after_ms=100) from conflict
            stored = await self.queries.get_instance(instance_id)
            workflow, business_key = stored.state.workflow, stored.state.business_key
            holder = await self._store.find_business_key(workflow, business_key)
            raise reject.BusinessKeyInUse(workflow, business_key, holder or "", instance_id) from conflict

    async def cancel_timer(
        self, instance_id: str, timer_revision: int, *, request_id: str = ""
    ) -> RevisionResult:
        """Cancel a `timeout` timer. Raises `TimerNotFound`, `TimerNotCancellable`."""
        command = commands.CancelTimer(at=self._store.now_ms(), timer=timer_revision, request_id=request_id)
        return await self._timer_call("CancelTimer", instance_id, command, RevisionResult, _revised)

    async def fire_timer(self, instance_id: str, timer_revision: int, *, request_id: str = "") -> FireResult:
        """Fire a timer now, regardless of its due time. Raises `TimerNotFound`."""
        command = commands.FireTimer(
            at=self._store.now_ms(),
            timer=timer_revision,
            jitter=self._rng(),
            forced=True,
            request_id=request_id,
        )
        return await self._timer_call("FireTimer", instance_id, command, FireResult, _fired)

    # --- request ids -----------------------------------------------------------------------------------------

    async def _call(
        self,
        rpc: str,
        instance_id: str,
        command: Command,
        fields: tuple[Any, ...],
        result_type: type[R],
        result: Callable[[str, Decision], R],
    ) -> R:
        request_id = getattr(command, "request_id", "")
        if not request_id:
            return result(instance_id, await self._submit(instance_id, command, None))
        digest = request_digest(fields)
        request = Request(
            RequestKey(rpc, instance_id, request_id),
            digest,
            lambda decision: _to_json(result(instance_id, decision)),
        )
        try:
            return result(instance_id, await self._submit(instance_id, command, request))
        except RequestRepeatedError as repeated:
            return _first_result(repeated.record, digest, result_type)

    async def _submit(self, instance_id: str, command: Command, request: Request | None) -> Decision:
        try:
            return await self._processor.submit(instance_id, command, request=request)
        except ChangeConflictError as conflict:
            if conflict.kind is ConflictKind.BUSINESS_KEY:
                raise
            raise StoreUnavailableError("too many concurrent writes to the instance") from conflict

    async def _timer_call(
        self,
        rpc: str,
        instance_id: str,
        command: commands.CancelTimer | commands.FireTimer,
        result_type: type[R],
        result: Callable[[str, Decision], R],
    ) -> R:
        try:
            return await self._call(rpc, instance_id, command, (command.timer,), result_type, result)
        except reject.InstanceNotFound as error:
            raise reject.TimerNotFound(f"{instance_id}.{command.timer}") from error

    async def _repeated_or(
        self, key: RequestKey, digest: str, result_type: type[R], otherwise: Exception
    ) -> R:
        record = await self._store.find_request(key) if key.request_id else None
        if record is None:
            raise otherwise
        return _first_result(record, digest, result_type)


def request_digest(fields: tuple[Any, ...]) -> str:
    """Return the digest of a request's canonical fields. A repeat has the same digest."""
    return hashlib.blake2b(orjson.dumps(fields), digest_size=16).hexdigest()


def _to_json(result: object) -> str:
    return orjson.dumps(result).decode()


def _first_result(record: RequestRecord, digest: str, result_type: type[R]) -> R:
    """Decode the first response to a repeated request. Raises `RequestIdReused` if the requests differ."""
    if record.digest != digest:
        raise reject.RequestIdReused(record.key.request_id)
    fields = orjson.loads(record.response)
    if "disposition" in fields:
        fields["disposition"] = Disposition(fields["disposition"])
    return result_type(**fields)


def _resumed(instance_id: str, decision: Decision) -> ResumeResult:
    fact = decision.cause.fact
    if isinstance(fact, facts.EventBuffered):
        return ResumeResult(Disposition.BUFFERED, fact.step_ref, decision.cause.revision)
    assert isinstance(fact, facts.StepFinished)
    return ResumeResult(Disposition.DELIVERED, fact.step_ref, decision.cause.revision)


def _scheduled(instance_id: str, decision: Decision) -> ScheduleResult:
    fact = decision.cause.fact
    assert isinstance(fact, facts.TimerArmed)
    revision = decision.cause.revision
    return ScheduleResult(f"{instance_id}.{revision}", fact.due_at, revision)


def _revised(instance_id: str, decision: Decision) -> RevisionResult:
    return RevisionResult(decision.cause.revision)


def _fired(instance_id: str, decision: Decision) -> FireResult:
    fact = decision.cause.fact
    assert isinstance(fact, facts.TimerFired)
    return FireResult(fact.used, decision.cause.revision)
