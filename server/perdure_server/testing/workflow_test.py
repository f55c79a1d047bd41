"""`WorkflowTest`: the real engine, store, runner, executor and timers in one process, and time that a test moves.

Theory of operation. A `Core` runs on a store in memory; clock and alarm are virtual, so nothing that takes time
happens unless `advance` says so. Between any two things that a test does, the world comes to rest: no command is
open, no attempt runs, no timer fires. That rest is awaited, never slept for. The timer window holds every timer (it
reaches further than any timer can be set), so time goes from one due timer straight to the next.

What lives here: that world. What may not: rules of any part, assertions (``instance``), scripts (``script``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self

from perdure import AsyncClient, Workflow, graph_of
from perdure.model.graph import DURATION_MS_MAX
from perdure.runner import ConflictPolicy, delay_ms_of
from perdure_server.app import Core
from perdure_server.embedded import InProcessClient
from perdure_server.store.closing import finish
from perdure_server.store.sqlite import SqliteStore
from perdure_server.testing.instance import InstanceHandle
from perdure_server.testing.script import REAL, Call, Scripts, Turn
from perdure_server.timers.virtual_scheduler import EPOCH_MS, VirtualClock, VirtualScheduler

SETTLE_SECONDS_MAX: Final = 10.0
"""How long, in real time, the world may take to come to rest."""

FOR_EVER_MS: Final = 100 * DURATION_MS_MAX
"""Longer than any test goes on, in virtual time: what a window reaches, what a lease lasts, what a claim may wait."""

_START: Final = datetime.fromtimestamp(EPOCH_MS / 1000, UTC)


class SettleTimeout(AssertionError):
    """The world did not come to rest: code of a step takes long, or waits for what does not come."""


class WorkflowTest:
    """A world for one test, in which ``workflows`` run.

    ::

        async with WorkflowTest(OrderFlow) as t:
            order = await t.start({"items": ["lamp"]})
            await order.resume("reserved")
            await t.advance("24h")
            order.assert_state("COMPLETED")

    ``now`` is when virtual time begins. ``jitter``, from 0 to 1, says how much of their jitter the pauses between
    retries are shortened by: with 0 they are as long as the policy says. ``settle_seconds_max`` bounds, in real
    time, how long the code of the steps may take each time.

    Leaving it without an error raises an AssertionError for scripted turns that were never played.
    """

    def __init__(
        self,
        *workflows: type[Workflow],
        now: datetime = _START,
        jitter: float = 0.0,
        settle_seconds_max: float = SETTLE_SECONDS_MAX,
    ) -> None:
        if not workflows:
            raise TypeError("WorkflowTest needs at least one workflow class")
        for given in workflows:
            _check_class(given)
        self._workflows = workflows
        self._clock = VirtualClock(round(now.timestamp() * 1000))
        self._alarm = VirtualScheduler(self._clock, self._quiesce)
        self._scripts = Scripts(workflows)
        self._settle_seconds_max = settle_seconds_max
        self._core = Core(
            SqliteStore(None, clock=self._clock.now_ms),
            workflows,
            alarm=self._alarm,
            clock=self._clock,
            chance=lambda: jitter,
            bind=self._scripts.bind,
            lease_ms=FOR_EVER_MS,
            window_ms=FOR_EVER_MS,
            claim_ms_max=FOR_EVER_MS,
        )
        self._handles: dict[str, InstanceHandle] = {}
        self._client: InProcessClient | None = None
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._home = asyncio.get_running_loop()
        await self._core.start()
        self._exit.push_async_callback(self._core.stop, 0)
        try:
            self._client = await self._exit.enter_async_context(InProcessClient(self._core.runtime))
            await self._quiesce()
        except BaseException:
            await finish(self._exit.aclose())
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        await finish(self._exit.aclose())
        if error is None and (left := self._scripts.unplayed()):
            raise AssertionError("\n".join(["not every scripted turn was played:", *left]))

    # --- instances -------------------------------------------------------------------------------------------

    @property
    def client(self) -> AsyncClient:
        """A `perdure.AsyncClient` and `perdure.Runner` of this world, for code under test. Call `settle` after its
        calls.

        Code of steps may use it too.
        """
        if self._client is None:
            raise RuntimeError("the test has not begun: write `async with WorkflowTest(...) as t:`")
        return self._client

    async def start(
        self,
        context: Mapping[str, Any] | None = None,
        *,
        workflow: type[Workflow] | str = "",
        instance_id: str = "",
        version: int = 0,
        business_key: str = "",
        conflict_policy: ConflictPolicy = ConflictPolicy.FAIL,
        start_delay: timedelta | str | None = None,
        labels: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> InstanceHandle:
        """Start an instance, and return it when it waits, sleeps, backs off or has ended.

        Without ``workflow`` it is one of the first that the test names; without ``instance_id`` it is called
        ``order-1``, ``order-2``, ... Raises as `perdure.AsyncClient.start_instance` does.
        """
        workflow = workflow or self._workflows[0]
        if not isinstance(workflow, str):
            graph = graph_of(workflow)
            workflow, version = graph.name, version or graph.version
        started = await self.client.start_instance(
            workflow,
            context,
            instance_id=instance_id or self._next_id(workflow),
            version=version,
            business_key=business_key,
            conflict_policy=conflict_policy,
            start_delay=start_delay,
            labels=labels,
            request_id=request_id,
        )
        return await self.instance(started.instance_id)

    async def instance(self, instance_id: str) -> InstanceHandle:
        """Return an instance that other code has started. Raises `perdure.errors.InstanceNotFoundError`."""
        handle = self._handles.get(instance_id)
        if handle is None:
            await self.client.get_instance(instance_id)
            handle = InstanceHandle(instance_id, self.client, self._scripts, self.settle)
            self._handles[instance_id] = handle
        await self.settle()
        return handle

    def _next_id(self, workflow: str) -> str:
        count = sum(1 for instance_id in self._handles if instance_id.startswith(f"{workflow}-"))
        while f"{workflow}-{count + 1}" in self._handles:
            count += 1
        return f"{workflow}-{count + 1}"

    # --- steps -----------------------------------------------------------------------------------------------

    def script(
        self, step_ref: str, *turns: Turn, then: Turn = REAL, workflow: type[Workflow] | str = ""
    ) -> None:
        """Say what the next calls of a step do, one turn each, and ``then`` what every later one does.

        A turn is an `Outcome`, `SUSPEND`, an exception to raise, `REAL` (the step's own code), `FailAfter`, or a
        function of the `Context`, plain or async, that returns an outcome or raises. Raises ``ValueError`` for a
        step that has no code, or a turn that the step could never take.
        """
        name = workflow if isinstance(workflow, str) else graph_of(workflow).name
        self._scripts.script(step_ref, turns, then, name)

    def calls(self, step_ref: str) -> list[Call]:
        """Return the runs of a step's code, of all instances, in the order in which they began."""
        return self._scripts.calls(step_ref)

    # --- time ------------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The virtual time, in UTC."""
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)

    async def advance(self, duration: timedelta | str) -> None:
        """Let time pass: ``"24h"``. Each timer that comes due on the way acts at its time, in order of (due time,
        reference), and what it causes is done before the next.
        """
        duration_ms = delay_ms_of(duration, field="duration")
        if duration_ms < 0:
            raise ValueError("time cannot go back")
        self._check_loop()
        await self._alarm.advance(duration_ms)
        await self.settle()

    async def advance_to_next_timer(self) -> timedelta:
        """Let time pass until the next pending timer is due, and return how long that was.

        All that are due at that very time act. Raises AssertionError where no timer is pending.
        """
        due_at = await self._core.store.next_timer_due_at()
        if due_at is None:
            raise AssertionError("no timer is pending: nothing will ever happen by itself")
        passed = timedelta(milliseconds=max(0, due_at - self._clock.now_ms()))
        await self.advance(passed)
        return passed

    async def settle(self) -> None:
        """Return when the world has come to rest, with every instance of the test read anew. Raises `SettleTimeout`."""
        self._check_loop()
        await self._quiesce()
        for handle in self._handles.values():
            await handle.refresh()

    async def _quiesce(self) -> None:
        """Return when nothing is under way. Each part alone may be quiet and still be about to hear from another."""
        runner, dispatcher, timers = self._core.runner, self._core.dispatcher, self._core.timers
        try:
            async with asyncio.timeout(self._settle_seconds_max):
                while not (runner.quiet and dispatcher.quiet and timers.quiet):
                    await runner.quiesce()
                    await dispatcher.quiesce()
                    await timers.quiesce()
        except TimeoutError:
            running = ", ".join(
                f"{key.instance_id}/{key.step_ref} (attempt {key.attempt})" for key in dispatcher.attempts
            )
            raise SettleTimeout(
                f"after {self._settle_seconds_max:g} s, this is still under way: {running or 'a commit'}. "
                "Steps run in real time: script() those that sleep or wait for something outside"
            ) from None

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self._home:
            raise RuntimeError(
                "the code of a step cannot wait for the test's world to rest; use t.client there"
            )


def _check_class(given: object) -> None:
    if not isinstance(given, type):
        name = type(given).__name__
        raise TypeError(f"WorkflowTest takes classes: write {name}, not {name}()")
