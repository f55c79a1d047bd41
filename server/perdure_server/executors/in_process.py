"""The in-process executor: runs steps in the server's process.

Theory of operation. `async def` steps run on an event loop in its own thread, plain functions in a pool of threads.
User code never runs on the server's event loop. Both register with the dispatcher as executors with separate credits,
so that blocking functions do not use up the slots of coroutines. Tasks and results cross threads in mailboxes, many
with one wake-up.

The server's event loop keeps the deadlines, because user code cannot block it. An attempt that exceeds its timeout
fails at once: its coroutine is cancelled, its thread is abandoned, and a later result is dropped. A loop that is
blocked is abandoned and replaced. The attempt that blocks it fails. All others are released without counting as
failures, and time for which another attempt blocked the loop does not count towards an `attempt_timeout`.

Owns: placement of attempts, deadlines, replacing blocked loops. Must not: interpret results (``conversion``). It cannot
contain ``os._exit``, native crashes, or code that holds the interpreter's lock.
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
from perdure_server.closing import finish
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
from perdure_server.runtime.background import BackgroundLoop
from perdure_server.runtime.dispatch.dispatcher import Dispatcher
from perdure_server.runtime.dispatch.protocol import TaskFailed, TaskKey, TaskReleased, TaskResult, key_of
from perdure_server.runtime.ports import TaskToRun

log = logging.getLogger(__name__)

ASYNC_STEPS_MAX: Final = 256
"""Default maximum number of `async def` steps that run at the same time."""

OVERDUE_COROUTINES_MAX: Final = 1_000
"""Maximum number of cancelled coroutines that have not ended. Beyond it, the server is not ready."""

PING_MS: Final = 250
"""Interval between pings of the step event loop, in milliseconds."""

STALLED_PINGS: Final = 40
"""Number of unanswered pings in a row, all with the same owner, after which the step event loop is replaced: 10 s."""

ABANDONED_LOOPS_MAX: Final = 3
"""Maximum number of abandoned loops. Beyond it, the loop is not replaced and the server is not ready until one ends."""

REOPEN_PINGS: Final = 20
"""Number of pings until the next try after a lifespan failed on a new loop."""

OWED_SECONDS_MIN: Final = 0.02
"""Minimum time lost to a blocked loop for which an attempt's deadline is extended, in seconds."""

LIFESPAN_SECONDS_MAX: Final = 60.0
"""Maximum time for all lifespans to open, in seconds."""

SWITCH_INTERVAL_SECONDS: Final = 1e-3
"""Interval at which busy threads hand over the interpreter's lock while steps can run, in seconds.

A compromise. With the default of 5 ms, a loop saturated with short callbacks kept steps waiting for up to 0.75 s,
because each short release restarts the wait. With 0.1 ms, the database writer's many short acquisitions interrupt the
loop so often that a server handles fewer calls. docs/performance.md has a later comparison in which the waits differed
less.
"""

Handler: TypeAlias = Callable[[Any], object]
"""A step's bound function, coroutine function or plain. It takes a `Context`."""

Bind: TypeAlias = Callable[[Iterable[Workflow]], tuple[dict[tuple[str, int, str], Handler], list[Lifespan]]]
"""The signature of `bind`. The test kit replaces it to wrap handlers."""


def bind(workflows: Iterable[Workflow]) -> tuple[dict[tuple[str, int, str], Handler], list[Lifespan]]:
    """Return the handlers of workflow objects by (workflow, version, step_ref), and their lifespans."""
    handlers: dict[tuple[str, int, str], Handler] = {}
    lifespans: list[Lifespan] = []
    for workflow in workflows:
        graph = graph_of(workflow)
        handlers.update(
            {(graph.name, graph.version, ref): step for ref, step in handlers_of(workflow).items()}
        )
        lifespans.append((f"workflow {graph.name!r} version {graph.version}", workflow.lifespan))
    return handlers, lifespans


@dataclass(slots=True, eq=False)
class _Attempt:
    task: TaskToRun
    in_thread: bool
    deadline: asyncio.TimerHandle | None = None
    reported: bool = False
    lost_before: float = 0.0
    """Total time lost to blocked loops when the deadline was set or extended, in seconds."""
    own_stall: float = 0.0
    """Time that the attempt itself blocked the loop since then, in seconds."""
    probed_at: float | None = None
    """Time at which the deadline passed, while the loop is asked for a response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The slots of one kind of steps."""

    size: int = 0
    used: int = 0
    leaked: int = 0
    """Number of coroutines or threads that still run after their `attempt_timeout`."""


class InProcessExecutor:
    """Runs steps in this process. Belongs to the server's event loop. Call `start` before the dispatcher's."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        handlers: Mapping[tuple[str, int, str], Handler],
        lifespans: Sequence[Lifespan] = (),
        *,
        max_async_steps: int = ASYNC_STEPS_MAX,
        max_sync_steps: int = SYNC_STEPS_MAX,
        max_abandoned_threads: int = ABANDONED_THREADS_MAX,
        ping_ms: int = PING_MS,
        stalled_pings: int = STALLED_PINGS,
    ) -> None:
        self._dispatcher = dispatcher
        self._handlers = dict(handlers)
        self._lifespans = list(lifespans)
        self._max_async_steps = max_async_steps
        self._max_sync_steps = max_sync_steps
        self._max_abandoned_threads = max_abandoned_threads
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
        self._pings = BackgroundLoop(
            log,
            "step event loop check failed",
            self._ping,
            name="perdure-steps-ping",
            interval_seconds=ping_ms / 1000,
        )
        self._started = False
        self._async_executor = _AsyncStepExecutor(self)
        self._sync_executor = _SyncStepExecutor(self)
        self._stopped = False
        self.loop_restarts = 0
        """Number of step event loops that were abandoned and replaced."""

    async def start(self) -> None:
        """Open the lifespans, then accept steps. Raises `LifespanError`, after which nothing is left running."""
        self._home = asyncio.get_running_loop()
        self._mailbox: Mailbox[tuple[TaskKey, Any]] = Mailbox(self._home, self._on_message)
        self._threads = StepThreads(
            self._send, max_sync_steps=self._max_sync_steps, max_abandoned=self._max_abandoned_threads
        )
        self._steps_loop = await self._open_loop()
        self._switch_interval = sys.getswitchinterval()
        sys.setswitchinterval(min(self._switch_interval, SWITCH_INTERVAL_SECONDS))
        coroutines: dict[tuple[str, int], set[str]] = {}
        functions: dict[tuple[str, int], set[str]] = {}
        for (workflow, version, ref), step in self._handlers.items():
            kind = coroutines if _is_coroutine_function(step) else functions
            kind.setdefault((workflow, version), set()).add(ref)
        self._dispatcher.register(self._async_executor, _frozen(coroutines), self._max_async_steps)
        self._dispatcher.register(self._sync_executor, _frozen(functions), self._max_sync_steps)
        self._started = True
        self._pings.start()

    async def stop(self) -> None:
        """Cancel running steps, exit the lifespans, end the threads. Drain the dispatcher first."""
        self._stopped = True
        if not self._started:
            return
        sys.setswitchinterval(self._switch_interval)
        await self._pings.stop()
        if self._reopening is not None:
            self._reopening.cancel()
            await asyncio.gather(self._reopening, return_exceptions=True)
        self._dispatcher.unregister(self._async_executor)
        self._dispatcher.unregister(self._sync_executor)
        for attempt in self._attempts.values():
            _cancel_deadline(attempt)
        self._threads.close()
        if self._steps_loop is not None:
            await self._steps_loop.close()

    def healthy(self) -> bool:
        """Return True if steps can run with all slots."""
        return (
            not self._stopped
            and self._steps_loop is not None
            and self._pings.alive
            and self._threads.abandoned <= self._max_abandoned_threads
            and self._overdue_coroutines <= OVERDUE_COROUTINES_MAX
        )

    @property
    def loop_lag_seconds(self) -> float:
        """Maximum time for which the step loop was blocked in the last 30 to 60 seconds. Readable from any thread."""
        return self._stalls.lag_seconds

    def pools(self) -> dict[str, Pool]:
        """Return the pools ``async`` and ``sync``. Can be called from any thread."""
        used, size = self._dispatcher.load(self._async_executor)
        coroutines = Pool(size=size, used=used, leaked=self._overdue_coroutines)
        used, size = self._dispatcher.load(self._sync_executor)
        return {
            "async": coroutines,
            "sync": Pool(size=size, used=used, leaked=self._threads.abandoned if self._started else 0),
        }

    # --- for the dispatcher, through the two executors below --------------------------------------------------

    def run_coroutine(self, task: TaskToRun) -> None:
        if self._steps_loop is None:
            released = TaskReleased("the step event loop is being replaced")
            self._home.call_soon(self._dispatcher.report, key_of(task), released)
            return
        self._attempts[key_of(task)] = _Attempt(task, in_thread=False)
        step: Any = self._handlers[task.workflow, task.version, task.step_ref]
        self._steps_loop.put(Run(task, step))

    def run_function(self, task: TaskToRun) -> None:
        self._attempts[key_of(task)] = _Attempt(task, in_thread=True)
        self._threads.put(task, self._handlers[task.workflow, task.version, task.step_ref])

    def stop_attempt(self, key: TaskKey) -> None:
        attempt = self._attempts.get(key)
        if attempt is None:
            return
        if attempt.in_thread:
            self._threads.stop(key)
        elif self._steps_loop is not None:
            self._steps_loop.put(key)

    # --- messages of the threads ------------------------------------------------------------------------------

    def _send(self, key: TaskKey, message: TaskResult | Began | Probed | Awaiting | ThreadEnded) -> None:
        self._mailbox.put((key, message))

    def _on_message(self, item: tuple[TaskKey, Any]) -> None:
        key, message = item
        match message:
            case ThreadEnded():
                self._threads.on_thread_ended()
                self._offer_threads()
            case Began():
                self._begin_deadline(key)
            case Probed():
                self._on_probed(key)
            case Awaiting():
                self._await_on_loop(key, message)
            case _:
                self._on_result(key, message)

    def _on_result(self, key: TaskKey, result: TaskResult) -> None:
        attempt = self._attempts.pop(key, None)
        if attempt is None:
            return
        if attempt.in_thread:
            self._threads.ended(key)
        _cancel_deadline(attempt)
        if not attempt.reported:
            self._dispatcher.report(key, result)
        elif not attempt.in_thread:
            self._overdue_coroutines -= 1

    def _await_on_loop(self, key: TaskKey, message: Awaiting) -> None:
        """Await the awaitable that a plain function returned, for example because of a decorator, on the step loop."""
        attempt = self._attempts.get(key)
        self._threads.ended(key)
        if attempt is not None and not attempt.reported and self._steps_loop is not None:
            attempt.in_thread = False
            self._steps_loop.put(Run(attempt.task, None, message.awaitable))
            return
        if inspect.iscoroutine(
            message.awaitable
        ):  # of another type, `close` would be user code on the server's loop
            message.awaitable.close()
        self._on_result(key, TaskReleased("the step event loop is being replaced"))

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
        if attempt is None or attempt.reported:
            return
        if attempt.in_thread or self._steps_loop is None:
            self._over_time(key, attempt)
            return
        # Another step may be blocking the loop. The loop's response decides whether this attempt is over time.
        attempt.probed_at = self._home.time()
        self._steps_loop.put(Probe(key))

    def _on_probed(self, key: TaskKey) -> None:
        attempt = self._attempts.get(key)
        if attempt is None or attempt.reported or attempt.probed_at is None:
            return
        lost = self._stalls.lost_seconds - attempt.lost_before
        owed = max(lost, self._home.time() - attempt.probed_at) - attempt.own_stall
        if owed > OWED_SECONDS_MIN:
            self._set_deadline(key, attempt, owed)
        else:
            self._over_time(key, attempt)

    def _over_time(self, key: TaskKey, attempt: _Attempt) -> None:
        attempt.reported = True
        message = f"the attempt took longer than {attempt.task.attempt_timeout_ms} ms"
        self._dispatcher.report(key, TaskFailed("AttemptTimeout", message, retryable=True, timed_out=True))
        if attempt.in_thread:
            del self._attempts[key]
            self._threads.abandon(key)
            self._offer_threads()
        else:
            self._overdue_coroutines += 1
            self.stop_attempt(key)

    def _offer_threads(self) -> None:
        self._dispatcher.set_credits(self._sync_executor, self._threads.slots)

    # --- the step event loop -----------------------------------------------------------------------------------

    async def _open_loop(self) -> StepsLoop:
        steps_loop = StepsLoop(self._lifespans, self._send)
        try:
            async with asyncio.timeout(LIFESPAN_SECONDS_MAX):
                await steps_loop.open()
        except BaseException as error:
            place = steps_loop.place()
            await finish(steps_loop.close())
            if isinstance(error, TimeoutError):
                where = f" (now at {place})" if place else ""
                reason = f"it did not open within {LIFESPAN_SECONDS_MAX:g} s{where}"
                raise LifespanError(steps_loop.opening, reason) from None
            raise
        return steps_loop

    async def _ping(self) -> None:
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
            if attempt.probed_at is not None and not attempt.reported:
                self._over_time(key, attempt)

    def _on_stalled(self, steps_loop: StepsLoop, owner: Owner | None) -> None:
        place = steps_loop.place()
        fields = {} if owner is None else owner.fields()
        log.error("step event loop blocked, replacing it", extra={**fields, "where": place})
        at = f" at {place}" if place else ""
        message = f"the step blocked the step event loop{at}; use a plain function or asyncio.to_thread"
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
        """Abandon the loop and end all its attempts. Only those that caused it fail, the others are released."""
        steps_loop.abandon()
        self._stalls.on_replaced()
        self.loop_restarts += 1
        self._stalled.append(steps_loop)
        self._steps_loop = None
        self._dispatcher.set_credits(self._async_executor, 0)
        lost = [(key, attempt) for key, attempt in self._attempts.items() if not attempt.in_thread]
        for key, attempt in lost:
            del self._attempts[key]
            _cancel_deadline(attempt)
            if not attempt.reported:
                self._dispatcher.report(key, end_of(key))
        self._overdue_coroutines = 0
        self._pings_to_reopen = 0

    async def _reopen(self) -> None:
        try:
            self._steps_loop = await self._open_loop()
            self._dispatcher.set_credits(self._async_executor, self._max_async_steps)
        except LifespanError as error:
            log.error("step event loop not replaced yet", extra={"reason": str(error)})
            self._pings_to_reopen = REOPEN_PINGS
        except Exception:  # for example, the system has no threads or file descriptors left
            log.exception("unhandled error while the step event loop was replaced")
            self._pings_to_reopen = REOPEN_PINGS
        finally:
            self._reopening = None


class _AsyncStepExecutor:
    """The executor of `async def` steps."""

    def __init__(self, executor: InProcessExecutor) -> None:
        self.run = executor.run_coroutine
        self.stop = executor.stop_attempt


class _SyncStepExecutor:
    """The executor of plain functions."""

    def __init__(self, executor: InProcessExecutor) -> None:
        self.run = executor.run_function
        self.stop = executor.stop_attempt


def _cancel_deadline(attempt: _Attempt) -> None:
    if attempt.deadline is not None:
        attempt.deadline.cancel()


def _is_coroutine_function(step: Handler) -> bool:
    # An object with an `async def __call__` counts too. Better hidden ones are detected when they return an awaitable.
    return inspect.iscoroutinefunction(step) or inspect.iscoroutinefunction(type(step).__call__)


def _frozen(handlers: Mapping[tuple[str, int], set[str]]) -> dict[tuple[str, int], frozenset[str]]:
    return {key: frozenset(refs) for key, refs in handlers.items()}
