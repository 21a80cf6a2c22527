"""Reads blocks again that were read before, by order of a person; what the log knows already is not written again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from domain.chain import BlockRef
from domain.channel import Channel
from domain.events import Source
from watchtower.chain.follow import Follower
from watchtower.chain.needs import Needs
from watchtower.chain.scan import BlockScan
from watchtower.ports import NodeError

PAGE = 1_000


class RescanReport(msgspec.Struct, frozen=True):
    """Heights that were read, both included (None: nothing to read), and the number of facts that were missing."""

    first: int | None
    last: int
    missing: int


class Rescan:
    """One rescan up to the cursor. Nothing else may use the store meanwhile."""

    def __init__(self, needs: Needs, follower: Follower) -> None:
        self._node = needs.node
        self._store = needs.store
        self._channels = needs.channels
        self._models = needs.models
        self._follower = follower
        self._conditions = needs.conditions
        self._clock = needs.clock

    def lowest(self) -> int | None:
        """The lowest height where the funding of a channel is that is not over; None without channels."""
        return min((_first_height(channel) for channel in self._open_channels()), default=None)

    def run(self, first: int | None, progress: Callable[[int], None] = lambda _height: None) -> RescanReport:
        """Read from `first` (default: `lowest`) to the cursor. Raises `NodeError`; what was found by then is kept."""
        self._conditions.refresh()
        begin = self.lowest() if first is None else first
        last = self._follower.cursor.height
        if begin is None:
            return RescanReport(None, last, 0)
        missing = 0
        for height in range(begin, last + 1):
            missing += self._read(height)
            progress(height)
        return RescanReport(begin, last, missing)

    def _open_channels(self) -> Iterator[Channel]:
        after = b""
        while page := self._models.funding_outpoints(after, PAGE):
            for outpoint in page:
                yield from (self._channels.load(stream) for stream in self._models.streams_of(outpoint))
            after = page[-1]

    def _read(self, height: int) -> int:
        block_hash = self._node.hash_at(height)
        if block_hash is None:
            raise NodeError(f"the node has no block at height {height} any more; try again")
        scan = BlockScan(self._channels, self._models, self._conditions, self._clock.wall_microseconds())
        _, facts, _ = scan.facts(self._node.block(block_hash), BlockRef(height, block_hash), Source.OPERATOR)
        if facts.job:
            self._store.append(facts.job, chain=True)
            self._models.catch_up()
            self._conditions.note(facts.streams)
        return len(facts.job)


def _first_height(channel: Channel) -> int:
    return channel.registered_at if channel.funding_block is None else channel.funding_block.height
