-- Every statement on the rows of the store, except the lists of instances (`list_query.py` composes those). Each has a
-- name and a purpose.
--
-- Statements that write are set-based: `:rows` becomes one row of parameters for each change (or for each row to write),
-- padded with NULLs to a few fixed sizes so that the statements stay prepared (see `queries.py`). Every SQLite step
-- switches to another thread of the interpreter, so the number of statements of a batch is constant. For the same reason,
-- statements that read return one row with a JSON array.


-- === a batch of changes ========================================================================================

-- name: conflicting
-- The changes that conflict, with the first reason in the order in which StartInstance is checked. Business key and
-- definition matter if an instance becomes live. Otherwise their columns are NULL.
WITH row(number, instance_id, expected, rpc, scope, request_id, workflow, version, digest, business_key) AS (VALUES :rows)
SELECT number, CASE
    WHEN request_id IS NOT NULL AND EXISTS (
        SELECT 1 FROM requests AS r
        WHERE r.namespace = '' AND r.rpc = row.rpc AND r.instance_id = row.scope AND r.request_id = row.request_id
    ) THEN 'request'
    WHEN expected <> coalesce((
        SELECT i.revision FROM instances AS i WHERE i.namespace = '' AND i.instance_id = row.instance_id
    ), 0) THEN 'revision'
    WHEN business_key IS NOT NULL AND EXISTS (
        SELECT 1 FROM instances AS i
        WHERE i.namespace = '' AND i.workflow = row.workflow AND i.live_business_key = row.business_key
    ) THEN 'business_key'
    WHEN digest IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM definitions AS d
        WHERE d.namespace = '' AND d.workflow = row.workflow AND d.version = row.version AND d.digest = row.digest
    ) THEN 'definition'
END AS kind
FROM row WHERE number IS NOT NULL AND kind IS NOT NULL

-- name: conflicting_timers
-- The changes whose timer is gone or has another owner.
WITH row(number, instance_id, revision, owner) AS (VALUES :rows)
SELECT number FROM row WHERE number IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM timers AS t
    WHERE t.namespace = '' AND t.instance_id = row.instance_id AND t.revision = row.revision AND t.owner = row.owner
)

-- name: expired_leases
-- The replicas that can no longer commit because their lease has ended. There is one row for each replica.
WITH row(replica_id, now) AS (VALUES :rows)
SELECT replica_id FROM row WHERE replica_id IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM replicas AS r WHERE r.replica_id = row.replica_id AND r.lease_until > row.now
)

-- name: write_instances
-- New and changed states. Columns that never change are not written again, and neither are their indexes.
WITH row(instance_id, workflow, version, status, revision, business_key, live_business_key, labels,
         created_at, updated_at, ended_at, inbox_size, state) AS (VALUES :rows)
INSERT INTO instances (namespace, instance_id, workflow, version, status, revision, business_key, live_business_key,
                       labels, created_at, updated_at, ended_at, inbox_size, state)
SELECT '', instance_id, workflow, version, status, revision, business_key, live_business_key,
       labels, created_at, updated_at, ended_at, inbox_size, state
FROM row WHERE instance_id IS NOT NULL
ON CONFLICT (namespace, instance_id) DO UPDATE SET
    status = excluded.status, revision = excluded.revision, live_business_key = excluded.live_business_key,
    updated_at = excluded.updated_at, ended_at = excluded.ended_at, inbox_size = excluded.inbox_size,
    state = excluded.state

-- name: remove_live_instances
-- Instances that ended.
WITH row(workflow, version, created_at, instance_id) AS (VALUES :rows)
DELETE FROM live_instances WHERE (namespace, workflow, version, created_at, instance_id) IN (
    SELECT '', workflow, version, created_at, instance_id FROM row WHERE instance_id IS NOT NULL
)

-- name: write_live_instances
-- Instances that started or were retried.
WITH row(workflow, version, created_at, instance_id) AS (VALUES :rows)
INSERT INTO live_instances (namespace, workflow, version, created_at, instance_id)
SELECT '', workflow, version, created_at, instance_id FROM row WHERE instance_id IS NOT NULL

-- name: write_labels
-- The labels of new instances.
WITH row(key, value, created_at, instance_id, workflow) AS (VALUES :rows)
INSERT INTO instance_labels (namespace, key, value, created_at, instance_id, workflow)
SELECT '', key, value, created_at, instance_id, workflow FROM row WHERE key IS NOT NULL

-- name: write_history
-- The entries. An existing revision fails the statement, since history is never rewritten.
WITH row(instance_id, revision, at, kind, body, request_id) AS (VALUES :rows)
INSERT INTO history (namespace, instance_id, revision, at, kind, body, request_id)
SELECT '', instance_id, revision, at, kind, body, request_id FROM row WHERE instance_id IS NOT NULL

-- name: write_payloads
-- The bodies that came with entries.
WITH row(instance_id, revision, body) AS (VALUES :rows)
INSERT INTO payloads (namespace, instance_id, revision, body)
SELECT '', instance_id, revision, body FROM row WHERE instance_id IS NOT NULL

-- name: write_requests
-- The request ids that took effect, with their responses.
WITH row(rpc, instance_id, request_id, digest, response) AS (VALUES :rows)
INSERT INTO requests (namespace, rpc, instance_id, request_id, digest, response)
SELECT '', rpc, instance_id, request_id, digest, response FROM row WHERE rpc IS NOT NULL

-- name: remove_timers
-- Timers that fired, were cancelled, or whose step ended.
WITH row(instance_id, revision) AS (VALUES :rows)
DELETE FROM timers WHERE (namespace, instance_id, revision) IN (
    SELECT '', instance_id, revision FROM row WHERE instance_id IS NOT NULL
)

-- name: write_timers
-- Timers that were armed, with their first owner.
WITH row(instance_id, revision, kind, step_ref, due_at, delay_ms, client_requested, owner) AS (VALUES :rows)
INSERT INTO timers (namespace, instance_id, revision, kind, step_ref, due_at, delay_ms, client_requested, owner)
SELECT '', instance_id, revision, kind, step_ref, due_at, delay_ms, client_requested, owner
FROM row WHERE instance_id IS NOT NULL
ON CONFLICT (namespace, instance_id, revision) DO UPDATE SET
    kind = excluded.kind, step_ref = excluded.step_ref, due_at = excluded.due_at, delay_ms = excluded.delay_ms,
    client_requested = excluded.client_requested, owner = excluded.owner

-- name: remove_tasks
-- Tasks that no longer have to run.
WITH row(instance_id, step_ref) AS (VALUES :rows)
DELETE FROM tasks WHERE (namespace, instance_id, step_ref) IN (
    SELECT '', instance_id, step_ref FROM row WHERE instance_id IS NOT NULL
)

-- name: write_tasks
-- Tasks that are ready or taken. One that changes hands keeps its number, and with it its place among the oldest.
WITH row(instance_id, step_ref, workflow, version, attempt, owner) AS (VALUES :rows)
INSERT INTO tasks (namespace, instance_id, step_ref, workflow, version, attempt, owner)
SELECT '', instance_id, step_ref, workflow, version, attempt, owner FROM row WHERE instance_id IS NOT NULL
ON CONFLICT (namespace, instance_id, step_ref) DO UPDATE SET
    workflow = excluded.workflow, version = excluded.version, attempt = excluded.attempt, owner = excluded.owner


-- === instances =================================================================================================

-- name: load
-- The states to decide on, of some instances.
SELECT json_group_array(json_array(instance_id, state)) FROM instances
WHERE namespace = '' AND instance_id IN (SELECT value FROM json_each(:instance_ids))

-- name: get_instance
-- The state with all bodies, in one statement and therefore in one snapshot. NULL for the bodies if together they are
-- larger than `:bytes_max`, which the row headers show without reading the bodies.
SELECT state, CASE WHEN coalesce((
    SELECT sum(octet_length(p.body)) FROM payloads AS p WHERE p.namespace = '' AND p.instance_id = i.instance_id
), 0) <= :bytes_max THEN (
    SELECT json_group_array(json_array(p.revision, p.body)) FROM payloads AS p
    WHERE p.namespace = '' AND p.instance_id = i.instance_id
) END
FROM instances AS i WHERE i.namespace = '' AND i.instance_id = :instance_id

-- name: history
-- A page of an instance's history.
SELECT json_group_array(json_array(revision, at, kind, body, request_id)) FROM (
    SELECT revision, at, kind, body, request_id FROM history
    WHERE namespace = '' AND instance_id = :instance_id AND revision > :after
    ORDER BY revision LIMIT :limit
)

-- name: payloads
-- Some of an instance's bodies.
SELECT json_group_array(json_array(revision, body)) FROM payloads
WHERE namespace = '' AND instance_id = :instance_id AND revision IN (SELECT value FROM json_each(:revisions))

-- name: find_request
-- The first response to a request ID.
SELECT digest, response FROM requests
WHERE namespace = '' AND rpc = :rpc AND instance_id = :instance_id AND request_id = :request_id

-- name: find_business_key
-- The live instance with a business key.
SELECT instance_id FROM instances
WHERE namespace = '' AND workflow = :workflow AND live_business_key = :business_key


-- === timers ====================================================================================================

-- name: claimable_timers
-- The timers that a replica can hold: due soon, and its own, without an owner, or of a replica that is gone.
SELECT json_group_array(json_array(instance_id, revision, kind, step_ref, due_at, delay_ms, client_requested, owner)) FROM (
    SELECT * FROM timers AS t INDEXED BY timers_due
    WHERE t.namespace = '' AND t.due_at < :due_before AND (
        t.owner IN ('', :owner)
        OR NOT EXISTS (SELECT 1 FROM replicas AS r WHERE r.replica_id = t.owner AND r.lease_until > :now)
    )
    ORDER BY t.due_at, t.instance_id, t.revision LIMIT :limit
)

-- name: claim_timers
-- Take some of those.
UPDATE timers SET owner = :owner WHERE (namespace, instance_id, revision) IN (
    SELECT '', value ->> 0, value ->> 1 FROM json_each(:timers)
)

-- name: get_timer
-- One pending timer.
SELECT json_array(instance_id, revision, kind, step_ref, due_at, delay_ms, client_requested, owner) FROM timers
WHERE namespace = '' AND instance_id = :instance_id AND revision = :revision

-- name: list_timers
-- A page of all pending timers, soonest first.
SELECT json_group_array(json_array(instance_id, revision, kind, step_ref, due_at, delay_ms, client_requested, owner)) FROM (
    SELECT * FROM timers INDEXED BY timers_due
    WHERE namespace = '' AND (due_at, instance_id, revision) > (:after_due_at, :after_instance_id, :after_revision)
    ORDER BY due_at, instance_id, revision LIMIT :limit
)

-- name: list_timers_of
-- A page of one instance's pending timers, soonest first. They are few: it sorts them (without the plus, SQLite
-- would read those of all instances in the order of their due times).
SELECT json_group_array(json_array(instance_id, revision, kind, step_ref, due_at, delay_ms, client_requested, owner)) FROM (
    SELECT * FROM timers
    WHERE namespace = '' AND instance_id = :instance_id
      AND (+due_at, instance_id, revision) > (:after_due_at, :after_instance_id, :after_revision)
    ORDER BY +due_at, revision LIMIT :limit
)

-- name: next_timer_due_at
-- The due time of the soonest timer.
SELECT min(due_at) FROM timers WHERE namespace = ''


-- === tasks =====================================================================================================

-- name: free_owners
-- The owners of tasks that any replica can take: the empty owner, and replicas that are gone. It seeks from owner to
-- owner, so its cost does not grow with the number of tasks.
WITH RECURSIVE owners(owner) AS (
    SELECT min(owner) FROM tasks WHERE namespace = ''
    UNION ALL
    SELECT (SELECT min(t.owner) FROM tasks AS t WHERE t.namespace = '' AND t.owner > owners.owner)
    FROM owners WHERE owners.owner IS NOT NULL
)
SELECT json_group_array(owner) FROM owners WHERE owner IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM replicas AS r WHERE r.replica_id = owners.owner AND r.lease_until > :now
)

-- name: tasks_of
-- One owner's tasks of some steps of one definition, oldest first. It passes over those of the other steps.
SELECT json_group_array(json_array(number, instance_id, step_ref, workflow, version, attempt, owner)) FROM (
    SELECT * FROM tasks INDEXED BY tasks_by_owner
    WHERE namespace = '' AND owner = :owner AND workflow = :workflow AND version = :version
      AND step_ref IN (SELECT value FROM json_each(:step_refs))
    ORDER BY number LIMIT :limit
)

-- name: owned_tasks
-- All tasks that a replica runs.
SELECT json_group_array(json_array(number, instance_id, step_ref, workflow, version, attempt, owner)) FROM (
    SELECT * FROM tasks WHERE namespace = '' AND owner = :owner ORDER BY number
)


-- === definitions ===============================================================================================

-- name: get_definition
-- The graph of a version.
SELECT json_array(workflow, version, digest, graph, created_at) FROM definitions
WHERE namespace = '' AND workflow = :workflow AND version = :version

-- name: newest_definition
-- The graph that an instance gets when its starter names no version.
SELECT json_array(workflow, version, digest, graph, created_at) FROM definitions
WHERE namespace = '' AND workflow = :workflow ORDER BY version DESC LIMIT 1

-- name: list_definitions
-- A page of all definitions, with the number of their steps instead of their graphs.
SELECT json_group_array(json_array(workflow, version, digest, step_count, created_at)) FROM (
    SELECT workflow, version, digest, coalesce(json_array_length(graph, '$.steps'), 0) AS step_count, created_at
    FROM definitions WHERE namespace = '' AND (workflow, version) > (:after_workflow, :after_version)
    ORDER BY workflow, version LIMIT :limit
)

-- name: definition_in_use
-- Find out if a live instance runs on a definition. One seek.
SELECT 1 FROM live_instances WHERE namespace = '' AND workflow = :workflow AND version = :version LIMIT 1

-- name: live_definitions
-- The definitions that live instances run on. It seeks from one definition to the next, so its cost does not grow with
-- the number of instances. One comparison of (workflow, version) would not do: SQLite starts such a range with the
-- rows of the definition itself and passes over all of them.
WITH RECURSIVE found(workflow, version) AS (
    SELECT * FROM (
        SELECT workflow, version FROM live_instances WHERE namespace = '' ORDER BY workflow, version LIMIT 1
    )
    UNION ALL
    SELECT l.workflow, l.version FROM found CROSS JOIN live_instances AS l
        ON l.namespace = '' AND (l.workflow, l.version, l.created_at, l.instance_id) = (
            SELECT * FROM (
                SELECT n.workflow, n.version, n.created_at, n.instance_id FROM live_instances AS n
                WHERE n.namespace = '' AND n.workflow = found.workflow AND n.version > found.version
                ORDER BY n.version LIMIT 1
            )
            UNION ALL
            SELECT * FROM (
                SELECT n.workflow, n.version, n.created_at, n.instance_id FROM live_instances AS n
                WHERE n.namespace = '' AND n.workflow > found.workflow
                ORDER BY n.workflow, n.version LIMIT 1
            )
            LIMIT 1
        )
    LIMIT :limit
)
SELECT json_group_array(json_array(workflow, version)) FROM found

-- name: count_live
-- The number of live instances that run on a definition, up to a maximum.
SELECT count(*) FROM (
    SELECT 1 FROM live_instances WHERE namespace = '' AND workflow = :workflow AND version = :version
    LIMIT :count_max
)

-- name: write_definition
-- A new graph, or a replacement of an unused one.
INSERT INTO definitions (namespace, workflow, version, digest, graph, created_at)
VALUES ('', :workflow, :version, :digest, :graph, :created_at)
ON CONFLICT (namespace, workflow, version) DO UPDATE SET
    digest = excluded.digest, graph = excluded.graph, created_at = excluded.created_at


-- === replicas ==================================================================================================

-- name: end_replicas
-- No other replica can be alive, since this process has the lock. Work of a killed server is free at once.
DELETE FROM replicas

-- name: forget_replicas
-- Replicas whose lease has ended. They are equal to replicas that were never registered, so the table stays small.
DELETE FROM replicas WHERE lease_until <= :now

-- name: register_replica
-- A server process starts.
INSERT INTO replicas (replica_id, lease_until) VALUES (:replica_id, :lease_until)
ON CONFLICT (replica_id) DO UPDATE SET lease_until = excluded.lease_until

-- name: heartbeat
-- A server process continues, if its lease has not ended yet.
UPDATE replicas SET lease_until = :lease_until WHERE replica_id = :replica_id AND lease_until > :now

-- name: end_replica
-- A server process ends.
DELETE FROM replicas WHERE replica_id = :replica_id


-- === the identity of the database ==============================================================================

-- name: database_identity
-- Database id and commit number, at the start and after a commit whose result is unknown.
SELECT database_id, commit_number FROM database_identity WHERE only_row = 1

-- name: set_commit_number
-- Counts a batch of changes, in its transaction.
UPDATE database_identity SET commit_number = :number WHERE only_row = 1
-- === crash loops ===============================================================================================

-- name: unclean_stop
-- The previous process stopped uncleanly if it did not remove its replica row.
SELECT EXISTS (SELECT 1 FROM replicas)

-- name: forget_left_attempts
-- Attempts that ended or were released in the meantime.
DELETE FROM left_attempts WHERE NOT EXISTS (
    SELECT 1 FROM tasks AS t
    WHERE t.namespace = left_attempts.namespace AND t.instance_id = left_attempts.instance_id
      AND t.step_ref = left_attempts.step_ref AND t.attempt = left_attempts.attempt AND t.owner <> ''
)

-- name: add_left_attempts
-- Attempts that the previous process left behind. Those of earlier processes have a row already.
INSERT INTO left_attempts (namespace, instance_id, step_ref, attempt, lost, alone, excused)
SELECT t.namespace, t.instance_id, t.step_ref, t.attempt, :unclean, :unclean AND EXISTS (
    SELECT 1 FROM solo_attempts AS s
    WHERE s.namespace = t.namespace AND s.instance_id = t.instance_id AND s.step_ref = t.step_ref
      AND s.attempt = t.attempt AND s.alone
), 0
FROM tasks AS t WHERE t.namespace = '' AND t.owner > ''
ON CONFLICT DO NOTHING
RETURNING instance_id, step_ref

-- name: excuse_left_attempt
-- An attempt that ran together with a step which had crashed alone before.
UPDATE left_attempts SET excused = 1
WHERE namespace = '' AND instance_id = :instance_id AND step_ref = :step_ref

-- name: count_crashed_step
-- A step definition ran at this unclean stop. At the second stop in a row it becomes a suspect.
INSERT INTO crashed_steps (namespace, workflow, version, step_ref, stops, suspect, alone)
VALUES ('', :workflow, :version, :step_ref, 1, 0, :alone)
ON CONFLICT DO UPDATE SET stops = stops + 1, suspect = 1, alone = excluded.alone

-- name: list_crashed_steps
-- The step definitions that ran at the newest unclean stop, and earlier suspects that have not run alone yet.
SELECT json_group_array(json_array(workflow, version, step_ref, stops, suspect, alone)) FROM crashed_steps
WHERE namespace = ''

-- name: forget_crashed_step
-- A step definition that did not run at the newest unclean stop and that is not a suspect for another reason.
DELETE FROM crashed_steps
WHERE namespace = '' AND workflow = :workflow AND version = :version AND step_ref = :step_ref

-- name: clear_suspect
-- A suspect whose attempts ran alone without a crash.
UPDATE crashed_steps SET suspect = 0
WHERE namespace = '' AND workflow = :workflow AND version = :version AND step_ref = :step_ref

-- name: clear_suspects
-- All suspects, once their time is over.
UPDATE crashed_steps SET suspect = 0 WHERE suspect

-- name: forget_crashed_steps
-- A clean stop ends a row of unclean ones.
DELETE FROM crashed_steps

-- name: forget_solo_attempts
-- Steps that ended or no longer wait for code.
DELETE FROM solo_attempts WHERE NOT EXISTS (
    SELECT 1 FROM tasks AS t
    WHERE t.namespace = solo_attempts.namespace AND t.instance_id = solo_attempts.instance_id
      AND t.step_ref = solo_attempts.step_ref
)

-- name: write_solo_attempt
-- An attempt of a suspect is about to run alone, or survived that.
INSERT INTO solo_attempts (namespace, instance_id, step_ref, attempt, alone)
VALUES ('', :instance_id, :step_ref, :attempt, :alone)
ON CONFLICT DO UPDATE SET attempt = excluded.attempt, alone = excluded.alone

-- name: lost_attempts
-- Attempts that were lost with their process and that are not released yet. CROSS JOIN keeps SQLite from reading all
-- tasks to find these few.
SELECT json_group_array(json_array(
    t.number, t.instance_id, t.step_ref, t.workflow, t.version, t.attempt, t.owner, was.alone, was.excused
))
FROM left_attempts AS was CROSS JOIN tasks AS t
    ON t.namespace = was.namespace AND t.instance_id = was.instance_id AND t.step_ref = was.step_ref
   AND t.attempt = was.attempt AND t.owner <> ''
WHERE was.lost

-- name: surviving_attempts
-- Steps of instances that survived their time alone.
SELECT json_group_array(json_array(instance_id, step_ref)) FROM solo_attempts WHERE namespace = '' AND NOT alone
