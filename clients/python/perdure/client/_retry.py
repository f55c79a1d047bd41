"""Retries of calls and watches: which errors are retried, after which pause, for how long. No I/O.

Every call is safe to retry. Reads change nothing, and every call that writes carries a request ID.
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
from perdure.model.durations import Duration
from perdure.model.issues import show


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRetryPolicy:
    """Retry policy of a client for calls that fail for a temporary reason.

    After n failures the pause is ``initial_backoff * multiplier**(n-1)``, at most ``max_backoff``, or longer if the
    server asks for it. It is shortened at random by up to a half, so that clients do not retry together. The timeout
    of a call limits all its attempts.

    Attributes:
        initial_backoff: Pause after the first failure, a `Duration`. Default 100 ms.
        max_backoff: Maximum pause, a `Duration`. Default 5 s.
        multiplier: Growth of the pause with each failure, 1 to 1,000. Default 2.
        max_attempts: Maximum number of attempts. Default: no limit.

    Raises:
        InvalidFieldError: A value is out of range.
    """

    initial_backoff: Duration = 0.1
    max_backoff: Duration = 5.0
    multiplier: float = 2.0
    max_attempts: int | None = None

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
        if max_attempts is not None and (
            isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1
        ):
            raise invalid(
                "retries.max_attempts",
                f"must be None or an integer of at least 1, not {show(max_attempts)}",
            )


MULTIPLIER_MAX: Final = 1_000
"""Maximum growth of the pause from one failure to the next."""

NO_RETRIES: Final = CallRetryPolicy(max_attempts=1)
"""Retry policy that sends each call once."""


def retries_of(given: object) -> CallRetryPolicy:
    """Return the retry policy of a client. None means the default.

    Raises:
        InvalidFieldError: The value is not a `CallRetryPolicy`.
    """
    if given is None:
        return CallRetryPolicy()
    if not isinstance(given, CallRetryPolicy):
        raise invalid("retries", f"must be a CallRetryPolicy, not {type(given).__name__}")
    return given


OnDisconnect = Callable[[PerdureError], None]
"""Called with the error when a watch has lost the server."""

OnReconnect = Callable[[], None]
"""Called when the server responds again."""

PAUSE_SECONDS_MAX: Final = 86_400.0
"""Maximum pause between two attempts, in seconds, even if the policy or the server asks for more."""

DISCONNECT_FAILURES_MIN: Final = 2
"""Number of failures in a row that count as a disconnect. A single failure is typical of a rolling restart."""

RECONNECT_SECONDS: Final = 300.0
"""Default of ``reconnect_timeout``, in seconds."""

STREAM_SECONDS_MAX: Final = 600.0
"""Maximum lifetime of a watch stream, in seconds. The watch then opens a new stream, so a hung server is noticed."""


class Attempts:
    """The attempts of one call, or the connections of one watch."""

    def __init__(
        self,
        retries: CallRetryPolicy,
        timeout: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._initial_seconds = seconds("retries.initial_backoff", retries.initial_backoff)
        self._max_seconds = seconds("retries.max_backoff", retries.max_backoff)
        self._multiplier = retries.multiplier
        self._max_attempts = retries.max_attempts
        self._clock = clock
        self._rng = rng
        self._failures = 0
        self._deadline = clock() + timeout

    @property
    def seconds_left(self) -> float:
        """Remaining time in seconds, never negative."""
        return max(0.0, self._deadline - self._clock())

    def succeeded(self, on_reconnect: OnReconnect | None = None) -> None:
        """Record a response of the server. The next failure counts as the first, and starts a new reconnect period."""
        if on_reconnect is not None and self._failures >= DISCONNECT_FAILURES_MIN:
            on_reconnect()
        self._failures = 0
        self._deadline = math.inf

    def failed(self, error: PerdureError, on_disconnect: OnDisconnect | None) -> None:
        """Report the failure that makes a disconnect."""
        if on_disconnect is not None and self._failures == DISCONNECT_FAILURES_MIN:
            on_disconnect(error)

    def pause_after(self, error: PerdureError, *, reconnect_seconds: float = math.inf) -> float | None:
        """Return the pause before the next attempt in seconds, or None if there is no further attempt.

        ``reconnect_seconds`` limits the failures in a row that follow a response, from the first of them.
        """
        self._failures += 1
        if not error.retryable or self._failures == self._max_attempts:
            return None
        if self._failures == 1:
            self._deadline = min(self._deadline, self._clock() + reconnect_seconds)
        # The exponent is bounded, because a watch can fail for days.
        ceiling = min(
            self._max_seconds,
            PAUSE_SECONDS_MAX,
            self._initial_seconds * self._multiplier ** min(self._failures - 1, 32),
        )
        pause = max(ceiling * (1 - self._rng() / 2), min(error.retry_after or 0.0, PAUSE_SECONDS_MAX))
        return pause if pause < self.seconds_left else None


def call_error(error: PerdureError, seconds_left: float) -> PerdureError:
    """Return the error of a failed call.

    In a call without a limit, DEADLINE_EXCEEDED is the server's, and retryable.
    """
    if isinstance(error, DeadlineExceededError) and math.isinf(seconds_left):
        return UnavailableError(error.message, request_id=error.request_id)
    return error


def watch_error(error: PerdureError, seconds_left: float) -> PerdureError:
    """Return the error of a broken watch stream. A stream that reached its maximum lifetime is replaced."""
    if isinstance(error, DeadlineExceededError) and seconds_left > 0:
        return UnavailableError("the watch stream reached its maximum lifetime")
    return error
