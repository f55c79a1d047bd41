"""The checker accepts recordings of the engine alone, and finds each violation that is added to them.

These violations are changes of a recording, such as a lost row or another response. Bugs inside a running server are
in `test_injected_bugs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from chaos.checker import judge
from chaos.checks_calls import overlapping
from chaos.engine_world import good_recording, with_history
from chaos.ledger import Recording, Send
from chaos.violations import Name
from perdure_server.engine import facts
from perdure_server.engine.facts import Entry

SEED = 4


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_found_in_what_the_engine_alone_records(seed: int) -> None:
    recording = good_recording(seed)
    assert judge(recording) == []
    kinds = {type(entry.fact) for entries in recording.database.histories.values() for entry in entries}
    assert {facts.StepFinished, facts.TimerFired, facts.EventBuffered, facts.StepSuspended} <= kinds


def test_lives_overlap_where_both_are_certain_at_one_moment() -> None:
    assert list(overlapping([(30, 40, "c"), (10, 20, "a"), (20, 30, "b")])) == []
    assert list(overlapping([(15, 40, "b"), (10, 20, "a")])) == [("a", "b")]


def test_a_life_whose_answer_was_heard_after_its_end_overlaps_none() -> None:
    assert list(overlapping([(10, 50, "a"), (30, 5, "b")])) == []


Break = Callable[[Recording], Recording]


def _change_entries(recording: Recording, change: Callable[[list[Entry]], bool]) -> Recording:
    """Let ``change`` work on histories until it says that it changed one."""
    for instance_id, entries in recording.database.histories.items():
        changed = list(entries)
        if change(changed):
            return with_history(recording, instance_id, tuple(changed))
    raise AssertionError("no history can be broken so: take another seed")


def _change_fact(recording: Recording, kind: type, **fields: Any) -> Recording:
    def change(entries: list[Entry]) -> bool:
        for index, entry in enumerate(entries):
            if isinstance(entry.fact, kind):
                fact: Any = entry.fact
                entries[index] = replace(entry, fact=replace(fact, **fields))
                return True
        return False

    return _change_entries(recording, change)


def _change_send(
    recording: Recording, choose: Callable[[Send], bool], change: Callable[[Send], Iterable[Send]]
) -> Recording:
    sends = list(recording.sends)
    index = next(index for index, send in enumerate(sends) if choose(send))
    sends[index : index + 1] = change(sends[index])
    return replace(recording, sends=tuple(sends))


def drop_an_entry(recording: Recording) -> Recording:
    def change(entries: list[Entry]) -> bool:
        del entries[len(entries) // 2]
        return True

    return _change_entries(recording, change)


def drop_the_newest_entry(recording: Recording) -> Recording:
    def change(entries: list[Entry]) -> bool:
        return isinstance(entries.pop().fact, facts.StepFinished | facts.InstanceCompleted)

    return _change_entries(recording, change)


def give_a_row_the_state_of_another_workflow(recording: Recording) -> Recording:
    database = recording.database
    instances = dict(database.instances)
    instance_id, stranger = next(
        (instance_id, row.state)
        for instance_id, entries in database.histories.items()
        for row in instances.values()
        for graph in [database.graphs[row.state.workflow, row.state.version, row.state.definition_digest]]
        for entry in entries
        if isinstance(entry.fact, facts.StepFinished) and entry.fact.step_ref not in graph.steps
    )
    state = replace(stranger, instance_id=instance_id)
    instances[instance_id] = replace(instances[instance_id], state=state)
    return replace(recording, database=replace(database, instances=instances))


def mix_two_histories(recording: Recording) -> Recording:
    return _change_fact(recording, facts.StepFinished, step_ref="of_another_workflow")


def swap_two_entries(recording: Recording) -> Recording:
    def change(entries: list[Entry]) -> bool:
        a, b = entries[1], entries[2]
        entries[1], entries[2] = replace(b, revision=a.revision), replace(a, revision=b.revision)
        return isinstance(a.fact, facts.StepStarted) and isinstance(b.fact, facts.AttemptStarted)

    return _change_entries(recording, change)


def append_after_the_end(recording: Recording) -> Recording:
    def change(entries: list[Entry]) -> bool:
        newest = entries[-1]
        late = facts.EventBuffered(event="nod")
        entries.append(replace(newest, revision=newest.revision + 1, fact=late, request_id=""))
        return isinstance(newest.fact, facts.InstanceCompleted)

    return _change_entries(recording, change)


def fire_early(recording: Recording) -> Recording:
    def change(entries: list[Entry]) -> bool:
        for index, entry in enumerate(entries):
            if isinstance(entry.fact, facts.TimerFired):
                entries[index] = replace(entry, at=entry.at - 100_000)
                return True
        return False

    return _change_entries(recording, change)


def take_events_in_reverse(recording: Recording) -> Recording:
    def change(entries: list[Entry]) -> bool:
        taking = [
            (index, entry)
            for index, entry in enumerate(entries)
            if isinstance(entry.fact, facts.StepFinished) and entry.fact.buffered_revision
        ]
        if len(taking) < 2:
            return False
        (i, first), (j, second) = taking[:2]
        one: Any = first.fact
        two: Any = second.fact
        entries[i] = replace(
            first, fact=replace(one, buffered_revision=two.buffered_revision, output=two.output)
        )
        entries[j] = replace(
            second, fact=replace(two, buffered_revision=one.buffered_revision, output=one.output)
        )
        return True

    return _change_entries(recording, change)


def change_a_payload(recording: Recording) -> Recording:
    payloads = {**recording.database.payloads}
    instance_id = next(iter(payloads))
    payloads[instance_id] = {**payloads[instance_id], 1: '{"who": "another"}'}
    return replace(recording, database=replace(recording.database, payloads=payloads))


def lose_a_timer_row(recording: Recording) -> Recording:
    timers = {**recording.database.timers}
    instance_id = next(instance_id for instance_id, rows in timers.items() if rows)
    timers[instance_id] = {}
    return replace(recording, database=replace(recording.database, timers=timers))


def lose_an_instance(recording: Recording) -> Recording:
    instances = {**recording.database.instances}
    instances.popitem()
    return replace(recording, database=replace(recording.database, instances=instances))


def _is_resume(send: Send) -> bool:
    return send.rpc == "Resume" and send.status == "OK"


def answer_ok_for_nothing(recording: Recording) -> Recording:
    return _change_send(
        recording,
        _is_resume,
        lambda send: (send, replace(send, op="more", request_id="more")),
    )


def reject_applied_events(recording: Recording) -> Recording:
    refused = {"status": "FAILED_PRECONDITION", "reason": "EVENT_NOT_AWAITED", "answer": {}}
    key = next(send.request_id for send in recording.sends if _is_resume(send))
    sends = tuple(replace(s, **refused) if s.request_id == key else s for s in recording.sends)
    return replace(recording, sends=sends)


def do_what_nobody_asked(recording: Recording) -> Recording:
    key = next(send.request_id for send in recording.sends if _is_resume(send))
    return replace(recording, sends=tuple(send for send in recording.sends if send.request_id != key))


def answer_a_repeat_anew(recording: Recording) -> Recording:
    def change(send: Send) -> Iterator[Send]:
        yield send
        answer = {**send.answer, "revision": send.answer["revision"] + 1}
        yield replace(send, op="more", answer=answer)

    return _change_send(recording, _is_resume, change)


def reject_a_repeat(recording: Recording) -> Recording:
    def change(send: Send) -> Iterator[Send]:
        yield send
        late_ns = send.answered_ns + 1
        yield replace(
            send, op="more", invoked_ns=late_ns, status="NOT_FOUND", reason="INSTANCE_NOT_FOUND", answer={}
        )

    return _change_send(recording, _is_resume, change)


def answer_in_the_wrong_order(recording: Recording) -> Recording:
    by_instance: dict[str, list[Send]] = {}
    for send in recording.sends:
        if _is_resume(send):
            by_instance.setdefault(send.instance_id, []).append(send)
    first, second = next(sends[:2] for sends in by_instance.values() if len(sends) > 1)
    late = {"invoked_ns": second.answered_ns + 1, "answered_ns": second.answered_ns + 2}
    sends = tuple(replace(s, **late) if s.request_id == first.request_id else s for s in recording.sends)
    return replace(recording, sends=sends)


def read_an_old_state(recording: Recording) -> Recording:
    reads = [send for send in recording.sends if send.rpc == "GetInstance"]
    old, newest = next(
        (old, new)
        for old in reads
        for new in reversed(reads)
        if old.instance_id == new.instance_id and old.answer["revision"] < new.answer["revision"]
    )
    return _change_send(
        recording, lambda send: send is newest, lambda send: (replace(send, answer=old.answer),)
    )


def read_what_is_not_there(recording: Recording) -> Recording:
    return _change_send(
        recording,
        lambda send: send.rpc == "GetInstance",
        lambda send: (replace(send, answer={**send.answer, "state": "PENDING"}),),
    )


def list_too_few(recording: Recording) -> Recording:
    return _change_send(
        recording,
        lambda send: send.rpc == "ListInstances",
        lambda send: (replace(send, answer={"ids": send.answer["ids"][1:]}),),
    )


def raise_internal(recording: Recording) -> Recording:
    return _change_send(
        recording, lambda _: True, lambda send: (send, replace(send, op="x", status="INTERNAL"))
    )


def _change_watch(recording: Recording, change: Callable[[list[Any]], None]) -> Recording:
    lines = list(recording.watches)
    # The longest stream is first.
    longest = max(lines, key=lambda line: line.revision).watch
    lines.sort(key=lambda line: line.watch != longest)
    change(lines)
    return replace(recording, watches=tuple(lines))


def watch_with_a_gap(recording: Recording) -> Recording:
    return _change_watch(recording, lambda lines: lines.pop(3))


def watch_with_a_repeat(recording: Recording) -> Recording:
    return _change_watch(recording, lambda lines: lines.insert(3, lines[2]))


def watch_out_of_order(recording: Recording) -> Recording:
    return _change_watch(recording, lambda lines: lines.insert(4, lines[2]))


def watch_that_stops_early(recording: Recording) -> Recording:
    def change(lines: list[Any]) -> None:
        closed = next(index for index, line in enumerate(lines) if line.what == "closed")
        lines[closed] = replace(lines[closed], revision=lines[closed].revision - 1)

    return _change_watch(recording, change)


def run_an_attempt_twice(recording: Recording) -> Recording:
    return replace(recording, steps=(*recording.steps, recording.steps[0]))


def run_an_attempt_that_was_not_granted(recording: Recording) -> Recording:
    return replace(recording, steps=(*recording.steps, replace(recording.steps[0], attempt=99)))


def count_what_never_ran(recording: Recording) -> Recording:
    return replace(recording, steps=recording.steps[1:])


def give_a_step_something_else(recording: Recording) -> Recording:
    return replace(
        recording, steps=(replace(recording.steps[0], saw="somebody else's"), *recording.steps[1:])
    )


def count_the_result_of_an_older_attempt(recording: Recording) -> Recording:
    def change(entries: list[Entry]) -> bool:
        # The started attempt is not the one in the output.
        for index, entry in enumerate(entries):
            if isinstance(entry.fact, facts.AttemptStarted) and entry.fact.attempt == 2:
                entries[index] = replace(entry, fact=replace(entry.fact, attempt=3))
                return True
        return False

    return _change_entries(recording, change)


def stay_busy(recording: Recording) -> Recording:
    return replace(recording, quiet=False)


def stop_the_clock_late(recording: Recording) -> Recording:
    return replace(recording, ended_ms=recording.ended_ms + 10_000_000)


@pytest.mark.parametrize(
    ("break_", "name"),
    [
        (drop_an_entry, Name.HISTORY_GAP),
        (drop_the_newest_entry, Name.STATE_IS_NOT_THE_FOLD),
        (give_a_row_the_state_of_another_workflow, Name.STATE_IS_NOT_THE_FOLD),
        (mix_two_histories, Name.FACT_ILLEGAL),
        (swap_two_entries, Name.HISTORY_UNFOLDABLE),
        (append_after_the_end, Name.FACT_AFTER_END),
        (fire_early, Name.TIMER_EARLY),
        (take_events_in_reverse, Name.EVENT_OUT_OF_ORDER),
        (change_a_payload, Name.PAYLOAD_DIFFERS),
        (lose_a_timer_row, Name.TIMER_ROWS_DIFFER),
        (lose_an_instance, Name.ORPHAN_ROWS),
        (lose_an_instance, Name.ANSWERED_BUT_MISSING),
        (answer_ok_for_nothing, Name.ANSWERED_BUT_MISSING),
        (reject_applied_events, Name.REJECTED_BUT_APPLIED),
        (do_what_nobody_asked, Name.EFFECT_WITHOUT_CAUSE),
        (answer_a_repeat_anew, Name.ANSWERS_DIFFER),
        (reject_a_repeat, Name.REPEAT_REJECTED),
        (answer_in_the_wrong_order, Name.ORDER_BROKEN),
        (read_an_old_state, Name.READ_STALE),
        (read_what_is_not_there, Name.READ_WRONG),
        (list_too_few, Name.LIST_MISSES),
        (raise_internal, Name.STATUS_UNEXPECTED),
        (watch_with_a_gap, Name.WATCH_GAP),
        (watch_with_a_repeat, Name.WATCH_REPEAT),
        (watch_out_of_order, Name.WATCH_ORDER),
        (watch_that_stops_early, Name.WATCH_FELL_SHORT),
        (run_an_attempt_twice, Name.ATTEMPT_TWICE),
        (run_an_attempt_that_was_not_granted, Name.ATTEMPT_AFTER_FINISH),
        (count_what_never_ran, Name.RESULT_WITHOUT_RUN),
        (give_a_step_something_else, Name.STEP_SAW_WRONG_INPUT),
        (count_the_result_of_an_older_attempt, Name.RESULT_STALE),
        (stay_busy, Name.NOT_QUIET),
        (stop_the_clock_late, Name.TIMER_LOST),
    ],
)
def test_what_is_broken_in_a_recording_is_found(break_: Break, name: Name) -> None:
    found = {violation.name for violation in judge(break_(good_recording(SEED)))}
    assert name in found, f"found only {sorted(found)}"
