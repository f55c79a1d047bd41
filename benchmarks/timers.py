"""Lateness of timers: 10,000 due evenly over one second, 10,000 due at one instant, and single ones.

Gates: no timer fires early, is lost, or fires twice. The timers are in the database before the server starts, so that
their due times are exact. 100,000 others are due in another month. Lateness is the time from the due time to the
commit: the benchmark reads the file every few milliseconds and matches the n-th removed row with the n-th due time. It
does not use the time in the history, which is taken before the commit.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import apsw
import grpc

from calls import Perdure, serve_command, server_process
from load import percentile
from perdure.v1 import runner_service_pb2
from prepare import now_ms, park

TIMERS: Final = 10_000
LONE_TIMERS: Final = 20
LONE_DELAY_MS: Final = 100
LOOK_SECONDS: Final = 0.005
START_MS: Final = 8_000
"""Time for a server to start and settle before the first timer is due, in milliseconds."""

BETWEEN_MS: Final = 8_000
"""The pause between the first timers and those of the one instant."""

LOST_SECONDS: Final = 60
"""After how long a timer that did not fire is given up."""

_LEFT: Final = "SELECT count(*) FROM timers WHERE namespace = '' AND due_at BETWEEN ? AND ?"
_FIRED: Final = "SELECT instance_id, at FROM history WHERE kind = 'timer_fired'"


async def measure_timers(base: Path, folder: Path, pending: int, prepare_seconds: float) -> dict[str, Any]:
    """Measure on a copy of ``base``, which holds ``pending`` timers and took so long to prepare."""
    path = folder / "timers.db"
    shutil.copyfile(base, path)
    # Twice what preparing them should take.
    lead_ms = START_MS + int(2_000 * prepare_seconds * 2 * TIMERS / pending)
    first = now_ms() + lead_ms
    instant = first + 1_000 + BETWEEN_MS
    evenly_due = [first + number * 1_000 // TIMERS for number in range(TIMERS)]
    at_once_due = [instant] * TIMERS
    evenly_ids = await park(str(path), evenly_due)
    at_once_ids = await park(str(path), at_once_due)
    async with server_process(*serve_command(path)) as server:
        if now_ms() > first - 1_000:
            raise RuntimeError("the timers were due before the server was ready: this machine is too busy")
        evenly = await asyncio.to_thread(look, path, evenly_due)
        at_once = await asyncio.to_thread(look, path, at_once_due)
        async with grpc.aio.insecure_channel(server.address) as channel:
            perdure = Perdure(channel)
            lone = [await lone_timer(perdure) for _ in range(LONE_TIMERS)]
    due = dict(zip(evenly_ids + at_once_ids, evenly_due + at_once_due, strict=True))
    return {
        "pending": pending,
        "evenly": {"timers": TIMERS, **figures(evenly)},
        "at_once": {"timers": TIMERS, **figures(at_once)},
        "lone": {"timers": LONE_TIMERS, **figures(lone)},
        "gates": gates(path, due),
    }


def figures(late_ms: Sequence[float]) -> dict[str, float]:
    return {
        "late_ms_p50": percentile(late_ms, 0.5),
        "late_ms_p99": percentile(late_ms, 0.99),
        "late_ms_max": max(late_ms),
    }


def look(path: Path, due: Sequence[int]) -> list[float]:
    """Watch timers go, until none is left or no more can be expected; return how late each commit was."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(1_000)
    late: list[float] = []
    try:
        while len(late) < len(due) and now_ms() < due[-1] + LOST_SECONDS * 1_000:
            time.sleep(LOOK_SECONDS)
            [(left,)] = connection.execute(_LEFT, (due[0], due[-1])).fetchall()
            seen = now_ms()
            late += (seen - due[number] for number in range(len(late), len(due) - left))
    finally:
        connection.close()
    return late or [float("inf")]


async def lone_timer(perdure: Perdure) -> float:
    """Arm one timer and return its lateness for a watcher, which includes the commit and the delivery."""
    instance_id = await perdure.start("parked")
    request = runner_service_pb2.ScheduleResumeRequest(
        instance_id=instance_id, step_ref="answer", delay_ms=LONE_DELAY_MS
    )
    body = await perdure.schedule_resume_raw(request.SerializeToString())
    answer = runner_service_pb2.ScheduleResumeResponse.FromString(body)
    due = answer.due_time.ToNanoseconds() / 1e6
    async for message in perdure.watch(instance_id, answer.revision):
        if message.HasField("entry") and message.entry.HasField("timer_fired"):
            return time.time_ns() / 1e6 - due
    raise RuntimeError("the lone timer did not fire")


def gates(path: Path, due: dict[str, int]) -> dict[str, int]:
    """Count in the histories what must be zero."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    fired = [(due[name], at) for name, at in connection.execute(_FIRED) if name in due]
    names = {name for (name, _) in connection.execute(_FIRED) if name in due}
    connection.close()
    return {
        "early": sum(at < due_at for due_at, at in fired),
        "lost": len(due) - len(names),
        "twice": len(fired) - len(names),
    }
