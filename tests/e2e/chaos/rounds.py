"""A round: a server, load on it, `kill -9` in the middle of that, rest, and the recording of all of it.

What lives here: the course of a round. What may not: the choice of calls (`load`) and any judgement (`checker`).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from grpc import aio

from e2e.chaos import ledger
from e2e.chaos.database import read_database
from e2e.chaos.ledger import Ledger, Recording
from e2e.chaos.load import Client, Shared
from e2e.chaos.projection import ms_of
from e2e.chaos.step_ledger import STEPS_VARIABLE
from e2e.chaos.watchers import Watcher
from e2e.chaos.wire import Link, Wire
from e2e.server_process import ServerProcess
from perdure.v1 import instance_service_pb2, timer_service_pb2
from perdure.v1.instance_service_pb2_grpc import InstanceServiceStub
from perdure.v1.timer_service_pb2_grpc import TimerServiceStub

HERE: Final = Path(__file__).resolve().parent
FLOWS_APP: Final = HERE / "flows.py"

HORIZON_MS: Final = 60_000
"""Timers due within it are waited for; the flows have shorter ones and much longer ones only."""

TERMINATED_SHARE: Final = 0.2
"""Ends of a server that are a SIGTERM instead of a `kill -9`: it drains, under load."""

KILLED_AT_START_SHARE: Final = 0.15
"""Starts after an end that are killed as well."""

POLL_SECONDS: Final = 0.05
SAMPLE: Final = 12
"""How many instances are read and watched from their first entry on once all is at rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a round does. ``rest_seconds_max``: how long without any progress until it is said not to rest."""

    seed: int
    load_seconds: float = 1.5
    kills: int = 2
    clients: int = 6
    watchers: int = 4
    rest_seconds_max: float = 25.0
    app: Path = FLOWS_APP
    environment: Mapping[str, str] = field(default_factory=dict)


async def run_round(plan: Plan, folder: Path) -> Recording:
    """Run a round with all its files in ``folder`` and return what it left."""
    os.makedirs(folder, exist_ok=True)
    server = ServerProcess(
        plan.app,
        folder / "perdure.db",
        log=folder / "server.log",
        environment={STEPS_VARIABLE: str(folder / "steps.jsonl"), **plan.environment},
    )
    sends, watches = Ledger(folder / "calls.jsonl"), Ledger(folder / "watches.jsonl")
    link = Link()
    shared = Shared(plan.seed)
    clients = [Client(Wire(f"c{n}", link, sends), shared) for n in range(plan.clients)]
    watchers = [Watcher(f"w{n}", link, watches, shared) for n in range(plan.watchers)]
    following: list[asyncio.Task[None]] = []
    try:
        await asyncio.to_thread(server.start)
        link.connect(server.address)
        following = [asyncio.create_task(watcher.run()) for watcher in watchers]
        await _load(plan, server, link, clients)
        quiet = await _rest(link, watchers, plan.rest_seconds_max)
        await _look(Wire("sweep", link, sends), shared)
        quiet = quiet and await _caught_up(link, watchers)
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        await link.close()
        sends.close()
        watches.close()
        ended_ms = time.time_ns() // 1_000_000
        if server.running:
            await asyncio.to_thread(server.terminate)
    for task in following:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
    return read_recording(folder, quiet=quiet, ended_ms=ended_ms)


def read_recording(folder: Path, *, quiet: bool, ended_ms: int) -> Recording:
    """Read back what a round left in its folder."""
    return Recording(
        sends=ledger.read_sends(folder / "calls.jsonl"),
        watches=ledger.read_watches(folder / "watches.jsonl"),
        steps=ledger.read_steps(folder / "steps.jsonl"),
        database=read_database(folder / "perdure.db"),
        quiet=quiet,
        ended_ms=ended_ms,
        complaints=_complaints(folder / "server.log"),
    )


async def _load(plan: Plan, server: ServerProcess, link: Link, clients: Sequence[Client]) -> None:
    """Let the clients call, and kill the server at moments that they do not know."""
    chance = random.Random(plan.seed)
    # The time of load is divided at random; the server is killed at each cut and at the end of it.
    cuts = sorted(chance.uniform(0.1, 1.0) for _ in range(plan.kills))
    stop = asyncio.Event()
    calling = [asyncio.create_task(client.run(stop)) for client in clients]
    ran = 0.0
    for cut in cuts:
        await asyncio.sleep((cut - ran) * plan.load_seconds)
        ran = cut
        await _restart(server, link, chance)
    await asyncio.sleep((1.0 - ran) * plan.load_seconds)
    stop.set()
    await asyncio.gather(*calling)
    if plan.kills:
        await _restart(server, link, chance)
    await asyncio.gather(*(client.finish() for client in clients))


async def _restart(server: ServerProcess, link: Link, chance: random.Random) -> None:
    """End the server in the middle of whatever is under way, mostly without a word to anybody, and start it again."""
    politely = chance.random() < TERMINATED_SHARE
    os.kill(server.pid, signal.SIGTERM if politely else signal.SIGKILL)
    link.disconnect()
    await asyncio.to_thread(server.wait)
    if chance.random() < KILLED_AT_START_SHARE:
        # The recovery, too, may be cut short.
        await asyncio.to_thread(server.launch)
        await asyncio.sleep(chance.uniform(0.2, 0.9))
        await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    link.connect(server.address)


async def _rest(link: Link, watchers: Sequence[Watcher], seconds_max: float) -> bool:
    """Return True once nothing runs and nothing is due soon; False if nothing changes any more before that."""
    for watcher in watchers:
        watcher.resting = True
    channel = await link.channel()
    progress: tuple[int, ...] = ()
    changed_at = time.monotonic()
    while time.monotonic() - changed_at < seconds_max:
        running = await _revisions(channel, instance_service_pb2.INSTANCE_STATE_RUNNING)
        page = await TimerServiceStub(channel).ListTimers(
            timer_service_pb2.ListTimersRequest(page_size=1), timeout=10
        )
        now_ms = time.time_ns() // 1_000_000
        due = [ms_of(timer.due_time) for timer in page.timers if ms_of(timer.due_time) < now_ms + HORIZON_MS]
        if not running and not due:
            return True
        seen = (*sorted(running.values()), *due)
        if seen != progress:
            progress, changed_at = seen, time.monotonic()
        await asyncio.sleep(POLL_SECONDS)
    return False


async def _caught_up(link: Link, watchers: Sequence[Watcher], seconds_max: float = 5.0) -> bool:
    """Return once every watcher holds the newest entry of what it watches, or has had the time for it."""
    channel = await link.channel()
    ends_at = time.monotonic() + seconds_max
    revisions = await _revisions(channel)
    while time.monotonic() < ends_at:
        behind = [w for w in watchers if w.instance_id and w.position < revisions.get(w.instance_id, 0)]
        if not behind:
            break
        await asyncio.sleep(POLL_SECONDS)
    # That one fell short is for the checker to say.
    return True


async def _revisions(channel: aio.Channel, *states: int) -> dict[str, int]:
    """Return the revision of each instance in one of these states."""
    request = instance_service_pb2.ListInstancesRequest(
        page_size=1_000,
        states=states,  # type: ignore[arg-type]  # the stubs know enums by class only
    )
    answer = await InstanceServiceStub(channel).ListInstances(request, timeout=10)
    return {shown.instance_id: shown.revision for shown in answer.instances}


async def _look(wire: Wire, shared: Shared) -> None:
    """Read some instances as they are at rest."""
    chance = random.Random(shared.seed)
    for instance_id, _ in chance.sample(shared.instances, min(SAMPLE, len(shared.instances))):
        await wire.call("GetInstance", {}, instance_id=instance_id)
        fields = {"after_revision": 0, "page_size": chance.choice((3, 0))}
        await wire.call("ListHistory", fields, instance_id=instance_id)


def _complaints(log: Path) -> tuple[str, ...]:
    """Return the log's errors."""
    found: list[str] = []
    for line in log.read_text(errors="replace").splitlines():
        try:
            level = str(json.loads(line).get("level", "")).lower()
        except (ValueError, AttributeError):
            # Whatever is no log line was not meant to be printed.
            level = "error" if line.strip() else ""
        if level in ("error", "critical"):
            found.append(line[:1_000])
    return tuple(found)
