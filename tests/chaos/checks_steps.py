"""Checks of the steps' ledger: every run was granted, every counted result was run, no ended step ran."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise

from chaos.ledger import Recording, StepLine
from chaos.step_ledger import digest_of
from chaos.violations import Name, Violation
from chaos.walk import Walk
from perdure.model.graph import RESERVED_EVENTS, StepKind
from perdure_server.engine import facts
from perdure_server.engine.commands import EMPTY_OBJECT
from perdure_server.engine.state import Finished, Running, State

DELIBERATE = "Deliberate"
"""The type of the failures that steps raise on purpose: their code must have run."""


def check_steps(recording: Recording, walks: Mapping[str, Walk]) -> Iterator[Violation]:
    """Judge every attempt that ran, and every one that the histories say has run."""
    ran: dict[str, list[StepLine]] = defaultdict(list)
    for line in recording.steps:
        ran[line.token.rpartition("/")[0]].append(line)
    for instance_id, lines in ran.items():
        walk = walks.get(instance_id)
        if walk is None:
            yield Violation(Name.ATTEMPT_UNRECORDED, instance_id, "steps ran and there is no such instance")
            continue
        yield from _ran(walk, lines)
    for walk in walks.values():
        yield from _counted(walk, {(line.token, line.attempt) for line in ran.get(walk.instance_id, ())})


def _ran(walk: Walk, lines: list[StepLine]) -> Iterator[Violation]:
    for (token, attempt), count in Counter((line.token, line.attempt) for line in lines).items():
        if count > 1:
            yield Violation(Name.ATTEMPT_TWICE, token, f"attempt {attempt} ran {count} times")
    granted: set[tuple[str, int]] = set()
    last: dict[str, int] = {}
    began: dict[str, int] = {}
    finished: set[str] = set()
    for entry in walk.entries:
        match entry.fact:
            case facts.AttemptStarted(step_ref=ref, attempt=attempt):
                granted.add((ref, attempt))
                last[ref] = attempt
            case facts.StepStarted(step_ref=ref):
                began[ref] = entry.revision
            case facts.StepFinished(step_ref=ref):
                finished.add(ref)
    for line in lines:
        ref = line.token.rpartition("/")[2]
        if (ref, line.attempt) not in granted:
            after = ref in finished and line.attempt > last.get(ref, 0)
            name = Name.ATTEMPT_AFTER_FINISH if after else Name.ATTEMPT_UNRECORDED
            yield Violation(name, line.token, f"attempt {line.attempt}, granted: {sorted(granted)}")
        elif ref in began and (expected := _input(walk, began[ref])) != line.saw:
            message = f"attempt {line.attempt} saw {line.saw}, not {expected}"
            yield Violation(Name.STEP_SAW_WRONG_INPUT, line.token, message)


def _input(walk: Walk, began: int) -> str | None:
    """Digest the input of a step that started at this revision: the outputs of all steps that had ended."""
    state = walk.states.get(began)
    if state is None:
        return None
    outputs = {
        ref: json.loads(walk.payloads.get(step.output.revision, "null") if step.output else EMPTY_OBJECT)
        for ref, step in state.steps.items()
        if isinstance(step, Finished)
    }
    return digest_of(json.loads(walk.payloads.get(1, "null")), outputs)


def _counted(walk: Walk, ran: set[tuple[str, int]]) -> Iterator[Violation]:
    for before, entry in pairwise(walk.entries):
        state = walk.states.get(before.revision)
        if state is None:
            break
        ref, attempt = _result(walk, state, entry.fact)
        if not attempt:
            continue
        token = f"{walk.instance_id}/{ref}"
        if (token, attempt) not in ran:
            yield Violation(Name.RESULT_WITHOUT_RUN, token, f"attempt {attempt}, revision {entry.revision}")
        if isinstance(entry.fact, facts.StepFinished):
            output = json.loads(walk.payloads.get(entry.revision, EMPTY_OBJECT))
            if output != {"attempt": attempt, "token": token}:
                message = f"attempt {attempt} was current, the output is {output}"
                yield Violation(Name.RESULT_STALE, token, message)


def _result(walk: Walk, state: State, fact: facts.Fact) -> tuple[str, int]:
    """Return the step and the attempt whose code must have run for this fact; attempt 0 for other facts."""
    match fact:
        case facts.StepSuspended(step_ref=ref, attempt=attempt):
            return ref, attempt
        case facts.AttemptFailed(step_ref=ref, attempt=attempt, failure=failure):
            return ref, attempt if failure.type == DELIBERATE else 0
        case facts.StepFinished(step_ref=ref, event=event):
            definition, step = walk.graph.steps.get(ref), state.steps.get(ref)
            if definition is None:
                return ref, 0
            own = definition.kind is StepKind.TASK and event not in RESERVED_EVENTS | definition.events
            return ref, step.attempt if own and isinstance(step, Running) else 0
        case _:
            return "", 0
