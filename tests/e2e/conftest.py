"""Fixtures of all end-to-end tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.server_process import ServerProcess


@pytest.fixture
def server_process(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Return a maker of servers that are ended with the test; pytest shows their logs if it fails.

    ``server_process(app)`` starts one on a database of its own; ``database=`` names another, ``start=False`` leaves
    the start to the test.
    """
    made: list[ServerProcess] = []

    def make(
        app: str | Path, *, database: str | Path | None = None, start: bool = True, **settings: Any
    ) -> ServerProcess:
        number = len(made)
        database = database or tmp_path / f"server-{number}.db"
        server = ServerProcess(app, database, log=tmp_path / f"server-{number}.log", **settings)
        made.append(server)
        return server.start() if start else server

    yield make
    for server in made:
        server.kill()
        print(f"--- {server.log} (the end of it)")
        print(server.log_tail())
