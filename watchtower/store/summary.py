"""Sums over the views for gauges: one short read transaction, whatever the number of channels."""

from __future__ import annotations

import msgspec

from projections import channel_info, open_breaches
from projections.open_breaches import OpenBreachRow
from watchtower.store.views import SqliteRows

BREACH_LIMIT = 100_000
"""Open breaches that are looked at; more than this at once is not measured any more, only counted."""


class Summary(msgspec.Struct, frozen=True):
    """Per status (upper case) the number of channels and their capacity in satoshi, and all open breaches."""

    channels: dict[str, int]
    capacity: dict[str, int]
    breaches: tuple[OpenBreachRow, ...]


def summary(rows: SqliteRows) -> Summary:
    """Read everything in one transaction."""
    with rows.datastore.raw() as connection:
        connection.execute("BEGIN")
        try:
            by_status = connection.execute(
                f"SELECT status, count(*), sum(capacity) FROM {channel_info.TABLE.name} GROUP BY status"  # noqa: S608
            ).fetchall()
            breaches = connection.execute(
                f"SELECT * FROM {open_breaches.TABLE.name} LIMIT ?",  # noqa: S608
                (BREACH_LIMIT,),
            ).fetchall()
        finally:
            connection.execute("ROLLBACK")
    return Summary(
        channels={row[0]: row[1] for row in by_status},
        capacity={row[0]: row[2] for row in by_status},
        breaches=tuple(OpenBreachRow(*row) for row in breaches),
    )
