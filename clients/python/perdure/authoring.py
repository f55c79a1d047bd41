"""Writing a workflow as a Python class, the arrows beside the code.

::

    class Greeting(Workflow, name="greeting", version=1):
        start = "greet"

        @step(on={"greeted": "answer"})
        async def greet(self, ctx: Context) -> Outcome:
            return Outcome("greeted", text=f"Hello {ctx.input['who']}")

        answer = wait_for("answered", timeout="1h", on={"answered": "end", "timeout": "end"})

What lives here: the declarations and how a class becomes a `WorkflowGraph`. Whether that graph is any good is
decided in ``perdure.model.validation``, for every language alike; only what has no place in a graph (a duration's
text, a method's signature) is judged here. Nothing here runs a step.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any, ClassVar, Final, Literal, TypeAlias, TypeVar, assert_never

from perdure.context import Context, Outcome, Suspend
from perdure.model.graph import (
    DURATION_MS_MAX,
    EVENT_ELAPSED,
    Join,
    RetryDefinition,
    StepDefinition,
    StepKind,
    WorkflowGraph,
    parse_duration_ms,
)
from perdure.model.validation import IssueCode, ValidationIssue, WorkflowInvalidError, validate

JoinName: TypeAlias = Literal["auto", "all", "any"]
"""How ``join=`` is written; see `Join`."""

Targets: TypeAlias = str | Sequence[str]
"""Where an event leads: one step, several (they run in parallel), or ``"end"``."""

_Result: TypeAlias = Outcome | Suspend
_StepFunction = TypeVar("_StepFunction", bound=Callable[[Any, Context], _Result | Awaitable[_Result]])


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how far apart a task's failures are retried; durations are text such as ``"200ms"``.

    The pause after n failures is ``initial_backoff * multiplier**(n-1)``, at most ``max_backoff``, shortened at
    random by up
    to the share ``jitter`` (0..1). ``max_attempts=1`` means no retry. Bounds are checked when the workflow's
    class is created.
    """

    max_attempts: int = 5
    initial_backoff: str = "200ms"
    max_backoff: str = "30s"
    multiplier: float = 2.0
    jitter: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDeclaration:
    """What `step` notes on a method."""

    on: Mapping[str, Targets]
    retry: RetryPolicy
    attempt_timeout: str | None
    join: Join | JoinName | None
    awaits: str | Collection[str]
    wait_timeout: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitDeclaration:
    """What `wait_for` returns."""

    events: tuple[str, ...]
    on: Mapping[str, Targets]
    timeout: str | None
    join: Join | JoinName | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepDeclaration:
    """What `sleep` returns."""

    duration: str
    then: Targets
    join: Join | JoinName | None


_Declaration: TypeAlias = TaskDeclaration | WaitDeclaration | SleepDeclaration
_NOTE: Final = "__perdure_step__"


def step(
    *,
    on: Mapping[str, Targets],
    retry: RetryPolicy | None = None,
    attempt_timeout: str | None = None,
    join: Join | JoinName | None = None,
    awaits: str | Collection[str] = (),
    wait_timeout: str | None = None,
) -> Callable[[_StepFunction], _StepFunction]:
    """Make a method, ``async def`` or ``def``, a task of its workflow; the method's name is the step's ref.

    ``on`` maps each event that the task may return to its targets; the arrows ``error`` (the task failed for
    good) and ``timeout`` (the waiting took too long, or ScheduleResume says so) are taken by the engine.
    ``retry`` defaults to ``RetryPolicy()``. ``attempt_timeout`` bounds one run of the code and is a retryable
    failure. ``awaits`` names the events that may end the step from outside after the code returned `SUSPEND`;
    ``wait_timeout`` bounds that waiting. ``join`` says when a step with several predecessors starts.
    Durations are text: ``"500ms"``, ``"30s"``, ``"24h"``.

    The method stays an ordinary method: call it in a unit test, override it in a subclass (without `step` the
    override keeps the arrows of what it overrides). Raises ``TypeError`` when what is decorated is not a
    function.
    """
    note = TaskDeclaration(
        on=on,
        retry=RetryPolicy() if retry is None else retry,
        attempt_timeout=attempt_timeout,
        join=join,
        awaits=awaits,
        wait_timeout=wait_timeout,
    )

    def decorate(function: _StepFunction) -> _StepFunction:
        if not isinstance(function, FunctionType):
            raise TypeError(f"@step(...) decorates a method written with def or async def, not {function!r}")
        setattr(function, _NOTE, note)
        return function

    return decorate


def wait_for(
    *events: str,
    on: Mapping[str, Targets],
    timeout: str | None = None,
    join: Join | JoinName | None = None,
) -> WaitDeclaration:
    """Declare a step that one of ``events`` ends from outside (Resume), for at most ``timeout``.

    The event's payload becomes the step's output. When ``timeout`` passes, the ``timeout`` arrow is taken, or
    the ``error`` arrow where there is none; one of them must be declared.
    """
    return WaitDeclaration(events=events, on=on, timeout=timeout, join=join)


def sleep(duration: str, *, then: Targets, join: Join | JoinName | None = None) -> SleepDeclaration:
    """Declare a step that the passing of ``duration`` ends; it leads to ``then``."""
    return SleepDeclaration(duration=duration, then=then, join=join)


class Workflow:
    """Base of every workflow written in Python.

    ``class OrderFlow(Workflow, name="order", version=1)`` is validated when the class is created and can be
    served; a subclass without ``name=`` is a mixin or an abstract base that only lends its steps. Steps are
    collected along the method resolution order, so a subclass overrides one by its name and drops one by
    setting the name to None.

    One object per process runs the steps of all instances, many at a time: keep shared clients on it (see
    `lifespan`), and nothing that belongs to one instance.

    Class creation raises `WorkflowInvalidError`, which lists every issue at once.
    """

    start: ClassVar[str]
    """The ref of the step that begins."""
    name: ClassVar[str]
    """The workflow's name, from the class keyword."""
    version: ClassVar[int]
    """The workflow's version, from the class keyword."""
    __graph__: ClassVar[WorkflowGraph]

    def __init_subclass__(
        cls, *, name: str | None = None, version: int | None = None, **keywords: Any
    ) -> None:
        super().__init_subclass__(**keywords)
        if name is None:
            if version is not None:
                raise TypeError(
                    f"{cls.__qualname__}: version= without name=; only a class with a name is a workflow"
                )
            return
        version = 1 if version is None else version
        cls.__graph__ = _graph(cls, name, version)
        cls.name = name
        cls.version = version

    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """Own what the steps share: entered before the first step runs, left after the last one ended.

        Override it as an ``@asynccontextmanager`` that opens async clients, keeps them on ``self``, and
        yields. It runs on the loop that runs the ``async def`` steps.
        """
        return nullcontext()


def graph_of(workflow: type[Workflow] | Workflow) -> WorkflowGraph:
    """Return the graph of a named workflow class (or of an object of it).

    Raises ``TypeError`` for a class without ``name=``, even when one of its bases has one.
    """
    cls = workflow if isinstance(workflow, type) else type(workflow)
    graph = vars(cls).get("__graph__")
    if not isinstance(graph, WorkflowGraph):
        raise TypeError(f"{cls.__qualname__} is no workflow of its own; give its class a name=")
    return graph


def handlers_of(workflow: Workflow) -> Mapping[str, Callable[[Context], _Result | Awaitable[_Result]]]:
    """Return the bound method of every task under the step's ref. Raises ``TypeError`` as `graph_of` does."""
    tasks = (step.ref for step in graph_of(workflow).steps.values() if step.kind is StepKind.TASK)
    return {ref: getattr(workflow, ref) for ref in tasks}


def find_workflows(module: ModuleType) -> list[type[Workflow]]:
    """Return the named workflow classes that ``module`` defines or imports, each once, in the order of its
    names.
    """
    found = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Workflow) and "__graph__" in vars(value)
    )
    return list(dict.fromkeys(found))


# From a class to a graph. Nothing below raises for what an author wrote: it is noted as a issue, a harmless
# value takes its place, and the rest is still checked, so that one run shows every mistake.


def _graph(cls: type[Workflow], name: str, version: int) -> WorkflowGraph:
    issues: list[ValidationIssue] = []
    steps: dict[str, StepDefinition] = {}
    for ref, (declaration, function) in _collect(cls).items():
        steps[ref] = _definition(ref, declaration, issues)
        if function is not None:
            _check_code(ref, function, issues)
    graph = WorkflowGraph(name=name, version=version, start=_start_of(cls), steps=steps)
    _check_undecorated(cls, graph, issues)
    issues += validate(graph)
    if issues:
        raise WorkflowInvalidError(issues, workflow=name)
    return graph


def _start_of(cls: type[Workflow]) -> str:
    # Anything but a ref (a step that is called `start`, a forgotten line) is for validation to name.
    start = getattr(cls, "start", "")
    return start if isinstance(start, str) else ""


def _collect(cls: type[Workflow]) -> dict[str, tuple[_Declaration, FunctionType | None]]:
    """The declared steps by ref, bases first; what overrides a step keeps its place."""
    found: dict[str, tuple[_Declaration, FunctionType | None]] = {}
    for owner in reversed(cls.__mro__):
        for ref, value in vars(owner).items():
            if isinstance(value, WaitDeclaration | SleepDeclaration):
                found[ref] = (value, None)
            elif isinstance(value, FunctionType) and isinstance(
                note := getattr(value, _NOTE, None), TaskDeclaration
            ):
                found[ref] = (note, value)
            elif ref in found:
                inherited, _ = found.pop(ref)
                if isinstance(value, FunctionType) and isinstance(inherited, TaskDeclaration):
                    found[ref] = (inherited, value)
    return found


def _check_code(ref: str, function: FunctionType, issues: list[ValidationIssue]) -> None:
    problem = None
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        problem = "yields, so it returns no Outcome"
    else:
        try:
            inspect.signature(function).bind("self", "ctx")
        except TypeError:
            problem = "cannot be called with (self, ctx)"
    if problem is not None:
        issues.append(
            ValidationIssue(
                code=IssueCode.STEP_CODE,
                step_ref=ref,
                message=f"the method {problem}",
                hint="write `def name(self, ctx)` or `async def name(self, ctx)`, returning an Outcome",
            )
        )


def _check_undecorated(cls: type[Workflow], graph: WorkflowGraph, issues: list[ValidationIssue]) -> None:
    """Name the methods that the workflow leads to and that are no steps: their decorator was forgotten."""
    named: list[object] = [graph.start]
    arrows: list[Any] = [step.on for step in graph.steps.values()]
    for on in arrows:
        for targets in on.values() if isinstance(on, Mapping) else ():
            named += targets if isinstance(targets, tuple) else ()
    issues += [
        ValidationIssue(
            code=IssueCode.STEP_CODE,
            step_ref=ref,
            message="the method is no step, but the workflow leads to it",
            hint="write @step(on={...}) above it",
        )
        for ref in dict.fromkeys(name for name in named if isinstance(name, str))
        if ref not in graph.steps
        and ref not in vars(Workflow)
        and isinstance(getattr(cls, ref, None), FunctionType)
    ]


def _definition(ref: str, declaration: _Declaration, issues: list[ValidationIssue]) -> StepDefinition:
    join = _join(ref, declaration.join, issues)
    match declaration:
        case TaskDeclaration():
            return StepDefinition(
                ref=ref,
                kind=StepKind.TASK,
                on=_arrows(declaration.on),
                events=_events(declaration.awaits),
                join=join,
                retry=_retry(ref, declaration.retry, issues),
                attempt_timeout_ms=_duration_ms(ref, "attempt_timeout", declaration.attempt_timeout, issues),
                timeout_ms=_duration_ms(ref, "wait_timeout", declaration.wait_timeout, issues),
            )
        case WaitDeclaration():
            return StepDefinition(
                ref=ref,
                kind=StepKind.WAIT,
                on=_arrows(declaration.on),
                events=_events(declaration.events),
                join=join,
                timeout_ms=_duration_ms(ref, "timeout", declaration.timeout, issues),
            )
        case SleepDeclaration():
            return StepDefinition(
                ref=ref,
                kind=StepKind.SLEEP,
                on=_arrows({EVENT_ELAPSED: declaration.then}),
                join=join,
                sleep_ms=_duration_given_ms(ref, "duration", declaration.duration, 1, issues),
            )
        case _:
            assert_never(declaration)


def _arrows(on: Any) -> Any:
    # What is neither text nor a sequence goes through as it is: validation names it.
    if not isinstance(on, Mapping):
        return on
    return {event: _targets(targets) for event, targets in on.items()}


def _targets(targets: Any) -> Any:
    if isinstance(targets, str):
        return (targets,)
    return tuple(targets) if isinstance(targets, Sequence) else targets


def _events(events: Any) -> Any:
    # `awaits="reserved"` means one event, not eight letters.
    if isinstance(events, str):
        return frozenset({events})
    try:
        return frozenset(events)
    except TypeError:
        return events


def _join(ref: str, join: Any, issues: list[ValidationIssue]) -> Join | None:
    if join is None:
        return None
    try:
        return Join(join)
    except ValueError:
        issues.append(
            ValidationIssue(
                code=IssueCode.JOIN_UNKNOWN,
                step_ref=ref,
                message=f"join={join!r:.60} is no join",
                hint="write join='auto', join='all' or join='any'",
            )
        )
        return Join.AUTO


def _retry(ref: str, retry: Any, issues: list[ValidationIssue]) -> RetryDefinition:
    if not isinstance(retry, RetryPolicy):
        issues.append(
            ValidationIssue(
                code=IssueCode.RETRY_INVALID,
                step_ref=ref,
                message=f"retry={retry!r:.60} is not a RetryPolicy",
                hint="write it as in retry=RetryPolicy(max_attempts=5, initial_backoff='200ms', max_backoff='30s')",
            )
        )
        return RetryDefinition()
    multiplier, jitter = retry.multiplier, retry.jitter
    return RetryDefinition(
        max_attempts=retry.max_attempts,
        initial_ms=_duration_given_ms(ref, "retry initial_backoff", retry.initial_backoff, 1, issues),
        max_ms=_duration_given_ms(ref, "retry max_backoff", retry.max_backoff, DURATION_MS_MAX, issues),
        # One spelling per number, or the digest would tell 2 from 2.0.
        multiplier=_as_float(multiplier),
        jitter=_as_float(jitter),
    )


def _as_float(value: Any) -> Any:
    try:
        return float(value) if type(value) is int else value
    except OverflowError:  # left to the validation, which rejects it
        return value


def _duration_ms(ref: str, what: str, text: str | None, issues: list[ValidationIssue]) -> int | None:
    return None if text is None else _duration_given_ms(ref, what, text, 1, issues)


def _duration_given_ms(ref: str, what: str, text: str, instead_ms: int, issues: list[ValidationIssue]) -> int:
    try:
        return parse_duration_ms(text)
    except ValueError as problem:
        issues.append(
            ValidationIssue(
                code=IssueCode.DURATION_INVALID,
                step_ref=ref,
                message=f"{what}: {str(problem).partition('; ')[0]}",
                hint="write digits and one unit of ms, s, m, h, d, as in '30s'; at most ten years",
            )
        )
        return instead_ms
