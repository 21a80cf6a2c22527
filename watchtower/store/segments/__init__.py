"""A log in several files: closed segments beside the one that is written (SQLite only).

`closing` ends a file and begins the next, `closed` reads the older ones, `recorder` makes all of them one log for the
service, `source` for audits and exports. `archive` packs a closed segment.
"""
