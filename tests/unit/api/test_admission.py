"""Budgets of the server, shares of connections, and the queue of calls whose requests are not read yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from perdure_server.api.admission import IDLE_PEERS_MAX, SHARE_CALLS_MIN, AdmissionController, Peer
from perdure_server.api.limits import Limits
from perdure_server.runtime.errors import ServerOverloadedError, ServerStoppingError

LARGE = 1 << 20


Callbacks = list[Callable[[Any], None]]


def admission_of(**limits: Any) -> AdmissionController:
    return AdmissionController(Limits(**limits))


def connection(admission: AdmissionController, number: int) -> Peer:
    return admission.peer_of(f"ipv4:127.0.0.1:{number}")


async def read(admission: AdmissionController, peer: Peer) -> bool:
    """Start to read a request, as the pipeline does."""
    return False if admission.try_acquire_read(peer) else await admission.wait_for_read(peer)


def fill(step: Callable[[], object]) -> int:
    """Repeat a step until it is rejected. Return the number of steps that were not."""
    count = 0
    while True:
        try:
            step()
        except ServerOverloadedError:
            return count
        count += 1


async def test_one_connection_gets_a_third_and_a_new_one_finds_room() -> None:
    admission = admission_of(calls_max=300)
    greedy, other = connection(admission, 1), connection(admission, 2)

    assert fill(lambda: admission.acquire_write(greedy, 10)) == 100
    assert fill(lambda: admission.acquire_write(other, 10)) > SHARE_CALLS_MIN


async def test_connections_over_a_unix_socket_share_the_whole_budget() -> None:
    admission = admission_of(calls_max=300)
    peer = admission.peer_of("unix:")

    assert fill(lambda: admission.acquire_write(peer, 10)) == 300


@pytest.mark.parametrize("peers", [1, 2, 5, 40])
async def test_budgets_hold_for_any_number_of_connections(peers: int) -> None:
    admission = admission_of(
        calls_max=100, watches_max=100, unread_bytes_max=20 * LARGE, large_bytes_max=20 * LARGE
    )
    for number in range(peers):
        peer = connection(admission, number)
        fill(lambda: admission.acquire_call(peer, LARGE))  # noqa: B023 - runs at once
        fill(lambda: admission.acquire_watch(peer))  # noqa: B023
        fill(lambda: admission.reserve_unread(peer, LARGE))  # noqa: B023

    assert admission.calls <= 100
    assert admission.watches <= 100
    assert admission.unread_bytes <= 20 * LARGE
    assert admission.large_bytes <= 20 * LARGE


async def test_a_connection_that_does_not_read_leaves_room_for_others() -> None:
    admission = admission_of(unread_bytes_max=120 * LARGE)
    stalled, other = connection(admission, 1), connection(admission, 2)

    assert fill(lambda: admission.reserve_unread(stalled, LARGE)) == 40
    assert fill(lambda: admission.reserve_unread(other, LARGE)) >= 20


async def test_a_response_that_was_read_is_not_counted() -> None:
    admission = admission_of()
    peer, callbacks = connection(admission, 1), Callbacks()
    admission.reserve_unread_until_done(peer, LARGE, callbacks.append)
    assert (admission.unread_bytes, admission.peers) == (LARGE, 1)

    for callback in callbacks:
        callback(None)

    assert (admission.unread_bytes, admission.peers) == (0, 0)


async def test_a_connection_with_unread_responses_is_not_forgotten() -> None:
    admission = admission_of(unread_bytes_max=12 * LARGE)
    for _ in range(4):
        admission.reserve_unread_until_done(connection(admission, 1), LARGE, Callbacks().append)

    peer = connection(admission, 1)
    with pytest.raises(ServerOverloadedError):
        admission.reserve_unread(peer, 3 * LARGE)


async def test_writes_and_watches_are_rejected_while_the_server_drains() -> None:
    admission = admission_of()
    peer = connection(admission, 1)
    admission.draining = True

    admission.acquire_call(peer, 1)
    with pytest.raises(ServerStoppingError):
        admission.acquire_write(peer, 1)
    with pytest.raises(ServerStoppingError):
        admission.acquire_watch(peer)


async def test_connections_take_turns_to_be_read() -> None:
    admission = admission_of(reads_max=2)
    served: list[str] = []
    greedy, other = connection(admission, 1), connection(admission, 2)
    first = await read(admission, greedy)

    async def read_and_note(name: str, peer: Peer) -> None:
        bulk = await read(admission, peer)
        served.append(name)
        admission.release_read(peer, bulk)

    held = await read(admission, other)
    waiting = [asyncio.create_task(read_and_note(f"greedy {n}", greedy)) for n in range(3)]
    waiting.append(asyncio.create_task(read_and_note("other", other)))
    await asyncio.sleep(0)
    assert admission.waiting_reads == 4

    admission.release_read(greedy, first)
    admission.release_read(other, held)
    await asyncio.gather(*waiting)

    assert served.index("other") < 2
    assert (admission.reads, admission.waiting_reads) == (0, 0)


async def test_a_call_that_is_cancelled_while_it_waits_releases_everything() -> None:
    admission = admission_of(reads_max=1)
    peer = connection(admission, 1)
    bulk = await read(admission, peer)
    before, after = (asyncio.create_task(read(admission, peer)) for _ in range(2))
    await asyncio.sleep(0)

    before.cancel()
    await asyncio.sleep(0)
    assert admission.waiting_reads == 1
    admission.release_read(peer, bulk)
    # Its turn has come, but its task has not run yet.
    after.cancel()
    await asyncio.gather(before, after, return_exceptions=True)

    assert (admission.reads, peer.reads, admission.waiting_reads) == (0, 0, 0)


async def test_too_many_waiting_calls_are_rejected() -> None:
    admission = admission_of(reads_max=1, waiting_reads_max=1)
    peer = connection(admission, 1)
    await read(admission, peer)
    waiting = asyncio.create_task(read(admission, peer))
    await asyncio.sleep(0)

    with pytest.raises(ServerOverloadedError):
        await read(admission, peer)
    waiting.cancel()


async def test_large_requests_wait_for_each_other_only() -> None:
    admission = admission_of(bulk_reads_max=1)
    bulk_peer, other = connection(admission, 1), connection(admission, 2)
    admission.acquire_write(bulk_peer, LARGE)
    assert await read(admission, bulk_peer)
    waiting = asyncio.create_task(read(admission, bulk_peer))
    await asyncio.sleep(0)
    assert not waiting.done()

    assert not await read(admission, other)

    admission.release_read(bulk_peer, True)
    assert await waiting


async def test_silent_calls_leave_room_for_large_requests_of_others() -> None:
    admission = admission_of(bulk_reads_max=8)
    silent, other = connection(admission, 1), connection(admission, 2)
    for peer in (silent, other):
        admission.acquire_write(peer, LARGE)
        admission.release_call(peer, LARGE)
    waiting = [asyncio.create_task(read(admission, silent)) for _ in range(20)]
    await asyncio.sleep(0)

    assert await read(admission, other)
    admission.release_read(other, True)

    assert admission.bulk_reads == sum(task.done() for task in waiting) < 8
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_large_requests_wait_until_others_have_ended() -> None:
    admission = admission_of(large_bytes_max=4 * LARGE)
    peer = connection(admission, 1)
    admission.acquire_write(peer, 2 * LARGE)
    waiting = asyncio.create_task(read(admission, peer))
    await asyncio.sleep(0)
    assert not waiting.done()

    admission.release_call(peer, 2 * LARGE)

    assert await waiting
    assert admission.large_bytes == 0


async def test_connections_that_hold_nothing_are_forgotten() -> None:
    admission = admission_of()
    holding = connection(admission, 0)
    admission.acquire_watch(holding)
    for number in range(1, 3 * IDLE_PEERS_MAX):
        peer = connection(admission, number)
        admission.acquire_write(peer, LARGE)
        admission.release_call(peer, LARGE)

    assert admission.peers == 1
    assert len(admission._peers) <= IDLE_PEERS_MAX
    assert connection(admission, 0) is holding


def test_watches_leave_room_for_health_watches_of_the_same_connection() -> None:
    admission = AdmissionController(Limits(watches_max=1_000, health_watches_max=100))
    peer = connection(admission, 1)
    for _ in range(200):
        admission.acquire_watch(peer)

    assert admission.acquire_health_watch(peer)
    admission.release_health_watch(peer)
    assert peer.watches == 200
