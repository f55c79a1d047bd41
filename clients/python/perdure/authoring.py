"""Workflows as Python classes, with the transitions next to the code.

::

    class Greeting(Workflow, name="greeting", version=1):
        start = "greet"

        @step(on={"greeted": "answer"})
        async def greet(self, ctx: Context) -> Outcome:
            return Outcome("greeted", text=f"Hello {ctx.input['who']}")

        answer = wait_for("answered", timeout="1h", on={"answered": "end", "timeout": "end"})

Owns: the declarations, and the conversion of a class into a `WorkflowGraph`. ``perdure.model.validation`` validates the
graph. This module checks only what a graph does not contain: durations and the signatures of methods. It never runs a
step.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any, ClassVar, Final, Literal, TypeAlias, TypeVar, assert_never

from perdure.context import Context, Outcome, Suspend
from perdure.model.durations import DURATION_MS_MAX, Duration, duration_ms
from perdure.model.graph import EVENT_ELAPSED, Join, RetryDefinition, StepDefinition, StepKind, WorkflowGraph
from perdure.model.validation import IssueCode, ValidationIssue, validate

JoinName: TypeAlias = Literal["auto", "all", "any"]
"""Value of ``join=``, see `Join`."""

Targets: TypeAlias = str | Sequence[str]
"""Target of an event: one step, several steps that run in parallel, or ``"end"``."""

_Result: TypeAlias = Outcome | Suspend
_StepFunction = TypeVar("_StepFunction", bound=Callable[[Any, Context], _Result | Awaitable[_Result]])


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Retry policy of a task.

    After n failures the pause is ``initial_backoff * multiplier**(n-1)``, at most ``max_backoff``. It is shortened at
    random by up to the fraction ``jitter``. Class creation checks the bounds.

    Attributes:
        max_attempts: Maximum number of attempts, 1 to 1,000,000. 1 means no retry. Default 5.
        initial_backoff: Pause after the first failure, a `Duration`. Default 200 ms.
        max_backoff: Maximum pause, a `Duration`. Default 30 s.
        multiplier: Growth of the pause with each failure, 1 to 1,000. Default 2.
        jitter: Random fraction of the pause that is removed, 0 to 1. Default 0.2.
    """

    max_attempts: int = 5
    initial_backoff: Duration = "200ms"
    max_backoff: Duration = "30s"
    multiplier: float = 2.0
    jitter: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDeclaration:
    """Declaration that `step` attaches to a method."""

    on: Mapping[str, Targets]
    retry: RetryPolicy
    attempt_timeout: Duration | None
    join: Join | JoinName | None
    awaits: str | Collection[str]
    wait_timeout: Duration | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitDeclaration:
    """Result of `wait_for`."""

    events: tuple[str, ...]
    on: Mapping[str, Targets]
    timeout: Duration | None
    join: Join | JoinName | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepDeclaration:
    """Result of `sleep`."""

    duration: Duration
    then: Targets
    join: Join | JoinName | None


_Declaration: TypeAlias = TaskDeclaration | WaitDeclaration | SleepDeclaration
_NOTE: Final = "__perdure_step__"


def step(
    *,
    on: Mapping[str, Targets],
    retry: RetryPolicy | None = None,
    attempt_timeout: Duration | None = None,
    join: Join | JoinName | None = None,
    awaits: str | Collection[str] = (),
    wait_timeout: Duration | None = None,
) -> Callable[[_StepFunction], _StepFunction]:
    """Declare a method, ``async def`` or ``def``, as a task of its workflow. The name of the method is the step's ref.

    The method stays an ordinary method. You can call it in a unit test and override it in a subclass. An override
    without `step` keeps the declaration of the method that it overrides.

    Args:
        on: Targets of each event that the task can return. The engine takes the transition ``error`` if the task fails
            permanently, and ``timeout`` if the wait times out or a client scheduled a timeout.
        retry: Retry policy. Default ``RetryPolicy()``.
        attempt_timeout: Limit for one run of the code, a `Duration`. Exceeding it is a retryable failure. Default: no
            limit.
        join: Rule for the start of a step with several predecessors, see `Join`.
        awaits: Events from outside that can end the step after the code returned `SUSPEND`.
        wait_timeout: Limit for the wait after `SUSPEND`, a `Duration`. Default: no limit.

    Raises:
        TypeError: The decorated object is not a function.
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
    timeout: Duration | None = None,
    join: Join | JoinName | None = None,
) -> WaitDeclaration:
    """Declare a step that waits until a client resumes it with one of ``events``.

    The payload of the event becomes the output of the step. When ``timeout`` expires, the instance takes the
    ``timeout`` transition, or the ``error`` transition if there is no ``timeout``. One of them must be declared.

    Args:
        events: Events that can end the step.
        on: Targets of each event.
        timeout: Limit for the wait, a `Duration`. Default: no limit.
        join: Rule for the start of a step with several predecessors, see `Join`.
    """
    return WaitDeclaration(events=events, on=on, timeout=timeout, join=join)


def sleep(duration: Duration, *, then: Targets, join: Join | JoinName | None = None) -> SleepDeclaration:
    """Declare a step that ends after ``duration`` and leads to ``then``."""
    return SleepDeclaration(duration=duration, then=then, join=join)


class Workflow:
    """Base class of workflows.

    ``class OrderFlow(Workflow, name="order", version=1)`` is validated when the class is created. A server can then run
    it. A subclass without ``name=`` is a mixin or an abstract base. Steps are collected along the method resolution
    order: a subclass overrides a step by its name, and removes one by setting the name to None.

    One object per process runs the steps of all instances concurrently. Keep shared clients on it (see `lifespan`), but
    no state of a single instance.

    Raises:
        WorkflowInvalidError: The class breaks rules. The error lists every issue.
    """

    start: ClassVar[str]
    """Ref of the first step."""
    name: ClassVar[str]
    """Name of the workflow, from the class keyword."""
    version: ClassVar[int]
    """Version of the workflow, from the class keyword. Default 1."""
    __graph__: ClassVar[WorkflowGraph]

    def __init_subclass__(
        cls, *, name: str | None = None, version: int | None = None, **keywords: Any
    ) -> None:
        super().__init_subclass__(**keywords)
        if name is None:
            if version is not None:
                raise TypeError(
                    f"{cls.__qualname__} has version= without name=; only a class with a name is a workflow"
                )
            return
        version = 1 if version is None else version
        cls.__graph__ = _graph(cls, name, version)
        cls.name = name
        cls.version = version

    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """Return a context for resources that the steps share.

        The server enters it before the first step runs and leaves it after the last step ended. Override it as an
        ``@asynccontextmanager`` that opens async clients, stores them on ``self``, and yields. It runs on the event
        loop of the ``async def`` steps.
        """
        return nullcontext()


def graph_of(workflow: type[Workflow] | Workflow) -> WorkflowGraph:
    """Return the graph of a workflow class or of its object.

    Raises:
        TypeError: The class has no ``name=`` of its own, even if one of its bases has one.
    """
    cls = workflow if isinstance(workflow, type) else type(workflow)
    graph = vars(cls).get("__graph__")
    if not isinstance(graph, WorkflowGraph):
        raise TypeError(f"{cls.__qualname__} is not a workflow; give its class a name=")
    return graph


def handlers_of(workflow: Workflow) -> Mapping[str, Callable[[Context], _Result | Awaitable[_Result]]]:
    """Return the bound method of every task, by step ref.

    Raises:
        TypeError: The class has no ``name=`` of its own.
    """
    tasks = (step.ref for step in graph_of(workflow).steps.values() if step.kind is StepKind.TASK)
    return {ref: getattr(workflow, ref) for ref in tasks}


def find_workflows(module: ModuleType) -> list[type[Workflow]]:
    """Return the named workflow classes of a module, defined or imported, each once, in the order of the module."""
    found = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Workflow) and "__graph__" in vars(value)
    )
    return list(dict.fromkeys(found))


# Conversion of a class to a graph. No function below raises for a mistake of the author. It adds an issue, substitutes
# a harmless value, and checks the rest, so that one run reports every mistake.


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
        # Imported here, because `import perdure` does not need the exceptions of the API.
        from perdure.errors import WorkflowInvalidError

        raise WorkflowInvalidError.of_issues(issues, workflow=name)
    return graph


def _start_of(cls: type[Workflow]) -> str:
    # Validation reports a start that is not a ref: a step with the name `start`, or a missing line.
    start = getattr(cls, "start", "")
    return start if isinstance(start, str) else ""


def _collect(cls: type[Workflow]) -> dict[str, tuple[_Declaration, FunctionType | None]]:
    """Return the declared steps by ref, bases first. An override keeps the place of the step that it overrides."""
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
        problem = "is a generator, so it does not return an Outcome"
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
    """Report methods that are targets but not steps, because the decorator is missing."""
    named: list[object] = [graph.start]
    transitions: list[Any] = [step.on for step in graph.steps.values()]
    for on in transitions:
        for targets in on.values() if isinstance(on, Mapping) else ():
            named += targets if isinstance(targets, tuple) else ()
    issues += [
        ValidationIssue(
            code=IssueCode.STEP_CODE,
            step_ref=ref,
            message="the method is not a step, but a transition leads to it",
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
                on=_transitions(declaration.on),
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
                on=_transitions(declaration.on),
                events=_events(declaration.events),
                join=join,
                timeout_ms=_duration_ms(ref, "timeout", declaration.timeout, issues),
            )
        case SleepDeclaration():
            return StepDefinition(
                ref=ref,
                kind=StepKind.SLEEP,
                on=_transitions({EVENT_ELAPSED: declaration.then}),
                join=join,
                sleep_ms=_duration_given_ms(ref, "duration", declaration.duration, 1, issues),
            )
        case _:
            assert_never(declaration)


def _transitions(on: Any) -> Any:
    # Other types pass unchanged. Validation reports them.
    if not isinstance(on, Mapping):
        return on
    return {event: _targets(targets) for event, targets in on.items()}


def _targets(targets: Any) -> Any:
    if isinstance(targets, str):
        return (targets,)
    return tuple(targets) if isinstance(targets, Sequence) else targets


def _events(events: Any) -> Any:
    # `awaits="reserved"` is one event, not eight letters.
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
                message=f"join={join!r:.60} is not a join",
                hint="use join='auto', join='all' or join='any'",
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
                hint="write retry=RetryPolicy(max_attempts=5, initial_backoff='200ms', max_backoff='30s')",
            )
        )
        return RetryDefinition()
    multiplier, jitter = retry.multiplier, retry.jitter
    return RetryDefinition(
        max_attempts=retry.max_attempts,
        initial_ms=_duration_given_ms(ref, "retry initial_backoff", retry.initial_backoff, 1, issues),
        max_ms=_duration_given_ms(ref, "retry max_backoff", retry.max_backoff, DURATION_MS_MAX, issues),
        # One representation per number, because the digest distinguishes 2 from 2.0.
        multiplier=_as_float(multiplier),
        jitter=_as_float(jitter),
    )


def _as_float(value: Any) -> Any:
    try:
        return float(value) if type(value) is int else value
    except OverflowError:  # validation rejects it
        return value


def _duration_ms(ref: str, what: str, given: Duration | None, issues: list[ValidationIssue]) -> int | None:
    return None if given is None else _duration_given_ms(ref, what, given, 1, issues)


def _duration_given_ms(
    ref: str, what: str, given: Duration, instead_ms: int, issues: list[ValidationIssue]
) -> int:
    try:
        return duration_ms(given)
    except ValueError as problem:
        issues.append(
            ValidationIssue(
                code=IssueCode.DURATION_INVALID,
                step_ref=ref,
                message=f"{what}: {str(problem).partition('; ')[0]}",
                hint="use seconds, a timedelta, or digits and a unit (ms, s, m, h, d), as in '30s'; at most ten years",
            )
        )
        return instead_ms
