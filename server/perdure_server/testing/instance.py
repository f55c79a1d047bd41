"""`InstanceHandle`: one instance in a test: the verbs, what became of it, and assertions that tell its history.

Everything that is read here is as of the last time that the test's world stood still; nothing is awaited but verbs.
What may not live here: time, scripts, anything of the engine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, TypeVar

from perdure import AsyncClient, Duration
from perdure.client import facts
from perdure.client.facts import Fact, HistoryEntry
from perdure.client.types import ActiveStep, Instance, InstanceFailure, InstanceState, StepState, Timer
from perdure.runner import Resumed, ScheduledResume, delay_ms_of
from perdure_server.cli.render import entry_line, instance_lines
from perdure_server.testing.script import Call, Scripts

F = TypeVar("F", bound=Fact)
A = TypeVar("A")

Settle = Callable[[], Awaitable[None]]


class History(tuple[HistoryEntry, ...]):
    """The entries of an instance's history, oldest first. Its text is one line per entry."""

    __slots__ = ()

    def of(self, kind: type[F]) -> list[F]:
        """Return the facts of one class of ``perdure.client.facts``, oldest first."""
        return [entry.fact for entry in self if isinstance(entry.fact, kind)]

    @property
    def kinds(self) -> list[str]:
        """The facts' names, oldest first: ``instance_started``, ``step_started``, ..."""
        return [entry.kind for entry in self]

    def __str__(self) -> str:
        return "\n".join(map(entry_line, self))


class InstanceHandle:
    """An instance of a `WorkflowTest`. Made by `WorkflowTest.start` and `WorkflowTest.instance`."""

    def __init__(self, instance_id: str, client: AsyncClient, scripts: Scripts, settle: Settle) -> None:
        self.id: Final = instance_id
        self._client = client
        self._scripts = scripts
        self._settle = settle
        self._instance: Instance | None = None
        self._history = History()
        self._timers: tuple[Timer, ...] = ()

    def __repr__(self) -> str:
        return f"<{self.id}: {self.state}>"

    async def refresh(self) -> None:
        """Read the instance anew. `WorkflowTest` does it whenever its world has come to rest."""
        if self._instance is not None and self._instance.state.is_final:
            return
        instance = await self._client.get_instance(self.id)
        if self._instance is None or instance.revision > self._instance.revision:
            after = len(self._history)
            entries = [entry async for entry in self._client.list_history(self.id, after_revision=after)]
            self._history = History((*self._history, *entries))
            self._timers = tuple([timer async for timer in self._client.list_timers(self.id)])
        self._instance = instance

    # --- the verbs -------------------------------------------------------------------------------------------

    async def resume(
        self,
        event: str,
        payload: Any = None,
        *,
        step_ref: str | None = None,
        buffer: bool = False,
        request_id: str | None = None,
    ) -> Resumed:
        """Send an event, and return when what it caused is done. Raises as `perdure.AsyncClient.resume` does."""
        return await self._do(
            self._client.resume(
                self.id, event, payload, step_ref=step_ref, buffer=buffer, request_id=request_id
            )
        )

    async def schedule_resume(
        self, step_ref: str, delay: Duration, *, request_id: str | None = None
    ) -> ScheduledResume:
        """Arm a timer that resumes the step with ``timeout``; `WorkflowTest.advance` fires it."""
        delay_ms = delay_ms_of(delay, field="delay")
        return await self._do(
            self._client.schedule_resume(self.id, step_ref, delay_ms, request_id=request_id)
        )

    async def cancel(self, reason: str | None = None) -> None:
        """Cancel the instance."""
        await self._do(self._client.cancel_instance(self.id, reason=reason))

    async def retry(self) -> None:
        """Let a FAILED instance go on, and return when what that caused is done."""
        await self._do(self._client.retry_instance(self.id))

    async def _do(self, call: Awaitable[A]) -> A:
        answer = await call
        await self._settle()
        return answer

    # --- what became of it -----------------------------------------------------------------------------------

    @property
    def instance(self) -> Instance:
        """The instance as `perdure.AsyncClient.get_instance` returns it."""
        assert self._instance is not None, "a handle is given out when it was read"
        return self._instance

    @property
    def state(self) -> InstanceState:
        """COMPLETED, WAITING, ..."""
        return self.instance.state

    @property
    def outputs(self) -> Mapping[str, Any]:
        """The output of each step that has ended, by its ref."""
        return self.instance.outputs

    @property
    def error(self) -> InstanceFailure | None:
        """Why the instance is FAILED."""
        return self.instance.error

    @property
    def active_steps(self) -> tuple[ActiveStep, ...]:
        """The steps that have not ended."""
        return self.instance.active_steps

    @property
    def timers(self) -> tuple[Timer, ...]:
        """The pending timers, the one that is due first on top."""
        return self._timers

    @property
    def history(self) -> History:
        """Everything that has happened to the instance."""
        return self._history

    @property
    def idempotency_keys(self) -> Mapping[str, Sequence[str]]:
        """The keys that each step's code was given, one per call, by the step's ref."""
        return self._scripts.keys(self.id)

    def calls(self, step_ref: str) -> list[Call]:
        """Return the runs of a step's code for this instance, in the order in which they began."""
        return self._scripts.calls(step_ref, self.id)

    # --- assertions ------------------------------------------------------------------------------------------
    # Each one raises an AssertionError that says what was expected, what is, and how it came about.

    def assert_state(self, state: InstanceState | str) -> None:
        """The instance is in this state. Raises ``ValueError`` for a name that is none."""
        __tracebackhide__ = True
        try:
            expected = InstanceState(state)
        except ValueError:
            names = ", ".join(known.value for known in InstanceState if known is not InstanceState.UNKNOWN)
            raise ValueError(f"there is no state {state!r}; the states are {names}") from None
        if self.state is not expected:
            raise self._unlike(f"is {self.state}, not {expected}")

    def assert_steps(self, /, **events: str) -> None:
        """Exactly these steps have ended, each with this event: ``assert_steps(charge="charged", ship="shipped")``.

        Their order is not looked at, since parallel steps have none; see `assert_order`.
        """
        __tracebackhide__ = True
        self._check_refs(events)
        ended = {fact.step_ref: fact.event for fact in self._history.of(facts.StepFinished)}
        if ended == events:
            return
        lines = [
            f"  {ref}: expected {events[ref]!r}, but it {self._where(ref)}"
            for ref in events
            if ended.get(ref) != events[ref]
        ]
        lines += [f"  {ref}: not expected, but it {self._where(ref)}" for ref in ended if ref not in events]
        raise self._unlike("did not take these steps:", *lines)

    def assert_order(self, *step_refs: str) -> None:
        """Each of these steps ended before the next one began."""
        __tracebackhide__ = True
        self._check_refs(step_refs)
        began, ended = self._spans()
        for first, then in pairwise(step_refs):
            if not ended.get(first, len(self._history) + 1) < began.get(then, 0):
                raise self._unlike(f"did not end {first} before it began {then}")

    def assert_waiting(self, *step_refs: str) -> None:
        """Exactly these steps wait for an event from outside."""
        __tracebackhide__ = True
        self._check_refs(step_refs)
        waiting = {step.step_ref for step in self.active_steps if step.state is StepState.WAITING}
        if waiting != set(step_refs):
            also = " alone" if set(step_refs) < waiting and step_refs else ""
            raise self._unlike(f"waits in {_named(waiting)}, not in {_named(step_refs)}{also}")

    def assert_not_begun(self, *step_refs: str) -> None:
        """None of these steps ever began (a skipped step has not)."""
        __tracebackhide__ = True
        self._check_refs(step_refs)
        began, _ = self._spans()
        if found := [ref for ref in step_refs if ref in began]:
            raise self._unlike(f"began {_named(found)}, which should never begin")

    def assert_skipped(self, *step_refs: str) -> None:
        """Exactly these steps were skipped: branches that they join could no longer arrive."""
        __tracebackhide__ = True
        self._check_refs(step_refs)
        skipped = {fact.step_ref for fact in self._history.of(facts.StepSkipped)}
        if skipped != set(step_refs):
            raise self._unlike(f"skipped {_named(skipped)}, not {_named(step_refs)}")

    def assert_attempts(self, step_ref: str, count: int) -> None:
        """The step was attempted so often."""
        __tracebackhide__ = True
        self._check_refs([step_ref])
        attempts = [a for a in self._history.of(facts.AttemptStarted) if a.step_ref == step_ref]
        if len(attempts) != count:
            raise self._unlike(f"attempted {step_ref} {_times(len(attempts))}, not {_times(count)}")

    def assert_failed(self, step_ref: str, *, type: str = "", message: str = "") -> None:  # noqa: A002 - the API's word
        """The instance is FAILED by this step, with an error of this type whose message holds this text."""
        __tracebackhide__ = True
        self._check_refs([step_ref])
        error = self.error
        if error is None:
            raise self._unlike(f"is {self.state}; it did not fail")
        if error.step_ref != step_ref or type not in {"", error.type} or message not in error.message:
            wanted = ": ".join(filter(None, [step_ref, type, message]))
            raise self._unlike(
                f"failed with {error.step_ref}: {error.type}: {error.message}, not with {wanted}"
            )

    def assert_fact(self, kind: type[F], **fields: Any) -> F:
        """The history has a fact of this class of ``perdure.client.facts`` with these fields; return the first
        one."""
        __tracebackhide__ = True
        for fact in self._history.of(kind):
            if all(getattr(fact, name) == value for name, value in fields.items()):
                return fact
        wanted = ", ".join(f"{name}={value!r}" for name, value in fields.items())
        raise self._unlike(f"has no {kind.__name__}({wanted}) in its history")

    # --- what assertions say ---------------------------------------------------------------------------------

    def _unlike(self, headline: str, *lines: str) -> AssertionError:
        told = (
            f"{self.id} {headline}",
            *lines,
            "",
            *instance_lines(self.instance),
            "history",
            str(self._history),
        )
        error = AssertionError("\n".join(told))
        if self.state is InstanceState.FAILED:
            # The traceback of what a step raised is often what the test's author looks for.
            error.__cause__ = next((e for e in reversed(self._raised()) if e.__traceback__), None)
        return error

    def _raised(self) -> list[BaseException]:
        return [
            call.result for call in self._scripts.calls_of(self.id) if isinstance(call.result, BaseException)
        ]

    def _where(self, ref: str) -> str:
        for result in self.instance.step_results:
            if result.step_ref == ref:
                return f"ended with {result.event!r}" if result.event else "was skipped"
        for step in self.active_steps:
            if step.step_ref == ref:
                return f"is {step.state}"
        return "never began"

    def _spans(self) -> tuple[dict[str, int], dict[str, int]]:
        """The revisions at which steps began and ended."""
        began: dict[str, int] = {}
        ended: dict[str, int] = {}
        for entry in self._history:
            fact = entry.fact
            if isinstance(fact, facts.StepStarted):
                began[fact.step_ref] = entry.revision
            elif isinstance(fact, facts.StepFinished):
                ended[fact.step_ref] = entry.revision
        return began, ended

    def _check_refs(self, refs: Sequence[str] | Mapping[str, str]) -> None:
        for ref in refs:
            self._scripts.check_ref(ref)


def _named(refs: Sequence[str] | set[str]) -> str:
    return ", ".join(sorted(refs)) or "no step"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
