"""Durations as Python code gives them: a number of seconds, a `timedelta`, or text such as ``"30s"``."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from datetime import timedelta

Duration: TypeAlias = (
    "float | timedelta | str"  # a string, because importing datetime slows down `import perdure`
)
"""A duration: seconds as a number, a `timedelta`, or digits and one unit of ``ms s m h d``, as in ``"30s"``."""

DURATION_MS_MAX: Final = 10 * 366 * 86_400_000
"""Maximum duration in a graph or a call, in milliseconds: ten years."""

_PATTERN: Final = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_duration_ms(text: str) -> int:
    """Return the milliseconds of a text: digits and one unit of ``ms s m h d``, as in ``"30s"``.

    Raises:
        ValueError: The text has another form, or the duration exceeds ten years.
    """
    match = _PATTERN.fullmatch(text) if type(text) is str and len(text) <= 32 else None
    if match is None or not text.isascii():
        raise ValueError(f"{text!r} is not a duration; write digits and a unit (ms, s, m, h, d), as in '30s'")
    duration_ms = int(match[1]) * _UNIT_MS[match[2]]
    if duration_ms > DURATION_MS_MAX:
        raise ValueError(f"{text!r} is longer than ten years")
    return duration_ms


def duration_ms(value: Duration) -> int:
    """Return a duration in milliseconds, rounded up so that no delay ends early.

    Negative durations stay negative. The caller decides whether it accepts them.

    Raises:
        ValueError: The value is not a duration, is not finite, or exceeds ten years.
    """
    given: object = value
    if isinstance(given, str):
        return parse_duration_ms(given)
    from datetime import timedelta

    if isinstance(given, timedelta):
        return _bounded(given)
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise ValueError(
            f"a value of type {type(given).__name__} is not a duration; "
            "pass seconds, a timedelta, or text such as '30s'"
        )
    if isinstance(given, float) and not math.isfinite(given):
        raise ValueError(f"{given} is not a finite duration")
    if abs(given) * 1_000 > DURATION_MS_MAX:
        raise ValueError("the duration is longer than ten years")
    # A timedelta rounds to microseconds first, so that 0.07 is 70 ms and not 71.
    return _bounded(timedelta(seconds=given))


def _bounded(value: timedelta) -> int:
    from datetime import timedelta

    # Compared first, because the largest timedelta cannot be negated.
    if value > timedelta(milliseconds=DURATION_MS_MAX):
        raise ValueError("the duration is longer than ten years")
    return -(-value // timedelta(milliseconds=1))
