"""The one source of tasks: who may take how many, what runs here, and how results get into the store.

Theory of operation. Executors register as clients, with the steps that they have code for and with *credits*:
how many attempts they will hold at once. A credit is in use from the moment an attempt is handed over until
the store has answered for its result, so a database that is away holds up new work by itself.

Tasks come two ways. Before a decision the runner *reserves* slots, and the commit that makes a step ready
takes it in the same breath; that is the fast way. All others wait as rows for the *sweep*, which takes them
by `TakeTask`: tasks that were ready while no credit was free, tasks of replicas that are gone, and after a
restart all of them. Recovery is nothing but the sweep. It asks the store for each client by itself, and only
where that client has room: what waits for one client neither hides another's tasks nor costs it credits. A client
has a *backlog* while tasks may wait for its next credit; that credit wakes the sweep. Clients without one are
looked after once in `SWEEP_MS`, for tasks that nobody here was told of.

A *reconciliation* compares what the database says that this replica runs with what really runs here, twice in a
row before it acts: an attempt that nobody runs (its commit's outcome was unknown, its effect was lost) is
released, and one that the database no longer knows is stopped.

The hot way has no task and no await: hand-overs are calls, answers are callbacks.

What lives here: credits, sweeps, reporting. What may not: running code (the executors'), decisions (the
engine's).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, assert_never

from perdure_server.engine import commands
from perdure_server.engine.commands import NO_GRANT, Command, Grant
from perdure_server.engine.rejections import AttemptStale, InstanceNotFound, Rejection
from perdure_server.runtime.clock import SYSTEM_CHANCE, Chance
from perdure_server.runtime.crash_recovery import ALONE_SECONDS_MAX, SUSPECTS_SECONDS_MAX, CrashRecovery
from perdure_server.runtime.errors import OwnershipLostError, ServerStoppingError
from perdure_server.runtime.ports import TaskToRun
from perdure_server.runtime.reservations import Reservations
from perdure_server.runtime.tasks import (
    Executor,
    SubmitTake,
    SubmitTask,
    TaskFailed,
    TaskFinished,
    TaskKey,
    TaskReleased,
    TaskResult,
    TaskStopped,
    TaskStore,
    TaskSuspended,
    key_of,
)
from perdure_server.store.protocol import Code, CrashReport, StoreError, TaskRow
from perdure_server.telemetry.counters import CountersByName

log = logging.getLogger(__name__)

GRANT_SLOTS_MAX: Final = 8
"""How many tasks one commit may take at once. A wider fan-out leaves the rest to the sweep."""

SWEEP_MS: Final = 1_000
"""How often tasks that nobody took are looked for, if nothing asks for it sooner."""

SWEEP_GAP_MS: Final = 10
"""The least pause between two sweeps: credits that come free one by one are used in batches."""

SWEEP_TASKS_MAX: Final = 500
"""How many tasks one sweep takes."""

SWEEP_ROWS_MAX: Final = 10_000
"""How many rows a sweep reads for a client to get past those that it cannot use (in hand, refused a moment ago)."""

RECONCILE_MS: Final = 2_000
"""How often the database's word is compared with what runs here."""

REFUSED_MS: Final = 5_000
"""How long a task is left alone after the attempt to take it was refused."""

OVER_MAX: Final = 10_000
"""How many attempts are remembered as over here while the store may say that they run: a hand-over that comes late is
not run, and none is counted twice.
"""

REPORT_TRIES_MAX: Final = 25
REPORT_BACKOFF_MS_MIN: Final = 50
REPORT_BACKOFF_MS_MAX: Final = 5_000
"""A result is submitted again while the database is away, for about two minutes; then the attempt is released."""

RELEASE_SECONDS_MAX: Final = 5.0
"""How long a drain waits for the commits that release what did not end in the grace time."""

OUTCOMES: Final = ("ok", "failed", "timed_out", "cancelled", "released")
"""How an attempt may end. One that waits for an event from outside has ended well; one that was told to stop is
cancelled, whatever it returns; what is released runs again and counts as no failure.
"""

NO_CRASH: Final = CrashReport()

WITHOUT_CODE_MAX: Final = 1_000
"""Of how many steps it is told, once each, that there is no code for them."""


@dataclass(slots=True, eq=False)
class _Registered:
    client: Executor
    code: Code
    credits: int
    used: int = 0
    taking: int = 0
    """How many tasks are being taken for it."""
    backlog: bool = False
    """Whether tasks may wait for its next credit."""
    offers: int = 0
    """How many tasks were offered: a sweep sees by it that one became ready while it read."""
    unusable: int = 0
    """How many rows the next sweep has to get past."""
    look_at: float = 0.0
    """When, by the loop's time, its tasks are looked for though none was offered."""

    @property
    def free(self) -> int:
        return self.credits - self.used - self.taking

    def has_code(self, workflow: str, version: int, step_ref: str) -> bool:
        return step_ref in self.code.get((workflow, version), ())


@dataclass(slots=True, eq=False)
class _Held:
    """An attempt that is here: it runs, or its result is on the way into the store."""

    task: TaskToRun
    by: _Registered
    stopped: bool = False
    result: TaskResult | None = None
    tries: int = 0


@dataclass(slots=True, eq=False)
class _Solo:
    """The attempt of a suspect that is under way, see `crash_recovery`."""

    key: TaskKey
    ended: asyncio.Event


class Dispatcher:
    """Hands tasks to executors and their results to the runner. A `TaskPort`; belongs to one event loop."""

    def __init__(
        self,
        store: TaskStore,
        submit: SubmitTask,
        submit_take: SubmitTake,
        replica_id: str,
        *,
        chance: Chance = SYSTEM_CHANCE,
        sweep_ms: int = SWEEP_MS,
        reconcile_ms: int = RECONCILE_MS,
    ) -> None:
        self._store = store
        self._submit = submit
        self._submit_take = submit_take
        self._replica_id = replica_id
        self._chance = chance
        self._sweep_ms = sweep_ms
        self._reconcile_ms = reconcile_ms
        self._clients: list[_Registered] = []
        self._by_code: dict[tuple[str, int], list[_Registered]] = {}
        self._grants: dict[tuple[frozenset[str], int], Grant] = {}
        self._reserved = Reservations()
        self._held: dict[TaskKey, _Held] = {}
        self._taking: dict[TaskKey, _Registered] = {}
        self._refused: dict[TaskKey, float] = {}
        self._over: OrderedDict[TaskKey, None] = OrderedDict()
        self._releases: set[asyncio.Future[Any]] = set()
        self._unrun: frozenset[TaskKey] = frozenset()
        self._unknown: frozenset[TaskKey] = frozenset()
        self._without_code: set[tuple[str, int, str]] = set()
        self._sweeping = False
        self._sweep_wanted = asyncio.Event()
        self._changed = asyncio.Event()
        self._sweeper: asyncio.Task[None] | None = None
        self._draining = False
        self._recovery: CrashRecovery | None = None
        self._solo: _Solo | None = None
        self.alone_seconds = ALONE_SECONDS_MAX
        self.suspects_seconds = SUSPECTS_SECONDS_MAX
        self.lost: CountersByName[str] = CountersByName(("lost",))
        """Attempts that were lost with their process and released here, by workflow."""
        self.ended: CountersByName[str] = CountersByName(OUTCOMES)
        """How attempts ended here, by workflow."""
        self.report_retries = 0
        self.reports_given_up = 0
        """How often a result was submitted again, and how many never came into the store."""

    # --- the executors' side ---------------------------------------------------------------------------------

    def register(self, client: Executor, code: Code, credits_max: int) -> None:
        """Let a client take tasks of ``code``, at most ``credits_max`` at once."""
        self._clients.append(
            _Registered(client, {key: refs for key, refs in code.items() if refs}, credits_max)
        )
        self._index()
        self._sweep_wanted.set()

    def set_credits(self, client: Executor, credits_max: int) -> None:
        """Change how many attempts a client will hold at once."""
        for registered in self._clients:
            if registered.client is client:
                registered.credits = credits_max
        self._wake()

    def unregister(self, client: Executor) -> None:
        """Forget a client that is gone, and release what it held."""
        gone = [registered for registered in self._clients if registered.client is client]
        self._clients = [registered for registered in self._clients if registered.client is not client]
        self._index()
        for key, held in list(self._held.items()):
            if held.by in gone:
                self.done(key, TaskReleased("its executor is gone"))

    def done(self, key: TaskKey, result: TaskResult) -> None:
        """Take the result of an attempt and bring it into the store. Only the first one for an attempt counts."""
        held = self._held.get(key)
        if held is None or held.result is not None:
            return
        held.result = result
        if key not in self._over:
            self.ended.of(held.task.workflow)[_outcome(held, result)] += 1
        if held.stopped or isinstance(result, TaskStopped):
            self._forget(key, held)
        else:
            self._report(key, held)

    def load(self, client: Executor) -> tuple[int, int]:
        """Return how many credits a client uses, and has. May be called from any thread."""
        for registered in self._clients:
            if registered.client is client:
                return registered.used, registered.credits
        return 0, 0

    def has_code(self, workflow: str, version: int, step_ref: str) -> bool:
        """Whether an executor of this process has code for the step."""
        return any(
            registered.has_code(workflow, version, step_ref)
            for registered in self._by_code.get((workflow, version), ())
        )

    # --- the runner's side -----------------------------------------------------------------------------------

    def reserve(self, workflow: str, version: int) -> Grant:
        """Set aside free slots of the clients that have code of this version; `NO_GRANT` where there are none.

        Each slot must come back by `run` or `give_back`. One that does not is freed after a while.
        """
        clients = self._by_code.get((workflow, version))
        if clients is None or self._draining or self._recovery is not None:
            return NO_GRANT
        promised = self._promised
        slots = 0
        step_refs: frozenset[str] = frozenset()
        for registered in clients:
            # Tasks that wait already have a right to half of the credits of their own client.
            kept = registered.credits // 2 if registered.backlog else 0
            free = registered.free - promised - kept
            if free > 0:
                slots = max(slots, free)
                refs = registered.code[workflow, version]
                step_refs = step_refs | refs if step_refs else refs
        slots = min(slots, GRANT_SLOTS_MAX)
        if slots <= 0:
            return NO_GRANT
        grant = self._grants.get((step_refs, slots))
        if grant is None:
            grant = self._grants[step_refs, slots] = Grant(self._replica_id, slots, step_refs)
        self._reserved.add(slots)
        return grant

    def give_back(self, grant: Grant, unused: int) -> None:
        """Free ``unused`` slots of a grant."""
        self._reserved.take(unused)
        self._wake()

    def run(self, task: TaskToRun) -> None:
        """Run an attempt that a commit granted. It uses one slot until its result is stored."""
        self._reserved.take(1)
        self._run(task)
        # What was promised to all clients is used by one: the others may have room for tasks that wait.
        self._wake()

    def _run(self, task: TaskToRun) -> None:
        key = key_of(task)
        if key in self._held or key in self._over:
            return
        # What a sweep took for a client runs there: its room was counted.
        registered = self._taking.get(TaskKey(key.instance_id, key.step_ref, key.attempt - 1))
        if registered not in self._clients:
            registered = self._choose(task.workflow, task.version, task.step_ref)
        if registered is None or self._draining:
            reason = "the server shuts down" if self._draining else "no executor has code for the step"
            self._release(key, task.workflow, reason)
            self._end_solo(key)
            return
        held = self._held[key] = _Held(task, registered)
        registered.used += 1
        try:
            registered.client.run(task)
        except Exception:  # a client's bug must not lose the task
            log.exception("an executor refused a task", extra={"instance_id": key.instance_id})
            if self._held.get(key) is held:
                self.done(key, TaskReleased("its executor refused it"))

    def offer(self, workflow: str, version: int, step_ref: str) -> None:
        """Say that a task of this step is ready and unowned."""
        if not self.has_code(workflow, version, step_ref):
            self._tell_no_code(workflow, version, step_ref)
        for registered in self._by_code.get((workflow, version), ()):
            if registered.has_code(workflow, version, step_ref):
                registered.backlog = True
                registered.offers += 1
        self._wake()

    def _tell_no_code(self, workflow: str, version: int, step_ref: str) -> None:
        step = (workflow, version, step_ref)
        if step not in self._without_code and len(self._without_code) < WITHOUT_CODE_MAX:
            self._without_code.add(step)
            extra = {"workflow": workflow, "version": version, "step_ref": step_ref}
            log.warning("a step is ready that this server has no code for", extra=extra)

    def stop(self, instance_id: str, step_ref: str, attempt: int) -> None:
        """Tell an attempt that its result no longer counts. Unknown attempts are ignored."""
        key = TaskKey(instance_id, step_ref, attempt)
        held = self._held.get(key)
        if held is not None and held.result is None and not held.stopped:
            held.stopped = True
            held.by.client.stop(key)

    # --- the process's side ----------------------------------------------------------------------------------

    def start(self, report: CrashReport = NO_CRASH) -> None:
        """Start to sweep. The first sweep, which is the recovery after a crash, starts at once.

        If ``report`` has lost attempts or suspects, they come first. New work waits while suspects run alone.
        """
        if report.lost or report.suspects:
            self._recovery = CrashRecovery(
                report,
                self._store,
                self._submit,
                self,
                chance=self._chance,
                lost=self.lost,
                alone_seconds=self.alone_seconds,
                suspects_seconds=self.suspects_seconds,
            )
        self._sweep_wanted.set()
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep_for_ever(), name="perdure-tasks")

    async def drain(self, shutdown_timeout_seconds: float) -> None:
        """Take nothing new, wait for results within the grace time, and release the rest in commits."""
        self._draining = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
            self._sweeper = None
        await self._until(lambda: not self._held and not self._taking, shutdown_timeout_seconds)
        for key, held in list(self._held.items()):
            if held.result is None and not held.stopped:
                held.stopped = True
                self._release(key, held.task.workflow, "the server shuts down")
                held.by.client.stop(key)
        await self._until(
            lambda: not self._releases and all(held.stopped for held in self._held.values()),
            RELEASE_SECONDS_MAX,
        )

    def replica_changed(self, replica_id: str) -> None:
        """Go on under a new id. What runs goes on: its attempt's number says whether its result still counts."""
        self._replica_id = replica_id
        self._grants.clear()
        self._unrun = self._unknown = frozenset()
        for registered in self._clients:
            registered.look_at = 0.0
        self._sweep_wanted.set()

    def healthy(self) -> bool:
        """Whether tasks are swept."""
        return self._sweeper is not None and not self._sweeper.done()

    @property
    def tasks(self) -> int:
        """How many attempts run here or wait for the store to take their results."""
        return len(self._held)

    @property
    def code(self) -> Code:
        """The steps that an executor of this process has code for."""
        code: dict[tuple[str, int], frozenset[str]] = {}
        for registered in self._clients:
            for key, refs in registered.code.items():
                code[key] = code.get(key, frozenset()) | refs
        return code

    async def run_alone(self, row: TaskRow) -> None:
        """Take a task and run it. Returns once its result is stored, or at once if it cannot be taken."""
        chosen = self._choose(row.workflow, row.version, row.step_ref)
        if chosen is None or chosen.free <= 0 or self._draining:
            return
        self._solo = _Solo(TaskKey(row.instance_id, row.step_ref, row.attempt + 1), asyncio.Event())
        try:
            self._take(row, chosen)
            await self._solo.ended.wait()
        finally:
            self._solo = None

    def _end_solo(self, key: TaskKey) -> None:
        if self._solo is not None and self._solo.key == key:
            self._solo.ended.set()

    async def quiesce(self) -> None:
        """Return when no attempt is here and no sweep is wanted: the point from which virtual time may go on."""
        while not self.quiet:
            self._changed.clear()
            await self._changed.wait()

    @property
    def quiet(self) -> bool:
        """Whether no attempt is here and no sweep is wanted."""
        sweeps = self._sweeper is not None and (self._sweeping or self._sweep_wanted.is_set())
        return not (self._held or self._taking or self._releases or sweeps)

    @property
    def attempts(self) -> list[TaskKey]:
        """The attempts that run here or wait for the store to take their results."""
        return list(self._held)

    # --- results ---------------------------------------------------------------------------------------------

    def _report(self, key: TaskKey, held: _Held) -> None:
        assert held.result is not None
        try:
            answer = self._submit(key.instance_id, self._command(key, held.result))
        except Exception as error:  # noqa: BLE001 - told apart in one place
            self._reported(key, held, error)
        else:
            answer.add_done_callback(partial(self._on_reported, key, held))

    def _on_reported(self, key: TaskKey, held: _Held, done: asyncio.Future[Any]) -> None:
        self._reported(key, held, asyncio.CancelledError() if done.cancelled() else done.exception())

    def _reported(self, key: TaskKey, held: _Held, error: BaseException | None) -> None:
        match error:
            case None:
                self._forget(key, held)
            case AttemptStale() | InstanceNotFound() | OwnershipLostError() | ServerStoppingError():
                log.debug("a result does not count: %s", error, extra={"instance_id": key.instance_id})
                self._forget(key, held)
            case Rejection() if isinstance(held.result, TaskFailed | TaskReleased):
                log.error("a result was refused: %s", error, extra={"instance_id": key.instance_id})
                self._remember(key)
                self._forget(key, held)
            case Rejection():
                # The step would run for ever if its result could never be stored.
                held.result = TaskFailed(
                    type(error).__name__, f"the result was refused: {error}", retryable=False
                )
                self._report(key, held)
            case _:
                self._report_again(key, held, error)

    def _report_again(self, key: TaskKey, held: _Held, error: BaseException) -> None:
        held.tries += 1
        if held.tries >= REPORT_TRIES_MAX:
            log.error("a result was given up: %s", error, extra={"instance_id": key.instance_id})
            self.reports_given_up += 1
            self._remember(key)
            self._forget(key, held)
            return
        self.report_retries += 1
        if held.tries == 1 and not isinstance(error, StoreError):
            log.warning("a result was not stored yet", extra={"instance_id": key.instance_id}, exc_info=error)
        pause_ms = min(REPORT_BACKOFF_MS_MAX, REPORT_BACKOFF_MS_MIN << min(held.tries - 1, 10))
        pause_s = pause_ms * random.uniform(0.5, 1.0) / 1000
        asyncio.get_running_loop().call_later(pause_s, self._report, key, held)

    def _forget(self, key: TaskKey, held: _Held) -> None:
        del self._held[key]
        held.by.used -= 1
        self._changed.set()
        if self._solo is not None:
            self._end_solo(key)
        self._wake()

    def _release(self, key: TaskKey, workflow: str, reason: str) -> None:
        """Give an attempt back that does not run here. A failure is left to the next reconciliation."""
        if self._remember(key):
            self.ended.of(workflow)["released"] += 1
        command = commands.ReleaseTask(
            at=self._store.now_ms(), step_ref=key.step_ref, attempt=key.attempt, reason=reason
        )
        try:
            answer = self._submit(key.instance_id, command)
        except Exception as error:  # noqa: BLE001 - see above
            # At the end of a shutdown, the end of the lease releases it.
            if not isinstance(error, ServerStoppingError):
                log.warning("a task was not released: %s", error, extra={"instance_id": key.instance_id})
            return
        self._releases.add(answer)
        answer.add_done_callback(self._on_released)

    def _remember(self, key: TaskKey) -> bool:
        """Note that an attempt is over here, whatever the store says. False if that was known."""
        if key in self._over:
            return False
        self._over[key] = None
        while len(self._over) > OVER_MAX:
            self._over.popitem(last=False)
        return True

    def _on_released(self, done: asyncio.Future[Any]) -> None:
        self._releases.discard(done)
        self._changed.set()
        error = None if done.cancelled() else done.exception()
        if error is not None and not isinstance(error, AttemptStale | InstanceNotFound):
            log.warning("a task was not released: %s", error)

    def _command(self, key: TaskKey, result: TaskResult) -> Command:
        step_ref, attempt, at = key.step_ref, key.attempt, self._store.now_ms()
        match result:
            case TaskFinished(event=event, output=output):
                return commands.FinishTask(
                    at=at, step_ref=step_ref, attempt=attempt, event=event, output=output
                )
            case TaskSuspended():
                return commands.SuspendTask(at=at, step_ref=step_ref, attempt=attempt)
            case TaskFailed(type=type_, message=message, retryable=retryable):
                return commands.FailTask(
                    at=at,
                    step_ref=step_ref,
                    attempt=attempt,
                    type=type_,
                    message=message,
                    retryable=retryable,
                    jitter=self._chance(),
                )
            case TaskReleased(reason=reason):
                return commands.ReleaseTask(at=at, step_ref=step_ref, attempt=attempt, reason=reason)
            case TaskStopped():
                raise AssertionError("a stopped attempt has no result")
            case _:
                assert_never(result)

    # --- sweeping --------------------------------------------------------------------------------------------

    async def _sweep_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        if self._recovery is not None:
            await self._recover(self._recovery)
        reconcile_at = loop.time()
        while True:
            gap_ms = SWEEP_GAP_MS
            try:
                self._sweep_wanted.clear()
                self._sweeping = True
                await self._sweep()
                if loop.time() >= reconcile_at:
                    await self._reconcile()
                    reconcile_at = loop.time() + self._reconcile_ms / 1000
            except StoreError as error:
                log.warning("tasks were not swept: %s", error)
                gap_ms = self._sweep_ms
            except Exception:  # the loop must outlive what it meets
                log.exception("tasks were not swept")
                gap_ms = self._sweep_ms
            self._sweeping = False
            self._changed.set()
            await asyncio.sleep(gap_ms / 1000)
            try:
                async with asyncio.timeout(self._sweep_ms / 1000):
                    await self._sweep_wanted.wait()
            except TimeoutError:
                pass

    async def _recover(self, recovery: CrashRecovery) -> None:
        self._sweeping = True
        if not recovery.has_suspects:
            self._recovery = None
        try:
            await recovery.run()
        except Exception:  # the sweeps must continue, and take what was lost as they take everything
            log.exception("recovery after an unclean stop failed")
        self._recovery = None

    async def _sweep(self) -> None:
        """Take tasks that no live replica runs, for each client that has room and that tasks may wait for."""
        # By the loop's time: the store's may be set back by hours.
        now = asyncio.get_running_loop().time()
        self._refused = {key: until for key, until in self._refused.items() if until > now}
        for registered in tuple(self._clients):
            if self._draining:
                return
            if self._room(registered) > 0:
                if registered.backlog or now >= registered.look_at:
                    registered.look_at = now + self._sweep_ms / 1000
                    await self._sweep_for(registered)
            elif now >= registered.look_at:
                # Nobody knows what waits: its next credit is to find out.
                registered.backlog = True
        self._wake()

    async def _sweep_for(self, registered: _Registered) -> None:
        """Take the oldest tasks that a client has code for, as many as it has room for."""
        offers = registered.offers
        limit = min(self._room(registered), SWEEP_TASKS_MAX) + registered.unusable
        rows = await self._store.claimable_tasks(code=registered.code, limit=limit)
        taken = unusable = without_room = 0
        for row in rows:
            key = key_of(row)
            chosen = self._choose(row.workflow, row.version, row.step_ref)
            if chosen is None or key in self._held or key in self._taking or key in self._refused:
                unusable += 1
            elif self._room(chosen) <= 0:
                without_room += 1
            else:
                self._take(row, chosen)
                taken += 1
        full = len(rows) >= limit
        before = registered.unusable
        registered.unusable = min((2 if full else 1) * unusable, SWEEP_ROWS_MAX)
        # Where nothing could be used and no more may be read, another sweep would see the same: it is left to time.
        more = full and (taken > 0 or registered.unusable > before)
        registered.backlog = more or without_room > 0 or registered.offers != offers

    def _room(self, registered: _Registered) -> int:
        """How many tasks a client can take beyond what it holds and what decisions under way may give it."""
        return registered.free - self._promised

    @property
    def _promised(self) -> int:
        """How many slots decisions under way have set aside, of whichever client. A sweep knows whom it takes for."""
        return max(self._reserved.total - len(self._taking), 0)

    def _wake(self) -> None:
        """Sweep soon if tasks wait for a client that has room. For one without, there is nothing to be had."""
        if any(registered.backlog and self._room(registered) > 0 for registered in self._clients):
            self._sweep_wanted.set()

    def _take(self, row: TaskRow, by: _Registered) -> None:
        key = key_of(row)
        command = commands.TakeTask(
            at=self._store.now_ms(), step_ref=row.step_ref, lost_attempt=row.attempt if row.owner else 0
        )
        self._taking[key] = by
        by.taking += 1
        self._reserved.add(1)
        grant = Grant(self._replica_id, 1, frozenset({row.step_ref}))
        try:
            answer = self._submit_take(row.instance_id, command, grant)
        except Exception as error:  # noqa: BLE001 - told apart in one place
            self._taken(key, error)
        else:
            answer.add_done_callback(
                lambda done: self._taken(
                    key, asyncio.CancelledError() if done.cancelled() else done.exception()
                )
            )

    def _taken(self, key: TaskKey, error: BaseException | None) -> None:
        self._taking.pop(key).taking -= 1
        self._changed.set()
        if error is not None:
            self._not_taken(key, error)
        # A store that fails is asked again after a while, not at once.
        if not isinstance(error, StoreError):
            self._wake()

    def _not_taken(self, key: TaskKey, error: BaseException) -> None:
        # Else the commit's effect runs it, and uses the slot.
        self._reserved.take(1)
        self._end_solo(key._replace(attempt=key.attempt + 1))
        if not isinstance(error, StoreError):
            self._refused[key] = asyncio.get_running_loop().time() + REFUSED_MS / 1000
        if not isinstance(error, AttemptStale | InstanceNotFound | ServerStoppingError):
            log.warning("a task was not taken: %s", error, extra={"instance_id": key.instance_id})

    async def _reconcile(self) -> None:
        """Compare the database's word with what runs here. What differs twice in a row is put right."""
        owner = self._replica_id
        before = [key for key, held in self._held.items() if held.task.owner == owner and held.result is None]
        owned = {key_of(row): row.workflow for row in await self._store.owned_tasks(owner)}
        if owner != self._replica_id:
            return
        unrun = frozenset(key for key in owned if key not in self._held)
        for key in unrun & self._unrun:
            log.warning("an attempt that nobody runs is released", extra={"instance_id": key.instance_id})
            self._release(key, owned[key], "nobody ran it: the outcome of its commit was not known")
        unknown = frozenset(key for key in before if key not in owned)
        for key in unknown & self._unknown:
            self.stop(*key)
        self._unrun, self._unknown = unrun, unknown

    # --- small things ----------------------------------------------------------------------------------------

    def _index(self) -> None:
        self._by_code = {}
        self._grants.clear()
        for registered in self._clients:
            for key in registered.code:
                self._by_code.setdefault(key, []).append(registered)

    def _choose(self, workflow: str, version: int, step_ref: str) -> _Registered | None:
        """The client with most room that has code for the step."""
        best: _Registered | None = None
        clients: Sequence[_Registered] = self._by_code.get((workflow, version), ())
        for registered in clients:
            if registered.has_code(workflow, version, step_ref) and (
                best is None or registered.free > best.free
            ):
                best = registered
        return best

    async def _until(self, condition: Any, seconds_max: float) -> None:
        try:
            async with asyncio.timeout(seconds_max):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass


def _outcome(held: _Held, result: TaskResult) -> str:
    if held.stopped:
        return "cancelled"
    match result:
        case TaskFinished() | TaskSuspended():
            return "ok"
        case TaskFailed(timed_out=timed_out):
            return "timed_out" if timed_out else "failed"
        case TaskReleased():
            return "released"
        case TaskStopped():
            return "cancelled"
        case _:
            assert_never(result)
