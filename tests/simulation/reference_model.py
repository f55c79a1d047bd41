"""The judge's own book of one instance, told from its facts by the words of DESIGN sections 2 to 4.

What lives here: phases of steps, timers, inbox, attempts, sizes and the tokens of ``simulation.join_oracle``, and
what is
wrong with a fact where it stands. What may not: the engine's states and its `evolve`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NoReturn

from perdure.model.graph import RESERVED_EVENTS, StepKind, WorkflowGraph
from perdure_server.engine import commands, facts
from perdure_server.engine.commands import Command, Grant, StartInstance
from perdure_server.engine.facts import Entry, TimerKind, Unconsumed
from perdure_server.engine.state import InstanceState
from simulation.join_oracle import Round, Tokens

READY, RUNNING, BACKOFF, WAITING, SLEEPING = "ready", "running", "backoff", "waiting", "sleeping"
FAILING, FAILED, FINISHED, SKIPPED, INTERRUPTED = "failing", "failed", "finished", "skipped", "interrupted"
ACTIVE = {READY, RUNNING, BACKOFF, WAITING, SLEEPING}


class Broken(AssertionError):
    """A rule of the design does not hold. ``rule`` is its short name."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule


def broken(rule: str, detail: object) -> NoReturn:
    raise Broken(rule, str(detail))


@dataclass
class Book:
    """What is known of one instance. ``follow`` takes a commit's entries."""

    graph: WorkflowGraph
    tokens: Tokens = field(init=False)
    phase: dict[str, str] = field(default_factory=dict)
    attempt: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    owner: dict[str, str] = field(default_factory=dict)
    attempt_at: dict[str, int] = field(default_factory=dict)
    losses: Counter[str] = field(default_factory=Counter)
    losses_alone: Counter[str] = field(default_factory=Counter)
    timers: dict[int, facts.TimerArmed] = field(default_factory=dict)
    inbox: list[tuple[int, facts.EventBuffered]] = field(default_factory=list)
    interrupted: dict[str, str] = field(default_factory=dict)
    interrupted_timers: list[facts.TimerArmed] = field(default_factory=list)
    status: InstanceState | None = None
    size_bytes: int = 0

    def __post_init__(self) -> None:
        self.tokens = Tokens(self.graph)

    # --- the facts -------------------------------------------------------------------------------------------

    def follow(self, entries: tuple[Entry, ...], command: Command | StartInstance, grant: Grant) -> None:
        turn = Round(frozenset(), ())
        skipped: set[str] = set()
        begun: list[str] = []
        for entry, following in zip(entries, [*entries[1:], None], strict=True):
            fact = entry.fact
            if isinstance(fact, facts.StepSkipped | facts.StepStarted):
                if not turn:
                    turn = self.tokens.next_round()
                (skipped.add if isinstance(fact, facts.StepSkipped) else begun.append)(fact.step_ref)
                self._fact(entry, following, entries, command, grant)
                if len(skipped) + len(begun) >= len(turn.skipped) + len(turn.begun):
                    self._check_turn(turn, skipped, begun)
                    self.tokens.carry_out(turn)
                    turn, skipped, begun = Round(frozenset(), ()), set(), []
            elif turn and not isinstance(fact, facts.TimerArmed):
                self._check_turn(turn, skipped, begun)
            else:
                self._fact(entry, following, entries, command, grant)
        if turn:
            self._check_turn(turn, skipped, begun)
        self._check_settled()

    def _check_turn(self, turn: Round, skipped: set[str], begun: list[str]) -> None:
        if skipped != turn.skipped or tuple(begun) != turn.begun:
            broken("joins", f"skipped {sorted(skipped)}, begun {begun}; the tokens say {turn}")

    def _check_settled(self) -> None:
        if self.status in {InstanceState.COMPLETED, InstanceState.CANCELLED, InstanceState.FAILED}:
            return
        if self.status is not InstanceState.PENDING and self.tokens.next_round():
            broken("joins", f"nothing follows from {self.tokens}")
        if self.tokens.gone:
            broken("without branches an instance completes", self.phase)
        for ref, phase in self.phase.items():
            if phase == WAITING and self.first_for(ref) is not None:
                broken("a waiting step takes its event", ref)
        if FAILING in self.phase.values():
            broken("a failure goes somewhere", self.phase)

    def _fact(
        self,
        entry: Entry,
        following: Entry | None,
        entries: tuple[Entry, ...],
        command: Command | StartInstance,
        grant: Grant,
    ) -> None:
        fact = entry.fact
        if self.status in {InstanceState.COMPLETED, InstanceState.CANCELLED}:
            broken("nothing follows the end", fact)
        if self.status is InstanceState.FAILED and not isinstance(
            fact, facts.InstanceRetried | facts.InstanceCancelled
        ):
            broken("a failed instance is retried or cancelled", fact)
        if (self.status is None) != isinstance(fact, facts.InstanceStarted):
            broken("a history starts once", fact)
        ref = getattr(fact, "step_ref", "")
        match fact:
            case facts.InstanceStarted():
                self.status = InstanceState.PENDING if fact.start_delay_ms else InstanceState.RUNNING
                self.size_bytes = fact.input.size_bytes
            case facts.StepStarted():
                self._step_started(fact)
            case facts.AttemptStarted():
                self._expect(ref, READY, fact)
                if fact.attempt != self.attempt[ref] + 1:
                    broken("each dispatch takes the next attempt", fact)
                if fact.owner != grant.owner or ref not in grant.step_refs:
                    broken("a task goes to the executor that asked", fact)
                self.phase[ref], self.attempt[ref], self.owner[ref] = RUNNING, fact.attempt, fact.owner
                self.attempt_at[ref] = entry.at
            case facts.AttemptFailed():
                self._attempt_failed(fact, following, command)
            case facts.AttemptReleased():
                self._expect_attempt(ref, fact.attempt, fact)
                self.phase[ref] = READY
                self._attempt_released(fact, following, command)
            case facts.StepSuspended():
                self._expect_attempt(ref, fact.attempt, fact)
                if not isinstance(command, commands.SuspendTask) or not fact.events:
                    broken("only a task that awaits may wait", fact)
                if list(fact.events) != sorted(self.graph.steps[ref].events):
                    broken("a step waits for what it declared", fact)
                self.phase[ref] = WAITING
                self._result_of(ref)
            case facts.StepFinished():
                self._step_finished(entry, fact, entries, command)
            case facts.StepSkipped():
                if ref in self.phase:
                    broken("a step begins or is skipped once", fact)
                self.phase[ref] = SKIPPED
                self.timers = {rev: timer for rev, timer in self.timers.items() if timer.step_ref != ref}
            case facts.EventBuffered():
                self._check_kept_for(fact, command)
                self.inbox.append((entry.revision, fact))
                self.size_bytes += fact.payload.size_bytes if fact.payload else 0
            case facts.TimerArmed():
                self._timer_armed(entry, fact, entries, command)
            case facts.TimerFired():
                self._timer_fired(entry, fact, following)
            case facts.TimerCancelled():
                timer = self.timers.pop(fact.timer, None)
                if timer is None or timer.kind is not TimerKind.TIMEOUT or timer.step_ref != ref:
                    broken("only timeouts can be cancelled", fact)
            case facts.InstanceCompleted():
                if not self.tokens.gone or ACTIVE & set(self.phase.values()):
                    broken("an instance completes when no branch is left", self.tokens)
                self._ended(InstanceState.COMPLETED, fact.unconsumed)
            case facts.InstanceCancelled():
                self._ended(InstanceState.CANCELLED, fact.unconsumed)
            case facts.InstanceFailed():
                self._instance_failed(fact)
            case facts.InstanceRetried():
                self._instance_retried(fact)

    def _step_started(self, fact: facts.StepStarted) -> None:
        ref = fact.step_ref
        if ref in self.phase:
            broken("a step begins or is skipped once", fact)
        step = self.graph.steps[ref]
        events = sorted(step.events) if step.kind is StepKind.WAIT else []
        if fact.kind is not step.kind or list(fact.events) != events:
            broken("a step begins as it was declared", fact)
        self.phase[ref] = {
            StepKind.TASK: READY,
            StepKind.WAIT: WAITING,
            StepKind.SLEEP: SLEEPING,
        }[fact.kind]

    def _attempt_released(
        self, fact: facts.AttemptReleased, following: Entry | None, command: Command | StartInstance
    ) -> None:
        """The third loss alone and the tenth loss in a row are failures, and no other release is one."""
        ref = fact.step_ref
        lost = isinstance(command, commands.ReleaseTask) and command.lost
        alone = isinstance(command, commands.ReleaseTask) and lost and command.alone
        if (fact.lost, fact.alone) != (lost, alone):
            broken("a loss is recorded as such", f"{fact} by {command}")
        self.losses[ref] += lost
        self.losses_alone[ref] += alone
        too_many = self.losses_alone[ref] >= 3 or self.losses[ref] >= 10
        after = following and following.fact
        failed = isinstance(after, facts.AttemptFailed) and after.failure.type == "AttemptLost"
        if failed != (lost and too_many):
            losses = f"{self.losses[ref]} losses, {self.losses_alone[ref]} of them alone"
            broken("too many losses are a failure", f"{losses}, then {after}")

    def _result_of(self, ref: str) -> None:
        self.losses[ref] = self.losses_alone[ref] = 0

    def _attempt_failed(
        self, fact: facts.AttemptFailed, following: Entry | None, command: Command | StartInstance
    ) -> None:
        ref = fact.step_ref
        lost = isinstance(command, commands.ReleaseTask)
        if lost and self.phase.get(ref) == READY:
            self.phase[ref] = RUNNING  # until the loss was counted
        self._expect_attempt(ref, fact.attempt, fact)
        self._result_of(ref)
        self.failures[ref] += 1
        if fact.failure.attempts != self.failures[ref]:
            broken("only failures count as failures", f"{fact}: it is failure {self.failures[ref]}")
        policy = self.graph.steps[ref].retry
        may_retry = lost or (isinstance(command, commands.FailTask) and command.retryable)
        retries = may_retry and policy is not None and self.failures[ref] < policy.max_attempts
        if fact.retrying != retries:
            broken("retries keep their policy", fact)
        self.phase[ref] = BACKOFF if retries else FAILING
        if retries:
            armed = following and following.fact
            if not isinstance(armed, facts.TimerArmed) or armed.kind is not TimerKind.RETRY:
                broken("a retry has its timer", fact)
            assert policy is not None
            pause_ms = min(policy.max_ms, policy.initial_ms * policy.multiplier ** (self.failures[ref] - 1))
            if not pause_ms * (1 - policy.jitter) - 1 <= armed.delay_ms <= pause_ms + 1:
                broken("retries keep their policy", armed)

    def _step_finished(
        self,
        entry: Entry,
        fact: facts.StepFinished,
        entries: tuple[Entry, ...],
        command: Command | StartInstance,
    ) -> None:
        ref, event, phase = fact.step_ref, fact.event, self.phase.get(fact.step_ref)
        step = self.graph.steps[ref]
        if event not in step.on or fact.targets != step.on[event]:
            broken("a step ends along its arrows", fact)
        if phase not in ACTIVE | {FAILING}:
            broken("a step ends once", fact)
        if fact.buffered_revision:
            self._consume(fact)
        else:
            self.size_bytes += fact.output.size_bytes if fact.output else 0
            self._check_cause(fact, phase or "", entries[0], command, first=entry is entries[0])
        self.timers = {rev: timer for rev, timer in self.timers.items() if timer.step_ref != ref}
        self.phase[ref] = FINISHED
        self.tokens.end(ref, event)

    def _check_cause(
        self,
        fact: facts.StepFinished,
        phase: str,
        cause: Entry,
        command: Command | StartInstance,
        *,
        first: bool,
    ) -> None:
        """Nothing but its own kind of cause may end a step."""
        ref, event, step = fact.step_ref, fact.event, self.graph.steps[fact.step_ref]
        match command:
            case commands.Resume():
                right = first and phase == WAITING and event == command.event and event in step.events
                right = right and command.step_ref in {"", ref} and fact.output == info_of(command.payload)
            case commands.FinishTask() if event != "error":
                right = first and phase == RUNNING and event == command.event and ref == command.step_ref
                right = right and command.attempt == self.attempt[ref] and event not in RESERVED_EVENTS
                right = right and fact.output == info_of(command.output)
            case (
                commands.FinishTask()
                | commands.FailTask()
                | commands.SuspendTask()
                | commands.ReleaseTask(lost=True)
            ):
                right = phase == FAILING and event == "error" and ref == command.step_ref
                right = right and fact.failure is not None and fact.output is not None
            case commands.FireTimer():
                timer = cause.fact
                right = isinstance(timer, facts.TimerFired) and timer.used and timer.step_ref == ref
                if event == "elapsed":
                    right = right and phase == SLEEPING and timer.kind is TimerKind.SLEEP
                else:
                    right = right and phase != SLEEPING and timer.kind is TimerKind.TIMEOUT
                    right = right and event == ("timeout" if "timeout" in step.on else "error")
            case _:
                right = False
        if not right:
            broken("a step ends by its own cause", f"{fact} in phase {phase} by {command}")

    def _check_kept_for(self, fact: facts.EventBuffered, command: Command | StartInstance) -> None:
        """An early event is kept for the one step that is busy, or for the step that the caller picked."""
        if not isinstance(command, commands.Resume) or fact.event != command.event:
            broken("only Resume brings events", fact)
        steps = self.graph.steps
        accepting = [
            ref for ref in steps if fact.event in steps[ref].events and command.step_ref in {"", ref}
        ]
        busy = [ref for ref in accepting if self.phase.get(ref) in {READY, RUNNING, BACKOFF}]
        if fact.step_ref != (busy[0] if len(busy) == 1 else command.step_ref):
            broken("an early event is kept for its step", f"{fact}; busy are {busy}")
        if any(self.phase.get(ref) == WAITING for ref in accepting):
            broken("an event that is waited for is delivered", fact)

    def _consume(self, fact: facts.StepFinished) -> None:
        found = self.first_for(fact.step_ref)
        if self.phase[fact.step_ref] != WAITING or found is None or found[0] != fact.buffered_revision:
            broken("events are consumed in order", f"{fact}; first in the inbox is {found}")
        if found[1].event != fact.event or found[1].payload != fact.output:
            broken("an event is consumed as it was accepted", f"{fact}; it was {found}")
        self.inbox.remove(found)

    def first_for(self, ref: str) -> tuple[int, facts.EventBuffered] | None:
        for revision, buffered in self.inbox:
            if buffered.event in self.graph.steps[ref].events and buffered.step_ref in {"", ref}:
                return revision, buffered
        return None

    def _timer_armed(
        self,
        entry: Entry,
        fact: facts.TimerArmed,
        entries: tuple[Entry, ...],
        command: Command | StartInstance,
    ) -> None:
        if isinstance(entries[0].fact, facts.InstanceRetried):
            if fact not in self.interrupted_timers:
                broken(
                    "a retried instance keeps its deadlines", f"{fact} was none of {self.interrupted_timers}"
                )
            self.interrupted_timers.remove(fact)
        elif fact.due_at != entry.at + fact.delay_ms:
            broken("a timer is due after its delay", fact)
        else:
            self._check_timer_kind(fact, command)
        self.timers[entry.revision] = fact

    def _check_timer_kind(self, fact: facts.TimerArmed, command: Command | StartInstance) -> None:
        phase, step = self.phase.get(fact.step_ref), self.graph.steps[fact.step_ref]
        if fact.client_requested != isinstance(command, commands.ScheduleResume):
            broken("a timer is armed for a reason", fact)
        match fact.kind:
            case TimerKind.START:
                right = isinstance(command, StartInstance) and fact.delay_ms == command.start_delay_ms
            case TimerKind.SLEEP:
                right = phase == SLEEPING and fact.delay_ms == step.sleep_ms
            case TimerKind.RETRY:
                right = phase == BACKOFF
            case TimerKind.TIMEOUT if isinstance(command, commands.ScheduleResume):
                right = "timeout" in step.on and fact.delay_ms == command.delay_ms
                right = right and (phase in ACTIVE or self.tokens.can_begin(fact.step_ref))
            case TimerKind.TIMEOUT:
                right = phase == WAITING and fact.delay_ms == step.timeout_ms
        if not right:
            broken("a timer is armed for a reason", f"{fact} in phase {phase}")

    def _timer_fired(self, entry: Entry, fact: facts.TimerFired, following: Entry | None) -> None:
        timer = self.timers.pop(fact.timer, None)
        if timer is None:
            broken("a timer acts once", fact)
        if (timer.kind, timer.step_ref) != (fact.kind, fact.step_ref):
            broken("a timer acts as it was armed", fact)
        if entry.at < timer.due_at and not fact.forced:
            broken("a timer is never early", f"{fact} at {entry.at}, due at {timer.due_at}")
        phase = self.phase.get(fact.step_ref)
        acts = {
            TimerKind.START: self.status is InstanceState.PENDING,
            TimerKind.SLEEP: phase == SLEEPING,
            TimerKind.RETRY: phase == BACKOFF,
            TimerKind.TIMEOUT: phase in ACTIVE - {SLEEPING},
        }[fact.kind]
        if acts != fact.used:
            broken("a timer acts where it finds its step", f"{fact} in phase {phase}")
        after = following and following.fact
        if fact.kind is TimerKind.START:
            self.status = InstanceState.RUNNING
        elif not fact.used:
            # A task that was ready all along may be taken by the way.
            if not isinstance(after, facts.AttemptStarted | None):
                broken("an unused timer does nothing", after)
        elif fact.kind is TimerKind.RETRY:
            self.phase[fact.step_ref] = READY
        elif not isinstance(after, facts.StepFinished) or after.step_ref != fact.step_ref:
            broken("a timer that acts ends its step", f"{fact}, then {after}")

    def _ended(self, status: InstanceState, unconsumed: tuple[Unconsumed, ...]) -> None:
        if unconsumed != tuple(Unconsumed(revision, buffered.event) for revision, buffered in self.inbox):
            broken("what was accepted is consumed or reported", f"{unconsumed}; the inbox is {self.inbox}")
        self.status, self.timers, self.interrupted_timers = status, {}, []
        self.tokens.arrived = {}
        self.phase.update({ref: INTERRUPTED for ref, phase in self.phase.items() if phase in ACTIVE})

    def _instance_failed(self, fact: facts.InstanceFailed) -> None:
        ref = fact.step_ref
        if self.phase.get(ref) != FAILING or "error" in self.graph.steps[ref].on:
            broken("an instance fails where no arrow takes the failure", fact)
        active = {ref: phase for ref, phase in self.phase.items() if phase in ACTIVE}
        if fact.interrupted != tuple(sorted(active)):
            broken("the siblings of a failed step are interrupted", fact)
        self.phase[ref] = FAILED
        self.interrupted = active
        kept = {
            rev
            for rev, timer in self.timers.items()
            if timer.client_requested and timer.step_ref not in active
        }
        if set(fact.kept_timers) != kept:
            broken("a retried instance keeps its deadlines", f"{fact}; asked for were {kept}")
        self.interrupted_timers = [
            timer for rev, timer in self.timers.items() if timer.step_ref in active or rev in kept
        ]
        self.phase.update(dict.fromkeys(active, INTERRUPTED))
        self.status, self.timers = InstanceState.FAILED, {}

    def _instance_retried(self, fact: facts.InstanceRetried) -> None:
        if self.status is not InstanceState.FAILED:
            broken("only a failed instance is retried", fact)
        for ref, phase in self.interrupted.items():
            self.phase[ref] = READY if phase == RUNNING else phase
        for ref, phase in self.phase.items():
            if phase == FAILED:
                self.phase[ref], self.failures[ref] = READY, 0
        self.status = InstanceState.RUNNING

    def status_now(self) -> InstanceState | None:
        if self.status is not InstanceState.RUNNING:
            return self.status
        busy = {READY, RUNNING, BACKOFF} & set(self.phase.values())
        return InstanceState.RUNNING if busy else InstanceState.WAITING

    # --- helpers ---------------------------------------------------------------------------------------------

    def _expect(self, ref: str, phase: str, fact: object) -> None:
        if self.phase.get(ref) != phase:
            broken("facts find their step as they need it", f"{fact} in phase {self.phase.get(ref)}")

    def _expect_attempt(self, ref: str, attempt: int, fact: object) -> None:
        self._expect(ref, RUNNING, fact)
        if attempt != self.attempt[ref]:
            broken("a stale result does not count", f"{fact}; attempt {self.attempt[ref]} runs")


def info_of(body: commands.Payload | None) -> facts.PayloadInfo | None:
    return None if body is None or body.text == commands.EMPTY_OBJECT else body.info
