"""The command processor: loads, decides and commits. Everything that happens to an instance passes through it.

Theory of operation. Each instance with pending commands has an *instance queue*. Its commands are decided one at a time
and in order, each on the state that the previous one left. Many queues proceed concurrently, and their changes meet in
the group commit. The state cache keeps the last committed state, so that the next decision needs no read.

A command is processed by a chain of callbacks, not awaits. A caller can be cancelled at any time, and the commit, the
cache and the effects must continue regardless. Effects run only after the commit.

Owns: order, conflicts. Must not: decide (the engine's), define methods (`operations`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from perdure.model.graph import WorkflowGraph
from perdure_server.engine import commands, decide
from perdure_server.engine.commands import NO_GRANT, Command, Grant, StartInstance
from perdure_server.engine.decide import Decision
from perdure_server.engine.rejections import DefinitionReplaced, InstanceNotFound, Rejection
from perdure_server.engine.state import State
from perdure_server.engine.value_type import value
from perdure_server.runtime.background import BackgroundTasks
from perdure_server.runtime.change_builder import change_of
from perdure_server.runtime.commit_counters import CommitCounters
from perdure_server.runtime.definitions import Definitions
from perdure_server.runtime.effect_runner import EffectRunner
from perdure_server.runtime.errors import OwnershipLostError, ServerStoppingError
from perdure_server.runtime.ports import TaskPort, TimerPort
from perdure_server.runtime.state_cache import CachedState, StateCache
from perdure_server.runtime.watch import WatchHub
from perdure_server.store.protocol import (
    Change,
    CommitResult,
    Conflict,
    ConflictKind,
    Guard,
    RequestKey,
    RequestRecord,
    Store,
)

log = logging.getLogger(__name__)

CONFLICTS_MAX: Final = 20
"""Maximum number of times that a command is decided again after a conflict. Its caller gets the next conflict."""

_TAKES_TASKS: Final = (
    StartInstance,
    commands.Resume,
    commands.FireTimer,
    commands.FinishTask,
    commands.SuspendTask,
    commands.FailTask,
    commands.RetryInstance,
)
"""The commands that can make a step ready to run."""


class Committer(Protocol):
    """Commits changes in batches (`store.group_commit`)."""

    def submit(self, change: Change) -> asyncio.Future[CommitResult]: ...


@value(frozen=True, slots=True)
class Request:
    """A request ID, the digest of the request, and a function that encodes the response."""

    key: RequestKey
    digest: str
    response: Callable[[Decision], str]


class RequestRepeatedError(Exception):
    """The request ID took effect before. ``record`` holds the digest and the first response."""

    def __init__(self, record: RequestRecord) -> None:
        super().__init__("the request ID was used before")
        self.record = record


class ChangeConflictError(Exception):
    """The change conflicts with stored data, as ``kind`` says. The meaning depends on the method."""

    def __init__(self, kind: ConflictKind) -> None:
        super().__init__(kind.value)
        self.kind = kind


@dataclass(slots=True, eq=False)
class _PendingCommand:
    instance_id: str
    command: Command | StartInstance
    future: asyncio.Future[Decision]
    graph: WorkflowGraph | None = None
    request: Request | None = None
    guards: tuple[Guard, ...] = ()
    grant: Grant | None = None
    conflicts: int = 0


@dataclass(slots=True, eq=False)
class _InstanceQueue:
    """The pending commands of an instance, and its state while it has any."""

    cached: CachedState
    pending: deque[_PendingCommand] = field(default_factory=deque)
    busy: bool = False
    """True while a command waits for the store."""


class CommandProcessor:
    """Processes the commands of one process over one store. Belongs to one event loop.

    Call `connect` before the first command.
    """

    def __init__(
        self,
        *,
        store: Store,
        committer: Committer,
        definitions: Definitions,
        watch: WatchHub,
    ) -> None:
        self._store = store
        self._committer = committer
        self._definitions = definitions
        self._watch = watch
        self.cache = StateCache()
        self.counters = CommitCounters()
        self._queues: dict[str, _InstanceQueue] = {}
        self._background = BackgroundTasks()
        self._pending = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False

    def connect(self, *, tasks: TaskPort, timers: TimerPort) -> None:
        """Set the ports to executors and timers, which in turn submit their commands here."""
        self._tasks = tasks
        self._timers = timers
        self._effects = EffectRunner(self._store, self._watch, self._background, tasks=tasks, timers=timers)

    @property
    def pending_commands(self) -> int:
        """Number of commands that wait or are being processed."""
        return self._pending

    def start(
        self,
        command: StartInstance,
        graph: WorkflowGraph,
        *,
        request: Request | None = None,
    ) -> asyncio.Future[Decision]:
        """Create an instance. The future resolves after the commit.

        It raises `ChangeConflictError`, `RequestRepeatedError`, a `Rejection` or a `StoreError`.
        """
        return self._enqueue(
            _PendingCommand(command.instance_id, command, self._future(), graph=graph, request=request)
        )

    def submit(
        self,
        instance_id: str,
        command: Command,
        *,
        request: Request | None = None,
        guards: tuple[Guard, ...] = (),
        grant: Grant | None = None,
    ) -> asyncio.Future[Decision]:
        """Process a command. The future resolves to its decision after the commit.

        It raises a `Rejection`, `RequestRepeatedError`, `OwnershipLostError` if a guard failed, or a `StoreError`. With
        ``grant``, tasks are taken under that grant only, and its unused slots remain the caller's.
        """
        return self._enqueue(
            _PendingCommand(instance_id, command, self._future(), request=request, guards=guards, grant=grant)
        )

    def store_response(self, state: State, record: RequestRecord) -> asyncio.Future[CommitResult]:
        """Store the response to a request that does not change the instance, if ``state`` is still current."""
        change = Change(state=state, expected_revision=state.revision, entries=(), request=record)
        return self._committer.submit(change)

    async def close(self) -> None:
        """Reject new commands, and return when the accepted ones are done."""
        self._closing = True
        await self.quiesce()

    async def quiesce(self) -> None:
        """Return when `quiet` is true."""
        while not self.quiet:
            await self._idle.wait()
            await self._background.wait()

    @property
    def quiet(self) -> bool:
        """True if no command is pending and no effect is in progress."""
        return not self._pending and not self._background

    # --- processing a command --------------------------------------------------------------------------------

    def _future(self) -> asyncio.Future[Decision]:
        return asyncio.get_running_loop().create_future()

    def _enqueue(self, command: _PendingCommand) -> asyncio.Future[Decision]:
        if self._closing:
            raise ServerStoppingError()
        queue = self._queues.get(command.instance_id)
        if queue is None:
            queue = _InstanceQueue(self.cache.take(command.instance_id))
            self._queues[command.instance_id] = queue
        self._pending += 1
        self._idle.clear()
        queue.pending.append(command)
        if not queue.busy:
            self._advance(queue)
        return command.future

    def _advance(self, queue: _InstanceQueue) -> None:
        """Process commands until one has to wait for the store."""
        while queue.pending and not queue.busy:
            command = queue.pending.popleft()
            if command.future.cancelled():
                self._leave()
                continue
            try:
                self._process(queue, command)
            except Exception as error:  # noqa: BLE001 - passed to the caller
                queue.busy = False
                self.cache.forget(queue.cached)
                self._fail(command, error)
        if not queue.busy and self._queues.get(queue.cached.instance_id) is queue:
            del self._queues[queue.cached.instance_id]
            self.cache.put(queue.cached)

    def _process(self, queue: _InstanceQueue, command: _PendingCommand) -> None:
        if isinstance(command.command, StartInstance):
            assert command.graph is not None
            self._decide(queue, command, command.graph)
            return
        state = queue.cached.state
        graph = self._definitions.of(state) if state is not None else None
        if graph is None:
            queue.busy = True
            self._background.spawn(self._load(queue, command))
        else:
            self._decide(queue, command, graph)

    async def _load(self, queue: _InstanceQueue, command: _PendingCommand) -> None:
        try:
            cached = queue.cached
            state = cached.state
            if state is None:
                state = await self._store.load(command.instance_id)
                if state is None:
                    raise InstanceNotFound(command.instance_id)
                cached.state, cached.is_fresh = state, True
            try:
                graph = await self._graph_for(state, command)
            except DefinitionReplaced as replaced:
                # Not final: the repeat of a request ID still gets its first response.
                queue.busy = False
                self._reject(queue, command, replaced, is_fresh=True)
            else:
                queue.busy = False
                self._decide(queue, command, graph)
        except Exception as error:  # noqa: BLE001 - passed to the caller
            queue.busy = False
            self._fail(command, error)
        if not queue.busy:
            self._advance(queue)

    async def _graph_for(self, state: State, command: _PendingCommand) -> WorkflowGraph:
        """Read the graph for a decision: the instance's own, or the current one of its version if any will do."""
        assert not isinstance(command.command, StartInstance)
        if decide.asks_definition(state, command.command):
            return await self._definitions.load(state)
        return await self._definitions.load_current(state.workflow, state.version)

    def _decide(self, queue: _InstanceQueue, pending: _PendingCommand, graph: WorkflowGraph) -> None:
        command = pending.command
        cached = queue.cached
        grant = pending.grant
        if grant is None:
            grant = NO_GRANT
            if isinstance(command, _TAKES_TASKS):
                grant = self._tasks.reserve(graph.name, graph.version)
        is_fresh, cached.is_fresh = cached.is_fresh, False
        decision: Decision | Rejection
        try:
            if isinstance(command, StartInstance):
                decision = decide.start(graph, command, grant)
            else:
                assert cached.state is not None
                decision = decide.decide(graph, cached.state, command, grant)
        except BaseException:
            self._release_unused(pending, grant, 0)
            raise
        if isinstance(decision, Rejection):
            self._release_unused(pending, grant, 0)
            self._reject(queue, pending, decision, is_fresh=is_fresh)
            return
        self._release_unused(pending, grant, decision.slots_used)
        before = None if isinstance(command, StartInstance) else cached.state
        change = change_of(
            before,
            decision,
            assign_owner=self._timers.assign_owner,
            request=self._record(pending, decision),
            guards=pending.guards,
        )
        queue.busy = True
        try:
            commit = self._committer.submit(change)
        except BaseException:
            queue.busy = False
            self._release_used(pending, grant, decision)
            raise
        commit.add_done_callback(
            lambda done: self._on_committed(queue, pending, graph, grant, change, decision, done)
        )

    def _reject(
        self, queue: _InstanceQueue, command: _PendingCommand, rejection: Rejection, *, is_fresh: bool
    ) -> None:
        """Return a rejection to the caller, unless a read of the store can still change it."""
        if self._store.shared and not is_fresh and not isinstance(command.command, StartInstance):
            self.cache.forget(queue.cached)
            queue.pending.appendleft(command)
        elif command.request is not None:
            queue.busy = True
            self._background.spawn(self._look_up(queue, command, rejection))
        else:
            self._fail(command, rejection)

    async def _look_up(self, queue: _InstanceQueue, command: _PendingCommand, otherwise: Exception) -> None:
        """Fail with the record of a request ID that was used before, or with ``otherwise``."""
        assert command.request is not None
        try:
            record = await self._store.find_request(command.request.key)
            self._fail(command, otherwise if record is None else RequestRepeatedError(record))
        except Exception as error:  # noqa: BLE001 - passed to the caller
            self._fail(command, error)
        queue.busy = False
        self._advance(queue)

    def _on_committed(
        self,
        queue: _InstanceQueue,
        command: _PendingCommand,
        graph: WorkflowGraph,
        grant: Grant,
        change: Change,
        decision: Decision,
        done: asyncio.Future[CommitResult],
    ) -> None:
        queue.busy = False
        try:
            error = done.exception()
            if error is not None:
                self.cache.forget(queue.cached)
                self._release_used(command, grant, decision)
                self._fail(command, error)
            elif isinstance(result := done.result(), Conflict):
                self._release_used(command, grant, decision)
                self._on_conflict(queue, command, graph, result.kind)
            else:
                before = queue.cached.state
                self.cache.update(queue.cached, decision)
                self.counters.count(decision, before)
                self._leave()
                if not command.future.done():
                    command.future.set_result(decision)
                self._effects.run(queue.cached, graph, grant, change, decision)
        except Exception:
            # The commit is durable, and sweeps find the tasks and timers that the effects did not reach.
            log.exception("effect failed after commit", extra={"instance_id": command.instance_id})
            self.cache.forget(queue.cached)
        self._advance(queue)

    def _on_conflict(
        self, queue: _InstanceQueue, command: _PendingCommand, graph: WorkflowGraph, kind: ConflictKind
    ) -> None:
        if kind is ConflictKind.REQUEST:
            queue.busy = True
            self._background.spawn(self._look_up(queue, command, ChangeConflictError(kind)))
        elif isinstance(command.command, StartInstance) or kind is ConflictKind.BUSINESS_KEY:
            self._fail(command, ChangeConflictError(kind))
        elif kind is ConflictKind.GUARD:
            self._fail(command, OwnershipLostError(command.instance_id))
        elif kind is ConflictKind.DEFINITION:
            # A FAILED instance does not pin its definition, which was replaced meanwhile.
            self.cache.forget(queue.cached)
            self._fail(command, DefinitionReplaced(command.instance_id, graph.name, graph.version))
        else:
            self.cache.forget(queue.cached)
            command.conflicts += 1
            if command.conflicts > CONFLICTS_MAX:
                self._fail(command, ChangeConflictError(kind))
            else:
                queue.pending.appendleft(command)

    def _record(self, command: _PendingCommand, decision: Decision) -> RequestRecord | None:
        request = command.request
        if request is None:
            return None
        return RequestRecord(request.key, request.digest, request.response(decision))

    # --- slots -----------------------------------------------------------------------------------------------

    def _release_unused(self, command: _PendingCommand, grant: Grant, used: int) -> None:
        if command.grant is None and grant.slots > used:
            self._tasks.release(grant, grant.slots - used)

    def _release_used(self, command: _PendingCommand, grant: Grant, decision: Decision) -> None:
        """Release the slots of tasks that a decision took which was not committed."""
        if command.grant is None and decision.slots_used:
            self._tasks.release(grant, decision.slots_used)

    # --- the end of a command --------------------------------------------------------------------------------

    def _fail(self, command: _PendingCommand, error: BaseException) -> None:
        self._leave()
        if not command.future.done():
            command.future.set_exception(error)

    def _leave(self) -> None:
        self._pending -= 1
        if not self._pending:
            self._idle.set()
