"""Graphs for the engine's tests: a short way to write one, and seeded random ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from random import Random

from perdure.model.graph import Join, RetryDefinition, StepDefinition, StepKind, WorkflowGraph, graph
from perdure.model.validation import IssueCode, validate

EVENTS = ("ok", "no", "maybe")


def task(
    ref: str,
    *,
    join: Join | None = None,
    awaits: Iterable[str] = (),
    wait_timeout_ms: int | None = None,
    retry: RetryDefinition | None = None,
    **on: str,
) -> StepDefinition:
    """A task; ``on`` is written as in ``ok="a b"``."""
    return StepDefinition(
        ref=ref,
        kind=StepKind.TASK,
        on={event: tuple(to.split()) for event, to in on.items()},
        events=frozenset(awaits),
        join=join,
        retry=retry,
        timeout_ms=wait_timeout_ms,
    )


def wait(ref: str, *, join: Join | None = None, timeout_ms: int | None = None, **on: str) -> StepDefinition:
    """A wait for every event of ``on`` but `timeout` and `error`."""
    return StepDefinition(
        ref=ref,
        kind=StepKind.WAIT,
        on={event: tuple(to.split()) for event, to in on.items()},
        events=frozenset(on) - {"timeout", "error"},
        join=join,
        timeout_ms=timeout_ms,
    )


def nap(ref: str, sleep_ms: int, then: str, *, join: Join | None = None) -> StepDefinition:
    """A sleep."""
    return StepDefinition(
        ref=ref, kind=StepKind.SLEEP, on={"elapsed": tuple(then.split())}, sleep_ms=sleep_ms, join=join
    )


def flow(*steps: StepDefinition) -> WorkflowGraph:
    """A legal graph that starts with its first step."""
    whole = graph("flow", 1, steps[0].ref, steps)
    issues = validate(whole)
    assert not issues, "\n".join(map(str, issues))
    return whole


def random_flow(rng: Random, *, steps_max: int = 8) -> WorkflowGraph:
    """A legal graph with tasks, waits, sleeps, forks and joins of every kind, the same for the same seed."""
    refs = [f"s{index}" for index in range(rng.randint(rng.choice([1, steps_max]), steps_max))]
    # Refs that sort otherwise than the graph runs: order of refs and order of arrows must not be mixed up.
    rng.shuffle(refs)
    kinds = [rng.choices([StepKind.TASK, StepKind.WAIT, StepKind.SLEEP], [5, 3, 1])[0] for _ in refs]
    arrows = [_arrows(rng, kind) for kind in kinds]
    for index in range(1, len(refs)):
        parent = rng.randrange(max(0, index - 3), index)
        arrows[parent][rng.choice(sorted(arrows[parent]))].append(refs[index])
    for index, on in enumerate(arrows):
        later = [*refs[index + 1 :], "end"]
        for targets in on.values():
            count = rng.choice([0, 1, 1, 2]) if targets else rng.choice([1, 1, 2])
            more = rng.sample(later, min(count, len(later)))
            targets.extend(target for target in more if target not in targets)
    drawn = [_step(rng, ref, kind, on) for ref, kind, on in zip(refs, kinds, arrows, strict=True)]
    return _mended(rng, graph("drawn", 1, refs[0], drawn))


def _arrows(rng: Random, kind: StepKind) -> dict[str, list[str]]:
    if kind is StepKind.SLEEP:
        return {"elapsed": []}
    own = rng.sample(EVENTS, rng.choice([1, 2, 2, 3]))
    extra = [event for event in ("timeout", "error") if rng.random() < 0.4]
    return {event: [] for event in [*own, *extra]}


def _step(rng: Random, ref: str, kind: StepKind, on: dict[str, list[str]]) -> StepDefinition:
    own = [event for event in on if event in EVENTS]
    step = StepDefinition(
        ref=ref,
        kind=kind,
        on={event: tuple(targets) for event, targets in on.items()},
        join=rng.choice([None, Join.AUTO, Join.ALL, Join.ANY]),
    )
    if kind is StepKind.SLEEP:
        return replace(step, sleep_ms=rng.randint(1, 500))
    bounded = ("timeout" in on or "error" in on) and rng.random() < 0.6
    timeout_ms = rng.randint(1, 500) if bounded else None
    if kind is StepKind.WAIT:
        return replace(step, events=frozenset(own), timeout_ms=timeout_ms)
    awaits = frozenset(rng.sample(own, rng.randint(1, len(own)))) if rng.random() < 0.5 else frozenset[str]()
    retry = RetryDefinition(max_attempts=rng.randint(1, 3), initial_ms=10, max_ms=100, jitter=0.5)
    return replace(
        step,
        events=awaits,
        timeout_ms=timeout_ms if awaits else None,
        retry=retry if rng.random() < 0.8 else None,
    )


def _mended(rng: Random, whole: WorkflowGraph) -> WorkflowGraph:
    """The graph with what `validate` says of its joins mended as it says."""
    for issue in validate(whole):
        assert issue.step_ref is not None
        assert issue.code in {IssueCode.JOIN_UNDECLARED, IssueCode.JOIN_UNSATISFIABLE}, str(issue)
        declarable = [Join.AUTO, Join.ANY] if issue.code is IssueCode.JOIN_UNSATISFIABLE else [*Join]
        whole = _with_join(whole, issue.step_ref, rng.choice(declarable))
    for issue in validate(whole):
        assert issue.step_ref is not None
        assert issue.code is IssueCode.JOIN_UNSATISFIABLE, str(issue)
        whole = _with_join(whole, issue.step_ref, Join.AUTO)
    return whole


def _with_join(whole: WorkflowGraph, ref: str, join: Join) -> WorkflowGraph:
    return replace(whole, steps={**whole.steps, ref: replace(whole.steps[ref], join=join)})
