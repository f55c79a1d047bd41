"""Power cuts at random moments under load: all acknowledged data is present, and the file always opens.

``PERDURE_POWER_CUTS`` sets the number of cuts (default: 40), ``PERDURE_POWER_SEED`` the first seed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import apsw
import pytest

from chaos.checks_history import check_histories
from chaos.database import Database, read_database
from chaos.ledger import Recording
from chaos.walk import walks_of
from e2e.faults.power import Disk
from perdure import Context, Outcome, Workflow, step, wait_for
from perdure_server.core import Core
from perdure_server.engine.commands import payload
from perdure_server.engine.rejections import Rejection
from perdure_server.runtime.dispatch import dispatcher
from perdure_server.runtime.operations import Operations
from perdure_server.store.protocol import RequestKey, StoreError
from perdure_server.store.sqlite import SqliteStore
from perdure_server.store.sqlite import database as database_module

CUTS: Final = int(os.environ.get("PERDURE_POWER_CUTS", "40"))
FIRST_SEED: Final = int(os.environ.get("PERDURE_POWER_SEED", "1"))
CUTS_PER_TEST: Final = 20

CALLERS: Final = 8
OPERATIONS_MAX: Final = 5_000
"""The power goes within so many writes and syncs of the load: within half a second."""

PLANTED_CUTS: Final = 3
"""Cuts of a store that does not sync. Each of them loses an acknowledged effect, and the test must report each."""

_numbers = itertools.count()


class Loaded(Workflow, name="loaded", version=1):
    """A step, a wait, a step: tasks, timers, events and payloads."""

    start = "begin"

    @step(on={"begun": "middle"})
    async def begin(self, ctx: Context) -> Outcome:
        return Outcome("begun", echo=ctx.input)

    middle = wait_for("on", "off", timeout="1h", on={"on": "last", "off": "end", "timeout": "end"})

    @step(on={"done": "end"})
    async def last(self, ctx: Context) -> Outcome:
        return Outcome("done", echo=ctx.steps["middle"])


@dataclass(frozen=True)
class Answer:
    """Response to a caller: the revision of the instance at which its call took effect."""

    rpc: str
    instance_id: str
    request_id: str
    revision: int
    body: str = ""


@dataclass
class Load:
    """Callers that start, schedule, resume and cancel, and the answers that they had when the power went."""

    runtime: Operations
    chance: random.Random
    answers: list[Answer] = field(default_factory=list)
    acknowledged: list[Answer] = field(default_factory=list)
    answers_synced: int = 0
    """Number of responses at the last sync."""

    def synced(self) -> None:
        self.answers_synced = len(self.answers)

    def has_unsynced(self) -> bool:
        """Return True if at least one acknowledged effect was committed after the last sync.

        Each caller has at most one call in flight, so a sync covers at most one later response per caller.
        """
        return len(self.answers) > self.answers_synced + CALLERS

    def power_goes(self) -> None:
        # The writing thread calls this, so all responses so far were sent before this write.
        self.acknowledged = list(self.answers)

    async def run(self) -> None:
        await asyncio.gather(*(self._caller(number) for number in range(CALLERS)))

    async def _caller(self, number: int) -> None:
        for count in itertools.count():
            try:
                await self._instance(f"c{number}-{count}")
            except Rejection:
                continue
            except StoreError:
                return

    async def _instance(self, name: str) -> None:
        runtime, chance = self.runtime, self.chance
        body = json.dumps({"name": name, "text": "x" * chance.choice([10, 100, 1_000, 30_000])})
        key = name if chance.random() < 0.5 else ""
        started = await runtime.start_instance(
            workflow="loaded",
            context=payload(body),
            instance_id=name,
            request_id=name,
            business_key=key,
            labels={"name": name},
        )
        # StartInstance's request ids are of no instance.
        self.answers.append(Answer("StartInstance", name, name, started.revision, body))
        if chance.random() < 0.5:
            scheduled = await runtime.schedule_resume(
                name, step_ref="middle", delay_ms=3_600_000, request_id="s"
            )
            self.answers.append(Answer("ScheduleResume", name, "s", scheduled.revision))
        if chance.random() < 0.8:
            resumed = await runtime.resume(
                name, event="on", payload=payload(body), buffer=True, request_id="r"
            )
            self.answers.append(Answer("Resume", name, "r", resumed.revision, body))
        if chance.random() < 0.2:
            cancelled = await runtime.cancel_instance(name, request_id="c")
            self.answers.append(Answer("CancelInstance", name, "c", cancelled.revision))


async def cut_power(
    seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch, *, loses_unsynced: bool = False
) -> list[str]:
    """Run a load, cut its power, start again on the files that are left, and return every violation.

    With ``loses_unsynced``, the power goes after an acknowledged effect that no sync has covered, and every unsynced
    write is lost.
    """
    chance = random.Random(seed)
    before, after = folder / f"{seed}-before", folder / f"{seed}-after"
    before.mkdir()
    after.mkdir()
    # Small enough that the log is copied into the database and restarted many times in each round.
    # With ``loses_unsynced`` it is copied rarely: each copy syncs, and only what follows a sync can be lost.
    monkeypatch.setattr(
        database_module, "WAL_PAGES_MAX", 4_000 if loses_unsynced else chance.choice([10, 50, 4_000])
    )
    monkeypatch.setattr(
        database_module, "WAL_IDLE_SECONDS", 0.5 if loses_unsynced else chance.choice([0.005, 0.5])
    )
    # A drain gives results some time to be stored, which these have no use for.
    monkeypatch.setattr(dispatcher, "RELEASE_SECONDS_MAX", 0.0)
    load: Load | None = None

    def on_cut() -> None:
        if load is not None:
            load.power_goes()

    def on_sync() -> None:
        if load is not None:
            load.synced()

    disk = Disk(
        f"disk-{next(_numbers)}",
        on_cut=on_cut,
        on_sync=on_sync,
        can_cut=lambda: not loses_unsynced or (load is not None and load.has_unsynced()),
    )
    monkeypatch.setattr(database_module, "sync_directory", lambda _path: disk.names_synced())
    core = Core(SqliteStore(str(before / "p.db"), vfs=disk.name), [Loaded])
    await core.start()
    load = Load(core.operations, chance)
    disk.cut_after = disk.operations + int(OPERATIONS_MAX * chance.random() ** 2)
    async with asyncio.timeout(240):
        await load.run()
    assert disk.is_cut
    await core.stop(0)
    disk.unregister()
    disk.leave(after, chance, share=0.0 if loses_unsynced else None)
    if not loses_unsynced:
        # The record of the last acknowledged commit, as new as the kernel had it: the file must not be older.
        shutil.copy(before / "p.db.lock", after / "p.db.lock")

    reopened = SqliteStore(str(after / "p.db"))
    await reopened.open()
    await reopened.close()
    return list(_wrong(read_database(after / "p.db"), load.acknowledged))


def _wrong(database: Database, acknowledged: list[Answer]) -> Iterator[str]:
    recording = Recording(sends=(), watches=(), steps=(), database=database, quiet=True, ended_ms=0)
    yield from map(str, check_histories(recording, walks_of(recording)))
    for answer in acknowledged:
        history = database.histories.get(answer.instance_id, ())
        entry = history[answer.revision - 1] if len(history) >= answer.revision else None
        if entry is None or entry.request_id != answer.request_id:
            yield f"lost: {answer}, there is {entry}"
        elif answer.body and database.payloads[answer.instance_id].get(answer.revision) != answer.body:
            yield f"lost its payload: {answer}"
        scope = "" if answer.rpc == "StartInstance" else answer.instance_id
        if RequestKey(answer.rpc, scope, answer.request_id) not in database.requests:
            yield f"forgot its request id: {answer}"


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.parametrize("first_seed", range(FIRST_SEED, FIRST_SEED + CUTS, CUTS_PER_TEST))
async def test_no_acknowledged_effect_is_lost_with_the_power(
    first_seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(first_seed, min(first_seed + CUTS_PER_TEST, FIRST_SEED + CUTS)):
        wrong = await cut_power(seed, tmp_path, monkeypatch)
        assert not wrong, f"PERDURE_POWER_SEED={seed} PERDURE_POWER_CUTS=1: {wrong[:5]}"


@pytest.mark.slow
@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
async def test_a_store_that_does_not_sync_each_commit_is_caught(
    synchronous: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = database_module.connect_writer

    def connect(path: str, vfs: str | None = None) -> apsw.Connection:
        connection = real(path, vfs)
        connection.execute(f"PRAGMA synchronous = {synchronous}").fetchall()
        return connection

    monkeypatch.setattr(database_module, "connect_writer", connect)
    for seed in range(PLANTED_CUTS):
        try:
            wrong: Any = await cut_power(seed, tmp_path, monkeypatch, loses_unsynced=True)
        except (StoreError, apsw.Error) as damaged:
            wrong = damaged
        assert wrong, f"the cut with seed {seed} lost an acknowledged effect, and the test did not report it"
