"""Makes the cursor equal to the node's tip, one block per store transaction; never skips, never guesses.

A block that cannot be fetched or parsed stops the cursor in front of it. Blocks are fetched by hash, so one
pass never mixes two chains. The chain stream's version is the compare-and-set of the cursor: a second writer
makes the append fail as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from domain import cursor as cursors
from domain.chain import BlockHeader, BlockRef, chain_hash, display
from domain.contract.scripts import funding_output
from domain.cursor import ChainCursor, Move, next_move
from domain.events import (
    CHAIN_STREAM,
    BlockConnected,
    BlockUnavailable,
    BreachDetected,
    ChannelResolved,
    Envelope,
    Payload,
    PenaltyConfirmed,
    Source,
    UnavailableReason,
    envelopes,
)
from domain.spending import disconnected, funding_seen
from domain.units import FINAL_DEPTH
from watchtower.chain.facts import Facts, FollowReport
from watchtower.chain.fetch import Fetch
from watchtower.chain.gap import Gap
from watchtower.chain.needs import Needs
from watchtower.chain.scan import BlockScan
from watchtower.node.blocks import scan_block
from watchtower.ports import (
    BlockNotAvailable,
    HeaderInfo,
    NodeError,
    NodeUnavailable,
    StoreConflict,
    StoreError,
    WrongChain,
)

FIRST_HISTORY = FINAL_DEPTH
"""Blocks below the tip that a new tower can step back from its first day on: the deepest reorg that is promised."""

TAIL_MARGIN = 500
"""Events of the chain stream that a start reads beyond the undo limit: reorgs and events that move nothing."""


class NodeBehind(NodeError):
    """The node has less chainwork than our cursor: rolled back or syncing. Nothing is disconnected."""

    slug: ClassVar[str] = "node-behind"


class CursorUnknown(NodeError):
    """None of our recent blocks is on the node's chain: another chain, or a reorg beyond the undo limit."""

    slug: ClassVar[str] = "cursor-unknown"


class Follower:
    """Owns the cursor. Called from one thread only.

    `blocks_passed_over` counts blocks of this run that nobody could hand over, `transactions_scanned` those of all
    blocks that were read.
    """

    def __init__(
        self,
        needs: Needs,
        *,
        network: str,
        limit: int = cursors.UNDO_LIMIT,
        blocks_per_run: int = cursors.UNDO_LIMIT,
    ) -> None:
        self._node = needs.node
        self._store = needs.store
        self._channels = needs.channels
        self._models = needs.models
        self._conditions = needs.conditions
        self._clock = needs.clock
        self._failpoint = needs.failpoint
        self._network = network
        self._limit = limit
        self._blocks_per_run = blocks_per_run
        self._cursor: ChainCursor | None = None
        self._in_doubt = False
        self._fetch = Fetch(needs.node, needs.failpoint)
        self._gap = Gap(needs.node, needs.channels, needs.models, needs.conditions)
        self._noted_gone: BlockRef | None = None
        self.blocks_passed_over = 0
        self.transactions_scanned = 0

    @property
    def cursor(self) -> ChainCursor:
        """Where the log says we stand; `start` must have been called."""
        if self._cursor is None:
            raise StoreError("the cursor was not started: no node was ever reached")
        return self._cursor

    def load(self) -> ChainCursor | None:
        """Read the cursor from the log (None before the first contact with a node)."""
        self._cursor, self._in_doubt = self._from_tail() or self._from_all(), False
        return self._cursor

    def _from_tail(self) -> ChainCursor | None:
        """From the last events only: after years the stream is long, and a restart must not read all of it."""
        version, length = self._store.version(CHAIN_STREAM), self._limit + TAIL_MARGIN
        first = self._store.read_stream(CHAIN_STREAM, limit=1)
        while length < version:
            tail = self._store.read_stream(CHAIN_STREAM, after=version - length)
            cursor = cursors.from_tail(first[0], tail, self._limit)
            if cursor is not None:
                return cursor
            length *= 2
        return None

    def _from_all(self) -> ChainCursor | None:
        cursor: ChainCursor | None = None
        for event in self._store.read_stream(CHAIN_STREAM):
            cursor = cursors.evolve(cursor, event, self._limit)
        return cursor

    def start(self) -> ChainCursor:
        """Check the chain; at the first contact set the cursor to the node's tip. Raises `WrongChain`."""
        info = self._node.chain_info()
        if info.network != self._network:
            raise WrongChain(
                f"the node follows {info.network}, this tower watches {self._network}; point it at another node"
            )
        known = self.load()
        if known is None and self._knows_channels():
            raise StoreError("the log has channels and no cursor: it is damaged, or written by another program")
        if known is not None:
            if known.chain_hash != chain_hash(self._network):
                raise WrongChain("the store belongs to another chain than the configured network")
            return known
        self._append(self._first_blocks(info.best_hash))
        return self.cursor

    def _knows_channels(self) -> bool:
        models = self._models
        return bool(models.contested() or models.pending_funding() or models.funding_outpoints(b"", 1))

    def _first_blocks(self, tip: bytes) -> list[Envelope]:
        """The cursor at a block below the tip and the headers up to it: a reorg may reach below our first block.

        No channel exists yet, so there is nothing to look for in these blocks.
        """
        headers = self._headers_down(tip, FIRST_HISTORY)
        now, bottom = self._clock.wall_microseconds(), headers[-1]
        block = BlockRef(bottom.height, bottom.hash)
        job = envelopes(CHAIN_STREAM, 0, cursors.start(block, chain_hash(self._network), bottom.chainwork, now))
        cursor = cursors.evolve(None, job[0], self._limit)
        for header in reversed(headers[:-1]):
            step = cursors.connect(cursor, BlockHeader.parse(header.raw), Source.CATCH_UP, now)
            job += envelopes(CHAIN_STREAM, cursor.version, [step])
            cursor = cursors.evolve(cursor, job[-1], self._limit)
        return job

    def _headers_down(self, tip: bytes, below: int) -> list[HeaderInfo]:
        """The header of a block and up to `below` headers under it, downwards; they are one chain by their hashes."""
        headers: list[HeaderInfo] = []
        wanted = tip
        while len(headers) <= below and (not headers or headers[-1].height > 0):
            header = self._node.header(wanted)
            if header is None:
                raise NodeError(f"the node does not know block {display(wanted)} below its own tip; try again")
            headers.append(header)
            wanted = header.prev
        return headers

    def follow(self, source: Source = Source.BLOCK) -> FollowReport:
        """Walk until the cursor is the node's tip, or so many blocks were connected that others get their turn.

        Raises `NodeError` kinds; what was connected stays connected.
        """
        if self._in_doubt:  # a commit failed, or only its answer was lost: the log knows where we stand
            self.load()
        connected = undone = 0
        while (tip := self._node.best_hash()) != self.cursor.hash:
            if connected >= self._blocks_per_run:
                return FollowReport(connected, undone, moved_again=True)
            if self._connect_next(source):
                connected += 1
                continue
            move = self._move(tip)
            if move is Move.DISCONNECT:
                self._disconnect()
                undone += 1
            elif move is Move.NODE_BEHIND:
                raise NodeBehind(f"the node's tip {display(tip)} has less work than block {self.cursor.height}")
            elif move is Move.UNKNOWN:
                raise CursorUnknown(f"the node does not know block {display(self.cursor.hash)} or any before it")
            else:
                return FollowReport(connected, undone, moved_again=True)
        return FollowReport(connected, undone)

    def step_back(self) -> int:
        """Undo our blocks down to the newest one on the node's chain, whatever work that has: a person accepted it.

        Returns how many. Raises `CursorUnknown`.
        """
        fork = cursors.newest_active(self.cursor.trail, self._is_active)
        if fork is None:
            raise CursorUnknown("the node knows no block that the tower has seen; it is on another chain")
        undone = self.cursor.height - fork.height
        while self.cursor.hash != fork.hash:
            self._disconnect()
        return undone

    def _move(self, tip: bytes) -> Move:
        header = self._node.header(tip)
        if header is None:
            return Move.STAY
        return next_move(self.cursor, node_tip=tip, node_work=header.chainwork, is_active=self._is_active)

    def _is_active(self, block_hash: bytes) -> bool:
        header = self._node.header(block_hash)
        return header is not None and header.confirmations > 0

    def _connect_next(self, source: Source) -> bool:
        """Connect the block above the cursor if it builds on it; False means: look at the chain again."""
        block_hash = self._node.hash_at(self.cursor.height + 1)
        if block_hash is None:
            return False
        header = self._node.header(block_hash)
        if header is None or header.prev != self.cursor.hash:
            return False
        block = BlockRef(self.cursor.height + 1, block_hash)
        try:
            raw = self._fetch.raw(block)
        except BlockNotAvailable:
            if not self._fetch.is_gone(block):
                raise
            self._pass_over(block, BlockHeader.parse(header.raw))
            return True
        self._until_written(lambda now: self._read(raw, block, source, now))
        return True

    def _read(self, raw: bytes, block: BlockRef, source: Source, now: int) -> tuple[BlockConnected, Facts]:
        scan = BlockScan(self._channels, self._models, self._conditions, now)
        header, facts, transactions = self._fetch.read(scan, raw, block, source)
        self.transactions_scanned += transactions
        return cursors.connect(self.cursor, header, source, now), facts

    def _pass_over(self, block: BlockRef, header: BlockHeader) -> None:
        """A block that nobody can hand over: it is recorded as such, and passed only with a proof of its content."""
        if self._noted_gone != block:
            why = UnavailableReason.PRUNED if self._node.chain_info().pruned_height else UnavailableReason.NODE_ERROR
            gone = BlockUnavailable(recorded_at=self._clock.wall_microseconds(), block=block, reason=why)
            self.note(envelopes(CHAIN_STREAM, self.cursor.version, [gone]))
            self._noted_gone = block

        def proved(now: int) -> tuple[BlockConnected, Facts]:
            return cursors.connect(self.cursor, header, Source.AUDIT, now), self._gap.facts(block, now)

        self._until_written(proved)
        self.blocks_passed_over += 1
        self._fetch.give_up_next(BlockRef(block.height + 1, self._node.hash_at(block.height + 1) or b""))

    def _until_written(self, work: Callable[[int], tuple[BlockConnected, Facts]]) -> None:
        """Work a block out and write it; again as a whole if a client's upload was faster on one of its channels."""
        while True:
            connected, facts = work(self._clock.wall_microseconds())
            job = envelopes(CHAIN_STREAM, self.cursor.version, [connected]) + facts.job
            points = ("connect", *commit_points(facts.job))
            self._pass_points(points, "before")
            try:
                self._append(job)
            except StoreConflict as conflict:
                self._retry(conflict)
                continue
            self._conditions.note(facts.streams)
            self._pass_points(points, "after")
            return

    def _pass_points(self, names: Sequence[str], when: str) -> None:
        for name in names:
            self._failpoint(f"{name}:{when}")

    def _disconnect(self) -> None:
        """Step back one block along our own walk and undo what our log says happened in it."""
        while True:
            now, block = self._clock.wall_microseconds(), self.cursor.tip
            facts = Facts(self._channels)
            streams = self._models.streams_in_block(block.hash)
            self._keep_funding(facts, streams, block, now)
            for stream in streams:
                facts.add(stream, disconnected(facts.channel(stream), block, now))
            step = cursors.disconnect(self.cursor, now)
            job = envelopes(CHAIN_STREAM, self.cursor.version, [step]) + facts.job
            self._failpoint("disconnect:before")
            try:
                self._append(job)
            except StoreConflict as conflict:
                self._retry(conflict)
                continue
            self._conditions.note(facts.streams)
            self._failpoint("disconnect:after")
            return

    def _keep_funding(self, facts: Facts, streams: Sequence[str], block: BlockRef, now: int) -> None:
        """Funding transactions of the block that are not stored yet: without their inputs nobody sees a double spend.

        A block that the node cannot hand over any more, or that cannot be read, does not stop the disconnect.
        """
        unknown = [c for c in map(facts.channel, streams) if c.funding_block == block and c.funding_tx is None]
        if not unknown:
            return
        try:
            raw = self._node.block(block.hash)
            created = scan_block(raw, (), tuple({funding_output(c.params).spk for c in unknown})).created
        except NodeUnavailable:
            raise
        except NodeError:
            return
        funded = {made.outpoint: made.raw for made in created}
        for channel in unknown:
            seen = funding_seen(channel, funded.get(channel.params.funding_outpoint), Source.BLOCK, now)
            facts.add(channel.stream, seen)

    def _retry(self, conflict: StoreConflict) -> None:
        if conflict.stream == CHAIN_STREAM:
            raise StoreError(
                "another process moved the cursor of this store; only one tower may run on it"
            ) from conflict
        self._channels.forget(conflict.stream)
        self._models.catch_up()

    def note(self, job: list[Envelope]) -> None:
        """Append events of the chain stream that do not move the cursor."""
        self._append(job)

    def _append(self, job: list[Envelope]) -> None:
        try:
            self._store.append(job, chain=True)
        except StoreConflict:
            raise
        except StoreError:
            self._in_doubt = True
            raise
        for event in job:
            if event.stream == CHAIN_STREAM:
                self._cursor = cursors.evolve(self._cursor, event, self._limit)
        self._models.catch_up()


def commit_points(job: Sequence[Envelope]) -> tuple[str, ...]:
    """Names of the failpoints around a commit that holds these events."""
    kinds = {type(event.payload) for event in job}
    return tuple(name for name, kind in _COMMIT_POINTS.items() if kind in kinds)


_COMMIT_POINTS: dict[str, type[Payload]] = {
    "breach_commit": BreachDetected,
    "confirm_commit": PenaltyConfirmed,
    "resolve_commit": ChannelResolved,
}
