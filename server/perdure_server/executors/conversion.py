"""Conversion of payloads to a `Context`, and of the value or exception of a handler to a result.

Total over everything that user code can return or raise. Runs in the threads of steps, never on the server's event
loop.
"""

from __future__ import annotations

import enum
import json
import logging
import math
import re
import uuid
from collections.abc import Iterable, Mapping
from types import CoroutineType, TracebackType
from typing import Any, Final

import orjson

from perdure.context import SUSPEND, Context, Outcome
from perdure_server.engine.commands import Payload, payload
from perdure_server.executors.failures import clean, failure_from
from perdure_server.runtime.dispatch.protocol import TaskFailed, TaskFinished, TaskResult, TaskSuspended
from perdure_server.runtime.ports import TaskToRun
from perdure_server.runtime.request_validation import shape_problem

log = logging.getLogger(__name__)

EVENT_CHARS_MAX: Final = 200

_LONG_NUMBER: Final = re.compile(r"[0-9]{19}")
_TRACEBACK: Final = BaseException.__dict__["__traceback__"].__get__
_STRICT: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


class NotJsonError(ValueError):
    """A value that has no JSON form. The message says why."""


class _Ended(dict[str, Any]):
    """The outputs of steps that had ended. A missing one is due to the graph, and the error says so."""

    def __missing__(self, ref: object) -> Any:
        ended = f"ended steps: {', '.join(self)}" if self else "no step had ended"
        raise KeyError(f"step {ref!r:.100} had not ended when this step started; {ended}")


def context_of(task: TaskToRun) -> Context:
    """Parse the payloads of a task. Each attempt gets its own copies."""
    return Context(
        input=read_json(task.input),
        steps=_Ended({ref: read_json(text) for ref, text in task.steps.items()}),
        instance_id=task.instance_id,
        workflow=task.workflow,
        version=task.version,
        step_ref=task.step_ref,
        attempt=task.attempt,
    )


def result_of(task: TaskToRun, value: object) -> TaskResult:
    """Convert a returned value. The engine checks whether the step declares the event, or `awaits`."""
    if isinstance(value, Outcome):
        event: object = value.event
        if not isinstance(event, str) or len(event) > EVENT_CHARS_MAX or clean(event) != event:
            return _invalid(f"step {task.step_ref} returned an Outcome whose event is not a valid name")
        try:
            return TaskFinished(event, write_json(value.output))
        except NotJsonError as problem:
            message = f"the output of step {task.step_ref} is not valid JSON: {problem}"
            return TaskFailed("OutputNotJson", clean(message), retryable=False)
    if value is SUSPEND:
        return TaskSuspended()
    if isinstance(value, CoroutineType):
        return _invalid(f"step {task.step_ref} returned a coroutine that was not awaited; return `await ...`")
    return _invalid(f"step {task.step_ref} returned {type(value).__name__}; return Outcome(...) or SUSPEND")


def failure_of(task: TaskToRun, error: BaseException) -> TaskFailed:
    """Convert a raised exception to a failure, and log its place. See `failures` for the rules."""
    found = failure_from(error)
    failure = TaskFailed(type=found.type, message=found.message, retryable=found.retryable)
    # The place only: the message can contain a payload, which must not be logged. It is in the instance's history.
    log.warning(
        "step failed",
        extra={
            "instance_id": task.instance_id,
            "step_ref": task.step_ref,
            "attempt": task.attempt,
            "error": failure.type,
            "where": place_of(found.leaf) or place_of(error),
        },
    )
    return failure


def _invalid(message: str) -> TaskFailed:
    return TaskFailed("InvalidOutcome", clean(message), retryable=False)


def place_of(error: BaseException) -> str:
    """Return the file and the line that raised it, empty if it was not raised."""
    traceback: TracebackType | None = _TRACEBACK(error)
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}" if traceback else ""


# --- JSON ----------------------------------------------------------------------------------------------------


def read_json(text: str) -> Any:
    """Parse a stored JSON text. Integers of any length are exact (orjson turns those beyond 64 bits into floats)."""
    if _LONG_NUMBER.search(text):
        return json.loads(text)
    return orjson.loads(text)


def write_json(output: Mapping[str, Any]) -> Payload | None:
    """Encode an output, None for an empty one. Raises `NotJsonError`."""
    if not output:
        return None
    try:
        body = orjson.dumps(output, option=_STRICT)
    except TypeError as problem:
        # orjson's recursion limit, unsupported types, keys that are not strings, lone surrogates.
        if "64-bit" not in str(problem):
            raise NotJsonError(f"{problem}{_place_of_problem(output)}") from None
        body = _write_long_integers(output)
    if b"null" in body:
        # orjson writes NaN and the infinities as null.
        _reject_nan(output)
    text = body.decode()
    _reject_shape(text)
    return payload(text)


def _place_of_problem(output: Mapping[str, Any]) -> str:
    """Return the path to the invalid part of an output, as far as plain dicts and lists lead to it."""
    place = ""
    value: Any = output
    for _ in range(10):
        items: Iterable[tuple[Any, Any]] = ()
        if type(value) is dict:  # of a subclass, the methods would be user code
            items = value.items()
        elif type(value) in {list, tuple}:
            items = enumerate(value)
        key, value = next(((key, item) for key, item in items if not _is_writable(item)), (None, None))
        if type(key) is str:
            place += f".{key}" if place else key
        elif type(key) is int:
            place += f"[{key}]"
        else:
            break
    return f" ({place})" if place else ""


def _is_writable(value: Any) -> bool:
    try:
        orjson.dumps(value, option=_STRICT)
    except TypeError:
        return False
    return True


def _reject_shape(text: str) -> None:
    try:
        wrong = shape_problem(text, lambda: read_json(text))
    except (RecursionError, ValueError) as problem:
        raise NotJsonError(f"it cannot be decoded again: {problem}") from None
    if wrong:
        raise NotJsonError(f"it {wrong}")


def _write_long_integers(output: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(output, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_plain)
        body = text.encode()
    except (TypeError, ValueError, RecursionError) as problem:
        raise NotJsonError(clean(str(problem))) from None
    _reject_foreign_keys(output)
    return body


def _plain(value: object) -> object:
    """Encode the types that orjson supports and the standard library does not."""
    match value:
        case enum.Enum():
            return value.value
        case uuid.UUID():
            return str(value)
        case _:
            raise TypeError(f"Type is not JSON serializable: {type(value).__name__}")


def _reject_nan(value: object) -> None:
    for item in _walk(value):
        if isinstance(item, float) and not math.isfinite(item):
            raise NotJsonError(f"{item} is not a JSON number")


def _reject_foreign_keys(value: object) -> None:
    for item in _walk(value):
        if isinstance(item, dict) and not all(isinstance(key, str) for key in item):
            raise NotJsonError("Dict key must be str")


def _walk(value: object) -> Any:
    """Yield everything inside a value. It was encoded before, so it is finite."""
    stack = [value]
    while stack:
        item = stack.pop()
        yield item
        match item:
            case dict():
                stack.extend(item.values())
            case list() | tuple():
                stack.extend(item)
            case enum.Enum():
                stack.append(item.value)
            case _:
                pass
