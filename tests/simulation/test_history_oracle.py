"""The judge is judged: bugs are planted into the engine, one at a time, and each must be seen, for what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from perdure.model.graph import Join, WorkflowGraph
from perdure_server.engine import (
    commands,
    decide,
    decision_builder,
    effects,
    evolve,
    facts,
    reachability,
    retry,
)
from perdure_server.engine.decide import ALLOWED_IN
from perdure_server.engine.facts import Entry, TimerKind
from perdure_server.engine.state import InstanceState, Interrupted, Losses, Running, State
from simulation.reference_model import Broken
from simulation.world import live

SEEDS_MAX = 1_000
"""How many lives a planted bug may stay hidden."""

Plant = Callable[[pytest.MonkeyPatch], None]
Changes = dict[str, Any]


def apply_otherwise(
    patch: pytest.MonkeyPatch, kind: type[facts.Fact], change: Callable[[State, Entry, Any, Changes], Changes]
) -> None:
    """Let `evolve` do something else with a kind of fact."""
    real: Any = evolve._APPLY[kind]
    patch.setitem(
        evolve._APPLY,  # type: ignore[arg-type]
        kind,
        lambda state, entry, fact: change(state, entry, fact, real(state, entry, fact)),
    )


def decide_otherwise(
    patch: pytest.MonkeyPatch, kind: type[commands.Command], rule: Callable[..., Any]
) -> None:
    """Put a rule before the one that decides a kind of command."""
    real: Any = decide._RULES[kind]
    patch.setitem(decide._RULES, kind, lambda *args: rule(real, *args))  # type: ignore[arg-type]


def join_as(patch: pytest.MonkeyPatch, wrong: Join, instead: Join) -> None:
    real = reachability.ripe_joins

    def misread(graph: WorkflowGraph, state: State) -> reachability.Joins:
        steps = {
            ref: replace(step, join=instead) if step.join is wrong else step
            for ref, step in graph.steps.items()
        }
        return real(replace(graph, steps=steps), state)

    patch.setattr(decision_builder, "ripe_joins", misread)


def the_absorb_check_is_dropped(patch: pytest.MonkeyPatch) -> None:
    def change(state: State, entry: Entry, fact: facts.StepFinished, changes: Changes) -> Changes:
        for target in fact.targets:
            if target in state.steps and target != "end":
                changes["arrivals"][target] = (fact.step_ref,)
        return changes

    apply_otherwise(patch, facts.StepFinished, change)
    real = decision_builder.ripe_joins

    def ripe(graph: WorkflowGraph, state: State) -> reachability.Joins:
        again = tuple(ref for ref in state.arrivals if ref in state.steps)
        found = real(graph, state)
        return reachability.Joins(found.skipped, (*found.ripe, *again))

    patch.setattr(decision_builder, "ripe_joins", ripe)


def all_is_read_as_auto(patch: pytest.MonkeyPatch) -> None:
    join_as(patch, Join.ALL, Join.AUTO)


def any_is_read_as_auto(patch: pytest.MonkeyPatch) -> None:
    join_as(patch, Join.ANY, Join.AUTO)


def auto_begins_at_the_first_arrival(patch: pytest.MonkeyPatch) -> None:
    join_as(patch, Join.AUTO, Join.ANY)


def steps_begin_in_the_order_of_the_graph(patch: pytest.MonkeyPatch) -> None:
    # Joins come as a tuple; what else is sorted stays so.
    patch.setattr(
        decision_builder, "sorted", lambda x: list(x) if isinstance(x, tuple) else sorted(x), raising=False
    )


def the_inbox_is_read_backwards(patch: pytest.MonkeyPatch) -> None:
    real = decision_builder._first_accepted
    patch.setattr(
        decision_builder, "_first_accepted", lambda inbox, ref, events: real(inbox[::-1], ref, events)
    )


def an_event_is_consumed_twice(patch: pytest.MonkeyPatch) -> None:
    def change(state: State, entry: Entry, fact: facts.StepFinished, changes: Changes) -> Changes:
        changes.pop("inbox", None)
        return changes

    apply_otherwise(patch, facts.StepFinished, change)


def a_buffered_event_is_lost(patch: pytest.MonkeyPatch) -> None:
    def change(state: State, entry: Entry, fact: facts.EventBuffered, changes: Changes) -> Changes:
        changes["inbox"] = state.inbox
        return changes

    apply_otherwise(patch, facts.EventBuffered, change)


def unconsumed_events_are_not_reported(patch: pytest.MonkeyPatch) -> None:
    real = decision_builder.DecisionBuilder.add

    def add(
        self: decision_builder.DecisionBuilder, fact: facts.Fact, body: commands.Payload | None = None
    ) -> None:
        if isinstance(fact, facts.InstanceCompleted):
            fact = facts.InstanceCompleted()
        real(self, fact, body)

    patch.setattr(decision_builder.DecisionBuilder, "add", add)


def waiting_steps_do_not_look_into_the_inbox(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decision_builder, "_first_accepted", lambda *args: None)


def timers_outlive_their_step(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(evolve, "_without_timers_of", lambda state, ref: state.timers)


def timers_act_early(patch: pytest.MonkeyPatch) -> None:
    def rule(real: Any, writing: Any, command: commands.FireTimer) -> Any:
        fired = real(writing, replace(command, forced=True))
        if writing.entries:
            writing.entries[0] = replace(
                writing.entries[0], fact=replace(writing.entries[0].fact, forced=command.forced)
            )
        return fired

    decide_otherwise(patch, commands.FireTimer, rule)


def timers_act_twice(patch: pytest.MonkeyPatch) -> None:
    def change(state: State, entry: Entry, fact: facts.TimerFired, changes: Changes) -> Changes:
        if not fact.used:
            changes["timers"] = state.timers
        return changes

    apply_otherwise(patch, facts.TimerFired, change)


def stale_results_count(patch: pytest.MonkeyPatch) -> None:
    real = decide._stale

    def stale(state: State, ref: str, attempt: int) -> Any:
        step = state.steps.get(ref)
        return None if isinstance(step, Running) else real(state, ref, attempt)

    patch.setattr(decide, "_stale", stale)


def a_redelivery_keeps_its_attempt(patch: pytest.MonkeyPatch) -> None:
    real = decision_builder.DecisionBuilder.take

    def take(self: decision_builder.DecisionBuilder, ref: str, attempt: int) -> None:
        real(self, ref, max(1, attempt - 1) if attempt > 2 else attempt)

    patch.setattr(decision_builder.DecisionBuilder, "take", take)


def a_redelivery_counts_as_a_failure(patch: pytest.MonkeyPatch) -> None:
    def change(state: State, entry: Entry, fact: facts.AttemptReleased, changes: Changes) -> Changes:
        step = changes["steps"][fact.step_ref]
        changes["steps"][fact.step_ref] = replace(step, failures=step.failures + 1)
        return changes

    apply_otherwise(patch, facts.AttemptReleased, change)


def interrupted_steps_are_not_revived(patch: pytest.MonkeyPatch) -> None:
    real = evolve._revived
    patch.setattr(evolve, "_revived", lambda step: step if isinstance(step, Interrupted) else real(step))


def a_retry_sets_new_deadlines(patch: pytest.MonkeyPatch) -> None:
    real = decision_builder.DecisionBuilder.add

    def add(
        self: decision_builder.DecisionBuilder, fact: facts.Fact, body: commands.Payload | None = None
    ) -> None:
        if isinstance(fact, facts.TimerArmed):
            fact = replace(fact, due_at=self.at + fact.delay_ms)
        real(self, fact, body)

    patch.setattr(decision_builder.DecisionBuilder, "add", add)


def a_retry_forgets_the_timers(patch: pytest.MonkeyPatch) -> None:
    def rule(real: Any, writing: Any, command: commands.RetryInstance) -> None:
        writing.add(facts.InstanceRetried())

    decide_otherwise(patch, commands.RetryInstance, rule)


def failures_of_siblings_do_not_halt(patch: pytest.MonkeyPatch) -> None:
    def change(state: State, entry: Entry, fact: facts.InstanceFailed, changes: Changes) -> Changes:
        changes["steps"] = {
            ref: step.was if isinstance(step, Interrupted) else step for ref, step in changes["steps"].items()
        }
        return changes

    apply_otherwise(patch, facts.InstanceFailed, change)


def a_cancelled_instance_takes_results(patch: pytest.MonkeyPatch) -> None:
    def change(state: State, entry: Entry, fact: facts.InstanceCancelled, changes: Changes) -> Changes:
        return {**changes, "steps": state.steps}

    apply_otherwise(patch, facts.InstanceCancelled, change)
    for command in (commands.FinishTask, commands.SuspendTask, commands.FailTask):
        patch.setitem(ALLOWED_IN, command, frozenset(InstanceState))  # type: ignore[arg-type]


def running_steps_are_not_told_to_stop(patch: pytest.MonkeyPatch) -> None:
    real = decide._effects
    patch.setattr(
        decide, "_effects", lambda *args: [e for e in real(*args) if not isinstance(e, effects.StopTask)]
    )


def armed_timers_are_not_told(patch: pytest.MonkeyPatch) -> None:
    real = decide._effects
    patch.setattr(
        decide, "_effects", lambda *args: [e for e in real(*args) if not isinstance(e, effects.ArmTimer)]
    )


def every_entry_has_the_request_id(patch: pytest.MonkeyPatch) -> None:
    real = decision_builder.DecisionBuilder.add

    def add(
        self: decision_builder.DecisionBuilder, fact: facts.Fact, body: commands.Payload | None = None
    ) -> None:
        request_id = self.request_id
        real(self, fact, body)
        self.request_id = request_id

    patch.setattr(decision_builder.DecisionBuilder, "add", add)


def only_one_round_of_joins_is_settled(patch: pytest.MonkeyPatch) -> None:
    real, asked = decision_builder.ripe_joins, {"revision": 0}

    def ripe(graph: WorkflowGraph, state: State) -> reachability.Joins:
        first, asked["revision"] = state.revision - asked["revision"] > 2, state.revision
        return real(graph, state) if first or state.revision < 3 else reachability.Joins((), ())

    patch.setattr(decision_builder, "ripe_joins", ripe)


def retries_never_end(patch: pytest.MonkeyPatch) -> None:
    def change(state: State, entry: Entry, fact: facts.AttemptFailed, changes: Changes) -> Changes:
        before: Any = state.steps[fact.step_ref]
        if fact.retrying:
            step = changes["steps"][fact.step_ref]
            changes["steps"][fact.step_ref] = replace(step, failures=before.failures)
        return changes

    apply_otherwise(patch, facts.AttemptFailed, change)


def backoff_does_not_wait(patch: pytest.MonkeyPatch) -> None:
    assert retry.backoff_ms is decide.backoff_ms
    patch.setattr(decide, "backoff_ms", lambda policy, failures, jitter: 1)


def a_sleep_can_be_cancelled(patch: pytest.MonkeyPatch) -> None:
    def rule(real: Any, writing: Any, command: commands.CancelTimer) -> Any:
        timer = writing.state.timers.get(command.timer)
        if timer is not None and timer.kind is TimerKind.SLEEP:
            writing.add(facts.TimerCancelled(timer=timer.revision, step_ref=timer.step_ref))
            return None
        return real(writing, command)

    decide_otherwise(patch, commands.CancelTimer, rule)


def a_decision_changes_its_state(patch: pytest.MonkeyPatch) -> None:
    def change(state: State, entry: Entry, fact: facts.TimerArmed, changes: Changes) -> Changes:
        state.timers.update(changes["timers"])  # type: ignore[attr-defined]
        return changes

    apply_otherwise(patch, facts.TimerArmed, change)


def losses_are_never_failures(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decide, "_convict", lambda writing, ref, jitter: None)


def a_result_does_not_reset_the_losses(patch: pytest.MonkeyPatch) -> None:
    lost: dict[str, Any] = {}

    def remember(state: State, entry: Entry, fact: facts.AttemptFailed, changes: Changes) -> Changes:
        lost[fact.step_ref] = state.steps[fact.step_ref].losses  # type: ignore[union-attr]
        return changes

    def bring_back(state: State, entry: Entry, fact: facts.AttemptStarted, changes: Changes) -> Changes:
        step = changes["steps"][fact.step_ref]
        if step.losses is None:
            changes["steps"][fact.step_ref] = replace(step, losses=lost.get(fact.step_ref))
        return changes

    apply_otherwise(patch, facts.AttemptFailed, remember)
    apply_otherwise(patch, facts.AttemptStarted, bring_back)


def releases_count_as_losses(patch: pytest.MonkeyPatch) -> None:
    def change(state: State, entry: Entry, fact: facts.AttemptReleased, changes: Changes) -> Changes:
        step = changes["steps"][fact.step_ref]
        changes["steps"][fact.step_ref] = replace(step, losses=step.losses or Losses(1))
        return changes

    apply_otherwise(patch, facts.AttemptReleased, change)


def a_failure_forgets_the_timers_that_were_asked_for(patch: pytest.MonkeyPatch) -> None:
    def change(state: State, entry: Entry, fact: facts.InstanceFailed, changes: Changes) -> Changes:
        return {**changes, "kept_timers": ()}

    apply_otherwise(patch, facts.InstanceFailed, change)


PLANTED: dict[Plant, set[str]] = {
    the_absorb_check_is_dropped: {"joins", "a step begins or is skipped once"},
    all_is_read_as_auto: {"joins"},
    any_is_read_as_auto: {"joins"},
    auto_begins_at_the_first_arrival: {"joins"},
    steps_begin_in_the_order_of_the_graph: {"joins"},
    only_one_round_of_joins_is_settled: {"joins"},
    the_inbox_is_read_backwards: {"events are consumed in order"},
    an_event_is_consumed_twice: {"the state says what the facts say", "events are consumed in order"},
    a_buffered_event_is_lost: {"the state says what the facts say"},
    unconsumed_events_are_not_reported: {"what was accepted is consumed or reported"},
    waiting_steps_do_not_look_into_the_inbox: {"a waiting step takes its event"},
    timers_outlive_their_step: {"timers end with their step"},
    timers_act_early: {"a timer is never early", "refused for what is wrong, and only then"},
    timers_act_twice: {"timers end with their step"},
    stale_results_count: {"a stale result does not count", "refused for what is wrong, and only then"},
    a_redelivery_keeps_its_attempt: {"each dispatch takes the next attempt"},
    a_redelivery_counts_as_a_failure: {"only failures count as failures"},
    interrupted_steps_are_not_revived: {"the state says what the facts say", "joins"},
    a_retry_sets_new_deadlines: {"a retried instance keeps its deadlines"},
    a_retry_forgets_the_timers: {"a retried instance keeps its deadlines", "timers end with their step"},
    failures_of_siblings_do_not_halt: {"the state says what the facts say"},
    a_cancelled_instance_takes_results: {
        "the state says what the facts say",
        "refused for what is wrong, and only then",
    },
    running_steps_are_not_told_to_stop: {"effects tell what changed"},
    armed_timers_are_not_told: {"effects tell what changed"},
    every_entry_has_the_request_id: {"the first entry has the request id"},
    retries_never_end: {"only failures count as failures"},
    backoff_does_not_wait: {"retries keep their policy"},
    a_sleep_can_be_cancelled: {"only timeouts can be cancelled", "refused for what is wrong, and only then"},
    losses_are_never_failures: {"too many losses are a failure"},
    a_result_does_not_reset_the_losses: {"losses are counted", "too many losses are a failure"},
    releases_count_as_losses: {"losses are counted"},
    a_failure_forgets_the_timers_that_were_asked_for: {"a retried instance keeps its deadlines"},
    a_decision_changes_its_state: {"a decision leaves its state alone", "folding gives the state"},
}
"""Each bug, with the rules of which one must be seen broken."""


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_the_judge_sees_the_planted_bug_that(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)

    seen = first_broken()

    assert seen is not None, f"{SEEDS_MAX} lives, and nobody noticed"
    assert seen.rule in PLANTED[plant], seen


def first_broken() -> Broken | None:
    for seed in range(SEEDS_MAX):
        try:
            live(seed)
        except Broken as broken:
            return broken
    return None
