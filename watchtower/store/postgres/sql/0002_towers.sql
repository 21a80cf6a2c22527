-- Several towers on one log: who leads, and what a tower that takes over needs beside the log.

-- A tower that begins to lead adds a row. Two never lead at once: the leader's session holds an advisory lock. One that
-- lost its session goes on only if no row was added since.
CREATE TABLE watchtower.leadership (
    term bigint PRIMARY KEY CHECK (term > 0),
    holder text NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TRIGGER leadership_no_change BEFORE DELETE OR UPDATE ON watchtower.leadership FOR EACH ROW EXECUTE FUNCTION watchtower.refuse_change();
CREATE TRIGGER leadership_no_truncate BEFORE TRUNCATE ON watchtower.leadership FOR EACH STATEMENT EXECUTE FUNCTION watchtower.refuse_change();
ALTER TABLE watchtower.leadership ENABLE ALWAYS TRIGGER leadership_no_change;
ALTER TABLE watchtower.leadership ENABLE ALWAYS TRIGGER leadership_no_truncate;

-- The keys that answer breaches, sealed under a key that only the towers have. Rows are removed when a channel is over.
-- `added` tells a follower which rows it has not seen: all below the oldest running transaction are there for good.
CREATE TABLE watchtower.sealed_secrets (
    name bytea PRIMARY KEY,
    sealed bytea NOT NULL,
    added xid8 NOT NULL DEFAULT pg_current_xact_id()
);

CREATE INDEX sealed_secrets_added_idx ON watchtower.sealed_secrets (added);

GRANT SELECT ON watchtower.leadership TO wt_app, wt_audit;
GRANT INSERT (term, holder) ON watchtower.leadership TO wt_app;
GRANT SELECT, DELETE ON watchtower.sealed_secrets TO wt_app;
GRANT INSERT (name, sealed) ON watchtower.sealed_secrets TO wt_app;
