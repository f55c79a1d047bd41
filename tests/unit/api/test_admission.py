"""Budgets of the server, shares of connections, and the queue of calls whose message is not read yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from perdure_server.api.admission import IDLE_PEERS_MAX, SHARE_CALLS_MIN, AdmissionController, Peer
from perdure_server.api.limits import Limits
from perdure_server.runtime.errors import ServerOverloadedError, ServerStoppingError

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


def gate_of(**limits: Any) -> AdmissionController:
    return AdmissionController(Limits(**limits))


def connection(admission: AdmissionController, number: int) -> Peer:
    return admission.peer_of(context(f"ipv4:127.0.0.1:{number}"))


async def read(admission: AdmissionController, peer: Peer) -> bool:
    """Begin to read a message, as a handler does."""
    return False if admission.try_read(peer) else await admission.wait_to_read(peer)


def fill(step: Callable[[], object]) -> int:
    """Repeat a step until it is rejected. Return the number of steps that were not."""
    count = 0
    while True:
        try:
            step()
        except ServerOverloadedError:
            return count
        count += 1


async def test_one_connection_takes_a_third_and_a_newcomer_finds_room() -> None:
    admission = gate_of(calls_max=300)
    greedy, other = connection(admission, 1), connection(admission, 2)

    assert fill(lambda: admission.enter(greedy, 10, mutating=True)) == 100
    assert fill(lambda: admission.enter(other, 10, mutating=True)) > SHARE_CALLS_MIN


async def test_connections_over_a_unix_socket_share_the_whole_budget() -> None:
    admission = gate_of(calls_max=300)
    peer = admission.peer_of(context("unix:"))

    assert fill(lambda: admission.enter(peer, 10, mutating=True)) == 300


@pytest.mark.parametrize("peers", [1, 2, 5, 40])
async def test_budgets_hold_for_any_number_of_connections(peers: int) -> None:
    admission = gate_of(
        calls_max=100, watches_max=100, unread_bytes_max=20 * LARGE, large_bytes_max=20 * LARGE
    )
    for number in range(peers):
        peer = connection(admission, number)
        fill(lambda: admission.enter(peer, LARGE, mutating=False))  # noqa: B023 - runs at once
        fill(lambda: admission.enter_watch(peer))  # noqa: B023
        fill(lambda: admission.hold(peer, LARGE))  # noqa: B023

    assert admission.calls <= 100
    assert admission.watches <= 100
    assert admission.unread_bytes <= 20 * LARGE
    assert admission.large_bytes <= 20 * LARGE


async def test_a_connection_that_reads_nothing_leaves_room_to_hold_responses() -> None:
    admission = gate_of(unread_bytes_max=120 * LARGE)
    stalled, other = connection(admission, 1), connection(admission, 2)

    assert fill(lambda: admission.hold(stalled, LARGE)) == 40
    assert fill(lambda: admission.hold(other, LARGE)) >= 20


async def test_a_response_that_is_read_gives_back_all_that_it_held() -> None:
    admission = gate_of()
    call = context("ipv4:127.0.0.1:1")
    peer = admission.peer_of(call)
    admission.hold_until_done(peer, LARGE, call)
    assert (admission.unread_bytes, admission.peers) == (LARGE, 1)

    call.end()

    assert (admission.unread_bytes, admission.peers) == (0, 0)


async def test_a_connection_whose_responses_are_unread_is_not_forgotten() -> None:
    admission = gate_of(unread_bytes_max=12 * LARGE)
    calls = [context("ipv4:127.0.0.1:1") for _ in range(4)]
    for call in calls:
        peer = admission.peer_of(call)
        admission.hold_until_done(peer, LARGE, call)

    peer = connection(admission, 1)
    with pytest.raises(ServerOverloadedError):
        admission.hold(peer, 3 * LARGE)


async def test_calls_that_write_are_rejected_while_the_server_drains() -> None:
    admission = gate_of()
    peer = connection(admission, 1)
    admission.draining = True

    admission.enter(peer, 1, mutating=False)
    with pytest.raises(ServerStoppingError):
        admission.enter(peer, 1, mutating=True)
    with pytest.raises(ServerStoppingError):
        admission.enter_watch(peer)


async def test_calls_wait_to_be_read_and_connections_take_turns() -> None:
    admission = gate_of(reads_max=2)
    served: list[str] = []
    greedy, other = connection(admission, 1), connection(admission, 2)
    first = await read(admission, greedy)

    async def read_and_tell(name: str, peer: Peer) -> None:
        bulk = await read(admission, peer)
        served.append(name)
        admission.leave_read(peer, bulk=bulk)

    held = await read(admission, other)
    waiting = [asyncio.create_task(read_and_tell(f"greedy {n}", greedy)) for n in range(3)]
    waiting.append(asyncio.create_task(read_and_tell("other", other)))
    await asyncio.sleep(0)
    assert admission.waiting_reads == 4

    admission.leave_read(greedy, bulk=first)
    admission.leave_read(other, bulk=held)
    await asyncio.gather(*waiting)

    assert served.index("other") < 2
    assert (admission.reads, admission.waiting_reads) == (0, 0)


async def test_a_call_that_is_cancelled_while_it_waits_leaves_no_trace() -> None:
    admission = gate_of(reads_max=1)
    peer = connection(admission, 1)
    bulk = await read(admission, peer)
    before, after = (asyncio.create_task(read(admission, peer)) for _ in range(2))
    await asyncio.sleep(0)

    before.cancel()
    await asyncio.sleep(0)
    assert admission.waiting_reads == 1
    admission.leave_read(peer, bulk=bulk)
    # Its turn has come, and it does not know yet.
    after.cancel()
    await asyncio.gather(before, after, return_exceptions=True)

    assert (admission.reads, peer.reads, admission.waiting_reads) == (0, 0, 0)


async def test_too_many_waiting_calls_are_rejected() -> None:
    admission = gate_of(reads_max=1, waiting_reads_max=1)
    peer = connection(admission, 1)
    await read(admission, peer)
    waiting = asyncio.create_task(read(admission, peer))
    await asyncio.sleep(0)

    with pytest.raises(ServerOverloadedError):
        await read(admission, peer)
    waiting.cancel()


async def test_connections_with_large_messages_wait_for_each_other_only() -> None:
    admission = gate_of(bulk_reads_max=1)
    bulk_peer, other = connection(admission, 1), connection(admission, 2)
    admission.enter(bulk_peer, LARGE, mutating=True)
    assert await read(admission, bulk_peer)
    waiting = asyncio.create_task(read(admission, bulk_peer))
    await asyncio.sleep(0)
    assert not waiting.done()

    assert not await read(admission, other)

    admission.leave_read(bulk_peer, bulk=True)
    assert await waiting


async def test_silent_calls_after_a_large_message_leave_room_for_other_large_messages() -> None:
    admission = gate_of(bulk_reads_max=8)
    silent, other = connection(admission, 1), connection(admission, 2)
    for peer in (silent, other):
        admission.enter(peer, LARGE, mutating=True)
        admission.leave(peer, LARGE)
    waiting = [asyncio.create_task(read(admission, silent)) for _ in range(20)]
    await asyncio.sleep(0)

    assert await read(admission, other)
    admission.leave_read(other, bulk=True)

    assert admission.bulk_reads == sum(task.done() for task in waiting) < 8
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_large_messages_wait_until_others_have_been_handled() -> None:
    admission = gate_of(large_bytes_max=4 * LARGE)
    peer = connection(admission, 1)
    admission.enter(peer, 2 * LARGE, mutating=True)
    waiting = asyncio.create_task(read(admission, peer))
    await asyncio.sleep(0)
    assert not waiting.done()

    admission.leave(peer, 2 * LARGE)

    assert await waiting
    assert admission.large_bytes == 0


async def test_connections_that_hold_nothing_are_forgotten() -> None:
    admission = gate_of()
    holding = connection(admission, 0)
    admission.enter_watch(holding)
    for number in range(1, 3 * IDLE_PEERS_MAX):
        peer = connection(admission, number)
        admission.enter(peer, LARGE, mutating=True)
        admission.leave(peer, LARGE)

    assert admission.peers == 1
    assert len(admission._peers) <= IDLE_PEERS_MAX
    assert connection(admission, 0) is holding
