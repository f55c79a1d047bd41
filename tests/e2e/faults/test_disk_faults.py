"""A full or broken disk under a running server: calls fail, no data is lost, and the server recovers without a restart.

The tests use the load and the checker of the chaos tests. Here the disk fails instead of the process.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2

from chaos.checker import judge
from chaos.rounds import Plan, run_round
from chaos.violations import Name
from e2e.faults.disk_app import FAULT_VARIABLE, FAULTS
from perdure.v1 import instance_service_pb2 as instances
from perdure.v1 import runner_service_pb2 as runner
from support.api_fixture import call_error

APP: Final = Path(__file__).with_name("disk_app.py")

ROUNDS: Final = int(os.environ.get("PERDURE_DISK_ROUNDS", "2"))
CALLS: Final = 500
CALLS_UNAVAILABLE: Final = 30
"""Calls that succeed, and calls that the failing disk makes fail, before the load of a round ends."""

FINDINGS_SHOWN_MAX: Final = 25

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def set_fault(fault: Path, name: str) -> None:
    # In one step: the server may look at any moment.
    new = fault.with_suffix(".new")
    new.write_text(name)
    new.replace(fault)


async def fail_now_and_then(fault: Path, chance: random.Random) -> None:
    """Let the disk fail for moments, some of which outlast a lease, until cancelled."""
    try:
        while True:
            set_fault(fault, chance.choice(list(FAULTS)))
            await asyncio.sleep(chance.choice([0.02, 0.1, 0.4, 1.3]))
            set_fault(fault, "")
            await asyncio.sleep(chance.choice([0.02, 0.1, 0.4]))
    finally:
        set_fault(fault, "")


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(1, ROUNDS + 1))
async def test_every_promise_holds_while_the_disk_fails_under_load(seed: int, tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    plan = Plan(
        seed=seed,
        kills=0,
        calls=CALLS,
        unavailable=CALLS_UNAVAILABLE,
        app=APP,
        environment={FAULT_VARIABLE: str(fault)},
    )
    folder = tmp_path / "round"
    recording = await run_round(plan, folder, faults=lambda: fail_now_and_then(fault, random.Random(seed)))
    violations = [
        violation
        for violation in judge(recording)
        # Here, a server that is not ready is expected, and it can give up work that arrives in the meantime.
        if violation.name is not Name.SERVER_COMPLAINED or "not ready" not in str(violation)
    ]
    shown = "\n".join(str(violation) for violation in violations[:FINDINGS_SHOWN_MAX])
    assert not violations, f"{len(violations)} violations\n{shown}\nfiles: {folder}"
    shutil.rmtree(folder)


class Client:
    """A caller of a real server, which says what came of each call."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(address)

    async def call(self, path: str, request: Any) -> tuple[str, str, int]:
        """Return the status, the reason, and after how many milliseconds to try again."""
        try:
            await self.channel.unary_unary(path)(request.SerializeToString(), timeout=60)
        except grpc.aio.AioRpcError as error:
            found = call_error(error)
            return (*found.what, found.retry_after_ms)
        return "OK", "", 0

    async def start(self, name: str) -> tuple[str, str, int]:
        request = runner.StartInstanceRequest(
            workflow="chaos_choice", opts=runner.StartOptions(instance_id=name, request_id=name)
        )
        return await self.call("/perdure.v1.RunnerService/StartInstance", request)

    async def get(self, name: str) -> tuple[str, str, int]:
        request = instances.GetInstanceRequest(instance_id=name)
        return await self.call("/perdure.v1.InstanceService/GetInstance", request)

    async def until_ready(self, ready: bool) -> None:
        """Watch the health until it says so."""
        request = health_pb2.HealthCheckRequest().SerializeToString()
        wanted = (
            health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        watch = self.channel.unary_stream("/grpc.health.v1.Health/Watch")(request, timeout=60)
        while health_pb2.HealthCheckResponse.FromString(await watch.read()).status != wanted:
            pass
        watch.cancel()


@pytest.mark.parametrize("name", ["full", "write"])
async def test_a_full_disk_fails_calls_and_readiness_until_there_is_space(
    name: str, tmp_path: Path, server_process: Any
) -> None:
    fault = tmp_path / "fault"
    server = server_process(APP, environment={FAULT_VARIABLE: str(fault)})
    client = Client(server.address)
    assert (await client.start("before"))[0] == "OK"
    await client.until_ready(True)

    set_fault(fault, name)
    for number in range(20):
        status, reason, retry_after_ms = await client.start(f"during-{number}")
        assert (status, reason) == ("UNAVAILABLE", "DATABASE_UNAVAILABLE")
        assert retry_after_ms
    assert (await client.get("before"))[0] == "OK", "what is stored can still be read"
    assert (await client.get("during-1"))[1] == "INSTANCE_NOT_FOUND"
    await client.until_ready(False)

    set_fault(fault, "")
    assert (await client.start("during-1"))[0] == "OK", "the same call is taken now"
    await client.until_ready(True)
    assert (await client.get("during-2"))[1] == "INSTANCE_NOT_FOUND", "a rejected start left nothing"
    await client.channel.close()
    assert await asyncio.to_thread(server.terminate) == 0


async def test_a_server_stops_on_a_full_disk_and_starts_once_there_is_space(
    tmp_path: Path, server_process: Any
) -> None:
    fault = tmp_path / "fault"
    server = server_process(
        APP, environment={FAULT_VARIABLE: str(fault)}, arguments=["--shutdown-timeout", "500ms"]
    )
    client = Client(server.address)
    for number in range(10):
        assert (await client.start(f"before-{number}"))[0] == "OK"
    set_fault(fault, "full")
    assert (await client.start("during"))[0] == "UNAVAILABLE"

    assert await asyncio.to_thread(server.terminate, 40) == 0
    await client.channel.close()
    set_fault(fault, "")
    server.start()

    client = Client(server.address)
    for number in range(10):
        assert (await client.get(f"before-{number}"))[0] == "OK"
    assert (await client.start("during"))[0] == "OK"
    await client.channel.close()
