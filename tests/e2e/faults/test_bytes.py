"""Mutated and random messages against every RPC of a real server: each gets a proper response and does no harm.

``PERDURE_FUZZ_MESSAGES`` sets their number (default: 20,000; `make fuzz` sends millions), ``PERDURE_FUZZ_SEED`` the
seed.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import pytest
from google.protobuf.message_factory import GetMessageClass

from chaos.checks_history import check_histories
from chaos.database import read_database
from chaos.flows import EVENTS_OF, FLOWS, STEPS_OF
from chaos.ledger import Recording
from chaos.rounds import FLOWS_APP
from chaos.walk import walks_of
from e2e.faults.messages import Messages
from e2e.faults.process import complaints, rss_bytes
from support.api_fixture import METHODS, call_error

COUNT: Final = int(os.environ.get("PERDURE_FUZZ_MESSAGES", "20000"))
SEED: Final = int(os.environ.get("PERDURE_FUZZ_SEED", "0")) or random.randrange(1, 2**32)

CALLERS: Final = 32
WARMING_SHARE: Final = 0.3
GROWTH_BYTES_MAX: Final = 48 << 20
"""Maximum growth of the server after the warm-up, in bytes. Its caches of states and of the database still fill."""

DETAILS_BYTES_MAX: Final = 6 << 10

KNOWN: Final = {
    "workflow": [flow.name for flow in FLOWS],
    "event": sorted({event for events in EVENTS_OF.values() for event in events}),
    "step_ref": sorted({ref for refs in STEPS_OF.values() for ref in refs}),
    "instance_id": [f"known-{number}" for number in range(20)],
    "business_key": ["key-1", "key-2"],
    "reference": ["known-1.3"],
    "request_id": ["r1"],
    "page_token": [""],
}


class Fuzz:
    """Callers that send what `Messages` makes, and look at each answer."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._messages = Messages(SEED, KNOWN)
        self._chance = random.Random(SEED)
        self.codes: dict[str, int] = {}

    async def send(self, count: int) -> None:
        left = [count]

        async def caller() -> None:
            while left[0] > 0:
                left[0] -= 1
                await self._one()

        async with asyncio.TaskGroup() as callers:
            for _ in range(CALLERS):
                callers.create_task(caller())

    async def _one(self) -> None:
        rpc = self._chance.choice(list(METHODS))
        method = METHODS[rpc]
        body = self._messages.message(method)
        path = f"/{method.containing_service.full_name}/{rpc}"
        what = f"PERDURE_FUZZ_SEED={SEED}, {rpc}: {body[:2_000].hex()}"
        try:
            answer = await self._answer(method, path, body)
        except grpc.aio.AioRpcError as error:
            found = call_error(error)
            assert found.code not in {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}, what
            assert found.reason not in {"", "COMMIT_UNKNOWN"}, f"{found} {what}"
            assert found.details_bytes <= DETAILS_BYTES_MAX, what
            self._count(found.code.name)
        else:
            self._count("OK")
            if answer is not None:
                self._messages.learn(answer)

    async def _answer(self, method: Any, path: str, body: bytes) -> Any:
        response = GetMessageClass(method.output_type)
        if method.server_streaming:
            stream = self._channel.unary_stream(path)(body, timeout=60)
            item = await stream.read()
            stream.cancel()
            return response.FromString(item) if isinstance(item, bytes) else None
        return response.FromString(await self._channel.unary_unary(path)(body, timeout=60))

    def _count(self, code: str) -> None:
        self.codes[code] = self.codes.get(code, 0) + 1


@pytest.mark.e2e
@pytest.mark.fuzz
@pytest.mark.slow
@pytest.mark.timeout(0 if COUNT > 50_000 else 900)
async def test_no_bytes_harm_a_server(server_process: Any, tmp_path: Path) -> None:
    database = tmp_path / "fuzz.db"
    server = server_process(FLOWS_APP, database=database)
    async with grpc.aio.insecure_channel(server.address) as channel:
        fuzz = Fuzz(channel)
        await fuzz.send(int(COUNT * WARMING_SHARE))
        before = rss_bytes(server.pid)
        await fuzz.send(COUNT - int(COUNT * WARMING_SHARE))
        after = rss_bytes(server.pid)

        start = METHODS["StartInstance"].input_type._concrete_class(workflow="chaos_choice")
        await channel.unary_unary("/perdure.v1.RunnerService/StartInstance")(
            start.SerializeToString(), timeout=10
        )
    assert server.running
    assert await asyncio.to_thread(server.terminate) == 0
    print(f"seed {SEED}, {COUNT} messages: {fuzz.codes}, {before >> 20} MiB, then {after >> 20} MiB")
    assert complaints(server.log) == []
    assert after - before < GROWTH_BYTES_MAX, (before, after)
    # Many of them got somewhere: noise alone would test nothing but the parser.
    assert fuzz.codes["OK"] > COUNT // 10
    assert {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "ALREADY_EXISTS"} <= fuzz.codes.keys()
    stored = read_database(database)
    recording = Recording(sends=(), watches=(), steps=(), database=stored, quiet=True, ended_ms=0)
    assert list(check_histories(recording, walks_of(recording))) == []
