"""When a call is sent again: which errors are worth it, after which pause, for how long. No I/O, no clock of its own.

Every call is safe to send again: reads change nothing, and every mutating call carries a request id.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from perdure.client._arguments import SECONDS_MAX, invalid, seconds
from perdure.errors import DeadlineExceededError, PerdureError, UnavailableError
from perdure.model.issues import show


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRetryPolicy:
    """How a client sends calls again that failed for a moment's reason.

    The pause after n failures is ``initial_backoff * multiplier**(n-1)`` seconds, at most ``max_backoff``, or what
    the server asks for
    where that is more; chance shortens it by up to a half so that clients do not come back in step. A call's timeout
    bounds all of it; ``max_attempts`` (0: no bound) the number of sendings.

    Raises:
        InvalidFieldError: ``initial_backoff`` or ``max_backoff`` is not a positive, finite number of seconds,
        ``multiplier`` is not a
            finite number of at least 1, or ``max_attempts`` is not an integer of at least 0.
    """

    initial_backoff: float = 0.1
    max_backoff: float = 5.0
    multiplier: float = 2.0
    max_attempts: int = 0

    def __post_init__(self) -> None:
        for name in ("initial_backoff", "max_backoff"):
            value = getattr(self, name)
            if math.isinf(seconds(f"retries.{name}", value)):
                raise invalid(f"retries.{name}", f"must be at most {SECONDS_MAX} seconds, not {show(value)}")
        multiplier: object = self.multiplier
        if not isinstance(multiplier, (int, float)) or not 1 <= multiplier <= MULTIPLIER_MAX:
            raise invalid(
                "retries.multiplier", f"must be a number from 1 to {MULTIPLIER_MAX}, not {show(multiplier)}"
            )
        max_attempts: object = self.max_attempts
        if isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 0:
            raise invalid(
                "retries.max_attempts", f"must be an integer of at least 0, not {show(max_attempts)}"
            )


MULTIPLIER_MAX: Final = 1_000
"""Maximum growth of the pause from one failure to the next."""

NO_RETRIES: Final = CallRetryPolicy(max_attempts=1)


def retries_of(given: object) -> CallRetryPolicy:
    """Return the settings of a client, the default ones for None. Raises `InvalidFieldError`."""
    if given is None:
        return CallRetryPolicy()
    if not isinstance(given, CallRetryPolicy):
        raise invalid("retries", f"must be a CallRetryPolicy, not {type(given).__name__}")
    return given


OnOutage = Callable[[PerdureError | None], None]
"""Is told an outage's error, and None once the server has answered again."""

PAUSE_SECONDS_MAX: Final = 86_400.0
"""Longest pause between two sendings, whatever the settings or the server ask for."""

OUTAGE_FAILURES_MIN: Final = 2
"""From how many failures in a row on a watch counts as cut off: one is what a renewal or a hand-over looks like."""

OUTAGE_SECONDS: Final = 300.0
"""Default limit of an outage that a watch survives, in seconds."""

STREAM_SECONDS_MAX: Final = 600.0
"""How long one stream of a watch lives before the next takes over: a bound on what a hung server can hide."""


class Attempts:
    """The sendings of one call, or the connections of one watch."""

    def __init__(
        self,
        retries: CallRetryPolicy,
        timeout: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._retries = retries
        self._clock = clock
        self._chance = chance
        self._failures = 0
        self._deadline = clock() + timeout

    @property
    def seconds_left(self) -> float:
        """How long it may still take; never negative."""
        return max(0.0, self._deadline - self._clock())

    def answered(self, on_outage: OnOutage | None = None) -> None:
        """Note that the server answered: failures from now on are counted anew, and bounded by `outage`."""
        if on_outage is not None and self._failures >= OUTAGE_FAILURES_MIN:
            on_outage(None)
        self._failures = 0
        self._deadline = math.inf

    def failed(self, error: PerdureError, on_outage: OnOutage | None) -> None:
        """Tell the failure that makes an outage."""
        if on_outage is not None and self._failures == OUTAGE_FAILURES_MIN:
            on_outage(error)

    def pause_after(self, error: PerdureError, *, outage: float = math.inf) -> float | None:
        """Return the seconds to wait before the next sending, or None where ``error`` is the answer.

        ``outage`` bounds the failures in a row that follow an answer, in seconds from the first of them.
        """
        self._failures += 1
        if not error.retryable or self._failures == self._retries.max_attempts:
            return None
        if self._failures == 1:
            self._deadline = min(self._deadline, self._clock() + outage)
        retries = self._retries
        # Bounded before the power is taken: a watch may fail for days.
        ceiling = min(
            retries.max_backoff,
            PAUSE_SECONDS_MAX,
            retries.initial_backoff * retries.multiplier ** min(self._failures - 1, 32),
        )
        pause = max(ceiling * (1 - self._chance() / 2), min(error.retry_after or 0.0, PAUSE_SECONDS_MAX))
        return pause if pause < self.seconds_left else None


def call_error(error: PerdureError, seconds_left: float) -> PerdureError:
    """Return the meaning of a failed call: without a limit of its own, a deadline was the server's and ends nothing."""
    if isinstance(error, DeadlineExceededError) and math.isinf(seconds_left):
        return UnavailableError(error.message, request_id=error.request_id)
    return error


def watch_error(error: PerdureError, seconds_left: float) -> PerdureError:
    """Return what a watch's broken stream means: one that reached its own time bound is only due for renewal."""
    if isinstance(error, DeadlineExceededError) and seconds_left > 0:
        return UnavailableError("the stream reached its time bound")
    return error
