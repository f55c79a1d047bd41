"""Recovery after an unclean stop: release the attempts that were lost, and find the step that stops the server.

Theory of operation. After a first unclean stop, every lost attempt is released and everything runs again at once. Step
definitions that ran at two unclean stops in a row are *suspects*. The next start runs one attempt of one suspect at a
time, before other work and alone in the process. If the process stops again, the attempt was lost while alone, and
after a few such losses the engine counts it as the failure `AttemptLost`. An attempt that survives its time alone keeps
running while the next ones are tried. These are not alone then, and their losses do not count as such. Survivors come
last at the next start, so that a step which crashes early is alone at that start at the latest.

If a step that crashed alone before ran at an unclean stop, the losses of all other steps at that stop do not count. So
the retries of a guilty step never add up to a failure of its neighbours.

Tasks that were never started cannot have caused a stop. They are tried only if their step has already crashed alone.

Owns: the order of recovery. Must not: take tasks (the dispatcher's), count losses (the engine's).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence
from typing import Final, Protocol

from perdure_server.engine import commands
from perdure_server.engine.decide import Decision
from perdure_server.engine.facts import AttemptFailed
from perdure_server.engine.rejections import Rejection
from perdure_server.runtime.clock import Rng
from perdure_server.runtime.dispatch.protocol import TaskStore
from perdure_server.runtime.ports import SubmitCommand
from perdure_server.store.protocol import Code, CrashReport, LostAttempt, StepKey, StoreError, TaskRow
from perdure_server.telemetry.counters import CountersByName

log = logging.getLogger(__name__)

ALONE_SECONDS_MAX: Final = 5.0
"""Time that one attempt of a suspect runs alone."""

SUSPECTS_SECONDS_MAX: Final = 60.0
"""Time for all suspects. Other work starts after it in any case."""

SUSPECT_TASKS_MAX: Final = 10_000
"""Maximum number of attempts of suspects that are tried. The time allows for fewer."""

RELEASES_AT_ONCE_MAX: Final = 500
"""Maximum number of lost attempts whose releases wait for the database at the same time."""

RELEASE_RETRY_SECONDS: Final = 1.0
"""Pause before releases that the database did not take are tried again."""

NAMES_MAX: Final = 20
"""Maximum number of suspects that one log event names."""

LOST_REASON: Final = "the server process stopped uncleanly"
EXCUSED_REASON: Final = (
    "the server process stopped uncleanly while a step that crashed alone before ran in it"
)
LOST_ALONE_REASON: Final = "the server process stopped uncleanly while this attempt ran alone in it"


class SuspectRunner(Protocol):
    """The part of the dispatcher that runs suspects."""

    @property
    def handlers(self) -> Code:
        """The steps that an executor of this process has a handler for."""
        ...

    @property
    def tasks(self) -> int:
        """Number of attempts that run here."""
        ...

    def run_alone(self, row: TaskRow) -> Awaitable[None]:
        """Take a task and run it. Resolves when its result is stored, or when it cannot be taken."""
        ...


class CrashRecovery:
    """The recovery of one start. ``lost`` counts released attempts by workflow."""

    def __init__(
        self,
        report: CrashReport,
        store: TaskStore,
        submit: SubmitCommand,
        runner: SuspectRunner,
        *,
        rng: Rng,
        lost: CountersByName[str],
        alone_seconds: float = ALONE_SECONDS_MAX,
        suspects_seconds: float = SUSPECTS_SECONDS_MAX,
    ) -> None:
        self._report = report
        self._store = store
        self._submit = submit
        self._runner = runner
        self._rng = rng
        self._lost = lost
        self._alone_seconds = alone_seconds
        self._suspects_seconds = suspects_seconds

    @property
    def has_suspects(self) -> bool:
        """True if other work has to wait."""
        return bool(self._report.suspects)

    async def run(self) -> None:
        """Release lost attempts, then run the suspects one at a time."""
        report = self._report
        if report.lost:
            log.warning("unclean stop detected", extra={"lost_attempts": len(report.lost)})
        for first in range(0, len(report.lost), RELEASES_AT_ONCE_MAX):
            await self._release_all(report.lost[first : first + RELEASES_AT_ONCE_MAX])
        if not report.suspects:
            return
        log.warning("running suspect steps alone before other work", extra={"steps": _names(report.suspects)})
        try:
            await self._run_suspects()
            await self._store.clear_suspects()
        except StoreError as error:
            log.warning("suspect run failed", extra={"reason": str(error)})

    # --- lost attempts ---------------------------------------------------------------------------------------

    async def _release_all(self, attempts: Sequence[LostAttempt]) -> None:
        while attempts:
            released = await asyncio.gather(*map(self._release, attempts))
            attempts = [lost for lost, done in zip(attempts, released, strict=True) if not done]
            if attempts:
                await asyncio.sleep(RELEASE_RETRY_SECONDS)

    async def _release(self, lost: LostAttempt) -> bool:
        """Release a lost attempt. Returns False if the database did not take it."""
        task = lost.task
        command = commands.ReleaseTask(
            at=self._store.now_ms(),
            step_ref=task.step_ref,
            attempt=task.attempt,
            reason=_reason(lost),
            lost=not lost.excused,
            alone=lost.alone,
            jitter=self._rng(),
        )
        try:
            decision = await self._submit(task.instance_id, command)
        except Rejection:
            return True  # the instance was cancelled, or the step timed out
        except StoreError as error:
            extra = {"instance_id": task.instance_id, "reason": str(error)}
            log.warning("lost attempt not released, retrying", extra=extra)
            return False
        self._lost.of(task.workflow)["lost"] += 1
        if isinstance(decision, Decision):
            self._log_conviction(task, decision)
        return True

    def _log_conviction(self, task: TaskRow, decision: Decision) -> None:
        for entry in decision.entries:
            if isinstance(entry.fact, AttemptFailed):
                extra = {"workflow": task.workflow, "version": task.version, "step_ref": task.step_ref}
                extra |= {"instance_id": task.instance_id, "attempt": task.attempt}
                log.error("step failed with AttemptLost, it stops the server repeatedly", extra=extra)

    # --- suspects --------------------------------------------------------------------------------------------

    async def _run_suspects(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._suspects_seconds
        handlers = self._handlers_of_suspects()
        rows = await self._store.claimable_tasks(code=handlers, limit=SUSPECT_TASKS_MAX)
        queue = self._in_order(rows)
        left = Counter(map(_key, queue))
        for row in queue:
            seconds = min(self._alone_seconds, deadline - loop.time())
            if seconds <= 0:
                log.warning("time limit for suspect steps reached", extra={"attempts_left": left.total()})
                return
            await self._run_alone(row, seconds)
            left[_key(row)] -= 1
            if not left[_key(row)]:
                await self._store.clear_suspects([_key(row)])

    def _handlers_of_suspects(self) -> Code:
        here = self._runner.handlers
        steps: dict[tuple[str, int], set[str]] = {}
        for workflow, version, step_ref in self._report.suspects:
            if step_ref in here.get((workflow, version), ()):
                steps.setdefault((workflow, version), set()).add(step_ref)
        return {version: frozenset(refs) for version, refs in steps.items()}

    def _in_order(self, rows: Iterable[TaskRow]) -> list[TaskRow]:
        """Most suspicious first: crashed alone, then by turns of the steps, then those that survived their time."""
        report = self._report
        turns: Counter[StepKey] = Counter()
        ranked: list[tuple[tuple[bool, bool, int, int], TaskRow]] = []
        crashed = {(lost.task.instance_id, lost.task.step_ref) for lost in report.lost if lost.alone}
        for place, row in enumerate(rows):
            step = (row.instance_id, row.step_ref)
            if row.attempt or _key(row) in report.crashed_alone:
                rank = (step in report.survived, step not in crashed, turns[_key(row)], place)
                turns[_key(row)] += 1
                ranked.append((rank, row))
        return [row for _, row in sorted(ranked, key=lambda item: item[0])]

    async def _run_alone(self, row: TaskRow, seconds: float) -> None:
        attempt = row.attempt + 1
        if not self._runner.tasks:
            await self._store.mark_solo(row.instance_id, row.step_ref, attempt, alone=True)
        try:
            async with asyncio.timeout(seconds):
                await self._runner.run_alone(row)
        except TimeoutError:
            # It is not alone from here on.
            await self._store.mark_solo(row.instance_id, row.step_ref, attempt, alone=False)


def _reason(lost: LostAttempt) -> str:
    if lost.excused:
        return EXCUSED_REASON
    return LOST_ALONE_REASON if lost.alone else LOST_REASON


def _key(row: TaskRow) -> StepKey:
    return StepKey(row.workflow, row.version, row.step_ref)


def _names(steps: Iterable[StepKey]) -> str:
    names = [f"{step.workflow} v{step.version} {step.step_ref}" for step in sorted(steps)]
    more = len(names) - NAMES_MAX
    return ", ".join(names[:NAMES_MAX]) + (f" and {more} more" if more > 0 else "")
