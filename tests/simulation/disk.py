"""What survives a crash: the log, and views that may be older or gone. In memory, or the real files for some schedules.

disk = MemoryDisk(ModelStore(…))
disk.store, disk.rows
disk.keep_views()                   # remember the views as they are now
disk.restart(fate)                  # the process died; fate below 0.2: the views are lost, below 0.5: the kept ones
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from domain.events import Envelope, Recorded, encode_payload
from tests.fakes.rows import MemoryRows
from tests.fakes.store import STREAM_KEY
from tests.simulation.store import ModelStore, Row
from watchtower.ports import EventStore, Place, StoreFull
from watchtower.store.create import create_store, open_store
from watchtower.store.rebuild import open_views
from watchtower.store.views import SqliteRows

LOST, OLDER = 0.2, 0.5
"""Fates below these: the views are gone, or those of an earlier moment."""


class Log(EventStore, Protocol):
    """An event store as the harness uses it."""

    full: bool

    @property
    def rows(self) -> list[Row]:
        """Everything that is stored, as bytes."""


class Disk(Protocol):
    """Log and views of one tower."""

    @property
    def store(self) -> Log:
        """The log."""

    @property
    def rows(self) -> MemoryRows | SqliteRows:
        """The views."""

    def keep_views(self) -> None:
        """Remember the views as they are now."""

    def restart(self, fate: float) -> str:
        """The process died: what became of the views (empty if nothing)."""

    def close(self) -> None:
        """The schedule is over."""


class MemoryDisk:
    """The fast one."""

    def __init__(self, store: ModelStore) -> None:
        self.store = store
        self.rows = MemoryRows()
        self._kept: MemoryRows | None = None

    def keep_views(self) -> None:
        """Copy the rows; a row itself never changes."""
        twin = MemoryRows()
        twin.tables = {name: dict(rows) for name, rows in self.rows.tables.items()}
        twin.positions = dict(self.rows.positions)
        self._kept = twin

    def restart(self, fate: float) -> str:
        """New rows, kept rows, or the same."""
        if fate < LOST:
            self.rows = MemoryRows()
            return "views_lost"
        if fate < OLDER and self._kept is not None:
            self.rows, self._kept = self._kept, None
            return self._fitting("views_older")
        return self._fitting("")

    def _fitting(self, what: str) -> str:
        """Views of events that never reached the log are none of this log."""
        if max(self.rows.positions.values(), default=0) <= self.store.last_id():
            return what
        self.rows = MemoryRows()
        return "views_lost"

    def close(self) -> None:
        """Nothing to do."""


class FileLog:
    """The real log file with the hooks of `ModelStore`."""

    def __init__(self, path: Path, failpoint: Callable[[str], None], observe: Callable[[Envelope], None]) -> None:
        self.full = False
        self.failpoint, self.observe = failpoint, observe
        self._path = path
        self.real = open_store(path)

    @property
    def rows(self) -> list[Row]:
        """Everything that is stored, encoded again."""
        events = (recorded.envelope for recorded in self.read_log(0, 1_000_000))
        return [(e.stream, e.version, e.topic, encode_payload(e.payload)) for e in events]

    def reopen(self) -> None:
        """A new process opens the file."""
        self.real.close()
        self.real = open_store(self._path)

    def append(self, job: Sequence[Envelope], *, chain: bool = False) -> int:
        """Store all envelopes or none."""
        if self.full:
            raise StoreFull("no space is left for the log")
        self.failpoint("commit:before")
        before = self.real.last_id()
        last = self.real.append(job, chain=chain)
        for recorded in self.real.read_log(before, last - before):
            self.observe(recorded.envelope)
        self.failpoint("commit:after")
        return last

    def read_stream(self, stream: str, after: int = 0, limit: int | None = None) -> list[Envelope]:
        """See the port."""
        return self.real.read_stream(stream, after, limit)

    def version(self, stream: str) -> int:
        """See the port."""
        return self.real.version(stream)

    def event_id(self, stream: str, version: int) -> int | None:
        """See the port."""
        return self.real.event_id(stream, version)

    def place(self, event_id: int) -> Place:
        """See the port."""
        return self.real.place(event_id)

    def read_log(self, after_id: int, limit: int) -> list[Recorded]:
        """See the port."""
        return self.real.read_log(after_id, limit)

    def last_id(self) -> int:
        """See the port."""
        return self.real.last_id()

    def wait_beyond(self, after_id: int, timeout: float) -> bool:
        """See the port."""
        return self.real.wait_beyond(after_id, timeout)

    def stream_id(self, category: str, natural_key: bytes) -> str:
        """See the port."""
        return self.real.stream_id(category, natural_key)


class FileDisk:
    """SQLite files in a directory of their own."""

    def __init__(
        self, chain_hash: bytes, failpoint: Callable[[str], None], observe: Callable[[Envelope], None]
    ) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="simulation-"))
        self._views, self._kept = self._directory / "views.db", self._directory / "kept.db"
        log = self._directory / "events.db"
        create_store(
            log, origin="test/log", chain_hash=chain_hash, log_id=bytes(16), stream_key=STREAM_KEY, recorded_at=0
        )
        self.store = FileLog(log, failpoint, observe)
        self.rows = open_views(self._views, self.store.real)

    def keep_views(self) -> None:
        """A consistent copy of the file."""
        self._kept.unlink(missing_ok=True)
        source, target = sqlite3.connect(self._views), sqlite3.connect(self._kept)
        source.backup(target)
        source.close()
        target.close()

    def restart(self, fate: float) -> str:
        """Open the files again, the views perhaps from the copy or from nothing."""
        self.rows.close()
        self.store.reopen()
        what = ""
        if fate < LOST or (fate < OLDER and self._kept.exists()):
            for path in self._directory.glob("views.db*"):
                path.unlink()
            what = "views_lost"
        if what and fate >= LOST:
            self._kept.rename(self._views)
            what = "views_older"
        self.rows = open_views(self._views, self.store.real)
        return what

    def close(self) -> None:
        """Close and delete the files."""
        self.rows.close()
        self.store.real.close()
        shutil.rmtree(self._directory)
