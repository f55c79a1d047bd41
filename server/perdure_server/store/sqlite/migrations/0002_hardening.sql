-- The second schema. A released migration is never edited. Add a new file instead.

-- === The identity of a database ================================================================================
-- One row. Each batch of changes raises the commit number, and the lock file records id and number of the last
-- acknowledged batch, so that a start on a file that lost commits is rejected.
CREATE TABLE database_identity (
    only_row      INTEGER PRIMARY KEY CHECK (only_row = 1),
    database_id   TEXT    NOT NULL,
    commit_number INTEGER NOT NULL
) STRICT;

INSERT INTO database_identity (only_row, database_id, commit_number) VALUES (1, lower(hex(randomblob(16))), 0);

-- === crash loops ===============================================================================================

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
-- ran, `alone` says that it ran alone at its newest one. A `suspect` runs alone before other work. Suspects and steps that
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

-- Attempts of suspects. `alone`: it runs alone in its process. Otherwise it survived its time alone.
CREATE TABLE solo_attempts (
    namespace   TEXT    NOT NULL,
    instance_id TEXT    NOT NULL,
    step_ref    TEXT    NOT NULL,
    attempt     INTEGER NOT NULL,
    alone       INTEGER NOT NULL,
    PRIMARY KEY (namespace, instance_id, step_ref)
) STRICT, WITHOUT ROWID;

-- === Lists ====================================================================================================

-- Number of buffered events. Lists show it. It counts as unconsumed once the instance has ended.
ALTER TABLE instances ADD COLUMN inbox_size INTEGER NOT NULL DEFAULT 0;
UPDATE instances SET inbox_size = json_array_length(state, '$.inbox')
WHERE coalesce(json_array_length(state, '$.inbox'), 0) > 0;

-- Instances that ended with events in their inbox. Empty in a normal operation, so it costs a commit nothing.
-- Workflow, version and status let a list filter on the index alone.
CREATE INDEX instances_unconsumed ON instances (namespace, created_at, instance_id, workflow, version, status)
    WHERE inbox_size > 0 AND status IN ('completed', 'failed', 'cancelled');

-- Live instances of each definition: to find out if a definition is in use, to count them, and to list them.
-- `instances_by_workflow` cannot do this: it would pass over all live instances of the other versions.
CREATE INDEX instances_live ON instances (namespace, workflow, version, created_at, instance_id, status)
    WHERE status IN ('pending', 'running', 'waiting');

-- Lists filtered by a label and a workflow become one range of this index.
ALTER TABLE instance_labels ADD COLUMN workflow TEXT NOT NULL DEFAULT '';
UPDATE instance_labels SET workflow = coalesce((
    SELECT i.workflow FROM instances AS i
    WHERE i.namespace = instance_labels.namespace AND i.instance_id = instance_labels.instance_id
), '');
CREATE INDEX instance_labels_by_workflow
    ON instance_labels (namespace, key, value, workflow, created_at, instance_id);
