"""A look at a log on a server from beside it: read only, and without the lead of the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg

from watchtower.store.errors import StoreCheckFailed
from watchtower.store.postgres.checks import check_rights, check_server, read_meta
from watchtower.store.postgres.connection import Connection, connect
from watchtower.store.postgres.errors import store_error
from watchtower.store.postgres.source import PostgresSource


def examine_server(url: str) -> list[StoreCheckFailed]:
    """Everything with which the service would not start; raises `StoreError` if the server cannot be asked."""
    try:
        with closing(connect(url, read_only=True)) as connection:
            found = list(_failures(connection))
    except psycopg.Error as error:
        raise store_error(error) from error
    if not found:
        with PostgresSource(url) as source:
            differing = source.differing_objects()
        if differing:
            found.append(StoreCheckFailed("triggers", f"these differ from the shipped ones: {', '.join(differing)}"))
    return found


def _failures(connection: Connection) -> Iterator[StoreCheckFailed]:
    checks: tuple[Callable[[Connection], object], ...] = (check_server, read_meta, check_rights)
    for check in checks:
        try:
            check(connection)
        except StoreCheckFailed as failed:
            yield failed
