"""Which answer of PostgreSQL means what: the map from SQLSTATE to the errors of the `EventStore` port.

No state is known as final by its name alone: a server that is gone may come back, so everything else means: try again.
"""

from __future__ import annotations

import psycopg
from eventsourcing.persistence import IntegrityError, PersistenceError

from watchtower.ports import StoreAway, StoreBroken, StoreBusy, StoreError, StoreFull
from watchtower.store.recorders import ErrorMeanings


class ForeignWriter(StoreBroken):
    """Another process appended to the log: this one is not its writer any more and ends."""


class VersionTaken(IntegrityError):
    """A job does not continue its streams; found before the database had to refuse it."""


_BUSY = {"55P03", "57014", "40001", "40P01", "53200", "53400", "25P03", "57P05"}
"""Lock or statement time-out, serialization, deadlock, memory, limits, idle transactions."""

_BROKEN = {"58030", "58P01", "58P02", "XX000", "XX001", "XX002", "F0000"}
"""I/O error, lost or duplicate file, internal error, damaged table or index, damaged settings."""

_READ_ONLY = "25006"
_DISK_FULL = "53100"
_GONE = ("08", "57P", "53300")
"""Connection errors, shutdown and start-up of the server, too many connections."""

MISSING_RIGHT = "42501"

_DENIED = {
    "28000": "the database refused the user; check the user of store.url and pg_hba.conf",
    "28P01": "the database refused the password",
    "3D000": "the database does not exist; create it, then run `watchtower store migrate`",
    "3F000": "the database has no schema `watchtower`; run `watchtower store migrate`",
    "42P01": "the database lacks a table of the log; run `watchtower store migrate`",
    MISSING_RIGHT: "the database user lacks a right; make it a member of wt_app (see docs/postgresql.md)",
}


def sqlstate(error: BaseException) -> str | None:
    """SQLSTATE of an error or of the error it was raised from; None without one: the server did not answer."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, psycopg.Error) and cause.sqlstate is not None:
            return cause.sqlstate
        cause = cause.__cause__
    return None


def is_conflict(error: BaseException) -> bool:
    """True if a constraint or trigger refused the rows, or would have."""
    state = sqlstate(error)
    return isinstance(error, VersionTaken) or (state is not None and state.startswith("23"))


def store_error(error: BaseException) -> StoreError:
    """The port's error for a failed operation."""
    if isinstance(error, StoreError):
        return error
    state = sqlstate(error)
    if state is None:
        return _without_state(error)
    if state == _DISK_FULL:
        return StoreFull("no space left for the log; nothing was written, free some space on the database server")
    if state == _READ_ONLY:
        return StoreBroken("the database server is read-only: it is a replica, or was made one; end and start again")
    if state in _BUSY:
        return StoreBusy(f"the database is busy ({state}); try again shortly")
    if state.startswith(_GONE):
        return StoreAway(f"the database server is not available ({state}); try again shortly")
    if state in _BROKEN:
        return StoreBroken(f"the database server reports a damage ({state}: {_first_line(error)})")
    return StoreError(_DENIED.get(state, f"the log refused the operation ({state}: {_first_line(error)})"))


def _without_state(error: BaseException) -> StoreError:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, psycopg.Error):
        cause = cause.__cause__
    if isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError):
        return StoreAway(f"the database server is not available: {_first_line(cause)}")
    return StoreError(f"the log refused the operation: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    """What the server said. Further lines may hold values of rows."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


POSTGRES = ErrorMeanings((psycopg.Error, PersistenceError, StoreError), is_conflict, store_error)
"""How the store reads the errors of PostgreSQL."""
