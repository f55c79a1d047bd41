"""The `Store` protocol, which every database of perdure implements, and its values.

A store decides nothing. Its one method that changes instances is `Store.commit`: a batch of changes, each of one
instance, each atomic and conditional on the instance's revision and on its guards. A change that conflicts does not
affect the others. `tests/contract` is the suite that every store passes.

Errors of drivers end here. A store raises `StoreUnavailableError`, `CommitUnknownError`, `CommitQueueFullError`,
`NewerFormatError`, `UnreadableRecordError`, `CannotOpenError` from `Store.open`, `BackupExistsError` and
`BackupFailedError` from `Store.back_up`, and no other error.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Final, NamedTuple, Protocol, TypeAlias

from perdure_server.engine.facts import Entry
from perdure_server.engine.state import InstanceState, State, Timer
from perdure_server.engine.value_type import value


class StoreError(Exception):
    """A failure of the database. The message is for operators and has no payload in it."""


class StoreUnavailableError(StoreError):
    """The database cannot be reached or rejected the work. Nothing was changed. A retry is safe."""


class CommitUnknownError(StoreError):
    """A commit failed and may or may not have been applied. A read, or a retry with the request ID, finds out."""


class CommitQueueFullError(StoreError):
    """The queue of changes is full. Nothing was changed. A later retry is safe."""


class NewerFormatError(StoreError):
    """A newer version of the server wrote this record in a way that this version cannot read."""


class UnreadableRecordError(StoreError):
    """A stored record cannot be decoded: it has an unknown field, lacks one, or is damaged.

    ``record`` names the record, ``problem`` describes the problem.
    """

    def __init__(self, record: str, problem: str) -> None:
        super().__init__(f"{record} {problem}")
        self.record = record
        self.problem = problem


class InvalidChangeError(StoreError):
    """The database rejected this one change because of its values (see `InvalidChange`). A retry does not help."""


class CannotOpenError(StoreError):
    """The database cannot be opened as it is. The message says how to fix that."""


class DatabaseInUseError(CannotOpenError):
    """Another process has the database at ``path`` open, and only one can."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} is in use by another server. Stop that one, or give this one a database of its own "
            f"(--database). Several servers on one database need PostgreSQL."
        )
        self.path = path


class LostCommitsError(CannotOpenError):
    """The database lacks commits that a server acknowledged, or is not the database that was served at its path."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            f"{path}: {why}; restore a backup with `perdure db restore COPY`, or put the right files back. To "
            f"accept the file as it is, remove {path}.lock while no server runs"
        )
        self.path = path


class BackupExistsError(StoreError):
    """A file of the backup's name exists. ``path`` is where."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} exists")
        self.path = path


class BackupFailedError(StoreError):
    """The backup at ``path`` was not written or not verified, for ``reason``. No file remains of it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"the backup {path} failed: {reason}")
        self.path = path
        self.reason = reason


@value(frozen=True, slots=True)
class Backup:
    """A complete, verified copy of the database, as it was at ``snapshot_at`` (milliseconds, by the store's clock)."""

    path: str
    size_bytes: int
    instances: int
    snapshot_at: int


@value(frozen=True, slots=True)
class RequestKey:
    """A request id in its scope: ``instance_id`` is empty for StartInstance, whose request ids are global."""

    rpc: str
    instance_id: str
    request_id: str


@value(frozen=True, slots=True)
class RequestRecord:
    """A request that took effect: the digest of its canonical fields and the first response, as JSON."""

    key: RequestKey
    digest: str
    response: str


@value(frozen=True, slots=True)
class TimerGuard:
    """The change holds only while the timer's row exists and belongs to ``owner``."""

    timer: int
    owner: str


@value(frozen=True, slots=True)
class ReplicaGuard:
    """The change holds only while the replica is registered and, by the store's clock, its lease has not ended."""

    replica_id: str


Guard = TimerGuard | ReplicaGuard


@value(frozen=True, slots=True)
class TaskRow:
    """A task that is to run: unowned (``owner`` is empty), or attempt ``attempt`` run by ``owner``."""

    instance_id: str
    step_ref: str
    workflow: str
    version: int
    attempt: int
    owner: str


Code: TypeAlias = Mapping[tuple[str, int], frozenset[str]]
"""Steps that an executor has code for, by (workflow, version)."""


class StepKey(NamedTuple):
    """A step of a workflow version."""

    workflow: str
    version: int
    step_ref: str


@value(frozen=True, slots=True)
class LostAttempt:
    """An attempt that was lost with its process. ``alone``: no other attempt ran in that process.

    ``excused``: another step, which had crashed alone before, ran at the same stop.
    """

    task: TaskRow
    alone: bool
    excused: bool = False


@value(frozen=True, slots=True, kw_only=True)
class CrashReport:
    """Unclean stops and what they left behind.

    ``suspects`` are the step definitions that ran at two unclean stops in a row and have not been cleared since. Those
    of ``crashed_alone`` ran alone at the newest one. ``survived`` holds the steps of instances, as (instance_id,
    step_ref), that survived their time alone.
    """

    lost: tuple[LostAttempt, ...] = ()
    suspects: frozenset[StepKey] = frozenset()
    crashed_alone: frozenset[StepKey] = frozenset()
    survived: frozenset[tuple[str, str]] = frozenset()


@value(frozen=True, slots=True)
class TimerRow:
    """A pending timer and the replica whose window holds it (empty: none)."""

    instance_id: str
    timer: Timer
    owner: str

    @property
    def reference(self) -> str:
        """The timer's public name and its APScheduler job's id."""
        return f"{self.instance_id}.{self.timer.revision}"


@value(frozen=True, slots=True, kw_only=True)
class Change:
    """Everything that one decision writes, all of one instance.

    ``expected_revision`` is the revision that the decision was made on, 0 to create the instance. ``payloads`` maps
    the revision of an entry to the body that came with it. ``tasks`` and ``timers`` are the rows to insert or
    replace. The ``_removed`` fields name the rows to delete.
    """

    state: State
    expected_revision: int
    entries: tuple[Entry, ...]
    payloads: Mapping[int, str] = field(default_factory=dict)
    tasks: tuple[TaskRow, ...] = ()
    tasks_removed: tuple[str, ...] = ()
    timers: tuple[TimerRow, ...] = ()
    timers_removed: tuple[int, ...] = ()
    request: RequestRecord | None = None
    guards: tuple[Guard, ...] = ()

    @property
    def instance_id(self) -> str:
        """The instance that the change belongs to."""
        return self.state.instance_id


class ConflictKind(enum.StrEnum):
    """The reason of a conflict."""

    REVISION = "revision"
    """Another change came first (or the instance exists already, for an ``expected_revision`` of 0)."""
    REQUEST = "request"
    """The request id was used already in its scope."""
    BUSINESS_KEY = "business_key"
    """A live instance of the workflow holds the business key."""
    DEFINITION = "definition"
    """The stored definition is no longer the one the instance is being started on."""
    GUARD = "guard"
    """The timer or the replica is no longer the committer's."""


@value(frozen=True, slots=True)
class Committed:
    """The change is durable."""


@value(frozen=True, slots=True)
class Conflict:
    """The change was not applied.

    If several kinds apply, ``kind`` is the first of REQUEST, REVISION, BUSINESS_KEY, DEFINITION, GUARD. StartInstance
    is checked in this order.
    """

    kind: ConflictKind


@value(frozen=True, slots=True)
class InvalidChange:
    """The database rejected this change alone because of its values.

    This is a defect of the server, never a race. ``reason`` has no payload in it.
    """

    reason: str


CommitResult = Committed | Conflict
"""Result of a valid change."""
COMMITTED: Final = Committed()


@value(frozen=True, slots=True)
class StoredInstance:
    """An instance as it is in the database, with the bodies of its payloads by revision.

    Both are read in one snapshot. ``payloads[1]`` is the input context.
    """

    state: State
    payloads: Mapping[int, str]


@value(frozen=True, slots=True)
class StoredDefinition:
    """A registered workflow version: its canonical JSON, its digest, when it was stored."""

    workflow: str
    version: int
    digest: str
    graph_json: str
    created_at: int


@value(frozen=True, slots=True)
class DefinitionSummary:
    """A registered workflow version as lists show it, without its graph."""

    workflow: str
    version: int
    digest: str
    step_count: int
    created_at: int


class DefinitionResult(enum.StrEnum):
    """Result of `Store.put_definition`."""

    STORED = "stored"
    UNCHANGED = "unchanged"
    REPLACED = "replaced"
    IN_USE = "in_use"
    """InvalidChange: live instances run on the stored graph, which has another digest."""


@value(frozen=True, slots=True, kw_only=True)
class InstanceFilter:
    """Filter of a list. An absent setting matches every instance. All ``labels`` must match.

    ``version`` is a version of ``workflow``, which must be set too. ``unconsumed`` matches instances that have ended
    with events in their inbox.
    """

    states: frozenset[InstanceState] = frozenset()
    workflow: str = ""
    version: int = 0
    business_key: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    unconsumed: bool = False


@value(frozen=True, slots=True)
class InstanceSummary:
    """A line of a list: no payloads."""

    instance_id: str
    workflow: str
    version: int
    status: InstanceState
    revision: int
    business_key: str
    labels: Mapping[str, str]
    created_at: int
    updated_at: int
    ended_at: int | None
    inbox_size: int = 0


@value(frozen=True, slots=True)
class InstanceCursor:
    """Position in a list, newest first: creation time and ID of the last instance that was examined."""

    created_at: int
    instance_id: str


@value(frozen=True, slots=True)
class InstancePage:
    """Instances of a list. ``next`` is the position to continue from, None at the end of the list.

    A page can be empty although ``next`` is set: the store examines a limited number of instances for each page.
    """

    instances: Sequence[InstanceSummary]
    next: InstanceCursor | None


@value(frozen=True, slots=True)
class LiveDefinition:
    """A workflow version that live instances run on."""

    workflow: str
    version: int


@value(frozen=True, slots=True)
class TimerCursor:
    """Position in a list of timers, soonest first."""

    due_at: int
    instance_id: str
    revision: int


class Store(Protocol):
    """Durable storage of instances. The methods can be called concurrently from one event loop.

    Every read sees every commit that returned before it. Methods raise `StoreUnavailableError`, and `commit` also
    `CommitUnknownError`.
    """

    shared: bool
    """True if other processes can write at the same time, so that a cached state can be stale."""

    def now_ms(self) -> int:
        """Return the clock that counts for every due time, in milliseconds since the epoch."""
        ...

    async def open(self) -> None:
        """Connect, bring the schema up to date, and claim what must be exclusive."""
        ...

    async def close(self) -> None:
        """Finish the accepted work and disconnect. Can be called twice."""
        ...

    def healthy(self) -> bool:
        """Return False once the store rejects all writes until a restart."""
        ...

    def rescue_directory(self) -> str | None:
        """Return the directory of the database once its files changed under the server, else None.

        A restart would lose data then, so a backup must be possible without one.
        """
        ...

    async def ping(self) -> None:
        """Return when the database answers a read and could take a write."""
        ...

    async def back_up(self, directory: str, file_name: str) -> Backup:
        """Copy the database, as it is now, to a new file in ``directory`` while other calls continue.

        Returns once the copy is verified and on disk. If it fails or is cancelled, no file remains.

        Raises:
            BackupExistsError: A file of this name exists, or the name belongs to the database itself.
            BackupFailedError: The copy could not be written or verified.
        """
        ...

    # --- instances -------------------------------------------------------------------------------------------

    async def commit(self, changes: Sequence[Change]) -> Sequence[CommitResult | InvalidChange]:
        """Make the changes durable, each on its own. Returns the results in the same order.

        At most one change of a batch belongs to an instance. If two changes of a batch have the same request key or
        business key, the first one gets it. Once this returns, the committed changes survive a crash.

        A change that creates an instance, or retries one, is a Conflict of kind `DEFINITION` unless the stored
        definition has the digest in its state.
        """
        ...

    async def load(self, instance_id: str) -> State | None:
        """Return the state to decide on."""
        ...

    async def get_instance(self, instance_id: str) -> StoredInstance | None: ...

    async def list_instances(
        self, where: InstanceFilter, *, limit: int, after: InstanceCursor | None = None
    ) -> InstancePage:
        """Return at most ``limit`` instances after the cursor, newest first.

        The cost of a page is bounded, however few instances match. Continue until the page's ``next`` is None.
        """
        ...

    async def live_definitions(self, *, limit: int) -> Sequence[LiveDefinition]:
        """Return the definitions that live instances run on, by name, then version.

        The cost depends on the number of definitions, not of instances.
        """
        ...

    async def count_live(self, definition: LiveDefinition, *, count_max: int) -> int:
        """Return the number of live instances that run on a definition, counted up to ``count_max``."""
        ...

    async def history(self, instance_id: str, *, after_revision: int, limit: int) -> Sequence[Entry]:
        """Return entries in order of revision, none for an unknown instance."""
        ...

    async def payloads(self, instance_id: str, revisions: Sequence[int]) -> Mapping[int, str]:
        """Return the bodies of entries by revision. Entries without a body are left out."""
        ...

    async def find_request(self, key: RequestKey) -> RequestRecord | None: ...

    async def find_business_key(self, workflow: str, business_key: str) -> str | None:
        """Return the id of the live instance that holds the key."""
        ...

    # --- timers ----------------------------------------------------------------------------------------------

    async def claim_timers(self, owner: str, *, due_before: int, limit: int) -> Sequence[TimerRow]:
        """Give up to ``limit`` timers due before then to ``owner``, soonest first, and return them.

        Timers that ``owner`` already has are returned too. Those of another replica are not, unless its
        lease has ended or it never registered.
        """
        ...

    async def get_timer(self, instance_id: str, revision: int) -> TimerRow | None: ...

    async def list_timers(
        self, instance_id: str, *, limit: int, after: TimerCursor | None = None
    ) -> Sequence[TimerRow]:
        """Return pending timers, soonest first, of all instances if ``instance_id`` is empty."""
        ...

    async def next_timer_due_at(self) -> int | None:
        """Return the due time of the soonest pending timer, None if there is none."""
        ...

    # --- tasks -----------------------------------------------------------------------------------------------

    async def claimable_tasks(self, *, code: Code, limit: int) -> Sequence[TaskRow]:
        """Return tasks of these steps that no live replica owns, oldest first. Those of other steps do not count
        towards the limit, however many there are.

        Taking one is a decision: the caller submits `TakeTask`.
        """
        ...

    async def owned_tasks(self, owner: str) -> Sequence[TaskRow]:
        """Return the tasks that ``owner`` runs according to the database."""
        ...

    # --- crash loops -----------------------------------------------------------------------------------------

    async def crash_report(self) -> CrashReport:
        """Return the attempts that were lost and not released yet, and the suspects.

        A process stops uncleanly if it ends without `end_replica`. A clean stop leaves no suspects. An unclean stop at
        which no attempt ran leaves them as they were.
        """
        ...

    async def mark_solo(self, instance_id: str, step_ref: str, attempt: int, *, alone: bool) -> None:
        """Record that an attempt of a suspect is about to run alone, or (not ``alone``) survived its time alone."""
        ...

    async def clear_suspects(self, steps: Collection[StepKey] | None = None) -> None:
        """Clear these suspects, or all of them. The stops at which they ran still count."""
        ...

    # --- definitions -----------------------------------------------------------------------------------------

    async def put_definition(self, definition: StoredDefinition) -> DefinitionResult:
        """Store a graph, in one transaction. Replace one with another digest only if no live instance runs on it."""
        ...

    async def get_definition(self, workflow: str, version: int) -> StoredDefinition | None:
        """Return a definition, the newest version if ``version`` is 0."""
        ...

    async def list_definitions(
        self, *, limit: int, after: tuple[str, int] | None = None
    ) -> Sequence[DefinitionSummary]:
        """Return definitions by name, then version."""
        ...

    # --- replicas --------------------------------------------------------------------------------------------

    async def register_replica(self, replica_id: str, *, lease_ms: int) -> None:
        """Announce a server process. Its lease ends ``lease_ms`` after its last heartbeat."""
        ...

    async def heartbeat(self, replica_id: str, *, lease_ms: int) -> bool:
        """Extend the lease. Returns False if it has ended. The process must then continue under a new ID."""
        ...

    async def end_replica(self, replica_id: str) -> None:
        """End the lease at once, which frees everything that the replica owns.

        The stop of its process is then a clean one.
        """
        ...
