"""Steps that block the step event loop: only the blocking attempt is charged, however it blocks."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from perdure import Context, Outcome
from perdure_server.engine import commands
from perdure_server.executors.ownership import LifespanOwner, StepOwner, _place
from perdure_server.executors.stall_watch import LAG_WINDOW_SECONDS, Ping, StallWatch
from perdure_server.runtime.dispatch.protocol import TaskKey
from support.executor_fixture import ExecutorFixture

Body = Callable[[threading.Event, threading.Event], Awaitable[None]]


def hold(blocked: threading.Event, release: threading.Event) -> None:
    """Block the thread until the test releases it."""
    blocked.set()
    release.wait(60)


async def in_the_step(blocked: threading.Event, release: threading.Event) -> None:
    hold(blocked, release)


async def in_a_cpu_loop(blocked: threading.Event, release: threading.Event) -> None:
    blocked.set()
    while not release.is_set():
        pass


async def in_a_sub_task(blocked: threading.Event, release: threading.Event) -> None:
    async def inner() -> None:
        await asyncio.sleep(0)
        hold(blocked, release)

    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))
        group.create_task(inner())


async def in_a_task_of_a_task(blocked: threading.Event, release: threading.Event) -> None:
    async def outer() -> None:
        await asyncio.gather(in_a_sub_task(blocked, release), asyncio.sleep(60))

    await asyncio.get_running_loop().create_task(outer())


async def in_a_callback(blocked: threading.Event, release: threading.Event) -> None:
    asyncio.get_running_loop().call_soon(hold, blocked, release)
    await asyncio.sleep(60)


async def in_a_delayed_callback(blocked: threading.Event, release: threading.Event) -> None:
    asyncio.get_running_loop().call_later(0.01, hold, blocked, release)
    await asyncio.sleep(60)


async def in_a_callback_at_a_time(blocked: threading.Event, release: threading.Event) -> None:
    loop = asyncio.get_running_loop()
    loop.call_at(loop.time() + 0.01, hold, blocked, release)
    await asyncio.sleep(60)


async def in_a_done_callback(blocked: threading.Event, release: threading.Event) -> None:
    future = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda _: hold(blocked, release))
    future.set_result(None)
    await asyncio.sleep(60)


async def in_a_callback_from_a_thread(blocked: threading.Event, release: threading.Event) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(loop.call_soon_threadsafe, hold, blocked, release)
    await asyncio.sleep(60)


async def in_a_reader(blocked: threading.Event, release: threading.Event) -> None:
    near, far = os.pipe()
    asyncio.get_running_loop().add_reader(near, hold, blocked, release)
    os.write(far, b"x")
    try:
        await asyncio.sleep(60)
    finally:
        asyncio.get_running_loop().remove_reader(near)
        os.close(near)
        os.close(far)


async def in_a_generator(blocked: threading.Event, release: threading.Event) -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        hold(blocked, release)
        yield 2

    async for _ in numbers():
        await asyncio.sleep(0)


async def in_a_finally(blocked: threading.Event, release: threading.Event) -> None:
    try:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)
    finally:
        hold(blocked, release)


async def with_another_thread_busy(blocked: threading.Event, release: threading.Event) -> None:
    other = asyncio.create_task(asyncio.to_thread(release.wait, 60))
    await asyncio.sleep(0)
    hold(blocked, release)
    await other


BODIES: list[Body] = [
    in_the_step,
    in_a_cpu_loop,
    in_a_sub_task,
    in_a_task_of_a_task,
    in_a_callback,
    in_a_delayed_callback,
    in_a_callback_at_a_time,
    in_a_done_callback,
    in_a_callback_from_a_thread,
    in_a_reader,
    in_a_generator,
    in_a_finally,
    with_another_thread_busy,
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
async def test_only_the_blocking_attempt_is_charged(body: Body, caplog: pytest.LogCaptureFixture) -> None:
    house = ExecutorFixture(ping_ms=10, stalled_pings=10)
    blocked, release = threading.Event(), threading.Event()

    @house
    async def block(_ctx: Context) -> Outcome:
        await body(blocked, release)
        return Outcome("late")

    @house
    async def wait(ctx: Context) -> Outcome:
        await asyncio.sleep(60 if ctx.attempt == 1 else 0)
        return Outcome("done")

    async with house.open() as table:
        for number in range(3):
            table.grant(f"innocent{number}", "wait")
        table.grant("guilty", "block")
        assert await asyncio.to_thread(blocked.wait, 10)
        await table.until_results(4)
        release.set()

    failed = [(key, command) for key, command in table.results if isinstance(command, commands.FailTask)]
    assert [key for key, _ in failed] == [TaskKey("guilty", "block", 1)]
    assert (failed[0][1].type, failed[0][1].retryable) == ("StepsLoopStalled", True)
    assert sorted(table.released) == [TaskKey(f"innocent{number}", "wait", 1) for number in range(3)]
    finished = [key for key, command in table.results if isinstance(command, commands.FinishTask)]
    assert sorted(finished) == [TaskKey(f"innocent{number}", "wait", 2) for number in range(3)]
    assert house.executor.loop_restarts == 1
    [record] = [r for r in caplog.records if r.getMessage() == "step event loop blocked, replacing it"]
    assert (record.workflow, record.step_ref, record.instance_id) == ("w", "block", "guilty")  # type: ignore[attr-defined]


async def test_the_failure_and_the_log_name_the_place_in_user_code(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = ExecutorFixture(ping_ms=10, stalled_pings=10)
    blocked, release = threading.Event(), threading.Event()

    @house
    async def work(_ctx: Context) -> Outcome:
        hold(blocked, release)
        return Outcome("late")

    async with house.open() as table:
        table.grant("a")
        await table.until_results(1)
        release.set()

    [command] = table.commands()
    assert isinstance(command, commands.FailTask)
    # The wait itself is in threading.py. Users look for their own line.
    assert f"{os.path.basename(__file__)}:" in command.message
    assert " in hold;" in command.message
    assert "asyncio.to_thread" in command.message


async def test_a_stall_without_user_code_names_no_place(caplog: pytest.LogCaptureFixture) -> None:
    house = ExecutorFixture(ping_ms=10, stalled_pings=10)
    release = threading.Event()

    @house
    async def work(_ctx: Context) -> Outcome:
        asyncio.get_running_loop().call_soon(release.wait, 60)
        await asyncio.sleep(60)
        return Outcome("late")

    async with house.open() as table:
        table.grant("a")
        await table.until_results(1)
        release.set()

    [command] = table.commands()
    assert isinstance(command, commands.FailTask)
    assert command.message == (
        "the step blocked the step event loop; use a plain function or asyncio.to_thread"
    )


def test_a_place_is_fit_for_a_terminal() -> None:
    code = compile("def f():\n    import sys\n    return sys._getframe()", "evil\x1b[2J\n.py", "exec")
    names: dict[str, Any] = {}
    exec(code, names)

    assert _place(names["f"]()) == "evil\\x1b[2J\\n.py:3 in f"


async def test_a_loop_is_replaced_with_its_lifespans_opened_again() -> None:
    opened: list[int] = []

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        opened.append(threading.get_ident())
        yield

    house = ExecutorFixture([("workflow 'w'", lifespan)], ping_ms=10, stalled_pings=10)
    release = threading.Event()

    @house
    async def block(_ctx: Context) -> Outcome:
        release.wait(60)
        return Outcome("late")

    @house
    async def work(_ctx: Context) -> Outcome:
        return Outcome("done")

    async with house.open() as table:
        table.grant("a", "block")
        await table.until_results(1)
        table.add("b", "work")
        table.dispatcher.offer("w", 1, "work")
        await table.until_results(2)
        assert isinstance(table.commands()[1], commands.FinishTask)
        assert house.executor.healthy()
        assert len(set(opened)) == 2
        release.set()
    assert len(table.results) == 2, "the abandoned loop reports nothing"
    assert table.rejected == []


async def test_a_lifespan_that_blocks_the_loop_charges_no_attempt() -> None:
    release, go = threading.Event(), threading.Event()

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        async def background() -> None:
            await asyncio.to_thread(go.wait, 60)
            release.wait(60)

        task = asyncio.create_task(background())
        yield
        task.cancel()

    house = ExecutorFixture([("workflow 'w' version 1", lifespan)], ping_ms=10, stalled_pings=10)

    @house
    async def work(ctx: Context) -> Outcome:
        go.set()
        await asyncio.sleep(60 if ctx.attempt == 1 else 0)
        go.clear()
        return Outcome("done")

    async with house.open() as table:
        table.grant("a")
        await table.until(lambda: bool(table.released))
        go.clear()
        await table.until_results(1)
        release.set()

    assert [type(command) for command in table.commands()] == [commands.FinishTask]


async def test_a_step_that_blocks_after_its_timeout_is_charged_once() -> None:
    house = ExecutorFixture(ping_ms=10, stalled_pings=10)
    release = threading.Event()

    @house
    async def work(_ctx: Context) -> Outcome:
        try:
            await asyncio.sleep(60)
        finally:
            release.wait(60)
        return Outcome("late")

    @house
    async def wait(ctx: Context) -> Outcome:
        await asyncio.sleep(60 if ctx.attempt == 1 else 0)
        return Outcome("done")

    async with house.open() as table:
        table.grant("innocent", "wait")
        table.attempt_timeout_ms = 20
        table.grant("guilty")
        table.attempt_timeout_ms = None
        await table.until_results(2)
        release.set()

    assert table.released == [TaskKey("innocent", "wait", 1)]
    [failed] = [command for command in table.commands() if isinstance(command, commands.FailTask)]
    assert failed.type == "AttemptTimeout"


async def test_a_blocked_loop_does_not_time_out_other_attempts() -> None:
    house = ExecutorFixture(ping_ms=10, stalled_pings=10_000)
    blocked, release, began = threading.Event(), threading.Event(), threading.Event()

    @house
    async def block(_ctx: Context) -> Outcome:
        began.wait(60)
        blocked.set()
        release.wait(60)
        return Outcome("done")

    @house
    async def quick(_ctx: Context) -> Outcome:
        began.set()
        await asyncio.sleep(0.01)
        return Outcome("done")

    async with house.open() as table:
        table.attempt_timeout_ms = 200
        table.grant("innocent", "quick")
        table.attempt_timeout_ms = None
        table.grant("guilty", "block")
        assert await asyncio.to_thread(blocked.wait, 10)
        # Long after the deadline of the other attempt, by the executor's clock.
        stalls = house.executor._stalls
        await table.until_true(lambda: stalls.lost_seconds > 1.0)
        release.set()
        await table.until_results(2)

    assert all(isinstance(command, commands.FinishTask) for command in table.commands())


async def test_a_step_that_blocks_past_its_own_timeout_fails_at_once() -> None:
    house = ExecutorFixture(ping_ms=10, stalled_pings=10_000)
    release = threading.Event()

    @house
    async def work(_ctx: Context) -> Outcome:
        release.wait(60)
        return Outcome("late")

    async with house.open() as table:
        table.attempt_timeout_ms = 50
        table.grant("a")
        await table.until_results(1)
        release.set()

    [failed] = table.commands()
    assert isinstance(failed, commands.FailTask)
    assert failed.type == "AttemptTimeout"


async def test_a_step_cannot_cancel_its_neighbours(caplog: pytest.LogCaptureFixture) -> None:
    house = ExecutorFixture()
    began, go = threading.Event(), threading.Event()

    @house
    async def wait(_ctx: Context) -> Outcome:
        began.set()
        await asyncio.to_thread(go.wait, 60)
        return Outcome("done")

    @house
    async def cancel(_ctx: Context) -> Outcome:
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task() and task.get_name() != "perdure-lifespans":
                assert not task.cancel()
        return Outcome("done")

    async with house.open() as table:
        table.grant("innocent", "wait")
        assert await asyncio.to_thread(began.wait, 10)
        table.grant("guilty", "cancel")
        await table.until_results(1)
        go.set()
        await table.until_results(2)

    assert all(isinstance(command, commands.FinishTask) for command in table.commands())
    assert "step tried to cancel code of another step, ignored" in caplog.text


async def test_attempts_on_a_loop_that_ended_are_released() -> None:
    house = ExecutorFixture(ping_ms=10)
    began = threading.Event()

    @house
    async def wait(ctx: Context) -> Outcome:
        began.set()
        await asyncio.sleep(60 if ctx.attempt == 1 else 0)
        return Outcome("done")

    @house
    async def cancel(_ctx: Context) -> Outcome:
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()
        return Outcome("done")

    async with house.open() as table:
        table.grant("innocent", "wait")
        assert await asyncio.to_thread(began.wait, 10)
        table.grant("guilty", "cancel")
        await table.until_results(2)

    # The next attempt can be released as well, if it started on the loop before its end was seen.
    assert table.released[:1] == [TaskKey("innocent", "wait", 1)]
    assert {key.instance_id for key in table.released} == {"innocent"}
    assert all(isinstance(command, commands.FinishTask) for command in table.commands())


@pytest.mark.parametrize(("others", "error"), [(True, "StepsLoopEnded"), (False, "CancelledError")])
async def test_the_step_that_ends_the_loop_is_charged(others: bool, error: str) -> None:
    house = ExecutorFixture(ping_ms=10)

    @house
    async def work(_ctx: Context) -> Outcome:
        for task in asyncio.all_tasks():
            if not (others and task is asyncio.current_task()):
                task.cancel()
        if others:
            await asyncio.sleep(60)
        return Outcome("done")

    async with house.open():
        failed = await house.run()

    assert isinstance(failed, commands.FailTask)
    assert failed.type == error


async def test_a_step_may_cancel_and_time_out_its_own_tasks(house_with_timeouts: ExecutorFixture) -> None:
    async with house_with_timeouts.open():
        assert isinstance(await house_with_timeouts.run(), commands.FinishTask)


@pytest.fixture
def house_with_timeouts() -> ExecutorFixture:
    house = ExecutorFixture()

    @house
    async def work(_ctx: Context) -> Outcome:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            pass
        task = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(60))
                group.create_task(fail())
        except ExceptionGroup:
            return Outcome("done")
        raise AssertionError("the group did not fail")

    return house


async def fail() -> None:
    raise ValueError("no")


# --- the watch, with time as an argument ---------------------------------------------------------------------

A = StepOwner("w", 1, TaskKey("i1", "a", 1))
B = StepOwner("w", 1, TaskKey("i2", "b", 1))


class Watched:
    """A watch with one ping every 0.25 s of a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.watch = StallWatch(0.25)
        self.unanswered = 0

    def ping(self, owner: Any = None, *, lag: float | None = None, answered: bool = False) -> int:
        self.now += 0.25
        self.unanswered = 0 if answered else self.unanswered + 1
        age = self.unanswered * 0.25 if lag is None else lag
        return self.watch.observe(self.now, Ping(self.unanswered, age), owner, lambda: "f.py:1 in f")


def test_a_stall_of_one_second_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watched = Watched()
    watched.ping(answered=True, lag=0.0)
    pings = [watched.ping(A) for _ in range(8)]
    watched.ping(answered=True, lag=2.1)

    assert pings == [1, 2, 3, 4, 5, 6, 7, 8]
    blocked, free = caplog.records
    assert blocked.getMessage() == "step blocks the event loop"
    fields = {name: vars(blocked)[name] for name in ("workflow", "version", "step_ref", "instance_id")}
    assert fields == {"workflow": "w", "version": 1, "step_ref": "a", "instance_id": "i1"}
    assert vars(blocked)["where"] == "f.py:1 in f"
    assert (free.getMessage(), vars(free)["seconds"]) == ("step event loop responds again", 2.1)


def test_a_short_stall_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched()
    watched.ping(A)
    watched.ping(A)
    watched.ping(answered=True, lag=0.6)

    assert not caplog.records


def test_steps_that_take_turns_do_not_add_up_to_a_stall() -> None:
    watched = Watched()

    assert [watched.ping(owner) for owner in (A, A, B, A, B, B)] == [1, 2, 1, 1, 1, 2]


def test_a_lifespan_that_blocks_is_named(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched()
    for _ in range(4):
        watched.ping(LifespanOwner("workflow 'shop' version 3"))

    [record] = caplog.records
    assert vars(record)["lifespan"] == "workflow 'shop' version 3"


def test_the_lag_is_the_longest_of_the_last_minute() -> None:
    watched = Watched()
    watched.ping(answered=True, lag=0.2)
    assert watched.watch.lag_seconds == 0.2
    watched.ping(A, lag=3.0)
    watched.ping(answered=True, lag=0.01)
    assert watched.watch.lag_seconds == 3.0

    for _ in range(2):
        watched.now += LAG_WINDOW_SECONDS
        watched.ping(answered=True, lag=0.01)
    assert watched.watch.lag_seconds == 0.01


def test_a_suspended_process_loses_no_time() -> None:
    watched = Watched()
    watched.ping(A)
    watched.now += 3_600
    watched.ping(A)

    assert watched.watch.lost_seconds <= 0.75


def test_a_stall_without_a_known_owner_charges_only_after_three_in_a_row() -> None:
    watch = StallWatch(0.25)
    suspect = [TaskKey("i1", "a", attempt) for attempt in range(1, 5)]

    assert watch.unexplained([suspect[0], TaskKey("i2", "b", 1)]) == set()
    assert watch.unexplained([suspect[1]]) == set()
    assert watch.unexplained([suspect[2], TaskKey("i2", "b", 2)]) == {suspect[2]}
