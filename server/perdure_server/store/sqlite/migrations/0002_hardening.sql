-- The second schema. A released migration is never edited. Add a new file instead.

-- === lists ======================================================================================================

-- Number of buffered events. Lists show it. It counts as unconsumed once the instance has ended.
ALTER TABLE instances ADD COLUMN inbox_size INTEGER NOT NULL DEFAULT 0;
UPDATE instances SET inbox_size = json_array_length(state, '$.inbox')
WHERE coalesce(json_array_length(state, '$.inbox'), 0) > 0;

-- Instances that ended with events in their inbox. Empty in a normal operation, so it costs a commit nothing.
-- Workflow, version and status let a list filter on the index alone.
CREATE INDEX instances_unconsumed ON instances (namespace, created_at, instance_id, workflow, version, status)
    WHERE inbox_size > 0 AND ended_at > 0;

-- Live instances of each definition: to tell if a definition is in use, to count them, and to list them.
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
