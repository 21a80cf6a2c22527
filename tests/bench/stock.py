"""The library used as its documentation shows it: what our replay and our rebuild are compared with.

An aggregate per channel with decorated events, JSON, the library's own SQLite recorders, and a projection that commits
each event with its position.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Tracking
from eventsourcing.sqlite import SQLiteDatastore, SQLiteTrackingRecorder

from domain.events import Envelope, encode_payload
from tests.fakes.store import MemoryEventStore

UPDATES = 20
"""States of each channel."""


class StockChannel(Aggregate):
    """A channel as an aggregate of the library: an opening and updates."""

    @event("Opened")
    def __init__(self, channel_id: str, capacity: int) -> None:
        self.channel_id, self.capacity = channel_id, capacity
        self.sequence, self.balances, self.state_hash = 0, (capacity, 0), ""

    @event("Updated")
    def update(self, sequence: int, balance_a: int, balance_b: int, state_hash: str, signatures: list[str]) -> None:
        """One more state with its eight signatures."""
        self.sequence, self.balances, self.state_hash = sequence, (balance_a, balance_b), state_hash


class StockTower(Application[UUID]):
    """The library's application on a file."""

    env: ClassVar[dict[str, str]] = {"PERSISTENCE_MODULE": "eventsourcing.sqlite"}


def filled(path: Path, channels: int) -> StockTower:
    """A log with so many channels."""
    tower = StockTower(env={"SQLITE_DBNAME": str(path)})
    for number in range(channels):
        channel = StockChannel(f"{number:064x}", 1_000_000)
        for sequence in range(1, UPDATES + 1):
            channel.update(sequence, 1_000_000 - sequence, sequence, f"{sequence:064x}", ["00" * 64] * 8)
        tower.save(channel)
    return tower


def replay_rate(tower: StockTower) -> float:
    """Events per CPU second from the recorder into aggregates."""
    channels: dict[UUID, StockChannel] = {}
    begun, count, position = time.process_time(), 0, 0
    while notifications := tower.recorder.select_notifications(position + 1, 1_000):
        for notification in notifications:
            made = tower.mapper.to_domain_event(notification)
            channels[made.originator_id] = made.mutate(channels.get(made.originator_id))  # type: ignore[arg-type,assignment]
        count, position = count + len(notifications), notifications[-1].id
    return count / (time.process_time() - begun)


def projection_rate(tower: StockTower, path: Path, events: int) -> float:
    """Events per CPU second of a projection that commits one event and its position at a time."""
    recorder = SQLiteTrackingRecorder(SQLiteDatastore(str(path)))
    recorder.create_table()
    with recorder.datastore.transaction(commit=True) as cursor:
        cursor.execute("CREATE TABLE channels (id TEXT PRIMARY KEY, sequence INTEGER, balance_a INTEGER, hash TEXT)")
    begun, name = time.process_time(), tower.name
    for notification in tower.recorder.select_notifications(1, events):
        made = tower.mapper.to_domain_event(notification)
        row = (str(made.originator_id), getattr(made, "sequence", 0), getattr(made, "balance_a", 0), "")
        with recorder.datastore.transaction(commit=True) as cursor:
            cursor.execute("INSERT OR REPLACE INTO channels VALUES (?, ?, ?, ?)", row)
            recorder._insert_tracking(cursor, Tracking(name, notification.id))
    return events / (time.process_time() - begun)


class StockStore(MemoryEventStore):
    """Events that are read from memory and written by the library: `Application.save`, its settings, a commit each.

    A stream is an aggregate; its events are the library's, with our event as hexadecimal text.
    """

    def __init__(self, path: Path) -> None:
        self._tower = StockTower(env={"SQLITE_DBNAME": str(path)})
        self._aggregates: dict[str, StockChannel] = {}
        super().__init__()

    def append(self, job: Sequence[Envelope], *, chain: bool = False) -> int:
        """Durable when it returns."""
        for stored in job:
            channel = self._aggregates.setdefault(stored.stream, StockChannel(stored.stream, 1_000_000))
            channel.update(stored.version, 1_000_000, 0, stored.topic, [encode_payload(stored.payload).hex()])
        self._tower.save(*(self._aggregates[stream] for stream in {stored.stream for stored in job}))
        return super().append(job, chain=chain)
