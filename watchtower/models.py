"""The read models as the pass thread needs them: in memory, equal to the views, updated page by page.

The views in the database are the durable form and the start of the next run; what is asked on every block stands
in dictionaries here. `catch_up` is called by the pass thread; `watched` may be read by any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from threading import Lock
from typing import Protocol

import structlog

from domain.chain import OutPoint
from domain.channel import Channel
from domain.contract.scripts import funding_output
from domain.status import ChannelStatus
from domain.units import FINAL_DEPTH
from projections import block_index, chain_tip, closings, funding_pending, preimages, watch_index
from projections.chain_tip import TipRow
from projections.channel_info import TABLE as INFO
from projections.channel_info import ChannelInfoRow
from projections.channels import FACTS, decode_facts
from projections.closings import ClosingRow
from projections.facts import ChannelFacts
from projections.funding_pending import FundingRow
from projections.projector import Projector, Rows
from projections.tables import Change, Key, Row, Table
from projections.totals import Totals, TotalsNow
from projections.watch_index import Role
from projections.watch_set import WatchSet
from watchtower.ports import PendingFunding, StoreError, StoreFull
from watchtower.repository import READ_FROM_SNAPSHOT, Channels

_log = structlog.get_logger(__name__)

PAGE = 10_000
CHANNEL_STREAM_LENGTH = 23
"""The letter of the category and 22 characters of base64 (16 bytes)."""

_STATUS, _VERSION = INFO.columns.index("status"), INFO.columns.index("version")

FAR_AWAY = 2**63
"""Place of channels without a deadline in the order of urgency."""


class SnapshotPlace(Protocol):
    """Where folds of channels with long streams are kept."""

    def version(self, stream: str) -> int:
        """How many events the kept fold of a channel stands for, 0 if there is none."""

    def keep(self, channels: Iterable[Channel]) -> None:
        """Replace the folds of these channels."""


class LiveModels:
    """`ports.ReadModels` over the projector's tables.

    Channels with `damaged` streams are nobody's business: what the log says about them cannot be believed.
    Without `one_owner` strangers register channels here: a preimage that only its channel knows then stays there.
    """

    def __init__(
        self,
        projector: Projector,
        rows: Rows,
        channels: Channels,
        *,
        one_owner: bool = True,
        damaged: Container[str] = frozenset(),
        release: Callable[[], bool] = lambda: False,
        snapshots: SnapshotPlace | None = None,
    ) -> None:
        """`release` makes space, once (True: it did), when the views find none. `snapshots` keeps folds of channels."""
        self._snapshots = snapshots
        self._kept_at: dict[str, int] = {}
        self._grown: dict[str, int] = {}
        self._release = release
        self._projector = projector
        self._rows = rows
        self._channels = channels
        self._one_owner = one_owner
        self._damaged = damaged
        self._lock = Lock()
        self._changed: set[str] = set()
        self._watch = WatchSet(self._all(watch_index.TABLE))
        self._totals = Totals(rows)
        self._totals_doubted = False
        self._closings: dict[str, ClosingRow] = {}
        self._pending: dict[str, FundingRow] = {}
        self._funding_spks: dict[str, bytes] = {}
        self._order: list[str] | None = None
        self._waiting: list[str] = []
        for row in self._all(closings.TABLE):
            self._note_closing((row[0],), row)
        self._resolved: set[tuple[str, bytes]] = set()
        for row in rows.find(INFO, "status", ChannelStatus.RESOLVED.value):
            self._note_info(row)
        for row in self._all(funding_pending.TABLE):
            self._note_funding((row[0],), row)

    @property
    def watched(self) -> Container[bytes]:
        """All watched outpoints."""
        return self._watch.outpoints

    @property
    def sieve(self) -> bytearray:
        """Marks of all watched outpoints."""
        return self._watch.sieve

    def marked(self, outpoint: bytes) -> bytearray:
        """The sieve with one more outpoint, for the canary; from any thread."""
        return self._watch.marked(outpoint)

    @property
    def watched_count(self) -> int:
        """Number of watched outpoints, once for each channel that watches them."""
        return len(self._watch)

    @property
    def totals(self) -> TotalsNow:
        """Sums over all channels; may be asked from any thread."""
        return self._totals.now()

    def contested_facts(self) -> Iterator[tuple[str, ChannelFacts]]:
        """The channels with a spend that are not resolved, as the views know them."""
        for stream in list(self._closings):
            for _, encoded in self._rows.find(FACTS, "stream", stream):
                yield stream, decode_facts(_bytes(encoded))

    @property
    def position(self) -> int:
        """Id of the last applied event."""
        return self._projector.position

    @property
    def quarantined(self) -> dict[tuple[str, str], str]:
        """Projection and stream that is skipped there since one of its events could not be applied, and why."""
        found = self._projector.quarantined.items()
        return {(name, s.stream): f"event {s.id}: {s.error}" for name, stuck in found for s in stuck.values()}

    def catch_up(self) -> None:
        """Apply all committed events to the views and to memory.

        If the views cannot be written, the channels of the events that wait count as contested until they can: a
        breach that is in the log is answered although the disk is full.
        """
        with self._lock:
            try:
                try:
                    self._apply_committed()
                except StoreFull:
                    if not self._release():
                        raise
                    self._apply_committed()
                self._waiting = []
            except StoreError:
                streams = self._projector.waiting()
                self._waiting = sorted(stream for stream in streams if _is_channel(stream))
                raise

    def _apply_committed(self) -> None:
        for changes in self._projector.catch_up():
            self._apply(changes)
        self._keep_snapshots()

    def _keep_snapshots(self) -> None:
        """Of each long stream after so many events more, so that its channel never has to be folded from the first."""
        grown, self._grown = self._grown, {}
        if self._snapshots is None:
            return
        due = []
        for stream, version in grown.items():
            if stream not in self._kept_at:
                self._kept_at[stream] = self._snapshots.version(stream)
            if version - self._kept_at[stream] >= READ_FROM_SNAPSHOT and stream not in self._damaged:
                due.append(self._channels.load(stream))
        self._snapshots.keep(due)
        self._kept_at.update((channel.stream, channel.version) for channel in due)

    def take_changed(self) -> frozenset[str]:
        """Channel streams that changed since the last call."""
        with self._lock:
            changed = frozenset(stream for stream in self._changed if stream not in self._damaged)
            self._changed.clear()
        return changed

    def take_resolved(self) -> frozenset[tuple[str, bytes]]:
        """Stream and proposal id of channels that are or became resolved since the last call (first: all)."""
        resolved = frozenset(item for item in self._resolved if item[0] not in self._damaged)
        self._resolved.clear()
        return resolved

    def streams_of(self, outpoint: bytes) -> tuple[str, ...]:
        """The channels that watch this outpoint."""
        return tuple(stream for stream in self._watch.streams(outpoint) if stream not in self._damaged)

    def funding_outpoints(self, after: bytes, limit: int) -> list[OutPoint]:
        """Funding outpoints behind `after` in byte order; at most `limit`, fewer only at the end."""
        found: list[OutPoint] = []
        key: Key | None = (after, "~") if after else None
        while len(found) < limit:
            page = self._rows.page(watch_index.TABLE, key, limit)
            found += [OutPoint(_bytes(row[0])) for row in page if row[2] == Role.FUNDING]
            if len(page) < limit:
                break
            key = watch_index.TABLE.key_of(page[-1])
        return found[:limit]

    def streams_in_block(self, block_hash: bytes) -> list[str]:
        """Channels with a fact in this block, in the order of their names."""
        found = {str(row[1]) for row in self._rows.find(block_index.TABLE, "block_hash", block_hash)}
        funded: list[ChannelInfoRow] = [INFO.read(row) for row in self._rows.find(INFO, "funding_hash", block_hash)]
        found.update(row.stream for row in funded if row.resolved is None)
        return sorted(stream for stream in found if stream not in self._damaged)

    def pending_funding(self) -> list[PendingFunding]:
        """Channels whose funding is not confirmed now, or void."""
        pending = sorted(self._pending.items())
        return [self._pending_entry(stream, row) for stream, row in pending if stream not in self._damaged]

    def young_funding(self) -> list[str]:
        """Channels whose funding is younger than 100 blocks, or not there yet."""
        tips = self._rows.page(chain_tip.TABLE, None, 1)
        tip: TipRow | None = chain_tip.TABLE.read(tips[0]) if tips else None
        deep = -1 if tip is None else tip.height - FINAL_DEPTH
        young = {str(key[0]) for key in self._rows.keys_above(INFO, "funding_height", deep)}
        return sorted(stream for stream in young.union(self._pending) if stream not in self._damaged)

    def preimage(self, payment_hash: bytes) -> bytes | None:
        """The preimage of a payment hash, learned in any channel.

        A claim publishes it, so with several owners only what is public already serves other channels: else a
        stranger with the payment hash in a channel of its own could make the tower reveal it.
        """
        found = self._rows.find(preimages.TABLE, "payment_hash", payment_hash)
        if not found:
            return None
        row: preimages.PreimageRow = preimages.TABLE.read(found[0])
        return row.preimage if self._one_owner or row.public else None

    def contested(self) -> list[str]:
        """Channels with a known spend that are not resolved: nearest deadline first, then the larger value."""
        if self._order is None:
            by_urgency = sorted(self._closings.items(), key=lambda item: (_urgency(item[1]), item[0]))
            self._order = [stream for stream, _ in by_urgency]
        waiting = (stream for stream in self._waiting if stream not in self._closings)
        return [stream for stream in (*self._order, *waiting) if stream not in self._damaged]

    def _apply(self, changes: Iterable[Change]) -> None:
        changes = list(changes)
        self._watch.apply(changes)
        for change in changes:
            if change.table == FACTS.name:
                self._changed.add(str(change.key[0]))
            elif change.table == INFO.name:
                self._note_info(change.row)
            elif change.table == closings.TABLE.name:
                self._note_closing(change.key, change.row)
            elif change.table == funding_pending.TABLE.name:
                self._note_funding(change.key, change.row)
        self._count(changes)

    def _count(self, changes: Iterable[Change]) -> None:
        """Sums are for people: one that cannot be read must keep no breach from being answered."""
        try:
            if self._totals_doubted:
                self._totals = Totals(self._rows)
            else:
                self._totals.apply(changes)
        except StoreError as error:
            if not self._totals_doubted:
                _log.error("gauges_failed", reason=str(error))
            self._totals_doubted = True
        else:
            self._totals_doubted = False

    def _note_info(self, row: Row | None) -> None:
        if row is None:
            return
        version = row[_VERSION]
        assert isinstance(version, int)
        if version >= READ_FROM_SNAPSHOT:
            self._grown[str(row[0])] = version
        if row[_STATUS] == ChannelStatus.RESOLVED:
            info: ChannelInfoRow = INFO.read(row)
            self._resolved.add((info.stream, info.proposal_id))

    def _note_closing(self, key: Key, row: Row | None) -> None:
        self._order = None
        if row is None:
            self._closings.pop(str(key[0]), None)
        else:
            self._closings[str(key[0])] = ClosingRow(*row)  # type: ignore[arg-type]

    def _note_funding(self, key: Key, row: Row | None) -> None:
        stream = str(key[0])
        if row is None:
            self._pending.pop(stream, None)
            self._funding_spks.pop(stream, None)
        else:
            self._pending[stream] = FundingRow(*row)  # type: ignore[arg-type]

    def _pending_entry(self, stream: str, row: FundingRow) -> PendingFunding:
        spk = self._funding_spks.get(stream)
        if spk is None:  # kept, because it takes three operations on the curve and every block asks
            spk = self._funding_spks[stream] = funding_output(self._channels.load(stream).params).spk
        return PendingFunding(stream, OutPoint(row.outpoint), spk, bool(row.seen), bool(row.double_spent))

    def _all(self, table: Table) -> Iterable[Row]:
        key: Key | None = None
        while True:
            page = self._rows.page(table, key, PAGE)
            yield from page
            if len(page) < PAGE:
                return
            key = table.key_of(page[-1])


def _urgency(row: ClosingRow) -> tuple[int, int]:
    return (FAR_AWAY if row.deadline is None else row.deadline, -row.value)


def _is_channel(stream: str) -> bool:
    """A stream of the channel category; the names of the others are words."""
    return len(stream) == CHANNEL_STREAM_LENGTH and stream.startswith("c")


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value
