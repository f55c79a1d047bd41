"""Watching an instance: an ordered, gap-free, resumable stream of its entries.

Theory of operation. The hub tells each subscription what was committed in this process, through a bounded queue. A
watcher knows the last revision that it gave out: an entry that follows directly is passed on, an older one dropped,
and at a gap (the queue overflowed, another process wrote) the watcher reads on from the store. The queue is thus only
a short cut; the store is what is watched.
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
"""How many entries a subscription holds before it falls back to reading the store."""

ENTRIES_PAGE: Final = 256

_ENDS: Final = (facts.InstanceCompleted, facts.InstanceFailed, facts.InstanceCancelled)


@value(frozen=True, slots=True)
class WatchSnapshot:
    """The instance as it stood when the watch began."""

    instance: StoredInstance


@value(frozen=True, slots=True)
class WatchEntry:
    entry: Entry


@value(frozen=True, slots=True)
class WatchHeartbeat:
    """Nothing happened for a while; ``revision`` is the last one that was given out."""

    revision: int


@value(frozen=True, slots=True)
class WatchEnd:
    """The last message: the instance ended, or the server drains and ``revision`` is where to resume."""

    revision: int
    reason: Literal["finished", "draining"]


WatchEvent = WatchSnapshot | WatchEntry | WatchHeartbeat | WatchEnd


class Subscription:
    """The entries of one instance that were committed here and not yet looked at."""

    __slots__ = ("_entries", "_wake", "draining")

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=ENTRIES_QUEUED_MAX)
        self._wake = asyncio.Event()
        self.draining = False

    def put(self, entries: Sequence[Entry]) -> None:
        # The oldest ones fall out when the reader is slow: it sees the gap and reads the store.
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
        """Return whether something came within the time."""
        if self._wake.is_set():
            return True
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True


class WatchHub:
    """Tells the watchers of this process what it commits."""

    def __init__(self, store: Store, *, heartbeat_s: float = 15.0, poll_s: float = 1.0) -> None:
        self._store = store
        self._heartbeat_s = heartbeat_s
        self._poll_s = poll_s
        self._subscriptions: dict[str, set[Subscription]] = {}
        self._draining = False

    @property
    def watchers(self) -> int:
        """How many watches are open."""
        return sum(len(found) for found in self._subscriptions.values())

    def publish(self, instance_id: str, entries: Sequence[Entry]) -> None:
        """Pass on what was just committed. Called in the order of commits of each instance."""
        for subscription in self._subscriptions.get(instance_id, ()):
            subscription.put(entries)

    def drain(self) -> None:
        """End every watch, and each new one, with where to resume."""
        self._draining = True
        for found in self._subscriptions.values():
            for subscription in found:
                subscription.drain()

    async def watch(
        self, instance_id: str, after_revision: int | None = None
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield a snapshot (where ``after_revision`` is None), then each later entry, then the end.

        Raises `InstanceNotFound` and `UnreachedRevisionError`, and what the store raises.
        """
        subscription = Subscription()
        subscription.draining = self._draining
        self._subscriptions.setdefault(instance_id, set()).add(subscription)
        try:
            # The subscription stands before the read, so nothing falls between the two.
            if after_revision is None:
                # A watch lasts for hours: from here on, nothing of it keeps the payloads that it began with.
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
                # Also on a store of our own: a commit whose outcome was unknown was not published.
                behind = True
                silent_s += pause_s
                if silent_s >= self._heartbeat_s:
                    silent_s = 0.0
                    yield WatchHeartbeat(position)
