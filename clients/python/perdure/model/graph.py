"""The workflow graph as data: what the SDK authors, the server stores and the engine walks.

Pure values over the standard library. What lives here: the shapes of a graph, its canonical JSON form and
digest, and the facts about its structure that are worth computing once (order, predecessors). What may not:
rules about whether a graph is any good (``perdure.model.validation``), code that runs steps, or anything of an
instance.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

END: Final = "end"
"""The reserved target that finishes a branch."""

EVENT_TIMEOUT: Final = "timeout"
EVENT_ERROR: Final = "error"
EVENT_ELAPSED: Final = "elapsed"
RESERVED_EVENTS: Final = frozenset({EVENT_TIMEOUT, EVENT_ERROR, EVENT_ELAPSED})
"""Events that only the engine raises; a client or a step may not."""

NAME_PATTERN: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""What a workflow, a step and an event may be called (match it in full)."""

_DURATION_PATTERN: Final = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

DURATION_MS_MAX: Final = 10 * 366 * 86_400_000
"""The longest duration that a graph or a call may name: ten years."""


def parse_duration_ms(text: str) -> int:
    """Return the milliseconds that ``text`` names: digits and one unit of ``ms s m h d``, as in ``"30s"``.

    Raises ``ValueError`` when the text has another form or is longer than ten years.
    """
    match = _DURATION_PATTERN.fullmatch(text) if type(text) is str and len(text) <= 32 else None
    if match is None or not text.isascii():
        raise ValueError(f"{text!r} is no duration; write digits and a unit (ms, s, m, h, d), as in '30s'")
    duration_ms = int(match[1]) * _UNIT_MS[match[2]]
    if duration_ms > DURATION_MS_MAX:
        raise ValueError(f"{text!r} is longer than ten years")
    return duration_ms


class StepKind(enum.StrEnum):
    """What makes a step end: code (`TASK`), an external event (`WAIT`), or time (`SLEEP`)."""

    TASK = "task"
    WAIT = "wait"
    SLEEP = "sleep"


class Join(enum.StrEnum):
    """When a step with several predecessors starts; see DESIGN "Joins" in docs/architecture.md."""

    AUTO = "auto"
    ALL = "all"
    ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDefinition:
    """How often and how far apart a task's failures are retried.

    The pause before attempt n+1, after n failures, is ``initial_ms * multiplier**(n-1)``, at most ``max_ms``,
    shortened by up to the share ``jitter`` (0..1) at random so that failures do not march in step.
    """

    max_attempts: int = 5
    initial_ms: int = 200
    max_ms: int = 30_000
    multiplier: float = 2.0
    jitter: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDefinition:
    """One node of a graph.

    ``on`` maps each event that may end the step to its targets (step refs, or ``end``). ``events`` are those
    that a client may send: what a `wait` step waits for, or what a task that returns SUSPEND awaits.
    ``timeout_ms`` bounds the waiting (not the attempts), ``attempt_timeout_ms`` one run of a task's code.
    ``join`` is None where the author did not say; it then means `Join.AUTO`.
    """

    ref: str
    kind: StepKind
    on: Mapping[str, tuple[str, ...]] = field(hash=False)
    events: frozenset[str] = frozenset()
    join: Join | None = None
    retry: RetryDefinition | None = None
    attempt_timeout_ms: int | None = None
    timeout_ms: int | None = None
    sleep_ms: int | None = None

    @property
    def targets(self) -> frozenset[str]:
        """Every step that an arrow of this step leads to, `end` left out."""
        return frozenset(t for targets in self.on.values() for t in targets if t != END)


@dataclass(frozen=True, kw_only=True)
class WorkflowGraph:
    """A named, versioned graph of steps. Steps keep the order in which they were authored."""

    name: str
    version: int
    start: str
    steps: Mapping[str, StepDefinition] = field(hash=False)

    @cached_property
    def predecessors(self) -> Mapping[str, frozenset[str]]:
        """For each step, the steps that have an arrow to it."""
        found: dict[str, set[str]] = {ref: set() for ref in self.steps}
        for step in self.steps.values():
            for target in step.targets:
                if target in found:
                    found[target].add(step.ref)
        return {ref: frozenset(sources) for ref, sources in found.items()}

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The steps so that every arrow points forward; ties by ref. Raises ``ValueError`` for a cycle."""
        open_edges = {ref: len(sources) for ref, sources in self.predecessors.items()}
        ready = sorted((ref for ref, count in open_edges.items() if count == 0), reverse=True)
        order: list[str] = []
        while ready:
            ref = ready.pop()
            order.append(ref)
            for target in sorted(self.steps[ref].targets, reverse=True):
                if target in open_edges:
                    open_edges[target] -= 1
                    if open_edges[target] == 0:
                        ready.append(target)
        if len(order) != len(self.steps):
            raise ValueError(f"workflow {self.name!r} has a cycle")
        return tuple(order)

    @cached_property
    def canonical_json(self) -> str:
        """The graph as compact JSON, its steps in the order authored: what the store keeps."""
        return _compact(to_json(self))

    @cached_property
    def digest(self) -> str:
        """SHA-256, hexadecimal, of the graph with its steps in the order of their refs.

        The order in which steps are written means nothing to a run, so moving a method about needs no new
        version.
        """
        value = to_json(self)
        value["steps"].sort(key=lambda step: step["ref"])
        return hashlib.sha256(_compact(value).encode()).hexdigest()


def to_json(graph: WorkflowGraph) -> dict[str, Any]:
    """Return the graph as plain JSON values; `from_json` is its inverse. Absent settings are left out."""
    return {
        "name": graph.name,
        "version": graph.version,
        "start": graph.start,
        "steps": [_step_to_json(step) for step in graph.steps.values()],
    }


def from_json(value: object) -> WorkflowGraph:
    """Rebuild a graph from what `to_json` gave.

    Only the form is judged here: names, targets and numbers may still be junk (``perdure.model.validation``).
    Raises ``ValueError`` for any value of another form: a missing field, a wrong type, two steps with one
    ref.
    """
    fields = _fields("workflow", value)
    steps: dict[str, StepDefinition] = {}
    for item in _typed("steps", fields.get("steps"), list):
        step = _step_from_json(item)
        if step.ref in steps:
            raise ValueError(f"two steps have the ref {step.ref[:80]!r}")
        steps[step.ref] = step
    return WorkflowGraph(
        name=_typed("name", fields.get("name"), str),
        version=_typed("version", fields.get("version"), int),
        start=_typed("start", fields.get("start"), str),
        steps=steps,
    )


def _step_to_json(step: StepDefinition) -> dict[str, Any]:
    value: dict[str, Any] = {
        "ref": step.ref,
        "kind": step.kind.value,
        "on": {event: list(targets) for event, targets in step.on.items()},
    }
    if step.events:
        value["events"] = sorted(step.events)
    if step.join is not None:
        value["join"] = step.join.value
    if step.retry is not None:
        value["retry"] = {name: getattr(step.retry, name) for name in _RETRY_FIELDS}
    for name in _DURATION_FIELDS:
        duration_ms = getattr(step, name)
        if duration_ms is not None:
            value[name] = duration_ms
    return value


def _step_from_json(value: object) -> StepDefinition:
    fields = _fields("step", value)
    join, retry = fields.get("join"), fields.get("retry")
    durations = {name: fields.get(name) for name in _DURATION_FIELDS}
    return StepDefinition(
        ref=_typed("ref", fields.get("ref"), str),
        kind=StepKind(_typed("kind", fields.get("kind"), str)),
        on={event: _names("targets", targets) for event, targets in _fields("on", fields.get("on")).items()},
        events=frozenset(_names("events", fields.get("events", []))),
        join=None if join is None else Join(_typed("join", join, str)),
        retry=None if retry is None else _retry_from_json(retry),
        **{name: None if ms is None else _typed(name, ms, int) for name, ms in durations.items()},
    )


def _retry_from_json(value: object) -> RetryDefinition:
    fields = _fields("retry", value)
    try:
        return RetryDefinition(
            max_attempts=_typed("max_attempts", fields.get("max_attempts"), int),
            initial_ms=_typed("initial_ms", fields.get("initial_ms"), int),
            max_ms=_typed("max_ms", fields.get("max_ms"), int),
            # JSON does not tell 2 from 2.0, the digest would.
            multiplier=float(_typed("multiplier", fields.get("multiplier"), int, float)),
            jitter=float(_typed("jitter", fields.get("jitter"), int, float)),
        )
    except OverflowError as error:
        raise ValueError("a number of a retry policy is too large") from error


def _fields(what: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{what} is no JSON object")
    return value


def _names(what: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{what} is no list of names")
    return tuple(value)


def _typed(what: str, value: object, *types: type) -> Any:
    # By the exact type: a bool is an int only to Python.
    if type(value) not in types:
        raise ValueError(f"{what} is missing or has the wrong type")
    return value


def _compact(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def graph(name: str, version: int, start: str, steps: Iterable[StepDefinition]) -> WorkflowGraph:
    """Build a graph from its steps, in the order given."""
    return WorkflowGraph(name=name, version=version, start=start, steps={step.ref: step for step in steps})


_RETRY_FIELDS: Final = ("max_attempts", "initial_ms", "max_ms", "multiplier", "jitter")
_DURATION_FIELDS: Final = ("attempt_timeout_ms", "timeout_ms", "sleep_ms")
