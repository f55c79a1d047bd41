"""How long a failed task waits for its next attempt."""

from __future__ import annotations

import math

from perdure.model.graph import RetryDefinition


def backoff_ms(policy: RetryDefinition, failures: int, jitter: float) -> int:
    """Return the pause in milliseconds after the ``failures``-th failure (1 or more).

    Exponential, capped at ``policy.max_ms``, then shortened by up to the share ``policy.jitter``: ``jitter`` in [0, 1)
    says how much of it. At least 1.
    """
    cap_ms = float(policy.max_ms)
    # The power is compared in logarithms: after a thousand failures it no longer fits a float.
    if (failures - 1) * math.log(max(policy.multiplier, 1.0)) >= math.log(
        max(cap_ms / policy.initial_ms, 1.0)
    ):
        pause_ms = cap_ms
    else:
        pause_ms = min(cap_ms, policy.initial_ms * policy.multiplier ** (failures - 1))
    return max(1, round(pause_ms * (1.0 - policy.jitter * jitter)))
