"""Checks of reads, lists and watches against histories: they miss no acknowledged entry and show no other entries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from chaos.checks_calls import CLOCK_SLOP_MS
from chaos.ledger import Outcome, Recording, Send, WatchLine
from chaos.projection import of_entry
from chaos.violations import Name, Violation
from chaos.walk import Walk
from perdure_server.engine.commands import EMPTY_OBJECT
from perdure_server.engine.state import Finished, State


def check_reads(recording: Recording, walks: Mapping[str, Walk]) -> Iterator[Violation]:
    """Judge GetInstance, ListHistory and ListInstances."""
    known = _known(recording.sends)
    for send in recording.sends:
        if send.outcome is not Outcome.OK:
            continue
        if send.rpc in ("GetInstance", "ListHistory"):
            walk = walks.get(send.instance_id)
            if walk is None:
                yield Violation(Name.READ_WRONG, send.op, f"there is no instance {send.instance_id}")
                continue
            # An empty page shows that no entry is newer than its start revision.
            seen = int(send.answer["revision"]) or int(send.fields.get("after_revision", 0))
            newest = max(
                (rev for at_ns, rev in known[send.instance_id] if at_ns < send.invoked_ns), default=0
            )
            if seen < newest:
                message = f"{send.rpc} of {send.instance_id} shows {seen}, {newest} was known"
                yield Violation(Name.READ_STALE, send.op, message)
            yield from _shown(send, walk) if send.rpc == "GetInstance" else _listed(send, walk)
        elif send.rpc == "ListInstances":
            yield from _list(send, recording.sends)


def _known(sends: Sequence[Send]) -> Mapping[str, list[tuple[int, int]]]:
    """Per instance: which revision was known to exist from when on."""
    known: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for send in sends:
        if send.outcome is Outcome.OK and send.answer.get("revision") and send.answer.get("created", True):
            known[send.answer["instance_id"]].append((send.answered_ns, int(send.answer["revision"])))
    return known


def _shown(send: Send, walk: Walk) -> Iterator[Violation]:
    answer = send.answer
    state = walk.states.get(int(answer["revision"]))
    if state is None:
        message = f"{walk.instance_id} at {answer['revision']}, the history ends at {walk.revision}"
        yield Violation(Name.READ_WRONG, send.op, message)
        return
    expected = shown_of(state, walk.payloads)
    shown = {name: answer[name] for name in expected}
    if shown != expected:
        message = f"{walk.instance_id} at {state.revision}: {shown}, expected {expected}"
        yield Violation(Name.READ_WRONG, send.op, message)


def shown_of(state: State, payloads: Mapping[int, str]) -> dict[str, object]:
    """Return what GetInstance must show of a state."""
    finished = {ref: step for ref, step in state.steps.items() if isinstance(step, Finished)}
    return {
        "state": state.status.name,
        "input": payloads.get(1),
        "outputs": {
            ref: payloads.get(step.output.revision)
            for ref, step in finished.items()
            if step.output is not None and payloads.get(step.output.revision) != EMPTY_OBJECT
        },
        "finished": {ref: step.event for ref, step in finished.items()},
        "inbox": [buffered.revision for buffered in state.inbox],
    }


def _listed(send: Send, walk: Walk) -> Iterator[Violation]:
    after = int(send.fields["after_revision"])
    shown = [dict(entry) for entry in send.answer["entries"]]
    expected = [of_entry(walk.instance_id, entry) for entry in walk.entries[after : after + len(shown)]]
    if shown != expected:
        yield Violation(Name.READ_WRONG, send.op, f"history of {walk.instance_id} after {after}: {shown}")


def _list(send: Send, sends: Sequence[Send]) -> Iterator[Violation]:
    ids = list(send.answer["ids"])
    if len(set(ids)) != len(ids):
        yield Violation(Name.LIST_MISSES, send.op, f"an instance twice in {ids}")
    wanted = send.fields["labels"].items()
    for start in sends:
        if (
            start.rpc == "StartInstance"
            and start.outcome is Outcome.OK
            and start.answer["created"]
            and start.answered_ns < send.invoked_ns
            and wanted <= start.fields["labels"].items()
            and start.answer["instance_id"] not in ids
        ):
            message = f"{start.answer['instance_id']} is not among {len(ids)}"
            yield Violation(Name.LIST_MISSES, send.op, message)


def check_watches(recording: Recording, walks: Mapping[str, Walk]) -> Iterator[Violation]:
    """Judge every stream: the history in order, without gap or repeat, also over reconnects."""
    watches: dict[str, list[WatchLine]] = defaultdict(list)
    for line in recording.watches:
        watches[line.watch].append(line)
    for watch, lines in watches.items():
        walk = walks.get(lines[0].instance_id)
        if walk is not None:
            yield from _watch(watch, lines, walk, quiet=recording.quiet)
        elif any(line.what in ("snapshot", "entry") for line in lines):
            yield Violation(Name.WATCH_WRONG, watch, f"there is no instance {lines[0].instance_id}")


def _watch(watch: str, lines: Sequence[WatchLine], walk: Walk, *, quiet: bool) -> Iterator[Violation]:
    position = 0
    seen = 0
    for line in lines:
        seen = max(seen, position)
        match line.what:
            case "open":
                position = line.after if line.after is not None else -1
            case "snapshot":
                if line.after is not None or line.revision not in walk.states:
                    yield Violation(Name.WATCH_WRONG, watch, f"a snapshot of {line.revision}")
                position = line.revision
            case "entry":
                yield from _entry(watch, line, position, walk)
                position = max(position, line.revision)
            case "heartbeat" if line.revision != position:
                yield Violation(Name.WATCH_GAP, watch, f"a heartbeat of {line.revision} at {position}")
            case "end":
                yield from _end(watch, line, position, walk)
            case "error" if seen and line.reason in ("REVISION_IN_FUTURE", "INSTANCE_NOT_FOUND"):
                yield Violation(Name.WATCH_REJECTED, watch, f"{line.reason} after {line.after}")
            case "closed" if quiet and line.revision < walk.revision:
                message = f"{walk.instance_id}: stayed at {line.revision} of {walk.revision}"
                yield Violation(Name.WATCH_FELL_SHORT, watch, message)


def _entry(watch: str, line: WatchLine, position: int, walk: Walk) -> Iterator[Violation]:
    stored = walk.by_revision.get(line.revision)
    if stored is None or dict(line.entry) != of_entry(walk.instance_id, stored):
        yield Violation(Name.WATCH_WRONG, watch, f"{walk.instance_id}: gave {line.entry}, stored {stored}")
    elif stored.at > line.seen_ms + CLOCK_SLOP_MS:
        yield Violation(Name.TIME_WRONG, watch, f"{stored} was seen at {line.seen_ms} already")
    if line.revision == position:
        yield Violation(Name.WATCH_REPEAT, watch, f"{walk.instance_id}: {line.revision} twice")
    elif line.revision < position:
        yield Violation(Name.WATCH_ORDER, watch, f"{walk.instance_id}: {line.revision} after {position}")
    elif line.revision > position + 1:
        yield Violation(Name.WATCH_GAP, watch, f"{walk.instance_id}: {line.revision} after {position}")


def _end(watch: str, line: WatchLine, position: int, walk: Walk) -> Iterator[Violation]:
    state = walk.states.get(line.revision)
    if line.revision != position:
        yield Violation(Name.WATCH_GAP, watch, f"ended at {line.revision}, the last entry was {position}")
    elif line.reason == "INSTANCE_ENDED" and (state is None or state.is_live):
        yield Violation(Name.WATCH_END_WRONG, watch, f"{walk.instance_id} was under way at {line.revision}")
