"""Failures from exception groups and causes: verdict, type and message, for any exception."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import Context, Outcome, RetryPolicy, StepError, Workflow, step
from perdure_server.engine import commands
from perdure_server.engine.commands import FAILURE_MESSAGE_CHARS_MAX
from perdure_server.executors.failures import LEAVES_MAX, failure_from
from perdure_server.executors.steps_loop import LifespanError
from perdure_server.testing import WorkflowTest
from support.executor_fixture import ExecutorFixture

NEVER = "the bank said no"


def never() -> StepError:
    return StepError(NEVER, retryable=False)


def group(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("unhandled errors in a TaskGroup", errors)


def caused(error: BaseException, cause: BaseException) -> BaseException:
    """Raise one exception from another."""
    try:
        raise error from cause
    except BaseException as raised:
        return raised


def during(error: BaseException, handled: BaseException) -> BaseException:
    """Raise one exception while another is handled."""
    try:
        try:
            raise handled
        except BaseException:
            raise error  # noqa: B904 - without `from` is the case under test
    except BaseException as raised:
        return raised


def nested(depth: int) -> BaseException:
    error: BaseException = never()
    for _ in range(depth):
        error = group(error)
    return error


CASES: list[tuple[str, Callable[[], BaseException], tuple[str, str, bool]]] = [
    ("a leaf decides", lambda: group(never()), ("StepError", NEVER, False)),
    (
        "the deciding leaf comes first",
        lambda: group(ValueError("a"), never(), KeyError("b")),
        ("StepError", f"{NEVER} (and 2 more: ValueError: a; KeyError: 'b')", False),
    ),
    (
        "a group that may be retried",
        lambda: group(ValueError("a"), StepError("busy")),
        ("ValueError", "a (and 1 more: StepError: busy)", True),
    ),
    ("nested groups", lambda: group(group(group(never()))), ("StepError", NEVER, False)),
    ("a cancellation does not count", lambda: group(asyncio.CancelledError(), ValueError("a")),
     ("ValueError", "a (and 1 more: CancelledError)", True)),
    ("only cancellations", lambda: group(asyncio.CancelledError()), ("CancelledError", "", True)),
    (
        "an exit together with a decision",
        lambda: group(SystemExit(3), KeyboardInterrupt(), never()),
        ("StepError", f"{NEVER} (and 2 more: SystemExit: 3; KeyboardInterrupt)", False),
    ),
    (
        "a cause decides",
        lambda: caused(RuntimeError("could not charge"), never()),
        ("RuntimeError", f"could not charge (caused by StepError: {NEVER})", False),
    ),
    (
        "a cause in a group decides",
        lambda: group(ValueError("a"), caused(RuntimeError("b"), never())),
        ("RuntimeError", f"b (caused by StepError: {NEVER}) (and 1 more: ValueError: a)", False),
    ),
    (
        "a group as a cause decides",
        lambda: caused(RuntimeError("b"), group(ValueError("a"), never())),
        ("RuntimeError", f"b (caused by StepError: {NEVER} and 1 more)", False),
    ),
    (
        "the cause of a group decides",
        lambda: caused(group(ValueError("a")), never()),
        ("ValueError", f"a (caused by StepError: {NEVER})", False),
    ),
    (
        "a StepError overrules its cause",
        lambda: caused(StepError("try again"), never()),
        ("StepError", f"try again (caused by StepError: {NEVER})", True),
    ),
    (
        "what was handled does not decide",
        lambda: during(ConnectionError("fallback"), never()),
        ("ConnectionError", f"fallback (while handling StepError: {NEVER})", True),
    ),
    ("a deadline is not reported twice", lambda: caused(TimeoutError(), asyncio.CancelledError()),
     ("TimeoutError", "", True)),
    (
        "a chain",
        lambda: caused(ValueError("a"), caused(KeyError("b"), OSError("c"))),
        ("ValueError", "a (caused by KeyError: 'b') (caused by OSError: c)", True),
    ),
    ("many leaves", lambda: group(never(), *(ValueError(str(n)) for n in range(5))),
     ("StepError", f"{NEVER} (and 5 more: ValueError: 0; ValueError: 1; ValueError: 2; …)", False)),
]  # fmt: skip


@pytest.mark.parametrize(("make", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_leaves_and_causes_decide(make: Callable[[], BaseException], expected: tuple[str, str, bool]) -> None:
    failure = failure_from(make())

    assert (failure.type, failure.message, failure.retryable) == expected


def test_groups_of_any_depth_are_read() -> None:
    failure = failure_from(nested(LEAVES_MAX - 10))

    assert (failure.type, failure.retryable) == ("StepError", False)


@pytest.mark.parametrize("size", [LEAVES_MAX // 2, 3 * LEAVES_MAX])
def test_huge_groups_are_bounded(size: int) -> None:
    failure = failure_from(group(*(ValueError("x" * 10_000) for _ in range(size))))

    assert len(failure.message) <= FAILURE_MESSAGE_CHARS_MAX
    assert "…" in failure.message
    counted = f"and {size - 1} more" if size < LEAVES_MAX else "and more than "
    assert counted in failure.message


def test_a_huge_chain_shared_by_a_huge_group_is_bounded() -> None:
    chain: BaseException = ValueError("root")
    for _ in range(LEAVES_MAX):
        error = ValueError("link")
        error.__cause__ = chain
        chain = error
    leaves = []
    for _ in range(LEAVES_MAX):
        leaf = ValueError("leaf")
        leaf.__cause__ = chain
        leaves.append(leaf)

    assert failure_from(group(*leaves)).retryable


def test_causes_in_a_circle_end() -> None:
    first, second = ValueError("a"), KeyError("b")
    first.__cause__, second.__cause__ = second, first

    failure = failure_from(first)

    assert failure.message == "a (caused by KeyError: 'b')"


class Liar(ExceptionGroup[Exception]):
    """A group that overrides its parts."""

    exceptions = ()

    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise SystemExit

    @property
    def __class__(self) -> Any:
        raise SystemExit


class Mute(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


def test_attributes_are_read_past_overridden_ones() -> None:
    assert failure_from(Liar("x", [never()])).message == NEVER
    hidden = "(no text: __str__ raised KeyboardInterrupt)"
    assert failure_from(group(Mute(), Mute())).message == f"{hidden} (and 1 more: Mute: {hidden})"


errors = st.deferred(
    lambda: (
        st.builds(ValueError, st.text())
        | st.builds(StepError, st.text(), retryable=st.booleans())
        | st.just(asyncio.CancelledError())
        | st.builds(lambda parts: group(*parts), st.lists(errors, min_size=1, max_size=4))
        | st.builds(caused, st.builds(RuntimeError, st.text()), errors)
        | st.builds(during, st.builds(RuntimeError, st.text()), errors)
    )
)


def decides(error: BaseException) -> bool:
    """A second, recursive implementation of the rule. Returns True if the failure is non-retryable."""
    if isinstance(error, StepError):
        return not error.retryable
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return any(map(decides, parts)) or (error.__cause__ is not None and decides(error.__cause__))


@given(errors)
def test_the_verdict_follows_the_documented_rule(error: BaseException) -> None:
    failure = failure_from(error)

    assert failure.retryable is not decides(error)
    assert len(failure.message) <= FAILURE_MESSAGE_CHARS_MAX


# --- in steps, in lifespans, in the test kit -----------------------------------------------------------------


async def fail_in_a_group() -> None:
    async def decline() -> None:
        raise never()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.sleep(60))
        tasks.create_task(decline())


async def test_a_step_that_fails_in_a_task_group_is_not_retried() -> None:
    house = ExecutorFixture()

    @house
    async def work(_ctx: Context) -> Outcome:
        await fail_in_a_group()
        return Outcome("done")

    async with house.open():
        failed = await house.run()

    assert isinstance(failed, commands.FailTask)
    assert (failed.type, failed.message, failed.retryable) == ("StepError", NEVER, False)


async def test_a_text_that_blocks_stalls_only_its_own_step() -> None:
    house = ExecutorFixture(ping_ms=10, stalled_pings=10)
    release = threading.Event()

    class Slow(Exception):
        def __str__(self) -> str:
            release.wait(60)
            return "at last"

    @house
    async def work(_ctx: Context) -> Outcome:
        raise group(ValueError("a"), Slow())

    async with house.open():
        failed = await house.run()
        release.set()

    assert isinstance(failed, commands.FailTask)
    assert failed.type == "StepsLoopStalled"


async def test_a_lifespan_that_fails_in_a_task_group_says_what_failed() -> None:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        await fail_in_a_group()
        yield

    house = ExecutorFixture([("workflow 'w' version 1", lifespan)])
    with pytest.raises(LifespanError, match=f"workflow 'w' version 1 failed: StepError: {NEVER}$"):
        async with house.open():
            pass


class Charge(Workflow, name="charge", version=1):
    start = "charge"

    @step(on={"charged": "end"}, retry=RetryPolicy(max_attempts=5))
    async def charge(self, _ctx: Context) -> Outcome:
        return Outcome("charged")


async def test_the_test_kit_follows_the_same_rule() -> None:
    async with WorkflowTest(Charge) as t:
        t.script("charge", group(ValueError("a"), never()))
        charge = await t.start()

        charge.assert_failed("charge", type="StepError", message=f"{NEVER} (and 1 more: ValueError: a)")
        charge.assert_attempts("charge", 1)
