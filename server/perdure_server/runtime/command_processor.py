"""The execution loop: load, decide, commit, then the effects. Everything that happens to an instance passes here.

Theory of operation. Each instance with something to do has a *lane*: its jobs wait there in order and are decided one
at a time, each on the state that the one before it left. Many lanes go on at once and meet in the group commit. A
lane keeps the last committed state, so that the next decision needs no read; reads of clients never see it.

The path of a job is a chain of callbacks, not of awaits: whoever asked may be cancelled at any moment, and the
commit, the cache and the effects must go on all the same. Effects run only after the commit; losing them loses
nothing, since tasks and timers are rows that sweeps find.

What lives here: order, caching, conflicts. What may not: decisions (the engine's) and what verbs mean (`service`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from sys import getsizeof
from typing import Any, Final, Protocol

from perdure.model.graph import WorkflowGraph
from perdure_server.engine import commands, decide, effects, facts
from perdure_server.engine.commands import EMPTY_OBJECT, NO_GRANT, Command, Grant, StartInstance
from perdure_server.engine.decide import Decision
from perdure_server.engine.rejections import DefinitionReplaced, InstanceNotFound, Rejection
from perdure_server.engine.state import Finished, InstanceState, Running, State
from perdure_server.engine.value_type import value
from perdure_server.runtime.change_builder import change_of
from perdure_server.runtime.definitions import Definitions
from perdure_server.runtime.errors import OwnershipLostError, ServerStoppingError
from perdure_server.runtime.ports import TaskPort, TaskToRun, TimerPort
from perdure_server.runtime.watch import WatchHub
from perdure_server.store.protocol import (
    Change,
    Conflict,
    ConflictKind,
    Guard,
    Outcome,
    RequestKey,
    RequestRecord,
    Store,
    StoreError,
    TimerRow,
)
from perdure_server.telemetry.counters import CountersByName

log = logging.getLogger(__name__)

LANES_MAX: Final = 10_000
"""How many instances' states are kept; the one that rested longest goes first."""

STATE_PARTS_MAX: Final = 300_000
"""How many steps, timers and buffered events those states hold together: some three hundred bytes each."""

BODIES_BYTES_MAX: Final = 32 << 20
"""How many bytes of memory the lanes keep payloads in, for tasks to come; beyond, tasks read theirs from the store. A
text takes up to eight bytes for each of its characters: four, and its UTF-8, which it keeps once it was written."""

CONFLICTS_MAX: Final = 20
"""How often a job is decided anew after a lost race before its caller is told to try again."""

EVENTS_LOGGED_MAX: Final = 10
"""Maximum number of event names in one log line."""

UNCONSUMED: Final = "unconsumed"

_TAKES_TASKS: Final = (
    StartInstance,
    commands.Resume,
    commands.FireTimer,
    commands.FinishTask,
    commands.SuspendTask,
    commands.FailTask,
    commands.RetryInstance,
)
"""The commands after which a step may be ready to run."""


class Committer(Protocol):
    """Makes changes durable, many at once (`store.group_commit`)."""

    def submit(self, change: Change) -> asyncio.Future[Outcome]: ...


@value(frozen=True, slots=True)
class Request:
    """A request id with the digest of what it asked, and how to write down its answer."""

    key: RequestKey
    digest: str
    answer: Callable[[Decision], str]


class RequestRepeatedError(Exception):
    """The request id took effect before; ``record`` holds the digest and the first answer."""

    def __init__(self, record: RequestRecord) -> None:
        super().__init__("the request id was used before")
        self.record = record


class ChangeConflictError(Exception):
    """A new instance met what exists: ``kind`` says what. The verb knows what that means."""

    def __init__(self, kind: ConflictKind) -> None:
        super().__init__(kind.value)
        self.kind = kind


@dataclass(slots=True, eq=False)
class _Job:
    instance_id: str
    command: Command | StartInstance
    future: asyncio.Future[Decision]
    graph: WorkflowGraph | None = None
    request: Request | None = None
    guards: tuple[Guard, ...] = ()
    grant: Grant | None = None
    conflicts: int = 0


@dataclass(slots=True, eq=False)
class _Lane:
    instance_id: str
    jobs: deque[_Job] = field(default_factory=deque)
    state: State | None = None
    fresh: bool = False
    bodies: Mapping[int, str] | None = None
    bodies_bytes: int = 0
    parts: int = 0
    busy: bool = False


class Runner:
    """One process's execution loop over one store. Belongs to one event loop."""

    def __init__(
        self,
        *,
        store: Store,
        committer: Committer,
        definitions: Definitions,
        tasks: TaskPort,
        timers: TimerPort,
        watch: WatchHub,
    ) -> None:
        self._store = store
        self._committer = committer
        self._definitions = definitions
        self._tasks = tasks
        self._timers = timers
        self._watch = watch
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()
        self._bodies_bytes = 0
        self._parts = 0
        self._background: set[asyncio.Task[None]] = set()
        self._open_jobs = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False
        self.facts: CountersByName[type[facts.Fact]] = CountersByName(facts.KIND_OF)
        """What was committed here, by workflow and by what happened."""
        self.unconsumed: CountersByName[str] = CountersByName((UNCONSUMED,))
        """Number of events that were in the inbox of an instance when it ended, by workflow."""

    @property
    def jobs(self) -> int:
        """How many jobs are waiting or under way."""
        return self._open_jobs

    def start(
        self,
        command: StartInstance,
        graph: WorkflowGraph,
        *,
        request: Request | None = None,
    ) -> asyncio.Future[Decision]:
        """Create an instance. The future raises `ChangeConflictError`, `RequestRepeatedError`, a rejection or a
        `StoreError`.
        """
        return self._enter(_Job(command.instance_id, command, self._future(), graph=graph, request=request))

    def submit(
        self,
        instance_id: str,
        command: Command,
        *,
        request: Request | None = None,
        guards: tuple[Guard, ...] = (),
        grant: Grant | None = None,
    ) -> asyncio.Future[Decision]:
        """Carry out a command. The future resolves once it is durable, to what it did.

        It raises a `Rejection`, `RequestRepeatedError`, `OwnershipLostError` (a guard failed), or a `StoreError`.
        With ``grant``,
        tasks are taken under it and no other; what is unused of it stays the caller's.
        """
        return self._enter(
            _Job(instance_id, command, self._future(), request=request, guards=guards, grant=grant)
        )

    def remember(self, state: State, record: RequestRecord) -> asyncio.Future[Outcome]:
        """Store a request's answer beside an instance that it did not change, if that is still as it was read."""
        change = Change(state=state, expected_revision=state.revision, entries=(), request=record)
        return self._committer.submit(change)

    async def close(self) -> None:
        """Refuse new jobs and return when those that were accepted are done."""
        self._closing = True
        await self.quiesce()

    async def quiesce(self) -> None:
        """Return when no job is open and nothing that one left behind is under way."""
        while not self.quiet:
            await self._idle.wait()
            if self._background:
                await asyncio.wait(self._background)

    @property
    def quiet(self) -> bool:
        """Whether no job is open and nothing that one left behind is under way."""
        return not self._open_jobs and not self._background

    # --- the way of a job ------------------------------------------------------------------------------------

    def _future(self) -> asyncio.Future[Decision]:
        return asyncio.get_running_loop().create_future()

    def _enter(self, job: _Job) -> asyncio.Future[Decision]:
        if self._closing:
            raise ServerStoppingError()
        lane = self._lanes.get(job.instance_id)
        if lane is None:
            lane = self._lanes[job.instance_id] = _Lane(job.instance_id)
        self._open_jobs += 1
        self._idle.clear()
        lane.jobs.append(job)
        if not lane.busy:
            self._advance(lane)
        return job.future

    def _advance(self, lane: _Lane) -> None:
        """Take jobs until one has to wait for the store."""
        while lane.jobs and not lane.busy:
            job = lane.jobs.popleft()
            if job.future.cancelled():
                self._leave()
                continue
            try:
                self._take(lane, job)
            except Exception as error:  # noqa: BLE001 - it is the caller's to see
                lane.busy = False
                self._forget(lane)
                self._fail(job, error)
        if not lane.busy:
            self._rest(lane)

    def _take(self, lane: _Lane, job: _Job) -> None:
        if isinstance(job.command, StartInstance):
            assert job.graph is not None
            self._decide(lane, job, job.graph)
            return
        state = lane.state
        graph = self._definitions.of(state) if state is not None else None
        if graph is None:
            lane.busy = True
            self._spawn(self._load(lane, job))
        else:
            self._decide(lane, job, graph)

    async def _load(self, lane: _Lane, job: _Job) -> None:
        try:
            state = lane.state
            if state is None:
                state = await self._store.load(job.instance_id)
                if state is None:
                    raise InstanceNotFound(job.instance_id)
                lane.state, lane.fresh = state, True
            try:
                graph = await self._graph_for(state, job)
            except DefinitionReplaced as replaced:
                # Not for good: a request id that was used before is still answered.
                lane.busy = False
                self._rejected(lane, job, replaced, fresh=True)
            else:
                lane.busy = False
                self._decide(lane, job, graph)
        except Exception as error:  # noqa: BLE001 - it is the caller's to see
            lane.busy = False
            self._fail(job, error)
        if not lane.busy:
            self._advance(lane)

    async def _graph_for(self, state: State, job: _Job) -> WorkflowGraph:
        """Read the graph to decide by: the instance's own, or whatever has its version where none is asked."""
        assert not isinstance(job.command, StartInstance)
        if decide.asks_definition(state, job.command):
            return await self._definitions.load(state)
        return await self._definitions.load_current(state.workflow, state.version)

    def _decide(self, lane: _Lane, job: _Job, graph: WorkflowGraph) -> None:
        command = job.command
        grant = job.grant
        if grant is None:
            grant = NO_GRANT
            if isinstance(command, _TAKES_TASKS):
                grant = self._tasks.reserve(graph.name, graph.version)
        fresh, lane.fresh = lane.fresh, False
        decision: Decision | Rejection
        try:
            if isinstance(command, StartInstance):
                decision = decide.start(graph, command, grant)
            else:
                assert lane.state is not None
                decision = decide.decide(graph, lane.state, command, grant)
        except BaseException:
            self._give_back(job, grant, 0)
            raise
        if isinstance(decision, Rejection):
            self._give_back(job, grant, 0)
            self._rejected(lane, job, decision, fresh)
            return
        self._give_back(job, grant, decision.slots_used)
        before = None if isinstance(command, StartInstance) else lane.state
        change = change_of(
            before,
            decision,
            adopt=self._timers.adopt,
            request=self._record(job, decision),
            guards=job.guards,
        )
        lane.busy = True
        try:
            outcome = self._committer.submit(change)
        except BaseException:
            lane.busy = False
            self._return_taken(job, grant, decision)
            raise
        outcome.add_done_callback(
            lambda done: self._committed(lane, job, graph, grant, change, decision, done)
        )

    def _rejected(self, lane: _Lane, job: _Job, rejection: Rejection, fresh: bool) -> None:
        """Answer a rejection, unless a look at the store may still turn it."""
        if self._store.shared and not fresh and not isinstance(job.command, StartInstance):
            self._forget(lane)
            lane.jobs.appendleft(job)
        elif job.request is not None:
            lane.busy = True
            self._spawn(self._look_up(lane, job, rejection))
        else:
            self._fail(job, rejection)

    async def _look_up(self, lane: _Lane, job: _Job, otherwise: Exception) -> None:
        """Answer a request id that was used before with its record, and any other with ``otherwise``."""
        assert job.request is not None
        try:
            record = await self._store.find_request(job.request.key)
            self._fail(job, otherwise if record is None else RequestRepeatedError(record))
        except Exception as error:  # noqa: BLE001 - it is the caller's to see
            self._fail(job, error)
        lane.busy = False
        self._advance(lane)

    def _committed(
        self,
        lane: _Lane,
        job: _Job,
        graph: WorkflowGraph,
        grant: Grant,
        change: Change,
        decision: Decision,
        done: asyncio.Future[Outcome],
    ) -> None:
        lane.busy = False
        try:
            error = done.exception()
            if error is not None:
                self._forget(lane)
                self._return_taken(job, grant, decision)
                self._fail(job, error)
            elif isinstance(outcome := done.result(), Conflict):
                self._return_taken(job, grant, decision)
                self._conflicted(lane, job, graph, outcome.kind)
            else:
                before = lane.state
                self._keep(lane, decision)
                self._tell(decision, before)
                self._leave()
                if not job.future.done():
                    job.future.set_result(decision)
                self._carry_out(lane, graph, grant, change, decision)
        except Exception:
            # Nothing is lost: what is durable is durable, and sweeps find what effects did not reach.
            log.exception("an effect failed after its commit", extra={"instance_id": lane.instance_id})
            self._forget(lane)
        self._advance(lane)

    def _conflicted(self, lane: _Lane, job: _Job, graph: WorkflowGraph, kind: ConflictKind) -> None:
        if kind is ConflictKind.REQUEST:
            lane.busy = True
            self._spawn(self._look_up(lane, job, ChangeConflictError(kind)))
        elif isinstance(job.command, StartInstance) or kind is ConflictKind.BUSINESS_KEY:
            self._fail(job, ChangeConflictError(kind))
        elif kind is ConflictKind.GUARD:
            self._fail(job, OwnershipLostError(lane.instance_id))
        elif kind is ConflictKind.DEFINITION:
            # A FAILED instance does not pin its definition; the one it ran on was replaced meanwhile.
            self._forget(lane)
            self._fail(job, DefinitionReplaced(lane.instance_id, graph.name, graph.version))
        else:
            self._forget(lane)
            job.conflicts += 1
            if job.conflicts > CONFLICTS_MAX:
                self._fail(job, ChangeConflictError(kind))
            else:
                lane.jobs.appendleft(job)

    # --- after the commit ------------------------------------------------------------------------------------

    def _carry_out(
        self, lane: _Lane, graph: WorkflowGraph, grant: Grant, change: Change, decision: Decision
    ) -> None:
        state = decision.state
        self._watch.publish(state.instance_id, decision.entries)
        owners = {row.timer.revision: row for row in change.timers}
        for effect in decision.effects:
            match effect:
                case effects.RunTask(step_ref=step_ref):
                    self._run(lane, graph, grant, state, step_ref)
                case effects.OfferTask(step_ref=step_ref):
                    self._tasks.offer(state.workflow, state.version, step_ref)
                case effects.StopTask(step_ref=step_ref, attempt=attempt):
                    self._tasks.stop(state.instance_id, step_ref, attempt)
                case effects.ArmTimer(timer=timer):
                    row = owners.get(timer.revision)
                    self._timers.arm(row or TimerRow(state.instance_id, timer, ""))
                case effects.DisarmTimer(revision=revision):
                    self._timers.disarm(state.reference(revision))

    def _run(self, lane: _Lane, graph: WorkflowGraph, grant: Grant, state: State, step_ref: str) -> None:
        """Hand an attempt to its executor, with the payloads that it may see."""
        step = state.steps[step_ref]
        assert isinstance(step, Running)
        wanted = {
            ref: ended.output
            for ref, ended in state.steps.items()
            if isinstance(ended, Finished) and ended.ended < step.began
        }
        revisions = {1} | {ref.revision for ref in wanted.values() if ref is not None}

        def run(bodies: Mapping[int, str]) -> None:
            self._tasks.run(
                TaskToRun(
                    instance_id=state.instance_id,
                    workflow=state.workflow,
                    version=state.version,
                    step_ref=step_ref,
                    attempt=step.attempt,
                    owner=step.owner,
                    input=bodies[1],
                    steps={
                        ref: bodies[output.revision] if output else EMPTY_OBJECT
                        for ref, output in wanted.items()
                    },
                    attempt_timeout_ms=graph.steps[step_ref].attempt_timeout_ms,
                )
            )

        if lane.bodies is not None and revisions <= lane.bodies.keys():
            run(lane.bodies)
        else:
            self._spawn(self._fetch(state.instance_id, sorted(revisions), grant, run))

    async def _fetch(
        self,
        instance_id: str,
        revisions: list[int],
        grant: Grant,
        run: Callable[[Mapping[int, str]], None],
    ) -> None:
        try:
            run(await self._store.payloads(instance_id, revisions))
        except StoreError as error:
            # The task is ours and does not run: the dispatcher's reconciliation finds that and takes it anew.
            self._tasks.give_back(grant, 1)
            log.warning("no payloads for a task: %s", error, extra={"instance_id": instance_id})

    # --- the cache -------------------------------------------------------------------------------------------

    def _keep(self, lane: _Lane, decision: Decision) -> None:
        before = lane.state
        lane.state = decision.state
        if not decision.payloads:
            return
        if before is None and decision.entries[0].revision == 1:
            self._set_bodies(lane, decision.payloads)
        elif lane.bodies is not None:
            self._set_bodies(lane, {**lane.bodies, **decision.payloads})

    def _set_bodies(self, lane: _Lane, bodies: Mapping[int, str] | None) -> None:
        self._bodies_bytes -= lane.bodies_bytes
        size_bytes = sum(map(getsizeof, bodies.values())) if bodies else 0
        if self._bodies_bytes + size_bytes > BODIES_BYTES_MAX:
            bodies, size_bytes = None, 0
        lane.bodies, lane.bodies_bytes = bodies, size_bytes
        self._bodies_bytes += size_bytes

    def _set_parts(self, lane: _Lane, parts: int) -> None:
        self._parts += parts - lane.parts
        lane.parts = parts

    def _forget(self, lane: _Lane) -> None:
        lane.state, lane.fresh = None, False
        self._set_bodies(lane, None)
        self._set_parts(lane, 0)

    def _rest(self, lane: _Lane) -> None:
        """Keep a lane that has nothing to do while there is room and anything may still happen to it."""
        if lane.state is None or lane.state.is_final:
            self._drop(lane)
            return
        self._lanes.move_to_end(lane.instance_id)
        self._set_parts(lane, len(lane.state.steps) + len(lane.state.timers) + len(lane.state.inbox))
        while len(self._lanes) > LANES_MAX or self._parts > STATE_PARTS_MAX:
            oldest = next(iter(self._lanes.values()))
            if oldest.busy or oldest.jobs:
                break
            self._drop(oldest)

    def _drop(self, lane: _Lane) -> None:
        self._forget(lane)
        if self._lanes.get(lane.instance_id) is lane:
            del self._lanes[lane.instance_id]

    # --- small things ----------------------------------------------------------------------------------------

    def _tell(self, decision: Decision, before: State | None) -> None:
        """Count what was committed, and log what somebody has to look at."""
        state = decision.state
        counts = self.facts.of(state.workflow)
        for entry in decision.entries:
            counts[type(entry.fact)] += 1
        if state.status is InstanceState.FAILED and state.failure is not None:
            # Of the failure only its type: its message may hold a payload, and is in the history.
            extra = {"instance_id": state.instance_id, "workflow": state.workflow, "version": state.version}
            extra |= {"step_ref": state.failed_step, "error": state.failure.type}
            log.warning("an instance has failed", extra=extra)
        if state.inbox and not state.is_live and (before is None or before.is_live):
            self._report_unconsumed(state)

    def _report_unconsumed(self, state: State) -> None:
        """Count and log the events that an instance leaves in its inbox. Names only: payloads are never logged."""
        self.unconsumed.of(state.workflow)[UNCONSUMED] += len(state.inbox)
        names = list(dict.fromkeys(buffered.event for buffered in state.inbox))
        listed = ", ".join(names[:EVENTS_LOGGED_MAX]) + (", ..." if len(names) > EVENTS_LOGGED_MAX else "")
        extra = {"instance_id": state.instance_id, "workflow": state.workflow, "version": state.version}
        extra |= {"state": state.status.value, "count": len(state.inbox), "events": listed}
        log.warning("instance ended with unconsumed events", extra=extra)

    def _record(self, job: _Job, decision: Decision) -> RequestRecord | None:
        request = job.request
        if request is None:
            return None
        return RequestRecord(request.key, request.digest, request.answer(decision))

    def _give_back(self, job: _Job, grant: Grant, used: int) -> None:
        if job.grant is None and grant.slots > used:
            self._tasks.give_back(grant, grant.slots - used)

    def _return_taken(self, job: _Job, grant: Grant, decision: Decision) -> None:
        """Give back the slots of tasks that were granted by a decision which did not become durable."""
        if job.grant is None and decision.slots_used:
            self._tasks.give_back(grant, decision.slots_used)

    def _fail(self, job: _Job, error: BaseException) -> None:
        self._leave()
        if not job.future.done():
            job.future.set_exception(error)

    def _leave(self) -> None:
        self._open_jobs -= 1
        if not self._open_jobs:
            self._idle.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
