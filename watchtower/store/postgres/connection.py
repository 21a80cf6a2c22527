"""Opening connections: what every one of them is set to, and how an address is shown without its password."""

from __future__ import annotations

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from watchtower.store.errors import StoreCheckFailed

SCHEMES = ("postgresql://", "postgres://")

CONNECT_SECONDS = 5
"""A server that does not answer the first message within it counts as gone."""

_DEFAULTS = {
    "application_name": "watchtower",
    "connect_timeout": str(CONNECT_SECONDS),
    # A peer that vanished without a word is noticed after 10 + 3 * 5 s, data without an answer after 15 s.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}

Connection = psycopg.Connection[tuple[object, ...]]


def is_postgres(url: str) -> bool:
    """True for an address of a PostgreSQL database."""
    return url.startswith(SCHEMES)


def checked_url(url: str) -> str:
    """The address with our defaults for what it leaves open; `StoreCheckFailed` if it is none. Holds the password."""
    if not is_postgres(url):
        raise StoreCheckFailed("url", f"a PostgreSQL address begins with {SCHEMES[0]}")
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:  # libpq quotes what it did not understand, and that may be a piece of the password
        raise StoreCheckFailed(
            "url", "store.url is no address that libpq understands; see docs/postgresql.md"
        ) from None
    return make_conninfo("", **{**_DEFAULTS, **given})


def shown(url: str) -> str:
    """Host, port and database of an address, for people; never user, password or options."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        return f"{SCHEMES[0]}…"
    host = given.get("host") or given.get("hostaddr") or "local"
    port = f":{given['port']}" if given.get("port") else ""
    return f"postgresql://{host}{port}/{given.get('dbname', '')}"


def connect(url: str, *, read_only: bool = False) -> Connection:
    """A connection that commits every statement unless a transaction is begun; raises `psycopg.Error`."""
    connection: Connection = psycopg.connect(checked_url(url), autocommit=True)
    try:
        if read_only:
            connection.execute("SET default_transaction_read_only = on")
    except BaseException:
        connection.close()
        raise
    return connection
