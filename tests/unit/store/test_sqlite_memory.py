"""Memory that connections keep between two pieces of work."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import apsw
import pytest

from perdure_server.store.protocol import COMMITTED
from perdure_server.store.sqlite import SqliteStore
from perdure_server.store.sqlite.queries import ROWS_SIZES, TEXT_BYTES_KEPT, rows
from perdure_server.store.sqlite.store import LARGE_BYTES, LARGE_READS_MAX
from support.factories import a_change, a_state

STATEMENTS_BYTES_MAX = 8 << 20
"""The prepared statements themselves take some two mebibytes."""


async def test_statements_that_wrote_large_payloads_keep_none_of_them(store: SqliteStore) -> None:
    body = '"' + "x" * TEXT_BYTES_KEPT + '"'

    for size in ROWS_SIZES:
        changes = [a_change(a_state(), payloads={1: body}) for _ in range(size)]
        assert list(await store.commit(changes)) == [COMMITTED] * size

    assert store._database._writer is not None
    used = await store._database._writer.submit(
        lambda connection: connection.status(apsw.SQLITE_DBSTATUS_STMT_USED)[0]
    )
    assert used < STATEMENTS_BYTES_MAX


@pytest.mark.parametrize("character", ["x", "ü", "中", "😀"])
def test_a_statement_that_stays_prepared_keeps_no_more_than_it_may(character: str) -> None:
    write = rows("write_payloads")
    for length in range(0, TEXT_BYTES_KEPT, 1_000):
        body = character * length
        if not write.stays_prepared(["i", 1, body] * 2):
            break
        assert 2 * len(body.encode()) <= TEXT_BYTES_KEPT

    assert length > TEXT_BYTES_KEPT // 16


@pytest.mark.parametrize(("size_bytes", "at_once"), [(LARGE_BYTES + 1, LARGE_READS_MAX), (LARGE_BYTES, 0)])
async def test_a_crowd_that_reads_large_instances_holds_only_some_of_them_at_once(
    size_bytes: int, at_once: int, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = a_state()
    body = '"' + "ü" * ((size_bytes - 2) // 2) + "x" * (size_bytes % 2) + '"'
    assert len(body.encode()) == size_bytes
    assert list(await store.commit([a_change(state, payloads={1: body})])) == [COMMITTED]
    held = held_max = 0
    read = store._read

    async def counted(sql: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        nonlocal held, held_max
        whole = parameters["bytes_max"] > LARGE_BYTES
        held += whole
        held_max = max(held_max, held)
        try:
            return await read(sql, parameters)
        finally:
            held -= whole

    monkeypatch.setattr(store, "_read", counted)
    found = await asyncio.gather(*(store.get_instance(state.instance_id) for _ in range(50)))

    assert all(stored is not None and stored.payloads == {1: body} for stored in found)
    assert held_max == at_once
