-- What a later segment of a log has on top of schema.sql: which streams began before it, and where they stand.
-- Filled once, when the segment is made. The database alone then refuses a stream that begins twice.
CREATE TABLE stream_base (
    stream TEXT PRIMARY KEY NOT NULL,
    version INTEGER NOT NULL,
    segment INTEGER NOT NULL
) WITHOUT ROWID;

DROP TRIGGER events_versions;

CREATE TRIGGER events_versions AFTER INSERT ON stored_events
WHEN NOT EXISTS (
    SELECT 1 FROM stored_events
    WHERE originator_id = NEW.originator_id AND originator_version = NEW.originator_version - 1
)
AND NEW.originator_version <> 1 + coalesce((SELECT version FROM stream_base WHERE stream = NEW.originator_id), 0)
BEGIN
    SELECT RAISE(ABORT, 'versions of a stream have no gaps: the preceding version is missing');
END;

CREATE TRIGGER base_no_insert BEFORE INSERT ON stream_base
WHEN EXISTS (SELECT 1 FROM stored_events)
BEGIN
    SELECT RAISE(ABORT, 'stream_base is append-only: the segment has begun');
END;

CREATE TRIGGER base_no_update BEFORE UPDATE ON stream_base
BEGIN
    SELECT RAISE(ABORT, 'stream_base is append-only: update refused');
END;

CREATE TRIGGER base_no_delete BEFORE DELETE ON stream_base
BEGIN
    SELECT RAISE(ABORT, 'stream_base is append-only: delete refused');
END;
