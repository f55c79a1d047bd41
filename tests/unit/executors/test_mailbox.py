"""Mailboxes between threads: every item arrives, in order, with few wake-ups."""

from __future__ import annotations

import asyncio
import threading

import pytest

from perdure_server.executors.mailbox import ITEMS_PER_TURN_MAX, Mailbox


async def test_items_of_each_thread_arrive_once_and_in_order() -> None:
    received: list[tuple[int, int]] = []
    all_here = asyncio.Event()

    def receive(item: tuple[int, int]) -> None:
        received.append(item)
        if len(received) == 40_000:
            all_here.set()

    mailbox = Mailbox(asyncio.get_running_loop(), receive)

    def send(sender: int) -> None:
        for number in range(10_000):
            mailbox.put((sender, number))

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
    for thread in threads:
        thread.start()
    async with asyncio.timeout(60):
        await all_here.wait()

    for sender in range(4):
        assert [number for who, number in received if who == sender] == list(range(10_000))


async def test_many_items_wake_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, wakes, received = asyncio.get_running_loop(), 0, []
    mailbox: Mailbox[int] = Mailbox(loop, received.append)
    call_soon_threadsafe = loop.call_soon_threadsafe

    def count(*args: object) -> asyncio.Handle:
        nonlocal wakes
        wakes += 1
        return call_soon_threadsafe(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_soon_threadsafe", count)
    for number in range(ITEMS_PER_TURN_MAX + 1):
        mailbox.put(number)
    await asyncio.sleep(0)
    assert len(received) == ITEMS_PER_TURN_MAX, "other callbacks have their turn"
    await asyncio.sleep(0)

    assert len(received) == ITEMS_PER_TURN_MAX + 1
    assert wakes == 1


async def test_one_item_in_trouble_does_not_hold_up_the_next() -> None:
    received: list[int] = []

    def receive(item: int) -> None:
        if item == 1:
            raise RuntimeError("a bug")
        received.append(item)

    mailbox = Mailbox(asyncio.get_running_loop(), receive)
    for item in range(3):
        mailbox.put(item)
    await asyncio.sleep(0)

    assert received == [0, 2]


def test_what_is_put_for_a_closed_loop_is_lost_quietly() -> None:
    loop = asyncio.new_event_loop()
    mailbox: Mailbox[int] = Mailbox(loop, print)
    loop.close()

    mailbox.put(1)
