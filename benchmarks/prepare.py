"""Databases with many instances, built by the engine and the store without a server.

Every row is the one that a server would write. Only the calls are missing.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence

import uuid_utils

from calls import CONTEXT_JSON
from flows import Parked
from perdure import graph_of
from perdure_server.engine import commands, decide
from perdure_server.engine.commands import payload
from perdure_server.engine.decide import Decision
from perdure_server.runtime.change_builder import change_of
from perdure_server.runtime.definitions import Definitions
from perdure_server.store.factory import open_store
from perdure_server.store.protocol import Committed, Store

BATCH = 256
INITIAL = payload(CONTEXT_JSON)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def park(path: str, due: Iterable[int]) -> list[str]:
    """Add an instance of `parked` for each due time, with a `timeout` timer for then; return their ids."""
    store = open_store(f"sqlite:///{path}")
    await store.open()
    try:
        await Definitions(store).register(graph_of(Parked))
        ids: list[str] = []
        rest = iter(due)
        while batch := list(itertools.islice(rest, BATCH)):
            ids += await _park(store, batch)
        return ids
    finally:
        await store.close()


async def _park(store: Store, due: Sequence[int]) -> list[str]:
    graph = graph_of(Parked)
    at = now_ms()
    started: list[Decision] = []
    scheduled: list[Decision] = []
    for due_at in due:
        start = commands.StartInstance(at=at, instance_id=str(uuid_utils.uuid7()), input=INITIAL)
        decision = decide.start(graph, start)
        assert isinstance(decision, Decision)
        started.append(decision)
        schedule = commands.ScheduleResume(at=at, step_ref="answer", delay_ms=due_at - at)
        timed = decide.decide(graph, decision.state, schedule)
        assert isinstance(timed, Decision)
        scheduled.append(timed)
    befores = [decision.state for decision in started]
    for changes in (
        [change_of(None, decision, assign_owner=_no_owner) for decision in started],
        [
            change_of(before, timed, assign_owner=_no_owner)
            for before, timed in zip(befores, scheduled, strict=True)
        ],
    ):
        outcomes = await store.commit(changes)
        assert all(isinstance(outcome, Committed) for outcome in outcomes)
    return [before.instance_id for before in befores]


def _no_owner(_due_at: int) -> str:
    return ""
