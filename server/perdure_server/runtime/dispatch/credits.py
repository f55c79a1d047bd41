"""The credit ledger: registered executors, their handlers, and their free slots. Pure: no event loop and no I/O.

An executor's *credits* are the number of attempts that it holds at once. A credit is in use from the time an attempt is
handed over until the store has taken its result, so an unavailable database stops new work by itself.

An executor has a *backlog* while tasks may be waiting for its next free credit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from perdure_server.engine.commands import NO_GRANT, Grant
from perdure_server.runtime.dispatch.protocol import Executor, TaskKey
from perdure_server.runtime.dispatch.reservations import Reservations
from perdure_server.store.protocol import Code

GRANT_SLOTS_MAX: Final = 8
"""Maximum number of tasks that one commit takes. The sweeper takes the rest of a wider fan-out."""


@dataclass(slots=True, eq=False)
class RegisteredExecutor:
    """An executor with its credits. The ledger owns the counts, the sweeper the fields from ``offers`` on."""

    executor: Executor
    handlers: Code
    credits: int
    used: int = 0
    taking: int = 0
    """Number of tasks that are being taken for it."""
    backlog: bool = False
    """True if tasks may be waiting for its next free credit."""
    offers: int = 0
    """Number of offered tasks. A change during a read means that a task became ready meanwhile."""
    unusable: int = 0
    """Number of unusable rows that the next read has to skip."""
    poll_at: float = 0.0
    """Time of the next poll without an offer, by the event loop's clock."""

    @property
    def free(self) -> int:
        return self.credits - self.used - self.taking

    def has_handler(self, workflow: str, version: int, step_ref: str) -> bool:
        return step_ref in self.handlers.get((workflow, version), ())


class CreditLedger:
    """Credits of the executors of one process."""

    def __init__(self, replica_id: str) -> None:
        self.executors: list[RegisteredExecutor] = []
        self.paused = False
        """True while no grants are given."""
        self._replica_id = replica_id
        self._by_version: dict[tuple[str, int], list[RegisteredExecutor]] = {}
        self._grants: dict[tuple[frozenset[str], int], Grant] = {}
        self._reserved = Reservations()
        self._taking: dict[TaskKey, RegisteredExecutor] = {}

    # --- executors -------------------------------------------------------------------------------------------

    def register(self, executor: Executor, handlers: Code, max_credits: int) -> None:
        """Add an executor."""
        used_handlers = {key: refs for key, refs in handlers.items() if refs}
        self.executors.append(RegisteredExecutor(executor, used_handlers, max_credits))
        self._index()

    def unregister(self, executor: Executor) -> list[RegisteredExecutor]:
        """Remove an executor and return its entries."""
        removed = [entry for entry in self.executors if entry.executor is executor]
        self.executors = [entry for entry in self.executors if entry.executor is not executor]
        self._index()
        return removed

    def set_credits(self, executor: Executor, max_credits: int) -> None:
        """Change an executor's credits."""
        for entry in self.executors:
            if entry.executor is executor:
                entry.credits = max_credits

    def load(self, executor: Executor) -> tuple[int, int]:
        """Return an executor's used credits and its credits. Can be called from any thread."""
        for entry in self.executors:
            if entry.executor is executor:
                return entry.used, entry.credits
        return 0, 0

    @property
    def handlers(self) -> Code:
        """The steps that an executor of this process has a handler for."""
        handlers: dict[tuple[str, int], frozenset[str]] = {}
        for entry in self.executors:
            for key, refs in entry.handlers.items():
                handlers[key] = handlers.get(key, frozenset()) | refs
        return handlers

    def serving(self, workflow: str, version: int) -> Sequence[RegisteredExecutor]:
        """Return the executors with a handler for any step of this workflow version."""
        return self._by_version.get((workflow, version), ())

    def has_handler(self, workflow: str, version: int, step_ref: str) -> bool:
        """Return True if an executor of this process has a handler for the step."""
        return any(
            entry.has_handler(workflow, version, step_ref) for entry in self.serving(workflow, version)
        )

    def choose(self, workflow: str, version: int, step_ref: str) -> RegisteredExecutor | None:
        """Return the executor with the most free credits among those with a handler for the step."""
        best: RegisteredExecutor | None = None
        for entry in self._by_version.get((workflow, version), ()):
            if entry.has_handler(workflow, version, step_ref) and (best is None or entry.free > best.free):
                best = entry
        return best

    def replica_changed(self, replica_id: str) -> None:
        """Give later grants to another replica ID."""
        self._replica_id = replica_id
        self._grants.clear()

    # --- reservations ----------------------------------------------------------------------------------------

    def reserve(self, workflow: str, version: int) -> Grant:
        """Reserve free slots of executors that can run this workflow version; see `TaskPort.reserve`."""
        entries = self._by_version.get((workflow, version))
        if entries is None or self.paused:
            return NO_GRANT
        reserved = self.reserved
        slots = 0
        step_refs: frozenset[str] = frozenset()
        for entry in entries:
            # Waiting tasks are entitled to half of their executor's credits.
            kept = entry.credits // 2 if entry.backlog else 0
            free = entry.free - reserved - kept
            if free > 0:
                slots = max(slots, free)
                refs = entry.handlers[workflow, version]
                step_refs = step_refs | refs if step_refs else refs
        slots = min(slots, GRANT_SLOTS_MAX)
        if slots <= 0:
            return NO_GRANT
        grant = self._grants.get((step_refs, slots))
        if grant is None:
            grant = self._grants[step_refs, slots] = Grant(self._replica_id, slots, step_refs)
        self._reserved.add(slots)
        return grant

    def release(self, slots: int) -> None:
        """Remove reserved slots that were used or are not needed."""
        self._reserved.take(slots)

    @property
    def reserved(self) -> int:
        """Number of slots that decisions in progress have reserved, of any executor.

        Tasks that the sweeper takes are counted by their executor instead.
        """
        return max(self._reserved.total - len(self._taking), 0)

    def room(self, entry: RegisteredExecutor) -> int:
        """Return the number of tasks that an executor can take in addition to its own and the reserved ones."""
        return entry.free - self.reserved

    @property
    def has_room_for_backlog(self) -> bool:
        """True if tasks may be waiting for an executor that has room."""
        # Checked several times for each attempt: a loop costs half of a generator.
        for entry in self.executors:  # noqa: SIM110 - see above
            if entry.backlog and self.room(entry) > 0:
                return True
        return False

    # --- takes -----------------------------------------------------------------------------------------------

    def start_take(self, key: TaskKey, entry: RegisteredExecutor) -> Grant:
        """Reserve a slot for a waiting task, by the key of its latest attempt, and return the grant for it."""
        self._taking[key] = entry
        entry.taking += 1
        self._reserved.add(1)
        return Grant(self._replica_id, 1, frozenset({key.step_ref}))

    def end_take(self, key: TaskKey) -> None:
        """Record that a take was committed or has failed. The slot of a failed one must be released in addition."""
        self._taking.pop(key).taking -= 1

    def is_taking(self, key: TaskKey) -> bool:
        """Return True while the task is being taken."""
        return key in self._taking

    @property
    def takes(self) -> int:
        """Number of tasks that are being taken."""
        return len(self._taking)

    def executor_of_take(self, key: TaskKey) -> RegisteredExecutor | None:
        """Return the executor that an attempt was taken for, or None if it is gone or the attempt was granted."""
        if not self._taking:
            return None
        entry = self._taking.get(TaskKey(key.instance_id, key.step_ref, key.attempt - 1))
        return entry if entry in self.executors else None

    def _index(self) -> None:
        self._by_version = {}
        self._grants.clear()
        for entry in self.executors:
            for key in entry.handlers:
                self._by_version.setdefault(key, []).append(entry)
