"""Conversion of values and exceptions of steps. No exception of user code leaves the conversion."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import json
import logging
import math
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import SUSPEND, Outcome, StepError
from perdure_server.engine.commands import FAILURE_MESSAGE_CHARS_MAX
from perdure_server.executors.conversion import (
    NotJsonError,
    context_of,
    failure_of,
    read_json,
    result_of,
    write_json,
)
from perdure_server.executors.failures import clean
from perdure_server.runtime.dispatch.protocol import TaskFailed, TaskFinished, TaskSuspended
from perdure_server.runtime.ports import TaskToRun


def task(**changes: Any) -> TaskToRun:
    whole = TaskToRun(
        instance_id="i-1",
        workflow="order",
        version=2,
        step_ref="charge",
        attempt=3,
        owner="r1",
        input='{"items":[1]}',
        steps={"validate": '{"count":1}', "ask": "{}"},
        attempt_timeout_ms=None,
    )
    return dataclasses.replace(whole, **changes)


def text_of(output: dict[str, Any]) -> str | None:
    written = write_json(output)
    return None if written is None else written.text


def test_a_step_sees_its_instance() -> None:
    context = context_of(task())

    assert context.input == {"items": [1]}
    assert context.steps == {"validate": {"count": 1}, "ask": {}}
    assert (context.instance_id, context.workflow, context.version) == ("i-1", "order", 2)
    assert (context.step_ref, context.attempt) == ("charge", 3)
    assert context.idempotency_key == "i-1/charge"


def test_each_attempt_gets_copies_of_its_own() -> None:
    shared = task()
    context_of(shared).input["items"].append(2)

    assert context_of(shared).input == {"items": [1]}


def test_an_outcome_finishes_the_task() -> None:
    result = result_of(task(), Outcome("charged", amount=3, note="ä"))

    assert isinstance(result, TaskFinished)
    assert result.event == "charged"
    assert result.output is not None
    assert result.output.text == '{"amount":3,"note":"ä"}'
    assert result.output.info.size_bytes == len(result.output.text.encode())


def test_an_outcome_without_output_has_none() -> None:
    assert result_of(task(), Outcome("charged")) == TaskFinished("charged", None)


def test_pending_suspends_the_task() -> None:
    assert result_of(task(), SUSPEND) == TaskSuspended()


@pytest.mark.parametrize(
    "value", [None, "charged", 7, {"event": "charged"}, type(SUSPEND), Outcome, ("a", {})]
)
def test_any_other_value_fails_permanently_and_says_what_to_return(value: object) -> None:
    result = result_of(task(), value)

    assert isinstance(result, TaskFailed)
    assert (result.type, result.retryable) == ("InvalidOutcome", False)
    assert result.message == f"step charge returned {type(value).__name__}; return Outcome(...) or SUSPEND"


@pytest.mark.parametrize("event", [7, None, "\ud800", "a\0b", "x" * 201])
def test_an_invalid_event_name_fails_permanently(event: Any) -> None:
    result = result_of(task(), Outcome(event))

    assert isinstance(result, TaskFailed)
    assert not result.retryable


# --- JSON ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Plain:
    a: int = 1


class Letter(str, enum.Enum):  # noqa: UP042 - the older spelling is what users have
    A = "a"


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (math.nan, "nan"),
        ([None, {"deep": (1, math.inf)}], "inf"),
        ({1: "a"}, "str"),
        ({1: 1 << 70}, "str"),
        ({"n": 1 << 70, "x": {None: 1}}, "str"),
        ({"n": 1 << 70, "x": math.nan}, ""),
        ({"n": 1 << 70, "x": "\ud800"}, "surrogates"),
        ([1 << 40_000], ""),
        ("\ud800", "surrogates"),
        (b"bytes", "bytes"),
        ({1, 2}, "set"),
        (object(), "object"),
        (Plain(), "Plain"),
        (datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), "datetime"),
        ([1 << 70, datetime.date(2026, 1, 1)], "date"),
        (nested(99), "deeper than 100"),
        ([1 << 70, nested(98)], "deeper than 100"),
        ([1 << 70, nested(600)], "deeper"),
        (nested(400), "ecursion"),
        ({"a\0b": 1}, "NUL"),
        (circular(), "ecursion"),
        ([1 << 70, circular()], ""),
        (1j, "complex"),
    ],
)
def test_an_output_that_is_not_json_fails_permanently(value: object, said: str) -> None:
    result = result_of(task(), Outcome("charged", value=value))

    assert isinstance(result, TaskFailed)
    assert (result.type, result.retryable) == ("OutputNotJson", False)
    assert result.message.startswith("the output of step charge is not valid JSON: ")
    assert said in result.message


@pytest.mark.parametrize(
    ("output", "place"),
    [
        ({"fine": 1, "when": datetime.date(2026, 1, 1)}, "(when)"),
        ({"lines": [{"sku": "a"}, {"sku": {1}}]}, "(lines[1].sku)"),
        ({"by_id": {7: "x"}}, "(by_id)"),
    ],
)
def test_the_place_of_invalid_json_in_an_output_is_reported(output: dict[str, Any], place: str) -> None:
    result = result_of(task(), Outcome("charged", **output))

    assert isinstance(result, TaskFailed)
    assert result.message.endswith(place)


async def test_a_returned_coroutine_is_named_in_the_failure() -> None:
    async def charge() -> Outcome:
        return Outcome("charged")

    coroutine = charge()
    result = result_of(task(), coroutine)
    coroutine.close()

    assert isinstance(result, TaskFailed)
    assert result.message == "step charge returned a coroutine that was not awaited; return `await ...`"


def test_a_missing_output_is_named_in_the_error() -> None:
    steps = context_of(task(steps={"book": "{}"})).steps

    assert steps == {"book": {}}
    assert "bok" not in steps
    with pytest.raises(KeyError, match="step 'bok' had not ended when this step started; ended steps: book"):
        steps["bok"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (["null", None, 1.5], '["null",null,1.5]'),
        ((1, 2), "[1,2]"),
        (nested(98), "[" * 99 + "]" * 99),
        (1 << 63, "9223372036854775808"),
        (-(1 << 63), "-9223372036854775808"),
        (1 << 70, "1180591620717411303424"),
        ([1 << 70, Letter.A, None], '[1180591620717411303424,"a",null]'),
        (Letter.A, '"a"'),
        ([uuid.UUID(int=1), 1 << 70], '["00000000-0000-0000-0000-000000000001",1180591620717411303424]'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        ('\0\n"ä\U0001f600', '"\\u0000\\n\\"ä\U0001f600"'),
    ],
)
def test_json_values_are_written_exactly(value: object, text: str) -> None:
    assert text_of({"value": value}) == f'{{"value":{text}}}'


keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(keys, inner),
    max_leaves=10,
)


@given(json_values)
def test_what_is_written_is_read_back_equal(value: Any) -> None:
    text = text_of({"value": value})

    assert text is not None
    assert read_json(text) == {"value": value}
    assert json.loads(text) == {"value": value}


@given(st.recursive(st.floats() | st.none() | st.integers(), st.lists, max_leaves=8))
def test_no_nan_and_no_infinity_is_ever_written(value: Any) -> None:
    try:
        text = text_of({"value": value})
    except NotJsonError:
        return
    assert text == json.dumps({"value": value}, allow_nan=False, separators=(",", ":")) or "e" in (text or "")


@pytest.mark.parametrize("number", [(1 << 64) - 1, 1 << 64, -(1 << 63) - 1, 10**40])
def test_integers_of_any_length_are_read_exactly(number: int) -> None:
    assert read_json(f'{{"n":{number}}}') == {"n": number}


# --- failures ------------------------------------------------------------------------------------------------


class CardDeclined(StepError):
    pass


class Careless(StepError):
    def __init__(self) -> None:
        pass


class Unprintable(Exception):
    def __str__(self) -> str:
        raise SystemExit


class Trapped(type):
    """A metaclass that raises for every question about its classes."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise SystemExit


class Hostile(Exception, metaclass=Trapped):
    class Text(str):
        __slots__ = ()

        def __iter__(self) -> Any:
            raise KeyboardInterrupt

    @property
    def __traceback__(self) -> Any:
        raise SystemExit

    def __str__(self) -> str:
        return self.Text("gotcha")


@pytest.mark.parametrize(
    ("error", "type_", "message", "retryable"),
    [
        (ValueError("wrong"), "ValueError", "wrong", True),
        (StepError("no", retryable=False), "StepError", "no", False),
        (CardDeclined("no"), "CardDeclined", "no", True),
        (Careless(), "Careless", "", True),
        (KeyboardInterrupt(), "KeyboardInterrupt", "", True),
        (SystemExit(3), "SystemExit", "3", True),
        (GeneratorExit(), "GeneratorExit", "", True),
        (asyncio.CancelledError(), "CancelledError", "", True),
        (StopIteration(7), "StopIteration", "7", True),
        (RecursionError("deep"), "RecursionError", "deep", True),
        (MemoryError(), "MemoryError", "", True),
        (Unprintable(), "Unprintable", "(no text: __str__ raised SystemExit)", True),
        (Hostile(), "Hostile", "(no text: __str__ raised KeyboardInterrupt)", True),
        (ValueError("\ud800 and \0"), "ValueError", "? and \ufffd", True),
        (BaseExceptionGroup("many", [ValueError("a")]), "ValueError", "a", True),
    ],
)
def test_whatever_is_raised_becomes_a_failure(
    error: BaseException, type_: str, message: str, retryable: bool
) -> None:
    assert failure_of(task(), error) == TaskFailed(type_, message, retryable)


def test_a_long_message_is_cut() -> None:
    failure = failure_of(task(), ValueError("x" * 1_000_000))

    assert len(failure.message) == FAILURE_MESSAGE_CHARS_MAX
    assert failure.message.endswith("x…")


def test_the_log_names_the_place_of_a_failure_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    def step() -> None:
        raise ValueError("card 4111 1111 1111 1111")

    with caplog.at_level(logging.DEBUG):
        try:
            step()
        except ValueError as error:
            failure_of(task(), error)

    (record,) = caplog.records
    assert "4111" not in str(vars(record))
    assert str(vars(record)["where"]).startswith(__file__)


@given(st.text())
def test_a_clean_text_can_be_stored_anywhere(text: str) -> None:
    cleaned = clean(text, 50)

    assert len(cleaned) <= 50
    assert "\0" not in cleaned
    cleaned.encode()
