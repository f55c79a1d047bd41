"""JSON as it crosses the API: Python values to text and back, without loss.

64-bit and larger integers and every Unicode character survive both ways. Values that JSON cannot represent (NaN, a key
that is not a string, a lone surrogate, a set) raise an error that names their place. A faster encoder would write NaN
as null and read large integers as floats, so this module uses the standard library's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from perdure.errors import FieldViolation, InvalidFieldError, PerdureError
from perdure.model.constants import NESTING_MAX

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class RawJson(str):
    """A JSON value as text, which crosses the API unchanged.

    Use it if Python values would lose information: the digits of ``1.10``, the spelling of an escape, or a
    duplicate key.
    """

    __slots__ = ()


def encode(value: Any, *, field: str) -> str:
    """Return ``value`` as JSON text.

    Raises:
        InvalidFieldError: JSON cannot represent the value. The violation names the place below ``field``.
    """
    if isinstance(value, RawJson) and _is_unicode(value):
        return str(value)
    problem = _problem(value, field, NESTING_MAX)
    if problem is not None:
        raise InvalidFieldError(f"{field} is not a JSON value: {problem}", violations=[problem])
    try:
        return _ENCODER.encode(value)
    except ValueError:  # Python writes integers of at most `sys.get_int_max_str_digits` digits
        violation = FieldViolation(
            field, "contains an integer with too many digits; pass it as RawJson or as a string"
        )
        raise InvalidFieldError(str(violation), violations=[violation]) from None


def encode_object(value: object, *, field: str) -> str:
    """Return a mapping as the text of a JSON object. None becomes the empty object.

    Raises:
        InvalidFieldError: The value is not a mapping, or JSON cannot represent it.
    """
    if value is None:
        return "{}"
    if isinstance(value, RawJson):
        return encode(value, field=field)
    if not isinstance(value, Mapping):
        violation = FieldViolation(field, f"must be a JSON object (a dict), not {type(value).__name__}")
        raise InvalidFieldError(str(violation), violations=[violation])
    return encode(dict(value), field=field)


def decode(text: str) -> Any:
    """Return the value of a JSON text from the API.

    Raises:
        PerdureError: Python cannot represent the value, for example an integer with more than 4,300 digits.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PerdureError(
            "a payload cannot be decoded", detail=str(error), hint="read it with raw_json=True"
        ) from None


def _problem(value: Any, place: str, depth_left: int) -> FieldViolation | None:
    match value:
        case None | bool() | int():
            return None
        case float():
            if math.isfinite(value):
                return None
            return FieldViolation(place, f"JSON cannot represent {value}")
        case str():
            return None if _is_unicode(value) else FieldViolation(place, "contains a lone surrogate")
        case dict() | list() | tuple() if depth_left == 0:
            return FieldViolation(place, f"is nested more than {NESTING_MAX} levels deep")
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    return FieldViolation(place, f"has the key {key!r}, which is not a string")
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
            return FieldViolation(place, f"JSON cannot represent a {type(value).__name__}")


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
