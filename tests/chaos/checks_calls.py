"""Checks of calls against histories: OK took effect once, rejected never, unknown at most once.

The unit is the *request*: all sends under one request ID in its scope, or a single send without one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from chaos.effects import MUTATING, Effect, Key, answered_with, asked_for, effects_of
from chaos.ledger import TRANSIENT_REASONS, Outcome, Recording, Send
from chaos.violations import Name, Violation
from chaos.walk import Walk
from perdure_server.engine import facts

CLOCK_SLOP_MS: Final = 25
"""Maximum difference of two readings of the same clock, in milliseconds, from rounding and clock slewing."""

_NEVER: Final = frozenset({"UNKNOWN", "INTERNAL", "UNIMPLEMENTED", "DATA_LOSS"})


@dataclass(frozen=True, slots=True)
class Request:
    """Sends that may take effect once, together."""

    key: Key
    sends: tuple[Send, ...]

    @property
    def oks(self) -> list[Send]:
        return [send for send in self.sends if send.outcome is Outcome.OK]

    @property
    def invoked_ns(self) -> int:
        return min(send.invoked_ns for send in self.sends)

    @property
    def where(self) -> str:
        return f"{self.key} ops {', '.join(send.op for send in self.sends)}"


def requests_of(recording: Recording) -> list[Request]:
    """Gather the sends of mutating calls."""
    grouped: dict[tuple[Key, str], list[Send]] = defaultdict(list)
    for send in recording.sends:
        if send.rpc in MUTATING:
            scope = "" if send.rpc == "StartInstance" else send.instance_id
            alone = "" if send.request_id else send.op
            grouped[(send.rpc, scope, send.request_id), alone].append(send)
    return [
        Request(key, tuple(sorted(sends, key=lambda send: send.invoked_ns)))
        for (key, _), sends in grouped.items()
    ]


def check_calls(recording: Recording, walks: Mapping[str, Walk]) -> Iterator[Violation]:
    """Judge every mutating call."""
    requests = requests_of(recording)
    effects = [effect for walk in walks.values() for effect in effects_of(walk)]
    for send in recording.sends:
        if send.status in _NEVER:
            yield Violation(Name.STATUS_UNEXPECTED, send.op, f"{send.rpc}: {send.status} {send.reason}")
    for request in requests:
        yield from _answers(request)
    yield from _oks(requests, walks)
    yield from _causes(requests, effects, walks)
    yield from _order(requests)
    yield from _rejections(recording.sends, requests, walks)
    yield from _keys(requests, walks)


def _answers(request: Request) -> Iterator[Violation]:
    """A repeat gets the first answer, whenever it is sent; another body never gets any."""
    oks = request.oks
    if len({send.body for send in oks}) > 1:
        yield Violation(Name.REUSE_ACCEPTED, request.where, f"{[send.body for send in oks]}")
    elif any(send.answer != oks[0].answer for send in oks[1:]):
        yield Violation(Name.ANSWERS_DIFFER, request.where, f"{[dict(send.answer) for send in oks]}")
    for ok in oks:
        for later in request.sends:
            if (
                later.invoked_ns > ok.answered_ns
                and later.body == ok.body
                and later.outcome is Outcome.REJECTED
                and later.reason not in TRANSIENT_REASONS
            ):
                yield Violation(Name.REPEAT_REJECTED, request.where, f"{later.op}: {later.reason}")


def _oks(requests: Sequence[Request], walks: Mapping[str, Walk]) -> Iterator[Violation]:
    """Each OK names an entry that is there, is what was asked for, and belongs to no other request."""
    claimed: dict[tuple[str, int], Request] = {}
    for request in requests:
        if not request.oks:
            continue
        send = request.oks[0]
        instance_id, revision = send.answer["instance_id"], send.answer["revision"]
        walk = walks.get(instance_id)
        if walk is None:
            yield Violation(Name.ANSWERED_BUT_MISSING, request.where, f"no instance {instance_id}")
            continue
        if send.rpc == "StartInstance" and not send.answer["created"]:
            if walk.row.state.business_key != send.fields["business_key"]:
                yield Violation(Name.ANSWER_WRONG, request.where, f"{instance_id} has another business key")
            continue
        entry = walk.by_revision.get(revision)
        if entry is None or entry.request_id != send.request_id or not asked_for(send, walk, entry):
            yield Violation(Name.ANSWERED_BUT_MISSING, request.where, f"{dict(send.answer)}, found {entry}")
            continue
        if not answered_with(send, walk, entry):
            yield Violation(Name.ANSWER_WRONG, request.where, f"{dict(send.answer)}, found {entry}")
        first_ms = min(s.invoked_ms for s in request.sends)
        if not first_ms - CLOCK_SLOP_MS <= entry.at <= send.answered_ms + CLOCK_SLOP_MS:
            message = f"at {entry.at}, called from {first_ms} to {send.answered_ms}"
            yield Violation(Name.TIME_WRONG, request.where, message)
        other = claimed.setdefault((instance_id, revision), request)
        if other is not request:
            yield Violation(Name.EFFECT_SHARED, request.where, f"with {other.where}")


def _causes(
    requests: Sequence[Request], effects: Sequence[Effect], walks: Mapping[str, Walk]
) -> Iterator[Violation]:
    """Each effect was asked for by a request that may have had it, and each request has at most one."""
    by_key = {request.key: request for request in requests if request.key[2]}
    claimed = {
        (ok.answer["instance_id"], ok.answer["revision"])
        for request in requests
        if not request.key[2]
        for ok in request.oks
    }
    nameless = [
        request.sends[0]
        for request in requests
        if not request.key[2] and request.sends[0].outcome is Outcome.UNKNOWN
    ]
    for key, count in Counter(effect.key for effect in effects if effect.entry.request_id).items():
        if count > 1:
            yield Violation(Name.EFFECT_TWICE, str(key), f"{count} times")
    for effect in effects:
        walk = walks[effect.instance_id]
        if not effect.entry.request_id:
            if (effect.instance_id, effect.entry.revision) in claimed:
                continue
            for send in nameless:
                if send.instance_id in ("", effect.instance_id) and asked_for(send, walk, effect.entry):
                    nameless.remove(send)
                    break
            else:
                yield Violation(Name.EFFECT_WITHOUT_CAUSE, effect.where, f"{effect.entry}")
            continue
        request = by_key.get(effect.key)
        fitting = [send for send in request.sends if asked_for(send, walk, effect.entry)] if request else []
        if not fitting:
            yield Violation(Name.EFFECT_WITHOUT_CAUSE, effect.where, f"{effect.entry}")
        elif all(send.outcome is Outcome.REJECTED for send in fitting):
            reasons = [send.reason for send in fitting]
            yield Violation(Name.REJECTED_BUT_APPLIED, effect.where, f"rejected with {reasons}")


def _order(requests: Sequence[Request]) -> Iterator[Violation]:
    """A call that ended before another call started has the lower revision."""
    by_instance: dict[str, list[tuple[int, int, int, Request]]] = defaultdict(list)
    for request in requests:
        for ok in request.oks[:1]:
            if ok.answer.get("created", True):
                answered_ns = min(send.answered_ns for send in request.oks)
                row = (request.invoked_ns, answered_ns, ok.answer["revision"], request)
                by_instance[ok.answer["instance_id"]].append(row)
    for rows in by_instance.values():
        for invoked_ns, _, revision, request in rows:
            for _, answered_ns, earlier, other in rows:
                if answered_ns < invoked_ns and earlier >= revision and other is not request:
                    message = f"revision {revision}, after {other.where} had {earlier}"
                    yield Violation(Name.ORDER_BROKEN, request.where, message)


def _rejections(
    sends: Sequence[Send], requests: Sequence[Request], walks: Mapping[str, Walk]
) -> Iterator[Violation]:
    """The reason of a rejection is true, if a client can check it."""
    started_ns: dict[str, int] = {}
    for request in requests:
        if request.key[0] == "StartInstance":
            for ok in request.oks:
                instance_id = ok.answer["instance_id"]
                started_ns[instance_id] = min(started_ns.get(instance_id, ok.answered_ns), ok.answered_ns)
    for send in sends:
        if (
            send.reason == "INSTANCE_NOT_FOUND"
            and started_ns.get(send.instance_id, send.invoked_ns) < send.invoked_ns
        ):
            yield Violation(Name.REJECTION_WRONG, send.op, f"{send.instance_id} was there: {send.reason}")
        if send.reason == "INSTANCE_ENDED" and not any(
            isinstance(entry.fact, facts.InstanceCompleted | facts.InstanceFailed | facts.InstanceCancelled)
            and entry.at <= send.answered_ms + CLOCK_SLOP_MS
            for entry in (walks[send.instance_id].entries if send.instance_id in walks else ())
        ):
            yield Violation(Name.REJECTION_WRONG, send.op, f"{send.instance_id} had not ended: {send.reason}")


def _keys(requests: Sequence[Request], walks: Mapping[str, Walk]) -> Iterator[Violation]:
    """No two instances that are certainly alive at one moment hold one business key."""
    spans: dict[tuple[str, str], list[tuple[int, int, str]]] = defaultdict(list)
    answered: dict[str, Send] = {}
    for request in requests:
        if request.key[0] == "StartInstance":
            for ok in request.oks:
                if ok.answer["created"]:
                    answered.setdefault(ok.answer["instance_id"], ok)
    for instance_id, ok in answered.items():
        walk = walks.get(instance_id)
        if walk is None or not walk.row.state.business_key:
            continue
        ends = [
            entry.at
            for entry in walk.entries
            if isinstance(
                entry.fact, facts.InstanceCompleted | facts.InstanceFailed | facts.InstanceCancelled
            )
        ]
        end = ends[0] if ends else 1 << 62
        key = (walk.row.state.workflow, walk.row.state.business_key)
        spans[key].append((ok.answered_ms + CLOCK_SLOP_MS, end - CLOCK_SLOP_MS, instance_id))
    for key, lives in spans.items():
        for first, second in overlapping(lives):
            yield Violation(Name.KEY_SHARED, str(key), f"{first} and {second}")


def overlapping(lives: Iterable[tuple[int, int, str]]) -> Iterator[tuple[str, str]]:
    """Yield whose lives (from, until, name) overlap, each with the next one.

    An interval that ends before it starts is not certain. For example, the first response was lost in a crash, and the
    recorded response belongs to a repeat after the end.
    """
    certain = sorted((start, end, name) for start, end, name in lives if start < end)
    for (_, end, first), (start, _, second) in pairwise(certain):
        if start < end:
            yield first, second
