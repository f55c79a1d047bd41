"""Validation of arguments before a call is sent. Every failure is an `InvalidFieldError` that names the argument."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from perdure.errors import FieldViolation, InvalidFieldError
from perdure.model.durations import Duration, parse_duration_ms
from perdure.model.issues import show

SECONDS_MAX: Final = 10 * 366 * 86_400
"""Ten years, in seconds. gRPC cannot represent much longer deadlines, so a longer timeout means no limit."""

_INTEGERS: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}


def invalid(field: str, description: str) -> InvalidFieldError:
    """Return the error for one argument."""
    violation = FieldViolation(field, description)
    return InvalidFieldError(str(violation), violations=[violation])


def seconds(name: str, value: Duration) -> float:
    """Return a time limit in seconds. ``math.inf``, or more than `SECONDS_MAX`, means no limit.

    Raises:
        InvalidFieldError: The value is not a `Duration`, or it is NaN, zero or negative.
    """
    given: object = value
    if isinstance(given, timedelta):
        given = given.total_seconds()
    elif isinstance(given, str):
        try:
            given = parse_duration_ms(given) / 1_000
        except ValueError:
            raise invalid(
                name, f"must be a duration such as '30s', at most ten years, not {show(given)}"
            ) from None
    elif isinstance(given, bool) or not isinstance(given, (int, float)):
        raise invalid(name, f"must be seconds, a timedelta, or text such as '30s', not {_kind(given)}")
    if not given > 0:  # also rejects NaN
        raise invalid(name, f"must be more than 0 seconds (math.inf for no limit), not {show(value)}")
    return math.inf if given > SECONDS_MAX else float(given)


def deadline(seconds_left: float) -> float | None:
    """Return a time limit in the form that gRPC expects: None means no limit."""
    return None if math.isinf(seconds_left) else seconds_left


def field_violation(field: FieldDescriptor, value: Any, path: str) -> FieldViolation | None:
    """Return the violation if a field of a message cannot hold a value, else None."""
    if field.message_type is not None or field.is_repeated:
        return None
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return _text_violation(path, value)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return (
            None if isinstance(value, bool) else FieldViolation(path, f"must be a bool, not {_kind(value)}")
        )
    if (bounds := _INTEGERS.get(field.cpp_type)) is not None:
        if isinstance(value, bool) or not isinstance(value, int):
            return FieldViolation(path, f"must be an integer, not {_shown(value)}")
        smallest, largest = bounds
        if not smallest <= value <= largest:
            return FieldViolation(
                path, f"must be an integer from {smallest} to {largest}, not {_shown(value)}"
            )
    return None


def labels_violations(path: str, value: object) -> list[FieldViolation]:
    """Return the violations of a mapping of labels."""
    if value is None:
        return []
    try:
        pairs = list(value.items())  # type: ignore[attr-defined]
    except (AttributeError, TypeError):
        return [FieldViolation(path, f"must be a mapping of strings, not {_kind(value)}")]
    found = []
    for key, label in pairs:
        found.append(_text_violation(path, key, "has a key that "))
        found.append(_text_violation(f"{path}[{show(key)}]", label))
    return [violation for violation in found if violation is not None]


def is_labels(message: type[Message], name: str) -> bool:
    """Return True if a field is a map of strings."""
    field = message.DESCRIPTOR.fields_by_name[name]
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _text_violation(path: str, value: object, prefix: str = "") -> FieldViolation | None:
    if not isinstance(value, str):
        return FieldViolation(path, f"{prefix}must be a string, not {_kind(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return FieldViolation(path, f"{prefix}contains a lone surrogate, which is not valid Unicode text")
    return None


def _kind(value: object) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


def _shown(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, (int, float)):
        return repr(value)
    return _kind(value)
