"""Is a graph any good? Every mistake at once, each with its step and its hint.

`validate` is total: it takes any `WorkflowGraph`, also one from a stranger's JSON, and returns issues
instead of raising. It works in three passes, each of which needs what the one before left over:

1. *Shape*: every field has its type. A step that fails here is named and left out of the rest.
2. *Steps*: names, events, arrows, durations, retry policies; each step on its own.
3. *Structure*: what only the whole graph shows (``perdure.model.graph_analysis``).

Passes one and two look at each arrow a fixed number of times; the limits below bound them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, Final, assert_never

from perdure.model.graph import (
    DURATION_MS_MAX,
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
    WorkflowInvalidError,
    did_you_mean,
    is_name,
    listed,
    show,
)

__all__ = [
    "ARROWS_MAX",
    "ATTEMPTS_MAX",
    "MULTIPLIER_MAX",
    "RESERVED_REFS",
    "STEPS_MAX",
    "VERSION_MAX",
    "IssueCode",
    "ValidationIssue",
    "WorkflowInvalidError",
    "validate",
]

RESERVED_REFS: Final = frozenset({"start", "end", "name", "version", "lifespan"})
"""What a step may not be called: the reserved target and the attributes of `perdure.Workflow`."""

STEPS_MAX: Final = 1_000
"""The most steps that one graph may have."""
ARROWS_MAX: Final = 10_000
"""The most arrows (event, target) that one graph may have."""
VERSION_MAX: Final = 2**31 - 1
"""Versions travel as ``uint32``, which is a signed number in some languages."""
ATTEMPTS_MAX: Final = 1_000_000
"""The most attempts that a retry policy may grant."""
MULTIPLIER_MAX: Final = 1_000.0
"""The steepest growth of a retry's pause."""


def validate(graph: WorkflowGraph) -> list[ValidationIssue]:
    """Return everything that is wrong with ``graph``, workflow first, then step by step; an empty list if
    nothing is.

    Never raises, whatever the fields of the graph hold.
    """
    report = Report()
    _check_workflow(graph, report)
    steps, malformed = _by_shape(graph.steps, report)
    if _within_limits(steps, report):
        for step in steps.values():
            _check_step(step, steps, malformed, report)
        # An arrow to `end` finishes a branch, whatever step may have taken that name.
        structure = Structure(graph.start, {ref: step for ref, step in steps.items() if ref != END})
        check_structure(structure, report, malformed=malformed)
    return report.in_order(steps)


def _is_whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most  # not bool, which is an int to isinstance


def _is_number(value: Any, least: float, most: float) -> bool:
    return type(value) in {int, float} and least <= value <= most  # neither NaN nor infinity is between


_NAME_HINT: Final = "use 1 to 64 of a-z, 0-9 and _, beginning with a letter"


# Pass one: the workflow itself, and the shape of its steps


def _check_workflow(graph: WorkflowGraph, report: Report) -> None:
    if not is_name(graph.name):
        report.add(IssueCode.NAME_INVALID, None, f"{show(graph.name)} is no workflow name", _NAME_HINT)
    if not _is_whole(graph.version, 1, VERSION_MAX):
        report.add(
            IssueCode.VERSION_INVALID,
            None,
            f"{show(graph.version)} is no version",
            f"use a whole number from 1 to {VERSION_MAX}",
        )


_SHAPE_HINT: Final = "build steps with perdure.model.graph or from its JSON form"
_ON_HINT: Final = "map each event's name to where it leads, as in on={'done': 'end'}"
_TARGETS_HINT: Final = "name a step, a list of steps, or 'end', each by its name as text"
_EVENTS_HINT: Final = "name each event as text of its own, as in 'approved', 'rejected'"


def _by_shape(found: Any, report: Report) -> tuple[dict[str, StepDefinition], frozenset[str]]:
    """The steps that have the shape of one, and the names of those that have not."""
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
    """What is wrong, and the hint."""
    if not isinstance(step, StepDefinition):
        return f"{show(step)} is no step", _SHAPE_HINT
    if not isinstance(key, str) or step.ref != key:
        return f"the step is kept as {show(key)}, but its ref is {show(step.ref)}", _SHAPE_HINT
    return _fields_problem(step)


def _fields_problem(step: Any) -> tuple[str, str] | None:
    # Any: what the annotations promise is what is checked here.
    if not isinstance(step.kind, StepKind):
        return f"{show(step.kind)} is no kind of step", _SHAPE_HINT
    if not isinstance(step.on, Mapping):
        return f"`on` is {show(step.on)}, not a mapping of events to targets", _ON_HINT
    for event, targets in step.on.items():
        if not isinstance(event, str):
            return f"`on` has {show(event)} where an event's name belongs", _ON_HINT
        if isinstance(targets, str) or not isinstance(targets, Sequence):
            return f"event {show(event)} leads to {show(targets)}, which names no targets", _TARGETS_HINT
        if not all(isinstance(target, str) for target in targets):
            return f"event {show(event)} leads to {show(targets)}, where only names belong", _TARGETS_HINT
    if not isinstance(step.events, Set) or not all(isinstance(event, str) for event in step.events):
        return f"its outside events are {show(step.events)}, not a set of names", _EVENTS_HINT
    if step.join is not None and not isinstance(step.join, Join):
        return f"{show(step.join)} is no join", _SHAPE_HINT
    if step.retry is not None and not isinstance(step.retry, RetryDefinition):
        return f"{show(step.retry)} is no retry policy", _SHAPE_HINT
    return None


def _within_limits(steps: Mapping[str, StepDefinition], report: Report) -> bool:
    arrows = sum(len(targets) for step in steps.values() for targets in step.on.values())
    if len(steps) > STEPS_MAX:
        report.add(
            IssueCode.LIMIT_EXCEEDED,
            None,
            f"{len(steps)} steps are more than {STEPS_MAX}",
            "split it into workflows that start each other",
        )
    if arrows > ARROWS_MAX:
        report.add(
            IssueCode.LIMIT_EXCEEDED,
            None,
            f"{arrows} arrows are more than {ARROWS_MAX}",
            "let branches meet before they fan out again",
        )
    return len(steps) <= STEPS_MAX and arrows <= ARROWS_MAX


# Pass two: each step on its own


def _check_step(
    step: StepDefinition, steps: Mapping[str, StepDefinition], malformed: Set[str], report: Report
) -> None:
    if not is_name(step.ref):
        report.add(IssueCode.NAME_INVALID, step.ref, f"{show(step.ref)} is no ref", _NAME_HINT)
    elif step.ref in RESERVED_REFS:
        report.add(
            IssueCode.NAME_RESERVED, step.ref, f"{step.ref!r} is reserved", "give the step another name"
        )
    _check_arrows(step, steps, malformed, report)
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


def _check_arrows(
    step: StepDefinition, steps: Mapping[str, StepDefinition], malformed: Set[str], report: Report
) -> None:
    for event, targets in step.on.items():
        if not is_name(event):
            report.add(IssueCode.NAME_INVALID, step.ref, f"{show(event)} is no event name", _NAME_HINT)
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
                f"event {show(event)} leads to {show(target)}, which is no step",
                did_you_mean(target, [*steps, END], report) or "name a step of this workflow, or 'end'",
            )


def _check_events(step: StepDefinition, report: Report) -> None:
    """The events that may come from outside, of a wait or of a task that awaits."""
    for event in sorted(step.events):
        if event in RESERVED_EVENTS:
            report.add(
                IssueCode.EVENT_RESERVED,
                step.ref,
                f"{event!r} cannot come from outside: only the engine raises it",
                "give the event another name; declare its arrow only in `on`",
            )
        elif not is_name(event):
            report.add(IssueCode.NAME_INVALID, step.ref, f"{show(event)} is no event name", _NAME_HINT)
        elif event not in step.on:
            report.add(
                IssueCode.EVENT_WITHOUT_TARGET,
                step.ref,
                f"it waits for {event!r}, but no arrow says where that leads",
                f"add {event!r} to `on`, or do not wait for it",
            )
    if EVENT_ELAPSED in step.on:
        report.add(
            IssueCode.EVENT_NEVER_RAISED,
            step.ref,
            "only a sleep raises 'elapsed'",
            "use 'timeout' for waiting that took too long",
        )
    if (
        step.timeout_ms is not None
        and step.events
        and step.on.keys().isdisjoint({EVENT_TIMEOUT, EVENT_ERROR})
    ):
        report.add(
            IssueCode.TIMEOUT_WITHOUT_ARROW,
            step.ref,
            "its waiting may time out, but no arrow says where that leads",
            "add 'timeout' (or 'error') to `on`, or drop the timeout",
        )


def _check_wait(step: StepDefinition, report: Report) -> None:
    _check_events(step, report)
    if not step.events:
        report.add(
            IssueCode.WAIT_WITHOUT_EVENT, step.ref, "it waits for no event", "name the events that may end it"
        )
        return
    unheard = step.on.keys() - step.events - RESERVED_EVENTS
    if unheard:
        report.add(
            IssueCode.EVENT_NEVER_RAISED,
            step.ref,
            f"it has arrows for events that it does not wait for: {listed(unheard)}",
            "wait for them too, or drop the arrows",
        )


def _check_sleep(step: StepDefinition, report: Report) -> None:
    if step.on.keys() != {EVENT_ELAPSED}:
        report.add(
            IssueCode.SLEEP_ARROWS,
            step.ref,
            f"a sleep ends with 'elapsed' and nothing else, but its arrows are: {listed(step.on) or 'none'}",
            "declare exactly the arrow 'elapsed'",
        )
    if step.sleep_ms is None:
        report.add(IssueCode.DURATION_INVALID, step.ref, "it sleeps for no time at all", "say for how long")


_DURATIONS: Final = ("attempt_timeout_ms", "timeout_ms", "sleep_ms")


def _check_settings(step: StepDefinition, report: Report, *, allowed: Set[str]) -> None:
    for name in _DURATIONS:
        duration_ms = getattr(step, name)
        if duration_ms is not None and not _is_whole(duration_ms, 1, DURATION_MS_MAX):
            report.add(
                IssueCode.DURATION_INVALID,
                step.ref,
                f"{name} is {show(duration_ms)}",
                "use more than nothing and at most ten years, in milliseconds",
            )
    given = {name for name in ("retry", *_DURATIONS) if getattr(step, name) is not None}
    if step.events:
        given.add("events")
    for name in sorted(given - allowed):
        report.add(IssueCode.SETTING_MISPLACED, step.ref, f"a {step.kind} has no {name}", "drop the setting")
    if step.kind is StepKind.TASK and step.timeout_ms is not None and not step.events:
        report.add(
            IssueCode.SETTING_MISPLACED,
            step.ref,
            "a wait timeout bounds waiting, but the task awaits nothing",
            "declare `awaits`, or bound one run of the code with an attempt timeout",
        )


def _check_retry(step: StepDefinition, report: Report) -> None:
    retry = step.retry
    if retry is None:
        return
    problems = []
    if not _is_whole(retry.max_attempts, 1, ATTEMPTS_MAX):
        problems.append((f"max_attempts is {show(retry.max_attempts)}", f"use 1 to {ATTEMPTS_MAX}"))
    pauses_fit = True
    for name, pause_ms in (("input", retry.initial_ms), ("max", retry.max_ms)):
        if not _is_whole(pause_ms, 1, DURATION_MS_MAX):
            pauses_fit = False
            problems.append((f"{name} is {show(pause_ms)} ms", "use more than nothing and at most ten years"))
    if pauses_fit and retry.max_ms < retry.initial_ms:
        problems.append(
            (
                f"max, {retry.max_ms} ms, is shorter than input, {retry.initial_ms} ms",
                "let max be the longer one",
            )
        )
    if not _is_number(retry.multiplier, 1, MULTIPLIER_MAX):
        problems.append((f"multiplier is {show(retry.multiplier)}", f"use 1 to {MULTIPLIER_MAX:.0f}"))
    if not _is_number(retry.jitter, 0, 1):
        problems.append((f"jitter is {show(retry.jitter)}", "use a share from 0 to 1"))
    for message, hint in problems:
        report.add(IssueCode.RETRY_INVALID, step.ref, f"retry: {message}", hint)
