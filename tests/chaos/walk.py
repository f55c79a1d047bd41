"""History of one instance with the state after each entry. All checks use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from chaos.database import InstanceRow
from chaos.ledger import Recording
from perdure.model.graph import WorkflowGraph
from perdure_server.engine.evolve import evolve, initial_state
from perdure_server.engine.facts import Entry
from perdure_server.engine.state import State


@dataclass(frozen=True, kw_only=True)
class Walk:
    """``states[revision]``; a history that cannot be folded has none behind the place where it breaks."""

    instance_id: str
    row: InstanceRow
    entries: tuple[Entry, ...]
    payloads: Mapping[int, str]
    graph: WorkflowGraph
    states: Mapping[int, State]
    broken: str = ""

    @cached_property
    def by_revision(self) -> Mapping[int, Entry]:
        return {entry.revision: entry for entry in self.entries}

    @property
    def final(self) -> State | None:
        """State after the last entry, or None for an empty history."""
        return self.states.get(self.entries[-1].revision) if self.entries else None

    @property
    def revision(self) -> int:
        """The newest revision."""
        return self.entries[-1].revision if self.entries else 0


def walks_of(recording: Recording) -> dict[str, Walk]:
    """Walk every history of the recording."""
    database = recording.database
    walks: dict[str, Walk] = {}
    for instance_id, row in database.instances.items():
        entries = database.histories.get(instance_id, ())
        state: State | None = None
        states: dict[int, State] = {}
        broken = ""
        for entry in entries:
            try:
                state = initial_state(instance_id, entry) if state is None else evolve(state, entry)
            except Exception as error:
                broken = f"at {entry}: {error!r}"
                break
            states[entry.revision] = state
        # The history is the truth: a row that says otherwise must be found, and must not mislead the walk.
        told = next(iter(states.values()), row.state)
        walks[instance_id] = Walk(
            instance_id=instance_id,
            row=row,
            entries=entries,
            payloads=database.payloads.get(instance_id, {}),
            graph=database.graphs[told.workflow, told.version, told.definition_digest],
            states=states,
            broken=broken,
        )
    return walks
