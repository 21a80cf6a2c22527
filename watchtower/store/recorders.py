"""What the store needs from a database engine: a recorder that inserts and reads, and the meaning of its errors.

`group_commit.py`, `writer.py` and `reader.py` know these names only. SQLite fills them in `recorder.py`, PostgreSQL in
`postgres/recorder.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec
from eventsourcing.persistence import IntegrityError, Notification, StoredEvent

from watchtower.ports import Place, StoreError

Job = Sequence[StoredEvent]
"""Events that are stored together or not at all."""

StoredRow = tuple[int, str, bytes]
"""Id, topic and state of a stored event."""


class LogMeta(msgspec.Struct, frozen=True):
    """Which log this is. `stream_key` is secret and therefore not shown."""

    log_id: bytes
    origin: str
    segment: int
    first_leaf: int
    first_id: int
    prev_head: bytes
    stream_key: bytes
    schema: int

    def __repr__(self) -> str:
        return f"LogMeta(log_id={self.log_id.hex()}, origin={self.origin!r}, schema={self.schema})"


class ChainTip(msgspec.Struct, frozen=True):
    """End of the commit chain: number of the last commit, index of the next leaf, last event id, head."""

    commit_no: int
    next_leaf: int
    last_id: int
    head: bytes


class ErrorMeanings(msgspec.Struct, frozen=True):
    """What an engine may answer to an operation (`failures`), and what an answer means.

    Any other exception is a mistake in the program. `is_conflict`: a constraint or a guard refused the rows.
    """

    failures: tuple[type[BaseException], ...]
    is_conflict: Callable[[BaseException], bool]
    store_error: Callable[[BaseException], StoreError]


class Recorder(Protocol):
    """One log in one database. Reading is possible from any thread, inserting from one at a time.

    Whatever a method raises is one of `meanings.failures`; a refused row is the library's `IntegrityError`.
    """

    on_commit: list[Callable[[], None]]
    """Called after each commit of this process, in the thread that wrote."""

    @property
    def meanings(self) -> ErrorMeanings:
        """How to read this engine's errors."""

    @property
    def tip_id(self) -> int:
        """Id of the last event committed by this process, 0 before the first commit."""

    def insert_jobs(self, jobs: Sequence[Job]) -> list[Sequence[int]]:
        """Store all jobs and their chain row in one commit or none; ids per job. One refused job refuses them all."""

    def insert_isolated(self, jobs: Sequence[Job]) -> list[Sequence[int] | IntegrityError]:
        """Store those jobs that can be stored, in one commit; the others answer with their `IntegrityError`."""

    def resume(self) -> None:
        """After a lost connection: be able to write again, with everything that was committed known.

        Raises what means `StoreAway` while the server cannot be reached, and `StoreBroken` if somebody else wrote.
        """

    def stored_rows(self, stream: str, first: int, last: int) -> Mapping[int, StoredRow]:
        """The rows of a stream with versions from `first` to `last`, by version."""

    def version(self, stream: str) -> int:
        """Last committed version of a stream, 0 if it has no event."""

    def place(self, event_id: int) -> Place | None:
        """Where an event stands; None if there is none. Recent commits are answered from memory (`place.py`)."""

    def select_log(self, after_id: int, limit: int) -> list[Notification]:
        """Notifications with id > `after_id`, in order."""

    def max_notification_id(self) -> int | None:
        """Highest committed id, None for an empty table."""
