"""A thousand watchers, of which fifty never read. The others get every entry, and the server's memory stays bounded."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from pathlib import Path
from typing import Any, Final

import grpc.aio
import pytest

from e2e.faults.plain_app import TICKS
from e2e.faults.process import complaints, rss_bytes
from perdure.v1 import common_pb2
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner

APP: Final = Path(__file__).with_name("plain_app.py")

WATCHERS: Final = 1_000
STALLED: Final = 50
INSTANCES: Final = 100

WATCHES_PER_CONNECTION: Final = 95
"""A connection has at most 256 open calls."""

GROWTH_BYTES_MAX: Final = 400 << 20
"""Maximum growth in bytes: fifty unread snapshots of a megabyte, a few times over, and a thousand calls."""

WATCH: Final = "/perdure.v1.InstanceService/WatchInstance"

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


async def follow(stream: Any, ready: asyncio.Semaphore, latencies: list[float]) -> list[int]:
    """Read a watch to its end; return the revisions that it gave."""
    revisions = []
    async for body in stream:
        message = instances.WatchInstanceResponse.FromString(body)
        if message.HasField("snapshot"):
            revisions.append(message.snapshot.revision)
            ready.release()
        elif message.HasField("entry"):
            revisions.append(message.entry.revision)
            latencies.append(time.time() - message.entry.time.ToMilliseconds() / 1_000)
        elif message.HasField("end"):
            assert message.end.reason == instances.WATCH_END_REASON_INSTANCE_ENDED
            assert message.end.revision == revisions[-1]
    return revisions


async def test_watchers_that_never_read_cost_the_others_nothing(server_process: Any) -> None:
    server = server_process(APP, arguments=["--shutdown-timeout", "1s"])
    slow_options = [
        ("grpc.http2.lookahead_bytes", 65_536),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    latencies: list[float] = []
    async with contextlib.AsyncExitStack() as stack:
        channel, slow, *readers_channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(server.address, options=options))
            for options in (
                None,
                slow_options,
                *[[("grpc.use_local_subchannel_pool", 1)]] * (WATCHERS // WATCHES_PER_CONNECTION),
            )
        ]
        start = channel.unary_unary("/perdure.v1.RunnerService/StartInstance")
        resume = channel.unary_unary("/perdure.v1.RunnerService/Resume")
        large = common_pb2.Payload(json=json.dumps({"text": "x" * 1_000_000}))
        for name, context in [("large", large), *((f"i{n}", None) for n in range(INSTANCES))]:
            opts = runner.StartOptions(instance_id=name)
            request = runner.StartInstanceRequest(workflow="ticks", context=context, opts=opts)
            await start(request.SerializeToString(), timeout=60)

        def watch(via: grpc.aio.Channel, name: str) -> Any:
            body = instances.WatchInstanceRequest(instance_id=name).SerializeToString()
            return via.unary_stream(WATCH)(body, timeout=100)

        before = rss_bytes(server.pid)
        stalled = [watch(slow, "large") for _ in range(STALLED)]
        ready = asyncio.Semaphore(0)
        readers = [
            asyncio.create_task(follow(watch(via, f"i{n % INSTANCES}"), ready, latencies))
            for n, via in zip(range(WATCHERS - STALLED), itertools.cycle(readers_channels), strict=False)
        ]
        for _ in readers:
            await ready.acquire()

        for _ in range(TICKS):
            ticks = [runner.ResumeRequest(instance_id=f"i{n}", event="tick") for n in range(INSTANCES)]
            ticks.append(runner.ResumeRequest(instance_id="large", event="tick"))
            await asyncio.gather(*(resume(tick.SerializeToString(), timeout=60) for tick in ticks))

        followed = await asyncio.gather(*readers)
        after = rss_bytes(server.pid)
        for found in followed:
            assert found == list(range(found[0], found[0] + len(found)))
            assert len(found) == 1 + 2 * TICKS
        latencies.sort()
        p50, p99 = latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100]
        print(
            f"{len(latencies)} entries, p50 {p50:.3f} s, p99 {p99:.3f} s, {before >> 20} -> {after >> 20} MiB"
        )
        assert after - before < GROWTH_BYTES_MAX
        for stream in stalled:
            stream.cancel()
    assert await asyncio.to_thread(server.terminate) == 0
    assert complaints(server.log) == []
