"""An event store in memory with the answers of the real one; the contract tests run on both."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from domain.events import LOG_STREAM, Envelope, LogOpened, Recorded, decode_payload, encode_payload
from domain.log_chain import first_head, leaf, next_head
from watchtower.ports import Place, StoreBroken, StoreBusy, StoreConflict, StoreError
from watchtower.store.place import CommitRow, find_commit
from watchtower.store.streams import stream_id

STREAM_KEY = bytes(range(32))
LOG_ID = bytes(16)


def opened(chain_hash: bytes, origin: str = "test/log") -> Envelope:
    """The first event of a log."""
    payload = LogOpened(
        recorded_at=0,
        log_id=LOG_ID,
        origin=origin,
        chain_hash=chain_hash,
        segment=0,
        prev_head=bytes(32),
        schema=1,
    )
    return Envelope(LOG_STREAM, 1, LogOpened.TOPIC, payload)


class MemoryEventStore:
    """Keeps encoded events in lists. `failpoint` is called with commit:before and commit:after; it may raise."""

    def __init__(
        self,
        chain_hash: bytes = bytes(32),
        stream_key: bytes = STREAM_KEY,
        failpoint: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.broken = threading.Event()
        self.failpoint: Callable[[str], None] = lambda name: None
        self._stream_key = stream_key
        self._log: list[tuple[str, int, str, bytes]] = []
        self._streams: dict[str, list[int]] = {}
        self._ends: list[int] = []
        self._chain: list[CommitRow] = []
        self._committed = threading.Condition()
        self._closed = False
        self.append([opened(chain_hash)])
        self.failpoint = failpoint

    def append(self, job: Sequence[Envelope], *, chain: bool = False) -> int:
        """Store all envelopes or none; returns the last notification id."""
        limit = 50_000 if chain else 1_000
        if not 0 < len(job) <= limit:
            raise StoreError(f"a job has 1 to {limit} events, got {len(job)}")
        rows = [_row(envelope) for envelope in job]
        first = _first_versions(rows)
        with self._committed:
            if self.broken.is_set():
                raise StoreBroken("the log failed earlier")
            if self._closed:
                raise StoreBusy("the store is closing")
            stored = self._stored_already(rows)
            if stored:
                return stored
            for stream, version in first.items():
                actual = len(self._streams.get(stream, ()))
                if actual != version - 1:
                    raise StoreConflict(stream, version - 1, actual)
            self.failpoint("commit:before")
            for row in rows:
                self._log.append(row)
                self._streams.setdefault(row[0], []).append(len(self._log))
            last = len(self._log)
            self._ends.append(last)
            self._committed.notify_all()
        self.failpoint("commit:after")
        return last

    def read_stream(self, stream: str, after: int = 0, limit: int | None = None) -> list[Envelope]:
        """Envelopes of a stream with version > `after`, in order."""
        ids = self._streams.get(stream, [])[after:]
        return [self._recorded(event_id).envelope for event_id in (ids if limit is None else ids[:limit])]

    def version(self, stream: str) -> int:
        """Last version of a stream, 0 if it has no event."""
        return len(self._streams.get(stream, ()))

    def read_log(self, after_id: int, limit: int) -> list[Recorded]:
        """The log in order of notification id, behind `after_id`."""
        last = min(len(self._log), after_id + limit)
        return [self._recorded(event_id) for event_id in range(after_id + 1, last + 1)]

    def last_id(self) -> int:
        """Highest committed notification id."""
        return len(self._log)

    def event_id(self, stream: str, version: int) -> int | None:
        """Notification id of a stored event, None if there is none."""
        ids = self._streams.get(stream, [])
        return ids[version - 1] if 0 < version <= len(ids) else None

    def place(self, event_id: int) -> Place:
        """Position, leaf and head of a stored event; the chain is worked out when it is asked for."""
        with self._committed:
            self._chain_up()
        found = find_commit(lambda number: self._chain[number - 1], len(self._chain), event_id)
        place = None if found is None else found.place(event_id)
        if place is None:
            raise StoreError(f"there is no event {event_id}")
        return place

    def _chain_up(self) -> None:
        head = self._chain[-1].head if self._chain else first_head("test/log", LOG_ID, 0, 1, bytes(32))
        for end in self._ends[len(self._chain) :]:
            start = self._chain[-1].last_id if self._chain else 0
            leaves = b"".join(leaf(*row) for row in self._log[start:end])
            head = next_head(head, start, start + 1, leaves)
            self._chain.append(CommitRow(end, head, leaves))

    def stream_id(self, category: str, natural_key: bytes) -> str:
        """Stream name as the real store makes it."""
        return stream_id(self._stream_key, category, natural_key)

    def wait_beyond(self, after_id: int, timeout: float) -> bool:
        """Wait until the log has an event behind `after_id`; False after `timeout` seconds."""
        with self._committed:
            return self._committed.wait_for(lambda: len(self._log) > after_id, timeout)

    def close(self) -> None:
        """Refuse further jobs."""
        self._closed = True

    def _recorded(self, event_id: int) -> Recorded:
        stream, version, topic, state = self._log[event_id - 1]
        return Recorded(event_id, Envelope(stream, version, topic, decode_payload(topic, state)))

    def _stored_already(self, rows: Sequence[tuple[str, int, str, bytes]]) -> int:
        last = 0
        for row in rows:
            ids = self._streams.get(row[0], [])
            if len(ids) < row[1] or self._log[ids[row[1] - 1] - 1] != row:
                return 0
            last = max(last, ids[row[1] - 1])
        return last


def _row(envelope: Envelope) -> tuple[str, int, str, bytes]:
    if envelope.topic != envelope.payload.TOPIC:
        raise StoreError(f"topic {envelope.topic!r} is not the topic of {type(envelope.payload).__name__}")
    if not 0 < len(envelope.stream) <= 64 or envelope.version < 1:
        raise StoreError(f"stream {envelope.stream!r} version {envelope.version} cannot be stored")
    state = encode_payload(envelope.payload)
    if len(state) > 1 << 20:
        raise StoreError(f"an event of {len(state)} bytes exceeds the limit")
    return envelope.stream, envelope.version, envelope.topic, state


def _first_versions(rows: Sequence[tuple[str, int, str, bytes]]) -> dict[str, int]:
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for stream, version, _, _ in rows:
        if last.get(stream, version - 1) != version - 1:
            raise StoreError(f"versions of stream {stream} in one job must follow each other, got {version}")
        first.setdefault(stream, version)
        last[stream] = version
    return first
