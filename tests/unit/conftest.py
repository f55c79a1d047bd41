"""What several of these files start from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from factories import a_definition
from perdure_server.store.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the store's file is."""
    return str(tmp_path / "perdure.db")


@pytest.fixture
async def store(path: str) -> AsyncIterator[SqliteStore]:
    """A store in a file, open, with one definition. A test file that needs another has its own."""
    made = SqliteStore(path)
    await made.open()
    await made.put_definition(a_definition())
    yield made
    await made.close()
