"""The in-process executor: the first client of the dispatcher's tasks.

Theory of operation. `async def` steps run on a loop of their own, plain functions in a pool of threads; user
code never runs on the server's loop. The dispatcher sees two clients with credits of their own, so that
blocking functions do not use up the room of coroutines. Hand-overs cross by mailboxes, many with one wake-up,
in both directions.

The server's loop keeps the deadlines, since it is the one that user code cannot block: an attempt over its
time fails at once; its coroutine is cancelled, its thread abandoned, and what it returns later is dropped. A
loop that stalls is abandoned as a whole and replaced, and every attempt on it fails, to be retried.

What lives here: who runs where, deadlines, replacing what hangs. What may not: meaning of results
(``results``), threads and loops themselves. Not contained: ``os._exit``, native crashes, code that holds the
interpreter's lock.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from perdure.authoring import Workflow, code_of, graph_of
from perdure_server.executors.mailbox import Mailbox
from perdure_server.executors.step_threads import (
    ABANDONED_THREADS_MAX,
    THREADS_MAX,
    Awaiting,
    StepThreads,
    ThreadEnded,
)
from perdure_server.executors.steps_loop import Began, Lifespan, LifespanFailed, Run, StepsLoop
from perdure_server.runtime.dispatcher import Dispatcher
from perdure_server.runtime.ports import TaskToRun
from perdure_server.runtime.tasks import TaskFailed, TaskKey, TaskReleased, TaskResult, key_of

log = logging.getLogger(__name__)

COROUTINES_MAX: Final = 256
"""How many `async def` steps run at once."""

OVERDUE_COROUTINES_MAX: Final = 1_000
"""How many cancelled coroutines may refuse to end before readiness fails."""

PING_MS: Final = 500
STALLED_PINGS: Final = 20
"""A steps loop that leaves this many pings in a row unanswered is stalled: ten seconds."""

ABANDONED_LOOPS_MAX: Final = 3
"""How many stalled loops may hang before they are replaced no more, and readiness fails until one ends."""

REOPEN_PINGS: Final = 10
"""After how many pings a lifespan that failed on a new loop is tried again."""

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
        code.update({(graph.name, graph.version, ref): step for ref, step in code_of(workflow).items()})
        lifespans.append((f"workflow {graph.name!r} version {graph.version}", workflow.lifespan))
    return code, lifespans


@dataclass(slots=True, eq=False)
class _Attempt:
    task: TaskToRun
    in_thread: bool
    deadline: asyncio.TimerHandle | None = None
    answered: bool = False


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
        coroutines_max: int = COROUTINES_MAX,
        threads_max: int = THREADS_MAX,
        abandoned_threads_max: int = ABANDONED_THREADS_MAX,
        ping_ms: int = PING_MS,
        stalled_pings: int = STALLED_PINGS,
    ) -> None:
        self._dispatcher = dispatcher
        self._code = dict(code)
        self._lifespans = list(lifespans)
        self._coroutines_max = coroutines_max
        self._threads_max = threads_max
        self._abandoned_threads_max = abandoned_threads_max
        self._ping_ms = ping_ms
        self._stalled_pings = stalled_pings
        self._attempts: dict[TaskKey, _Attempt] = {}
        self._overdue_coroutines = 0
        self._steps_loop: StepsLoop | None = None
        self._stalled: list[StepsLoop] = []
        self._reopening: asyncio.Task[None] | None = None
        self._pings_to_reopen = 0
        self._pinger: asyncio.Task[None] | None = None
        self._loop_client = _LoopClient(self)
        self._thread_client = _ThreadClient(self)
        self._stopped = False
        self.loops_lost = 0
        """How many loops of `async def` steps were given up."""

    async def start(self) -> None:
        """Open the lifespans, then offer to run steps. Raises `LifespanFailed`; then nothing is left running."""
        self._home = asyncio.get_running_loop()
        self._mailbox: Mailbox[tuple[TaskKey, Any]] = Mailbox(self._home, self._on_told)
        self._threads = StepThreads(
            self._tell, threads_max=self._threads_max, abandoned_max=self._abandoned_threads_max
        )
        self._steps_loop = await self._open_loop()
        self._switch_interval = sys.getswitchinterval()
        sys.setswitchinterval(min(self._switch_interval, SWITCH_INTERVAL_SECONDS))
        coroutines: dict[tuple[str, int], set[str]] = {}
        functions: dict[tuple[str, int], set[str]] = {}
        for (workflow, version, ref), step in self._code.items():
            kind = coroutines if _is_coroutine_function(step) else functions
            kind.setdefault((workflow, version), set()).add(ref)
        self._dispatcher.register(self._loop_client, _frozen(coroutines), self._coroutines_max)
        self._dispatcher.register(self._thread_client, _frozen(functions), self._threads_max)
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

    def pools(self) -> dict[str, Pool]:
        """Return how the room for steps stands, by what they run on. May be called from any thread."""
        used, size = self._dispatcher.load(self._loop_client)
        coroutines = Pool(size=size, used=used, lost=self._overdue_coroutines)
        used, size = self._dispatcher.load(self._thread_client)
        return {
            "coroutines": coroutines,
            "threads": Pool(size=size, used=used, lost=self._threads.abandoned if self._pinger else 0),
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

    def _tell(self, key: TaskKey, what: TaskResult | Began | Awaiting | ThreadEnded) -> None:
        self._mailbox.put((key, what))

    def _on_told(self, told: tuple[TaskKey, Any]) -> None:
        key, what = told
        match what:
            case ThreadEnded():
                self._threads.came_back()
                self._offer_threads()
            case Began():
                self._begin_deadline(key)
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
        if isinstance(what.awaitable, Coroutine):
            what.awaitable.close()
        self._on_result(key, TaskReleased("the steps' loop is being replaced"))

    # --- deadlines -------------------------------------------------------------------------------------------

    def _begin_deadline(self, key: TaskKey) -> None:
        attempt = self._attempts.get(key)
        if attempt is not None and attempt.deadline is None:
            timeout_ms = attempt.task.attempt_timeout_ms or 0
            attempt.deadline = self._home.call_later(timeout_ms / 1000, self._over_time, key)

    def _over_time(self, key: TaskKey) -> None:
        attempt = self._attempts.get(key)
        if attempt is None or attempt.answered:
            return
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
        except TimeoutError:
            steps_loop.abandon()
            raise LifespanFailed("a workflow", f"it did not open in {LIFESPAN_SECONDS_MAX:g} s") from None
        except asyncio.CancelledError:
            steps_loop.abandon()
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
        for stalled in self._stalled:
            stalled.ping()
        self._stalled = [stalled for stalled in self._stalled if not stalled.has_ended]
        if self._steps_loop is not None:
            if self._steps_loop.has_ended:
                log.error("the loop of all steps has ended, with a workflow's lifespan, and is replaced")
                self._abandon_loop(self._steps_loop, "StepsLoopEnded", "the loop of all steps has ended")
            elif self._steps_loop.ping() >= self._stalled_pings:
                stack = self._steps_loop.stack()
                log.error("a step blocks the loop of all steps, which is replaced", extra={"stack": stack})
                message = "the loop of all steps was blocked, by this step or by another"
                self._abandon_loop(self._steps_loop, "StepsLoopStalled", message)
        elif self._reopening is None:
            self._pings_to_reopen -= 1
            if self._pings_to_reopen <= 0 and len(self._stalled) <= ABANDONED_LOOPS_MAX:
                self._reopening = self._home.create_task(self._reopen(), name="perdure-steps-reopen")

    def _abandon_loop(self, steps_loop: StepsLoop, error: str, message: str) -> None:
        steps_loop.abandon()
        self.loops_lost += 1
        self._stalled.append(steps_loop)
        self._steps_loop = None
        self._dispatcher.set_credits(self._loop_client, 0)
        lost = [(key, attempt) for key, attempt in self._attempts.items() if not attempt.in_thread]
        for key, attempt in lost:
            del self._attempts[key]
            _cancel_deadline(attempt)
            if not attempt.answered:
                self._dispatcher.done(key, TaskFailed(error, message, retryable=True))
        self._overdue_coroutines = 0
        self._pings_to_reopen = 0

    async def _reopen(self) -> None:
        try:
            self._steps_loop = await self._open_loop()
            self._dispatcher.set_credits(self._loop_client, self._coroutines_max)
        except LifespanFailed as error:
            log.error("the steps' loop was not replaced yet: %s", error)
            self._pings_to_reopen = REOPEN_PINGS
        finally:
            self._reopening = None


class _LoopClient:
    """The executor as the client that runs `async def` steps."""

    def __init__(self, executor: InProcessExecutor) -> None:
        self.run = executor.run_coroutine
        self.stop = executor.stop_attempt


class _ThreadClient:
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
