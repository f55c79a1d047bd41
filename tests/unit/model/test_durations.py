"""Durations: seconds, timedeltas and text become milliseconds."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.model.durations import DURATION_MS_MAX, duration_ms, parse_duration_ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [("1ms", 1), ("30s", 30_000), ("5m", 300_000), ("24h", 86_400_000), ("2d", 172_800_000), ("0s", 0)],
)
def test_text_is_digits_and_a_unit(text: str, ms: int) -> None:
    assert parse_duration_ms(text) == ms
    assert duration_ms(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "s",
        "-1s",
        "1.5s",
        " 1s",
        "1s\n",
        "1S",
        "1 s",
        "1w",
        "٣s",
        "9" * 5000 + "s",
        "3661d",
        5,
        None,
        b"1s",
    ],
)
def test_other_text_is_rejected(text: Any) -> None:
    with pytest.raises(ValueError, match=r"duration|ten years"):
        parse_duration_ms(text)


def test_ten_years_is_the_longest_duration() -> None:
    assert parse_duration_ms("3660d") == DURATION_MS_MAX


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (5, 5_000),
        (0.2, 200),
        (0.07, 70),
        (1.5, 1_500),
        (0.0001, 1),
        (0, 0),
        (timedelta(hours=1), 3_600_000),
        (timedelta(microseconds=1), 1),
        (timedelta(milliseconds=-1), -1),
        (DURATION_MS_MAX / 1_000, DURATION_MS_MAX),
    ],
)
def test_numbers_are_seconds_and_fractions_round_up(value: Any, ms: int) -> None:
    assert duration_ms(value) == ms


@given(st.integers(0, DURATION_MS_MAX))
def test_whole_milliseconds_are_exact_as_a_timedelta(ms: int) -> None:
    assert duration_ms(timedelta(milliseconds=ms)) == ms


@pytest.mark.parametrize(
    "value",
    [True, None, b"1s", [], math.nan, math.inf, -math.inf, 1e300, 10**400, -(10**400), timedelta.max, "soon"],
    ids=lambda value: repr(value)[:20],
)
def test_other_values_are_rejected(value: Any) -> None:
    with pytest.raises(ValueError, match=r"duration|ten years"):
        duration_ms(value)
