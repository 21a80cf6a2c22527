"""Making and updating the database schema: roles, tables, triggers, rights. All in one transaction, as the owner."""

from __future__ import annotations

from typing import Any

import msgspec
import psycopg
from psycopg import sql

from watchtower.ports import Failpoint
from watchtower.store.datastore import no_failpoint
from watchtower.store.errors import StoreCheckFailed
from watchtower.store.postgres import schema
from watchtower.store.postgres.connection import Connection, connect
from watchtower.store.postgres.errors import store_error

OLDEST_SERVER = 130_000
"""PostgreSQL 13 vacuums tables that only grow."""

_ROLES = (schema.OWNER, schema.APP, schema.AUDIT)


class Migration(msgspec.Struct, frozen=True):
    """What was done: schema number before (0: none) and after, the files applied, the roles that were made."""

    before: int
    after: int
    applied: tuple[str, ...]
    roles: tuple[str, ...]


def migrate(url: str, failpoint: Failpoint = no_failpoint) -> Migration:
    """Bring a database to this program's schema; nothing is done if it is there. Raises `StoreError`.

    The user has to be a member of wt_owner, or be allowed to make roles and the schema.
    """
    try:
        with connect(url) as connection:
            _check_server(connection)
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('watchtower.migrate', 0))")
                failpoint("migration_step:before")
                done = _apply(connection)
            failpoint("migration_step:after")
            return done
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreCheckFailed(
            "rights",
            f"the database user may not do that ({str(error).splitlines()[0]}); migrate as the owner of the database "
            "or as a member of wt_owner (see docs/postgresql.md)",
        ) from error
    except psycopg.Error as error:
        raise store_error(error) from error


def schema_number(connection: Connection) -> int:
    """Number of the last file that was applied, 0 for a database without our schema."""
    found: Any = connection.execute("SELECT to_regclass('watchtower.schema_steps') IS NOT NULL").fetchone()
    if not found[0]:
        return 0
    row: Any = connection.execute("SELECT coalesce(max(number), 0) FROM watchtower.schema_steps").fetchone()
    return int(row[0])


def _check_server(connection: Connection) -> None:
    if connection.info.server_version < OLDEST_SERVER:
        raise StoreCheckFailed("server_version", "PostgreSQL 13 or later is needed")
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreCheckFailed("encoding", f"the database has to be in UTF8, it is in {encoding}; create another one")
    recovering: Any = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    if recovering[0]:
        raise StoreCheckFailed("recovery", "this server is a replica; give the address of its primary")


def _apply(connection: Connection) -> Migration:
    before = schema_number(connection)
    if before > schema.newest():
        raise StoreCheckFailed(
            "schema",
            f"the database has schema {before}, this program knows up to {schema.newest()}: update the program",
        )
    pending = [step for step in schema.steps() if step.number > before]
    if not pending:
        return Migration(before, before, (), ())
    made = _make_roles(connection)
    owner, name = sql.Identifier(schema.OWNER), sql.Identifier(schema.SCHEMA_NAME)
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(name, owner))
    connection.execute(sql.SQL("SET LOCAL ROLE {}").format(owner))
    for step in pending:
        connection.execute(step.text)
        connection.execute(
            "INSERT INTO watchtower.schema_steps (number, name) VALUES (%s, %s)", (step.number, step.name)
        )
    return Migration(before, schema.newest(), tuple(step.name for step in pending), made)


def _make_roles(connection: Connection) -> tuple[str, ...]:
    found: Any = connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", (list(_ROLES),)).fetchall()
    missing = [role for role in _ROLES if (role,) not in found]
    for role in missing:
        connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
    # Since 16 whoever makes a role may give it away, but not act as it until it was given to them.
    wanted = "SET" if connection.info.server_version >= 160_000 else "MEMBER"
    may_act: Any = connection.execute("SELECT pg_has_role(%s, %s)", (schema.OWNER, wanted)).fetchone()
    if not may_act[0]:
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(schema.OWNER)))
    return tuple(missing)


def check_schema(connection: Connection) -> None:
    """Raise `StoreCheckFailed` unless the database has exactly this program's schema."""
    number = schema_number(connection)
    if number != schema.newest():
        raise StoreCheckFailed(
            "schema",
            f"the database has schema {number}, this program needs {schema.newest()}; run `watchtower store migrate` "
            "of the newer of the two",
        )
