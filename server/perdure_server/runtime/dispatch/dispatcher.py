"""The dispatcher: hands tasks to executors, and their results to the command processor.

Theory of operation. Executors register with their handlers and their credits (see `credits`). Tasks reach them in two
ways. The fast way: before a decision, the command processor *reserves* slots, and the commit that makes a step ready
also takes it. All other tasks wait as rows until the sweeper takes them with `TakeTask` (see `sweeper`). The
reconciler finds attempts that are lost between the two (see `reconciler`).

The fast way has no asyncio task and no await: hand-overs are calls, responses are callbacks.

Must not: run handlers (the executors'), decide (the engine's).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from perdure_server.engine.commands import Grant
from perdure_server.runtime.background import BackgroundLoop
from perdure_server.runtime.clock import SYSTEM_RNG, Rng
from perdure_server.runtime.crash_recovery import ALONE_SECONDS_MAX, SUSPECTS_SECONDS_MAX, CrashRecovery
from perdure_server.runtime.dispatch.credits import CreditLedger
from perdure_server.runtime.dispatch.in_flight import InFlightTasks
from perdure_server.runtime.dispatch.protocol import (
    Executor,
    TaskKey,
    TaskReleased,
    TaskStore,
    key_of,
)
from perdure_server.runtime.dispatch.reconciler import RECONCILE_MS, Reconciler
from perdure_server.runtime.dispatch.result_reporter import ResultReporter
from perdure_server.runtime.dispatch.sweeper import SWEEP_MS, Sweeper
from perdure_server.runtime.ports import SubmitCommand, TaskToRun
from perdure_server.store.protocol import Code, CrashReport, TaskRow
from perdure_server.telemetry.counters import CountersByName

log = logging.getLogger(__name__)

SWEEP_GAP_MS: Final = 10
"""Minimum pause between two sweeps, in milliseconds. Credits that are freed one by one are used in batches."""

RELEASE_SECONDS_MAX: Final = 5.0
"""Maximum time that `drain` waits for the commits of releases, in seconds."""

STOPPING_REASON: Final = "the server is shutting down"
NO_HANDLER_REASON: Final = "no executor has a handler for the step"
EXECUTOR_GONE_REASON: Final = "the executor is gone"
EXECUTOR_FAILED_REASON: Final = "the executor did not accept the task"

NO_CRASH: Final = CrashReport()

MISSING_HANDLERS_LOGGED_MAX: Final = 1_000
"""Maximum number of steps without a handler that are logged, once each."""


class Dispatcher:
    """The `TaskPort` of the command processor, and the task source of executors. Belongs to one event loop."""

    def __init__(
        self,
        store: TaskStore,
        submit: SubmitCommand,
        replica_id: str,
        *,
        rng: Rng = SYSTEM_RNG,
        sweep_ms: int = SWEEP_MS,
        reconcile_ms: int = RECONCILE_MS,
    ) -> None:
        self._store = store
        self._submit = submit
        self._rng = rng
        self._changed = asyncio.Event()
        self._draining = False
        self._missing_handlers: set[tuple[str, int, str]] = set()
        self._recovery: CrashRecovery | None = None
        self._loop = BackgroundLoop(
            log,
            "task poll failed",
            self._poll,
            name="perdure-tasks",
            interval_seconds=sweep_ms / 1000,
            pause_seconds=SWEEP_GAP_MS / 1000,
            failure_pause_seconds=sweep_ms / 1000,
            on_idle=self._changed.set,
        )
        self._ledger = CreditLedger(replica_id)
        self._in_flight = InFlightTasks()
        self._sweeper = Sweeper(
            store,
            submit,
            self._ledger,
            self._in_flight,
            sweep_ms=sweep_ms,
            wake=self._loop.wake,
            changed=self._changed,
        )
        self._reporter = ResultReporter(
            store,
            submit,
            self._in_flight,
            rng=rng,
            changed=self._changed,
            on_finished=self._sweeper.on_finished,
        )
        self._reconciler = Reconciler(
            store,
            self._in_flight,
            replica_id,
            release=self._reporter.release,
            stop=self._stop,
            interval_ms=reconcile_ms,
        )
        self.reserve = self._ledger.reserve
        """See `TaskPort.reserve`. Bound here because each command calls it."""
        self.report = self._reporter.report
        """Store the result of an attempt. Results after the first are ignored."""
        self.alone_seconds = ALONE_SECONDS_MAX
        self.suspects_seconds = SUSPECTS_SECONDS_MAX
        self.lost: CountersByName[str] = CountersByName(("lost",))
        """Number of attempts that were lost with their process and released here, by workflow."""

    # --- for executors ---------------------------------------------------------------------------------------

    def register(self, executor: Executor, handlers: Code, max_credits: int) -> None:
        """Let an executor run tasks of the steps in ``handlers``, at most ``max_credits`` at once."""
        self._ledger.register(executor, handlers, max_credits)
        self._loop.wake()

    def set_credits(self, executor: Executor, max_credits: int) -> None:
        """Change the number of attempts that an executor holds at once."""
        self._ledger.set_credits(executor, max_credits)
        self._sweeper.wake_if_useful()

    def unregister(self, executor: Executor) -> None:
        """Remove an executor that is gone, and release its attempts."""
        removed = self._ledger.unregister(executor)
        for key, in_flight in list(self._in_flight.tasks.items()):
            if in_flight.entry in removed:
                self.report(key, TaskReleased(EXECUTOR_GONE_REASON))

    def load(self, executor: Executor) -> tuple[int, int]:
        """Return an executor's used credits and its credits. Can be called from any thread."""
        return self._ledger.load(executor)

    # --- for the command processor ---------------------------------------------------------------------------

    def release(self, grant: Grant, unused: int) -> None:
        """See `TaskPort.release`."""
        self._ledger.release(unused)
        self._sweeper.wake_if_useful()

    def run(self, task: TaskToRun) -> None:
        """See `TaskPort.run`."""
        self._ledger.release(1)
        self._run(task)
        # A reservation counts against every executor, an attempt against one. The others may now have room.
        self._sweeper.wake_if_useful()

    def _run(self, task: TaskToRun) -> None:
        key = key_of(task)
        if key in self._in_flight.tasks or self._in_flight.finished_recently(key):
            return
        # A taken task runs on the executor that the sweeper chose, because its room was counted.
        entry = self._ledger.executor_of_take(key)
        if entry is None:
            entry = self._ledger.choose(task.workflow, task.version, task.step_ref)
        if entry is None or self._draining:
            self._reporter.release(
                key, task.workflow, STOPPING_REASON if self._draining else NO_HANDLER_REASON
            )
            self._sweeper.end_solo(key)
            return
        in_flight = self._in_flight.add(key, task, entry)
        try:
            entry.executor.run(task)
        except Exception:  # an executor's bug must not lose the task
            log.exception("executor rejected task", extra={"instance_id": key.instance_id})
            if self._in_flight.tasks.get(key) is in_flight:
                self.report(key, TaskReleased(EXECUTOR_FAILED_REASON))

    def offer(self, workflow: str, version: int, step_ref: str) -> None:
        """See `TaskPort.offer`."""
        if not self._ledger.has_handler(workflow, version, step_ref):
            self._log_missing_handler(workflow, version, step_ref)
        self._sweeper.offer(workflow, version, step_ref)

    def _log_missing_handler(self, workflow: str, version: int, step_ref: str) -> None:
        step = (workflow, version, step_ref)
        if step not in self._missing_handlers and len(self._missing_handlers) < MISSING_HANDLERS_LOGGED_MAX:
            self._missing_handlers.add(step)
            extra = {"workflow": workflow, "version": version, "step_ref": step_ref}
            log.warning("no handler for ready step", extra=extra)

    def stop(self, instance_id: str, step_ref: str, attempt: int) -> None:
        """See `TaskPort.stop`."""
        self._stop(TaskKey(instance_id, step_ref, attempt))

    def _stop(self, key: TaskKey) -> None:
        in_flight = self._in_flight.tasks.get(key)
        if in_flight is not None and in_flight.result is None and not in_flight.stopped:
            in_flight.stopped = True
            in_flight.entry.executor.stop(key)

    def has_handler(self, workflow: str, version: int, step_ref: str) -> bool:
        """Return True if an executor of this process has a handler for the step."""
        return self._ledger.has_handler(workflow, version, step_ref)

    # --- start and stop --------------------------------------------------------------------------------------

    def start(self, report: CrashReport = NO_CRASH) -> None:
        """Start to take tasks. The first sweep, which is the recovery after a stop, starts at once.

        Lost attempts and suspects in ``report`` are handled before it. No grants are given while suspects run alone.
        """
        if report.lost or report.suspects:
            self._recovery = CrashRecovery(
                report,
                self._store,
                self._submit,
                self,
                rng=self._rng,
                lost=self.lost,
                alone_seconds=self.alone_seconds,
                suspects_seconds=self.suspects_seconds,
            )
            self._ledger.paused = self._recovery.has_suspects
        self._loop.wake()
        self._loop.start()

    async def drain(self, shutdown_timeout_seconds: float) -> None:
        """Take no more tasks, wait for results, and release the attempts that have not ended by the timeout."""
        self._draining = self._ledger.paused = True
        await self._loop.stop()
        in_flight = self._in_flight.tasks
        await self._wait_until(lambda: not in_flight and not self._ledger.takes, shutdown_timeout_seconds)
        for key, attempt in list(in_flight.items()):
            if attempt.result is None and not attempt.stopped:
                attempt.stopped = True
                self._reporter.release(key, attempt.task.workflow, STOPPING_REASON)
                attempt.entry.executor.stop(key)
        await self._wait_until(
            lambda: not self._reporter.releases and all(held.stopped for held in in_flight.values()),
            RELEASE_SECONDS_MAX,
        )

    def replica_changed(self, replica_id: str) -> None:
        """Continue under a new replica ID.

        Running attempts continue: the attempt number decides whether a result still counts.
        """
        self._ledger.replica_changed(replica_id)
        self._reconciler.replica_changed(replica_id)
        self._sweeper.poll_all()

    def healthy(self) -> bool:
        """Return True if waiting tasks are taken."""
        return self._loop.alive

    async def _poll(self) -> None:
        recovery, self._recovery = self._recovery, None
        if recovery is not None:
            await self._recover(recovery)
        await self._sweeper.sweep()
        await self._reconciler.reconcile_if_due()

    async def _recover(self, recovery: CrashRecovery) -> None:
        try:
            await recovery.run()
        except Exception:  # the sweeps take lost tasks, as they take all others
            log.exception("crash recovery failed")
        self._ledger.paused = self._draining

    # --- for crash recovery and tests ------------------------------------------------------------------------

    @property
    def handlers(self) -> Code:
        """The steps that an executor of this process has a handler for."""
        return self._ledger.handlers

    async def run_alone(self, row: TaskRow) -> None:
        """Take a task and run it. Returns when its result is stored, or at once if it cannot be taken."""
        await self._sweeper.run_alone(row)

    @property
    def attempts(self) -> list[TaskKey]:
        """The attempts that run here, or whose results are being stored."""
        return list(self._in_flight.tasks)

    @property
    def quiet(self) -> bool:
        """True if no attempt is in flight and no sweep is due."""
        sweeps = self._loop.alive and self._loop.busy
        return not (self._in_flight.tasks or self._ledger.takes or self._reporter.releases or sweeps)

    async def quiesce(self) -> None:
        """Return when `quiet` is true. Virtual time can advance then."""
        while not self.quiet:
            self._changed.clear()
            await self._changed.wait()

    # --- counters --------------------------------------------------------------------------------------------

    def add_workflow(self, workflow: str) -> None:
        """Export zeros for a workflow, so that its first failure is visible as a rise."""
        self.finished.of(workflow)
        self.lost.of(workflow)

    @property
    def tasks(self) -> int:
        """Number of attempts that run here, or whose results are being stored."""
        return len(self._in_flight.tasks)

    @property
    def finished(self) -> CountersByName[str]:
        """Number of attempts that ended here, by workflow and result."""
        return self._reporter.finished

    @property
    def result_retries(self) -> int:
        """Number of repeated submissions of results."""
        return self._reporter.retries

    @property
    def results_dropped(self) -> int:
        """Number of results that were never stored."""
        return self._reporter.dropped

    async def _wait_until(self, condition: Callable[[], bool], max_seconds: float) -> None:
        try:
            async with asyncio.timeout(max_seconds):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
