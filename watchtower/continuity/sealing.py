"""Sealed heads: now and then the tower signs how far its log has come, and says so in the log itself."""

from __future__ import annotations

from collections.abc import Callable

from domain.events import HeadSealed
from domain.log_chain import sealed_head_hash
from projections.log_standing import LogStanding
from watchtower.ports import Clock, EventStore
from watchtower.store.log_stream import append_to_log_stream
from watchtower.store.source import LogSource

EVENTS = 10_000
"""New events after which the head is sealed at once."""

SECONDS = 600.0
"""Time after which even one new event is sealed."""

Sign = Callable[[bytes], bytes]
"""Signs 32 bytes with the tower key (BIP-340)."""


class HeadSealer:
    """Seals the head when it is due. For one thread."""

    def __init__(self, store: EventStore, source: LogSource, standing: LogStanding, sign: Sign, clock: Clock) -> None:
        self._store, self._source, self._sign, self._clock = store, source, sign, clock
        self._sealed_at, self._seal_id = standing.sealed_at, standing.sealed_id
        self._since = clock.monotonic()

    def new_events(self) -> int:
        """Events since the last sealed head that are no seal themselves: a log that only gained its seal is not new."""
        last = self._store.last_id()
        return last - self._sealed_at - (1 if self._seal_id > self._sealed_at else 0)

    def seal_if_due(self) -> bool:
        """Append `HeadSealed` after enough events or enough time with a new one. Raises `StoreError`."""
        new = self.new_events()
        if new < EVENTS and (new <= 0 or self._clock.monotonic() - self._since < SECONDS):
            return False
        tip = self._source.last_commit()
        if tip.last_id <= self._sealed_at:
            return False  # a tower's own copy of its log that cannot be written: there is no newer head in it
        signature = self._sign(sealed_head_hash(self._source.meta.log_id, tip.last_id, tip.head))
        seal = HeadSealed(
            recorded_at=self._clock.wall_microseconds(), position=tip.last_id, head=tip.head, sig=signature
        )
        self._seal_id = append_to_log_stream(self._store, seal)
        self._sealed_at, self._since = tip.last_id, self._clock.monotonic()
        return True
