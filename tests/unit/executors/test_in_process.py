"""Steps in the server's process, on their own event loop and threads. All tests use real threads."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from perdure import SUSPEND, Context, Outcome, StepError, Suspend, Workflow, step
from perdure_server.engine import commands
from perdure_server.executors import in_process
from perdure_server.executors.in_process import (
    SWITCH_INTERVAL_SECONDS,
    Handler,
    Pool,
    bind,
)
from perdure_server.executors.steps_loop import LifespanError
from perdure_server.runtime.dispatch.protocol import TaskKey
from support.executor_fixture import ExecutorFixture


@pytest.fixture
def house() -> ExecutorFixture:
    return ExecutorFixture()


def both(body: Callable[[Context], Any]) -> list[Handler]:
    """The same body as a coroutine function and as a plain one."""

    async def work(ctx: Context) -> Any:
        return body(ctx)

    def work_plain(ctx: Context) -> Any:
        return body(ctx)

    work_plain.__name__ = "work"
    return [work, work_plain]


async def test_outcomes_of_async_and_plain_steps_are_stored(
    house: ExecutorFixture,
) -> None:
    @house
    async def slow(ctx: Context) -> Outcome:
        await asyncio.sleep(0)
        return Outcome("done", seen=ctx.input["n"], earlier=ctx.steps)

    @house
    def quick(ctx: Context) -> Outcome:
        return Outcome("done", attempt=ctx.attempt, key=ctx.idempotency_key)

    house.table.input, house.table.outputs = '{"n":18446744073709551617}', {"a": '{"b":1}'}
    async with house.open():
        first, second = await house.run("slow"), await house.run("quick")

    assert isinstance(first, commands.FinishTask)
    assert first.output is not None
    assert first.output.text == '{"seen":18446744073709551617,"earlier":{"a":{"b":1}}}'
    assert isinstance(second, commands.FinishTask)
    assert second.output is not None
    assert second.output.text == '{"attempt":1,"key":"i1/quick"}'


async def test_pending_suspends(house: ExecutorFixture) -> None:
    @house
    async def work(_ctx: Context) -> Suspend:
        return SUSPEND

    async with house.open():
        assert isinstance(await house.run(), commands.SuspendTask)


async def test_user_code_never_runs_on_the_servers_loop_or_thread(house: ExecutorFixture) -> None:
    where: dict[str, tuple[int, object]] = {}
    here = (threading.get_ident(), asyncio.get_running_loop())

    @house
    async def on_loop(_ctx: Context) -> Outcome:
        where["on_loop"] = (threading.get_ident(), asyncio.get_running_loop())
        return Outcome("done")

    @house
    def in_thread(_ctx: Context) -> Outcome:
        where["in_thread"] = (threading.get_ident(), None)
        return Outcome("done")

    async with house.open():
        await house.run("on_loop")
        await house.run("in_thread")

    idents = {here[0], where["on_loop"][0], where["in_thread"][0]}
    assert len(idents) == 3
    assert where["on_loop"][1] is not here[1]


def leave_with(error: BaseException) -> Callable[[Context], Any]:
    def body(_ctx: Context) -> Any:
        raise error

    return body


def recurse(_ctx: Context) -> Any:
    return recurse(_ctx)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyboardInterrupt(),
        SystemExit(1),
        GeneratorExit(),
        StopIteration(),
        StopAsyncIteration(),
        asyncio.CancelledError(),
        BaseException("base"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("kind", [0, 1], ids=["async", "plain"])
async def test_no_exception_leaves_a_step(house: ExecutorFixture, error: BaseException, kind: int) -> None:
    house(both(leave_with(error))[kind])
    house(good)

    async with house.open():
        failed = await house.run("work")
        assert isinstance(failed, commands.FailTask)
        assert failed.retryable
        # A coroutine converts StopIteration to RuntimeError.
        assert failed.type in {type(error).__name__, "RuntimeError"}
        assert isinstance(await house.run("good"), commands.FinishTask), "and the next step runs as ever"
        assert house.executor.healthy()


async def good(_ctx: Context) -> Outcome:
    return Outcome("done")


@pytest.mark.parametrize("kind", [0, 1], ids=["async", "plain"])
async def test_endless_recursion_is_a_failure(house: ExecutorFixture, kind: int) -> None:
    house(both(recurse)[kind])

    async with house.open():
        failed = await house.run()

    assert isinstance(failed, commands.FailTask)
    assert failed.type == "RecursionError"


async def test_a_step_error_says_whether_a_retry_may_help(house: ExecutorFixture) -> None:
    @house
    async def work(_ctx: Context) -> Outcome:
        raise StepError("never", retryable=False)

    async with house.open():
        failed = await house.run()

    assert isinstance(failed, commands.FailTask)
    assert (failed.type, failed.message, failed.retryable) == ("StepError", "never", False)


async def test_an_invalid_value_fails_permanently_and_says_what_to_return(house: ExecutorFixture) -> None:
    @house
    async def work(_ctx: Context) -> str:
        return "done"

    async with house.open():
        failed = await house.run()

    assert isinstance(failed, commands.FailTask)
    assert (failed.retryable, failed.message) == (
        False,
        "step work returned str; return Outcome(...) or SUSPEND",
    )


async def test_a_background_task_that_exits_does_not_take_the_loop_with_it(house: ExecutorFixture) -> None:
    @house
    async def work(_ctx: Context) -> Outcome:
        async def leave() -> None:
            raise SystemExit(7)

        house.background = asyncio.ensure_future(leave())  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return Outcome("done")

    async with house.open():
        assert isinstance(await house.run(), commands.FinishTask)
        assert isinstance(await house.run(), commands.FinishTask)


async def test_a_step_that_stops_its_loop_does_not_stop_the_others(house: ExecutorFixture) -> None:
    @house
    async def work(_ctx: Context) -> Outcome:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return Outcome("done")

    async with house.open():
        assert isinstance(await house.run(), commands.FinishTask)
        assert isinstance(await house.run(), commands.FinishTask)


async def test_a_coroutine_returned_by_a_plain_function_is_awaited(house: ExecutorFixture) -> None:
    async def inner(ctx: Context) -> Outcome:
        await asyncio.sleep(0)
        return Outcome("done", instance=ctx.instance_id)

    @functools.wraps(inner)
    def work(ctx: Context) -> Awaitable[Outcome]:
        return inner(ctx)

    del work.__wrapped__
    work.__name__ = "work"
    house(work)
    async with house.open():
        finished = await house.run()

    assert isinstance(finished, commands.FinishTask)


async def test_steps_do_not_see_each_others_context_variables(house: ExecutorFixture) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    def body(_ctx: Context) -> Outcome:
        seen = variable.get()
        variable.set(seen + 1)
        return Outcome("done", seen=seen)

    work, plain = both(body)
    house(work)
    house.handlers["w", 1, "plain"] = plain
    async with house.open():
        for ref in ("work", "work", "plain", "plain"):
            finished = await house.run(ref)
            assert isinstance(finished, commands.FinishTask)
            assert finished.output is not None
            assert finished.output.text == '{"seen":0}'


async def test_many_steps_at_once_all_end(house: ExecutorFixture) -> None:
    @house
    async def on_loop(_ctx: Context) -> Outcome:
        await asyncio.sleep(0)
        return Outcome("done")

    @house
    def in_thread(_ctx: Context) -> Outcome:
        return Outcome("done")

    async with house.open() as table:
        for number in range(1_000):
            table.grant(f"a{number}", "on_loop")
            table.grant(f"b{number}", "in_thread")
        await table.until_results(2_000)

    assert len({key for key, _ in table.results}) == 2_000
    assert table.rejected == []


async def test_a_saturated_server_does_not_starve_the_steps(house: ExecutorFixture) -> None:
    @house
    async def work(_ctx: Context) -> Outcome:
        return Outcome("done", total=sum(range(1_000)))

    loop, saturated, default = asyncio.get_running_loop(), True, sys.getswitchinterval()

    def callback() -> None:
        sum(range(2_000))
        if saturated:
            loop.call_soon(callback)

    async with house.open():
        assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_SECONDS)
        for _ in range(50):
            callback()
        for _ in range(20):
            async with asyncio.timeout(2):
                await house.run()
        saturated = False
    assert sys.getswitchinterval() == default


async def test_a_failed_callback_of_a_step_is_logged_without_its_arguments(
    house: ExecutorFixture, caplog: pytest.LogCaptureFixture
) -> None:
    def charge(_number: str) -> None:
        raise KeyError("4111-1111")

    @house
    async def work(_ctx: Context) -> Outcome:
        asyncio.get_running_loop().call_soon(functools.partial(charge, "4111-1111"))
        await asyncio.sleep(0)
        return Outcome("done")

    async with house.open():
        await house.run()

    [record] = [record for record in caplog.records if "outside of any step" in record.getMessage()]
    assert record.reason == "callback failed"  # type: ignore[attr-defined]
    assert (record.error, "4111" in str(vars(record))) == ("KeyError", False)  # type: ignore[attr-defined]
    assert __file__ in record.where  # type: ignore[attr-defined]


# --- deadlines -----------------------------------------------------------------------------------------------


async def test_an_async_attempt_over_its_timeout_fails_and_is_cancelled(
    house: ExecutorFixture,
) -> None:
    cancelled = threading.Event()

    @house
    async def work(_ctx: Context) -> Outcome:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
        return Outcome("late")

    house.table.attempt_timeout_ms = 20
    async with house.open() as table:
        failed = await house.run()
        assert await asyncio.to_thread(cancelled.wait, 10)

    assert isinstance(failed, commands.FailTask)
    assert (failed.type, failed.retryable) == ("AttemptTimeout", True)
    assert failed.message == "the attempt took longer than 20 ms"
    assert len(table.results) == 1


async def test_the_slot_of_a_thread_over_its_timeout_is_replaced() -> None:
    house = ExecutorFixture(max_sync_steps=1, max_abandoned_threads=1)
    release = threading.Event()

    @house
    def hang(_ctx: Context) -> Outcome:
        release.wait(30)
        return Outcome("late")

    @house
    def quick(_ctx: Context) -> Outcome:
        return Outcome("done")

    house.table.attempt_timeout_ms = 20
    async with house.open() as table:
        failed = await house.run("hang")
        assert isinstance(failed, commands.FailTask)
        assert failed.type == "AttemptTimeout"
        assert isinstance(await house.run("quick"), commands.FinishTask)
        assert house.executor.healthy()

        await house.run("hang")
        assert not house.executor.healthy(), "beyond the cap the slot is missed"
        assert not table.grant("waits", "quick")
        assert house.executor.pools()["sync"] == Pool(size=0, used=0, leaked=2)

        release.set()
        await table.until(lambda: table.results[-1][0].instance_id == "waits")
        assert house.executor.healthy()
        assert house.table.dispatcher.finished.sum("timed_out") == 2
    assert [type(command) for command in table.commands()].count(commands.FailTask) == 2
    assert table.rejected == []


async def test_the_timeout_of_an_attempt_does_not_include_its_time_in_a_queue() -> None:
    house = ExecutorFixture(max_sync_steps=1)
    began, release = threading.Event(), threading.Event()

    @house
    def first(_ctx: Context) -> Outcome:
        began.set()
        release.wait(30)
        return Outcome("done")

    @house
    def second(_ctx: Context) -> Outcome:
        return Outcome("done")

    async with house.open() as table:
        table.grant("a", "first")
        assert await asyncio.to_thread(began.wait, 10)
        table.attempt_timeout_ms = 1
        # One more than the credits, as a commit that was decided earlier can bring it.
        table.dispatcher.run(table.task(table.add("b", "second", attempt=1, owner="r1")))
        await asyncio.to_thread(release.wait, 0.05)
        release.set()
        await table.until_results(2)

    assert all(isinstance(command, commands.FinishTask) for command in table.commands())


async def test_a_stopped_coroutine_is_cancelled_and_frees_its_credit() -> None:
    house = ExecutorFixture(max_async_steps=1)
    began = threading.Event()

    @house
    async def work(_ctx: Context) -> Outcome:
        began.set()
        await asyncio.sleep(60)
        return Outcome("done")

    async with house.open() as table:
        table.grant("a")
        assert await asyncio.to_thread(began.wait, 10)
        table.dispatcher.stop("a", "work", 1)
        del table.rows["a", "work"]
        await table.dispatcher.quiesce()
        assert table.grant("b")

    assert table.results == []


async def test_a_step_stopped_before_its_first_line_frees_its_credit() -> None:
    house = ExecutorFixture(max_async_steps=1)

    @house
    async def work(_ctx: Context) -> Outcome:
        return Outcome("done")

    async with house.open() as table:
        for number in range(50):
            table.grant(f"i{number}")
            table.dispatcher.stop(f"i{number}", "work", 1)
            table.rows.clear()
            await table.dispatcher.quiesce()

    assert table.results == []


# --- lifespans -----------------------------------------------------------------------------------------------


class Shop(Workflow, name="shop", version=3):
    start = "buy"
    log: list[str]

    def __init__(self) -> None:
        self.log = []

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self.loop = asyncio.get_running_loop()
        self.log.append("open")
        try:
            yield
        finally:
            self.log.append("closed")

    @step(on={"bought": "end"})
    async def buy(self, _ctx: Context) -> Outcome:
        assert asyncio.get_running_loop() is self.loop
        self.log.append("buy")
        return Outcome("bought")


async def test_a_lifespan_is_open_on_the_step_loop_around_all_tasks() -> None:
    shop = Shop()
    code, lifespans = bind([shop])
    assert list(code) == [("shop", 3, "buy")]
    house = ExecutorFixture(lifespans)
    house.handlers["w", 1, "work"] = code["shop", 3, "buy"]

    async with house.open():
        assert shop.log == ["open"]
        assert isinstance(await house.run(), commands.FinishTask)

    assert shop.log == ["open", "buy", "closed"]


@pytest.mark.parametrize("error", [ValueError("no database"), SystemExit("no database")])
async def test_a_failed_lifespan_fails_the_start_and_exits_the_open_ones(
    error: BaseException,
) -> None:
    shop = Shop()

    @asynccontextmanager
    async def fail() -> AsyncIterator[None]:
        raise error
        yield

    house = ExecutorFixture([*bind([shop])[1], ("workflow 'broken' version 1", fail)])
    with pytest.raises(LifespanError, match=r"workflow 'broken' version 1 failed: .*no database"):
        async with house.open():
            pass

    assert shop.log == ["open", "closed"]
    await house.executor.stop()


async def test_a_lifespan_that_opens_too_slowly_is_named_with_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_process, "LIFESPAN_SECONDS_MAX", 0.05)
    release = threading.Event()

    @asynccontextmanager
    async def block() -> AsyncIterator[None]:
        threading.Timer(0.2, release.set).start()
        release.wait(30)
        yield

    house = ExecutorFixture([*bind([Shop()])[1], ("workflow 'slow' version 1", block)])
    expected = (
        r"the lifespan of workflow 'slow' version 1 failed: it did not open within 0\.05 s "
        r"\(now at .*test_in_process.* in .*block\)"
    )
    with pytest.raises(LifespanError, match=expected):
        async with house.open():
            pass


async def test_a_lifespan_that_fails_on_exit_does_not_delay_the_stop(
    house: ExecutorFixture,
) -> None:
    @asynccontextmanager
    async def fail() -> AsyncIterator[None]:
        yield
        raise KeyboardInterrupt

    house.lifespans = [("workflow 'w'", fail)]
    house(good)
    async with house.open():
        await house.run("good")

    assert not house.executor.healthy()


# --- draining ------------------------------------------------------------------------------------------------


async def test_a_drain_stores_results_until_the_timeout_and_releases_the_rest(house: ExecutorFixture) -> None:
    began = threading.Barrier(3, timeout=60)

    @house
    async def hang(_ctx: Context) -> Outcome:
        await asyncio.to_thread(began.wait)
        await asyncio.sleep(60)
        return Outcome("late")

    @house
    def ends(_ctx: Context) -> Outcome:
        began.wait()
        return Outcome("done")

    async with house.open() as table:
        table.grant("a", "hang")
        table.grant("b", "ends")
        await asyncio.to_thread(began.wait)
        await table.dispatcher.drain(0.2)

        assert table.released == [TaskKey("a", "hang", 1)]
        assert [key for key, _ in table.results] == [TaskKey("b", "ends", 1)]
