"""The commands: everything that can be asked of an instance.

A command carries all that a decision needs from outside: the time (``at``, by the store's clock), ids, payloads with
their digests, chance (``jitter``), and how many tasks an executor is ready to take (``grant``). `decide` answers
with a `Decision` or a `Rejection`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import field
from typing import Final

from perdure_server.engine.facts import PayloadInfo
from perdure_server.engine.value_type import value

REPORTS_BYTES_MAX: Final = 256 << 10
"""Bytes that reports of failed steps can add to `INSTANCE_BYTES_MAX`, so that a full instance still reports them."""

INBOX_EVENTS_MAX: Final = 1_000
"""The most events that an inbox holds."""

REQUESTED_TIMERS_MAX: Final = 1_000
"""The most timers of ScheduleResume that wait in one instance: each commit writes them all, as a part of the state."""

LOSSES_IN_A_ROW_MAX: Final = 10
"""The loss of an attempt that counts as a failure of its step. A result of the step starts the count again."""

LOSSES_ALONE_MAX: Final = 3
"""The same for losses of attempts that ran alone in their process."""

FAILURE_TYPE_CHARS_MAX: Final = 200
FAILURE_MESSAGE_CHARS_MAX: Final = 2_000
"""Maximum length of the stored name and text of an exception, in characters."""


@value(frozen=True, slots=True)
class Payload:
    """A JSON text and what is known of it. Make it by `payload`."""

    text: str
    info: PayloadInfo


EMPTY_OBJECT: Final = "{}"


def payload(text: str) -> Payload:
    """Measure and digest a JSON text that was checked already. The empty object is as good as none (see `body_of`)."""
    body = text.encode()
    return Payload(text, PayloadInfo(len(body), hashlib.blake2b(body, digest_size=16).hexdigest()))


@value(frozen=True, slots=True)
class Grant:
    """Capacity of an executor: up to ``slots`` tasks of ``step_refs``, which ``owner`` runs."""

    owner: str
    slots: int
    step_refs: frozenset[str]


NO_GRANT: Final = Grant("", 0, frozenset())


@value(frozen=True, slots=True, kw_only=True)
class StartInstance:
    """Create an instance of the definition that `decide` is given."""

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
    """A timer's time has come, or a client says so (``forced``: the due time does not matter)."""

    at: int
    timer: int
    jitter: float = 0.0
    forced: bool = False
    request_id: str = ""


@value(frozen=True, slots=True, kw_only=True)
class TakeTask:
    """The executor of the grant takes a ready task, or (``lost_attempt``) one whose attempt's owner is gone."""

    at: int
    step_ref: str
    lost_attempt: int = 0


@value(frozen=True, slots=True, kw_only=True)
class ReleaseTask:
    """An executor gives an attempt back unfinished, or its process stopped uncleanly (``lost``).

    ``alone`` says that no other attempt ran in that process. ``jitter`` is a chance number in [0, 1), for a loss that
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
    """An attempt returned ``Outcome(event, **output)``; ``output`` is None for none."""

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
    """An attempt raised, ran out of time or returned nonsense. ``jitter`` is a chance number in [0, 1)."""

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
"""Everything that may be asked of an instance that exists; `StartInstance` makes one."""
