"""What the connections keep in memory between two pieces of work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from factories import a_change, a_definition, a_state
from perdure_server.store.protocol import COMMITTED
from perdure_server.store.sqlite import SqliteStore
from perdure_server.store.sqlite.queries import ROWS_SIZES, TEXT_BYTES_KEPT

STATEMENTS_BYTES_MAX = 8 << 20
"""The prepared statements themselves take some two mebibytes."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(str(tmp_path / "p.db"))
    await made.open()
    await made.put_definition(a_definition())
    yield made
    await made.close()


async def test_statements_that_wrote_large_payloads_keep_none_of_them(store: SqliteStore) -> None:
    body = '"' + "x" * TEXT_BYTES_KEPT + '"'

    for size in ROWS_SIZES:
        changes = [a_change(a_state(), payloads={1: body}) for _ in range(size)]
        assert list(await store.commit(changes)) == [COMMITTED] * size

    assert store._writer is not None
    used = await store._writer.submit(lambda connection: connection.status(apsw.SQLITE_DBSTATUS_STMT_USED)[0])
    assert used < STATEMENTS_BYTES_MAX
