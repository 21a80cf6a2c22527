-- The event log on PostgreSQL. Applied once by `watchtower store migrate` as the role wt_owner; the start-up check
-- compares triggers and functions with this text, so triggers are written as pg_get_triggerdef() shows them.

-- Which of these files were applied.
CREATE TABLE watchtower.schema_steps (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- Ids are given by the writer under its lock: 1, 2, 3 without gaps, so id = position as in the embedded store.
CREATE TABLE watchtower.wt_events (
    originator_id text COLLATE "C" NOT NULL,
    originator_version bigint NOT NULL,
    topic text COLLATE "C" NOT NULL,
    state bytea NOT NULL,
    notification_id bigint NOT NULL,
    PRIMARY KEY (originator_id, originator_version)
) WITH (autovacuum_analyze_scale_factor = 0.02);

CREATE UNIQUE INDEX wt_events_notification_id_idx ON watchtower.wt_events (notification_id);

-- Signatures and hashes do not compress.
ALTER TABLE watchtower.wt_events ALTER COLUMN state SET STORAGE EXTERNAL;

-- What the stock tools of the library look for.
CREATE TYPE watchtower.stored_event_text AS (originator_id text, originator_version bigint, topic text, state bytea);

-- One row per commit, written in the same transaction as its events.
CREATE TABLE watchtower.commit_chain (
    commit_no bigint PRIMARY KEY,
    first_leaf bigint NOT NULL,
    leaf_count bigint NOT NULL,
    last_id bigint NOT NULL,
    head bytea NOT NULL,
    leaves bytea NOT NULL
);

CREATE UNIQUE INDEX commit_chain_last_id_idx ON watchtower.commit_chain (last_id);

ALTER TABLE watchtower.commit_chain ALTER COLUMN leaves SET STORAGE EXTERNAL;

-- Which log this is. stream_key makes stream names unlinkable and is never exported.
CREATE TABLE watchtower.log_meta (
    only_row integer PRIMARY KEY CHECK (only_row = 1),
    log_id bytea NOT NULL,
    origin text NOT NULL,
    segment bigint NOT NULL,
    first_leaf bigint NOT NULL,
    first_id bigint NOT NULL,
    prev_head bytea NOT NULL,
    stream_key bytea NOT NULL,
    schema integer NOT NULL
);

CREATE FUNCTION watchtower.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, lower(TG_OP)
        USING ERRCODE = 'integrity_constraint_violation';
END
$body$;

-- Ids and versions have no gaps. The sub-query per row uses the primary key however large the table has become:
-- a plan that was made while the table was small would read it as a whole.
CREATE FUNCTION watchtower.check_events() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET jit = off AS $body$
DECLARE
    lowest bigint;
    highest bigint;
    fresh_rows bigint;
    lonely text;
BEGIN
    SELECT min(notification_id), max(notification_id), count(*) INTO lowest, highest, fresh_rows FROM fresh;
    IF fresh_rows = 0 THEN
        RETURN NULL;
    END IF;
    IF highest - lowest + 1 <> fresh_rows
        OR lowest <> coalesce((SELECT first_id FROM watchtower.log_meta), 1)
        AND NOT EXISTS (SELECT 1 FROM watchtower.wt_events WHERE notification_id = lowest - 1)
    THEN
        RAISE EXCEPTION 'ids of wt_events are dense: the id before % is missing', lowest
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    SELECT f.originator_id INTO lonely FROM fresh AS f
    WHERE f.originator_version > 1 AND (
        SELECT count(*) FROM watchtower.wt_events AS e
        WHERE e.originator_id = f.originator_id AND e.originator_version = f.originator_version - 1
    ) = 0 LIMIT 1;
    IF lonely IS NOT NULL THEN
        RAISE EXCEPTION 'versions of a stream have no gaps: a preceding version of % is missing', lonely
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$body$;

-- A row of the chain continues the one before it and ends at a stored event.
CREATE FUNCTION watchtower.check_commit() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET jit = off AS $body$
DECLARE
    before watchtower.commit_chain%ROWTYPE;
BEGIN
    SELECT * INTO before FROM watchtower.commit_chain WHERE commit_no = NEW.commit_no - 1;
    IF NOT FOUND THEN
        SELECT 0, first_leaf, 0, first_id - 1 INTO before.commit_no, before.first_leaf, before.leaf_count, before.last_id
        FROM watchtower.log_meta;
        IF NOT FOUND THEN
            before.commit_no := 0;
            before.first_leaf := 0;
            before.leaf_count := 0;
            before.last_id := 0;
        END IF;
    END IF;
    IF NEW.commit_no <> before.commit_no + 1
        OR NEW.first_leaf <> before.first_leaf + before.leaf_count
        OR NEW.leaf_count < 1
        OR NEW.last_id <> before.last_id + NEW.leaf_count
        OR length(NEW.leaves) <> 32 * NEW.leaf_count
        OR length(NEW.head) <> 32
        OR NOT EXISTS (SELECT 1 FROM watchtower.wt_events WHERE notification_id = NEW.last_id)
    THEN
        RAISE EXCEPTION 'commit_chain has no gaps: commit % does not follow its predecessor', NEW.commit_no
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$body$;

-- At commit: every event belongs to a row of the chain. Called once per event, so it sets nothing.
CREATE FUNCTION watchtower.check_covered() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF NEW.notification_id > coalesce(
        (SELECT last_id FROM watchtower.commit_chain ORDER BY commit_no DESC LIMIT 1), 0)
    THEN
        RAISE EXCEPTION 'event % has no row in commit_chain', NEW.notification_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$body$;

CREATE FUNCTION watchtower.check_meta() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF (SELECT count(*) FROM watchtower.log_meta) > 1 THEN
        RAISE EXCEPTION 'log_meta has exactly one row' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$body$;

-- Names the log once. The application may not insert into log_meta itself; there is nothing to call a second time.
CREATE FUNCTION watchtower.name_log(
    log_id bytea, origin text, segment bigint, first_leaf bigint, first_id bigint, prev_head bytea, stream_key bytea,
    schema integer
) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
    INSERT INTO watchtower.log_meta VALUES (1, $1, $2, $3, $4, $5, $6, $7, $8)
$body$;

CREATE TRIGGER events_no_change BEFORE DELETE OR UPDATE ON watchtower.wt_events FOR EACH ROW EXECUTE FUNCTION watchtower.refuse_change();
CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON watchtower.wt_events FOR EACH STATEMENT EXECUTE FUNCTION watchtower.refuse_change();
CREATE TRIGGER events_dense AFTER INSERT ON watchtower.wt_events REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION watchtower.check_events();
CREATE CONSTRAINT TRIGGER events_covered AFTER INSERT ON watchtower.wt_events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION watchtower.check_covered();
CREATE TRIGGER chain_no_change BEFORE DELETE OR UPDATE ON watchtower.commit_chain FOR EACH ROW EXECUTE FUNCTION watchtower.refuse_change();
CREATE TRIGGER chain_no_truncate BEFORE TRUNCATE ON watchtower.commit_chain FOR EACH STATEMENT EXECUTE FUNCTION watchtower.refuse_change();
CREATE TRIGGER chain_follows AFTER INSERT ON watchtower.commit_chain FOR EACH ROW EXECUTE FUNCTION watchtower.check_commit();
CREATE TRIGGER meta_no_change BEFORE DELETE OR UPDATE ON watchtower.log_meta FOR EACH ROW EXECUTE FUNCTION watchtower.refuse_change();
CREATE TRIGGER meta_no_truncate BEFORE TRUNCATE ON watchtower.log_meta FOR EACH STATEMENT EXECUTE FUNCTION watchtower.refuse_change();
CREATE TRIGGER meta_one_row AFTER INSERT ON watchtower.log_meta FOR EACH STATEMENT EXECUTE FUNCTION watchtower.check_meta();

-- ALWAYS: session_replication_role = replica does not switch them off.
ALTER TABLE watchtower.wt_events ENABLE ALWAYS TRIGGER events_no_change;
ALTER TABLE watchtower.wt_events ENABLE ALWAYS TRIGGER events_no_truncate;
ALTER TABLE watchtower.wt_events ENABLE ALWAYS TRIGGER events_dense;
ALTER TABLE watchtower.wt_events ENABLE ALWAYS TRIGGER events_covered;
ALTER TABLE watchtower.commit_chain ENABLE ALWAYS TRIGGER chain_no_change;
ALTER TABLE watchtower.commit_chain ENABLE ALWAYS TRIGGER chain_no_truncate;
ALTER TABLE watchtower.commit_chain ENABLE ALWAYS TRIGGER chain_follows;
ALTER TABLE watchtower.log_meta ENABLE ALWAYS TRIGGER meta_no_change;
ALTER TABLE watchtower.log_meta ENABLE ALWAYS TRIGGER meta_no_truncate;
ALTER TABLE watchtower.log_meta ENABLE ALWAYS TRIGGER meta_one_row;

-- The application appends and reads, the auditor reads; nobody else may do anything.
REVOKE ALL ON FUNCTION watchtower.name_log(bytea, text, bigint, bigint, bigint, bytea, bytea, integer) FROM PUBLIC;
GRANT USAGE ON SCHEMA watchtower TO wt_app, wt_audit;
GRANT SELECT ON watchtower.schema_steps, watchtower.wt_events, watchtower.commit_chain TO wt_app, wt_audit;
GRANT INSERT (originator_id, originator_version, topic, state, notification_id) ON watchtower.wt_events TO wt_app;
GRANT INSERT ON watchtower.commit_chain TO wt_app;
GRANT SELECT ON watchtower.log_meta TO wt_app;
GRANT EXECUTE ON FUNCTION watchtower.name_log(bytea, text, bigint, bigint, bigint, bytea, bytea, integer) TO wt_app;
GRANT SELECT (log_id, origin, segment, first_leaf, first_id, prev_head, schema) ON watchtower.log_meta TO wt_audit;
