"""What the clients return: frozen values with the fields of the API's messages, times as UTC datetimes.

No protobuf here, and no I/O. Enums have a member UNKNOWN for what a newer server may say.
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
    """Where an instance stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"
    """One that this version does not know."""

    @property
    def is_final(self) -> bool:
        """Whether nothing can happen to the instance any more (a FAILED one can still be retried)."""
        return self in {InstanceState.COMPLETED, InstanceState.CANCELLED}

    @property
    def has_ended(self) -> bool:
        """Whether the instance stands still for good or until it is retried."""
        return self.is_final or self is InstanceState.FAILED


class StepState(enum.StrEnum):
    """Where a step of an instance stands."""

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
    """Why a server ends a watch."""

    INSTANCE_ENDED = "INSTANCE_ENDED"
    SERVER_DRAINING = "SERVER_DRAINING"
    UNKNOWN = "UNKNOWN"


class Health(enum.StrEnum):
    """What a server says of itself, by ``grpc.health.v1``."""

    SERVING = "SERVING"
    NOT_SERVING = "NOT_SERVING"
    SERVICE_UNKNOWN = "SERVICE_UNKNOWN"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveStep:
    """A step that has not ended. ``deadline`` is when time will act on it.

    ``attempt_start_time`` is when the newest attempt started, None if there was none. ``lost_attempts`` counts the
    attempts in a row that were lost together with the process that ran them.
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
    """A step that has ended, with ``event``, or that never will begin."""

    step_ref: str
    state: StepState
    event: str
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceFailure:
    """Why an instance is FAILED."""

    step_ref: str
    type: str
    message: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """An instance as of ``revision``. ``input`` is its context, ``outputs`` each ended step's output by ref, in the
    order in which the steps ended.
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
        # They come as a protobuf map, in whatever order.
        ended = {result.step_ref: index for index, result in enumerate(self.step_results)}
        order = sorted(self.outputs, key=lambda ref: ended.get(ref, len(ended)))
        object.__setattr__(self, "outputs", {ref: self.outputs[ref] for ref in order})


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSummary:
    """An instance as lists show it."""

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
    """A timer that has not acted yet. ``owner`` is the replica that has it armed."""

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
    """One version of a workflow as the server holds it."""

    name: str
    version: int
    digest: str
    graph: WorkflowGraph
    create_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowSummary:
    """A workflow version as lists show it."""

    name: str
    version: int
    digest: str
    step_count: int
    create_time: datetime | None


@dataclass(frozen=True, slots=True)
class CancelledInstance:
    """The instance is CANCELLED; nothing happens to it after ``revision``."""

    revision: int


@dataclass(frozen=True, slots=True)
class RetriedInstance:
    """The instance goes on."""

    revision: int


@dataclass(frozen=True, slots=True)
class CancelledTimer:
    """The timer will not act."""

    revision: int


@dataclass(frozen=True, slots=True)
class FiredTimer:
    """The timer has acted. Not ``used``: its step had finished or not begun."""

    revision: int
    used: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A complete, verified backup of a server's database.

    ``path`` is absolute and on the server's machine. The backup contains every write that was acknowledged before
    ``snapshot_time``, by the store's clock.
    """

    path: str
    size_bytes: int
    instances: int
    snapshot_time: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The first thing that a watch says, unless it goes on after a revision."""

    instance: Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchEnd:
    """The last thing that a watch says: the instance has ended, and everything up to ``revision`` was told."""

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
