"""Overload: the server rejects the excess calls, completes all accepted calls soon, and then recovers."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import pytest

from chaos.database import read_database
from contract.runner_flows import FLOWS
from e2e.faults.process import complaints, rss_bytes
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner
from perdure_server.api.limits import Limits
from support.api_fixture import call_error, serving

APP: Final = Path(__file__).with_name("plain_app.py")
START: Final = "/perdure.v1.RunnerService/StartInstance"

NORMAL: Final = 64
"""As many callers as keep the server busy."""

TENFOLD: Final = 10 * NORMAL
HUNDREDFOLD: Final = 100 * NORMAL
ACCEPTED: Final = 1_500
"""Calls that the server accepts in each load."""

GROWTH_BYTES_MAX: Final = 250 << 20


@dataclass
class Load:
    """Callers that call again at once, unless the server asks for a pause and the caller is polite.

    A load ends after ``ACCEPTED`` accepted calls. An ``excessive`` load also waits for a rejected call.
    """

    channels: list[grpc.aio.Channel]
    polite: bool
    excessive: bool = False
    accepted: list[tuple[str, float]] = field(default_factory=list)
    """The instance, and after how many seconds the call was answered."""
    others: Counter[tuple[str, str]] = field(default_factory=Counter)
    without_pause: int = 0

    async def run(self, callers: int) -> None:
        await asyncio.gather(*(self._caller(number) for number in range(callers)))

    @property
    def is_over(self) -> bool:
        return len(self.accepted) >= ACCEPTED and (bool(self.others) or not self.excessive)

    async def _caller(self, number: int) -> None:
        call = self.channels[number % len(self.channels)].unary_unary(START)
        body = runner.StartInstanceRequest(workflow="waiting").SerializeToString()
        while not self.is_over:
            began = time.monotonic()
            try:
                answer = runner.StartInstanceResponse.FromString(await call(body, timeout=100))
            except grpc.aio.AioRpcError as error:
                found = call_error(error)
                self.others[found.what] += 1
                self.without_pause += found.reason == "OVERLOADED" and not found.retry_after_ms
                if self.polite:
                    await asyncio.sleep((found.retry_after_ms or 250) / 1_000 * random.uniform(1.0, 1.5))
            else:
                self.accepted.append((answer.instance_id, time.monotonic() - began))

    @property
    def p99_s(self) -> float:
        times = sorted(seconds for _, seconds in self.accepted)
        return times[len(times) * 99 // 100]

    def told(self) -> str:
        return f"{len(self.accepted)} accepted, p99 {self.p99_s:.3f} s, others {dict(self.others)}"


@pytest.mark.e2e
@pytest.mark.slow
async def test_an_overloaded_server_rejects_clearly_and_loses_nothing(
    server_process: Any, tmp_path: Path
) -> None:
    database = tmp_path / "overload.db"
    server = server_process(APP, database=database, arguments=["--shutdown-timeout", "2s"])
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(server.address, options=options) for _ in range(8)]
    loads = []
    before = rss_bytes(server.pid)
    for callers, polite in ((NORMAL, True), (TENFOLD, True), (HUNDREDFOLD, False), (NORMAL, True)):
        load = Load(channels, polite, excessive=callers == HUNDREDFOLD)
        await load.run(callers)
        loads.append(load)
        print(f"{callers} callers: {load.told()}, {rss_bytes(server.pid) >> 20} MiB")
    after = rss_bytes(server.pid)
    normal, _, _, again = loads
    for channel in channels:
        await channel.close()
    assert await asyncio.to_thread(server.terminate) == 0
    assert complaints(server.log) == []

    # gRPC's core drops calls with CANCELLED. The server rejects all others itself.
    may_be = {("RESOURCE_EXHAUSTED", "OVERLOADED"), ("CANCELLED", "")}
    for load in loads:
        assert set(load.others) <= may_be
        assert not load.without_pause
    assert not normal.others
    assert not again.others
    assert after - before < GROWTH_BYTES_MAX
    stored = read_database(database).instances.keys()
    assert {instance_id for load in loads for instance_id, _ in load.accepted} <= stored


async def test_calls_over_the_limit_are_rejected_at_once_with_a_retry_delay() -> None:
    async with serving(FLOWS, limits=Limits(calls_max=2)) as world:
        await world.start("approval", "here")
        go, reached = asyncio.Event(), asyncio.Semaphore(0)
        real = world.core.store.get_instance

        async def get_instance(instance_id: str) -> Any:
            reached.release()
            await go.wait()
            return await real(instance_id)

        world.core.store.get_instance = get_instance  # type: ignore[method-assign]
        request = instances.GetInstanceRequest(instance_id="here")
        held = [asyncio.create_task(world.call("GetInstance", request)) for _ in range(2)]
        for _ in held:
            await reached.acquire()

        refusal = await world.call("GetInstance", request)

        assert refusal.what == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert refusal.retry_after_ms == Limits().retry_after_ms
        go.set()
        assert all(answer.instance.instance_id == "here" for answer in await asyncio.gather(*held))
        assert (await world.call("GetInstance", request)).instance.instance_id == "here"
