"""Random commands for one instance, likely and absurd ones. The choices come from a seed or from Hypothesis."""

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


class Choices(Protocol):
    """A source of choices."""

    def pick(self, options: Sequence[T]) -> T:
        """One of several; the first ones are the simpler ones."""

    def whole(self, least: int, most: int) -> int:
        """A whole number within these bounds, both included."""


class SeededChoices:
    """Choices of a seeded generator."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self._rng.random() * len(options))]

    def whole(self, least: int, most: int) -> int:
        return least + int(self._rng.random() * (most - least + 1))


class DrawnChoices:
    """Choices of Hypothesis, which shrinks them."""

    def __init__(self, data: hst.DataObject) -> None:
        self._data = data

    def pick(self, options: Sequence[T]) -> T:
        return options[self.whole(0, len(options) - 1)]

    def whole(self, least: int, most: int) -> int:
        return self._data.draw(hst.integers(least, most))


def random_grant(choices: Choices, graph: WorkflowGraph) -> Grant:
    """None, or one for some of the steps."""
    slots = choices.pick([0, 0, 1, 2, 8])
    if not slots:
        return NO_GRANT
    refs = frozenset(ref for ref in graph.steps if choices.whole(0, 3))
    return Grant(choices.pick(EXECUTORS), slots, refs)


def random_command(choices: Choices, graph: WorkflowGraph, state: State, now: int) -> Command:
    """Return a random command. Its fields are often valid and sometimes not."""
    return choices.pick(_MAKERS)(choices, graph, state, now)


def _ref(choices: Choices, graph: WorkflowGraph, state: State) -> str:
    active = [ref for ref, step in state.steps.items() if isinstance(step, st.ACTIVE)]
    if active and choices.whole(0, 3):
        return choices.pick(active)
    return choices.pick([*graph.steps, "nobody"])


def _attempt(choices: Choices, state: State, ref: str) -> int:
    attempt = getattr(state.steps.get(ref), "attempt", 0)
    return int(choices.pick([attempt, attempt, attempt, attempt - 1, attempt + 1, 0]))


def _event(choices: Choices, graph: WorkflowGraph, ref: str) -> str:
    own = sorted(graph.steps[ref].on) if ref in graph.steps else []
    return choices.pick([*own, *own, *own, "ok", "bogus", "error", "timeout"])


def _payload(choices: Choices) -> commands.Payload | None:
    return choices.pick([None, body({}), body({"n": 1}), body("x" * 100)])


def _resume(choices: Choices, graph: WorkflowGraph, state: State, now: int) -> Command:
    ref = _ref(choices, graph, state)
    return commands.Resume(
        at=now,
        event=_event(choices, graph, ref),
        payload=_payload(choices),
        step_ref=choices.pick(["", ref]),
        buffer=choices.pick([False, True]),
        request_id=choices.pick(["", "r"]),
    )


def _schedule(choices: Choices, graph: WorkflowGraph, state: State, now: int) -> Command:
    ref = _ref(choices, graph, state)
    return commands.ScheduleResume(at=now, step_ref=ref, delay_ms=choices.whole(1, 500))


def _cancel(choices: Choices, graph: WorkflowGraph, state: State, now: int) -> Command:
    # Rarely, since little can be seen after it.
    if choices.whole(0, 4):
        return _retry(choices, graph, state, now)
    return commands.CancelInstance(at=now, reason="enough", request_id=choices.pick(["", "r"]))


def _retry(choices: Choices, graph: WorkflowGraph, state: State, now: int) -> Command:
    return commands.RetryInstance(at=now)


def _timer(choices: Choices, state: State) -> int:
    return choices.pick([*state.timers, *state.timers, choices.whole(0, state.revision + 1)])


def _cancel_timer(choices: Choices, graph: WorkflowGraph, state: State, now: int) -> Command:
    return commands.CancelTimer(at=now, timer=_timer(choices, state))


def _fire(choices: Choices, graph: WorkflowGraph, state: State, now: int) -> Command:
    return commands.FireTimer(
        at=now,
        timer=_timer(choices, state),
        forced=choices.pick([False, False, False, True]),
        jitter=choices.pick([0.0, 0.5, 0.999]),
    )


def _take(choices: Choices, graph: WorkflowGraph, state: State, now: int) -> Command:
    ref = _ref(choices, graph, state)
    lost = _attempt(choices, state, ref) if isinstance(state.steps.get(ref), st.Running) else 0
    return commands.TakeTask(at=now, step_ref=ref, lost_attempt=choices.pick([lost, lost, 0, 1]))


def _release(choices: Choices, graph: WorkflowGraph, state: State, now: int) -> Command:
    ref = _ref(choices, graph, state)
    return commands.ReleaseTask(
        at=now,
        step_ref=ref,
        attempt=_attempt(choices, state, ref),
        reason="drained",
        lost=choices.pick([False, True]),
        alone=choices.pick([False, True]),
        jitter=choices.pick([0.0, 0.5, 0.999]),
    )


def _finish(choices: Choices, graph: WorkflowGraph, state: State, now: int) -> Command:
    ref = _ref(choices, graph, state)
    return commands.FinishTask(
        at=now,
        step_ref=ref,
        attempt=_attempt(choices, state, ref),
        event=_event(choices, graph, ref),
        output=_payload(choices),
    )


def _suspend(choices: Choices, graph: WorkflowGraph, state: State, now: int) -> Command:
    ref = _ref(choices, graph, state)
    return commands.SuspendTask(at=now, step_ref=ref, attempt=_attempt(choices, state, ref))


def _fail(choices: Choices, graph: WorkflowGraph, state: State, now: int) -> Command:
    ref = _ref(choices, graph, state)
    return commands.FailTask(
        at=now,
        step_ref=ref,
        attempt=_attempt(choices, state, ref),
        type="ValueError",
        message=choices.pick(["boom", "x" * 5_000, "half of a pair: \ud800"]),
        retryable=choices.pick([True, True, False]),
        jitter=choices.pick([0.0, 0.5, 0.999]),
    )


_MAKERS: tuple[Callable[[Choices, WorkflowGraph, State, int], Command], ...] = (
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
