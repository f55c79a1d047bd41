"""Number of durable changes per second in the store with group commit, and a profile of the time.

    python benchmarks/store.py [--seconds 3] [--submitters 64] [--memory] [--profile]

Each submitter creates an instance and then changes it one entry at a time, ten entries an instance, and waits for each
result. Prints one JSON object. The reference is the cost of a batch without threads and without an event loop.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time

import uuid_utils

from perdure_server.engine.commands import payload
from perdure_server.engine.facts import Entry, InstanceStarted, StepFinished
from perdure_server.engine.state import Finished, InstanceState, PayloadRef, State, Waiting
from perdure_server.store.group_commit import GroupCommitter
from perdure_server.store.protocol import Change, Committed, Store, StoredDefinition
from perdure_server.store.sqlite import SqliteStore

ENTRIES = 10
OUTPUT = '{"item_count":3,"reference":"0123456789abcdef"}'
INFO = payload(OUTPUT).info
FIRST = InstanceStarted(workflow="order", version=1, definition_digest="d", start_step="validate", input=INFO)
FACT = StepFinished(step_ref="charge", event="charged", targets=("approval",), output=INFO)


def steps(revision: int) -> dict[str, Finished | Waiting]:
    ended = {
        f"step_{number}": Finished(number, number + 1, "charged", PayloadRef(number, INFO))
        for number in range(min(revision, 6))
    }
    return {**ended, "approval": Waiting(revision, ("approved", "rejected"))}


STEPS = [steps(revision) for revision in range(ENTRIES + 1)]


def next_change(before: State | None) -> Change:
    if before is None or before.revision == ENTRIES:
        state = State(
            instance_id=str(uuid_utils.uuid7()),
            workflow="order",
            version=1,
            definition_digest="d",
            start_step="validate",
            input=INFO,
            business_key="",
            labels={},
            status=InstanceState.WAITING,
            revision=1,
            created_at=int(time.time() * 1000),
            updated_at=int(time.time() * 1000),
            steps=STEPS[1],
        )
    else:
        revision = before.revision + 1
        state = dataclasses.replace(before, revision=revision, steps=STEPS[revision])
    return Change(
        state=state,
        expected_revision=state.revision - 1,
        entries=(Entry(state.revision, state.updated_at, FIRST if state.revision == 1 else FACT),),
        payloads={state.revision: OUTPUT},
    )


async def submitter(committer: GroupCommitter, until: float, latencies: list[float]) -> None:
    state: State | None = None
    while (began := time.perf_counter()) < until:
        change = next_change(state)
        outcome = await committer.submit(change)
        assert isinstance(outcome, Committed)
        latencies.append(time.perf_counter() - began)
        state = change.state


async def measure(store: Store, seconds: float, submitters: int) -> dict[str, float]:
    await store.open()
    await store.put_definition(StoredDefinition("order", 1, "d", "{}", 0))
    committer = GroupCommitter(store)
    latencies: list[float] = []
    began, cpu = time.perf_counter(), time.process_time()
    until = began + seconds
    await asyncio.gather(*(submitter(committer, until, latencies) for _ in range(submitters)))
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    await committer.close()
    await store.close()
    latencies.sort()
    return {
        "changes": len(latencies),
        "changes_per_second": round(len(latencies) / took),
        "cpu_us_per_change": round(cpu / len(latencies) * 1e6, 1),
        "latency_ms_p50": round(statistics.median(latencies) * 1e3, 2),
        "latency_ms_p99": round(latencies[int(len(latencies) * 0.99)] * 1e3, 2),
        "latency_ms_max": round(latencies[-1] * 1e3, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--submitters", type=int, default=64)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--profile", action="store_true", help="where the loop's side spends its time")
    parser.add_argument("--switch-us", type=float, default=5_000, help="the interpreter's switch interval")
    arguments = parser.parse_args()
    sys.setswitchinterval(arguments.switch_us / 1e6)
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "perdure.db")
        store = SqliteStore(None if arguments.memory else path)
        profile = cProfile.Profile()
        if arguments.profile:
            profile.enable()
        found = asyncio.run(measure(store, arguments.seconds, arguments.submitters))
        profile.disable()
        if not arguments.memory:
            found["bytes_per_change"] = round(os.path.getsize(path) / found["changes"])
    if arguments.profile:
        profile.print_stats("tottime")
    print(json.dumps({"benchmark": "store", "submitters": arguments.submitters, **found}))


if __name__ == "__main__":
    main()
