"""Validation of a workflow graph: every issue at once, each with its step and a hint.

`validate` is total. It accepts any `WorkflowGraph`, even one from untrusted JSON, and returns issues instead of
raising. It works in three passes. Each pass relies on the previous one:

1. *Shape*: every field has its type. A step that fails here is reported and excluded from the other passes.
2. *Steps*: names, events, transitions, durations and retry policies of each step.
3. *Structure*: properties of the whole graph (``perdure.model.graph_analysis``).

Passes 1 and 2 look at each transition a fixed number of times. The limits below bound all passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, Final, assert_never

from perdure.model.durations import DURATION_MS_MAX
from perdure.model.graph import (
    END,
    EVENT_ELAPSED,
    EVENT_ERROR,
    EVENT_TIMEOUT,
    RESERVED_EVENTS,
    Join,
    RetryDefinition,
    StepDefinition,
    StepKind,
    WorkflowGraph,
)
from perdure.model.graph_analysis import Structure, check_structure
from perdure.model.issues import (
    IssueCode,
    Report,
    ValidationIssue,
    did_you_mean,
    is_name,
    listed,
    show,
)

__all__ = [
    "TRANSITIONS_MAX",
    "ATTEMPTS_MAX",
    "MULTIPLIER_MAX",
    "RESERVED_REFS",
    "STEPS_MAX",
    "VERSION_MAX",
    "IssueCode",
    "ValidationIssue",
    "validate",
]

RESERVED_REFS: Final = frozenset({"start", "end", "exit", "again", "name", "version", "lifespan"})
"""Names that a step must not have: the target `end`, the names `exit` and `again`, which are reserved for targets of
later versions, and the attributes of `perdure.Workflow`.
"""

STEPS_MAX: Final = 1_000
"""Maximum number of steps in a graph."""
TRANSITIONS_MAX: Final = 10_000
"""Maximum number of transitions (event, target) in a graph."""
VERSION_MAX: Final = 2**31 - 1
"""Maximum version. Versions travel as ``uint32``, which some languages represent as a signed number."""
ATTEMPTS_MAX: Final = 1_000_000
"""Maximum number of attempts of a retry policy."""
MULTIPLIER_MAX: Final = 1_000.0
"""Maximum multiplier of a retry policy."""


def validate(graph: WorkflowGraph) -> list[ValidationIssue]:
    """Return the issues of a graph: first those of the workflow, then those of each step.

    Returns an empty list for a valid graph. Never raises, even if the fields of the graph have wrong types.
    """
    report = Report()
    _check_workflow(graph, report)
    steps, malformed = _by_shape(graph.steps, report)
    if _within_limits(steps, report):
        for step in steps.values():
            _check_step(step, steps, malformed, report)
        # A transition to `end` finishes a branch, even if a step wrongly has that name.
        structure = Structure(graph.start, {ref: step for ref, step in steps.items() if ref != END})
        check_structure(structure, report, malformed=malformed)
    return report.in_order(steps)


def _is_whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most  # excludes bool, which is a subclass of int


def _is_number(value: Any, least: float, most: float) -> bool:
    return (
        type(value) in {int, float} and least <= value <= most
    )  # NaN and infinity are never between the bounds


_NAME_HINT: Final = "use 1 to 64 characters of a-z, 0-9 and _, starting with a letter"


# Pass one: the workflow itself, and the shape of its steps


def _check_workflow(graph: WorkflowGraph, report: Report) -> None:
    if not is_name(graph.name):
        report.add(
            IssueCode.NAME_INVALID, None, f"{show(graph.name)} is not a valid workflow name", _NAME_HINT
        )
    if not _is_whole(graph.version, 1, VERSION_MAX):
        report.add(
            IssueCode.VERSION_INVALID,
            None,
            f"{show(graph.version)} is not a valid version",
            f"use a whole number from 1 to {VERSION_MAX}",
        )


_SHAPE_HINT: Final = "build steps with perdure.model.graph or from its JSON form"
_ON_HINT: Final = "map each event to its target, as in on={'done': 'end'}"
_TARGETS_HINT: Final = "name a step, a list of steps, or 'end', each as a string"
_EVENTS_HINT: Final = "name each event as a separate string, as in 'approved', 'rejected'"


def _by_shape(found: Any, report: Report) -> tuple[dict[str, StepDefinition], frozenset[str]]:
    """Return the well-formed steps, and the names of the malformed ones."""
    if not isinstance(found, Mapping):
        report.add(IssueCode.MALFORMED, None, f"steps is {show(found)}", "map each ref to its StepDefinition")
        return {}, frozenset()
    steps: dict[str, StepDefinition] = {}
    malformed: set[str] = set()
    for key, step in found.items():
        problem = _shape_problem(key, step)
        if problem is None:
            steps[key] = step
        else:
            report.add(IssueCode.MALFORMED, key, *problem)
            if isinstance(key, str):
                malformed.add(key)
    return steps, frozenset(malformed)


def _shape_problem(key: object, step: object) -> tuple[str, str] | None:
    """Return a message and a hint, or None for a well-formed step."""
    if not isinstance(step, StepDefinition):
        return f"{show(step)} is not a step", _SHAPE_HINT
    if not isinstance(key, str) or step.ref != key:
        return f"the step is stored under {show(key)}, but its ref is {show(step.ref)}", _SHAPE_HINT
    return _fields_problem(step)


def _fields_problem(step: Any) -> tuple[str, str] | None:
    # Any, because this function checks what the annotations promise.
    if not isinstance(step.kind, StepKind):
        return f"{show(step.kind)} is not a kind of step", _SHAPE_HINT
    if not isinstance(step.on, Mapping):
        return f"`on` is {show(step.on)}, not a mapping of events to targets", _ON_HINT
    for event, targets in step.on.items():
        if not isinstance(event, str):
            return f"`on` has the key {show(event)}, which is not the name of an event", _ON_HINT
        if isinstance(targets, str) or not isinstance(targets, Sequence):
            return (
                f"event {show(event)} leads to {show(targets)}, which is not a list of targets",
                _TARGETS_HINT,
            )
        if not all(isinstance(target, str) for target in targets):
            return (
                f"event {show(event)} leads to {show(targets)}, which contains a value that is not a name",
                _TARGETS_HINT,
            )
    if not isinstance(step.events, Set) or not all(isinstance(event, str) for event in step.events):
        return f"its external events are {show(step.events)}, not a set of names", _EVENTS_HINT
    if step.join is not None and not isinstance(step.join, Join):
        return f"{show(step.join)} is not a join", _SHAPE_HINT
    if step.retry is not None and not isinstance(step.retry, RetryDefinition):
        return f"{show(step.retry)} is not a retry policy", _SHAPE_HINT
    return None


def _within_limits(steps: Mapping[str, StepDefinition], report: Report) -> bool:
    transitions = sum(len(targets) for step in steps.values() for targets in step.on.values())
    if len(steps) > STEPS_MAX:
        report.add(
            IssueCode.LIMIT_EXCEEDED,
            None,
            f"the workflow has {len(steps)} steps; the maximum is {STEPS_MAX}",
            "split it into workflows that start each other",
        )
    if transitions > TRANSITIONS_MAX:
        report.add(
            IssueCode.LIMIT_EXCEEDED,
            None,
            f"the workflow has {transitions} transitions; the maximum is {TRANSITIONS_MAX}",
            "join branches before they fork again",
        )
    return len(steps) <= STEPS_MAX and transitions <= TRANSITIONS_MAX


# Pass two: each step on its own


def _check_step(
    step: StepDefinition, steps: Mapping[str, StepDefinition], malformed: Set[str], report: Report
) -> None:
    if not is_name(step.ref):
        report.add(IssueCode.NAME_INVALID, step.ref, f"{show(step.ref)} is not a valid step name", _NAME_HINT)
    elif step.ref in RESERVED_REFS:
        report.add(
            IssueCode.NAME_RESERVED, step.ref, f"{step.ref!r} is reserved", "give the step another name"
        )
    _check_transitions(step, steps, malformed, report)
    match step.kind:
        case StepKind.TASK:
            _check_events(step, report)
            _check_retry(step, report)
            _check_settings(step, report, allowed={"retry", "attempt_timeout_ms", "events", "timeout_ms"})
        case StepKind.WAIT:
            _check_wait(step, report)
            _check_settings(step, report, allowed={"events", "timeout_ms"})
        case StepKind.SLEEP:
            _check_sleep(step, report)
            _check_settings(step, report, allowed={"sleep_ms"})
        case _:
            assert_never(step.kind)


def _check_transitions(
    step: StepDefinition, steps: Mapping[str, StepDefinition], malformed: Set[str], report: Report
) -> None:
    for event, targets in step.on.items():
        if not is_name(event):
            report.add(
                IssueCode.NAME_INVALID, step.ref, f"{show(event)} is not a valid event name", _NAME_HINT
            )
        if not targets:
            report.add(
                IssueCode.EVENT_WITHOUT_TARGET,
                step.ref,
                f"event {show(event)} has no target",
                "name a step, or 'end' to finish the branch",
            )
        if len(set(targets)) != len(targets):
            report.add(
                IssueCode.TARGET_DUPLICATE,
                step.ref,
                f"event {show(event)} names a target twice",
                "name each target once; a step runs at most once in an instance",
            )
        unknown = {target for target in targets if target != END and target not in steps} - malformed
        for target in sorted(unknown):
            report.add(
                IssueCode.TARGET_UNKNOWN,
                step.ref,
                f"event {show(event)} leads to {show(target)}, which is not a step",
                did_you_mean(target, [*steps, END], report) or "name a step of this workflow, or 'end'",
            )


def _check_events(step: StepDefinition, report: Report) -> None:
    """Check the external events of a wait, or of a task with `awaits`."""
    for event in sorted(step.events):
        if event in RESERVED_EVENTS:
            report.add(
                IssueCode.EVENT_RESERVED,
                step.ref,
                f"{event!r} cannot be an external event: only the engine raises it",
                "give the event another name, or declare its transition only in `on`",
            )
        elif not is_name(event):
            report.add(
                IssueCode.NAME_INVALID, step.ref, f"{show(event)} is not a valid event name", _NAME_HINT
            )
        elif event not in step.on:
            report.add(
                IssueCode.EVENT_WITHOUT_TARGET,
                step.ref,
                f"it waits for {event!r}, but has no transition for it",
                f"add {event!r} to `on`, or do not wait for it",
            )
    if EVENT_ELAPSED in step.on:
        report.add(
            IssueCode.EVENT_NEVER_RAISED,
            step.ref,
            "only a sleep raises 'elapsed'",
            "use 'timeout' to limit the waiting",
        )
    if (
        step.timeout_ms is not None
        and step.events
        and step.on.keys().isdisjoint({EVENT_TIMEOUT, EVENT_ERROR})
    ):
        report.add(
            IssueCode.TIMEOUT_WITHOUT_TRANSITION,
            step.ref,
            "its wait can time out, but it has no transition for that",
            "add 'timeout' (or 'error') to `on`, or remove the timeout",
        )


def _check_wait(step: StepDefinition, report: Report) -> None:
    _check_events(step, report)
    if not step.events:
        report.add(
            IssueCode.WAIT_WITHOUT_EVENT,
            step.ref,
            "it does not wait for any event",
            "name the events that can end it",
        )
        return
    unheard = step.on.keys() - step.events - RESERVED_EVENTS
    if unheard:
        report.add(
            IssueCode.EVENT_NEVER_RAISED,
            step.ref,
            f"it has transitions for events that it does not wait for: {listed(unheard)}",
            "wait for them too, or remove the transitions",
        )


def _check_sleep(step: StepDefinition, report: Report) -> None:
    if step.on.keys() != {EVENT_ELAPSED}:
        report.add(
            IssueCode.SLEEP_TRANSITIONS,
            step.ref,
            f"a sleep ends only with 'elapsed', but its transitions are: {listed(step.on) or 'none'}",
            "declare exactly the transition 'elapsed'",
        )
    if step.sleep_ms is None:
        report.add(IssueCode.DURATION_INVALID, step.ref, "it has no duration", "set a duration")


_DURATIONS: Final = ("attempt_timeout_ms", "timeout_ms", "sleep_ms")


def _check_settings(step: StepDefinition, report: Report, *, allowed: Set[str]) -> None:
    for name in _DURATIONS:
        duration_ms = getattr(step, name)
        if duration_ms is not None and not _is_whole(duration_ms, 1, DURATION_MS_MAX):
            report.add(
                IssueCode.DURATION_INVALID,
                step.ref,
                f"{name} is {show(duration_ms)}",
                "use 1 millisecond to ten years",
            )
    given = {name for name in ("retry", *_DURATIONS) if getattr(step, name) is not None}
    if step.events:
        given.add("events")
    for name in sorted(given - allowed):
        report.add(
            IssueCode.SETTING_MISPLACED,
            step.ref,
            f"a {step.kind} does not support {name}",
            "remove the setting",
        )
    if step.kind is StepKind.TASK and step.timeout_ms is not None and not step.events:
        report.add(
            IssueCode.SETTING_MISPLACED,
            step.ref,
            "a wait timeout limits waiting, but the task does not wait for events",
            "declare `awaits`, or limit one run of the code with an attempt timeout",
        )


def _check_retry(step: StepDefinition, report: Report) -> None:
    retry = step.retry
    if retry is None:
        return
    problems = []
    if not _is_whole(retry.max_attempts, 1, ATTEMPTS_MAX):
        problems.append((f"max_attempts is {show(retry.max_attempts)}", f"use 1 to {ATTEMPTS_MAX}"))
    pauses_fit = True
    for name, pause_ms in (("initial_backoff", retry.initial_ms), ("max_backoff", retry.max_ms)):
        if not _is_whole(pause_ms, 1, DURATION_MS_MAX):
            pauses_fit = False
            problems.append((f"{name} is {show(pause_ms)} ms", "use 1 millisecond to ten years"))
    if pauses_fit and retry.max_ms < retry.initial_ms:
        problems.append(
            (
                f"max_backoff is {retry.max_ms} ms, shorter than initial_backoff, {retry.initial_ms} ms",
                "make max_backoff at least as long as initial_backoff",
            )
        )
    if not _is_number(retry.multiplier, 1, MULTIPLIER_MAX):
        problems.append((f"multiplier is {show(retry.multiplier)}", f"use 1 to {MULTIPLIER_MAX:.0f}"))
    if not _is_number(retry.jitter, 0, 1):
        problems.append((f"jitter is {show(retry.jitter)}", "use a fraction from 0 to 1"))
    for message, hint in problems:
        report.add(IssueCode.RETRY_INVALID, step.ref, f"retry: {message}", hint)
