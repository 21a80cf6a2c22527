"""The readable history of every channel: one row per event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import msgspec

from domain.events import Payload, Recorded
from projections.channels import is_channel
from projections.sentences import sentence
from projections.tables import Change, Key, Row, Table, as_row


class TimelineRow(msgspec.Struct, frozen=True):
    """One event. `kind` is its name, `height` that of its block or of the tip when it was recorded, if it has one."""

    stream: str
    version: int
    id: int
    recorded_at: int
    height: int | None
    kind: str
    txid: bytes | None
    line: str


TABLE = Table("timeline", TimelineRow, key=2)


class Timeline:
    """Appends; nothing is loaded and nothing is ever removed."""

    name: ClassVar[str] = "timeline"
    version: ClassVar[int] = 1
    tables: ClassVar[tuple[Table, ...]] = (TABLE,)

    def keys(self, _recorded: Recorded) -> Sequence[Key]:
        """Nothing."""
        return ()

    def apply(self, _before: Mapping[Key, Row], page: Iterable[Recorded]) -> list[Change]:
        """A row per channel event."""
        rows = (row_of(recorded) for recorded in page if is_channel(recorded.envelope))
        return [Change(TABLE.name, (row.stream, row.version), as_row(row)) for row in rows]


def row_of(recorded: Recorded) -> TimelineRow:
    """The entry of an event."""
    envelope = recorded.envelope
    payload = envelope.payload
    return TimelineRow(
        stream=envelope.stream,
        version=envelope.version,
        id=recorded.id,
        recorded_at=payload.recorded_at,
        height=_height(payload),
        kind=type(payload).__name__,
        txid=getattr(payload, "txid", None),
        line=sentence(payload),
    )


def _height(payload: Payload) -> int | None:
    block = getattr(payload, "block", None)
    if block is not None:
        return int(block.height)
    height = getattr(payload, "height", getattr(payload, "tip_height", None))
    return None if height is None else int(height)
