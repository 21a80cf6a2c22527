"""Arms a channel: makes sure that no spend slipped in between its registration and its place in the watch index.

The node is asked whether the funding output is still there, at exactly our cursor's tip. If it is gone although
the log knows no spend, the blocks since the registration are scanned again.
"""

from __future__ import annotations

from collections.abc import Iterable

from domain.chain import BlockRef
from domain.channel import Channel
from domain.events import AuditMismatch, Source, envelopes
from domain.spending import disconnected
from watchtower.chain.conditions import Conditions
from watchtower.chain.follow import Follower
from watchtower.chain.scan import BlockScan
from watchtower.ports import Clock, EventStore, Node, NodeError, ReadModels
from watchtower.repository import Channels

UNSPENT, SPENT = 1, 2
"""Values of `AuditMismatch.expected` and `found`."""

BATCH = 1_000


class Arming:
    """Checks funding outputs against the node. Called from the pass thread only."""

    def __init__(
        self,
        *,
        node: Node,
        store: EventStore,
        channels: Channels,
        models: ReadModels,
        follower: Follower,
        conditions: Conditions,
        clock: Clock,
    ) -> None:
        self._node = node
        self._store = store
        self._channels = channels
        self._models = models
        self._follower = follower
        self._conditions = conditions
        self._clock = clock
        self._waiting: set[str] = set()

    def add(self, streams: Iterable[str]) -> None:
        """Queue channels for the next check."""
        self._waiting.update(streams)

    def check(self, streams: Iterable[str]) -> None:
        """Check these channels now, or in the next pass if the tip is moving."""
        self.add(streams)
        todo = sorted(self._waiting)[:BATCH]
        if not todo:
            return
        channels = [c for c in map(self._channels.find, todo) if c is not None and _should_be_unspent(c)]
        found = self._node.utxos([c.params.funding_outpoint for c in channels], include_mempool=False)
        if self._node.best_hash() != self._follower.cursor.hash:
            return
        self._waiting.difference_update(todo)
        for channel, utxo in zip(channels, found, strict=True):
            if utxo is None and self._funding_block_stands(channel):
                self._search(channel)

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
        self._store.append(envelopes(channel.stream, channel.version, events), chain=True)
        self._models.catch_up()
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
        for height in range(first, cursor.height + 1):
            block_hash = self._node.hash_at(height)
            if block_hash is None:
                raise NodeError("the chain became shorter during a search; try again")
            scan = BlockScan(self._channels, self._models, self._conditions, now)
            _, facts, _ = scan.facts(self._node.block(block_hash), BlockRef(height, block_hash), Source.AUDIT)
            if facts.job:
                self._store.append(facts.job, chain=True)
                self._models.catch_up()
                self._conditions.note(facts.streams)


def _should_be_unspent(channel: Channel) -> bool:
    """Confirmed, or registered as an output that existed already (then without its transaction)."""
    existed = channel.funding_block is not None or (channel.funding_tx is None and not channel.funding_seen)
    return existed and channel.confirmed_spend is None and channel.resolved is None
