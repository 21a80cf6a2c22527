"""The log of the tower while it cannot be written: what the chain says is kept in memory and written later.

Neither a full disk nor a database server that is away may save a cheater. Facts of the chain and bids can be found
again at the node, so they may wait in memory; they are read as if they were stored, under the ids that they will get.
What clients say can be found nowhere else: it is refused until everything that waits is written. A crash meanwhile
loses nothing but work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from domain.events import Envelope, Recorded
from watchtower.ports import EventStore, Place, StoreAway, StoreBroken, StoreConflict, StoreError, StoreFull

HELD_EVENTS = 50_000
"""Events kept in memory: a day of blocks with some breaches; beyond it the error goes to the caller."""


_PASSING = (StoreFull, StoreAway)
"""Why the log takes nothing now, but will again."""


def nothing_to_release() -> bool:
    """There is no reserve."""
    return False


class Mark(Protocol):
    """Something outside the process that tells of waiting events."""

    def set(self) -> None:
        """Events wait."""

    def clear(self) -> None:
        """None waits any more."""


class OverflowStore:
    """An `EventStore` on another one. Chain jobs and `flush` belong to the pass thread, the rest to any."""

    def __init__(
        self,
        store: EventStore,
        release: Callable[[], bool] = nothing_to_release,
        mark: Mark | None = None,
        committed: Callable[[int], object] = lambda _last_id: None,
    ) -> None:
        """`release` makes space, once (True: it did); it is asked before anything is kept in memory.

        `mark` is set before anybody reads an event that waits, and cleared when none does. `committed` is told the
        last id of each job of the pass thread when it is written.
        """
        self._mark = mark
        self._committed = committed
        self._reason: type[StoreFull | StoreAway] = StoreFull
        self._store = store
        self._release = release
        self._turn = threading.Condition()
        self._clients = 0
        self._is_closing = False
        self._failure: StoreBroken | None = None
        self._jobs: list[list[Envelope]] = []
        self._held: list[Recorded] = []

    @property
    def held(self) -> int:
        """Events that wait in memory."""
        return len(self._held)

    @property
    def held_for_space(self) -> int:
        """Events that wait because the disk is full."""
        return len(self._held) if self._reason is StoreFull else 0

    def append(self, job: Sequence[Envelope], *, chain: bool = False) -> int:
        """As the port says; a chain job that finds no space, no server or a log that has just failed counts as stored.

        After a failure the log is not written again: the present pass answers what it can, and `flush` ends it.
        """
        if not chain:
            return self._append_client(job)
        if self._failure is not None or (self._jobs and not self.flush()):
            return self._hold(job)
        try:
            last_id = self._append_or_make_room(job)
            self._committed(last_id)
            return last_id
        except _PASSING as error:
            self._reason = type(error)
            return self._hold(job)
        except StoreBroken as error:
            self._failure = error
            return self._hold(job)

    def _append_or_make_room(self, job: Sequence[Envelope]) -> int:
        try:
            return self._store.append(job, chain=True)
        except StoreFull:
            if not self._release():
                raise
        return self._store.append(job, chain=True)

    def flush(self) -> bool:
        """Write what waits, oldest first; True if nothing waits any more. Raises `StoreBroken` once the log failed.

        Clients are refused until the last job is written: the ids that were given to the held events stay theirs.
        """
        if self._failure is not None:
            raise self._failure
        while self._jobs:
            expected = self._held[len(self._jobs[0]) - 1].id
            try:
                last_id = self._store.append(self._jobs[0], chain=True)
            except _PASSING as error:
                self._reason = type(error)
                return False
            if last_id != expected:
                raise StoreBroken(f"an event that waited got the id {last_id} instead of {expected}; start again")
            self._committed(last_id)
            with self._turn:
                self._held = self._held[len(self._jobs[0]) :]
                self._jobs = self._jobs[1:]
                if not self._jobs and self._mark is not None:
                    self._mark.clear()
        return True

    def _append_client(self, job: Sequence[Envelope]) -> int:
        with self._turn:
            if self._jobs or self._is_closing:
                raise self._refusal()
            self._clients += 1
        try:
            return self._store.append(job)
        finally:
            with self._turn:
                self._clients -= 1
                self._turn.notify_all()

    def _refusal(self) -> StoreError:
        if self._reason is StoreFull:
            return StoreFull("no space left for the log: facts of the chain wait for it; free some space")
        return StoreAway("the database server cannot be reached: facts of the chain wait for it; try again shortly")

    def _hold(self, job: Sequence[Envelope]) -> int:
        with self._turn:
            if len(self._held) + len(job) > HELD_EVENTS:
                raise self._reason(f"the log cannot be written, and {len(self._held)} events wait in memory already")
            self._is_closing = True  # from here on no client begins to write …
            try:
                self._turn.wait_for(lambda: self._clients == 0)  # … and those that have begun know their ids
                self._check_versions(job)
                start = self.last_id() + 1
                if not self._jobs and self._mark is not None:
                    self._mark.set()
                self._jobs = [*self._jobs, list(job)]
                self._held = [*self._held, *(Recorded(start + place, event) for place, event in enumerate(job))]
            finally:
                self._is_closing = False
            return self._held[-1].id

    def _check_versions(self, job: Sequence[Envelope]) -> None:
        first: dict[str, int] = {}
        for event in job:
            first.setdefault(event.stream, event.version)
        for stream, version in first.items():
            if self.version(stream) != version - 1:
                raise StoreConflict(stream, version - 1, self.version(stream))

    # --- reading ------------------------------------------------------------------------------------------------

    def read_stream(self, stream: str, after: int = 0, limit: int | None = None) -> list[Envelope]:
        """Stored events, then those that wait."""
        held = self._held
        found = self._store.read_stream(stream, after, limit)
        behind = found[-1].version if found else after
        found += [r.envelope for r in held if r.envelope.stream == stream and r.envelope.version > behind]
        return found if limit is None else found[:limit]

    def version(self, stream: str) -> int:
        """Last version, one that waits included."""
        held = self._held
        if not held:
            return self._store.version(stream)
        waiting = (r.envelope.version for r in held if r.envelope.stream == stream)
        return max(self._store.version(stream), max(waiting, default=0))

    def event_id(self, stream: str, version: int) -> int | None:
        """Id of a stored event, or the one that a waiting event will get."""
        held = self._held
        waiting = (r.id for r in held if (r.envelope.stream, r.envelope.version) == (stream, version))
        return next(waiting, None) or self._store.event_id(stream, version)

    def place(self, event_id: int) -> Place:
        """As the log says; an event that waits has no place yet."""
        return self._store.place(event_id)

    def read_log(self, after_id: int, limit: int) -> list[Recorded]:
        """Stored events, then those that wait."""
        held = self._held
        found = self._store.read_log(after_id, limit)
        behind = found[-1].id if found else after_id
        return [*found, *(recorded for recorded in held if recorded.id > behind)][:limit] if held else found

    def last_id(self) -> int:
        """Highest id, that of a waiting event included."""
        held = self._held
        return held[-1].id if held else self._store.last_id()

    def wait_beyond(self, after_id: int, timeout: float) -> bool:
        """Waits for what is stored."""
        return self._store.wait_beyond(after_id, timeout)

    def stream_id(self, category: str, natural_key: bytes) -> str:
        """As the log says."""
        return self._store.stream_id(category, natural_key)
