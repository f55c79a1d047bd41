"""Scripts: what steps do instead of their own code, call by call, and a record of every call.

The scripted code stands where the real code would: the executor runs it on a thread or on the steps' loop, with the
same context, and what it returns or raises goes the same way into the engine. What lives here: that place between
executor and code. What may not: time, or anything of an instance.
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
from perdure_server.executors.in_process import StepCode, bind
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

    What a retry then does twice shows whether the step is safe to repeat.
    """

    error: BaseException


class AttemptTimeout(StepError):
    """A turn of a script: the attempt fails as one that took longer than its ``attempt_timeout``."""

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
"""What one call of a step does: return an outcome or SUSPEND, raise, run the real code, or run a function instead."""


@dataclass(slots=True, eq=False)
class Call:
    """One run of a step's code, scripted or real. ``result`` is what came of it; None while it runs."""

    context: Context
    result: Result | BaseException | None = None

    @property
    def attempt(self) -> int:
        """Which attempt of the step it was, from 1."""
        return self.context.attempt

    @property
    def idempotency_key(self) -> str:
        """The key that the code was given."""
        return self.context.idempotency_key

    def __repr__(self) -> str:
        context = self.context
        return f"<{context.idempotency_key} attempt {context.attempt}: {self.result!r}>"


class Scripts:
    """The scripts of all steps of some workflows, and the calls that were made. Safe to use from any thread."""

    def __init__(self, workflows: Iterable[type[Workflow]]) -> None:
        self._graphs: list[WorkflowGraph] = [graph_of(workflow) for workflow in workflows]
        self._turns: dict[tuple[str, str], deque[Turn]] = {}
        self._then: dict[tuple[str, str], Turn] = {}
        self._calls: list[Call] = []
        self._lock = threading.Lock()

    def script(self, step_ref: str, turns: Iterable[Turn], then: Turn, workflow: str) -> None:
        """Say what the next calls of a step do. Raises ``ValueError`` for what the step could never do."""
        graphs = self._graphs_with(step_ref, workflow)
        if len(graphs) > 1:
            raise ValueError(f"{' and '.join(graphs)} have a step {step_ref!r}; say workflow=")
        graph = next(iter(graphs.values()))
        for turn in (*turns, then):
            _check(graph, step_ref, turn)
        key = (graph.name, step_ref)
        with self._lock:
            self._turns.setdefault(key, deque()).extend(turns)
            self._then[key] = then

    def calls(self, step_ref: str, instance_id: str = "") -> list[Call]:
        """Return the calls of a step's code, in the order in which they began. Raises ``ValueError`` for no step."""
        self._graphs_with(step_ref, "")
        return [call for call in self.calls_of(instance_id) if call.context.step_ref == step_ref]

    def calls_of(self, instance_id: str) -> list[Call]:
        """Return the calls that an instance's steps had (of every instance without an id), as they began."""
        return [call for call in list(self._calls) if instance_id in {"", call.context.instance_id}]

    def keys(self, instance_id: str) -> Mapping[str, list[str]]:
        """Return the idempotency keys that an instance's steps were given, one per call, by step."""
        keys: dict[str, list[str]] = {}
        for call in self.calls_of(instance_id):
            keys.setdefault(call.context.step_ref, []).append(call.idempotency_key)
        return keys

    def unplayed(self) -> list[str]:
        """Return a line for each step whose script was not played to its end."""
        return [
            f"{workflow}.{ref}: {len(turns)} left, the next is {turns[0]!r}"
            for (workflow, ref), turns in self._turns.items()
            if turns
        ]

    def check_ref(self, step_ref: str) -> None:
        """Raise ``ValueError`` where no workflow has the step: a slip in a test must not look like a pass."""
        self._graphs_with(step_ref, "")

    def bind(
        self, workflows: Iterable[Workflow]
    ) -> tuple[dict[tuple[str, int, str], StepCode], list[Lifespan]]:
        """Return the code of workflow objects as the executor wants it, each step behind its script."""
        code, lifespans = bind(workflows)
        return {key: self._behind_script(key[0], step) for key, step in code.items()}, lifespans

    # --- on the steps' threads -------------------------------------------------------------------------------

    def _behind_script(self, workflow: str, step: StepCode) -> StepCode:
        # Coroutine functions stay such, so that each step runs where it would without a script.
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

    # --- issue steps ---------------------------------------------------------------------------------------

    def _graphs_with(self, step_ref: str, workflow: str) -> dict[str, WorkflowGraph]:
        """Return the graphs that have the step, by name. Raises ``ValueError`` where there is none."""
        asked = [graph for graph in self._graphs if workflow in {"", graph.name}]
        found = {graph.name: graph for graph in asked if step_ref in graph.steps}
        if not found:
            steps = ", ".join(dict.fromkeys(ref for graph in asked for ref in graph.steps))
            raise ValueError(f"there is no step {step_ref!r}; the steps are {steps}")
        return found


def _play(turn: Turn, step: StepCode, context: Context) -> Any:
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
    """Refuse a turn that could only be a slip. Real code may do worse; the engine then fails the step."""
    step = graph.steps[step_ref]
    if step.kind is not StepKind.TASK:
        ends = "resume() ends it" if step.kind is StepKind.WAIT else "advance() ends it"
        raise ValueError(f"{step_ref} is a {step.kind.value} and has no code to script: {ends}")
    if isinstance(turn, Outcome) and turn.event not in step.on:
        events = ", ".join(step.on)
        raise ValueError(f"{step_ref} has no event {turn.event!r}; its events are {events}")
    if turn is SUSPEND and not step.events:
        raise ValueError(f"{step_ref} declares no awaits, so it cannot be SUSPEND")
    if not isinstance(turn, Outcome | Suspend | BaseException | Real | FailAfter) and (
        isinstance(turn, type) or not callable(turn)
    ):
        raise ValueError(
            f"{turn!r} is no turn of a script: give an Outcome, SUSPEND, an exception object, REAL, "
            "FailAfter(error), or a function of the context"
        )
