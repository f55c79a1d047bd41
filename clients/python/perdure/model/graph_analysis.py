"""What only the whole graph shows: who reaches whom, cycles, joins. The third pass of ``perdure.model.validation``.

Theory of operation. The structure of a graph is judged by what its runs can do. A run chooses, for every step
that begins, one of its events (any event: a person, a clock or a failure decides), and every target of that
event gets an arrival. ``error`` and ``timeout`` arrows are arrows like any other. Two questions about joins
follow from that.

*Must the author say which join?* (`IssueCode.JOIN_UNDECLARED`) A step J is a fan-in of parallel branches when some
event forks to two targets from which J can be reached along two paths that share no step. Such a branch may
leave the fan-in when some run takes it to ``end`` and nowhere to J. If both hold, `auto` would start J
without that branch and `all` would skip J, so the author must choose. An exclusive choice that merges again
has no such fork and needs no word; neither has a branch that forks to J and to ``end`` at once, for it always
arrives.

Both are computed backwards from J. The *gate* of a step is the last step that every path from here to J must
pass: the gate that all its targets share, or else the step itself. Two targets have disjoint paths to J
exactly when their gates differ. A step may *leave* when one of its events leads only to ``end``, to steps
that cannot reach J, and to steps that may leave. This is exact, up to joins further up that may be skipped.

*Can a join="all" ever start?* (`IssueCode.JOIN_UNSATISFIABLE`) Only if its predecessors can all arrive in one run;
then each two of them can. Two steps can arrive in one run when some fork leads to them along disjoint paths,
or one of them forks towards the other and the join at once. That relation over all pairs is computed in
topological order. It asks about pairs, and takes every other join for one that starts, so it may miss an
impossible join of three or more, but never blames one that some run can satisfy.

Cost: with S steps and A arrows (validation bounds both), O(A) for reachability and cycles, O(A) for
each step with an undeclared join, and O(A * S / wordsize + S**2) for the joins that say "all". Both join
questions are asked only where no cycle lies upstream: behind one, "run" means nothing yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Final

from perdure.model.graph import END, Join, StepDefinition
from perdure.model.issues import IssueCode, Report, did_you_mean, label, show


class Structure:
    """The arrows between steps that exist, and who reaches whom."""

    def __init__(self, start: object, steps: Mapping[str, StepDefinition]) -> None:
        self.start: Final = start
        self.steps: Final = steps
        self.start_known: Final = isinstance(start, str) and start in steps
        # Each event's targets that are steps, as sets: what a fork starts together.
        self.forks: Final = {
            ref: [frozenset(target for target in targets if target in steps) for targets in step.on.values()]
            for ref, step in steps.items()
        }
        # The same for the events whose targets are all known: of the others nobody can say where they lead.
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
        # Without a start nothing can be called unreachable; the rest is judged as if every step were a start.
        self.reached: Final = self.from_steps([start]) if self.start_known else set(steps)  # type: ignore[list-item]  # known means it is a ref

    def from_steps(self, refs: Iterable[str]) -> set[str]:
        """The steps that can be reached from ``refs``, those included."""
        return _closure(refs, self.targets)

    def to_steps(self, refs: Iterable[str]) -> set[str]:
        """The steps from which one of ``refs`` can be reached, those included."""
        return _closure(refs, self.sources)

    def order(self) -> list[str]:
        """The reached steps with no cycle upstream, every arrow pointing forward."""
        open_arrows = {
            ref: sum(source in self.reached for source in self.sources[ref]) for ref in self.reached
        }
        order = [ref for ref in self.steps if open_arrows.get(ref) == 0]
        for ref in order:  # grows while it is walked
            for target in self.targets[ref]:
                open_arrows[target] -= 1
                if open_arrows[target] == 0:
                    order.append(target)
        return order


def _closure(refs: Iterable[str], arrows: Mapping[str, Iterable[str]]) -> set[str]:
    found = set(refs)
    ahead = list(found)
    while ahead:
        for ref in arrows[ahead.pop()]:
            if ref not in found:
                found.add(ref)
                ahead.append(ref)
    return found


def check_structure(structure: Structure, report: Report, *, malformed: Set[str] = frozenset()) -> None:
    """Add what the whole graph shows. ``malformed`` names the steps that have a issue and no place in the graph."""
    if not structure.start_known and not (isinstance(structure.start, str) and structure.start in malformed):
        report.add(
            IssueCode.START_UNKNOWN,
            None,
            f"start is {show(structure.start)}, which is no step" if structure.start else "it has no start",
            did_you_mean(structure.start, structure.steps, report) or "let start name the step that begins",
        )
    for ref in structure.steps:
        if ref not in structure.reached:
            report.add(
                IssueCode.STEP_UNREACHABLE,
                ref,
                f"no path leads to it from {show(structure.start)}",
                "let an event lead to it, or remove it",
            )
    _check_ends(structure, report)
    order = structure.order()
    _check_undeclared_joins(structure, order, report)
    if structure.start_known:
        _check_all_joins(structure, order, report)


def _check_ends(structure: Structure, report: Report) -> None:
    """Cycles, and steps with no way out. Only where the fault lies is named, not all that leads there."""
    groups = _knots(structure)
    group_of = {ref: index for index, group in enumerate(groups) for ref in group}
    for group in groups:
        ref = group[0]
        if len(group) > 1 or ref in structure.targets[ref]:
            path = " -> ".join(label(step) for step in _round(group, structure))
            report.add(
                IssueCode.CYCLE,
                ref,
                f"a cycle: {path}",
                "remove an arrow of it; a step runs at most once in an instance; to repeat it, retry",
            )
    # An arrow to a step that does not exist counts as a way out: it has its own issue.
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
                "no path leads from it to 'end'"
                if structure.targets[ref]
                else "it has no arrow, so it leads nowhere",
                "let an event lead to 'end'",
            )


def _knots(structure: Structure) -> list[list[str]]:
    """The groups of steps that reach each other, each in the order authored (Tarjan's algorithm, without
    recursion).
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


def _round(group: Sequence[str], structure: Structure) -> list[str]:
    """A shortest way from the group's first step through the group back to it."""
    first, inside = group[0], frozenset(group)
    came_from: dict[str, str] = {}
    ahead = [first]
    for ref in ahead:  # grows while it is walked
        for target in sorted(structure.targets[ref] & inside):
            if target == first:
                way = [first, ref]
                while way[-1] != first:
                    way.append(came_from[way[-1]])
                return way[::-1]
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
        # Only what passes is offered.
        hint = "join='auto' (it starts without that branch) or join='any' (the first arrival starts it)"
        if ref in apart:
            one, other = apart[ref]
            hint += (
                f"; 'all' would never start it, since {show(one)} and {show(other)} never arrive in one run"
            )
        else:
            hint = f"join='all' (then this step is skipped), {hint}"
        report.add(
            IssueCode.JOIN_UNDECLARED,
            ref,
            f"parallel branches meet here, and the one of {show(leaver)} may reach 'end' another way",
            f"say {hint}",
        )


def _branch_that_may_leave(join: str, structure: Structure, before: Sequence[str]) -> str | None:
    """The first step of a parallel branch to ``join`` that may leave it; None if there is none."""
    gates = {join: join}
    bound = {join}  # those that reach the join whatever happens
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
            f"{show(one)} and {show(other)} never arrive in one run, so 'all' never starts it",
            "let those that exclude each other meet in a step of their own that leads here, or let one event"
            " begin both branches; join='auto' starts without those that cannot arrive",
        )


def _never_in_one_run(
    joins: Sequence[str], structure: Structure, order: Sequence[str]
) -> dict[str, tuple[str, str]]:
    """Of each of these joins that not all predecessors can reach in one run, the first two that exclude each other."""
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
            # What this source starts beside the join, by the very event that leads to the join.
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
    """For each step, as bits, the steps that may begin in the same run without either leading to the other.

    That is: some fork leads to the two along paths that share no step. Of such a pair, the last arrow to the later one
    comes from a step that is itself together with the earlier one, or else from the fork; then the earlier one can be
    reached from another target of that fork. (What can be reached from the later one itself lies behind it.)
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
    """For each step, as bits, the steps that can be reached from it, itself included."""
    beyond: dict[str, int] = {}
    for ref in reversed(order):
        row = 1 << place[ref]
        for target in structure.targets[ref]:
            row |= beyond.get(
                target, 0
            )  # what lies in or behind a cycle has no place and is nobody's source here
        beyond[ref] = row
    return beyond
