"""One chaos round: a server under load, `kill -9` during the load, a quiet time, and the recording of all of it.

Owns: the course of a round. Must not: choose calls (`load`) or judge results (`checker`).

The course of a round is measured in answered calls and not in seconds, so that a busy machine makes a round longer but
never weaker.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from grpc import aio

from chaos import ledger
from chaos.database import read_database
from chaos.ledger import Ledger, Recording
from chaos.load import Client, Shared
from chaos.projection import ms_of
from chaos.step_ledger import STEPS_VARIABLE
from chaos.watchers import Watcher
from chaos.wire import Link, Wire
from perdure.v1 import instance_service_pb2, timer_service_pb2
from perdure.v1.instance_service_pb2_grpc import InstanceServiceStub
from perdure.v1.timer_service_pb2_grpc import TimerServiceStub
from support.server_process import ServerProcess

HERE: Final = Path(__file__).resolve().parent
FLOWS_APP: Final = HERE / "flows.py"

HORIZON_MS: Final = 60_000
"""Timers due within it are waited for; the flows have shorter ones and much longer ones only."""

TERMINATED_SHARE: Final = 0.2
"""Ends of a server that are a SIGTERM instead of a `kill -9`: it drains, under load."""

KILLED_AT_START_SHARE: Final = 0.15
"""Starts after an end that are killed as well."""

POLL_SECONDS: Final = 0.05
ANSWER_SECONDS_MAX: Final = 60.0
"""Deadline of the calls that a round makes to observe the server. A guard against hanging, not an expectation."""

SAMPLE: Final = 12
"""Number of instances that are read and watched from their first entry once the server is idle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Parameters of one round.

    The load continues until ``calls`` calls have succeeded and ``unavailable`` calls have failed with UNAVAILABLE.
    ``rest_seconds_max`` is the time without progress, in seconds, after which the server counts as stuck.
    """

    seed: int
    calls: int = 500
    unavailable: int = 0
    kills: int = 2
    clients: int = 6
    watchers: int = 4
    rest_seconds_max: float = 25.0
    app: Path = FLOWS_APP
    environment: Mapping[str, str] = field(default_factory=dict)


async def run_round(
    plan: Plan, folder: Path, *, faults: Callable[[], Awaitable[None]] | None = None
) -> Recording:
    """Run a round with all its files in ``folder`` and return its recording.

    ``faults`` runs during the load and is cancelled at the end of the load.
    """
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
        await _load(plan, server, link, clients, faults)
        quiet = await _rest(link, watchers, plan.rest_seconds_max)
        await _look(Wire("sweep", link, sends), shared)
        quiet = quiet and await _caught_up(link, watchers, plan.rest_seconds_max)
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


async def _load(
    plan: Plan,
    server: ServerProcess,
    link: Link,
    clients: Sequence[Client],
    faults: Callable[[], Awaitable[None]] | None,
) -> None:
    """Let the clients call, and kill the server at moments that the clients do not know."""
    chance = random.Random(plan.seed)
    # The seed decides after how many answered calls the server is killed. It is killed at the end of the load as well.
    cuts = sorted(int(chance.uniform(0.1, 1.0) * plan.calls) for _ in range(plan.kills))
    stop = asyncio.Event()
    calling = [asyncio.create_task(client.run(stop)) for client in clients]
    failing = asyncio.ensure_future(faults()) if faults is not None else None
    for cut in cuts:
        await link.until(succeeded=cut)
        await _restart(server, link, chance)
    await link.until(succeeded=plan.calls, unavailable=plan.unavailable)
    if failing is not None:
        failing.cancel()
        await asyncio.wait([failing])
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
            timer_service_pb2.ListTimersRequest(page_size=1), timeout=ANSWER_SECONDS_MAX
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


async def _caught_up(link: Link, watchers: Sequence[Watcher], seconds_max: float) -> bool:
    """Return once every watcher has the newest entry of its instance, or once no watcher makes progress any more."""
    channel = await link.channel()
    revisions = await _revisions(channel)
    positions: tuple[int, ...] = ()
    changed_at = time.monotonic()
    while time.monotonic() - changed_at < seconds_max:
        if all(not w.instance_id or w.position >= revisions.get(w.instance_id, 0) for w in watchers):
            break
        seen = tuple(watcher.position for watcher in watchers)
        if seen != positions:
            positions, changed_at = seen, time.monotonic()
        await asyncio.sleep(POLL_SECONDS)
    # The checker reports a watcher that fell short.
    return True


async def _revisions(channel: aio.Channel, *states: int) -> dict[str, int]:
    """Return the revision of each instance in one of these states."""
    request = instance_service_pb2.ListInstancesRequest(
        page_size=1_000,
        states=states,  # type: ignore[arg-type]  # the stubs know enums by class only
    )
    answer = await InstanceServiceStub(channel).ListInstances(request, timeout=ANSWER_SECONDS_MAX)
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
            event = json.loads(line)
            # A server on a busy machine is rightly not ready for a while.
            level = "" if event.get("message") == "not ready" else str(event.get("level", "")).lower()
        except (ValueError, AttributeError):
            # Output that is not a log line is an error.
            level = "error" if line.strip() else ""
        if level in ("error", "critical"):
            found.append(line[:1_000])
    return tuple(found)
