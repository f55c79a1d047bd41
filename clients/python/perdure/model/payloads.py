"""JSON as it crosses the API: Python values to text and back, exact or refused.

64-bit (and larger) integers and every Unicode character survive both ways. What JSON cannot say (NaN, a key that is
no string, a lone surrogate, a set) is refused with its place instead of being bent into something else; so the
standard library's encoder does it, and not a faster one that writes NaN as null and reads large integers as floats.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from perdure.errors import FieldViolation, InvalidFieldError, PerdureError

DEPTH_MAX: Final = 100
"""How deep a payload may be nested; the server's limit, kept here so that the answer names the place."""

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class RawJson(str):
    """A JSON value as its text, which crosses the API as it is: neither written anew nor read.

    For what Python values do not keep: the digits of ``1.10``, the spelling of an escape, a key that stands twice.
    """

    __slots__ = ()


def encode(value: Any, *, field: str) -> str:
    """Return ``value`` as JSON text. Raises `InvalidFieldError`, naming the place under ``field``."""
    if isinstance(value, RawJson) and _is_unicode(value):
        return str(value)
    problem = _problem(value, field, DEPTH_MAX)
    if problem is not None:
        raise InvalidFieldError(f"{field} is no JSON: {problem}", violations=[problem])
    try:
        return _ENCODER.encode(value)
    except ValueError:  # Python writes integers of at most `sys.get_int_max_str_digits` digits
        violation = FieldViolation(
            field, "holds an integer with too many digits; pass it as RawJson or a string"
        )
        raise InvalidFieldError(str(violation), violations=[violation]) from None


def encode_object(value: object, *, field: str) -> str:
    """Return a mapping as a JSON object's text; None is the empty one. Raises as `encode` does."""
    if value is None:
        return "{}"
    if isinstance(value, RawJson):
        return encode(value, field=field)
    if not isinstance(value, Mapping):
        violation = FieldViolation(field, f"must be a JSON object (a dict), not {type(value).__name__}")
        raise InvalidFieldError(str(violation), violations=[violation])
    return encode(dict(value), field=field)


def decode(text: str) -> Any:
    """Return the value of a JSON text that the API gave.

    Raises:
        PerdureError: Python cannot hold the value, such as an integer of more than 4,300 digits.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PerdureError(f"a payload cannot be decoded ({error}); read it with raw_json=True") from None


def _problem(value: Any, place: str, depth_left: int) -> FieldViolation | None:
    match value:
        case None | bool() | int():
            return None
        case float():
            if math.isfinite(value):
                return None
            return FieldViolation(place, f"JSON has no {value}")
        case str():
            return None if _is_unicode(value) else FieldViolation(place, "holds a lone surrogate")
        case dict() | list() | tuple() if depth_left == 0:
            return FieldViolation(place, f"is nested more than {DEPTH_MAX} deep")
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    return FieldViolation(place, f"has the key {key!r}, which is no string")
                if not _is_unicode(key):
                    return FieldViolation(place, "has a key with a lone surrogate")
                if found := _problem(item, f"{place}.{key}", depth_left - 1):
                    return found
            return None
        case list() | tuple():
            for index, item in enumerate(value):
                if found := _problem(item, f"{place}[{index}]", depth_left - 1):
                    return found
            return None
        case _:
            return FieldViolation(place, f"JSON has no {type(value).__name__}")


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
