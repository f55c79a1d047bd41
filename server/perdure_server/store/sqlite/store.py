"""`SqliteStore`: the `Store` protocol on one SQLite file, for one server process.

One thread writes, with its own connection; a few others read, one more lists instances, since a filter that few
instances meet is looked for among all of them, and one more copies the database for backups. Reads see every commit
that was answered before them, since an answered commit is in the log that every new read begins with. A store in memory
has one connection, so it reads through the writer.

What lives here: the protocol's methods, opening, closing, and keeping the log short.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeVar

import apsw
import orjson

from perdure_server.closing import finish
from perdure_server.engine.facts import Entry
from perdure_server.engine.state import State, Timer
from perdure_server.store.codec import decode_fact, decode_state, timer_kind
from perdure_server.store.protocol import (
    Backup,
    CannotOpenError,
    Change,
    Code,
    CrashReport,
    DefinitionOutcome,
    DefinitionSummary,
    InstanceCursor,
    InstanceFilter,
    InstancePage,
    InstanceSummary,
    LiveDefinition,
    Outcome,
    Refused,
    RequestKey,
    RequestRecord,
    StepKey,
    StoredDefinition,
    StoredInstance,
    StoreError,
    StoreUnavailableError,
    TaskRow,
    TimerCursor,
    TimerRow,
)
from perdure_server.store.sqlite import crashes
from perdure_server.store.sqlite.backup import back_up
from perdure_server.store.sqlite.connection import (
    check_path,
    check_sqlite,
    connect_reader,
    connect_writer,
    sync_directory,
)
from perdure_server.store.sqlite.database_files import DatabaseFiles
from perdure_server.store.sqlite.errors import REFUSES_VALUES
from perdure_server.store.sqlite.list_query import SCAN_ROWS_MAX, fetch_page, list_query, summary_of
from perdure_server.store.sqlite.load_batcher import LoadBatcher
from perdure_server.store.sqlite.migrate import migrate
from perdure_server.store.sqlite.queries import fetch, one
from perdure_server.store.sqlite.restore import RESTORING
from perdure_server.store.sqlite.row_encoding import encode
from perdure_server.store.sqlite.threads import ConnectionThreads
from perdure_server.store.sqlite.writer import commit_changes, transaction

log = logging.getLogger(__name__)

INT64_MIN: Final = -(1 << 63)
"""Before every time and every revision."""

READERS: Final = 2
"""How many threads read at the same time."""

LARGE_BYTES: Final = 32 << 10
LARGE_READS_MAX: Final = 4
"""How many instances are read at once whose payloads take more than `LARGE_BYTES` together, which may be megabytes. The
readers are faster than whoever makes answers of them: what they read for a crowd of callers would fill the memory.
"""

WAL_PAGES_MAX: Final = 4_000
"""After how many pages the log is copied into the database, between two batches."""

WAL_REST_SECONDS: Final = 0.5
"""After how long without work it is copied however short it is."""

ROWS_PER_TURN_MAX: Final = 1_000
"""How many claimed timers are read in one turn of the loop: some three milliseconds."""

SUMMARIES_PER_TURN_MAX: Final = 200
"""Maximum number of summaries that are decoded in one turn of the event loop, about half a millisecond."""

_SUFFIXES: Final = ("", "-wal", "-shm", "-journal", ".lock", RESTORING)
"""Suffixes of the names of a database's files."""

T = TypeVar("T")
Row = list[Any]

_CLAIMABLE_TIMERS: Final = one("claimable_timers")
_CLAIM_TIMERS: Final = one("claim_timers")
_COUNT_LIVE: Final = one("count_live")
_DEFINITION_IN_USE: Final = one("definition_in_use")
_END_REPLICA: Final = one("end_replica")
_FIND_BUSINESS_KEY: Final = one("find_business_key")
_FIND_REQUEST: Final = one("find_request")
_FORGET_REPLICAS: Final = one("forget_replicas")
_FREE_OWNERS: Final = one("free_owners")
_GET_DEFINITION: Final = one("get_definition")
_GET_INSTANCE: Final = one("get_instance")
_GET_TIMER: Final = one("get_timer")
_HEARTBEAT: Final = one("heartbeat")
_HISTORY: Final = one("history")
_LIST_DEFINITIONS: Final = one("list_definitions")
_LIST_TIMERS: Final = one("list_timers")
_LIST_TIMERS_OF: Final = one("list_timers_of")
_LIVE_DEFINITIONS: Final = one("live_definitions")
_NEWEST_DEFINITION: Final = one("newest_definition")
_NEXT_TIMER_DUE_AT: Final = one("next_timer_due_at")
_OWNED_TASKS: Final = one("owned_tasks")
_PAYLOADS: Final = one("payloads")
_REGISTER_REPLICA: Final = one("register_replica")
_TASKS_OF: Final = one("tasks_of")
_WRITE_DEFINITION: Final = one("write_definition")


def wall_clock_ms() -> int:
    """Return this machine's time."""
    return time.time_ns() // 1_000_000


class SqliteStore:
    """A store in a file, or in memory where ``path`` is None (which keeps no promise about crashes).

    ``clock`` tells the milliseconds since the epoch. ``vfs`` names the SQLite file layer to use, for tests that
    make it fail. ``scan_rows_max`` is the maximum number of index rows that one page of a list examines.
    """

    shared = False

    def __init__(
        self,
        path: str | None,
        *,
        clock: Callable[[], int] | None = None,
        vfs: str | None = None,
        scan_rows_max: int = SCAN_ROWS_MAX,
    ) -> None:
        self._path = os.path.realpath(path) if path is not None else None
        self._named = os.path.abspath(path) if path is not None else None
        self._clock = clock or wall_clock_ms
        self._vfs = vfs
        self._scan_rows_max = scan_rows_max
        self._files: DatabaseFiles | None = None
        self._owned_files: DatabaseFiles | None = None
        self._writer: ConnectionThreads | None = None
        self._readers: ConnectionThreads | None = None
        self._lister: ConnectionThreads | None = None
        self._copier: ConnectionThreads | None = None
        self._loads = LoadBatcher(self._submit_read)
        self._large_reads = asyncio.Semaphore(LARGE_READS_MAX)
        self._pages_written = 0
        self._pages_copied = 0

    def now_ms(self) -> int:
        return self._clock()

    async def open(self) -> None:
        if self._writer is not None:
            return
        check_sqlite()
        if self._path is not None:
            check_path(self._path)
            files = DatabaseFiles(self._path, link=None if self._named == self._path else self._named)
            files.take()
            self._files = self._owned_files = files
        try:
            await self._start_threads()
        except BaseException:
            await self.close()
            raise

    async def _start_threads(self) -> None:
        writer = ConnectionThreads(
            "store-writer",
            self._connect,
            after=self._after_write,
            rest_seconds=WAL_REST_SECONDS,
            rest=self._copy_log,
        )
        await writer.start()
        self._writer = self._readers = self._lister = self._copier = writer
        if (path := self._path) is not None:
            readers = ConnectionThreads(
                "store-reader", lambda: connect_reader(path, self._vfs), count=READERS
            )
            await readers.start()
            self._readers = readers
            lister = ConnectionThreads("store-lister", lambda: connect_reader(path, self._vfs))
            await lister.start()
            self._lister = lister
            copier = ConnectionThreads("store-copier", lambda: connect_reader(path, self._vfs))
            await copier.start()
            self._copier = copier
            if (files := self._files) is not None:
                await writer.submit(lambda _: files.watch_readers())

    def _connect(self) -> apsw.Connection:
        connection = connect_writer(self._path or ":memory:", self._vfs)
        files = self._files
        try:
            if files is not None:
                files.accept(connection)
            migrate(connection)
            with transaction(connection):
                crashes.take_over(connection)
            if self._path is not None:
                sync_directory(self._path)
            if files is not None:
                files.watch(connection)
        except (apsw.Error, OSError) as error:
            connection.close()
            raise CannotOpenError(f"cannot set up {self._path}: {error}") from error
        except BaseException:
            connection.close()
            raise
        return connection

    async def close(self) -> None:
        # A lock or a thread that is left open could not be closed by a second call.
        await finish(self._close())

    async def _close(self) -> None:
        readers, lister, copier = self._readers, self._lister, self._copier
        writer, files = self._writer, self._owned_files
        self._readers = self._lister = self._copier = self._writer = self._owned_files = None
        if writer is not None and files is not None:
            # On the writer's thread, so that no check is under way while their descriptors are closed.
            with contextlib.suppress(StoreError):
                await writer.submit(lambda _: files.unwatch_readers())
        for threads in (copier, lister, readers):
            if threads is not None and threads is not writer:
                await threads.close()
        if writer is not None:
            if files is not None:
                # Closing copies the log and removes it by its path, which must still be the open one.
                with contextlib.suppress(StoreError):
                    await writer.submit(files.is_sound)
            await writer.close()
        if files is not None:
            files.close()

    def healthy(self) -> bool:
        files = self._files
        return files is None or not files.fenced

    def rescue_directory(self) -> str | None:
        return None if self._path is None or self.healthy() else os.path.dirname(self._path)

    async def ping(self) -> None:
        await self._read("SELECT 1", {})

        def take_lock(connection: apsw.Connection) -> None:
            with transaction(connection):
                pass

        await self._write(take_lock)

    async def back_up(self, directory: str, file_name: str) -> Backup:
        if self._copier is None:
            raise StoreUnavailableError("the store is closed")
        path = self._path
        files = [f"{path}{suffix}" for suffix in _SUFFIXES] if path is not None else []
        return await back_up(
            self._copier,
            directory=directory,
            file_name=file_name,
            reserved=frozenset(files),
            clock=self._clock,
            snapshot=path is not None,
            vfs=self._vfs,
        )

    # --- instances -------------------------------------------------------------------------------------------

    async def commit(self, changes: Sequence[Change]) -> Sequence[Outcome | Refused]:
        if not changes:
            return ()
        try:
            batch = encode(changes)
        except REFUSES_VALUES:
            batch = None
        return await self._write(
            lambda connection: commit_changes(connection, changes, batch, self._clock, self._count_commit)
        )

    async def load(self, instance_id: str) -> State | None:
        return await self._loads.load(instance_id)

    async def get_instance(self, instance_id: str) -> StoredInstance | None:
        found = await self._get_instance(instance_id, LARGE_BYTES)
        if found is not None and found[1] is None:
            async with self._large_reads:
                found = await self._get_instance(instance_id, sys.maxsize)
                # Decoded before the next one is read.
                return None if found is None else _instance_of(*found)
        return None if found is None else _instance_of(*found)

    async def _get_instance(self, instance_id: str, bytes_max: int) -> tuple[str, str | None] | None:
        found = await self._read(_GET_INSTANCE, {"instance_id": instance_id, "bytes_max": bytes_max})
        return (found[0][0], found[0][1]) if found else None

    async def list_instances(
        self, where: InstanceFilter, *, limit: int, after: InstanceCursor | None = None
    ) -> InstancePage:
        # One more than asked for shows that there are more.
        query = list_query(where, limit=limit + 1, after=after, scan_max=self._scan_rows_max)
        rows, position = await self._list(lambda connection: fetch_page(connection, query))
        found: list[InstanceSummary] = []
        for start in range(0, min(limit, len(rows)), SUMMARIES_PER_TURN_MAX):
            found += map(summary_of, rows[start : min(limit, start + SUMMARIES_PER_TURN_MAX)])
            await asyncio.sleep(0)
        if len(rows) > limit:
            position = InstanceCursor(found[-1].created_at, found[-1].instance_id)
        return InstancePage(found, position)

    async def live_definitions(self, *, limit: int) -> Sequence[LiveDefinition]:
        found = await self._list(lambda connection: fetch(connection, _LIVE_DEFINITIONS, {"limit": limit}))
        return [LiveDefinition(*row) for row in orjson.loads(found[0][0])]

    async def count_live(self, definition: LiveDefinition, *, count_max: int) -> int:
        parameters = {
            "workflow": definition.workflow,
            "version": definition.version,
            "count_max": count_max,
        }
        found = await self._list(lambda connection: fetch(connection, _COUNT_LIVE, parameters))
        count: int = found[0][0]
        return count

    async def history(self, instance_id: str, *, after_revision: int, limit: int) -> Sequence[Entry]:
        found = await self._array(
            _HISTORY, {"instance_id": instance_id, "after": after_revision, "limit": limit}
        )
        return [Entry(revision, at, decode_fact(kind, body), by) for revision, at, kind, body, by in found]

    async def payloads(self, instance_id: str, revisions: Sequence[int]) -> Mapping[int, str]:
        wanted = orjson.dumps(list(revisions)).decode()
        found = await self._array(_PAYLOADS, {"instance_id": instance_id, "revisions": wanted})
        return dict(found)

    async def find_request(self, key: RequestKey) -> RequestRecord | None:
        found = await self._read(
            _FIND_REQUEST, {"rpc": key.rpc, "instance_id": key.instance_id, "request_id": key.request_id}
        )
        return RequestRecord(key, *found[0]) if found else None

    async def find_business_key(self, workflow: str, business_key: str) -> str | None:
        found = await self._read(_FIND_BUSINESS_KEY, {"workflow": workflow, "business_key": business_key})
        return found[0][0] if found else None

    # --- timers ----------------------------------------------------------------------------------------------

    async def claim_timers(self, owner: str, *, due_before: int, limit: int) -> Sequence[TimerRow]:
        def claim(connection: apsw.Connection) -> list[Row]:
            with transaction(connection):
                parameters = {"owner": owner, "due_before": due_before, "limit": limit, "now": self._clock()}
                claimed: list[Row] = orjson.loads(fetch(connection, _CLAIMABLE_TIMERS, parameters)[0][0])
                taken = [row[:2] for row in claimed if row[-1] != owner]
                if taken:
                    connection.execute(
                        _CLAIM_TIMERS, {"owner": owner, "timers": orjson.dumps(taken).decode()}
                    )
            return [[*row[:-1], owner] for row in claimed]

        rows = await self._write(claim)
        timers: list[TimerRow] = []
        for start in range(0, len(rows), ROWS_PER_TURN_MAX):
            timers += map(_timer_of, rows[start : start + ROWS_PER_TURN_MAX])
            await asyncio.sleep(0)
        return timers

    async def get_timer(self, instance_id: str, revision: int) -> TimerRow | None:
        found = await self._read(_GET_TIMER, {"instance_id": instance_id, "revision": revision})
        return _timer_of(orjson.loads(found[0][0])) if found else None

    async def list_timers(
        self, instance_id: str, *, limit: int, after: TimerCursor | None = None
    ) -> Sequence[TimerRow]:
        at = after or TimerCursor(INT64_MIN, "", 0)
        parameters = {
            "limit": limit,
            "after_due_at": at.due_at,
            "after_instance_id": at.instance_id,
            "after_revision": at.revision,
        }
        if instance_id:
            return [
                _timer_of(row)
                for row in await self._array(_LIST_TIMERS_OF, parameters | {"instance_id": instance_id})
            ]
        return [_timer_of(row) for row in await self._array(_LIST_TIMERS, parameters)]

    async def next_timer_due_at(self) -> int | None:
        due_at: int | None = (await self._read(_NEXT_TIMER_DUE_AT, {}))[0][0]
        return due_at

    # --- tasks -----------------------------------------------------------------------------------------------

    async def claimable_tasks(self, *, code: Code, limit: int) -> Sequence[TaskRow]:
        steps = [
            {"workflow": workflow, "version": version, "step_refs": orjson.dumps(sorted(refs)).decode()}
            for (workflow, version), refs in code.items()
        ]

        def read(connection: apsw.Connection) -> list[Row]:
            found: list[Row] = []
            for owner in orjson.loads(fetch(connection, _FREE_OWNERS, {"now": self._clock()})[0][0]):
                for of in steps:
                    parameters = of | {"owner": owner, "limit": limit}
                    found += orjson.loads(fetch(connection, _TASKS_OF, parameters)[0][0])
            return sorted(found)[:limit]

        return [_task_of(row) for row in await self._run(read)]

    async def owned_tasks(self, owner: str) -> Sequence[TaskRow]:
        return [_task_of(row) for row in await self._array(_OWNED_TASKS, {"owner": owner})]

    # --- crash loops -----------------------------------------------------------------------------------------

    async def crash_report(self) -> CrashReport:
        return await self._run(crashes.report)

    async def mark_solo(self, instance_id: str, step_ref: str, attempt: int, *, alone: bool) -> None:
        def mark(connection: apsw.Connection) -> None:
            with transaction(connection):
                crashes.mark_solo(connection, instance_id, step_ref, attempt, alone=alone)

        await self._write(mark)

    async def clear_suspects(self, steps: Collection[StepKey] | None = None) -> None:
        def clear(connection: apsw.Connection) -> None:
            with transaction(connection):
                crashes.clear_suspects(connection, steps)

        await self._write(clear)

    # --- definitions -----------------------------------------------------------------------------------------

    async def put_definition(self, definition: StoredDefinition) -> DefinitionOutcome:
        name = {"workflow": definition.workflow, "version": definition.version}

        def put(connection: apsw.Connection) -> DefinitionOutcome:
            with transaction(connection):
                found = fetch(connection, _GET_DEFINITION, name)
                if found:
                    if orjson.loads(found[0][0])[2] == definition.digest:
                        return DefinitionOutcome.UNCHANGED
                    if fetch(connection, _DEFINITION_IN_USE, name):
                        return DefinitionOutcome.IN_USE
                connection.execute(
                    _WRITE_DEFINITION,
                    name
                    | {
                        "digest": definition.digest,
                        "graph": definition.graph_json,
                        "created_at": definition.created_at,
                    },
                )
                self._count_commit(connection)
            return DefinitionOutcome.REPLACED if found else DefinitionOutcome.STORED

        return await self._write(put)

    async def get_definition(self, workflow: str, version: int) -> StoredDefinition | None:
        if version:
            found = await self._read(_GET_DEFINITION, {"workflow": workflow, "version": version})
        else:
            found = await self._read(_NEWEST_DEFINITION, {"workflow": workflow})
        return StoredDefinition(*orjson.loads(found[0][0])) if found else None

    async def list_definitions(
        self, *, limit: int, after: tuple[str, int] | None = None
    ) -> Sequence[DefinitionSummary]:
        workflow, version = after or ("", 0)
        parameters = {"after_workflow": workflow, "after_version": version, "limit": limit}
        # SQLite parses each graph to count its steps, so this is not for the threads that answer single reads.
        found = await self._list(lambda connection: fetch(connection, _LIST_DEFINITIONS, parameters))
        return [DefinitionSummary(*row) for row in orjson.loads(found[0][0])]

    # --- replicas --------------------------------------------------------------------------------------------

    async def register_replica(self, replica_id: str, *, lease_ms: int) -> None:
        def register(connection: apsw.Connection) -> None:
            with transaction(connection):
                now = self._clock()
                connection.execute(_FORGET_REPLICAS, {"now": now})
                connection.execute(
                    _REGISTER_REPLICA, {"replica_id": replica_id, "lease_until": now + lease_ms}
                )

        await self._write(register)

    async def heartbeat(self, replica_id: str, *, lease_ms: int) -> bool:
        def beat(connection: apsw.Connection) -> bool:
            with transaction(connection):
                now = self._clock()
                connection.execute(
                    _HEARTBEAT, {"replica_id": replica_id, "lease_until": now + lease_ms, "now": now}
                )
                return connection.changes() == 1

        return await self._write(beat)

    async def end_replica(self, replica_id: str) -> None:
        def end(connection: apsw.Connection) -> None:
            with transaction(connection):
                connection.execute(_END_REPLICA, {"replica_id": replica_id})
                crashes.stop_cleanly(connection)

        await self._write(end)

    # --- to the threads --------------------------------------------------------------------------------------

    async def _write(self, work: Callable[[apsw.Connection], T]) -> T:
        if self._writer is None:
            raise StoreUnavailableError("the store is closed")
        files = self._files
        if files is None:
            return await self._writer.submit(work)

        def run(connection: apsw.Connection) -> T:
            files.check_writable(connection)
            try:
                result = work(connection)
            except BaseException:
                files.forget_pending()
                # A failure can be the first sign of a closed descriptor. The log then says what to do.
                files.is_sound(connection)
                raise
            files.confirm(connection)
            return result

        return await self._writer.submit(run)

    def _count_commit(self, connection: apsw.Connection) -> None:
        if self._files is not None:
            self._files.advance(connection)

    async def _list(self, work: Callable[[apsw.Connection], T]) -> T:
        if self._lister is None:
            raise StoreUnavailableError("the store is closed")
        return await self._lister.submit(work)

    def _submit_read(self, work: Callable[[apsw.Connection], T]) -> asyncio.Future[T]:
        if self._readers is None:
            raise StoreUnavailableError("the store is closed")
        return self._readers.submit(work)

    async def _run(self, work: Callable[[apsw.Connection], T]) -> T:
        return await self._submit_read(work)

    async def _read(self, sql: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return await self._run(lambda connection: fetch(connection, sql, parameters))

    async def _array(self, sql: str, parameters: Mapping[str, Any]) -> list[Any]:
        found: list[Any] = orjson.loads((await self._read(sql, parameters))[0][0])
        return found

    # --- the log ---------------------------------------------------------------------------------------------

    def _after_write(self, connection: apsw.Connection) -> None:
        self._pages_written = connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)[0]
        if self._pages_written - self._pages_copied >= WAL_PAGES_MAX:
            self._copy_log(connection)

    def _copy_log(self, connection: apsw.Connection) -> None:
        """Copy the log into the database, so that the next commit starts it anew.

        This is the writer's work because only between its commits the whole log can be copied. A reader that a
        foreign tool keeps open for long stops it; then the log grows until that one ends, and nothing else happens.
        """
        if self._pages_written == self._pages_copied:
            return
        files = self._files
        if files is not None and not files.is_sound(connection):
            return
        self._pages_copied = self._pages_written
        try:
            frames, copied = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            log.warning("the log could not be copied into the database: %s", error)
            return
        finally:
            if files is not None:
                files.main_file_written()
        # A log whose pages were written to another file must stay, so the next commit must not begin it again.
        if files is not None and files.is_sound(connection) and frames == copied >= 0:
            files.log_copied()


def _instance_of(state: str, bodies: str | None) -> StoredInstance:
    assert bodies is not None
    return StoredInstance(decode_state(state), dict(orjson.loads(bodies)))


def _timer_of(row: Row) -> TimerRow:
    instance_id, revision, kind, step_ref, due_at, delay_ms, requested, owner = row
    return TimerRow(
        instance_id, Timer(revision, timer_kind(kind), step_ref, due_at, delay_ms, bool(requested)), owner
    )


def _task_of(row: Row) -> TaskRow:
    _, instance_id, step_ref, workflow, version, attempt, owner = row
    return TaskRow(instance_id, step_ref, workflow, version, attempt, owner)
