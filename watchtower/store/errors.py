"""Which answer of SQLite means what: the one map from database errors to the errors of the `EventStore` port."""

from __future__ import annotations

import sqlite3
from typing import ClassVar

from eventsourcing.persistence import PersistenceError

from watchtower.ports import StoreBroken, StoreBusy, StoreError, StoreFull
from watchtower.store.recorders import ErrorMeanings


class StoreCheckFailed(StoreError):
    """A start-up check failed; `check` names it. The store was not opened."""

    slug: ClassVar[str] = "store-check"

    def __init__(self, check: str, sentence: str) -> None:
        super().__init__(f"{check}: {sentence}")
        self.check = check


class GuardViolation(StoreError):
    """A guard of the log refused a job that does not conflict: the file was touched by another program."""

    slug: ClassVar[str] = "log-damaged"


_BROKEN = {
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_NOMEM,
}


PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL)
"""What is over when another program is done, or when there is space."""


def primary_code(error: BaseException) -> int | None:
    """SQLite's primary result code of an error or of the error it was raised from; None if there is none."""
    cause: BaseException | None = error
    while cause is not None:
        code = getattr(cause, "sqlite_errorcode", None)
        if isinstance(code, int):
            return code & 0xFF
        cause = cause.__cause__
    return None


def is_conflict(error: BaseException) -> bool:
    """True if a constraint or trigger refused the rows."""
    return primary_code(error) == sqlite3.SQLITE_CONSTRAINT


def is_damaged(error: BaseException) -> bool:
    """True if the file is not a database, or a broken one."""
    return primary_code(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def store_error(error: BaseException) -> StoreError:
    """The port's error for a failed operation. Whatever is not known as final means: try again."""
    if isinstance(error, StoreError):
        return error
    code = primary_code(error)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy("the log is locked by another writer; try again shortly")
    if code == sqlite3.SQLITE_FULL:
        return StoreFull("no space left for the log; nothing was written, free some space")
    if code in _BROKEN:
        return StoreBroken(f"the log cannot be written or read any more ({error}); end the process and start again")
    return StoreError(f"the log refused the operation: {error}")


SQLITE = ErrorMeanings((sqlite3.Error, PersistenceError, StoreError), is_conflict, store_error)
"""How the store reads the errors of SQLite."""
