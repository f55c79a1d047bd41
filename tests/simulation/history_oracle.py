"""The judge of histories: follows every commit of one instance and objects to what the design does not allow.

It compares the engine's decisions with the book (``simulation.reference_model``) and with what a command deserves
(``simulation.expected_results``). What may not live here: how commands come about (``simulation.world``), and any
choice of the
engine.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

import orjson

from perdure.model.graph import WorkflowGraph
from perdure_server.engine import commands, evolve, facts
from perdure_server.engine import effects as fx
from perdure_server.engine import state as st
from perdure_server.engine.commands import Command, Grant, StartInstance
from perdure_server.engine.decide import Decision
from perdure_server.engine.facts import KIND_OF, Entry, fact_from_json
from perdure_server.engine.rejections import Rejection
from perdure_server.engine.state import InstanceState, State
from simulation.expected_results import verdict
from simulation.reference_model import (
    BACKOFF,
    FAILED,
    FINISHED,
    INTERRUPTED,
    READY,
    RUNNING,
    SKIPPED,
    SLEEPING,
    WAITING,
    Book,
    broken,
)

_PHASE_OF = {
    st.Queued: READY,
    st.Running: RUNNING,
    st.BackingOff: BACKOFF,
    st.Waiting: WAITING,
    st.Sleeping: SLEEPING,
    st.Failed: FAILED,
    st.Finished: FINISHED,
    st.Skipped: SKIPPED,
    st.Interrupted: INTERRUPTED,
}
_ATTEMPTED = (st.Queued, st.Running, st.BackingOff, st.Waiting, st.Failed)
_RESULTS = (commands.FinishTask, commands.SuspendTask, commands.FailTask, commands.ReleaseTask)


@dataclass
class Glance:
    """What executors and alarms have to do, as the book says at one moment."""

    ready: set[str]
    runs: set[tuple[str, int, str]]
    timers: set[int]

    @classmethod
    def at(cls, book: Book) -> Glance:
        runs = {
            (ref, book.attempt[ref], book.owner[ref]) for ref, phase in book.phase.items() if phase == RUNNING
        }
        return cls({ref for ref, phase in book.phase.items() if phase == READY}, runs, set(book.timers))


@dataclass
class Judge:
    """Follows one instance from its first commit on."""

    graph: WorkflowGraph
    book: Book = field(init=False)
    history: list[Entry] = field(default_factory=list)
    state: State | None = None

    def __post_init__(self) -> None:
        self.book = Book(self.graph)

    # --- a commit --------------------------------------------------------------------------------------------

    def rejected(self, command: Command, grant: Grant, before: State, rejection: Rejection) -> None:
        """A command was refused: for the right reason, and nothing changed, not even inside the state."""
        self._check_verdict(command, grant, type(rejection).__name__)
        if before != self.state:
            broken("a rejection changes nothing", f"{before} is not {self.state}")

    def committed(
        self, command: Command | StartInstance, grant: Grant, before: State | None, decision: Decision
    ) -> None:
        """A command was carried out."""
        if before != self.state:
            broken("a decision leaves its state alone", f"{before} is not {self.state}")
        if not isinstance(command, StartInstance):
            self._check_verdict(command, grant, "")
        self._check_entries(command, decision)
        glance = Glance.at(self.book)
        self.book.follow(decision.entries, command, grant)
        self.history.extend(decision.entries)
        self.state = fold_on(self.state, decision.state.instance_id, decision.entries)
        if self.state != decision.state:
            broken("folding gives the state", f"{self.state} is not {decision.state}")
        self._compare_with(decision.state)
        self._check_grant(command, grant, decision)
        self._check_effects(command, decision, glance, Glance.at(self.book))

    def _check_entries(self, command: Command | StartInstance, decision: Decision) -> None:
        if not decision.entries:
            broken("a command that is carried out leaves a fact", command)
        revision = len(self.history)
        for index, entry in enumerate(decision.entries):
            revision += 1
            if entry.revision != revision:
                broken("revisions have no gap", f"{entry.revision}, not {revision}")
            if entry.at != command.at:
                broken("a fact has its command's time", entry)
            request_id = getattr(command, "request_id", "") if index == 0 else ""
            if entry.request_id != request_id:
                broken("the first entry has the request id", entry)
            kind, body = KIND_OF[type(entry.fact)], json.loads(orjson.dumps(entry.fact))
            if fact_from_json(kind, body) != entry.fact:
                broken("a fact survives its JSON", entry)
            brought = _payload_of(entry.fact)
            text = decision.payloads.get(entry.revision)
            if (brought is None) != (text is None):
                broken("a payload comes with its entry", entry)
            if text is not None and commands.payload(text).info != brought:
                broken("a payload has its digest", entry)
        if not decision.payloads.keys() <= {entry.revision for entry in decision.entries}:
            broken("a payload comes with its entry", decision.payloads.keys())

    def _check_verdict(self, command: Command, grant: Grant, given: str) -> None:
        deserved = verdict(self.book, command, grant)
        if given != deserved:
            broken("refused for what is wrong, and only then", f"{command}: {given!r}, not {deserved!r}")

    # --- after the commit ------------------------------------------------------------------------------------

    def _compare_with(self, state: State) -> None:
        """The state that the engine gives says what the book says."""
        if self.book.interrupted_timers and state.is_live:
            broken("a retried instance keeps its deadlines", f"{self.book.interrupted_timers} are missing")
        for ref in self.graph.steps:
            step = state.steps.get(ref)
            phase = self.book.phase.get(ref)
            if (None if step is None else _PHASE_OF[type(step)]) != phase:
                broken("the state says what the facts say", f"{ref} is {step}, not {phase}")
            self._compare_attempt(ref, step)
        if state.timers.keys() != self.book.timers.keys():
            broken("timers end with their step", f"{set(state.timers)}, not {set(self.book.timers)}")
        for timer in state.timers.values():
            if self.book.phase.get(timer.step_ref) in {FINISHED, SKIPPED}:
                broken("timers end with their step", timer)
        if [buffered.revision for buffered in state.inbox] != [revision for revision, _ in self.book.inbox]:
            broken("the state says what the facts say", f"inbox {state.inbox}, not {self.book.inbox}")
        if {ref: set(refs) for ref, refs in state.arrivals.items()} != self.book.tokens.arrived:
            broken("joins", f"arrivals {state.arrivals}, not {self.book.tokens.arrived}")
        if state.payload_bytes != self.book.size_bytes:
            broken("sizes are counted", f"{state.payload_bytes}, not {self.book.size_bytes}")
        if (state.revision, state.updated_at) != (self.history[-1].revision, self.history[-1].at):
            broken("the state says what the facts say", f"{state.revision} at {state.updated_at}")
        if state.status is not self.book.status_now():
            broken("states of an instance", f"{state.status}, not {self.book.status_now()}")

    def _compare_attempt(self, ref: str, step: st.StepState | None) -> None:
        if isinstance(step, _ATTEMPTED) and step.attempt_at != self.book.attempt_at.get(ref):
            broken("the state says when the newest attempt started", step)
        if isinstance(step, st.Queued | st.Running):
            losses = (step.losses.in_a_row, step.losses.alone) if step.losses else (0, 0)
            if losses != (self.book.losses[ref], self.book.losses_alone[ref]):
                broken("losses are counted", f"{step}, not {self.book.losses[ref]}")

    def _check_grant(self, command: Command | StartInstance, grant: Grant, decision: Decision) -> None:
        taken = sum(isinstance(entry.fact, facts.AttemptStarted) for entry in decision.entries)
        if decision.slots_used != taken or taken > grant.slots:
            broken("a grant is not overdrawn", f"{decision.slots_used} said, {taken} of {grant.slots} taken")
        left = taken < grant.slots and not isinstance(command, commands.ReleaseTask)
        if left and self.book.status_now() is InstanceState.RUNNING:
            ready = {ref for ref, phase in self.book.phase.items() if phase == READY} & grant.step_refs
            if ready:
                broken("ready tasks go to who asked for them", f"{sorted(ready)} were left")

    def _check_effects(
        self, command: Command | StartInstance, decision: Decision, before: Glance, after: Glance
    ) -> None:
        # Who brought the result itself need not be told to stop.
        own = command.step_ref if isinstance(command, _RESULTS) else ""
        expected: Counter[object] = Counter()
        expected.update(fx.StopTask(*run) for run in before.runs - after.runs if run[0] != own)
        expected.update(fx.RunTask(*run) for run in after.runs - before.runs)
        expected.update(fx.OfferTask(ref) for ref in after.ready - before.ready)
        expected.update(fx.DisarmTimer(revision) for revision in before.timers - after.timers)
        expected.update(
            fx.ArmTimer(decision.state.timers[revision]) for revision in after.timers - before.timers
        )
        if Counter[object](decision.effects) != expected:
            broken("effects tell what changed", f"{decision.effects}; expected {list(expected)}")


def fold_on(state: State | None, instance_id: str, entries: tuple[Entry, ...]) -> State | None:
    """The state after further entries, through the JSON that a store would keep."""
    for entry in entries:
        kind, body = KIND_OF[type(entry.fact)], json.loads(orjson.dumps(entry.fact))
        again = Entry(entry.revision, entry.at, fact_from_json(kind, body), entry.request_id)
        state = evolve.fold(instance_id, [again]) if state is None else evolve.evolve(state, again)
    return state


def _payload_of(fact: facts.Fact) -> facts.PayloadInfo | None:
    match fact:
        case facts.InstanceStarted():
            return fact.input
        case facts.EventBuffered():
            return fact.payload
        case facts.StepFinished() if not fact.buffered_revision:
            return fact.output
        case _:
            return None
