"""The pause before a retry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.model.graph import DURATION_MS_MAX, RetryDefinition
from perdure_server.engine.retry import backoff_ms

POLICY = RetryDefinition(initial_ms=200, max_ms=30_000, multiplier=2.0, jitter=0.2)


@pytest.mark.parametrize(
    ("failures", "pause_ms"), [(1, 200), (2, 400), (3, 800), (8, 25_600), (9, 30_000), (1_000_000, 30_000)]
)
def test_pauses_double_up_to_their_cap(failures: int, pause_ms: int) -> None:
    assert backoff_ms(POLICY, failures, 0.0) == pause_ms


def test_jitter_shortens_a_pause_by_its_share() -> None:
    assert backoff_ms(POLICY, 1, 0.5) == 180
    assert backoff_ms(POLICY, 1, 0.999_999) == 160


def test_a_pause_is_never_nothing() -> None:
    assert backoff_ms(RetryDefinition(initial_ms=1, max_ms=1, jitter=1.0), 1, 0.999_999) == 1


def test_a_multiplier_of_one_keeps_the_pause() -> None:
    assert backoff_ms(RetryDefinition(initial_ms=70, multiplier=1.0), 10**6, 0.0) == 70


@given(
    st.builds(
        RetryDefinition,
        initial_ms=st.integers(1, DURATION_MS_MAX),
        max_ms=st.integers(1, DURATION_MS_MAX),
        multiplier=st.floats(1.0, 1_000.0),
        jitter=st.floats(0.0, 1.0),
    ),
    st.integers(1, 1_000_000),
    st.floats(0.0, 1.0, exclude_max=True),
)
def test_a_pause_stays_within_its_policy(policy: RetryDefinition, failures: int, jitter: float) -> None:
    pause_ms = backoff_ms(policy, failures, jitter)

    assert 1 <= pause_ms <= policy.max_ms
    assert pause_ms >= backoff_ms(policy, failures, 0.0) * (1 - policy.jitter) - 1
    assert backoff_ms(policy, failures, 0.0) <= backoff_ms(policy, failures + 1, 0.0)
