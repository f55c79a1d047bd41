-- The first schema. A migration that was released is never edited; the next change is the next file.
--
-- Times are milliseconds since the epoch. `namespace` leads every unique index and is '' until there are namespaces.

-- An instance as it stands. Everything beside `state` repeats a part of it, for the indexes and the lists.
CREATE TABLE instances (
    namespace         TEXT    NOT NULL,
    instance_id       TEXT    NOT NULL,
    workflow          TEXT    NOT NULL,
    version           INTEGER NOT NULL,
    status            TEXT    NOT NULL,
    revision          INTEGER NOT NULL,
    business_key      TEXT    NOT NULL,
    live_business_key TEXT,              -- the business key while the instance holds it, else NULL
    labels            TEXT    NOT NULL,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    ended_at          INTEGER NOT NULL,  -- 0: not yet
    state             TEXT    NOT NULL,
    PRIMARY KEY (namespace, instance_id)
) STRICT;

-- Lists, newest first: of all, of a status, of a workflow (in a status), of a business key. The third also answers
-- whether a definition has live instances, without a look at the table; hence the version.
CREATE INDEX instances_newest ON instances (namespace, created_at, instance_id);
CREATE INDEX instances_by_status ON instances (namespace, status, created_at, instance_id);
CREATE INDEX instances_by_workflow ON instances (namespace, workflow, status, created_at, instance_id, version);
CREATE INDEX instances_by_business_key ON instances (namespace, business_key, created_at, instance_id)
    WHERE business_key <> '';

CREATE UNIQUE INDEX instances_live_business_key ON instances (namespace, workflow, live_business_key)
    WHERE live_business_key IS NOT NULL;

-- An instance's labels once more, in the order of a list that is filtered by one. They never change.
CREATE TABLE instance_labels (
    namespace   TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    value       TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    instance_id TEXT    NOT NULL,
    PRIMARY KEY (namespace, key, value, created_at, instance_id)
) STRICT, WITHOUT ROWID;

-- The facts. Rows are only ever added; an instance's lie together.
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

-- The JSON texts that came with entries, byte for byte, written once.
CREATE TABLE payloads (
    namespace   TEXT    NOT NULL,
    instance_id TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    body        TEXT    NOT NULL,
    PRIMARY KEY (namespace, instance_id, revision)
) STRICT, WITHOUT ROWID;

-- The requests that took effect. Those of StartInstance have an empty instance_id: their ids are global.
CREATE TABLE requests (
    namespace   TEXT NOT NULL,
    rpc         TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    request_id  TEXT NOT NULL,
    digest      TEXT NOT NULL,
    answer      TEXT NOT NULL,
    PRIMARY KEY (namespace, rpc, instance_id, request_id)
) STRICT, WITHOUT ROWID;

-- Pending timers. `owner` is the replica whose window holds it, '' for none.
CREATE TABLE timers (
    namespace   TEXT    NOT NULL,
    instance_id TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    step_ref    TEXT    NOT NULL,
    due_at      INTEGER NOT NULL,
    delay_ms    INTEGER NOT NULL,
    client_requested   INTEGER NOT NULL,
    owner       TEXT    NOT NULL,
    PRIMARY KEY (namespace, instance_id, revision)
) STRICT, WITHOUT ROWID;

CREATE INDEX timers_due ON timers (namespace, due_at, instance_id, revision);

-- Tasks that are to run or do run. `number` rises, so that the oldest is served first.
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

-- The graphs that instances run on.
CREATE TABLE definitions (
    namespace  TEXT    NOT NULL,
    workflow   TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    digest     TEXT    NOT NULL,
    graph      TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (namespace, workflow, version)
) STRICT, WITHOUT ROWID;

-- The server processes. They serve every namespace.
CREATE TABLE replicas (
    replica_id  TEXT    NOT NULL PRIMARY KEY,
    lease_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
