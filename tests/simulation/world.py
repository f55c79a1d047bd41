"""A world in memory around the engine: clients, an executor, alarms, a virtual clock, and crashes at any point.

One seed makes one life of one instance on a random graph. The world keeps what a database would keep (entries,
requests) apart from what a process holds (alarms, offers, who runs what), and a crash takes the second at any of the
three points of a call: before its commit, between commit and effects, before its answer. Two ledgers are written on
the side: the responses to clients, and the attempts that really ran. ``simulation.history_oracle`` follows each commit;
the ledgers
are judged here at the end.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Final

from perdure_server.engine import commands, facts
from perdure_server.engine import decide as engine
from perdure_server.engine import effects as fx
from perdure_server.engine import evolve as folding
from perdure_server.engine import state as st
from perdure_server.engine.commands import NO_GRANT, Command, Grant, StartInstance
from perdure_server.engine.decide import Decision
from perdure_server.engine.rejections import AttemptStale, Rejection, TimerNotDue, TimerNotFound
from perdure_server.engine.state import InstanceState, State
from simulation.command_generator import SeededChoices
from simulation.flows import random_flow
from simulation.history_oracle import HistoryOracle
from simulation.instance import START_MS, body
from simulation.reference_model import RuleBrokenError, broken

ACTIONS: Final = 60
"""Number of random actions before the instance is left to end."""

CALMING_MAX: Final = 600
"""Maximum number of actions after that. A graph of twelve steps needs far less."""

CRASH_SHARE: Final = 0.04
CRASH_LOOP_SHARE: Final = 0.15
EARLY_SHARE: Final = 0.1
REPEAT_SHARE: Final = 0.2


class Crashed(Exception):
    """The process died. The caller gets no response."""


@dataclass(frozen=True)
class Call:
    """A line of the clients' ledger: ``revision`` is what an OK said, None for a rejection."""

    request_id: str
    command: Command | StartInstance
    revision: int | None


@dataclass
class Process:
    """The memory that a crash loses."""

    name: str
    alarms: dict[int, int] = field(default_factory=dict)
    offered: set[str] = field(default_factory=set)
    stopped: set[tuple[str, int]] = field(default_factory=set)


class World:
    """One instance, from its start to its end, by one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.choices = SeededChoices(self.rng)
        self.graph = random_flow(self.rng, steps_max=12)
        self.oracle = HistoryOracle(self.graph)
        self.now = START_MS
        self.process = Process("p1")
        self.crashing = True
        # The database.
        self.entries: list[facts.Entry] = []
        self.state: State | None = None
        self.requests: dict[tuple[str, str], int] = {}
        # The executor: attempts that run, by (ref, attempt). It survives a crash and may answer late.
        self.runs: dict[tuple[str, int], str] = {}
        # Processes that stopped uncleanly. The attempts that they ran were lost with them.
        self.lost: set[str] = set()
        # The ledgers.
        self.calls: list[Call] = []
        self.unknown: set[str] = set()
        self.work: list[tuple[str, str, int]] = []
        self.asked = 0

    # --- a life ----------------------------------------------------------------------------------------------

    def live(self) -> None:
        """Everything from start to end, then the verdict on the ledgers."""
        command = StartInstance(
            at=self.now,
            instance_id="i1",
            input=body({"n": 1}),
            start_delay_ms=self.choices.pick([0, 0, 0, 50]),
            request_id=self._request_id(),
        )
        while self.state is None:
            self._call(command)
        actions = ACTIONS
        while actions > 0:
            # Little is left to be seen after the end; but what comes late must be rejected.
            actions -= 10 if self.state.is_final else 1
            if self.rng.random() < 0.03:
                self._crash()
            self._act()
        self._calm_down()
        self._check_ledgers()

    def _act(self) -> None:
        self.now += self.choices.pick([0, 0, 1, 5, 30, 200])
        try:
            self.choices.pick(
                [
                    self._client,
                    self._take,
                    self._take,
                    self._answer,
                    self._answer,
                    self._ring,
                    self._ring,
                    self._sweep,
                    *([self._crash_loop] if self.rng.random() < CRASH_LOOP_SHARE else []),
                ]
            )()
        except Crashed:
            self._crash()

    def _crash(self) -> None:
        """The process and all that it held is gone; the next one starts with what the database has."""
        self.lost.add(self.process.name)
        self.process = Process(f"p{int(self.process.name[1:]) + 1}")
        again = folding.fold("i1", self.entries)
        if again != self.state:
            broken("folding gives the state", f"{again} is not {self.state}")
        self.state = again

    # --- one command -----------------------------------------------------------------------------------------

    def _submit(self, command: Command | StartInstance, grant: Grant = NO_GRANT) -> Decision | Rejection:
        """Decide, commit, carry out the effects: with a place to die before each."""
        before = self.state
        try:
            if isinstance(command, StartInstance):
                result = engine.start(self.graph, command, grant)
            else:
                assert before is not None
                result = engine.decide(self.graph, before, command, grant)
        except Exception as error:
            raise RuleBrokenError("a legal command never raises", f"{command}: {error!r}") from error
        if isinstance(result, Rejection):
            assert before is not None
            assert not isinstance(command, StartInstance)
            self.oracle.rejected(command, grant, before, result)
            return result
        self._may_crash()
        self.oracle.committed(command, grant, before, result)
        self.entries.extend(result.entries)
        self.state = result.state
        request_id = getattr(command, "request_id", "")
        if request_id:
            self.requests[type(command).__name__, request_id] = result.cause.revision
        self._may_crash()
        for effect in result.effects:
            self._carry_out(effect)
        self._may_crash()
        return result

    def _may_crash(self) -> None:
        if self.crashing and self.rng.random() < CRASH_SHARE:
            raise Crashed

    def _carry_out(self, effect: fx.Effect) -> None:
        match effect:
            case fx.RunTask(step_ref=ref, attempt=attempt):
                self.runs[ref, attempt] = f"i1/{ref}"
                self.work.append((ref, f"i1/{ref}", attempt))
            case fx.OfferTask(step_ref=ref):
                self.process.offered.add(ref)
            case fx.StopTask(step_ref=ref, attempt=attempt):
                self.process.stopped.add((ref, attempt))
                if self.rng.random() < 0.5:  # the others do not hear it, and answer all the same
                    self.runs.pop((ref, attempt), None)
            case fx.ArmTimer(timer=timer):
                self.process.alarms[timer.revision] = timer.due_at
            case fx.DisarmTimer(revision=revision):
                if self.rng.random() < 0.8:  # an alarm that rings all the same must do no harm
                    self.process.alarms.pop(revision, None)

    # --- clients ---------------------------------------------------------------------------------------------

    def _request_id(self) -> str:
        self.asked += 1
        return f"q{self.asked}"

    def _call(self, command: Command | StartInstance, grant: Grant = NO_GRANT) -> None:
        """Send a client's command until there is an answer, some of them once more after it."""
        request_id = command.request_id if hasattr(command, "request_id") else ""
        told = self._send(command, grant)
        while told is Crashed:
            self._crash()
            told = self._send(command, grant)
        assert told is None or isinstance(told, int)
        self.calls.append(Call(request_id, command, told))
        if told is not None and self.rng.random() < REPEAT_SHARE:
            again = self._send(command, grant)
            if again is Crashed:
                self._crash()
            elif again != told:
                broken("a repeat gets the first answer", f"{command}: {told}, then {again}")

    def _send(self, command: Command | StartInstance, grant: Grant) -> int | type[Crashed] | None:
        """The revision of an OK, None for a rejection, `Crashed` for no answer."""
        key = type(command).__name__, getattr(command, "request_id", "")
        if key in self.requests:
            return self.requests[key]
        try:
            result = self._submit(command, grant)
        except Crashed:
            return Crashed
        return result.cause.revision if isinstance(result, Decision) else None

    def _client(self) -> None:
        assert self.state is not None
        refs = [*self.graph.steps]
        waiting = [ref for ref, step in self.state.steps.items() if isinstance(step, st.Waiting)]
        ref = self.choices.pick([*waiting, *waiting, *refs])
        request_id = self._request_id()
        kind = self.rng.random()
        if self.state.status is InstanceState.FAILED and kind < 0.6:
            self._call(commands.RetryInstance(at=self.now, request_id=request_id))
        elif kind < 0.5:
            events = sorted(self.graph.steps[ref].events) or ["ok"]
            self._call(
                commands.Resume(
                    at=self.now,
                    event=self.choices.pick(events),
                    payload=self.choices.pick([None, body({"by": request_id})]),
                    step_ref=self.choices.pick(["", ref]),
                    buffer=self.choices.pick([False, True]),
                    request_id=request_id,
                )
            )
        elif kind < 0.75:
            delay_ms = self.choices.whole(1, 300)
            may_time_out = [ref for ref, step in self.graph.steps.items() if "timeout" in step.on]
            ref = self.choices.pick([*may_time_out, ref])
            self._call(
                commands.ScheduleResume(at=self.now, step_ref=ref, delay_ms=delay_ms, request_id=request_id)
            )
        elif kind < 0.97:
            timer = self.choices.pick([*self.state.timers, 99])
            make = self.choices.pick([commands.CancelTimer, commands.FireTimer])
            if make is commands.FireTimer:
                self._call(commands.FireTimer(at=self.now, timer=timer, forced=True, request_id=request_id))
            else:
                self._call(commands.CancelTimer(at=self.now, timer=timer, request_id=request_id))
        elif self.rng.random() < 0.3:
            self._call(commands.CancelInstance(at=self.now, request_id=request_id))

    # --- the executor ----------------------------------------------------------------------------------------

    def _grant(self) -> Grant:
        slots = self.choices.pick([0, 1, 2])
        return Grant(self.process.name, slots, frozenset(self.graph.steps)) if slots else NO_GRANT

    def _take(self) -> None:
        """Take what was offered."""
        if not self.process.offered:
            return
        ref = self.choices.pick(sorted(self.process.offered))
        self.process.offered.discard(ref)
        self._submit(
            commands.TakeTask(at=self.now, step_ref=ref),
            Grant(self.process.name, 1, frozenset(self.graph.steps)),
        )

    def _answer(self) -> None:
        """An attempt ends, possibly one whose result no longer counts."""
        if not self.runs:
            return
        ref, attempt = self.choices.pick(sorted(self.runs))
        command = self._result(ref, attempt)
        try:
            result = self._submit(command, self._grant())
        except Crashed:
            if self.rng.random() < 0.5:  # the executor sends its result again, which may count already
                raise
            del self.runs[ref, attempt]
            raise
        del self.runs[ref, attempt]
        if isinstance(result, Rejection) and not isinstance(result, AttemptStale):
            broken("a result counts or is stale", f"{command}: {result!r}")

    def _result(self, ref: str, attempt: int) -> Command:
        at, step = self.now, self.graph.steps[ref]
        kind = self.rng.random()
        if kind < 0.2:
            return commands.FailTask(
                at=at,
                step_ref=ref,
                attempt=attempt,
                type="ValueError",
                message="boom",
                retryable=self.choices.pick([True, True, False]),
                jitter=self.rng.random(),
            )
        if kind < 0.25:
            return commands.ReleaseTask(at=at, step_ref=ref, attempt=attempt, reason="drained")
        if step.events and kind < 0.7:
            return commands.SuspendTask(at=at, step_ref=ref, attempt=attempt)
        event = (
            "undeclared" if kind > 0.98 else self.choices.pick(sorted(set(step.on) - {"error", "timeout"}))
        )
        output = self.choices.pick([None, body({"attempt": attempt})])
        return commands.FinishTask(at=at, step_ref=ref, attempt=attempt, event=event, output=output)

    # --- alarms and sweeps -----------------------------------------------------------------------------------

    def _ring(self) -> None:
        """The next alarm rings; now and then too early, by a clock that is ahead."""
        if not self.process.alarms:
            return
        revision, due_at = min(self.process.alarms.items(), key=lambda item: (item[1], item[0]))
        if self.rng.random() < EARLY_SHARE:
            self.now = max(self.now, due_at - 1)
        else:
            self.now = max(self.now, due_at)
        del self.process.alarms[revision]
        self._fire(revision)

    def _fire(self, revision: int) -> None:
        command = commands.FireTimer(at=self.now, timer=revision, jitter=self.rng.random())
        result = self._submit(command, self._grant())
        if isinstance(result, TimerNotDue):
            self.process.alarms[revision] = result.due_at
        elif isinstance(result, Rejection) and not isinstance(result, TimerNotFound):
            broken("a timer acts or is gone", f"{command}: {result!r}")

    def _sweep(self) -> None:
        """Find what a crash left behind: timers without alarm, tasks of processes that are gone."""
        assert self.state is not None
        for timer in self.state.timers.values():
            self.process.alarms.setdefault(timer.revision, timer.due_at)
        for ref, step in [*self.state.steps.items()]:
            grant = Grant(self.process.name, 1, frozenset({ref}))
            if isinstance(step, st.Queued):
                self._submit(commands.TakeTask(at=self.now, step_ref=ref), grant)
            elif isinstance(step, st.Running) and step.owner != self.process.name:
                self._submit(self._take_over(ref, step), grant)

    def _take_over(self, ref: str, step: st.Running, *, alone: bool = False) -> Command:
        """Release an attempt that was lost with its process, or take over one whose owner merely lost its lease."""
        if self.rng.random() < 0.2:
            return commands.TakeTask(at=self.now, step_ref=ref, lost_attempt=step.attempt)
        return commands.ReleaseTask(
            at=self.now,
            step_ref=ref,
            attempt=step.attempt,
            reason="the process stopped",
            lost=step.owner in self.lost,
            alone=alone or self.rng.random() < 0.1,
            jitter=self.rng.random(),
        )

    def _crash_loop(self) -> None:
        """A step stops its process again and again, alone in it or in company, until that counts as a failure."""
        assert self.state is not None
        ready = [ref for ref, step in self.state.steps.items() if isinstance(step, st.Queued | st.Running)]
        if not ready:
            return
        ref, alone = self.choices.pick(ready), self.choices.pick([False, True])
        for _ in range(12):
            step = self.state.steps[ref]
            if isinstance(step, st.Queued):
                self._submit(
                    commands.TakeTask(at=self.now, step_ref=ref),
                    Grant(self.process.name, 1, frozenset({ref})),
                )
            elif isinstance(step, st.Running) and step.owner == self.process.name:
                self._crash()
            elif isinstance(step, st.Running):
                self._submit(self._take_over(ref, step, alone=alone))
            else:
                return

    # --- the end ---------------------------------------------------------------------------------------------

    def _calm_down(self) -> None:
        """No crash any more, every wait is answered: then the instance ends."""
        self.crashing = False
        assert self.state is not None
        for _ in range(CALMING_MAX):
            if self.state.is_final:
                return
            if self.state.status is InstanceState.FAILED:
                self._submit(commands.RetryInstance(at=self.now))
            self._sweep()
            waiting = [ref for ref, step in self.state.steps.items() if isinstance(step, st.Waiting)]
            if self.runs:
                self._answer()
            elif waiting:
                event = self.choices.pick(sorted(self.graph.steps[waiting[0]].events))
                self._submit(commands.Resume(at=self.now, event=event, step_ref=waiting[0]))
            else:
                self._ring()
        broken("an instance can always be driven to its end", self.state)

    def _check_ledgers(self) -> None:
        """Check that responses are in the history, once each and in order, and that steps that ended have run."""
        at = {entry.request_id: entry.revision for entry in self.entries if entry.request_id}
        times = Counter(entry.request_id for entry in self.entries if entry.request_id)
        if any(count > 1 for count in times.values()):
            broken("a request takes effect at most once", times)
        latest = 0
        for call in self.calls:
            if at.get(call.request_id) != call.revision:
                broken("an answer says what is stored", f"{call}; stored at {at.get(call.request_id)}")
            if call.revision is not None:
                if call.revision <= latest:
                    broken("what is asked later comes later", f"{call} after revision {latest}")
                latest = call.revision
        tried = {(ref, attempt) for ref, _, attempt in self.work}
        for entry in self.entries:
            fact = entry.fact
            own = isinstance(fact, facts.StepFinished) and fact.event not in {"timeout", "error", "elapsed"}
            if (
                own
                and self.graph.steps[fact.step_ref].kind == "task"
                and not any(ref == fact.step_ref for ref, _ in tried)
            ):
                broken("a step that ended has run", fact)
        if len({token for _, token, _ in self.work}) != len({ref for ref, _, _ in self.work}):
            broken("a step keeps its idempotency key", self.work)
        assert self.state is not None
        if self.state.timers:
            broken("no timer outlives its instance", self.state.timers)


def live(seed: int) -> World:
    """Live through one seed. Raises `RuleBrokenError`, with the seed, where the design does not hold."""
    world = World(seed)
    try:
        world.live()
    except RuleBrokenError as error:
        raise RuleBrokenError(error.rule, f"{error} (seed {seed})") from error
    return world
