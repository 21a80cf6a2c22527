"""Which channels a restored log still waits for, until their owners have compared it with what they hold.

After a rollback nobody can name the events that are missing, but the owner of each channel can. A channel counts as
covered once its owner has confirmed it in this epoch, was registered in it, or is over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from threading import Lock
from typing import Protocol

from domain.events import ChannelRegistered, ChannelResolved, FundingDoubleSpent, HoldingsConfirmed, Recorded
from domain.status import ChannelStatus
from projections import channel_info
from projections.channels import ChannelViews
from projections.log_standing import LogStanding
from projections.projector import Rows

PAGE = 5_000
OVER = frozenset((ChannelStatus.RESOLVED.value, ChannelStatus.DOUBLE_SPENT.value))


class ReadableLog(Protocol):
    """The part of the store that is read."""

    def read_log(self, after_id: int, limit: int) -> list[Recorded]:
        """Events behind `after_id`."""
        ...


class Coverage:
    """The channels that are waited for since the last rollback; empty without one. Safe to use from several threads."""

    def __init__(self, standing: LogStanding, log: ReadableLog, rows: Rows) -> None:
        """Reads the views and the log since the rollback. Raises `StoreError`."""
        self.standing, self.epoch, self.is_over = standing, standing.epoch, standing.is_covered
        self._log, self._lock = log, Lock()
        self._restored_at = standing.restored_at
        self._waiting: set[str] = set()
        self._position = 0
        if not self.is_over:
            # The views may be behind the log; channels that they do not know yet are found there.
            self._position = min(self._restored_at, rows.position(ChannelViews.name))
            self._waiting.update(_living(rows))
            self.follow()

    def __len__(self) -> int:
        return len(self._waiting)

    def waits_for(self, stream: str) -> bool:
        """Whether the owner of a channel is asked to compare."""
        with self._lock:
            return stream in self._waiting

    def count(self, streams: Iterable[str]) -> int:
        """How many of these channels are waited for."""
        with self._lock:
            return sum(stream in self._waiting for stream in streams)

    def follow(self) -> None:
        """Take notice of what the log has learned since the last call."""
        if self.is_over:
            return
        while page := self._log.read_log(self._position, PAGE):
            with self._lock:
                for recorded in page:
                    self._take(recorded)
            self._position = page[-1].id

    def end(self) -> None:
        """Nothing is waited for any more: the log says so."""
        with self._lock:
            self._waiting.clear()
        self.is_over = True

    def _take(self, recorded: Recorded) -> None:
        stream = recorded.envelope.stream
        match recorded.envelope.payload:
            case ChannelRegistered() if recorded.id <= self._restored_at:
                self._waiting.add(stream)
            case ChannelRegistered() | ChannelResolved() | FundingDoubleSpent():
                self._waiting.discard(stream)
            case HoldingsConfirmed(epoch=epoch) if epoch == self.epoch:
                self._waiting.discard(stream)
            case _:
                pass


def _living(rows: Rows) -> Iterator[str]:
    after = None
    while page := rows.page(channel_info.TABLE, after, PAGE):
        found = [channel_info.TABLE.read(row) for row in page]
        yield from (row.stream for row in found if row.status not in OVER)
        after = channel_info.TABLE.key_of(page[-1])
