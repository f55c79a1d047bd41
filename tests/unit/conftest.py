"""Fixtures that several test files use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from perdure_server.cli.main import app
from perdure_server.store.sqlite import SqliteStore
from support.factories import a_definition
from support.fake_task_store import FakeTaskStore
from support.stub_server import StubServer

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Path of the store's database file."""
    return str(tmp_path / "perdure.db")


@pytest.fixture
async def store(path: str) -> AsyncIterator[SqliteStore]:
    """A store in a file, open, with one definition. A test file that needs another has its own."""
    made = SqliteStore(path)
    await made.open()
    await made.put_definition(a_definition())
    yield made
    await made.close()


@pytest.fixture
async def table() -> AsyncIterator[FakeTaskStore]:
    """A dispatcher over a table of tasks."""
    table = FakeTaskStore()
    yield table
    await table.dispatcher.drain(0)


@pytest.fixture
async def server() -> AsyncIterator[StubServer]:
    """A server with canned answers."""
    async with StubServer() as server:
        yield server


@pytest.fixture
def run(server: StubServer) -> Run:
    """Run a command against it."""

    async def run(*arguments: str, stdin: str = "") -> Result:
        # In a thread: the commands block, and the server needs the loop.
        return await asyncio.to_thread(
            CliRunner(env={"PERDURE_SERVER": server.target}).invoke, app, list(arguments), input=stdin
        )

    return run
