"""Settings of every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Examples are the same in each run and have no time limit: a busy machine must not fail a test. To search with other
# examples, run `pytest --hypothesis-profile=default`.
settings.register_profile(
    "repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")
