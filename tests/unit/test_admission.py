"""Budgets of the server, shares of connections, and the queue of calls whose message is not read yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from perdure_server.api.admission import IDLE_PEERS_MAX, SHARE_CALLS_MIN, Gate, Peer
from perdure_server.api.limits import Limits
from perdure_server.runtime.errors import Overloaded, ShuttingDown

LARGE = 1 << 20


class FakeContext:
    """The part of a call's context that admission uses."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._callbacks: list[Callable[[Any], None]] = []

    def peer(self) -> str:
        return self._peer

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callbacks.append(callback)

    def end(self) -> None:
        for callback in self._callbacks:
            callback(self)


def context(peer: str) -> Any:
    return FakeContext(peer)


def gate_of(**limits: Any) -> Gate:
    return Gate(Limits(**limits))


def connection(gate: Gate, number: int) -> Peer:
    return gate.peer_of(context(f"ipv4:127.0.0.1:{number}"))


async def read(gate: Gate, peer: Peer) -> bool:
    """Begin to read a message, as a handler does."""
    return False if gate.try_read(peer) else await gate.wait_to_read(peer)


def fill(step: Callable[[], object]) -> int:
    """Repeat a step until it is rejected. Return the number of steps that were not."""
    count = 0
    while True:
        try:
            step()
        except Overloaded:
            return count
        count += 1


async def test_one_connection_takes_a_third_and_a_newcomer_finds_room() -> None:
    gate = gate_of(calls_max=300)
    greedy, other = connection(gate, 1), connection(gate, 2)

    assert fill(lambda: gate.enter(greedy, 10, mutating=True)) == 100
    assert fill(lambda: gate.enter(other, 10, mutating=True)) > SHARE_CALLS_MIN


async def test_connections_over_a_unix_socket_share_the_whole_budget() -> None:
    gate = gate_of(calls_max=300)
    peer = gate.peer_of(context("unix:"))

    assert fill(lambda: gate.enter(peer, 10, mutating=True)) == 300


@pytest.mark.parametrize("peers", [1, 2, 5, 40])
async def test_budgets_hold_for_any_number_of_connections(peers: int) -> None:
    gate = gate_of(calls_max=100, watches_max=100, unread_bytes_max=20 * LARGE, large_bytes_max=20 * LARGE)
    for number in range(peers):
        peer = connection(gate, number)
        fill(lambda: gate.enter(peer, LARGE, mutating=False))  # noqa: B023 - runs at once
        fill(lambda: gate.enter_watch(peer))  # noqa: B023
        fill(lambda: gate.hold(peer, LARGE))  # noqa: B023

    assert gate.calls <= 100
    assert gate.watches <= 100
    assert gate.unread_bytes <= 20 * LARGE
    assert gate.large_bytes <= 20 * LARGE


async def test_a_connection_that_reads_nothing_leaves_room_to_hold_responses() -> None:
    gate = gate_of(unread_bytes_max=120 * LARGE)
    stalled, other = connection(gate, 1), connection(gate, 2)

    assert fill(lambda: gate.hold(stalled, LARGE)) == 40
    assert fill(lambda: gate.hold(other, LARGE)) >= 20


async def test_a_response_that_is_read_gives_back_all_that_it_held() -> None:
    gate = gate_of()
    call = context("ipv4:127.0.0.1:1")
    peer = gate.peer_of(call)
    gate.hold_until_done(peer, LARGE, call)
    assert (gate.unread_bytes, gate.peers) == (LARGE, 1)

    call.end()

    assert (gate.unread_bytes, gate.peers) == (0, 0)


async def test_a_connection_whose_responses_are_unread_is_not_forgotten() -> None:
    gate = gate_of(unread_bytes_max=12 * LARGE)
    calls = [context("ipv4:127.0.0.1:1") for _ in range(4)]
    for call in calls:
        peer = gate.peer_of(call)
        gate.hold_until_done(peer, LARGE, call)

    peer = connection(gate, 1)
    with pytest.raises(Overloaded):
        gate.hold(peer, 3 * LARGE)


async def test_calls_that_write_are_rejected_while_the_server_drains() -> None:
    gate = gate_of()
    peer = connection(gate, 1)
    gate.draining = True

    gate.enter(peer, 1, mutating=False)
    with pytest.raises(ShuttingDown):
        gate.enter(peer, 1, mutating=True)
    with pytest.raises(ShuttingDown):
        gate.enter_watch(peer)


async def test_calls_wait_to_be_read_and_connections_take_turns() -> None:
    gate = gate_of(reads_max=2)
    served: list[str] = []
    greedy, other = connection(gate, 1), connection(gate, 2)
    first = await read(gate, greedy)

    async def read_and_tell(name: str, peer: Peer) -> None:
        bulk = await read(gate, peer)
        served.append(name)
        gate.leave_read(peer, bulk=bulk)

    held = await read(gate, other)
    waiting = [asyncio.create_task(read_and_tell(f"greedy {n}", greedy)) for n in range(3)]
    waiting.append(asyncio.create_task(read_and_tell("other", other)))
    await asyncio.sleep(0)
    assert gate.waiting_reads == 4

    gate.leave_read(greedy, bulk=first)
    gate.leave_read(other, bulk=held)
    await asyncio.gather(*waiting)

    assert served.index("other") < 2
    assert (gate.reads, gate.waiting_reads) == (0, 0)


async def test_a_call_that_is_cancelled_while_it_waits_leaves_no_trace() -> None:
    gate = gate_of(reads_max=1)
    peer = connection(gate, 1)
    bulk = await read(gate, peer)
    before, after = (asyncio.create_task(read(gate, peer)) for _ in range(2))
    await asyncio.sleep(0)

    before.cancel()
    await asyncio.sleep(0)
    assert gate.waiting_reads == 1
    gate.leave_read(peer, bulk=bulk)
    # Its turn has come, and it does not know yet.
    after.cancel()
    await asyncio.gather(before, after, return_exceptions=True)

    assert (gate.reads, peer.reads, gate.waiting_reads) == (0, 0, 0)


async def test_too_many_waiting_calls_are_rejected() -> None:
    gate = gate_of(reads_max=1, waiting_reads_max=1)
    peer = connection(gate, 1)
    await read(gate, peer)
    waiting = asyncio.create_task(read(gate, peer))
    await asyncio.sleep(0)

    with pytest.raises(Overloaded):
        await read(gate, peer)
    waiting.cancel()


async def test_connections_with_large_messages_wait_for_each_other_only() -> None:
    gate = gate_of(bulk_reads_max=1)
    bulk_peer, other = connection(gate, 1), connection(gate, 2)
    gate.enter(bulk_peer, LARGE, mutating=True)
    assert await read(gate, bulk_peer)
    waiting = asyncio.create_task(read(gate, bulk_peer))
    await asyncio.sleep(0)
    assert not waiting.done()

    assert not await read(gate, other)

    gate.leave_read(bulk_peer, bulk=True)
    assert await waiting


async def test_silent_calls_after_a_large_message_leave_room_for_other_large_messages() -> None:
    gate = gate_of(bulk_reads_max=8)
    silent, other = connection(gate, 1), connection(gate, 2)
    for peer in (silent, other):
        gate.enter(peer, LARGE, mutating=True)
        gate.leave(peer, LARGE)
    waiting = [asyncio.create_task(read(gate, silent)) for _ in range(20)]
    await asyncio.sleep(0)

    assert await read(gate, other)
    gate.leave_read(other, bulk=True)

    assert gate.bulk_reads == sum(task.done() for task in waiting) < 8
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_large_messages_wait_until_others_have_been_handled() -> None:
    gate = gate_of(large_bytes_max=4 * LARGE)
    peer = connection(gate, 1)
    gate.enter(peer, 2 * LARGE, mutating=True)
    waiting = asyncio.create_task(read(gate, peer))
    await asyncio.sleep(0)
    assert not waiting.done()

    gate.leave(peer, 2 * LARGE)

    assert await waiting
    assert gate.large_bytes == 0


async def test_connections_that_hold_nothing_are_forgotten() -> None:
    gate = gate_of()
    holding = connection(gate, 0)
    gate.enter_watch(holding)
    for number in range(1, 3 * IDLE_PEERS_MAX):
        peer = connection(gate, number)
        gate.enter(peer, LARGE, mutating=True)
        gate.leave(peer, LARGE)

    assert gate.peers == 1
    assert len(gate._peers) <= IDLE_PEERS_MAX
    assert connection(gate, 0) is holding
