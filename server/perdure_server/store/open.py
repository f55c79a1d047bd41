"""From a database URL to its store."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from perdure_server.store.protocol import Store
from perdure_server.store.sqlite import SqliteStore

_SQLITE: Final = "sqlite:///"
_MEMORY: Final = ":memory:"


def open_store(url: str, *, clock: Callable[[], int] | None = None) -> Store:
    """Return the store that a URL names; `Store.open` then opens it.

    ``clock`` tells milliseconds since the epoch, by default this machine's. Raises ``ValueError`` for what is no URL
    of a database that perdure knows.
    """
    return SqliteStore(path_of(url), clock=clock)


def database_exists(url: str) -> bool:
    """Return whether there is something to open already; opening a file that is not there would create it.

    Raises ``ValueError`` as `open_store` does.
    """
    path = path_of(url)
    return path is not None and os.path.isfile(path)


def path_of(url: str) -> str | None:
    """Return the path that a URL names, None for memory. Raises ``ValueError`` as `open_store` does."""
    path = url.removeprefix(_SQLITE)
    if path == _MEMORY:
        return None
    if path == url or not path or path.endswith("/") or "\0" in path:
        raise ValueError(
            f"{url!r} names no database; use sqlite:///relative/path.db, sqlite:////absolute/path.db or :memory:"
        )
    return path
