"""Which database keeps the log: the only place that chooses an engine.

The driver of PostgreSQL is loaded only if the settings name a server. A url is handed on with its password inside; it
is for the driver, never for a message: those show `shown_place`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import quote

import structlog

from domain.chain import chain_hash
from watchtower.config import Settings
from watchtower.host.system import SystemClock
from watchtower.ports import Failpoint, StoreError
from watchtower.store.create import create_store, open_reader, open_store
from watchtower.store.datastore import no_failpoint
from watchtower.store.observing import Observe
from watchtower.store.reader import LogReader, ignore_observation
from watchtower.store.segments.cut import close_grown_segment
from watchtower.store.segments.source import open_log_files
from watchtower.store.source import LogSource
from watchtower.store.writer import LogWriter

if TYPE_CHECKING:
    from watchtower.store.postgres.connection import Connection
    from watchtower.store.postgres.leadership import Leadership
    from watchtower.store.postgres.secrets import SealedSecrets
    from watchtower.store.postgres.standby import StandbyLog

_log = structlog.get_logger(__name__)

Engine = Literal["sqlite", "postgresql"]

Turn: TypeAlias = "tuple[Leadership, Connection]"
"""What a standby holds when nobody else leads any more."""


def engine(settings: Settings) -> Engine:
    """Which database the settings name."""
    return "postgresql" if settings.store_on_server else "sqlite"


def server_url(settings: Settings) -> str:
    """The address of the server with the password of `store.password` in it; empty for a log in a file."""
    if not settings.store_on_server:
        return ""
    url, password = settings.store.url, settings.store.password
    if password is None:
        return url
    return f"{url}{'&' if '?' in url else '?'}password={quote(password.reveal(), safe='')}"


def shown_place(settings: Settings) -> str:
    """Where the log is, for people: a path, or an address without its password (it never holds one)."""
    return settings.store.url if settings.store_on_server else settings.event_log_path


def open_log(
    settings: Settings,
    *,
    observe: Observe = ignore_observation,
    failpoint: Failpoint = no_failpoint,
    turn: Turn | None = None,
) -> LogWriter:
    """Check the log and open it for writing; `turn` is that of a tower that stood by.

    Raises `StoreLocked` if another tower has the log, `StoreCheckFailed` that names a check, and `StoreAway` if the
    server cannot be reached.
    """
    expected = chain_hash(settings.network)
    if not settings.store_on_server:
        _close_grown(settings)
        return open_store(Path(settings.event_log_path), chain_hash=expected, observe=observe, failpoint=failpoint)
    from watchtower.store.postgres.event_store import open_server_log  # noqa: PLC0415 - the driver is an extra

    return open_server_log(
        server_url(settings),
        Path(settings.event_log_path),
        chain_hash=expected,
        observe=observe,
        failpoint=failpoint,
        lead=turn,
    )


def open_standby(settings: Settings) -> StandbyLog:
    """Follow a log on a server that another tower leads. Raises `StoreError`."""
    from watchtower.store.postgres.standby import StandbyLog  # noqa: PLC0415 - the driver is an extra

    return StandbyLog(server_url(settings), Path(settings.event_log_path))


def open_secrets(settings: Settings) -> SealedSecrets | None:
    """Sealed secrets of the towers of a log on a server; None for a log in a file, which has one tower."""
    if not settings.store_on_server:
        return None
    from watchtower.store.postgres.secrets import SealedSecrets  # noqa: PLC0415 - the driver is an extra

    return SealedSecrets(server_url(settings))


def _close_grown(settings: Settings) -> None:
    """A new segment of the log, if the present one is larger than `store.segment_mb`.

    A start does not fail for it: what is wrong with the log itself is said when it is opened.
    """
    if not settings.store.segment_mb:
        return
    limit = settings.store.segment_mb << 20
    try:
        now, followed = SystemClock().wall_microseconds(), chain_hash(settings.network)
        close_grown_segment(Path(settings.event_log_path), limit, now, chain_hash=followed)
    except StoreError as error:
        _log.warning("segment_not_closed", reason=str(error))


def open_log_reader(settings: Settings) -> LogReader:
    """Open the log for reading while a tower may be writing it."""
    if not settings.store_on_server:
        return open_reader(Path(settings.event_log_path))
    from watchtower.store.postgres.event_store import open_server_reader  # noqa: PLC0415 - the driver is an extra

    return open_server_reader(server_url(settings))


def open_source(settings: Settings) -> LogSource:
    """The stored rows of the log as they are, for audits, exports and copies."""
    if not settings.store_on_server:
        return open_log_files(Path(settings.event_log_path))
    from watchtower.store.postgres.source import PostgresSource  # noqa: PLC0415 - the driver is an extra

    return PostgresSource(server_url(settings))


def create_log(
    settings: Settings, *, origin: str, log_id: bytes, stream_key: bytes, recorded_at: int, path: Path | None = None
) -> None:
    """Make an empty log for the network of the settings: a file, or rows in the tables that `store migrate` made.

    `path` puts the file elsewhere than the settings do. Raises `StoreError` if there is a log already.
    """
    made_for = chain_hash(settings.network)
    if not settings.store_on_server:
        create_store(
            path or Path(settings.event_log_path),
            origin=origin,
            chain_hash=made_for,
            log_id=log_id,
            stream_key=stream_key,
            recorded_at=recorded_at,
        )
        return
    from watchtower.store.postgres import create as server  # noqa: PLC0415 - the driver is an extra

    server.create_store(
        server_url(settings),
        origin=origin,
        chain_hash=made_for,
        log_id=log_id,
        stream_key=stream_key,
        recorded_at=recorded_at,
    )
