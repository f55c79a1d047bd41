"""Encode states and facts as JSON texts, and decode them.

A *fact* is an object with the names of its fields. History is kept indefinitely and people read it. A *state* is what
the history folds to. Every commit writes it again, so it is short: an object without its empty fields, in which small
values are arrays whose elements are known by position.

Stored names are frozen from 0.1.0 on: the names in states, the kinds and the fields of facts, and the positions in
arrays. Old and new versions can share a database under these rules:

* Decoding rejects a name that the record's format does not have. A renamed field is an error, not lost data.
* A fact of a newer format is decoded without the names that this version does not know. Its format is under the key
  ``v``. A fact without that key has format 1.
* A state of a newer format is rejected with `NewerFormatError`. Every state has its format under the key ``v``.
* A new element goes to the end of an array, with a default for arrays without it. Older versions ignore it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from perdure_server.engine.facts import (
    FACT_FORMAT,
    KIND_OF,
    Fact,
    Failure,
    PayloadInfo,
    TimerKind,
    UnknownFieldError,
    fact_format,
    fact_from_json,
)
from perdure_server.engine.state import (
    ActiveStep,
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
from perdure_server.store.protocol import NewerFormatError, UnreadableRecordError

STATE_FORMAT: Final = 1
"""Format of states that this version writes, and the newest that it reads."""

_STATE_NAMES: Final = frozenset(
    """
    v id workflow version digest start input status revision created updated key labels started ended bytes steps
    arrivals timers inbox failure failed_step kept_timers
    """.split()
)

_KINDS: Final = frozenset(KIND_OF.values())
_TIMER_KIND: Final = {kind.value: kind for kind in TimerKind}
_STATUS: Final = {status.value: status for status in InstanceState}


# --- facts -----------------------------------------------------------------------------------------------------


def encode_fact(fact: Fact) -> str:
    """Return a fact's fields as a JSON object. Its kind is stored in another column (`facts.KIND_OF`)."""
    return orjson.dumps(fact, default=_plain).decode()


def decode_fact(kind: str, body: str, *, instance_id: str = "", revision: int = 0) -> Fact:
    """Return the fact that was stored. ``instance_id`` and ``revision`` are for the error's message.

    Raises:
        NewerFormatError: A newer version wrote the fact in a way that this version cannot read.
        UnreadableRecordError: The fact has an unknown field or is damaged.
    """
    fields: Any = None
    try:
        fields = orjson.loads(body)
        return fact_from_json(kind, fields)
    except _DAMAGE as error:
        record = (
            f"history revision {revision} of instance {instance_id!r}" if revision else f"a {kind!r} fact"
        )
        if kind not in _KINDS:
            raise NewerFormatError(f"{record} has the unknown kind {kind!r}") from error
        if isinstance(fields, dict) and is_newer_fact(body):
            raise NewerFormatError(f"{record} has a newer format, which this version cannot read") from error
        raise UnreadableRecordError(record, _problem(error)) from error


def is_newer_fact(body: str) -> bool:
    """Return True if a stored fact has a newer format, so that it can have fields that decoding ignores."""
    try:
        return fact_format(orjson.loads(body)) > FACT_FORMAT
    except ValueError:
        return False


def encode_labels(labels: Mapping[str, str]) -> str:
    """Return labels as a JSON object."""
    return orjson.dumps(labels, default=_plain).decode() if labels else "{}"


def _plain(value: object) -> object:
    """Return a mapping that is not a dict as one, since orjson writes only those."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be a part of a fact or a state")


# --- states ----------------------------------------------------------------------------------------------------


def encode_state(state: State) -> str:
    """Return a state as a JSON text."""
    body: dict[str, Any] = {
        "v": STATE_FORMAT,
        "id": state.instance_id,
        "workflow": state.workflow,
        "version": state.version,
        "digest": state.definition_digest,
        "start": state.start_step,
        "input": _info(state.input),
        "status": state.status,
        "revision": state.revision,
        "created": state.created_at,
        "updated": state.updated_at,
    }
    if state.business_key:
        body["key"] = state.business_key
    if state.labels:
        body["labels"] = state.labels
    if state.started_at is not None:
        body["started"] = state.started_at
    if state.ended_at is not None:
        body["ended"] = state.ended_at
    if state.payload_bytes:
        body["bytes"] = state.payload_bytes
    if state.steps:
        body["steps"] = {ref: _STEP_ROW[type(step)](step) for ref, step in state.steps.items()}
    if state.arrivals:
        body["arrivals"] = state.arrivals
    if state.timers:
        body["timers"] = [_timer_row(timer) for timer in state.timers.values()]
    if state.inbox:
        body["inbox"] = [
            [event.revision, event.event, event.step_ref, _info(event.payload) if event.payload else None]
            for event in state.inbox
        ]
    if state.failure is not None:
        body["failure"] = _failure_row(state.failure)
    if state.failed_step:
        body["failed_step"] = state.failed_step
    if state.kept_timers:
        body["kept_timers"] = [_timer_row(timer) for timer in state.kept_timers]
    return orjson.dumps(body, default=_plain).decode()


def decode_state(text: str, *, instance_id: str = "") -> State:
    """Return the state that was stored. ``instance_id`` is for the error's message.

    Raises:
        NewerFormatError: A newer version wrote the state in a way that this version cannot read.
        UnreadableRecordError: The state has an unknown name or is damaged.
    """
    try:
        return _state_of(orjson.loads(text))
    except NewerFormatError as error:
        raise NewerFormatError(f"{_state_record(instance_id)}: {error}") from error
    except _DAMAGE as error:
        raise UnreadableRecordError(_state_record(instance_id), _problem(error)) from error


def _state_record(instance_id: str) -> str:
    return f"the state of instance {instance_id!r}" if instance_id else "a state"


def _state_of(body: Any) -> State:
    if body["v"] > STATE_FORMAT:
        raise NewerFormatError(f"format {body['v']} is newer than {STATE_FORMAT}, which this version reads")
    if not body.keys() <= _STATE_NAMES:
        for name in body.keys() - _STATE_NAMES:
            raise UnknownFieldError(name)
    failure = body.get("failure")
    return State(
        instance_id=body["id"],
        workflow=body["workflow"],
        version=body["version"],
        definition_digest=body["digest"],
        start_step=body["start"],
        input=_info_of(body["input"]),
        business_key=body.get("key", ""),
        labels=body.get("labels", {}),
        status=instance_state(body["status"]),
        revision=body["revision"],
        created_at=body["created"],
        updated_at=body["updated"],
        started_at=body.get("started"),
        ended_at=body.get("ended"),
        payload_bytes=body.get("bytes", 0),
        steps={ref: _step_of(row) for ref, row in body.get("steps", {}).items()},
        arrivals={ref: tuple(sources) for ref, sources in body.get("arrivals", {}).items()},
        timers={row[0]: _timer_of(row) for row in body.get("timers", ())},
        inbox=tuple(_buffered_of(row) for row in body.get("inbox", ())),
        failure=_failure_of(failure) if failure else None,
        failed_step=body.get("failed_step", ""),
        kept_timers=tuple(_timer_of(row) for row in body.get("kept_timers", ())),
    )


_DAMAGE: Final = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""Errors that decoding a damaged record raises. Invalid JSON is a ``ValueError``."""


def _problem(error: Exception) -> str:
    """Describe an error of `_DAMAGE` without a value of the record, which can be a user's text."""
    match error:
        case UnknownFieldError(name=name):
            return f"has the unknown field {name!r}"
        case KeyError(args=(str(name),)):
            return f"lacks the field {name!r}"
        case _:
            return f"cannot be decoded: {type(error).__name__}"


def instance_state(text: str) -> InstanceState:
    """Return the status that was stored. Raises `NewerFormatError` for one that this version does not know."""
    try:
        return _STATUS[text]
    except KeyError:
        raise NewerFormatError(f"an instance has the unknown status {text!r}") from None


def timer_kind(text: str) -> TimerKind:
    """Return the kind that was stored. Raises `NewerFormatError` for one that this version does not know."""
    try:
        return _TIMER_KIND[text]
    except KeyError:
        raise NewerFormatError(f"a timer has the unknown kind {text!r}") from None


# --- the small values: the row, and back -------------------------------------------------------------------------

Row = list[Any]
_Attempted = Queued | Running | BackingOff | Waiting | Failed


def _info(info: PayloadInfo) -> Row:
    return [info.size_bytes, info.digest]


def _info_of(row: Row) -> PayloadInfo:
    return PayloadInfo(row[0], row[1])


def _failure_row(failure: Failure) -> Row:
    return [failure.type, failure.message, failure.attempts]


def _failure_of(row: Row) -> Failure:
    return Failure(row[0], row[1], row[2])


def _timer_row(timer: Timer) -> Row:
    return [timer.revision, timer.kind, timer.step_ref, timer.due_at, timer.delay_ms, timer.client_requested]


def _timer_of(row: Row) -> Timer:
    return Timer(row[0], timer_kind(row[1]), row[2], row[3], row[4], row[5])


def _buffered_of(row: Row) -> Buffered:
    return Buffered(row[0], row[1], row[2], _info_of(row[3]) if row[3] else None)


def _output_row(output: PayloadRef | None) -> Row | None:
    return None if output is None else [output.revision, output.info.size_bytes, output.info.digest]


def _output_of(row: Row | None) -> PayloadRef | None:
    return None if row is None else PayloadRef(row[0], PayloadInfo(row[1], row[2]))


def _with_attempt(row: Row, step: _Attempted, losses: Losses | None = None) -> Row:
    """Append the start of the newest attempt and its losses. Absent if there are none."""
    if losses is not None:
        row += (step.attempt_at, losses.in_a_row, losses.alone)
    elif step.attempt_at is not None:
        row.append(step.attempt_at)
    return row


_STEP_ROW: Final[Mapping[type[StepState], Callable[[Any], Row]]] = {
    # The usual rows of a commit are made in place: a call more for each was seen in the server's time.
    Queued: lambda s: (
        ["queued", s.started, s.attempt, s.failures]
        if s.attempt_at is None and s.losses is None
        else _with_attempt(["queued", s.started, s.attempt, s.failures], s, s.losses)
    ),
    Running: lambda s: (
        ["running", s.started, s.attempt, s.failures, s.owner, s.attempt_at]
        if s.losses is None and s.attempt_at is not None
        else _with_attempt(["running", s.started, s.attempt, s.failures, s.owner], s, s.losses)
    ),
    BackingOff: lambda s: _with_attempt(
        ["backing_off", s.started, s.attempt, s.failures, _failure_row(s.failure)], s
    ),
    Waiting: lambda s: (
        ["waiting", s.started, s.events, s.attempt, s.failures]
        if s.attempt_at is None
        else _with_attempt(["waiting", s.started, s.events, s.attempt, s.failures], s)
    ),
    Sleeping: lambda s: ["sleeping", s.started],
    Interrupted: lambda s: [
        "interrupted",
        _STEP_ROW[type(s.was)](s.was),
        [_timer_row(timer) for timer in s.timers],
    ],
    Failed: lambda s: _with_attempt(["failed", s.started, s.attempt, _failure_row(s.failure)], s),
    Finished: lambda s: ["finished", s.started, s.ended, s.event, _output_row(s.output)],
    Skipped: lambda s: ["skipped", s.ended],
}
"""Each kind of step state under its stored name, its fields by position. Names are never changed."""


def _step_of(row: Row) -> StepState:
    match row:
        case ["interrupted", was, timers, *_]:
            return Interrupted(_active_of(was), tuple(_timer_of(timer) for timer in timers))
        case ["failed", started, attempt, failure, *rest]:
            return Failed(started, attempt, _failure_of(failure), _at(rest))
        case ["finished", started, ended, event, output, *_]:
            return Finished(started, ended, event, _output_of(output))
        case ["skipped", ended, *_]:
            return Skipped(ended)
        case _:
            return _active_of(row)


def _active_of(row: Row) -> ActiveStep:
    match row:
        case ["queued", started, attempt, failures, *rest]:
            return Queued(started, attempt, failures, _at(rest), _losses_of(rest))
        case ["running", started, attempt, failures, owner, *rest]:
            return Running(started, attempt, failures, owner, _at(rest), _losses_of(rest))
        case ["backing_off", started, attempt, failures, failure, *rest]:
            return BackingOff(started, attempt, failures, _failure_of(failure), _at(rest))
        case ["waiting", started, events, attempt, failures, *rest]:
            return Waiting(started, tuple(events), attempt, failures, _at(rest))
        case ["sleeping", started, *_]:
            return Sleeping(started)
        case _:
            raise NewerFormatError(f"a step has the unknown kind {row[:1]!r}")


def _at(rest: Row) -> int | None:
    return rest[0] if rest else None


def _losses_of(rest: Row) -> Losses | None:
    return Losses(rest[1], rest[2]) if len(rest) > 2 and rest[1] else None
