"""Values that the clients return: frozen dataclasses with the fields of the API's messages.

Times are datetimes in UTC. Enums have a member UNKNOWN for the values of newer servers. A ``step_ref`` can carry a
suffix such as ``@3.7``: treat it as opaque. No protobuf, no I/O.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from perdure.client.facts import BufferedEvent, HistoryEntry, StepFailure, TimerKind
from perdure.model.graph import WorkflowGraph

T = TypeVar("T")


class InstanceState(enum.StrEnum):
    """State of an instance."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"
    """A state that this version does not know."""

    @property
    def is_final(self) -> bool:
        """True for COMPLETED and CANCELLED. A FAILED instance is not final, because it can be retried."""
        return self in {InstanceState.COMPLETED, InstanceState.CANCELLED}

    @property
    def has_ended(self) -> bool:
        """True for COMPLETED, CANCELLED and FAILED."""
        return self.is_final or self is InstanceState.FAILED


class StepState(enum.StrEnum):
    """State of a step of an instance."""

    QUEUED = "QUEUED"
    NO_WORKER = "NO_WORKER"
    RUNNING = "RUNNING"
    BACKING_OFF = "BACKING_OFF"
    WAITING = "WAITING"
    SLEEPING = "SLEEPING"
    FAILED = "FAILED"
    INTERRUPTED = "INTERRUPTED"
    FINISHED = "FINISHED"
    SKIPPED = "SKIPPED"
    JOINING = "JOINING"
    UNKNOWN = "UNKNOWN"


class WatchEndReason(enum.StrEnum):
    """Reason for the end of a watch."""

    INSTANCE_ENDED = "INSTANCE_ENDED"
    SERVER_DRAINING = "SERVER_DRAINING"
    UNKNOWN = "UNKNOWN"


class Health(enum.StrEnum):
    """Health of a server, as ``grpc.health.v1`` reports it."""

    SERVING = "SERVING"
    NOT_SERVING = "NOT_SERVING"
    SERVICE_UNKNOWN = "SERVICE_UNKNOWN"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveStep:
    """A step that has not ended.

    Attributes:
        step_ref: Ref of the step. It can carry a suffix such as ``@3.7``. Treat it as opaque.
        state: State of the step.
        attempt: Number of the newest attempt, from 1. 0 if there was none.
        events: Events that clients can send to the step now.
        deadline: Time of the next timeout, retry or end of sleep, or None.
        last_failure: Newest failure, or None.
        attempt_start_time: Start of the newest attempt, or None if there was none.
        lost_attempts: Number of attempts in a row that were lost together with the process that ran them.
    """

    step_ref: str
    state: StepState
    attempt: int
    events: tuple[str, ...]
    deadline: datetime | None
    last_failure: StepFailure | None
    attempt_start_time: datetime | None = None
    lost_attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """A step that ended with ``event``, or that was skipped.

    ``step_ref`` can carry a suffix such as ``@3.7``. Treat it as opaque.
    """

    step_ref: str
    state: StepState
    event: str
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceFailure:
    """Failure that ended an instance.

    ``step_ref`` can carry a suffix such as ``@3.7``. Treat it as opaque.
    """

    step_ref: str
    type: str
    message: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """An instance as of ``revision``.

    ``input`` is the context that it was started with. ``outputs`` contains the output of each ended step by step ref,
    in the order in which the steps ended. A step ref can carry a suffix such as ``@3.7``. Treat it as opaque.
    """

    instance_id: str
    workflow: str
    version: int
    state: InstanceState
    revision: int
    input: Any
    outputs: Mapping[str, Any]
    active_steps: tuple[ActiveStep, ...]
    step_results: tuple[StepResult, ...]
    error: InstanceFailure | None
    labels: Mapping[str, str]
    business_key: str
    inbox: tuple[BufferedEvent, ...]
    create_time: datetime | None
    start_time: datetime | None
    update_time: datetime | None
    end_time: datetime | None

    def __post_init__(self) -> None:
        # A protobuf map has no order.
        ended = {result.step_ref: index for index, result in enumerate(self.step_results)}
        order = sorted(self.outputs, key=lambda ref: ended.get(ref, len(ended)))
        object.__setattr__(self, "outputs", {ref: self.outputs[ref] for ref in order})


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSummary:
    """An instance in a list."""

    instance_id: str
    workflow: str
    version: int
    state: InstanceState
    revision: int
    business_key: str
    labels: Mapping[str, str]
    create_time: datetime | None
    update_time: datetime | None
    end_time: datetime | None
    inbox_size: int = 0
    """Number of accepted events that no step has consumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """A pending timer.

    Attributes:
        reference: Reference of the timer.
        instance_id: ID of its instance.
        step_ref: Ref of its step. It can carry a suffix such as ``@3.7``. Treat it as opaque.
        kind: Effect of the timer.
        due_time: Due time.
        owner: Replica that holds the timer in memory.
        create_time: Time at which the timer was armed.
        client_requested: True if `schedule_resume` armed it, False if the workflow did.
    """

    reference: str
    instance_id: str
    step_ref: str
    kind: TimerKind
    due_time: datetime | None
    owner: str
    create_time: datetime | None
    client_requested: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowVersion:
    """One version of a workflow with its graph."""

    name: str
    version: int
    digest: str
    graph: WorkflowGraph
    create_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowSummary:
    """One version of a workflow in a list."""

    name: str
    version: int
    digest: str
    step_count: int
    create_time: datetime | None


@dataclass(frozen=True, slots=True)
class CancelledInstance:
    """A cancelled instance. Nothing happens to it after ``revision``."""

    revision: int


@dataclass(frozen=True, slots=True)
class RetriedInstance:
    """An instance that continues after a retry."""

    revision: int


@dataclass(frozen=True, slots=True)
class CancelledTimer:
    """A cancelled timer. It never fires."""

    revision: int


@dataclass(frozen=True, slots=True)
class FiredTimer:
    """A fired timer. ``used`` is False if the timer had no effect, because its step had finished or not started."""

    revision: int
    used: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A complete, verified backup of a server's database.

    ``path`` is absolute and on the server's machine. The backup contains every write that was acknowledged before
    ``snapshot_time``, by the clock of the store.
    """

    path: str
    size_bytes: int
    instances: int
    snapshot_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """First event of a watch, unless the watch starts after a revision."""

    instance: Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchEnd:
    """Last event of a watch: the instance ended, and the watch yielded every entry up to ``revision``."""

    revision: int
    reason: WatchEndReason


WatchEvent = Snapshot | HistoryEntry | WatchEnd


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list. An empty ``next_page_token`` ends the list.

    ``items`` can be empty although more pages follow.
    """

    items: tuple[T, ...]
    next_page_token: str
