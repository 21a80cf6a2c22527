"""Making log files for tests."""

from __future__ import annotations

from pathlib import Path

from domain.chain import chain_hash
from domain.events import AlertCleared, AlertKind, Envelope
from tests.fakes.store import STREAM_KEY
from watchtower.store.create import create_store

CHAIN_HASH = chain_hash("regtest")


def new_log(directory: Path, name: str = "log.db") -> Path:
    """A new log file with `LogOpened`."""
    path = directory / name
    create_store(path, origin="test/log", chain_hash=CHAIN_HASH, log_id=bytes(16), stream_key=STREAM_KEY, recorded_at=0)
    return path


def note(stream: str, version: int, height: int = 0) -> Envelope:
    """A small event."""
    payload = AlertCleared(recorded_at=1, kind=AlertKind.SELF_BREACH, height=height)
    return Envelope(stream, version, AlertCleared.TOPIC, payload)
