"""Checks of arguments before anything is sent. Every failure is an `InvalidFieldError` that names the argument."""

from __future__ import annotations

import math
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from perdure.errors import FieldViolation, InvalidFieldError
from perdure.model.issues import show

SECONDS_MAX: Final = 10 * 366 * 86_400
"""Ten years. gRPC cannot represent much longer deadlines, so a longer timeout is the same as none."""

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


def seconds(name: str, value: object) -> float:
    """Return a time limit in seconds, ``math.inf`` for one of more than `SECONDS_MAX`.

    Raises:
        InvalidFieldError: not a number, NaN, zero or negative.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise invalid(name, f"must be a number of seconds, not {_kind(value)}")
    if not value > 0:  # NaN, too
        raise invalid(name, f"must be more than 0 seconds (math.inf for no limit), not {show(value)}")
    return math.inf if value > SECONDS_MAX else float(value)


def deadline(seconds_left: float) -> float | None:
    """Return a time limit as gRPC takes it: None for none."""
    return None if math.isinf(seconds_left) else seconds_left


def field_violation(field: FieldDescriptor, value: Any, path: str) -> FieldViolation | None:
    """Return what makes a value unfit for a field of a message, None for a value that fits."""
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
    """Return what is wrong with a mapping of labels."""
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
    """Return if a field is a map of strings."""
    field = message.DESCRIPTOR.fields_by_name[name]
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _text_violation(path: str, value: object, prefix: str = "") -> FieldViolation | None:
    if not isinstance(value, str):
        return FieldViolation(path, f"{prefix}must be a string, not {_kind(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return FieldViolation(path, f"{prefix}holds a lone surrogate, which is not valid Unicode text")
    return None


def _kind(value: object) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


def _shown(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, (int, float)):
        return repr(value)
    return _kind(value)
