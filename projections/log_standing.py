"""What the log says about itself: its epoch, what a restored copy lacks, how far it was sealed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import msgspec

from domain.events import LOG_STREAM, HeadSealed, ReceiptsCovered, Recorded, StoreRestored, topics_of
from projections.tables import Change, Key, Row, Table, as_row


class LogStanding(msgspec.Struct, frozen=True):
    """The only row.

    `epoch` counts restored copies that were accepted. The last one went on behind `restored_at` (a position), although
    `high_water` had been reached; until `covered` equals `epoch`, clients may hold receipts for what is missing.
    `sealed_at` is the position of the last sealed head, `sealed_id` the event that says so.
    """

    only_row: int = 1
    epoch: int = 0
    restored_at: int = 0
    high_water: int = 0
    covered: int = 0
    sealed_at: int = 0
    sealed_id: int = 0

    @property
    def is_covered(self) -> bool:
        """Whether nothing is waited for."""
        return self.covered >= self.epoch


TABLE = Table("log_standing", LogStanding)
_KEY: Key = (1,)


class LogStandings:
    """Folds the stream of the log itself."""

    name: ClassVar[str] = "log_standing"
    version: ClassVar[int] = 1
    topics: ClassVar[frozenset[str]] = topics_of(StoreRestored, ReceiptsCovered, HeadSealed)
    tables: ClassVar[tuple[Table, ...]] = (TABLE,)

    def keys(self, recorded: Recorded) -> Sequence[Key]:
        """The row, for events of the log's own stream."""
        return (_KEY,) if recorded.envelope.stream == LOG_STREAM else ()

    def apply(self, before: Mapping[Key, Row], page: Iterable[Recorded]) -> list[Change]:
        """The row after the page."""
        old: LogStanding = TABLE.read(before[_KEY]) if _KEY in before else LogStanding()
        new = fold(old, page)
        return [] if new == old else [Change(TABLE.name, _KEY, as_row(new))]


def fold(standing: LogStanding, events: Iterable[Recorded]) -> LogStanding:
    """Apply events in order; those of other streams change nothing."""
    for recorded in events:
        if recorded.envelope.stream == LOG_STREAM:
            standing = _evolve(standing, recorded)
    return standing


def _evolve(standing: LogStanding, recorded: Recorded) -> LogStanding:
    match recorded.envelope.payload:
        case StoreRestored(epoch=epoch, position=position, high_water=high_water):
            return msgspec.structs.replace(standing, epoch=epoch, restored_at=position, high_water=high_water)
        case ReceiptsCovered(epoch=epoch):
            return msgspec.structs.replace(standing, covered=max(standing.covered, epoch))
        case HeadSealed(position=position):
            return msgspec.structs.replace(standing, sealed_at=position, sealed_id=recorded.id)
        case _:
            return standing
