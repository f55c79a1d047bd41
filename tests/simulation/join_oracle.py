"""Joins, told a second time: tokens that walk the graph, by the words of the design and nothing else.

What lives here: where tokens are, which steps they begin or skip, in which order. What may not: anything of
``perdure_server.engine``; this is what the engine is compared with. Every question is answered by walking the graph
anew, as slowly as that may be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from perdure.model.graph import END, Join, WorkflowGraph


@dataclass(frozen=True)
class Round:
    """The steps that are skipped and begun together; those that begin stand in the order of their refs."""

    skipped: frozenset[str]
    begun: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.skipped or self.begun)


@dataclass
class Tokens:
    """``live`` steps have begun and not ended; ``over`` ended or were skipped; ``arrived`` tokens wait at a step."""

    graph: WorkflowGraph
    live: set[str] = field(default_factory=set)
    over: set[str] = field(default_factory=set)
    arrived: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.arrived[self.graph.start] = set()

    @property
    def gone(self) -> bool:
        """Whether no branch is left."""
        return not self.live and not self.arrived

    def end(self, ref: str, event: str) -> None:
        """A live step ends with ``event``: one token leaves along each of its arrows."""
        self.live.remove(ref)
        self.over.add(ref)
        for target in self.graph.steps[ref].on[event]:
            # `end` swallows tokens, and so does a step that has begun or was skipped.
            if target != END and target not in self.live and target not in self.over:
                self.arrived.setdefault(target, set()).add(ref)

    def next_round(self) -> Round:
        """What the tokens that wait bring about now."""
        skipped = {ref for ref in self.arrived if self._is_all(ref) and self._misses_one(ref)}
        begun = [ref for ref in self.arrived if ref not in skipped and self._begins(ref, skipped)]
        return Round(frozenset(skipped), tuple(sorted(begun)))

    def carry_out(self, turn: Round) -> None:
        """Let the steps of a round be skipped and begin."""
        for ref in turn.skipped:
            del self.arrived[ref]
            self.over.add(ref)
        for ref in turn.begun:
            del self.arrived[ref]
            self.live.add(ref)

    def can_begin(self, ref: str) -> bool:
        """Whether a step that has not begun may still begin."""
        if ref in self.live or ref in self.over:
            return False
        if self._is_all(ref):
            return not self._misses_one(ref)
        return ref in self.arrived or any(self._can_send(source) for source in self._sources(ref))

    def _begins(self, ref: str, skipped: set[str]) -> bool:
        join = self.graph.steps[ref].join or Join.AUTO
        if join is Join.ANY:
            return True
        if self._is_all(ref):
            return self.arrived[ref] == set(self._sources(ref))
        # auto: from no live step, and from no token that waits before another step, is there a way here.
        origins = self.live | (self.arrived.keys() - skipped - {ref})
        return not any(ref in self._walk(origin) for origin in origins)

    def _walk(self, origin: str) -> set[str]:
        """Every step that a token at ``origin`` may come to, through steps that may yet begin."""
        seen: set[str] = set()
        edge = [origin]
        while edge:
            for target in self.graph.steps[edge.pop()].targets:
                if target not in seen:
                    seen.add(target)
                    if self.can_begin(target):
                        edge.append(target)
        return seen

    def _is_all(self, ref: str) -> bool:
        return self.graph.steps[ref].join is Join.ALL and any(self._sources(ref))

    def _misses_one(self, ref: str) -> bool:
        """Whether some predecessor has not arrived and never will."""
        here = self.arrived.get(ref, set())
        return any(source not in here and not self._can_send(source) for source in self._sources(ref))

    def _can_send(self, ref: str) -> bool:
        return ref in self.live or self.can_begin(ref)

    def _sources(self, ref: str) -> Iterator[str]:
        return (step.ref for step in self.graph.steps.values() if ref in step.targets)
