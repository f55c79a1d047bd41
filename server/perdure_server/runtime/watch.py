"""Watches: an ordered, gap-free, resumable stream of an instance's entries.

Theory of operation. The hub passes entries that were committed in this process to each subscription, through a bounded
queue. A watch remembers the last revision that it returned. It returns the entry that follows directly, and drops older
ones. At a gap (the queue overflowed, or another process wrote) it continues by reading the store. The queue is only an
optimization: the store is authoritative.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from typing import Final, Literal

from perdure_server.engine import facts
from perdure_server.engine.facts import Entry
from perdure_server.engine.rejections import InstanceNotFound
from perdure_server.engine.value_type import value
from perdure_server.runtime.errors import UnreachedRevisionError
from perdure_server.store.protocol import Store, StoredInstance

ENTRIES_QUEUED_MAX: Final = 256
"""Maximum number of queued entries of a subscription. Beyond it, the watch reads the store."""

ENTRIES_PAGE: Final = 256

_ENDS: Final = (facts.InstanceCompleted, facts.InstanceFailed, facts.InstanceCancelled)


@value(frozen=True, slots=True)
class WatchSnapshot:
    """The instance at the start of the watch."""

    instance: StoredInstance


@value(frozen=True, slots=True)
class WatchEntry:
    entry: Entry


@value(frozen=True, slots=True)
class WatchHeartbeat:
    """No entry for one heartbeat interval. ``revision`` is the last one that the watch returned."""

    revision: int


@value(frozen=True, slots=True)
class WatchEnd:
    """The last message: the instance has ended, or the server is shutting down. Resume after ``revision``."""

    revision: int
    reason: Literal["finished", "draining"]


WatchEvent = WatchSnapshot | WatchEntry | WatchHeartbeat | WatchEnd


class Subscription:
    """The entries of one instance that were committed here and not yet read."""

    __slots__ = ("_entries", "_wake", "draining")

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=ENTRIES_QUEUED_MAX)
        self._wake = asyncio.Event()
        self.draining = False

    def put(self, entries: Sequence[Entry]) -> None:
        # A slow reader loses the oldest entries, finds the gap, and reads the store.
        self._entries.extend(entries)
        self._wake.set()

    def take(self) -> list[Entry]:
        entries = list(self._entries)
        self._entries.clear()
        self._wake.clear()
        return entries

    def drain(self) -> None:
        self.draining = True
        self._wake.set()

    async def wait(self, timeout_s: float) -> bool:
        """Return True if an entry arrived or the hub drains, False after ``timeout_s`` seconds."""
        if self._wake.is_set():
            return True
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True


class WatchHub:
    """Passes the commits of this process to its watches."""

    def __init__(self, store: Store, *, heartbeat_s: float = 15.0, poll_s: float = 1.0) -> None:
        self._store = store
        self._heartbeat_s = heartbeat_s
        self._poll_s = poll_s
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._draining = False

    @property
    def watchers(self) -> int:
        """Number of open watches."""
        return sum(len(found) for found in self._subscriptions.values())

    def publish(self, instance_id: str, entries: Sequence[Entry]) -> None:
        """Pass on committed entries. Must be called in the order of each instance's commits."""
        for subscription in self._subscriptions.get(instance_id, ()):
            subscription.put(entries)

    def drain(self) -> None:
        """End all open and future watches."""
        self._draining = True
        for found in self._subscriptions.values():
            for subscription in found:
                subscription.drain()

    async def watch(
        self, instance_id: str, after_revision: int | None = None
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield a snapshot (if ``after_revision`` is None), then each later entry, then the end.

        Raises `InstanceNotFound`, `UnreachedRevisionError`, and a `StoreError`.
        """
        subscription = Subscription()
        subscription.draining = self._draining
        self._subscriptions.setdefault(instance_id, set()).add(subscription)
        try:
            # The subscription starts before the read, so no entry is lost between the two.
            if after_revision is None:
                # A watch lasts for hours and must not keep the payloads of its snapshot in memory.
                first = [await self._snapshot(instance_id)]
                head, is_live = first[0].instance.state.revision, first[0].instance.state.is_live
                position = head
                yield first.pop()
            else:
                state = await self._store.load(instance_id)
                if state is None:
                    raise InstanceNotFound(instance_id)
                if after_revision > state.revision:
                    raise UnreachedRevisionError(instance_id, after_revision, state.revision)
                head, is_live = state.revision, state.is_live
                position = after_revision
                del state
            ended, behind = position == head and not is_live, position < head
            entries = self._entries(subscription, instance_id, position, ended=ended, behind=behind)
            async with aclosing(entries) as events:
                with suppress(StopAsyncIteration):
                    while True:
                        yield await anext(events)
        finally:
            found = self._subscriptions[instance_id]
            found.discard(subscription)
            if not found:
                del self._subscriptions[instance_id]

    async def _snapshot(self, instance_id: str) -> WatchSnapshot:
        stored = await self._store.get_instance(instance_id)
        if stored is None:
            raise InstanceNotFound(instance_id)
        return WatchSnapshot(stored)

    async def _entries(
        self, subscription: Subscription, instance_id: str, position: int, *, ended: bool, behind: bool
    ) -> AsyncGenerator[WatchEvent, None]:
        silent_s = 0.0
        while True:
            entries: Sequence[Entry]
            if behind:
                entries = await self._store.history(instance_id, after_revision=position, limit=ENTRIES_PAGE)
                behind = len(entries) == ENTRIES_PAGE
            else:
                entries = subscription.take()
            for entry in entries:
                if entry.revision <= position:
                    continue
                if entry.revision > position + 1:
                    behind = True
                    break
                position = entry.revision
                ended = isinstance(entry.fact, _ENDS)
                yield WatchEntry(entry)
                silent_s = 0.0
            if behind:
                continue
            if ended or subscription.draining:
                yield WatchEnd(position, "finished" if ended else "draining")
                return
            entries = ()
            pause_s = min(self._heartbeat_s, self._poll_s) if self._store.shared else self._heartbeat_s
            if not await subscription.wait(pause_s):
                # Also on a store that is not shared: a commit whose result was unknown was not published.
                behind = True
                silent_s += pause_s
                if silent_s >= self._heartbeat_s:
                    silent_s = 0.0
                    yield WatchHeartbeat(position)
