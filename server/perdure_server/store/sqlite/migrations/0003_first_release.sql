-- The schema of the first release. Its number is 3 because two development versions came before it. A released
-- migration is never edited. Add a new file instead.
--
-- Times are milliseconds since the epoch. `namespace` leads every unique index and is '' until namespaces exist. Every
-- name in this file, and every name inside the stored JSON, is frozen.

-- === Instances =================================================================================================

-- One row for each instance. `state` holds the whole state. The other columns repeat parts of it for indexes and lists.
-- `inbox_size` is the number of buffered events. They count as unconsumed once the instance has ended.
CREATE TABLE instances (
    namespace         TEXT    NOT NULL,
    instance_id       TEXT    NOT NULL,
    workflow          TEXT    NOT NULL,
    version           INTEGER NOT NULL,
    status            TEXT    NOT NULL,
    revision          INTEGER NOT NULL,
    business_key      TEXT    NOT NULL,
    live_business_key TEXT,              -- the business key while the instance is live, else NULL
    labels            TEXT    NOT NULL,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    ended_at          INTEGER NOT NULL,  -- 0 while the instance is live
    inbox_size        INTEGER NOT NULL,
    state             TEXT    NOT NULL,
    PRIMARY KEY (namespace, instance_id)
) STRICT;

-- For lists, newest first: of all instances, by status, by workflow (and status), and by business key. The version in
-- the third lets a list filter by it without a look-up.
CREATE INDEX instances_newest ON instances (namespace, created_at, instance_id);
CREATE INDEX instances_by_status ON instances (namespace, status, created_at, instance_id);
CREATE INDEX instances_by_workflow ON instances (namespace, workflow, status, created_at, instance_id, version);
CREATE INDEX instances_by_business_key ON instances (namespace, business_key, created_at, instance_id)
    WHERE business_key <> '';

CREATE UNIQUE INDEX instances_live_business_key ON instances (namespace, workflow, live_business_key)
    WHERE live_business_key IS NOT NULL;

-- Instances that ended with events in their inbox. This index is empty in normal operation, so it costs a commit
-- nothing. Workflow, version and status let a list filter on the index alone.
CREATE INDEX instances_unconsumed ON instances (namespace, created_at, instance_id, workflow, version, status)
    WHERE inbox_size > 0 AND status IN ('completed', 'failed', 'cancelled');

-- The live instances of each definition: to find out if a definition is in use, to count them, and to list them. A row is
-- written when an instance starts or is retried, and removed when it ends. This is a table because an index on the
-- status would change whenever an instance starts or stops waiting.
CREATE TABLE live_instances (
    namespace   TEXT    NOT NULL,
    workflow    TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    instance_id TEXT    NOT NULL,
    PRIMARY KEY (namespace, workflow, version, created_at, instance_id)
) STRICT, WITHOUT ROWID;

-- The labels of each instance, in the order of a list that is filtered by one of them. They never change.
CREATE TABLE instance_labels (
    namespace   TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    value       TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    instance_id TEXT    NOT NULL,
    workflow    TEXT    NOT NULL,
    PRIMARY KEY (namespace, key, value, created_at, instance_id)
) STRICT, WITHOUT ROWID;

-- For lists filtered by a label and a workflow: they read one range of this index.
CREATE INDEX instance_labels_by_workflow
    ON instance_labels (namespace, key, value, workflow, created_at, instance_id);

-- The facts. Rows are only inserted, never changed. Those of one instance are adjacent.
CREATE TABLE history (
    namespace   TEXT    NOT NULL,
    instance_id TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    body        TEXT    NOT NULL,
    request_id  TEXT    NOT NULL,
    PRIMARY KEY (namespace, instance_id, revision)
) STRICT, WITHOUT ROWID;

-- The JSON texts that came with entries, byte for byte. Each is written once.
CREATE TABLE payloads (
    namespace   TEXT    NOT NULL,
    instance_id TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    body        TEXT    NOT NULL,
    PRIMARY KEY (namespace, instance_id, revision)
) STRICT, WITHOUT ROWID;

-- The requests that took effect, with their first responses. Request IDs of StartInstance are global, so `instance_id`
-- is empty for them.
CREATE TABLE requests (
    namespace   TEXT NOT NULL,
    rpc         TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    request_id  TEXT NOT NULL,
    digest      TEXT NOT NULL,
    response    TEXT NOT NULL,
    PRIMARY KEY (namespace, rpc, instance_id, request_id)
) STRICT, WITHOUT ROWID;

-- === Timers and tasks ==========================================================================================

-- Pending timers. `owner` is the replica that has the timer in memory, '' for none.
CREATE TABLE timers (
    namespace        TEXT    NOT NULL,
    instance_id      TEXT    NOT NULL,
    revision         INTEGER NOT NULL,
    kind             TEXT    NOT NULL,
    step_ref         TEXT    NOT NULL,
    due_at           INTEGER NOT NULL,
    delay_ms         INTEGER NOT NULL,
    client_requested INTEGER NOT NULL,
    owner            TEXT    NOT NULL,
    PRIMARY KEY (namespace, instance_id, revision)
) STRICT, WITHOUT ROWID;

CREATE INDEX timers_due ON timers (namespace, due_at, instance_id, revision);

-- Queued and running tasks. `number` increases, so that the oldest task runs first. `owner` is the replica that runs the
-- task, '' for a queued one.
CREATE TABLE tasks (
    number      INTEGER PRIMARY KEY,
    namespace   TEXT    NOT NULL,
    instance_id TEXT    NOT NULL,
    step_ref    TEXT    NOT NULL,
    workflow    TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    owner       TEXT    NOT NULL,
    UNIQUE (namespace, instance_id, step_ref)
) STRICT;

CREATE INDEX tasks_by_owner ON tasks (namespace, owner, workflow, version, number);

-- === Definitions and replicas ==================================================================================

-- The registered graphs.
CREATE TABLE definitions (
    namespace  TEXT    NOT NULL,
    workflow   TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    digest     TEXT    NOT NULL,
    graph      TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (namespace, workflow, version)
) STRICT, WITHOUT ROWID;

-- The server processes. Each serves every namespace.
CREATE TABLE replicas (
    replica_id  TEXT    NOT NULL PRIMARY KEY,
    lease_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- === The identity of a database ================================================================================

-- One row. Each batch of changes raises the commit number, and the lock file records ID and number of the last
-- acknowledged batch, so that a start on a file that lost commits is rejected.
CREATE TABLE database_identity (
    only_row      INTEGER PRIMARY KEY CHECK (only_row = 1),
    database_id   TEXT    NOT NULL,
    commit_number INTEGER NOT NULL
) STRICT;

INSERT INTO database_identity (only_row, database_id, commit_number) VALUES (1, lower(hex(randomblob(16))), 0);

-- === Crash loops ===============================================================================================

-- Attempts that a stopped process left behind. `lost`: its stop was unclean, and the attempt ran at that moment.
-- `alone`: no other attempt ran in that process. `excused`: a step that had crashed alone before ran at that stop too.
-- A row is removed once its attempt no longer has a row in `tasks`.
CREATE TABLE left_attempts (
    namespace   TEXT    NOT NULL,
    instance_id TEXT    NOT NULL,
    step_ref    TEXT    NOT NULL,
    attempt     INTEGER NOT NULL,
    lost        INTEGER NOT NULL,
    alone       INTEGER NOT NULL,
    excused     INTEGER NOT NULL,
    PRIMARY KEY (namespace, instance_id, step_ref)
) STRICT, WITHOUT ROWID;

-- Step definitions that ran at the newest unclean stop. `stops` counts the unclean stops in a row at which the step
-- ran. `alone` says that it ran alone at its newest one. A `suspect` runs alone before other work. Suspects and steps that
-- crashed alone stay here until they run at another unclean stop. Empty after a clean stop.
CREATE TABLE crashed_steps (
    namespace TEXT    NOT NULL,
    workflow  TEXT    NOT NULL,
    version   INTEGER NOT NULL,
    step_ref  TEXT    NOT NULL,
    stops     INTEGER NOT NULL,
    suspect   INTEGER NOT NULL,
    alone     INTEGER NOT NULL,
    PRIMARY KEY (namespace, workflow, version, step_ref)
) STRICT, WITHOUT ROWID;

-- Attempts of suspects. `alone`: the attempt runs alone in its process. Otherwise it survived its time alone.
CREATE TABLE solo_attempts (
    namespace   TEXT    NOT NULL,
    instance_id TEXT    NOT NULL,
    step_ref    TEXT    NOT NULL,
    attempt     INTEGER NOT NULL,
    alone       INTEGER NOT NULL,
    PRIMARY KEY (namespace, instance_id, step_ref)
) STRICT, WITHOUT ROWID;
