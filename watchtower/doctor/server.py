"""The database server of a log that is on one."""

from __future__ import annotations

from collections.abc import Iterator

from watchtower.doctor.case import Case
from watchtower.doctor.finding import Finding, fail, ok
from watchtower.ports import StoreError
from watchtower.store.places import server_url, shown_place

_MEND = {
    "fsync": "set fsync = on in postgresql.conf and restart the server",
    "full_page_writes": "set full_page_writes = on in postgresql.conf and reload",
    "synchronous_commit": "set synchronous_commit = on for this user, or in postgresql.conf",
    "server_version": "use PostgreSQL 13 or later",
    "schema": "run `watchtower store migrate` as the owner",
    "log_meta": "run `watchtower init --store-url …`, or set store.url to the database of this tower",
    "rights": "give the tower a user that may only append (docs/postgresql.md)",
    "recovery": "set store.url to the primary server",
}


def look(case: Case) -> Iterator[Finding]:
    """Findings; nothing for a log in a file."""
    if not case.settings.store_on_server:
        return
    place = shown_place(case.settings)
    try:
        from watchtower.store.postgres.examine import examine_server  # noqa: PLC0415 - the driver is an extra
    except ImportError:
        yield fail("server.driver", "the driver for PostgreSQL is not installed", "install the extra [postgres]")
        return
    try:
        failures = examine_server(server_url(case.settings))
    except StoreError as error:
        mend = "start the server, or mend store.url and store.password; breaches are answered from the copy meanwhile"
        yield fail("server.reachable", f"{place}: {error}", mend)
        return
    yield ok("server.reachable", f"{place} answers")
    for failed in failures:
        yield fail(f"server.{failed.check}", str(failed), _MEND.get(failed.check, "see docs/postgresql.md"))
    if not failures:
        yield ok(
            "server.durability", "fsync, full_page_writes and synchronous_commit are on, and only appending is allowed"
        )
