"""`SqliteStore`: the `Store` protocol on one SQLite file, for one server process.

Owns: the protocol's methods, as statements on the connections of `Database`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeVar

import apsw
import orjson

from perdure_server.engine.facts import Entry
from perdure_server.engine.state import State, Timer
from perdure_server.store.codec import decode_fact, decode_state, timer_kind
from perdure_server.store.protocol import (
    Backup,
    Change,
    Code,
    CommitResult,
    CrashReport,
    DefinitionResult,
    DefinitionSummary,
    InstanceCursor,
    InstanceFilter,
    InstancePage,
    InstanceSummary,
    InvalidChange,
    LiveDefinition,
    RequestKey,
    RequestRecord,
    StepKey,
    StoredDefinition,
    StoredInstance,
    TaskRow,
    TimerCursor,
    TimerRow,
)
from perdure_server.store.sqlite import crashes
from perdure_server.store.sqlite.backup import back_up
from perdure_server.store.sqlite.database import Database
from perdure_server.store.sqlite.errors import VALUE_ERRORS
from perdure_server.store.sqlite.list_query import SCAN_ROWS_MAX, fetch_page, list_query, summary_of
from perdure_server.store.sqlite.load_batcher import LoadBatcher
from perdure_server.store.sqlite.migrate import migrate
from perdure_server.store.sqlite.queries import fetch, one
from perdure_server.store.sqlite.row_encoding import encode
from perdure_server.store.sqlite.writer import commit_changes, transaction

INT64_MIN: Final = -(1 << 63)
"""Less than every time and every revision."""

LARGE_BYTES: Final = 32 << 10
LARGE_READS_MAX: Final = 4
"""Maximum number of instances read at once whose payloads are larger than `LARGE_BYTES` together. They can take
megabytes, and reading is faster than encoding the responses, so more of them would fill the memory."""

ROWS_PER_TURN_MAX: Final = 1_000
"""Maximum number of claimed timers that are decoded in one turn of the event loop, about three milliseconds."""

SUMMARIES_PER_TURN_MAX: Final = 200
"""Maximum number of summaries that are decoded in one turn of the event loop, about half a millisecond."""

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
    """Return this machine's time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class SqliteStore:
    """A store in the file ``path``, or in memory if it is None. A store in memory does not survive its process.

    ``clock`` returns milliseconds since the epoch. ``vfs`` names the SQLite file layer, for tests that make it fail.
    ``scan_rows_max`` is the maximum number of index rows that one page of a list examines.
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
        self._clock = clock or wall_clock_ms
        self._vfs = vfs
        self._scan_rows_max = scan_rows_max
        self._database = Database(path, prepare=_prepare, vfs=vfs)
        self._loads = LoadBatcher(self._database.read)
        self._large_reads = asyncio.Semaphore(LARGE_READS_MAX)

    def now_ms(self) -> int:
        return self._clock()

    async def open(self) -> None:
        await self._database.open()

    async def close(self) -> None:
        await self._database.close()

    def healthy(self) -> bool:
        return self._database.healthy()

    def rescue_directory(self) -> str | None:
        path = self._database.path
        return None if path is None or self.healthy() else os.path.dirname(path)

    async def ping(self) -> None:
        await self._read("SELECT 1", {})

        def take_lock(connection: apsw.Connection) -> None:
            with transaction(connection):
                pass

        await self._database.write(take_lock)

    async def back_up(self, directory: str, file_name: str) -> Backup:
        return await back_up(
            self._database.copier(),
            directory=directory,
            file_name=file_name,
            reserved=self._database.paths(),
            clock=self._clock,
            snapshot=self._database.path is not None,
            vfs=self._vfs,
        )

    # --- instances -------------------------------------------------------------------------------------------

    async def commit(self, changes: Sequence[Change]) -> Sequence[CommitResult | InvalidChange]:
        if not changes:
            return ()
        try:
            batch = encode(changes)
        except VALUE_ERRORS:
            batch = None
        return await self._database.write(
            lambda connection: commit_changes(
                connection, changes, batch, self._clock, self._database.count_commit
            )
        )

    async def load(self, instance_id: str) -> State | None:
        return await self._loads.load(instance_id)

    async def get_instance(self, instance_id: str) -> StoredInstance | None:
        found = await self._get_instance(instance_id, LARGE_BYTES)
        if found is not None and found[1] is None:
            async with self._large_reads:
                found = await self._get_instance(instance_id, sys.maxsize)
                # Decoded before the next one is read.
                return None if found is None else _instance_of(instance_id, *found)
        return None if found is None else _instance_of(instance_id, *found)

    async def _get_instance(self, instance_id: str, bytes_max: int) -> tuple[str, str | None] | None:
        found = await self._read(_GET_INSTANCE, {"instance_id": instance_id, "bytes_max": bytes_max})
        return (found[0][0], found[0][1]) if found else None

    async def list_instances(
        self, where: InstanceFilter, *, limit: int, after: InstanceCursor | None = None
    ) -> InstancePage:
        # One more than asked for shows that there are more.
        query = list_query(where, limit=limit + 1, after=after, scan_max=self._scan_rows_max)
        rows, position = await self._database.read_list(lambda connection: fetch_page(connection, query))
        found: list[InstanceSummary] = []
        for start in range(0, min(limit, len(rows)), SUMMARIES_PER_TURN_MAX):
            found += map(summary_of, rows[start : min(limit, start + SUMMARIES_PER_TURN_MAX)])
            await asyncio.sleep(0)
        if len(rows) > limit:
            position = InstanceCursor(found[-1].created_at, found[-1].instance_id)
        return InstancePage(found, position)

    async def live_definitions(self, *, limit: int) -> Sequence[LiveDefinition]:
        found = await self._database.read_list(
            lambda connection: fetch(connection, _LIVE_DEFINITIONS, {"limit": limit})
        )
        return [LiveDefinition(*row) for row in orjson.loads(found[0][0])]

    async def count_live(self, definition: LiveDefinition, *, count_max: int) -> int:
        parameters = {
            "workflow": definition.workflow,
            "version": definition.version,
            "count_max": count_max,
        }
        found = await self._database.read_list(lambda connection: fetch(connection, _COUNT_LIVE, parameters))
        count: int = found[0][0]
        return count

    async def history(self, instance_id: str, *, after_revision: int, limit: int) -> Sequence[Entry]:
        found = await self._array(
            _HISTORY, {"instance_id": instance_id, "after": after_revision, "limit": limit}
        )
        return [
            Entry(revision, at, decode_fact(kind, body, instance_id=instance_id, revision=revision), by)
            for revision, at, kind, body, by in found
        ]

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

        rows = await self._database.write(claim)
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

        return [_task_of(row) for row in await self._database.read(read)]

    async def owned_tasks(self, owner: str) -> Sequence[TaskRow]:
        return [_task_of(row) for row in await self._array(_OWNED_TASKS, {"owner": owner})]

    # --- crash loops -----------------------------------------------------------------------------------------

    async def crash_report(self) -> CrashReport:
        return await self._database.read(crashes.report)

    async def mark_solo(self, instance_id: str, step_ref: str, attempt: int, *, alone: bool) -> None:
        def mark(connection: apsw.Connection) -> None:
            with transaction(connection):
                crashes.mark_solo(connection, instance_id, step_ref, attempt, alone=alone)

        await self._database.write(mark)

    async def clear_suspects(self, steps: Collection[StepKey] | None = None) -> None:
        def clear(connection: apsw.Connection) -> None:
            with transaction(connection):
                crashes.clear_suspects(connection, steps)

        await self._database.write(clear)

    # --- definitions -----------------------------------------------------------------------------------------

    async def put_definition(self, definition: StoredDefinition) -> DefinitionResult:
        name = {"workflow": definition.workflow, "version": definition.version}

        def put(connection: apsw.Connection) -> DefinitionResult:
            with transaction(connection):
                found = fetch(connection, _GET_DEFINITION, name)
                if found:
                    if orjson.loads(found[0][0])[2] == definition.digest:
                        return DefinitionResult.UNCHANGED
                    if fetch(connection, _DEFINITION_IN_USE, name):
                        return DefinitionResult.IN_USE
                connection.execute(
                    _WRITE_DEFINITION,
                    name
                    | {
                        "digest": definition.digest,
                        "graph": definition.graph_json,
                        "created_at": definition.created_at,
                    },
                )
                self._database.count_commit(connection)
            return DefinitionResult.REPLACED if found else DefinitionResult.STORED

        return await self._database.write(put)

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
        found = await self._database.read_list(
            lambda connection: fetch(connection, _LIST_DEFINITIONS, parameters)
        )
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

        await self._database.write(register)

    async def heartbeat(self, replica_id: str, *, lease_ms: int) -> bool:
        def beat(connection: apsw.Connection) -> bool:
            with transaction(connection):
                now = self._clock()
                connection.execute(
                    _HEARTBEAT, {"replica_id": replica_id, "lease_until": now + lease_ms, "now": now}
                )
                return connection.changes() == 1

        return await self._database.write(beat)

    async def end_replica(self, replica_id: str) -> None:
        def end(connection: apsw.Connection) -> None:
            with transaction(connection):
                connection.execute(_END_REPLICA, {"replica_id": replica_id})
                crashes.stop_cleanly(connection)

        await self._database.write(end)

    # --- reads -----------------------------------------------------------------------------------------------

    async def _read(self, sql: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return await self._database.read(lambda connection: fetch(connection, sql, parameters))

    async def _array(self, sql: str, parameters: Mapping[str, Any]) -> list[Any]:
        found: list[Any] = orjson.loads((await self._read(sql, parameters))[0][0])
        return found


def _prepare(connection: apsw.Connection) -> None:
    migrate(connection)
    with transaction(connection):
        crashes.take_over(connection)


def _instance_of(instance_id: str, state: str, bodies: str | None) -> StoredInstance:
    assert bodies is not None
    return StoredInstance(decode_state(state, instance_id=instance_id), dict(orjson.loads(bodies)))


def _timer_of(row: Row) -> TimerRow:
    instance_id, revision, kind, step_ref, due_at, delay_ms, requested, owner = row
    return TimerRow(
        instance_id, Timer(revision, timer_kind(kind), step_ref, due_at, delay_ms, bool(requested)), owner
    )


def _task_of(row: Row) -> TaskRow:
    _, instance_id, step_ref, workflow, version, attempt, owner = row
    return TaskRow(instance_id, step_ref, workflow, version, attempt, owner)
