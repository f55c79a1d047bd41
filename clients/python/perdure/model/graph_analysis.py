"""Analysis of the whole graph: reachability, cycles and joins. The third pass of ``perdure.model.validation``.

Theory of operation. Validation judges a graph by its possible runs. In a run, each started step ends with one of its
events. Any event is possible, since a person, a timer or a failure decides. Each target of that event gets an arrival.
``error`` and ``timeout`` transitions are transitions like any other. This raises two questions about joins.

*Must the author declare the join?* (`IssueCode.JOIN_UNDECLARED`) A step J joins parallel branches if some event forks
to two targets from which J is reachable along two paths that share no step. Such a branch can leave the join if some
run takes it to ``end`` without reaching J. If both hold, `auto` starts J without that branch and `all` skips J, so the
author must choose. An exclusive choice that merges again has no such fork and needs no declaration. Neither does a
branch that forks to J and to ``end`` at once, because it always arrives.

The algorithm computes both backwards from J. The *gate* of a step is the last step that every path from the step to J
must pass: the gate that all its targets share, or else the step itself. Two targets have disjoint paths to J exactly if
their gates differ. A step can *leave* if one of its events leads only to ``end``, to steps that cannot reach J, and to
steps that can leave. The result is exact, except for joins further upstream that can be skipped.

*Can a join="all" ever start?* (`IssueCode.JOIN_UNSATISFIABLE`) Only if all its predecessors can arrive in one run,
and then each pair of them can. Two steps can arrive in one run if some fork leads to them along disjoint paths, or if
one of them forks towards the other and the join at once. The algorithm computes this relation over all pairs in
topological order. It considers pairs, and assumes that every other join starts. So it can miss an impossible join of
three or more predecessors, but it never reports a join that some run can satisfy.

Cost: with S steps and T transitions (validation bounds both), O(T) for reachability and cycles, O(T) for each step with
an undeclared join, and O(T * S / wordsize + S**2) for the joins that are declared "all". Both questions apply only to
joins without a cycle upstream. Behind a cycle, a run is not defined.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Final

from perdure.model.graph import END, Join, StepDefinition
from perdure.model.issues import IssueCode, Report, did_you_mean, label, show


class Structure:
    """Transitions between existing steps, and reachability along them."""

    def __init__(self, start: object, steps: Mapping[str, StepDefinition]) -> None:
        self.start: Final = start
        self.steps: Final = steps
        self.start_known: Final = isinstance(start, str) and start in steps
        # For each event, the set of targets that are steps: the steps that a fork starts together.
        self.forks: Final = {
            ref: [frozenset(target for target in targets if target in steps) for targets in step.on.values()]
            for ref, step in steps.items()
        }
        # The same, for events whose targets are all known. The others lead to unknown places.
        self.known_forks: Final = {
            ref: [
                fork
                for fork, targets in zip(self.forks[ref], step.on.values(), strict=True)
                if targets and len(fork) == len({*targets} - {END})
            ]
            for ref, step in steps.items()
        }
        self.targets: Final = {ref: frozenset[str]().union(*forks) for ref, forks in self.forks.items()}
        self.sources: Final[dict[str, list[str]]] = {ref: [] for ref in steps}
        for ref, targets in self.targets.items():
            for target in targets:
                self.sources[target].append(ref)
        # Without a start, no step counts as unreachable, and every step counts as a start.
        self.reached: Final = self.from_steps([start]) if self.start_known else set(steps)  # type: ignore[list-item]  # known means it is a ref

    def from_steps(self, refs: Iterable[str]) -> set[str]:
        """Return the steps that are reachable from ``refs``, including them."""
        return _closure(refs, self.targets)

    def to_steps(self, refs: Iterable[str]) -> set[str]:
        """Return the steps from which one of ``refs`` is reachable, including them."""
        return _closure(refs, self.sources)

    def order(self) -> list[str]:
        """Return the reachable steps without a cycle upstream, in topological order."""
        open_transitions = {
            ref: sum(source in self.reached for source in self.sources[ref]) for ref in self.reached
        }
        order = [ref for ref in self.steps if open_transitions.get(ref) == 0]
        for ref in order:  # grows during the loop
            for target in self.targets[ref]:
                open_transitions[target] -= 1
                if open_transitions[target] == 0:
                    order.append(target)
        return order


def _closure(refs: Iterable[str], edges: Mapping[str, Iterable[str]]) -> set[str]:
    found = set(refs)
    ahead = list(found)
    while ahead:
        for ref in edges[ahead.pop()]:
            if ref not in found:
                found.add(ref)
                ahead.append(ref)
    return found


def check_structure(structure: Structure, report: Report, *, malformed: Set[str] = frozenset()) -> None:
    """Add the issues of the whole graph.

    ``malformed`` are steps that have an issue already and are not in the graph.
    """
    if not structure.start_known and not (isinstance(structure.start, str) and structure.start in malformed):
        report.add(
            IssueCode.START_UNKNOWN,
            None,
            f"start is {show(structure.start)}, which is not a step"
            if structure.start
            else "it has no start",
            did_you_mean(structure.start, structure.steps, report)
            or "set start to the name of the first step",
        )
    for ref in structure.steps:
        if ref not in structure.reached:
            report.add(
                IssueCode.STEP_UNREACHABLE,
                ref,
                f"no path leads to it from {show(structure.start)}",
                "add a transition to it, or remove it",
            )
    _check_ends(structure, report)
    order = structure.order()
    _check_undeclared_joins(structure, order, report)
    if structure.start_known:
        _check_all_joins(structure, order, report)


def _check_ends(structure: Structure, report: Report) -> None:
    """Report cycles, and steps from which `end` is unreachable. Names the faulty steps, not those upstream of them."""
    groups = _cycles(structure)
    group_of = {ref: index for index, group in enumerate(groups) for ref in group}
    for group in groups:
        ref = group[0]
        if len(group) > 1 or ref in structure.targets[ref]:
            path = " -> ".join(label(step) for step in _cycle_path(group, structure))
            report.add(
                IssueCode.CYCLE,
                ref,
                f"a cycle: {path}",
                "remove one of its transitions (a step runs at most once in an instance; a retry policy repeats it)",
            )
    # A transition to a missing step counts as a way out. It has its own issue.
    leaving = (
        ref
        for ref, step in structure.steps.items()
        if any(
            target == END or target not in structure.steps
            for targets in step.on.values()
            for target in targets
        )
    )
    stuck = structure.steps.keys() - structure.to_steps(leaving)
    for ref in structure.steps:
        if ref in stuck and all(group_of[target] == group_of[ref] for target in structure.targets[ref]):
            report.add(
                IssueCode.END_UNREACHABLE,
                ref,
                "no path leads from it to 'end'" if structure.targets[ref] else "it has no transition",
                "add a transition to 'end'",
            )


def _cycles(structure: Structure) -> list[list[str]]:
    """Return the groups of steps that reach each other, each in the order of declaration.

    Tarjan's algorithm, without recursion.
    """
    place = {ref: index for index, ref in enumerate(structure.steps)}
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stacked: dict[str, None] = {}
    groups: list[list[str]] = []
    for root in structure.steps:
        if root in number:
            continue
        number[root] = low[root] = len(number)
        stacked[root] = None
        walk = [(root, iter(structure.targets[root]))]
        while walk:
            ref, ahead = walk[-1]
            target = next(ahead, None)
            if target is None:
                walk.pop()
                if walk:
                    low[walk[-1][0]] = min(low[walk[-1][0]], low[ref])
                if low[ref] == number[ref]:
                    group: list[str] = []
                    while not group or group[-1] != ref:
                        group.append(stacked.popitem()[0])
                    groups.append(sorted(group, key=place.__getitem__))
            elif target not in number:
                number[target] = low[target] = len(number)
                stacked[target] = None
                walk.append((target, iter(structure.targets[target])))
            elif target in stacked:
                low[ref] = min(low[ref], number[target])
    return sorted(groups, key=lambda group: place[group[0]])


def _cycle_path(group: Sequence[str], structure: Structure) -> list[str]:
    """Return a shortest path from the first step of the group through the group and back."""
    first, inside = group[0], frozenset(group)
    came_from: dict[str, str] = {}
    ahead = [first]
    for ref in ahead:  # grows during the loop
        for target in sorted(structure.targets[ref] & inside):
            if target == first:
                path = [first, ref]
                while path[-1] != first:
                    path.append(came_from[path[-1]])
                return path[::-1]
            if target not in came_from:
                came_from[target] = ref
                ahead.append(target)
    return [first]


def _check_undeclared_joins(structure: Structure, order: Sequence[str], report: Report) -> None:
    leavers: dict[str, str] = {}
    for index, ref in enumerate(order):
        if structure.steps[ref].join is None and len(structure.sources[ref]) > 1:
            leaver = _branch_that_may_leave(ref, structure, order[:index])
            if leaver is not None:
                leavers[ref] = leaver
    apart = _never_in_one_run([*leavers], structure, order) if structure.start_known else {}
    for ref, leaver in leavers.items():
        # Offer only the joins that pass validation.
        hint = "join='auto' (the step starts without that branch) or join='any' (the first arrival starts the step)"
        if ref in apart:
            one, other = apart[ref]
            hint += f"; 'all' would never start the step, because {show(one)} and {show(other)} never arrive in one run"
        else:
            hint = f"join='all' (the step is skipped), {hint}"
        report.add(
            IssueCode.JOIN_UNDECLARED,
            ref,
            f"parallel branches join here, and the branch of {show(leaver)} can reach 'end' another way",
            f"declare {hint}",
        )


def _branch_that_may_leave(join: str, structure: Structure, before: Sequence[str]) -> str | None:
    """Return the first step of a parallel branch to ``join`` that can leave it, or None."""
    gates = {join: join}
    bound = {join}  # steps that always reach the join
    for ref in reversed(before):
        behind = {gates[target] for target in structure.targets[ref] if target in gates}
        if behind:
            gates[ref] = behind.pop() if len(behind) == 1 and join not in behind else ref
            if not any(bound.isdisjoint(fork) for fork in structure.known_forks[ref]):
                bound.add(ref)
    for ref in before:
        for fork in structure.forks[ref] if ref in gates else ():
            branches = [target for target in fork if target in gates]
            if len({gates[target] for target in branches}) > 1 and not bound.issuperset(branches):
                return min(target for target in branches if target not in bound)
    return None


def _check_all_joins(structure: Structure, order: Sequence[str], report: Report) -> None:
    joins = [
        ref for ref in order if structure.steps[ref].join is Join.ALL and len(structure.sources[ref]) > 1
    ]
    for join, (one, other) in _never_in_one_run(joins, structure, order).items():
        report.add(
            IssueCode.JOIN_UNSATISFIABLE,
            join,
            f"{show(one)} and {show(other)} never arrive in one run, so join='all' never starts the step",
            "merge the branches that exclude each other in a step of their own, or start both branches with one"
            " event, or declare join='auto' (the step starts without those that cannot arrive)",
        )


def _never_in_one_run(
    joins: Sequence[str], structure: Structure, order: Sequence[str]
) -> dict[str, tuple[str, str]]:
    """Return the first two predecessors that exclude each other, for each join that has such a pair."""
    if not joins:
        return {}
    found: dict[str, tuple[str, str]] = {}
    place = {ref: index for index, ref in enumerate(order)}
    beyond = _beyond(structure, order, place)
    together = _together(structure, order, place, beyond)
    for join in joins:
        # A predecessor that nothing reaches has its own issue.
        sources = sorted(place[ref] for ref in structure.sources[join] if ref in place)
        late = sum(1 << source for source in sources)
        for source in sources:
            late &= ~(1 << source)
            # Steps that this source starts together with the join, by the same event.
            beside = 0
            for fork in structure.forks[order[source]]:
                if join in fork:
                    for target in fork - {join}:
                        beside |= beyond.get(target, 0)
            apart = late & ~together[source] & ~beside
            if apart:
                found[join] = order[source], order[(apart & -apart).bit_length() - 1]
                break
    return found


def _together(
    structure: Structure, order: Sequence[str], place: Mapping[str, int], beyond: Mapping[str, int]
) -> list[int]:
    """Return for each step, as bits, the steps that can start in the same run without one leading to the other.

    Some fork leads to both along paths that share no step. In such a pair, the last transition to the later step comes
    from a step that is itself paired with the earlier one, or from the fork. In the second case the earlier step is
    reachable from another target of that fork. (Steps that are reachable from the later step lie behind it.)
    """
    rows = [0] * len(order)
    for ref in order:
        for fork in structure.forks[ref]:
            behind = 0
            for target in fork:
                behind |= beyond.get(target, 0)
            for target in fork:
                if target in place:
                    rows[place[target]] |= behind
    for index, ref in enumerate(order):
        earlier = (1 << index) - 1
        row = rows[index] & earlier
        for source in structure.sources[ref]:
            if source in place:
                row |= rows[place[source]] & earlier
        rows[index] = row
        while row:
            lowest = row & -row
            rows[lowest.bit_length() - 1] |= 1 << index
            row ^= lowest
    return rows


def _beyond(structure: Structure, order: Sequence[str], place: Mapping[str, int]) -> dict[str, int]:
    """Return for each step, as bits, the steps that are reachable from it, including itself."""
    beyond: dict[str, int] = {}
    for ref in reversed(order):
        row = 1 << place[ref]
        for target in structure.targets[ref]:
            # Steps in or behind a cycle have no place. They are not predecessors of a join in the order.
            row |= beyond.get(target, 0)
        beyond[ref] = row
    return beyond
