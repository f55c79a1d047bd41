"""The verbs, as every face of the server offers them: what a call means, over the runner.

Arguments were validated by the face (`runtime.fields`). What lives here: ids, times, request ids, what a conflict means
for the caller. What may not: decisions about an instance (the engine's), encodings of any wire.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final, TypeVar

import orjson
import uuid_utils

from perdure_server.engine import commands, facts
from perdure_server.engine import rejections as reject
from perdure_server.engine.commands import EMPTY_OBJECT, Command, Payload
from perdure_server.engine.commands import payload as payload_of
from perdure_server.engine.decide import Decision
from perdure_server.runtime.backups import Backups
from perdure_server.runtime.clock import SYSTEM_CHANCE, Chance
from perdure_server.runtime.command_processor import (
    ChangeConflictError,
    Request,
    RequestRepeatedError,
    Runner,
)
from perdure_server.runtime.definitions import Definitions
from perdure_server.runtime.errors import ServerOverloadedError
from perdure_server.runtime.results import (
    ConflictPolicy,
    Disposition,
    FireAnswer,
    ResumeAnswer,
    RevisionAnswer,
    ScheduleAnswer,
    StartAnswer,
)
from perdure_server.runtime.watch import WatchEvent, WatchHub
from perdure_server.store.protocol import (
    Conflict,
    ConflictKind,
    RequestKey,
    RequestRecord,
    Store,
    StoredDefinition,
    StoredInstance,
    StoreUnavailableError,
)

A = TypeVar("A")

STARTS_MAX: Final = 10
"""How often a start is tried anew when what it met was gone by the time it was looked up."""

RPC_START: Final = "StartInstance"

_EMPTY: Final = payload_of(EMPTY_OBJECT)
"""What an absent payload stands for: a repeat may write it out."""


class Operations:
    """One process's verbs over one store. Belongs to one event loop."""

    def __init__(
        self,
        *,
        store: Store,
        runner: Runner,
        definitions: Definitions,
        watch: WatchHub,
        has_code: Callable[[str, int, str], bool],
        chance: Chance = SYSTEM_CHANCE,
        backups: Backups | None = None,
    ) -> None:
        self.store = store
        self.backups = backups or Backups(store)
        self._runner = runner
        self._definitions = definitions
        self._watch = watch
        self._has_code = has_code
        self._chance = chance

    # --- the three verbs -------------------------------------------------------------------------------------

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
    ) -> StartAnswer:
        """Create an instance and begin to run it; durable on return.

        Raises `WorkflowNotFound`, `RequestIdReused`, `InstanceAlreadyExists`, `BusinessKeyInUse`,
        `PayloadTooLarge`, and what the store raises.
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
                    return await self._repeated_or(key, digest, StartAnswer, error)
            answer = StartAnswer(instance_id or str(uuid_utils.uuid7()), True, graph.version, 1)
            command = commands.StartInstance(
                at=self.store.now_ms(),
                instance_id=answer.instance_id,
                input=context,
                business_key=business_key,
                labels=labels,
                start_delay_ms=start_delay_ms,
                request_id=request_id,
            )
            request = None
            if request_id:
                request = Request(key, digest, lambda _, answer=answer: _to_json(answer))  # type: ignore[misc]
            try:
                await self._runner.start(command, graph, request=request)
                return answer
            except RequestRepeatedError as repeated:
                return _first_answer(repeated.record, digest, StartAnswer)
            except ChangeConflictError as conflict:
                existing = await self._met(conflict.kind, workflow, business_key, answer.instance_id)
            if existing is None:
                continue
            if conflict_policy is ConflictPolicy.FAIL:
                raise reject.BusinessKeyInUse(workflow, business_key, existing)
            used = await self._use_existing(existing, key, digest)
            if used is not None:
                return used
        raise ServerOverloadedError(retry_after_ms=100)

    async def _met(
        self, kind: ConflictKind, workflow: str, business_key: str, instance_id: str
    ) -> str | None:
        """Return the live instance that holds the business key, or None to try again."""
        match kind:
            case ConflictKind.REVISION:
                raise reject.InstanceAlreadyExists(instance_id)
            case ConflictKind.BUSINESS_KEY:
                return await self.store.find_business_key(workflow, business_key)
            case _:
                self._definitions.forget_current(workflow)
                return None

    async def _use_existing(self, instance_id: str, key: RequestKey, digest: str) -> StartAnswer | None:
        """Answer with an instance that exists, and remember so; None if it ended meanwhile."""
        state = await self.store.load(instance_id)
        if state is None or not state.is_live:
            return None
        answer = StartAnswer(instance_id, False, state.version, state.revision)
        if key.request_id:
            record = RequestRecord(key, digest, _to_json(answer))
            outcome = await self._runner.remember(state, record)
            if isinstance(outcome, Conflict):
                if outcome.kind is ConflictKind.REQUEST:
                    found = await self.store.find_request(key)
                    return _first_answer(found, digest, StartAnswer) if found else None
                return None
        return answer

    async def resume(
        self,
        instance_id: str,
        *,
        event: str,
        payload: Payload | None = None,
        step_ref: str = "",
        buffer: bool = False,
        request_id: str = "",
    ) -> ResumeAnswer:
        """Deliver an event to the step that waits for it, or buffer it; durable on return.

        Raises `InstanceNotFound`, `InstanceEnded`, `StepNotFound`, `StepNeverAccepts`, `StepAlreadyFinished`,
        `StepUnreachable`, `EventNotAwaited`, `EventNeverAccepted`, `AmbiguousEvent`, `PayloadTooLarge`, `InboxFull`,
        `RequestIdReused`, and what the store raises.
        """
        command = commands.Resume(
            at=self.store.now_ms(),
            event=event,
            payload=payload,
            step_ref=step_ref,
            buffer=buffer,
            request_id=request_id,
        )
        fields = (event, (payload or _EMPTY).info.digest, step_ref, buffer)
        return await self._call("Resume", instance_id, command, fields, ResumeAnswer, _resumed)

    async def schedule_resume(
        self, instance_id: str, *, step_ref: str, delay_ms: int, request_id: str = ""
    ) -> ScheduleAnswer:
        """Arm a timer that resumes the step with `timeout`; durable on return.

        Raises `InstanceNotFound`, `InstanceEnded`, `StepNotFound`, `StepHasNoTimeout`, `StepAlreadyFinished`,
        `StepUnreachable`, `TooManyTimers`, `RequestIdReused`, and what the store raises.
        """
        command = commands.ScheduleResume(
            at=self.store.now_ms(), step_ref=step_ref, delay_ms=delay_ms, request_id=request_id
        )
        fields = (step_ref, delay_ms)
        return await self._call("ScheduleResume", instance_id, command, fields, ScheduleAnswer, _scheduled)

    # --- the other verbs -------------------------------------------------------------------------------------

    async def cancel_instance(
        self, instance_id: str, *, reason: str = "", request_id: str = ""
    ) -> RevisionAnswer:
        """End the instance as CANCELLED. Raises `InstanceNotFound`, `InstanceEnded`, `RequestIdReused`."""
        command = commands.CancelInstance(at=self.store.now_ms(), reason=reason, request_id=request_id)
        return await self._call("CancelInstance", instance_id, command, (reason,), RevisionAnswer, _revised)

    async def retry_instance(self, instance_id: str, *, request_id: str = "") -> RevisionAnswer:
        """Let a FAILED instance go on. Raises `InstanceNotFound`, `InstanceNotFailed`, `BusinessKeyInUse`,
        `DefinitionReplaced`.
        """
        command = commands.RetryInstance(at=self.store.now_ms(), request_id=request_id)
        try:
            return await self._call("RetryInstance", instance_id, command, (), RevisionAnswer, _revised)
        except ChangeConflictError as conflict:
            if conflict.kind is not ConflictKind.BUSINESS_KEY:
                raise ServerOverloadedError(retry_after_ms=100) from conflict
            stored = await self.get_instance(instance_id)
            workflow, business_key = stored.state.workflow, stored.state.business_key
            holder = await self.store.find_business_key(workflow, business_key)
            raise reject.BusinessKeyInUse(workflow, business_key, holder or "", instance_id) from conflict

    async def cancel_timer(
        self, instance_id: str, timer_revision: int, *, request_id: str = ""
    ) -> RevisionAnswer:
        """Cancel a `timeout` timer. Raises `TimerNotFound`, `TimerNotCancellable`."""
        command = commands.CancelTimer(at=self.store.now_ms(), timer=timer_revision, request_id=request_id)
        return await self._timer_call("CancelTimer", instance_id, command, RevisionAnswer, _revised)

    async def fire_timer(self, instance_id: str, timer_revision: int, *, request_id: str = "") -> FireAnswer:
        """Fire a timer now, whatever its due time. Raises `TimerNotFound`."""
        command = commands.FireTimer(
            at=self.store.now_ms(),
            timer=timer_revision,
            jitter=self._chance(),
            forced=True,
            request_id=request_id,
        )
        return await self._timer_call("FireTimer", instance_id, command, FireAnswer, _fired)

    # --- reads -----------------------------------------------------------------------------------------------

    async def get_instance(self, instance_id: str) -> StoredInstance:
        """Return the instance as it is stored. Raises `InstanceNotFound`."""
        stored = await self.store.get_instance(instance_id)
        if stored is None:
            raise reject.InstanceNotFound(instance_id)
        return stored

    async def get_definition(self, workflow: str, version: int) -> StoredDefinition:
        """Return a stored graph; version 0 asks for the newest. Raises `WorkflowNotFound`."""
        return await self._definitions.get(workflow, version)

    def has_code(self, workflow: str, version: int, step_ref: str) -> bool:
        """Whether an executor of this process can run the step."""
        return self._has_code(workflow, version, step_ref)

    def watch(self, instance_id: str, after_revision: int | None = None) -> AsyncGenerator[WatchEvent, None]:
        """See `WatchHub.watch`."""
        return self._watch.watch(instance_id, after_revision)

    # --- request ids -----------------------------------------------------------------------------------------

    async def _call(
        self,
        rpc: str,
        instance_id: str,
        command: Command,
        fields: tuple[Any, ...],
        answer_type: type[A],
        answer: Callable[[str, Decision], A],
    ) -> A:
        request_id = getattr(command, "request_id", "")
        if not request_id:
            return answer(instance_id, await self._submit(instance_id, command, None))
        digest = request_digest(fields)
        request = Request(
            RequestKey(rpc, instance_id, request_id),
            digest,
            lambda decision: _to_json(answer(instance_id, decision)),
        )
        try:
            return answer(instance_id, await self._submit(instance_id, command, request))
        except RequestRepeatedError as repeated:
            return _first_answer(repeated.record, digest, answer_type)

    async def _submit(self, instance_id: str, command: Command, request: Request | None) -> Decision:
        try:
            return await self._runner.submit(instance_id, command, request=request)
        except ChangeConflictError as conflict:
            if conflict.kind is ConflictKind.BUSINESS_KEY:
                raise
            raise StoreUnavailableError("the instance is written to from many sides at once") from conflict

    async def _timer_call(
        self,
        rpc: str,
        instance_id: str,
        command: commands.CancelTimer | commands.FireTimer,
        answer_type: type[A],
        answer: Callable[[str, Decision], A],
    ) -> A:
        try:
            return await self._call(rpc, instance_id, command, (command.timer,), answer_type, answer)
        except reject.InstanceNotFound as error:
            raise reject.TimerNotFound(f"{instance_id}.{command.timer}") from error

    async def _repeated_or(
        self, key: RequestKey, digest: str, answer_type: type[A], otherwise: Exception
    ) -> A:
        record = await self.store.find_request(key) if key.request_id else None
        if record is None:
            raise otherwise
        return _first_answer(record, digest, answer_type)


def request_digest(fields: tuple[Any, ...]) -> str:
    """Digest a request's canonical fields: what must be the same for a repeat to be one."""
    return hashlib.blake2b(orjson.dumps(fields), digest_size=16).hexdigest()


def _to_json(answer: object) -> str:
    return orjson.dumps(answer).decode()


def _first_answer(record: RequestRecord, digest: str, answer_type: type[A]) -> A:
    """Rebuild the first answer of a request that is repeated. Raises `RequestIdReused` for another body."""
    if record.digest != digest:
        raise reject.RequestIdReused(record.key.request_id)
    fields = orjson.loads(record.response)
    if "disposition" in fields:
        fields["disposition"] = Disposition(fields["disposition"])
    return answer_type(**fields)


def _resumed(instance_id: str, decision: Decision) -> ResumeAnswer:
    fact = decision.cause.fact
    if isinstance(fact, facts.EventBuffered):
        return ResumeAnswer(Disposition.BUFFERED, fact.step_ref, decision.cause.revision)
    assert isinstance(fact, facts.StepFinished)
    return ResumeAnswer(Disposition.DELIVERED, fact.step_ref, decision.cause.revision)


def _scheduled(instance_id: str, decision: Decision) -> ScheduleAnswer:
    fact = decision.cause.fact
    assert isinstance(fact, facts.TimerArmed)
    revision = decision.cause.revision
    return ScheduleAnswer(f"{instance_id}.{revision}", fact.due_at, revision)


def _revised(instance_id: str, decision: Decision) -> RevisionAnswer:
    return RevisionAnswer(decision.cause.revision)


def _fired(instance_id: str, decision: Decision) -> FireAnswer:
    fact = decision.cause.fact
    assert isinstance(fact, facts.TimerFired)
    return FireAnswer(fact.used, decision.cause.revision)
