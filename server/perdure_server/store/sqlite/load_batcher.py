"""Loads of states: those of the same turn of the event loop share one statement.

If a thousand timers are due at once, a thousand instances are loaded. A switch to a reader's thread for each would cost
more than the reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import apsw
import orjson

from perdure_server.engine.state import State
from perdure_server.store.codec import decode_state
from perdure_server.store.sqlite.queries import fetch, one

LOADS_MAX: Final = 256
"""Maximum number of states that one statement reads."""

_LOAD: Final = one("load")

Read = Callable[[Callable[[apsw.Connection], dict[str, str]]], asyncio.Future[dict[str, str]]]
"""Runs work on the thread of a reader."""


class LoadBatcher:
    """Reads states, those of one turn together. Belongs to one event loop."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._wanted: list[tuple[str, asyncio.Future[State | None]]] = []

    def load(self, instance_id: str) -> asyncio.Future[State | None]:
        """Return the stored state, None if there is no such instance."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[State | None] = loop.create_future()
        if not self._wanted:
            loop.call_soon(self._read_wanted)
        self._wanted.append((instance_id, future))
        return future

    def _read_wanted(self) -> None:
        wanted, self._wanted = self._wanted, []
        for start in range(0, len(wanted), LOADS_MAX):
            self._read_together(wanted[start : start + LOADS_MAX])

    def _read_together(self, wanted: Sequence[tuple[str, asyncio.Future[State | None]]]) -> None:
        ids = orjson.dumps([instance_id for instance_id, _ in wanted]).decode()

        def done(found: asyncio.Future[dict[str, str]]) -> None:
            error = asyncio.CancelledError() if found.cancelled() else found.exception()
            for instance_id, future in wanted:
                if future.done():
                    continue
                if error is not None:
                    future.set_exception(error)
                    continue
                text = found.result().get(instance_id)
                try:
                    future.set_result(None if text is None else decode_state(text, instance_id=instance_id))
                except Exception as unreadable:  # noqa: BLE001 - reported to its own caller only
                    future.set_exception(unreadable)

        try:
            found = self._read(lambda connection: _states(connection, ids))
        except Exception as error:  # noqa: BLE001 - reported to the callers
            for _, future in wanted:
                if not future.done():
                    future.set_exception(error)
        else:
            found.add_done_callback(done)


def _states(connection: apsw.Connection, ids: str) -> dict[str, str]:
    rows: Any = orjson.loads(fetch(connection, _LOAD, {"instance_ids": ids})[0][0])
    return dict(rows)
