"""Hostile connections do not affect a well-behaved client in another process: none of its calls is rejected."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc.aio
import pytest

from e2e.faults import attacks, http2
from e2e.faults.process import complaints, rss_bytes
from e2e.faults.steady import steady_client
from perdure.v1 import instance_service_pb2 as instances
from perdure_server.api.limits import Limits

APP: Final = Path(__file__).with_name("plain_app.py")

ROUNDS: Final = 20
"""Rounds of the well-behaved client under attack, of four calls each."""

MEMORY_BYTES_MAX: Final = 512 << 20
"""Memory that docs/operate/configure.md promises to be enough for a server under this load."""

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    "attack",
    [
        attacks.unread_responses,
        partial(attacks.unread_responses, path=attacks.WATCH),
        attacks.rapid_reset,
        attacks.large_contexts,
        attacks.idle_connections,
    ],
    ids=["unread responses", "unread watches", "rapid reset", "large contexts", "idle connections"],
)
async def test_a_well_behaved_client_is_served_under_attack(
    attack: attacks.Attack, server_process: Any
) -> None:
    server = server_process(APP)
    largest = 0
    async with steady_client(server.address) as client, attack(server.address):
        client.forget()
        for _ in range(ROUNDS):
            await client.rounds(1)
            largest = max(largest, rss_bytes(server.pid))
        assert client.errors == []
    print({name: f"{max(found) * 1e3:.0f} ms" for name, found in client.seconds.items()}, largest >> 20)
    assert largest < MEMORY_BYTES_MAX
    assert complaints(server.log) == []


async def test_large_responses_are_served_while_a_connection_reads_none(server_process: Any) -> None:
    server = server_process(APP)
    async with (
        attacks.unread_responses(server.address),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        request = instances.GetInstanceRequest(instance_id="large").SerializeToString()
        for _ in range(5):
            answer = await channel.unary_unary(attacks.GET)(request, timeout=60)
            assert len(answer) > attacks.LARGE_BYTES


async def test_a_connection_receives_its_limit_of_concurrent_calls(server_process: Any) -> None:
    server = server_process(APP)
    async with steady_client(server.address) as client, http2.connected(server.address) as connection:
        await client.rounds(1)

        assert connection.settings[http2.MAX_CONCURRENT_STREAMS] == Limits().streams_max
