"""Scripts: behavior of steps that replaces their own code, call by call, and a record of every call.

The executor runs scripted code like the real code: on a thread or on the event loop of the steps, with the same
context. Its results and exceptions take the same way into the engine.
"""

from __future__ import annotations

import enum
import inspect
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from perdure import SUSPEND, Context, Outcome, StepError, Suspend, Workflow, WorkflowGraph, graph_of
from perdure.model.graph import StepKind
from perdure_server.executors.in_process import Handler, bind
from perdure_server.executors.steps_loop import Lifespan


class Real(enum.Enum):
    """The type of `REAL`."""

    REAL = "REAL"

    def __repr__(self) -> str:
        return "REAL"


REAL: Final[Literal[Real.REAL]] = Real.REAL
"""A turn of a script: the step's own code runs."""


@dataclass(frozen=True, slots=True)
class FailAfter:
    """A turn of a script: the step's own code runs, but its result is lost and ``error`` is raised instead.

    The retry then shows if the step can be repeated safely.
    """

    error: BaseException


class AttemptTimeout(StepError):
    """A turn of a script: the attempt fails like one that exceeds its ``attempt_timeout``."""

    def __init__(self, message: str = "the attempt took longer than its attempt_timeout") -> None:
        super().__init__(message)


Result: TypeAlias = Outcome | Suspend
Turn: TypeAlias = (
    Outcome
    | Suspend
    | BaseException
    | Real
    | FailAfter
    | Callable[[Context], Result]
    | Callable[[Context], Awaitable[Result]]
)
"""The behavior of one call of a step: a result, an exception to raise, the real code, or a function to run instead."""


@dataclass(slots=True, eq=False)
class Call:
    """One call of a step, scripted or real. ``result`` is its result or its exception. None while it runs."""

    context: Context
    result: Result | BaseException | None = None

    @property
    def attempt(self) -> int:
        """The number of the attempt, from 1."""
        return self.context.attempt

    @property
    def idempotency_key(self) -> str:
        """The idempotency key of the call."""
        return self.context.idempotency_key

    def __repr__(self) -> str:
        context = self.context
        return f"<{context.idempotency_key} attempt {context.attempt}: {self.result!r}>"


class Scripts:
    """The scripts of all steps of some workflows, and the calls of these steps. Safe to use from any thread."""

    def __init__(self, workflows: Iterable[type[Workflow]]) -> None:
        self._graphs: list[WorkflowGraph] = [graph_of(workflow) for workflow in workflows]
        self._turns: dict[tuple[str, str], deque[Turn]] = {}
        self._then: dict[tuple[str, str], Turn] = {}
        self._calls: list[Call] = []
        self._lock = threading.Lock()

    def script(self, step_ref: str, turns: Iterable[Turn], then: Turn, workflow: str) -> None:
        """Set the turns of the next calls of a step. Raises ``ValueError`` for turns that the step cannot take."""
        graphs = self._graphs_with(step_ref, workflow)
        if len(graphs) > 1:
            raise ValueError(f"{' and '.join(graphs)} have a step {step_ref!r}; pass workflow=")
        graph = next(iter(graphs.values()))
        for turn in (*turns, then):
            _check(graph, step_ref, turn)
        key = (graph.name, step_ref)
        with self._lock:
            self._turns.setdefault(key, deque()).extend(turns)
            self._then[key] = then

    def calls(self, step_ref: str, instance_id: str = "") -> list[Call]:
        """Return the calls of a step, in the order of their starts. Raises ``ValueError`` for an unknown step."""
        self._graphs_with(step_ref, "")
        return [call for call in self.calls_of(instance_id) if call.context.step_ref == step_ref]

    def calls_of(self, instance_id: str) -> list[Call]:
        """Return the calls of the steps of an instance, or of all instances, in the order of their starts."""
        return [call for call in list(self._calls) if instance_id in {"", call.context.instance_id}]

    def keys(self, instance_id: str) -> Mapping[str, list[str]]:
        """Return the idempotency keys that the steps of an instance got, one for each call, by step."""
        keys: dict[str, list[str]] = {}
        for call in self.calls_of(instance_id):
            keys.setdefault(call.context.step_ref, []).append(call.idempotency_key)
        return keys

    def unplayed(self) -> list[str]:
        """Return a line for each step that has unused turns."""
        return [
            f"{workflow}.{ref}: {len(turns)} left, the next is {turns[0]!r}"
            for (workflow, ref), turns in self._turns.items()
            if turns
        ]

    def check_ref(self, step_ref: str) -> None:
        """Raise ``ValueError`` if no workflow has the step, since a mistyped name must not make a test pass."""
        self._graphs_with(step_ref, "")

    def bind(
        self, workflows: Iterable[Workflow]
    ) -> tuple[dict[tuple[str, int, str], Handler], list[Lifespan]]:
        """Return the handlers of workflow objects for the executor, each behind its script."""
        code, lifespans = bind(workflows)
        return {key: self._behind_script(key[0], step) for key, step in code.items()}, lifespans

    # --- on the threads of steps -----------------------------------------------------------------------------

    def _behind_script(self, workflow: str, step: Handler) -> Handler:
        # Coroutine functions stay coroutine functions, so that each step runs on the same thread as without a script.
        if inspect.iscoroutinefunction(step):

            async def play_async(context: Context) -> object:
                call, turn = self._begin(workflow, context)
                try:
                    return _ended(call, await _awaited(_play(turn, step, context)))
                except BaseException as error:
                    call.result = error
                    raise

            return play_async

        def play(context: Context) -> object:
            call, turn = self._begin(workflow, context)
            try:
                value = _play(turn, step, context)
            except BaseException as error:
                call.result = error
                raise
            return _finish(call, value) if inspect.isawaitable(value) else _ended(call, value)

        return play

    def _begin(self, workflow: str, context: Context) -> tuple[Call, Turn]:
        call = Call(context)
        key = (workflow, context.step_ref)
        with self._lock:
            self._calls.append(call)
            turns = self._turns.get(key)
            return call, turns.popleft() if turns else self._then.get(key, REAL)

    # --- validation ----------------------------------------------------------------------------------------

    def _graphs_with(self, step_ref: str, workflow: str) -> dict[str, WorkflowGraph]:
        """Return the graphs that have the step, by name. Raises ``ValueError`` if there are none."""
        asked = [graph for graph in self._graphs if workflow in {"", graph.name}]
        found = {graph.name: graph for graph in asked if step_ref in graph.steps}
        if not found:
            steps = ", ".join(dict.fromkeys(ref for graph in asked for ref in graph.steps))
            raise ValueError(f"unknown step {step_ref!r}; the steps are {steps}")
        return found


def _play(turn: Turn, step: Handler, context: Context) -> Any:
    match turn:
        case Outcome() | Suspend():
            return turn
        case BaseException():
            raise turn.with_traceback(None)
        case Real():
            return step(context)
        case FailAfter(error=error):
            value = step(context)
            if inspect.isawaitable(value):
                return _fail_after(value, error)
            raise error
        case _:
            return turn(context)


async def _fail_after(value: Awaitable[object], error: BaseException) -> object:
    await value
    raise error


async def _awaited(value: Any) -> object:
    return await value if inspect.isawaitable(value) else value


async def _finish(call: Call, value: Awaitable[object]) -> object:
    try:
        return _ended(call, await value)
    except BaseException as error:
        call.result = error
        raise


def _ended(call: Call, value: Any) -> object:
    call.result = value
    return value


def _check(graph: WorkflowGraph, step_ref: str, turn: object) -> None:
    """Reject a turn that the step cannot take. The engine fails a step whose real code does this."""
    step = graph.steps[step_ref]
    if step.kind is not StepKind.TASK:
        ends = "resume() ends it" if step.kind is StepKind.WAIT else "advance() ends it"
        raise ValueError(f"{step_ref} is a {step.kind.value} and cannot be scripted; {ends}")
    if isinstance(turn, Outcome) and turn.event not in step.on:
        events = ", ".join(step.on)
        raise ValueError(f"{step_ref} has no event {turn.event!r}; its events are {events}")
    if turn is SUSPEND and not step.events:
        raise ValueError(f"{step_ref} does not declare awaits, so it cannot return SUSPEND")
    if not isinstance(turn, Outcome | Suspend | BaseException | Real | FailAfter) and (
        isinstance(turn, type) or not callable(turn)
    ):
        raise ValueError(
            f"{turn!r} is not a turn of a script; use an Outcome, SUSPEND, an exception object, REAL, "
            "FailAfter(error), or a function of the context"
        )
