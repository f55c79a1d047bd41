-- The second schema: what hardening needs. Each section belongs to one feature.

-- === The identity of a database ================================================================================
-- One row. Each batch of changes raises the commit number, and the lock file records id and number of the last
-- acknowledged batch, so that a start on a file that lost commits is rejected.
CREATE TABLE database_identity (
    only_row      INTEGER PRIMARY KEY CHECK (only_row = 1),
    database_id   TEXT    NOT NULL,
    commit_number INTEGER NOT NULL
) STRICT;

INSERT INTO database_identity (only_row, database_id, commit_number) VALUES (1, lower(hex(randomblob(16))), 0);
