"""The state cache: last committed states of instances, so that the next decision needs no read.

Bounded by the number of states, their size, and the memory of their payloads. Reads of clients never use the cache.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from sys import getsizeof
from typing import Final

from perdure_server.engine.decide import Decision
from perdure_server.engine.state import State

STATES_MAX: Final = 10_000
"""Maximum number of cached states. The one that was used longest ago is dropped first."""

STATE_PARTS_MAX: Final = 300_000
"""Maximum number of steps, timers and buffered events in all cached states. Each takes about 300 bytes."""

PAYLOAD_BYTES_MAX: Final = 32 << 20
"""Maximum memory of cached payloads, in bytes. Tasks beyond it read their payloads from the store.

A text takes up to eight bytes a character: four, and its UTF-8 form, which Python keeps once it was made.
"""


@dataclass(slots=True, eq=False)
class CachedState:
    """An instance's last committed state. ``state`` is None if it must be read from the store."""

    instance_id: str
    state: State | None = None
    is_fresh: bool = False
    """True if the state was read from the store for the next command."""
    payloads: Mapping[int, str] | None = None
    """Every payload by the revision of its entry, or None if some are not cached."""
    payload_bytes: int = 0
    parts: int = 0


class StateCache:
    """Cached states by instance. An entry in use is not in the cache: `take` removes it and `put` returns it."""

    def __init__(
        self,
        *,
        max_states: int = STATES_MAX,
        max_parts: int = STATE_PARTS_MAX,
        max_payload_bytes: int = PAYLOAD_BYTES_MAX,
    ) -> None:
        self.max_states = max_states
        self.max_parts = max_parts
        self.max_payload_bytes = max_payload_bytes
        self._entries: OrderedDict[str, CachedState] = OrderedDict()
        self.parts = 0
        """Number of steps, timers and buffered events in all entries."""
        self.payload_bytes = 0
        """Memory of the payloads in all entries, in bytes."""

    def __len__(self) -> int:
        """Return the number of entries that are not in use."""
        return len(self._entries)

    def __iter__(self) -> Iterator[CachedState]:
        """Iterate over the entries that are not in use, the one that was used longest ago first."""
        return iter(self._entries.values())

    def take(self, instance_id: str) -> CachedState:
        """Return the entry of an instance for exclusive use, an empty one if there is none."""
        return self._entries.pop(instance_id, None) or CachedState(instance_id)

    def put(self, entry: CachedState) -> None:
        """Return an entry. It is dropped if the instance has ended, and older ones to stay within the bounds."""
        state = entry.state
        if state is None or state.is_final:
            self.forget(entry)
            return
        self._entries[entry.instance_id] = entry
        self._set_parts(entry, len(state.steps) + len(state.timers) + len(state.inbox))
        while self._entries and (len(self._entries) > self.max_states or self.parts > self.max_parts):
            self.forget(self._entries.popitem(last=False)[1])

    def update(self, entry: CachedState, decision: Decision) -> None:
        """Store what a committed decision has made of the instance."""
        is_new = entry.state is None and decision.entries[0].revision == 1
        entry.state = decision.state
        if not decision.payloads:
            return
        if is_new:
            self._set_payloads(entry, decision.payloads)
        elif entry.payloads is not None:
            self._set_payloads(entry, {**entry.payloads, **decision.payloads})

    def forget(self, entry: CachedState) -> None:
        """Empty an entry, so that the next command reads the store."""
        entry.state, entry.is_fresh = None, False
        self._set_payloads(entry, None)
        self._set_parts(entry, 0)

    def _set_payloads(self, entry: CachedState, payloads: Mapping[int, str] | None) -> None:
        self.payload_bytes -= entry.payload_bytes
        size_bytes = sum(map(getsizeof, payloads.values())) if payloads else 0
        if self.payload_bytes + size_bytes > self.max_payload_bytes:
            payloads, size_bytes = None, 0
        entry.payloads, entry.payload_bytes = payloads, size_bytes
        self.payload_bytes += size_bytes

    def _set_parts(self, entry: CachedState, parts: int) -> None:
        self.parts += parts - entry.parts
        entry.parts = parts
