"""States and facts are written down and read back as they were, by this version and by others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.model.graph import StepKind
from perdure_server.engine import facts as f
from perdure_server.engine.facts import KIND_OF, Entry, Failure, PayloadInfo, TimerKind, Unconsumed
from perdure_server.engine.state import (
    BackingOff,
    Buffered,
    Failed,
    Finished,
    InstanceState,
    Interrupted,
    Losses,
    PayloadRef,
    Queued,
    Running,
    Skipped,
    Sleeping,
    State,
    StepState,
    Timer,
    Waiting,
)
from perdure_server.store.codec import (
    STATE_FORMAT,
    decode_entry,
    decode_fact,
    decode_state,
    encode_entry,
    encode_fact,
    encode_state,
)
from perdure_server.store.protocol import NewerFormatError

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
refs = st.sampled_from(["validate", "charge", "reserve", "approval"])
events = st.sampled_from(["ok", "timeout", "error"])
numbers = st.integers(0, (1 << 63) - 1)
times = st.integers(-(1 << 63), (1 << 63) - 1)
infos = st.builds(PayloadInfo, numbers, texts)
failures = st.builds(Failure, texts, texts, numbers)
timers = st.builds(Timer, numbers, st.sampled_from(TimerKind), refs, numbers, numbers, st.booleans())
names = st.lists(events, max_size=3).map(tuple)
times = st.just(0) | numbers
losses = st.none() | st.builds(Losses, st.integers(1, 10), st.integers(0, 3))
active = st.one_of(
    st.builds(Queued, numbers, numbers, numbers, times, losses),
    st.builds(Running, numbers, numbers, numbers, texts, times, losses),
    st.builds(BackingOff, numbers, numbers, numbers, failures, times),
    st.builds(Waiting, numbers, names, numbers, numbers, times),
    st.builds(Sleeping, numbers),
)
steps = st.one_of(
    active,
    st.builds(Interrupted, active, st.lists(timers, max_size=2).map(tuple)),
    st.builds(Failed, numbers, numbers, failures, times),
    st.builds(Finished, numbers, numbers, events, st.none() | st.builds(PayloadRef, numbers, infos)),
    st.builds(Skipped, numbers),
)
labels = st.dictionaries(texts, texts, max_size=3)
states = st.builds(
    State,
    instance_id=texts,
    workflow=texts,
    version=numbers,
    definition_digest=texts,
    start_step=refs,
    input=infos,
    business_key=texts,
    labels=labels,
    status=st.sampled_from(InstanceState),
    revision=numbers,
    created_at=times,
    updated_at=times,
    started_at=st.none() | times,
    ended_at=st.none() | times,
    payload_bytes=numbers,
    steps=st.dictionaries(refs, steps, max_size=4),
    arrivals=st.dictionaries(refs, st.lists(refs, max_size=3).map(tuple), max_size=3),
    timers=st.lists(timers, max_size=3).map(lambda found: {timer.revision: timer for timer in found}),
    inbox=st.lists(st.builds(Buffered, numbers, events, refs, st.none() | infos), max_size=3).map(tuple),
    failure=st.none() | failures,
    failed_step=st.just("") | refs,
    kept_timers=st.lists(timers, max_size=2).map(tuple),
)
unconsumed = st.lists(st.builds(Unconsumed, numbers, events), max_size=2).map(tuple)
facts = st.one_of(
    st.builds(
        f.InstanceStarted,
        workflow=texts,
        version=numbers,
        definition_digest=texts,
        start_step=refs,
        input=infos,
        business_key=texts,
        labels=labels,
        start_delay_ms=numbers,
    ),
    st.builds(f.StepStarted, step_ref=refs, kind=st.sampled_from(StepKind), events=names),
    st.builds(f.AttemptStarted, step_ref=refs, attempt=numbers, owner=texts),
    st.builds(f.AttemptFailed, step_ref=refs, attempt=numbers, failure=failures, retrying=st.booleans()),
    st.builds(
        f.AttemptReleased,
        step_ref=refs,
        attempt=numbers,
        reason=texts,
        lost=st.booleans(),
        alone=st.booleans(),
    ),
    st.builds(f.StepSuspended, step_ref=refs, attempt=numbers, events=names),
    st.builds(
        f.StepFinished,
        step_ref=refs,
        event=events,
        targets=names,
        output=st.none() | infos,
        buffered_revision=numbers,
        failure=st.none() | failures,
    ),
    st.builds(f.StepSkipped, step_ref=refs),
    st.builds(f.EventBuffered, event=events, step_ref=refs, payload=st.none() | infos),
    st.builds(
        f.TimerArmed,
        kind=st.sampled_from(TimerKind),
        step_ref=refs,
        due_at=numbers,
        delay_ms=numbers,
        client_requested=st.booleans(),
    ),
    st.builds(
        f.TimerFired,
        timer=numbers,
        kind=st.sampled_from(TimerKind),
        step_ref=refs,
        used=st.booleans(),
        forced=st.booleans(),
    ),
    st.builds(f.TimerCancelled, timer=numbers, step_ref=refs),
    st.builds(f.InstanceCompleted, unconsumed=unconsumed),
    st.builds(
        f.InstanceFailed,
        step_ref=refs,
        failure=failures,
        interrupted=names,
        kept_timers=st.lists(numbers, max_size=2).map(tuple),
    ),
    st.builds(f.InstanceCancelled, reason=texts, unconsumed=unconsumed),
    st.builds(f.InstanceRetried),
)


def a_state(**more: Any) -> State:
    fixed: dict[str, Any] = {
        "instance_id": "i",
        "workflow": "order",
        "version": 1,
        "definition_digest": "d",
        "start_step": "validate",
        "input": PayloadInfo(2, "x"),
        "business_key": "",
        "labels": {},
        "status": InstanceState.RUNNING,
        "revision": 1,
        "created_at": 1,
        "updated_at": 1,
    }
    return State(**(fixed | more))


@given(states)
def test_a_state_comes_back_as_it_was(state: State) -> None:
    back = decode_state(encode_state(state))
    assert back == state
    # Equal values of other types (a list for a tuple, a str for an enum) would break whoever matches on them.
    assert repr(back) == repr(state)


@given(facts)
def test_a_fact_comes_back_as_it_was(fact: f.Fact) -> None:
    back = decode_fact(KIND_OF[type(fact)], encode_fact(fact))
    assert repr(back) == repr(fact)


@given(st.builds(Entry, numbers, numbers, facts, texts))
def test_an_entry_comes_back_as_it_was(entry: Entry) -> None:
    assert repr(decode_entry(encode_entry(entry))) == repr(entry)


def test_every_kind_of_step_state_is_tried() -> None:
    tried = {Interrupted, Failed, Finished, Skipped, Queued, Running, BackingOff, Waiting, Sleeping}
    assert tried == set(StepState.__args__)  # type: ignore[attr-defined]


def test_the_order_of_steps_and_timers_is_kept() -> None:
    timers_ = {number: Timer(number, TimerKind.SLEEP, "s", 1, 1) for number in (9, 2, 5)}
    state = a_state(steps={ref: Sleeping(1) for ref in "zay"}, timers=timers_)
    back = decode_state(encode_state(state))
    assert list(back.steps) == ["z", "a", "y"]
    assert list(back.timers) == [9, 2, 5]


def test_names_that_a_later_version_added_are_ignored() -> None:
    state = a_state(steps={"charge": Finished(1, 2, "ok", None)})
    body = json.loads(encode_state(state))
    body["added_later"] = {"any": "thing"}
    assert decode_state(json.dumps(body)) == state


_FIELDS = {"queued": 7, "running": 8, "backing_off": 6, "waiting": 6, "failed": 5}


@given(steps)
def test_elements_that_a_later_version_added_to_a_step_are_ignored(step: StepState) -> None:
    state = a_state(steps={"charge": step})
    body = json.loads(encode_state(state))
    row = body["steps"]["charge"]
    # A later version writes the fields that this one leaves out.
    row += [0] * (_FIELDS.get(row[0], 0) - len(row))
    row.append("added later")
    assert decode_state(json.dumps(body)) == state


@given(facts)
def test_names_that_a_later_version_added_to_a_fact_are_ignored(fact: f.Fact) -> None:
    body = json.loads(encode_fact(fact)) | {"added_later": 1}
    assert decode_fact(KIND_OF[type(fact)], json.dumps(body)) == fact


def test_what_a_newer_version_wrote_is_refused_by_name() -> None:
    body = json.loads(encode_state(a_state(steps={"charge": Sleeping(1)})))
    with pytest.raises(NewerFormatError, match=f"format {STATE_FORMAT + 1}"):
        decode_state(json.dumps(body | {"v": STATE_FORMAT + 1}))
    with pytest.raises(NewerFormatError, match="dreaming"):
        decode_state(json.dumps(body | {"steps": {"charge": ["dreaming", 1]}}))
    with pytest.raises(NewerFormatError, match="status 'dreaming'"):
        decode_state(json.dumps(body | {"status": "dreaming"}))
    with pytest.raises(NewerFormatError, match="kind 'dream'"):
        decode_state(json.dumps(body | {"timers": [[2, "dream", "charge", 1, 1, False]]}))
    with pytest.raises(NewerFormatError, match="instance_dreamt"):
        decode_fact("instance_dreamt", "{}")


def test_a_state_of_the_first_format_is_read_for_ever() -> None:
    """This text was written by the first version. Never edit it; add the next format's beside it."""
    text = (
        '{"v":1,"id":"i","workflow":"order","version":2,"digest":"d","start":"validate","input":[2,"99"],'
        '"status":"failed","revision":14,"created":10,"updated":20,"key":"b","labels":{"k":"v"},"started":11,'
        '"ended":20,"bytes":7,"steps":{"a":["queued",1,2,3],"b":["running",1,2,3,"me"],'
        '"c":["backing_off",1,2,3,["E","m",2]],"d":["waiting",1,["ok"],0,0],"e":["sleeping",1],'
        '"f":["interrupted",["sleeping",1],[[4,"sleep","f",9,5,false]]],"g":["failed",1,2,["E","m",2]],'
        '"h":["finished",1,2,"ok",[2,5,"aa"]],"i":["finished",1,2,"ok",null],"j":["skipped",3]},'
        '"arrivals":{"k":["a","b"]},"timers":[[5,"timeout","d",9,5,true]],'
        '"inbox":[[6,"ok","",[3,"bb"]],[7,"ok","d",null]],"failure":["E","m",2],"failed_step":"g"}'
    )
    state = decode_state(text)
    assert encode_state(state) == text
    timer = Timer(4, TimerKind.SLEEP, "f", 9, 5)
    assert state == a_state(
        version=2,
        input=PayloadInfo(2, "99"),
        business_key="b",
        labels={"k": "v"},
        status=InstanceState.FAILED,
        revision=14,
        created_at=10,
        updated_at=20,
        started_at=11,
        ended_at=20,
        payload_bytes=7,
        steps={
            "a": Queued(1, 2, 3),
            "b": Running(1, 2, 3, "me"),
            "c": BackingOff(1, 2, 3, Failure("E", "m", 2)),
            "d": Waiting(1, ("ok",)),
            "e": Sleeping(1),
            "f": Interrupted(Sleeping(1), (timer,)),
            "g": Failed(1, 2, Failure("E", "m", 2)),
            "h": Finished(1, 2, "ok", PayloadRef(2, PayloadInfo(5, "aa"))),
            "i": Finished(1, 2, "ok", None),
            "j": Skipped(3),
        },
        arrivals={"k": ("a", "b")},
        timers={5: Timer(5, TimerKind.TIMEOUT, "d", 9, 5, True)},
        inbox=(Buffered(6, "ok", "", PayloadInfo(3, "bb")), Buffered(7, "ok", "d", None)),
        failure=Failure("E", "m", 2),
        failed_step="g",
    )
