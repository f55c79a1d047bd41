"""The crossing from any thread to a loop: a deque, and one wake-up for all that is in it.

``run_coroutine_threadsafe`` costs a future, a task and a wake-up per call (some 50 us); this costs a fifth of
it, and less the more there is to carry.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Generic, TypeVar

log = logging.getLogger(__name__)

ITEMS_PER_TURN_MAX: Final = 200
"""How many items one turn of the receiving loop handles, so that other callbacks have theirs."""

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Hands items to ``receive`` on a loop, in the order of `put`. What it holds is bounded by the credits of tasks."""

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Callable[[T], None]) -> None:
        self._loop = loop
        self._receive = receive
        self._items: deque[T] = deque()
        self._woken = False

    def put(self, item: T) -> None:
        """Hand over an item. From any thread. Lost if the loop is closed: nobody is left to want it."""
        self._items.append(item)
        # Appended first, asked second; the receiver clears first, looks second. So no item is left asleep; two
        # threads that ask at once may wake the loop twice, which does no harm.
        if not self._woken:
            self._woken = True
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False
        items = self._items
        for _ in range(min(len(items), ITEMS_PER_TURN_MAX)):
            try:
                self._receive(items.popleft())
            except Exception:  # one item's trouble is not the next one's
                log.exception("a hand-over failed")
        if items and not self._woken:
            self._woken = True
            self._loop.call_soon(self._deliver)
