"""The only durable thing of a schedule: an event log in memory whose commits are atomic.

A crash can come before a commit (nothing is stored) and after it (everything is, and nobody was told). While `full`
is set every write is refused as with a full disk. Events are stored as bytes and read back from them, as in a file.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from domain.events import Envelope, Recorded, decode_payload, encode_payload
from domain.log_chain import leaf
from tests.fakes.store import STREAM_KEY, opened
from watchtower.ports import Place, StoreConflict, StoreError, StoreFull
from watchtower.store.streams import stream_id

Row = tuple[str, int, str, bytes]


class ModelStore:
    """Implements `ports.EventStore`.

    `failpoint` is called with commit:before and commit:after. `observe` sees every event directly after its commit.
    """

    def __init__(
        self,
        chain_hash: bytes,
        failpoint: Callable[[str], None] = lambda name: None,
        observe: Callable[[Envelope], None] = lambda event: None,
    ) -> None:
        self.rows: list[Row] = []
        self.full = False
        self._recorded: list[Recorded] = []
        self._ids: dict[tuple[str, int], int] = {}
        self._ends: list[int] = []
        self._streams: dict[str, list[Envelope]] = {}
        self._names: dict[tuple[str, bytes], str] = {}
        self.failpoint: Callable[[str], None] = lambda name: None
        self.observe: Callable[[Envelope], None] = lambda event: None
        self.append([opened(chain_hash)])
        self.failpoint, self.observe = failpoint, observe

    def append(self, job: Sequence[Envelope], *, chain: bool = False) -> int:
        """Store all envelopes or none; returns the last notification id."""
        if not 0 < len(job) <= (50_000 if chain else 1_000):
            raise StoreError(f"a job of {len(job)} events cannot be stored")
        rows: list[Row] = [(e.stream, e.version, e.topic, encode_payload(e.payload)) for e in job]
        if all(self._has(row) for row in rows):
            return max(self._id_of(row) for row in rows)
        self._check_versions(job)
        if self.full:
            raise StoreFull("no space is left for the log")
        self.failpoint("commit:before")
        stored = [Envelope(*row[:3], decode_payload(row[2], row[3])) for row in rows]
        for envelope in stored:
            self._streams.setdefault(envelope.stream, []).append(envelope)
            self._ids[envelope.stream, envelope.version] = len(self._recorded) + 1
            self._recorded.append(Recorded(len(self._recorded) + 1, envelope))
        self.rows += rows
        for envelope in stored:
            self.observe(envelope)
        last = len(self._recorded)
        self._ends.append(last)
        self.failpoint("commit:after")
        return last

    def read_stream(self, stream: str, after: int = 0, limit: int | None = None) -> list[Envelope]:
        """Envelopes of a stream with version > `after`, in order."""
        found = self._streams.get(stream, [])
        return found[after:] if limit is None else found[after : after + limit]

    def version(self, stream: str) -> int:
        """Last version of a stream, 0 if it has no event."""
        return len(self._streams.get(stream, ()))

    def event_id(self, stream: str, version: int) -> int | None:
        """Notification id of a stored event, None if there is none."""
        return self._ids.get((stream, version))

    def place(self, event_id: int) -> Place:
        """Where an event stands; the head is made up, but every commit has its own."""
        if not 0 < event_id <= len(self.rows):
            raise StoreError(f"there is no event {event_id}")
        end = self._ends[bisect_left(self._ends, event_id)]
        return Place(event_id, leaf(*self.rows[event_id - 1]), end.to_bytes(32, "big"))

    def read_log(self, after_id: int, limit: int) -> list[Recorded]:
        """The log in order of notification id, behind `after_id`."""
        return self._recorded[after_id : after_id + limit]

    def last_id(self) -> int:
        """Highest committed notification id."""
        return len(self._recorded)

    def wait_beyond(self, after_id: int, timeout: float) -> bool:
        """Whether the log has an event behind `after_id`; nobody else writes, so there is nothing to wait for."""
        del timeout
        return len(self._recorded) > after_id

    def stream_id(self, category: str, natural_key: bytes) -> str:
        """Stream name as the real store makes it."""
        key = (category, bytes(natural_key))
        if key not in self._names:
            self._names[key] = stream_id(STREAM_KEY, category, natural_key)
        return self._names[key]

    def close(self) -> None:
        """Nothing to close: what is stored is durable."""

    def _check_versions(self, job: Sequence[Envelope]) -> None:
        following: dict[str, int] = {}
        for event in job:
            expected = following.get(event.stream, self.version(event.stream))
            if event.version != expected + 1:
                raise StoreConflict(event.stream, event.version - 1, expected)
            following[event.stream] = event.version

    def _has(self, row: Row) -> bool:
        known = self._ids.get((row[0], row[1]))
        return known is not None and self.rows[known - 1] == row

    def _id_of(self, row: Row) -> int:
        return self._ids[row[0], row[1]]
