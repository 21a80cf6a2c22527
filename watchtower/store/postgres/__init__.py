"""The event log on PostgreSQL. Needs the driver psycopg, which is an extra: without it the import says so."""

from watchtower.store.errors import StoreCheckFailed

try:
    import psycopg as psycopg
except ImportError as error:
    raise StoreCheckFailed(
        "driver",
        "a log at postgresql:// needs the driver psycopg; install it with "
        "`pip install 'state-channel-watchtower[postgres]'`",
    ) from error
