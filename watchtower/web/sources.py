"""What the page is drawn from: questions to the running tower, handed in by the composition root."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from watchtower.access import AccessFile
from watchtower.ports import Clock, EventStore
from watchtower.store.summary import Summary
from watchtower.store.views import SqliteRows
from watchtower.telemetry.metrics import Metrics
from watchtower.telemetry.readiness import Readiness

T = TypeVar("T")

SUMS_SECONDS = 1.0
"""Sums over all channels are not taken again within this time, however many pages are open."""

OWNERS_SECONDS = 30.0
"""Counting clients reads an index from end to end."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change while the tower runs.

    `tower_id` in hexadecimal; `address` is host:port for clients; `topics` are the ZMQ topics with an address.
    `backup_hours` is the interval, 0 if the tower makes no backups.
    """

    version: str
    revision: str
    network: str
    engine: str
    tower_id: str
    address: str
    topics: tuple[str, ...]
    registration: str
    backup_hours: float
    event_log: Path
    started: float


class Quotas(msgspec.Struct, frozen=True, kw_only=True):
    """How much clients may use; SIGHUP changes it. Limits of 0 are none; `per_key` in requests per second."""

    max_channels: int
    max_total_capacity: int
    per_key: float


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """The tower, as far as the page asks. `tip` is the height of its cursor, `lag` blocks behind the node.

    `known_until` is the position of the log up to which `rows` and `sums` answer.
    """

    facts: Facts
    quotas: Callable[[], Quotas]
    known_until: Callable[[], int]
    readiness: Callable[[], Readiness]
    tip: Callable[[], int]
    lag: Callable[[], int | None]
    stream_of: Callable[[bytes], str]
    store: EventStore
    rows: SqliteRows
    sums: Callable[[], Summary]
    metrics: Metrics
    access: AccessFile
    clock: Clock

    def now(self) -> float:
        """Unix seconds."""
        return self.clock.wall_microseconds() / 1e6


class Kept(Generic[T]):
    """An answer that is asked for again only after a while; one thread asks, others wait for it."""

    def __init__(self, ask: Callable[[], T], seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._seconds, self._monotonic = ask, seconds, monotonic
        self._mutex = threading.Lock()
        self._answer: T | None = None
        self._asked = float("-inf")

    def __call__(self) -> T:
        """The answer, at most so many seconds old."""
        with self._mutex:
            now = self._monotonic()
            if self._answer is None or now - self._asked >= self._seconds:
                self._answer = self._ask()
                self._asked = now
            return self._answer
