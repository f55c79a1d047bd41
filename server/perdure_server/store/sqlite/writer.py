"""The transactions of the writer thread.

Theory of operation. A batch is one ``BEGIN IMMEDIATE`` transaction with a constant number of statements: find the
changes that conflict, then write all others at once. If a row breaks a constraint of the database, which no valid
change does, the batch runs again one change at a time, each in a savepoint, so that only the invalid one is rejected.

Owns: transactions and their errors. Must not: encode rows or use threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import apsw

from perdure_server.store.protocol import (
    COMMITTED,
    Change,
    CommitResult,
    Conflict,
    ConflictKind,
    InvalidChange,
    StoreUnavailableError,
)
from perdure_server.store.sqlite.errors import VALUE_ERRORS, commit_error, error_text
from perdure_server.store.sqlite.queries import Rows, fetch, rows
from perdure_server.store.sqlite.row_encoding import Batch, encode

Count = Callable[[apsw.Connection], None]
"""Counts the commit of an open transaction."""

_CONFLICTING: Final = rows("conflicting")
_CONFLICTING_TIMERS: Final = rows("conflicting_timers")
_EXPIRED_LEASES: Final = rows("expired_leases")
_WRITES: Final[tuple[tuple[Rows, Callable[[Batch], list[Any]]], ...]] = (
    (rows("write_instances"), lambda batch: batch.instances),
    (rows("remove_live_instances"), lambda batch: batch.live_instances_removed),
    (rows("write_live_instances"), lambda batch: batch.live_instances),
    (rows("write_labels"), lambda batch: batch.labels),
    (rows("write_history"), lambda batch: batch.history),
    (rows("write_payloads"), lambda batch: batch.payloads),
    (rows("write_requests"), lambda batch: batch.requests),
    # Removals first: a change can replace a row that it removes.
    (rows("remove_timers"), lambda batch: batch.timers_removed),
    (rows("write_timers"), lambda batch: batch.timers),
    (rows("remove_tasks"), lambda batch: batch.tasks_removed),
    (rows("write_tasks"), lambda batch: batch.tasks),
)

_CONFLICTS: Final = {kind.value: Conflict(kind) for kind in ConflictKind}
_GUARD: Final = _CONFLICTS["guard"]


def commit_changes(
    connection: apsw.Connection,
    changes: Sequence[Change],
    batch: Batch | None,
    now: Callable[[], int],
    count: Count,
) -> list[CommitResult | InvalidChange]:
    """Make changes durable.

    ``batch`` is their encoding, None if one of them could not be encoded. ``count`` is called in the transaction,
    before it is committed.
    """
    if batch is not None:
        try:
            return _commit_together(connection, changes, batch, now, count)
        except VALUE_ERRORS:
            pass
    return _commit_apart(connection, changes, now, count)


def _commit_together(
    connection: apsw.Connection, changes: Sequence[Change], batch: Batch, now: Callable[[], int], count: Count
) -> list[CommitResult | InvalidChange]:
    outcomes: list[CommitResult | InvalidChange] = [COMMITTED] * len(changes)
    with transaction(connection):
        conflicts = _find_conflicts(connection, batch, now)
        if conflicts:
            for number, conflict in conflicts.items():
                outcomes[number] = conflict
            batch = encode([change for number, change in enumerate(changes) if number not in conflicts])
        _write(connection, batch)
        count(connection)
    return outcomes


def _commit_apart(
    connection: apsw.Connection, changes: Sequence[Change], now: Callable[[], int], count: Count
) -> list[CommitResult | InvalidChange]:
    outcomes: list[CommitResult | InvalidChange] = []
    with transaction(connection):
        for change in changes:
            connection.execute("SAVEPOINT change")
            try:
                batch = encode([change])
                conflicts = _find_conflicts(connection, batch, now)
                if conflicts:
                    outcomes.append(conflicts[0])
                else:
                    _write(connection, batch)
                    outcomes.append(COMMITTED)
            except VALUE_ERRORS as error:
                connection.execute("ROLLBACK TO change")
                outcomes.append(InvalidChange(error_text(error)))
            connection.execute("RELEASE change")
        count(connection)
    return outcomes


def _find_conflicts(connection: apsw.Connection, batch: Batch, now: Callable[[], int]) -> dict[int, Conflict]:
    conflicts: dict[int, Conflict] = {}
    for sql, values in _CONFLICTING.statements(batch.conditions):
        for number, kind in fetch(connection, sql, values):
            conflicts[number] = _CONFLICTS[kind]
    for sql, values in _CONFLICTING_TIMERS.statements(batch.timer_guards):
        for (number,) in fetch(connection, sql, values):
            conflicts.setdefault(number, _GUARD)
    if batch.replicas:
        at = now()
        for sql, values in _EXPIRED_LEASES.statements(
            [value for name in batch.replicas for value in (name, at)]
        ):
            for (replica_id,) in fetch(connection, sql, values):
                for number in batch.replicas[replica_id]:
                    conflicts.setdefault(number, _GUARD)
    return conflicts


def _write(connection: apsw.Connection, batch: Batch) -> None:
    for statement, values_of in _WRITES:
        for sql, values in statement.statements(values_of(batch)):
            connection.execute(sql, values, can_cache=statement.stays_prepared(values))


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """Run the block in a write transaction. Commits on success and rolls back on any exception.

    Raises:
        StoreUnavailableError: COMMIT failed and the transaction was not applied.
        CommitUnknownError: COMMIT failed and the transaction may have been applied.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        _roll_back(connection)
        raise
    try:
        connection.execute("COMMIT")
    except apsw.Error as error:
        _roll_back(connection)
        raise commit_error(error) from error


def _roll_back(connection: apsw.Connection) -> None:
    # After some errors SQLite has rolled back by itself.
    if connection.in_transaction:
        try:
            connection.execute("ROLLBACK")
        except apsw.Error as error:
            raise StoreUnavailableError(error_text(error)) from error
