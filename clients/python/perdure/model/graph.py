"""The workflow graph as data: the SDK builds it, the server stores it, the engine walks it.

Owns: the types of a graph, its JSON form, its digest, and derived structure that is computed once (order,
predecessors). `perdure.model.validation` decides whether a graph is valid. Imports only the standard library.
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
"""Events that only the engine raises. Clients and steps must not send them."""

NAME_PATTERN: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""Pattern for the name of a workflow, a step or an event. Use it with `fullmatch`."""


class StepKind(enum.StrEnum):
    """Kind of a step. Code ends a `TASK`, an external event ends a `WAIT`, and time ends a `SLEEP`."""

    TASK = "task"
    WAIT = "wait"
    SLEEP = "sleep"


class Join(enum.StrEnum):
    """Rule for the start of a step with several predecessors. See "Joins" in docs/architecture.md."""

    AUTO = "auto"
    ALL = "all"
    ANY = "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDefinition:
    """Retry policy of a task, as the graph stores it.

    After n failures the pause is ``initial_ms * multiplier**(n-1)`` milliseconds, at most ``max_ms``. The pause
    is shortened at random by up to the fraction ``jitter`` (0 to 1), so that tasks that failed together do not
    retry together.
    """

    max_attempts: int = 5
    initial_ms: int = 200
    max_ms: int = 30_000
    multiplier: float = 2.0
    jitter: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDefinition:
    """One node of a graph.

    ``on`` maps each event that can end the step to its targets (step refs, or ``end``). ``events`` are the
    events that clients can send: a `wait` step waits for them, and so does a task that returned SUSPEND.
    ``timeout_ms`` limits the waiting, not the attempts. ``attempt_timeout_ms`` limits one run of a task's code.
    ``join`` is None if the author did not declare one, which means `Join.AUTO`.
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
        """Steps that this step's transitions lead to, without `end`."""
        return frozenset(t for targets in self.on.values() for t in targets if t != END)


@dataclass(frozen=True, kw_only=True)
class WorkflowGraph:
    """A named, versioned graph of steps. Steps keep the order in which they were declared."""

    name: str
    version: int
    start: str
    steps: Mapping[str, StepDefinition] = field(hash=False)

    @cached_property
    def predecessors(self) -> Mapping[str, frozenset[str]]:
        """The steps with a transition to each step."""
        found: dict[str, set[str]] = {ref: set() for ref in self.steps}
        for step in self.steps.values():
            for target in step.targets:
                if target in found:
                    found[target].add(step.ref)
        return {ref: frozenset(sources) for ref, sources in found.items()}

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The steps in topological order. Steps without an order among themselves are sorted by ref.

        Raises:
            ValueError: The graph has a cycle.
        """
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
        """The graph as compact JSON with its steps in the order of declaration. The store keeps this text."""
        return _compact(to_json(self))

    @cached_property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the graph with its steps sorted by ref.

        The order of declaration does not affect a run, so moving a method within its class needs no new version.
        """
        value = to_json(self)
        value["steps"].sort(key=lambda step: step["ref"])
        return hashlib.sha256(_compact(value).encode()).hexdigest()


def to_json(graph: WorkflowGraph) -> dict[str, Any]:
    """Return the graph as JSON values. `from_json` is the inverse. Settings that are None are omitted."""
    return {
        "name": graph.name,
        "version": graph.version,
        "start": graph.start,
        "steps": [_step_to_json(step) for step in graph.steps.values()],
    }


def from_json(value: object) -> WorkflowGraph:
    """Rebuild a graph from the value that `to_json` returned.

    Checks only the form. Names, targets and numbers can still be invalid, see `perdure.model.validation`.

    Raises:
        ValueError: A field is missing or has the wrong type, or two steps have the same ref.
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
            # JSON does not distinguish 2 from 2.0, but the digest does.
            multiplier=float(_typed("multiplier", fields.get("multiplier"), int, float)),
            jitter=float(_typed("jitter", fields.get("jitter"), int, float)),
        )
    except OverflowError as error:
        raise ValueError("a number of a retry policy is too large") from error


def _fields(what: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{what} is not a JSON object")
    return value


def _names(what: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{what} is not a list of names")
    return tuple(value)


def _typed(what: str, value: object, *types: type) -> Any:
    # Compare the exact type: in Python a bool is also an int.
    if type(value) not in types:
        raise ValueError(f"{what} is missing or has the wrong type")
    return value


def _compact(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def graph(name: str, version: int, start: str, steps: Iterable[StepDefinition]) -> WorkflowGraph:
    """Build a graph from its steps in the given order."""
    return WorkflowGraph(name=name, version=version, start=start, steps={step.ref: step for step in steps})


_RETRY_FIELDS: Final = ("max_attempts", "initial_ms", "max_ms", "multiplier", "jitter")
_DURATION_FIELDS: Final = ("attempt_timeout_ms", "timeout_ms", "sleep_ms")
