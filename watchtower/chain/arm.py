"""Arms a channel: makes sure that no spend slipped in between its registration and its place in the watch index.

The node is asked whether the funding output is still there, at exactly our cursor's tip. If it is gone although
the log knows no spend, the blocks since the registration are scanned again. So they are if the coins of a funding
transaction are gone that no block showed: its block came before the registration was in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from domain.chain import BlockRef, OutPoint
from domain.channel import Channel
from domain.errors import MalformedInput
from domain.events import AuditMismatch, Envelope, Source, envelopes
from domain.spending import disconnected
from domain.transaction import Transaction
from watchtower.chain.follow import Follower
from watchtower.chain.needs import Needs
from watchtower.chain.scan import BlockScan
from watchtower.node.blocks import BlockUnparseable
from watchtower.ports import BlockNotAvailable, NodeError, StoreConflict

UNSPENT, SPENT = 1, 2
"""Values of `AuditMismatch.expected` and `found`."""

BATCH = 200


class Arming:
    """Checks funding outputs against the node. Called from the pass thread only."""

    def __init__(self, needs: Needs, follower: Follower, hand_over: Callable[[Channel], None]) -> None:
        """`hand_over` gets channels whose spend stands in a block that cannot be read."""
        self._node = needs.node
        self._store = needs.store
        self._channels = needs.channels
        self._models = needs.models
        self._follower = follower
        self._conditions = needs.conditions
        self._clock = needs.clock
        self._hand_over = hand_over
        self._waiting: dict[str, None] = {}

    def add(self, streams: Iterable[str]) -> None:
        """Queue channels for the next check, behind those that wait already."""
        self._waiting.update(dict.fromkeys(sorted(streams)))

    def check(self, streams: Iterable[str]) -> None:
        """Check these channels now, or in the next pass if the tip is moving or the node gives up in between."""
        self.add(streams)
        todo = list(islice(self._waiting, BATCH))
        if not todo:
            return
        channels = [c for c in map(self._channels.find, todo) if c is not None and _is_open(c)]
        missing = self._missing(channels)
        if self._node.best_hash() != self._follower.cursor.hash:
            return
        gone = {channel.stream for channel in missing}
        self._forget(stream for stream in todo if stream not in gone)
        for channel in missing:
            try:
                if self._funding_block_stands(channel):
                    self._search(channel)
            except StoreConflict as conflict:  # an upload was faster; the next pass checks again
                self._channels.forget(conflict.stream)
                continue
            self._forget([channel.stream])

    def _forget(self, streams: Iterable[str]) -> None:
        for stream in streams:
            self._waiting.pop(stream, None)

    def _missing(self, channels: Sequence[Channel]) -> list[Channel]:
        """Channels whose funding output should be there and is not, or whose funding lost its coins unseen."""
        outputs = self._node.utxos([c.params.funding_outpoint for c in channels], include_mempool=False)
        absent = [c for c, utxo in zip(channels, outputs, strict=True) if utxo is None]
        existed = [c for c in absent if _should_exist(c)]
        unfunded = [c for c in absent if not _should_exist(c) and c.funding_tx is not None]
        coins = [(c, outpoint) for c in unfunded for outpoint in _funding_inputs(c)]
        found = self._node.utxos([outpoint for _, outpoint in coins], include_mempool=False)
        taken = {c.stream for (c, _), utxo in zip(coins, found, strict=True) if utxo is None}
        return existed + [c for c in unfunded if c.stream in taken]

    @property
    def pending(self) -> bool:
        """True while channels wait for their check."""
        return bool(self._waiting)

    def _funding_block_stands(self, channel: Channel) -> bool:
        """Undo a confirmation whose block the node has left before our cursor ever reached it."""
        block = channel.funding_block
        if block is None or self._node.hash_at(block.height) == block.hash:
            return True
        events = disconnected(channel, block, self._clock.wall_microseconds())
        self._append(envelopes(channel.stream, channel.version, events))
        return False

    def _search(self, channel: Channel) -> None:
        cursor = self._follower.cursor
        now = self._clock.wall_microseconds()
        first = channel.funding_block.height if channel.funding_block else channel.registered_at
        mismatch = AuditMismatch(
            recorded_at=now,
            outpoint=channel.params.funding_outpoint,
            expected=UNSPENT,
            found=SPENT,
            block=cursor.tip,
        )
        self._follower.note(envelopes("chain", cursor.version, [mismatch]))
        try:
            for block in self._blocks_from(first):
                self._look_through(block, now)
        except (BlockNotAvailable, BlockUnparseable, MalformedInput):
            self._hand_over(channel)

    def _blocks_from(self, first: int) -> Iterator[BlockRef]:
        """The blocks of our own walk, which a reorg in the meantime does not change; below it those of the node."""
        walk = [step.block for step in self._follower.cursor.trail]
        for height in range(first, walk[0].height):
            block_hash = self._node.hash_at(height)
            if block_hash is None:
                raise NodeError("the chain became shorter during a search; try again")
            yield BlockRef(height, block_hash)
        yield from (block for block in walk if block.height >= first)

    def _look_through(self, block: BlockRef, now: int) -> None:
        raw = self._node.block(block.hash)
        while True:
            scan = BlockScan(self._channels, self._models, self._conditions, now)
            _, facts, _ = scan.facts(raw, block, Source.AUDIT)
            try:
                self._append(facts.job)
            except StoreConflict as conflict:
                self._channels.forget(conflict.stream)
                continue
            self._conditions.note(facts.streams)
            return

    def _append(self, job: list[Envelope]) -> None:
        if job:
            self._store.append(job, chain=True)
            self._models.catch_up()


def _is_open(channel: Channel) -> bool:
    """The log knows no spend in a block and no other end."""
    return channel.confirmed_spend is None and channel.double_spend is None and channel.resolved is None


def _should_exist(channel: Channel) -> bool:
    """Confirmed, or registered as an output that existed already (then without its transaction)."""
    return channel.funding_block is not None or (channel.funding_tx is None and not channel.funding_seen)


def _funding_inputs(channel: Channel) -> list[OutPoint]:
    """What the funding transaction spends, as far as it is known."""
    if channel.funding_tx is None:
        return []
    return [source.outpoint for source in Transaction.parse(channel.funding_tx).inputs]
