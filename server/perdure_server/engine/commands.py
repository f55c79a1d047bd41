"""The commands: every request and every event that can change an instance.

A command carries everything that a decision needs from outside: the time (``at``, by the store's clock), IDs, payloads
with their digests, and a random number (``jitter``). `decide` returns a `Decision` or a `Rejection`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import field
from typing import Final

from perdure_server.engine.facts import PayloadInfo
from perdure_server.engine.value_type import value

PAYLOAD_BYTES_MAX: Final = 1 << 20
"""Maximum size of a payload, in bytes of its UTF-8 JSON text."""

INSTANCE_BYTES_MAX: Final = 3 << 20
"""Maximum total size of an instance's input, outputs and inbox, in bytes."""

REPORTS_BYTES_MAX: Final = 256 << 10
"""Maximum size that the reports of failed steps can add to that. A failure is reported even if no output fits."""

INBOX_EVENTS_MAX: Final = 1_000
"""Maximum number of events in an inbox."""

REQUESTED_TIMERS_MAX: Final = 1_000
"""Maximum number of pending ScheduleResume timers in an instance. The state has them, so every commit writes them
all."""

LOSSES_IN_A_ROW_MAX: Final = 10
"""Number of lost attempts in a row that count as a failure of the step. A result of the step resets the count."""

LOSSES_ALONE_MAX: Final = 3
"""The same for attempts that ran alone in their process."""

FAILURE_TYPE_CHARS_MAX: Final = 200
FAILURE_MESSAGE_CHARS_MAX: Final = 2_000
"""Maximum length of the stored name and text of an exception. The rest is cut off."""


@value(frozen=True, slots=True)
class Payload:
    """A JSON text with its size and digest. Create it with `payload`."""

    text: str
    info: PayloadInfo


EMPTY_OBJECT: Final = "{}"


def payload(text: str) -> Payload:
    """Return the payload of a JSON text that is known to be valid."""
    body = text.encode()
    return Payload(text, PayloadInfo(len(body), hashlib.blake2b(body, digest_size=16).hexdigest()))


@value(frozen=True, slots=True)
class Grant:
    """Tasks that an executor can take at once: up to ``slots`` tasks of ``step_refs``, owned by ``owner``."""

    owner: str
    slots: int
    step_refs: frozenset[str]


NO_GRANT: Final = Grant("", 0, frozenset())


@value(frozen=True, slots=True, kw_only=True)
class StartInstance:
    """Create an instance of the definition that is passed to `decide.start`."""

    at: int
    instance_id: str
    input: Payload
    business_key: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    start_delay_ms: int = 0
    request_id: str = ""


@value(frozen=True, slots=True, kw_only=True)
class Resume:
    """Deliver an event from outside. A ``payload`` of None stands for the empty object."""

    at: int
    event: str
    payload: Payload | None = None
    step_ref: str = ""
    buffer: bool = False
    request_id: str = ""


@value(frozen=True, slots=True, kw_only=True)
class ScheduleResume:
    """Arm a `timeout` timer for a step."""

    at: int
    step_ref: str
    delay_ms: int
    request_id: str = ""


@value(frozen=True, slots=True, kw_only=True)
class CancelInstance:
    at: int
    reason: str = ""
    request_id: str = ""


@value(frozen=True, slots=True, kw_only=True)
class RetryInstance:
    at: int
    request_id: str = ""


@value(frozen=True, slots=True, kw_only=True)
class CancelTimer:
    at: int
    timer: int
    request_id: str = ""


@value(frozen=True, slots=True, kw_only=True)
class FireTimer:
    """A timer is due, or a client fires it early (``forced``: the due time does not matter)."""

    at: int
    timer: int
    jitter: float = 0.0
    forced: bool = False
    request_id: str = ""


@value(frozen=True, slots=True, kw_only=True)
class TakeTask:
    """The executor of the grant takes a queued task, or (``lost_attempt``) one whose attempt lost its owner."""

    at: int
    step_ref: str
    lost_attempt: int = 0


@value(frozen=True, slots=True, kw_only=True)
class ReleaseTask:
    """An executor gives an attempt back unfinished, or its process stopped uncleanly (``lost``).

    ``alone`` says that no other attempt ran in that process. ``jitter`` is a random number in [0, 1), for a loss that
    counts as a failure.
    """

    at: int
    step_ref: str
    attempt: int
    reason: str
    lost: bool = False
    alone: bool = False
    jitter: float = 0.0


@value(frozen=True, slots=True, kw_only=True)
class FinishTask:
    """An attempt returned ``Outcome(event, **output)``; ``output`` is None if there is none."""

    at: int
    step_ref: str
    attempt: int
    event: str
    output: Payload | None = None


@value(frozen=True, slots=True, kw_only=True)
class SuspendTask:
    """An attempt returned SUSPEND."""

    at: int
    step_ref: str
    attempt: int


@value(frozen=True, slots=True, kw_only=True)
class FailTask:
    """An attempt raised, timed out or returned an invalid result. ``jitter`` is a random number in [0, 1)."""

    at: int
    step_ref: str
    attempt: int
    type: str
    message: str
    retryable: bool
    jitter: float = 0.0


Command = (
    Resume
    | ScheduleResume
    | CancelInstance
    | RetryInstance
    | CancelTimer
    | FireTimer
    | TakeTask
    | ReleaseTask
    | FinishTask
    | SuspendTask
    | FailTask
)
"""The commands for an existing instance. `StartInstance` creates one."""
