"""The state of one instance, which its facts fold to.

Owns: frozen values. Must not: change them (`evolve` does), choose (`decide` does), or read definitions and clocks. A
step has an entry in ``steps`` once it starts or is skipped. Before that it can have ``arrivals``. Each kind of step
state has only its own fields.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field
from typing import Final

from perdure_server.engine.facts import Failure, PayloadInfo, TimerKind
from perdure_server.engine.value_type import value


class InstanceState(enum.StrEnum):
    """The states of an instance. `COMPLETED` and `CANCELLED` are final. `FAILED` can be retried."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL: Final = frozenset({InstanceState.COMPLETED, InstanceState.CANCELLED})
LIVE: Final = frozenset({InstanceState.PENDING, InstanceState.RUNNING, InstanceState.WAITING})


@value(frozen=True, slots=True)
class PayloadRef:
    """A payload whose body is in the row of entry ``revision`` of the same instance."""

    revision: int
    info: PayloadInfo


@value(frozen=True, slots=True)
class Timer:
    """A pending timer. ``revision`` is that of its `TimerArmed` entry and names it."""

    revision: int
    kind: TimerKind
    step_ref: str
    due_at: int
    delay_ms: int
    client_requested: bool = False


@value(frozen=True, slots=True)
class Buffered:
    """An event of the inbox, accepted by entry ``revision``. An empty ``step_ref`` leaves it to any step."""

    revision: int
    event: str
    step_ref: str
    payload: PayloadInfo | None


@value(frozen=True, slots=True)
class Losses:
    """Attempts in a row that were lost with their process, and how many of these ran alone in it."""

    in_a_row: int
    alone: int = 0


# `attempt_at` is when the newest attempt started, None if there was none. States that were stored before this field
# existed lack it although their histories have it, so `==` does not compare it. `runtime/integrity_history.py` does.


@value(frozen=True, slots=True)
class Queued:
    """A task that no executor has taken. ``attempt`` is the last one taken, 0 if none was."""

    started: int
    attempt: int = 0
    failures: int = 0
    attempt_at: int | None = field(default=None, compare=False)
    losses: Losses | None = None


@value(frozen=True, slots=True)
class Running:
    """A task that an executor of ``owner`` runs."""

    started: int
    attempt: int
    failures: int
    owner: str
    attempt_at: int | None = field(default=None, compare=False)
    losses: Losses | None = None


@value(frozen=True, slots=True)
class BackingOff:
    """A task that failed and waits for its retry timer."""

    started: int
    attempt: int
    failures: int
    failure: Failure
    attempt_at: int | None = field(default=None, compare=False)


@value(frozen=True, slots=True)
class Waiting:
    """A step that an event from outside ends. ``attempt`` is 0 for a `wait` step."""

    started: int
    events: tuple[str, ...]
    attempt: int = 0
    failures: int = 0
    attempt_at: int | None = field(default=None, compare=False)


@value(frozen=True, slots=True)
class Sleeping:
    started: int


ActiveStep = Queued | Running | BackingOff | Waiting | Sleeping


@value(frozen=True, slots=True)
class Interrupted:
    """A step that was active when its instance failed or was cancelled, with the timers that it had."""

    was: ActiveStep
    timers: tuple[Timer, ...] = ()


@value(frozen=True, slots=True)
class Failed:
    """The step whose failure had no `error` transition."""

    started: int
    attempt: int
    failure: Failure
    attempt_at: int | None = field(default=None, compare=False)


@value(frozen=True, slots=True)
class Finished:
    """A step that ended with ``event`` at entry ``ended``. ``output`` is None for the empty object."""

    started: int
    ended: int
    event: str
    output: PayloadRef | None


@value(frozen=True, slots=True)
class Skipped:
    ended: int


StepState = ActiveStep | Interrupted | Failed | Finished | Skipped

BUSY: Final = (Queued, Running, BackingOff)
"""Tasks that are queued, run, or will run again."""

RESTING: Final = (Waiting, Sleeping)

ENDED: Final = (Finished, Skipped)
"""Steps that have ended. They never change again."""

ACTIVE: Final = (*BUSY, *RESTING)
"""Tuples, because `isinstance` takes one much faster than a union, and asks for each step at every fact."""


@value(frozen=True, slots=True, kw_only=True)
class State:
    """One instance after entry ``revision``. Times are milliseconds since the epoch, None if not yet."""

    instance_id: str
    workflow: str
    version: int
    definition_digest: str
    start_step: str
    input: PayloadInfo
    business_key: str
    labels: Mapping[str, str]
    status: InstanceState
    revision: int
    created_at: int
    updated_at: int
    started_at: int | None = None
    ended_at: int | None = None
    payload_bytes: int = 0
    steps: Mapping[str, StepState] = field(default_factory=dict)
    arrivals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    timers: Mapping[int, Timer] = field(default_factory=dict)
    inbox: tuple[Buffered, ...] = ()
    failure: Failure | None = None
    failed_step: str = ""
    kept_timers: tuple[Timer, ...] = ()
    """Timers that RetryInstance arms again, of steps that have none of their own in `Interrupted`."""

    @property
    def is_final(self) -> bool:
        """True if the instance can never change again."""
        return self.status in FINAL

    @property
    def is_live(self) -> bool:
        """True if the instance has not ended: it holds its business key and pins its definition."""
        return self.status in LIVE

    def reference(self, timer_revision: int) -> str:
        """Return the public reference of the timer of that entry."""
        return f"{self.instance_id}.{timer_revision}"
