"""From an address to a log that can be copied."""

from __future__ import annotations

from pathlib import Path

from watchtower.config import Settings
from watchtower.store.copying import End, FileEnd
from watchtower.store.places import server_url

FILE, SERVER = "sqlite:", ("postgresql://", "postgres://")


def end_of(url: str) -> End:
    """`sqlite:PATH`, a bare path, or `postgresql://…`; raises `StoreCheckFailed` without the driver for the last."""
    if not url.startswith(SERVER):
        return FileEnd(Path(url.removeprefix(FILE)))
    from watchtower.store.postgres.target import ServerEnd  # noqa: PLC0415 - the driver is an extra

    return ServerEnd(url)


def log_url(settings: Settings) -> str:
    """The address of the tower's own log, with its password: for `end_of`, never for a message."""
    return server_url(settings) or f"{FILE}{settings.event_log_path}"
