"""Preimages of payments, from every channel of the tower: one that is learned downstream pays upstream.

A row never goes: the other channels with this payment hash may close much later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import msgspec

from domain.events import PreimageLearned, Recorded, topics_of
from projections.tables import Change, Key, Row, Table, as_row


class PreimageRow(msgspec.Struct, frozen=True):
    """A payment hash (SHA-256 of the preimage) and its preimage.

    `stream` is the channel where it was learned first; `public` is 1 once a transaction showed it to everybody.
    """

    payment_hash: bytes
    preimage: bytes
    stream: str
    public: int


TABLE = Table("preimages", PreimageRow)


class Preimages:
    """Keeps the first `PreimageLearned` of each payment hash, and notes when it becomes public."""

    name: ClassVar[str] = "preimages"
    version: ClassVar[int] = 1
    topics: ClassVar[frozenset[str]] = topics_of(PreimageLearned)
    tables: ClassVar[tuple[Table, ...]] = (TABLE,)

    def keys(self, recorded: Recorded) -> Sequence[Key]:
        """The row of the event's payment hash."""
        payload = recorded.envelope.payload
        return [(payload.payment_hash,)] if isinstance(payload, PreimageLearned) else []

    def apply(self, before: Mapping[Key, Row], page: Iterable[Recorded]) -> list[Change]:
        """Rows of payment hashes that were not known, or not public."""
        rows: dict[Key, Row] = dict(before)
        changed: dict[Key, Row] = {}
        for recorded in page:
            payload = recorded.envelope.payload
            if not isinstance(payload, PreimageLearned):
                continue
            key: Key = (payload.payment_hash,)
            known: PreimageRow | None = TABLE.read(rows[key]) if key in rows else None
            stream = recorded.envelope.stream if known is None else known.stream
            public = payload.txid is not None or (known is not None and known.public == 1)
            row = as_row(PreimageRow(payload.payment_hash, payload.preimage, stream, public))
            if known is None or row != rows[key]:
                rows[key] = changed[key] = row
        return [Change(TABLE.name, key, row) for key, row in changed.items()]
