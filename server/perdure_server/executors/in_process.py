"""The in-process executor: the first client of the dispatcher's tasks.

Theory of operation. `async def` steps run on a loop of their own, plain functions in a pool of threads; user
code never runs on the server's loop. The dispatcher sees two clients with credits of their own, so that
blocking functions do not use up the room of coroutines. Hand-overs cross by mailboxes, many with one wake-up,
in both directions.

The server's loop keeps the deadlines, since it is the one that user code cannot block: an attempt over its
time fails at once; its coroutine is cancelled, its thread abandoned, and what it returns later is dropped. A
loop that stalls is abandoned as a whole and replaced. The attempt whose code blocks it fails. All others are released
without counting, and time that the loop was blocked by another attempt does not count towards an `attempt_timeout`.

What lives here: who runs where, deadlines, replacing what hangs. What may not: meaning of results
(``results``), threads and loops themselves. Not contained: ``os._exit``, native crashes, code that holds the
interpreter's lock.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from perdure.authoring import Workflow, graph_of, handlers_of
from perdure_server.executors.failures import clean
from perdure_server.executors.full_pools import FullPools, Holder
from perdure_server.executors.mailbox import Mailbox
from perdure_server.executors.ownership import Owner, StepOwner
from perdure_server.executors.stall_watch import StallWatch
from perdure_server.executors.step_threads import (
    ABANDONED_THREADS_MAX,
    SYNC_STEPS_MAX,
    Awaiting,
    StepThreads,
    ThreadEnded,
)
from perdure_server.executors.steps_loop import (
    Began,
    Lifespan,
    LifespanError,
    Probe,
    Probed,
    Run,
    StepsLoop,
)
from perdure_server.runtime.dispatcher import Dispatcher
from perdure_server.runtime.ports import TaskToRun
from perdure_server.runtime.tasks import TaskFailed, TaskKey, TaskReleased, TaskResult, key_of
from perdure_server.store.closing import finish

log = logging.getLogger(__name__)

ASYNC_STEPS_MAX: Final = 256
"""How many `async def` steps run at once."""

OVERDUE_COROUTINES_MAX: Final = 1_000
"""How many cancelled coroutines may refuse to end before readiness fails."""

PING_MS: Final = 250
STALLED_PINGS: Final = 40
"""Number of unanswered pings in a row, all with the same owner, after which a steps loop is replaced: 10 s."""

ABANDONED_LOOPS_MAX: Final = 3
"""How many stalled loops may hang before they are replaced no more, and readiness fails until one ends."""

REOPEN_PINGS: Final = 20
"""After how many pings a lifespan that failed on a new loop is tried again."""

OWED_SECONDS_MIN: Final = 0.02
"""Time lost to a blocked loop, in seconds, from which an attempt's deadline is extended."""

LIFESPAN_SECONDS_MAX: Final = 60.0
"""How long the lifespans together have to open."""

SWITCH_INTERVAL_SECONDS: Final = 1e-3
"""How soon the interpreter's lock changes hands between busy threads, while steps may run.

A compromise. With the default of 5 ms, a loop saturated with short callbacks has kept steps waiting for up to 0.75 s
(each short release starts the wait anew). With 0.1 ms, the writer's many short needs of the lock interrupt the loop so
often that a server takes fewer calls. docs/performance.md has a later comparison, in which
the waits differed less.
"""

StepCode: TypeAlias = Callable[[Any], object]
"""A step's function, bound: it takes a `Context` and is a coroutine function or a plain one."""

Bind: TypeAlias = Callable[[Iterable[Workflow]], tuple[dict[tuple[str, int, str], StepCode], list[Lifespan]]]
"""What `bind` does; a test kit puts something between the engine and the code."""


def bind(workflows: Iterable[Workflow]) -> tuple[dict[tuple[str, int, str], StepCode], list[Lifespan]]:
    """Return the code of workflow objects by (workflow, version, step_ref), and their lifespans."""
    code: dict[tuple[str, int, str], StepCode] = {}
    lifespans: list[Lifespan] = []
    for workflow in workflows:
        graph = graph_of(workflow)
        code.update({(graph.name, graph.version, ref): step for ref, step in handlers_of(workflow).items()})
        lifespans.append((f"workflow {graph.name!r} version {graph.version}", workflow.lifespan))
    return code, lifespans


@dataclass(slots=True, eq=False)
class _Attempt:
    task: TaskToRun
    in_thread: bool
    deadline: asyncio.TimerHandle | None = None
    answered: bool = False
    lost_before: float = 0.0
    """Total time lost to blocked loops when the deadline was set or extended, in seconds."""
    own_stall: float = 0.0
    """Time that the attempt itself blocked the loop since then, in seconds."""
    probed_at: float | None = None
    """Time at which the deadline passed, while the loop is asked for a response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Room for steps: how many run at once at most, how many do, and how many are lost to some that outlived their
    `attempt_timeout`.
    """

    size: int = 0
    used: int = 0
    lost: int = 0


class InProcessExecutor:
    """Runs steps in this process. Belongs to the server's loop; ``start`` it before the dispatcher."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        code: Mapping[tuple[str, int, str], StepCode],
        lifespans: Sequence[Lifespan] = (),
        *,
        max_async_steps: int = ASYNC_STEPS_MAX,
        max_sync_steps: int = SYNC_STEPS_MAX,
        abandoned_threads_max: int = ABANDONED_THREADS_MAX,
        ping_ms: int = PING_MS,
        stalled_pings: int = STALLED_PINGS,
    ) -> None:
        self._dispatcher = dispatcher
        self._code = dict(code)
        self._lifespans = list(lifespans)
        self._max_async_steps = max_async_steps
        self._max_sync_steps = max_sync_steps
        self._abandoned_threads_max = abandoned_threads_max
        self._ping_ms = ping_ms
        self._stalled_pings = stalled_pings
        self._attempts: dict[TaskKey, _Attempt] = {}
        self._overdue_coroutines = 0
        self._steps_loop: StepsLoop | None = None
        self._stalled: list[StepsLoop] = []
        self._stalls = StallWatch(ping_ms / 1000)
        self._full_pools = FullPools()
        self._reopening: asyncio.Task[None] | None = None
        self._pings_to_reopen = 0
        self._pinger: asyncio.Task[None] | None = None
        self._loop_client = _AsyncStepExecutor(self)
        self._thread_client = _SyncStepExecutor(self)
        self._stopped = False
        self.loops_lost = 0
        """How many loops of `async def` steps were given up."""

    async def start(self) -> None:
        """Open the lifespans, then offer to run steps. Raises `LifespanError`; then nothing is left running."""
        self._home = asyncio.get_running_loop()
        self._mailbox: Mailbox[tuple[TaskKey, Any]] = Mailbox(self._home, self._on_told)
        self._threads = StepThreads(
            self._tell, max_sync_steps=self._max_sync_steps, abandoned_max=self._abandoned_threads_max
        )
        self._steps_loop = await self._open_loop()
        self._switch_interval = sys.getswitchinterval()
        sys.setswitchinterval(min(self._switch_interval, SWITCH_INTERVAL_SECONDS))
        coroutines: dict[tuple[str, int], set[str]] = {}
        functions: dict[tuple[str, int], set[str]] = {}
        for (workflow, version, ref), step in self._code.items():
            kind = coroutines if _is_coroutine_function(step) else functions
            kind.setdefault((workflow, version), set()).add(ref)
        self._dispatcher.register(self._loop_client, _frozen(coroutines), self._max_async_steps)
        self._dispatcher.register(self._thread_client, _frozen(functions), self._max_sync_steps)
        self._pinger = self._home.create_task(self._ping_for_ever(), name="perdure-steps-ping")

    async def stop(self) -> None:
        """Cancel what still runs, leave the lifespans, end the threads. Drain the dispatcher first."""
        self._stopped = True
        if self._pinger is None:
            return
        sys.setswitchinterval(self._switch_interval)
        for task in (self._pinger, self._reopening):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._dispatcher.unregister(self._loop_client)
        self._dispatcher.unregister(self._thread_client)
        for attempt in self._attempts.values():
            _cancel_deadline(attempt)
        self._threads.close()
        if self._steps_loop is not None:
            await self._steps_loop.close()

    def healthy(self) -> bool:
        """Whether steps can be run with all the room that was promised."""
        return (
            not self._stopped
            and self._steps_loop is not None
            and self._pinger is not None
            and not self._pinger.done()
            and self._threads.abandoned <= self._abandoned_threads_max
            and self._overdue_coroutines <= OVERDUE_COROUTINES_MAX
        )

    @property
    def loop_lag_seconds(self) -> float:
        """Longest time that the steps' loop was blocked in the last 30 to 60 seconds. From any thread."""
        return self._stalls.lag_seconds

    def pools(self) -> dict[str, Pool]:
        """Return how the room for steps stands, by what they run on. May be called from any thread."""
        used, size = self._dispatcher.load(self._loop_client)
        coroutines = Pool(size=size, used=used, lost=self._overdue_coroutines)
        used, size = self._dispatcher.load(self._thread_client)
        return {
            "async": coroutines,
            "sync": Pool(size=size, used=used, lost=self._threads.abandoned if self._pinger else 0),
        }

    # --- the dispatcher's side (by the two clients below) -----------------------------------------------------

    def run_coroutine(self, task: TaskToRun) -> None:
        if self._steps_loop is None:
            released = TaskReleased("the steps' loop is being replaced")
            self._home.call_soon(self._dispatcher.done, key_of(task), released)
            return
        self._attempts[key_of(task)] = _Attempt(task, in_thread=False)
        step: Any = self._code[task.workflow, task.version, task.step_ref]
        self._steps_loop.put(Run(task, step))

    def run_function(self, task: TaskToRun) -> None:
        self._attempts[key_of(task)] = _Attempt(task, in_thread=True)
        self._threads.put(task, self._code[task.workflow, task.version, task.step_ref])

    def stop_attempt(self, key: TaskKey) -> None:
        attempt = self._attempts.get(key)
        if attempt is None:
            return
        if attempt.in_thread:
            self._threads.stop(key)
        elif self._steps_loop is not None:
            self._steps_loop.put(key)

    # --- what the threads tell -------------------------------------------------------------------------------

    def _tell(self, key: TaskKey, what: TaskResult | Began | Probed | Awaiting | ThreadEnded) -> None:
        self._mailbox.put((key, what))

    def _on_told(self, told: tuple[TaskKey, Any]) -> None:
        key, what = told
        match what:
            case ThreadEnded():
                self._threads.came_back()
                self._offer_threads()
            case Began():
                self._begin_deadline(key)
            case Probed():
                self._on_probed(key)
            case Awaiting():
                self._await_on_loop(key, what)
            case _:
                self._on_result(key, what)

    def _on_result(self, key: TaskKey, result: TaskResult) -> None:
        attempt = self._attempts.pop(key, None)
        if attempt is None:
            return
        if attempt.in_thread:
            self._threads.ended(key)
        _cancel_deadline(attempt)
        if not attempt.answered:
            self._dispatcher.done(key, result)
        elif not attempt.in_thread:
            self._overdue_coroutines -= 1

    def _await_on_loop(self, key: TaskKey, what: Awaiting) -> None:
        """A plain function handed out an awaitable (a decorator does that): the steps' loop goes on with it."""
        attempt = self._attempts.get(key)
        self._threads.ended(key)
        if attempt is not None and not attempt.answered and self._steps_loop is not None:
            attempt.in_thread = False
            self._steps_loop.put(Run(attempt.task, None, what.awaitable))
            return
        if inspect.iscoroutine(
            what.awaitable
        ):  # of another type, `close` would be user code on the server's loop
            what.awaitable.close()
        self._on_result(key, TaskReleased("the steps' loop is being replaced"))

    # --- deadlines -------------------------------------------------------------------------------------------

    def _begin_deadline(self, key: TaskKey) -> None:
        attempt = self._attempts.get(key)
        if attempt is not None and attempt.deadline is None:
            self._set_deadline(key, attempt, (attempt.task.attempt_timeout_ms or 0) / 1000)

    def _set_deadline(self, key: TaskKey, attempt: _Attempt, seconds: float) -> None:
        attempt.lost_before, attempt.own_stall, attempt.probed_at = self._stalls.lost_seconds, 0.0, None
        attempt.deadline = self._home.call_later(seconds, self._on_deadline, key)

    def _on_deadline(self, key: TaskKey) -> None:
        attempt = self._attempts.get(key)
        if attempt is None or attempt.answered:
            return
        if attempt.in_thread or self._steps_loop is None:
            self._over_time(key, attempt)
            return
        # A loop that is blocked by another step would make this one late. Its response decides.
        attempt.probed_at = self._home.time()
        self._steps_loop.put(Probe(key))

    def _on_probed(self, key: TaskKey) -> None:
        attempt = self._attempts.get(key)
        if attempt is None or attempt.answered or attempt.probed_at is None:
            return
        lost = self._stalls.lost_seconds - attempt.lost_before
        owed = max(lost, self._home.time() - attempt.probed_at) - attempt.own_stall
        if owed > OWED_SECONDS_MIN:
            self._set_deadline(key, attempt, owed)
        else:
            self._over_time(key, attempt)

    def _over_time(self, key: TaskKey, attempt: _Attempt) -> None:
        attempt.answered = True
        message = f"the attempt took longer than {attempt.task.attempt_timeout_ms} ms"
        self._dispatcher.done(key, TaskFailed("AttemptTimeout", message, retryable=True, timed_out=True))
        if attempt.in_thread:
            del self._attempts[key]
            self._threads.abandon(key)
            self._offer_threads()
        else:
            self._overdue_coroutines += 1
            self.stop_attempt(key)

    def _offer_threads(self) -> None:
        self._dispatcher.set_credits(self._thread_client, self._threads.slots)

    # --- the steps' loop -------------------------------------------------------------------------------------

    async def _open_loop(self) -> StepsLoop:
        steps_loop = StepsLoop(self._lifespans, self._tell)
        try:
            async with asyncio.timeout(LIFESPAN_SECONDS_MAX):
                await steps_loop.open()
        except BaseException as error:
            place = steps_loop.place()
            await finish(steps_loop.close())
            if isinstance(error, TimeoutError):
                where = f" (it is at {place})" if place else ""
                reason = f"it did not open in {LIFESPAN_SECONDS_MAX:g} s{where}"
                raise LifespanError(steps_loop.opening, reason) from None
            raise
        return steps_loop

    async def _ping_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._ping_ms / 1000)
            try:
                self._ping()
            except Exception:  # the loop must outlive what it meets
                log.exception("the steps' loop was not looked after")

    def _ping(self) -> None:
        for name, pool in self.pools().items():
            self._full_pools.observe(
                self._home.time(),
                name,
                size=pool.size,
                used=pool.used,
                holders=partial(self._holders, in_thread=name == "sync"),
            )
        ping_seconds = self._ping_ms / 1000
        for stalled in self._stalled:
            stalled.ping(ping_seconds)
        self._stalled = [stalled for stalled in self._stalled if not stalled.has_ended]
        if self._steps_loop is not None:
            self._ping_loop(self._steps_loop)
        elif self._reopening is None:
            self._pings_to_reopen -= 1
            if self._pings_to_reopen <= 0 and len(self._stalled) <= ABANDONED_LOOPS_MAX:
                self._reopening = self._home.create_task(self._reopen(), name="perdure-steps-reopen")

    def _holders(self, *, in_thread: bool) -> list[Holder]:
        tasks = [attempt.task for attempt in self._attempts.values() if attempt.in_thread is in_thread]
        return [(task.workflow, task.version, task.step_ref) for task in tasks]

    def _ping_loop(self, steps_loop: StepsLoop) -> None:
        if steps_loop.has_ended:
            self._on_ended(steps_loop)
            return
        ping = steps_loop.ping(self._ping_ms / 1000)
        owner = steps_loop.running() if ping.unanswered else None
        now = self._home.time()
        interval = self._stalls.interval(now)
        blocked_pings = self._stalls.observe(now, ping, owner, steps_loop.place)
        if isinstance(owner, StepOwner):
            self._charge_time(owner.key, interval)
        if blocked_pings >= self._stalled_pings:
            self._on_stalled(steps_loop, owner)

    def _on_ended(self, steps_loop: StepsLoop) -> None:
        owner = steps_loop.ended_by
        fields = {} if owner is None else owner.fields()
        log.error("step event loop ended with a workflow's lifespan, replacing it", extra=fields)
        self._replace_loop(steps_loop, steps_loop.end_of)

    def _charge_time(self, key: TaskKey, seconds: float) -> None:
        """Count time against the attempt that blocks the loop. Past its deadline, it fails at once."""
        attempt = self._attempts.get(key)
        if attempt is not None:
            attempt.own_stall += seconds
            if attempt.probed_at is not None and not attempt.answered:
                self._over_time(key, attempt)

    def _on_stalled(self, steps_loop: StepsLoop, owner: Owner | None) -> None:
        place = steps_loop.place()
        fields = {} if owner is None else owner.fields()
        log.error("step event loop blocked, replacing it", extra={**fields, "where": place})
        at = f" at {place}" if place else ""
        message = (
            f"the step blocked the event loop of all steps{at}; use a plain function or asyncio.to_thread"
        )
        if isinstance(owner, StepOwner):
            charged = {owner.key}
        elif owner is None:
            charged = self._stalls.unexplained(
                [key for key, attempt in self._attempts.items() if not attempt.in_thread]
            )
        else:
            charged = set()
        failure = TaskFailed("StepsLoopStalled", clean(message), retryable=True)
        released = TaskReleased("another step blocked the event loop")
        self._replace_loop(steps_loop, lambda key: failure if key in charged else released)

    def _replace_loop(
        self, steps_loop: StepsLoop, end_of: Callable[[TaskKey], TaskFailed | TaskReleased]
    ) -> None:
        """Abandon the loop and end all attempts on it. Only those that caused it fail, the others are released."""
        steps_loop.abandon()
        self._stalls.on_replaced()
        self.loops_lost += 1
        self._stalled.append(steps_loop)
        self._steps_loop = None
        self._dispatcher.set_credits(self._loop_client, 0)
        lost = [(key, attempt) for key, attempt in self._attempts.items() if not attempt.in_thread]
        for key, attempt in lost:
            del self._attempts[key]
            _cancel_deadline(attempt)
            if not attempt.answered:
                self._dispatcher.done(key, end_of(key))
        self._overdue_coroutines = 0
        self._pings_to_reopen = 0

    async def _reopen(self) -> None:
        try:
            self._steps_loop = await self._open_loop()
            self._dispatcher.set_credits(self._loop_client, self._max_async_steps)
        except LifespanError as error:
            log.error("the steps' loop was not replaced yet: %s", error)
            self._pings_to_reopen = REOPEN_PINGS
        except Exception:  # no thread or no descriptor may be left in the system
            log.exception("step event loop not replaced yet")
            self._pings_to_reopen = REOPEN_PINGS
        finally:
            self._reopening = None


class _AsyncStepExecutor:
    """The executor as the client that runs `async def` steps."""

    def __init__(self, executor: InProcessExecutor) -> None:
        self.run = executor.run_coroutine
        self.stop = executor.stop_attempt


class _SyncStepExecutor:
    """The executor as the client that runs plain functions."""

    def __init__(self, executor: InProcessExecutor) -> None:
        self.run = executor.run_function
        self.stop = executor.stop_attempt


def _cancel_deadline(attempt: _Attempt) -> None:
    if attempt.deadline is not None:
        attempt.deadline.cancel()


def _is_coroutine_function(step: StepCode) -> bool:
    # An object with an `async def __call__` counts too. What hides it better is found out by what it returns.
    return inspect.iscoroutinefunction(step) or inspect.iscoroutinefunction(type(step).__call__)


def _frozen(code: Mapping[tuple[str, int], set[str]]) -> dict[tuple[str, int], frozenset[str]]:
    return {key: frozenset(refs) for key, refs in code.items()}
