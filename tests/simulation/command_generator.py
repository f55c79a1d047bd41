"""Random commands for one instance, likely and absurd alike; chance comes from a seed or from Hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol, TypeVar

from hypothesis import strategies as hst

from perdure.model.graph import WorkflowGraph
from perdure_server.engine import commands
from perdure_server.engine import state as st
from perdure_server.engine.commands import NO_GRANT, Command, Grant
from perdure_server.engine.state import State
from simulation.instance import body

T = TypeVar("T")

EXECUTORS = ("e1", "e2")


class Chance(Protocol):
    """Where choices come from."""

    def pick(self, options: Sequence[T]) -> T:
        """One of several; the first ones are the simpler ones."""

    def whole(self, least: int, most: int) -> int:
        """A whole number within these bounds, both included."""


class Seeded:
    """Choices of a seeded generator."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self._rng.random() * len(options))]

    def whole(self, least: int, most: int) -> int:
        return least + int(self._rng.random() * (most - least + 1))


class Drawn:
    """Choices of Hypothesis, which shrinks them."""

    def __init__(self, data: hst.DataObject) -> None:
        self._data = data

    def pick(self, options: Sequence[T]) -> T:
        return options[self.whole(0, len(options) - 1)]

    def whole(self, least: int, most: int) -> int:
        return self._data.draw(hst.integers(least, most))


def random_grant(chance: Chance, graph: WorkflowGraph) -> Grant:
    """None, or one for some of the steps."""
    slots = chance.pick([0, 0, 1, 2, 8])
    if not slots:
        return NO_GRANT
    refs = frozenset(ref for ref in graph.steps if chance.whole(0, 3))
    return Grant(chance.pick(EXECUTORS), slots, refs)


def random_command(chance: Chance, graph: WorkflowGraph, state: State, now: int) -> Command:
    """Any command: its kind by chance, its fields often those that make sense and sometimes nonsense."""
    return chance.pick(_MAKERS)(chance, graph, state, now)


def _ref(chance: Chance, graph: WorkflowGraph, state: State) -> str:
    active = [ref for ref, step in state.steps.items() if isinstance(step, st.ACTIVE)]
    if active and chance.whole(0, 3):
        return chance.pick(active)
    return chance.pick([*graph.steps, "nobody"])


def _attempt(chance: Chance, state: State, ref: str) -> int:
    attempt = getattr(state.steps.get(ref), "attempt", 0)
    return int(chance.pick([attempt, attempt, attempt, attempt - 1, attempt + 1, 0]))


def _event(chance: Chance, graph: WorkflowGraph, ref: str) -> str:
    own = sorted(graph.steps[ref].on) if ref in graph.steps else []
    return chance.pick([*own, *own, *own, "ok", "bogus", "error", "timeout"])


def _payload(chance: Chance) -> commands.Payload | None:
    return chance.pick([None, body({}), body({"n": 1}), body("x" * 100)])


def _resume(chance: Chance, graph: WorkflowGraph, state: State, now: int) -> Command:
    ref = _ref(chance, graph, state)
    return commands.Resume(
        at=now,
        event=_event(chance, graph, ref),
        payload=_payload(chance),
        step_ref=chance.pick(["", ref]),
        buffer=chance.pick([False, True]),
        request_id=chance.pick(["", "r"]),
    )


def _schedule(chance: Chance, graph: WorkflowGraph, state: State, now: int) -> Command:
    ref = _ref(chance, graph, state)
    return commands.ScheduleResume(at=now, step_ref=ref, delay_ms=chance.whole(1, 500))


def _cancel(chance: Chance, graph: WorkflowGraph, state: State, now: int) -> Command:
    # Rarely, since little can be seen after it.
    if chance.whole(0, 4):
        return _retry(chance, graph, state, now)
    return commands.CancelInstance(at=now, reason="enough", request_id=chance.pick(["", "r"]))


def _retry(chance: Chance, graph: WorkflowGraph, state: State, now: int) -> Command:
    return commands.RetryInstance(at=now)


def _timer(chance: Chance, state: State) -> int:
    return chance.pick([*state.timers, *state.timers, chance.whole(0, state.revision + 1)])


def _cancel_timer(chance: Chance, graph: WorkflowGraph, state: State, now: int) -> Command:
    return commands.CancelTimer(at=now, timer=_timer(chance, state))


def _fire(chance: Chance, graph: WorkflowGraph, state: State, now: int) -> Command:
    return commands.FireTimer(
        at=now,
        timer=_timer(chance, state),
        forced=chance.pick([False, False, False, True]),
        jitter=chance.pick([0.0, 0.5, 0.999]),
    )


def _take(chance: Chance, graph: WorkflowGraph, state: State, now: int) -> Command:
    ref = _ref(chance, graph, state)
    lost = _attempt(chance, state, ref) if isinstance(state.steps.get(ref), st.Running) else 0
    return commands.TakeTask(at=now, step_ref=ref, lost_attempt=chance.pick([lost, lost, 0, 1]))


def _release(chance: Chance, graph: WorkflowGraph, state: State, now: int) -> Command:
    ref = _ref(chance, graph, state)
    return commands.ReleaseTask(
        at=now,
        step_ref=ref,
        attempt=_attempt(chance, state, ref),
        reason="drained",
        lost=chance.pick([False, True]),
        alone=chance.pick([False, True]),
        jitter=chance.pick([0.0, 0.5, 0.999]),
    )


def _finish(chance: Chance, graph: WorkflowGraph, state: State, now: int) -> Command:
    ref = _ref(chance, graph, state)
    return commands.FinishTask(
        at=now,
        step_ref=ref,
        attempt=_attempt(chance, state, ref),
        event=_event(chance, graph, ref),
        output=_payload(chance),
    )


def _suspend(chance: Chance, graph: WorkflowGraph, state: State, now: int) -> Command:
    ref = _ref(chance, graph, state)
    return commands.SuspendTask(at=now, step_ref=ref, attempt=_attempt(chance, state, ref))


def _fail(chance: Chance, graph: WorkflowGraph, state: State, now: int) -> Command:
    ref = _ref(chance, graph, state)
    return commands.FailTask(
        at=now,
        step_ref=ref,
        attempt=_attempt(chance, state, ref),
        type="ValueError",
        message=chance.pick(["boom", "x" * 5_000, "half of a pair: \ud800"]),
        retryable=chance.pick([True, True, False]),
        jitter=chance.pick([0.0, 0.5, 0.999]),
    )


_MAKERS: tuple[Callable[[Chance, WorkflowGraph, State, int], Command], ...] = (
    _resume,
    _resume,
    _schedule,
    _cancel,
    _cancel_timer,
    _fire,
    _fire,
    _take,
    _take,
    _take,
    _release,
    _finish,
    _finish,
    _finish,
    _suspend,
    _fail,
)
