"""One tower writes: the one whose session holds an advisory lock. Every write goes through that session.

When the session ends, for whatever reason, the server gives the lock to the next tower; what the old one had begun is
undone or done by then, and it cannot begin anything else. A leader that makes no sound for `SILENCE` loses its session:
then its process hangs. Each leader adds a row with the next term. A leader that lost its session takes the lock again
and goes on only if the newest term is its own; otherwise it ends (`LeadershipLost`).
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import Any, ClassVar

import psycopg
import structlog

from watchtower.ports import StoreAway, StoreBroken, StoreLocked
from watchtower.store.postgres.connection import Connection, connect
from watchtower.store.postgres.silence import Silence

_log = structlog.get_logger(__name__)

SILENCE = 15
"""Seconds after which the server ends the session of a leader that asks nothing. One that is alive asks each second."""

WAIT_SECONDS = 5
"""A standby waits for the lock this long at a time; in between it looks whether it is to stop."""

GONE_SECONDS = 3.0
"""Time for the server to end the session of a process that was killed a moment ago, or that this one lost."""

RETRY_SECONDS = 0.5
"""Pause of a standby before it reaches for a server that is away."""

_SESSION = (
    f"SET idle_session_timeout = '{SILENCE}s'",
    f"SET idle_in_transaction_session_timeout = '{SILENCE}s'",
    "SET client_connection_check_interval = '2s'",
    "SET tcp_keepalives_idle = 5",
    "SET tcp_keepalives_interval = 2",
    "SET tcp_keepalives_count = 3",
    "SET tcp_user_timeout = 8000",
)
"""How the server notices that a leader is gone although nothing told it. Servers before 14 do not know all of them."""

_KEY = "hashtextextended('watchtower.leader', 0)"
_TRY = f"SELECT pg_try_advisory_lock({_KEY})"
_TAKE = f"SELECT pg_advisory_lock({_KEY})"
_NEWEST = "SELECT term, holder, taken_at FROM watchtower.leadership ORDER BY term DESC LIMIT 1"
_BEGIN_TERM = "INSERT INTO watchtower.leadership (term, holder) VALUES (%s, %s)"
_BACKEND = "SELECT backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()"
_END_BACKEND = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start::text = %s"
_RECOVERING = "SELECT pg_is_in_recovery()"


class LeadershipLost(StoreBroken):
    """Another tower led the log meanwhile: this one ends, so that nothing is decided twice."""

    slug: ClassVar[str] = "leadership-lost"


class Leadership:
    """The claim of one process on one log. `term` is 0 before it leads for the first time."""

    def __init__(self, url: str, holder: str = "") -> None:
        """`holder` names the tower for people."""
        self._url = url
        self._holder = holder or f"{socket.gethostname()}:{os.getpid()}"
        self._backend: tuple[int, str] | None = None
        self._is_ending = False
        self.silence = Silence()
        self.term = 0

    def claim(self, connection: Connection) -> None:
        """Make a new connection the leading one.

        Raises `StoreLocked` if another tower leads. Once this one has led: `LeadershipLost` if another did meanwhile,
        `StoreAway` if that is not known yet.
        """
        if _one(connection, _RECOVERING)[0]:
            raise StoreAway("the database server is a replica now; waiting for a primary")
        if not _one(connection, _TRY)[0]:
            self._end_own_session(connection)
            if not _take_within(connection, GONE_SECONDS if self._may_be_gone else 0.0):
                raise self._refusal(connection)
        self._begin(connection)

    def wait(self, stop: threading.Event) -> Connection | None:
        """A connection that leads, as soon as nobody else does; None after `stop`. Server outages are waited out."""
        while not stop.is_set():
            try:
                connection = connect(self._url)
            except psycopg.OperationalError:
                stop.wait(RETRY_SECONDS)
                continue
            try:
                if self._wait_on(connection, stop):
                    return connection
            except psycopg.OperationalError:
                stop.wait(RETRY_SECONDS)
            except BaseException:
                connection.close()
                raise
            connection.close()
        return None

    def _wait_on(self, connection: Connection, stop: threading.Event) -> bool:
        if _one(connection, _RECOVERING)[0]:
            stop.wait(RETRY_SECONDS)
            return False
        while not stop.is_set():
            with self.silence.asking(connection):
                if _take_within(connection, WAIT_SECONDS):
                    self._begin(connection)
                    return True
        return False

    def _begin(self, connection: Connection) -> None:
        """The lock is held: go on with the own term, or begin one."""
        newest = connection.execute(_NEWEST).fetchone()
        term: Any = newest[0] if newest is not None else 0
        if self.term and term != self.term:
            raise LeadershipLost(_told("another tower has led since", newest))
        for setting in _SESSION:
            with suppress(psycopg.errors.UndefinedObject, psycopg.errors.InvalidParameterValue):
                connection.execute(setting)
        if not self.term:
            connection.execute(_BEGIN_TERM, (term + 1, self._holder))
            self.term = term + 1
            _log.info("leadership_taken", term=self.term)
        self._backend = (connection.info.backend_pid, _one(connection, _BACKEND)[0])

    @property
    def _may_be_gone(self) -> bool:
        """Whether whoever holds the lock may be about to lose it: at a start, and after the end of an own session."""
        return not self.term or self._is_ending

    def _end_own_session(self, connection: Connection) -> None:
        """The server may not know yet that this process lost its session."""
        self._is_ending = False
        if self._backend is not None:
            self._is_ending = connection.execute(_END_BACKEND, self._backend).fetchone() is not None

    def _refusal(self, connection: Connection) -> StoreLocked | StoreBroken | StoreAway:
        newest = connection.execute(_NEWEST).fetchone()
        if not self.term:
            advice = "stop it first, or start this one with `store.standby = true`"
            return StoreLocked(f"{_told('another tower leads this log', newest)}; {advice}")
        if newest is not None and newest[0] != self.term:
            return LeadershipLost(_told("another tower leads now", newest))
        return StoreAway("the session of this tower was lost, and another one holds its lock; trying again")


def _take_within(connection: Connection, seconds: float) -> bool:
    """Wait for the lock; False if it was not free within the time."""
    if not seconds:
        return False
    connection.execute(f"SET lock_timeout = {int(seconds * 1000)}")
    try:
        connection.execute(_TAKE)
    except psycopg.errors.LockNotAvailable:
        return False
    finally:
        connection.execute("RESET lock_timeout")
    return True


def _told(what: str, newest: Any) -> str:
    return what if newest is None else f"{what} ({newest[1]}, term {newest[0]} since {newest[2]:%Y-%m-%d %H:%M:%S %Z})"


def _one(connection: Connection, query: str) -> Any:
    row = connection.execute(query).fetchone()
    assert row is not None, "these queries always answer"
    return row
