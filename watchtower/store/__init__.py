"""The event store: SQLite through the `eventsourcing` library, group commit, hash chain, instance lock, views."""
