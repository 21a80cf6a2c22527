-- The event log. Applied once by create_store; the start-up check compares every statement with this text.
-- The key column is called rowid so that the library's readers find it; AUTOINCREMENT never reuses an id.
CREATE TABLE stored_events (
    rowid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    originator_id TEXT NOT NULL,
    originator_version INTEGER NOT NULL,
    topic TEXT NOT NULL,
    state BLOB NOT NULL,
    UNIQUE (originator_id, originator_version)
);

-- One row per commit, written in the same transaction as its events.
CREATE TABLE commit_chain (
    commit_no INTEGER PRIMARY KEY NOT NULL,
    first_leaf INTEGER NOT NULL,
    leaf_count INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    head BLOB NOT NULL,
    leaves BLOB NOT NULL
);

-- Which log this is. stream_key makes stream names unlinkable and is never exported.
CREATE TABLE log_meta (
    only_row INTEGER PRIMARY KEY NOT NULL CHECK (only_row = 1),
    log_id BLOB NOT NULL,
    origin TEXT NOT NULL,
    segment INTEGER NOT NULL,
    first_leaf INTEGER NOT NULL,
    first_id INTEGER NOT NULL,
    prev_head BLOB NOT NULL,
    stream_key BLOB NOT NULL,
    schema INTEGER NOT NULL
);

CREATE TRIGGER events_no_update BEFORE UPDATE ON stored_events
BEGIN
    SELECT RAISE(ABORT, 'stored_events is append-only: update refused');
END;

CREATE TRIGGER events_no_delete BEFORE DELETE ON stored_events
BEGIN
    SELECT RAISE(ABORT, 'stored_events is append-only: delete refused');
END;

-- INSERT OR REPLACE deletes the old row without firing a DELETE trigger.
CREATE TRIGGER events_no_replace BEFORE INSERT ON stored_events
WHEN EXISTS (
    SELECT 1 FROM stored_events
    WHERE originator_id = NEW.originator_id AND originator_version = NEW.originator_version
)
OR EXISTS (SELECT 1 FROM stored_events WHERE rowid = NEW.rowid)
BEGIN
    SELECT RAISE(ABORT, 'stored_events is append-only: this version or id exists');
END;

CREATE TRIGGER events_dense AFTER INSERT ON stored_events
WHEN NEW.rowid <> (SELECT first_id FROM log_meta)
AND NOT EXISTS (SELECT 1 FROM stored_events WHERE rowid = NEW.rowid - 1)
BEGIN
    SELECT RAISE(ABORT, 'stored_events ids are dense: the preceding id is missing');
END;

CREATE TRIGGER events_versions AFTER INSERT ON stored_events
WHEN NEW.originator_version > 1
AND NOT EXISTS (
    SELECT 1 FROM stored_events
    WHERE originator_id = NEW.originator_id AND originator_version = NEW.originator_version - 1
)
BEGIN
    SELECT RAISE(ABORT, 'versions of a stream have no gaps: the preceding version is missing');
END;

CREATE TRIGGER chain_no_update BEFORE UPDATE ON commit_chain
BEGIN
    SELECT RAISE(ABORT, 'commit_chain is append-only: update refused');
END;

CREATE TRIGGER chain_no_delete BEFORE DELETE ON commit_chain
BEGIN
    SELECT RAISE(ABORT, 'commit_chain is append-only: delete refused');
END;

CREATE TRIGGER chain_no_replace BEFORE INSERT ON commit_chain
WHEN EXISTS (SELECT 1 FROM commit_chain WHERE commit_no = NEW.commit_no)
BEGIN
    SELECT RAISE(ABORT, 'commit_chain is append-only: this commit exists');
END;

CREATE TRIGGER meta_no_update BEFORE UPDATE ON log_meta
BEGIN
    SELECT RAISE(ABORT, 'log_meta is append-only: update refused');
END;

CREATE TRIGGER meta_no_delete BEFORE DELETE ON log_meta
BEGIN
    SELECT RAISE(ABORT, 'log_meta is append-only: delete refused');
END;

CREATE TRIGGER meta_no_replace BEFORE INSERT ON log_meta
WHEN EXISTS (SELECT 1 FROM log_meta)
BEGIN
    SELECT RAISE(ABORT, 'log_meta has exactly one row');
END;
