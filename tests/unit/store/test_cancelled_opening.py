"""Cancellation at every suspension of whatever opens and closes: nothing is left, and what closes can be closed."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest

from perdure import AsyncClient, Context, Outcome, Workflow, step
from perdure_server.app import Server
from perdure_server.closing import finish
from perdure_server.config import Config
from perdure_server.embedded import EmbeddedRunner
from perdure_server.store.sqlite import SqliteStore
from perdure_server.testing import WorkflowTest
from support import cancel_points
from support.cancel_points import EARLY, at_every_point, ways


class Shop(Workflow, name="shop", version=1):
    start = "buy"

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        background = asyncio.create_task(asyncio.sleep(3_600))
        try:
            yield
        finally:
            background.cancel()
            await asyncio.gather(background, return_exceptions=True)

    @step(on={"bought": "pay"})
    async def buy(self, _ctx: Context) -> Outcome:
        return Outcome("bought")

    @step(on={"paid": "end"})
    def pay(self, _ctx: Context) -> Outcome:
        return Outcome("paid")


def assert_unlocked(database: Path) -> None:
    """Take the database's lock, which must be free."""
    lock = database.with_name(f"{database.name}.lock")
    if lock.exists():
        descriptor = os.open(lock, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


@ways
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_a_store_can_be_cancelled_while_it_opens(database: Path, way: str, twice: bool) -> None:
    async def work() -> None:
        store = SqliteStore(str(database))
        await store.open()
        await store.close()

    async def after() -> None:
        assert_unlocked(database)

    assert at_every_point(work, after, way=way, twice=twice) > 3


@ways
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_an_embedded_runner_can_be_cancelled_at_any_point(database: Path, way: str, twice: bool) -> None:
    async def work() -> None:
        async with EmbeddedRunner([Shop], database=f"sqlite:///{database}") as runner:
            await runner.start_instance("shop", {})

    async def after() -> None:
        assert_unlocked(database)

    assert at_every_point(work, after, way=way, twice=twice) > 10


@ways
def test_a_test_world_can_be_cancelled_at_any_point(way: str) -> None:
    async def work() -> None:
        async with WorkflowTest(Shop) as t:
            await t.start()

    assert at_every_point(work, way=way) > 5


@pytest.fixture
def grpc_running() -> Iterator[None]:
    """Keep gRPC's own poller thread alive, which all of its objects in a process share."""
    with asyncio.Runner() as runner:

        async def open_channel() -> grpc.aio.Channel:
            return grpc.aio.insecure_channel("127.0.0.1:1")

        channel = runner.run(open_channel())
        yield
        runner.run(channel.close())


@ways
def test_a_server_can_be_cancelled_at_any_point(database: Path, grpc_running: None, way: str) -> None:
    async def work() -> None:
        config = Config(
            database=f"sqlite:///{database}",
            listen="127.0.0.1:0",
            metrics_listen="127.0.0.1:0",
            workflows=(Shop,),
        )
        server = Server(config)
        try:
            await server.start()
        except asyncio.CancelledError:
            # A server that did not start needs no stop.
            raise
        await server.stop()

    async def after() -> None:
        assert_unlocked(database)

    assert at_every_point(work, after, way=way) > 10


@ways
def test_a_client_can_be_cancelled_at_any_point(grpc_running: None, way: str) -> None:
    async def work() -> None:
        client = AsyncClient("127.0.0.1:1")
        try:
            await client.get_instance("x", timeout=0.05)
        except Exception:  # no server listens there
            pass
        finally:
            await client.close()
            await client.close()

    at_every_point(work, way=way)


async def test_cleanup_ends_however_often_its_caller_is_cancelled() -> None:
    ended = asyncio.Event()

    async def cleanup() -> str:
        for _ in range(5):
            await asyncio.sleep(0)
        ended.set()
        return "done"

    caller = asyncio.create_task(finish(cleanup()))
    for _ in range(3):
        await asyncio.sleep(0)
        caller.cancel()
    [outcome] = await asyncio.gather(caller, return_exceptions=True)

    assert isinstance(outcome, asyncio.CancelledError)
    assert ended.is_set()
    assert await finish(cleanup()) == "done"


async def test_cleanup_that_fails_raises_its_own_error() -> None:
    async def cleanup() -> None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        await finish(cleanup())


@pytest.mark.parametrize("way", [EARLY])
def test_the_harness_sees_a_leak(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    async def work() -> None:
        threading.Thread(target=release.wait, args=(30,), daemon=True).start()
        await asyncio.sleep(0)
        release.set()

    monkeypatch.setattr(cancel_points, "SETTLED_SECONDS_MAX", 0.05)
    with pytest.raises(AssertionError, match="cancelled early at suspension 1"):
        at_every_point(work, way=way)
    release.set()


class Slow(Workflow, name="slow", version=1):
    start = "wait"
    started = threading.Event()
    opening: threading.Event | None = None

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        if self.opening is not None:
            self.opening.set()
            await asyncio.sleep(3_600)
        yield

    @step(on={"done": "end"})
    async def wait(self, ctx: Context) -> Outcome:
        self.started.set()
        await asyncio.sleep(3_600 if ctx.attempt == 1 else 0)
        return Outcome("done")


def test_a_lifespan_that_takes_long_can_be_cancelled(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opening = threading.Event()
    monkeypatch.setattr(Slow, "opening", opening)
    before = cancel_points.Left.now()

    async def run() -> None:
        runner = EmbeddedRunner([Slow], database=f"sqlite:///{database}")
        entering = asyncio.create_task(runner.__aenter__())
        assert await asyncio.to_thread(opening.wait, 20)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering

    asyncio.run(run())
    cancel_points.assert_nothing_left(before, "cancelled in a lifespan")
    assert_unlocked(database)


def test_a_cancelled_close_ends_the_grace_time_and_closes(database: Path) -> None:
    before = cancel_points.Left.now()

    async def run() -> None:
        runner = EmbeddedRunner([Slow], database=f"sqlite:///{database}", shutdown_timeout_seconds=3_600)
        await runner.__aenter__()
        started = await runner.start_instance("slow", {})
        assert await asyncio.to_thread(Slow.started.wait, 20)
        closing = asyncio.create_task(runner.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await runner.close()
        # The step was released: the next runner completes it.
        async with EmbeddedRunner([Slow], database=f"sqlite:///{database}") as again:
            ended = await again.wait_for_end(started.instance_id)
            assert ended.state == "COMPLETED"

    asyncio.run(run())
    cancel_points.assert_nothing_left(before, "cancelled while it closed")
