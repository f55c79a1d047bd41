"""Settings of every test."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# gRPC's own log lines, for example about connections that a test breaks, would mix with the progress line. It reads the
# variable when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

# Examples are the same in each run and have no time limit: a busy machine must not fail a test. To search with other
# examples, run `pytest --hypothesis-profile=default`.
settings.register_profile(
    "repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")
