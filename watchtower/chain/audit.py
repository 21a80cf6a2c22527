"""The second, independent detector: asks the node for every funding output, and compares with what the log says.

It knows nothing of blocks until the answers disagree, and shares nothing with the scanner: a block that was skipped,
a mistake in the parser and a pruned node all show as an output that should be there and is not. One slice per pass,
after the answers to breaches; an answer counts only if the node's tip was our cursor before and after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice

import msgspec

from domain.chain import BlockRef, OutPoint, make_outpoint
from domain.channel import Channel
from domain.classifier import possible_spends
from domain.errors import MalformedInput
from domain.events import AuditMismatch, Envelope, Source, envelopes
from domain.transaction import Transaction
from watchtower.chain.facts import Facts
from watchtower.chain.follow import Follower, commit_points
from watchtower.chain.gap import record_spend, slices
from watchtower.chain.needs import Needs
from watchtower.chain.scan import BlockScan
from watchtower.ports import (
    NodeError,
    NodeUnavailable,
    StoreConflict,
    Utxo,
)

EVERY = 6
"""Blocks between two rounds."""

SLICE = 1_000
CANDIDATES = 500
"""Commitments that are computed in one step; about 0.1 s of the curve."""

SEARCHES = 4
"""Searches that one step carries on: however many channels disagree, the next pass must not wait for them all."""

BLOCKS = 2
"""Blocks that one step has the node read out; a full one costs a second."""

UNSPENT, SPENT = 1, 2
"""Values of `AuditMismatch.expected` and `found`."""


class AuditReport(msgspec.Struct, frozen=True):
    """`rounds` that asked for everything since the start, `disagreeing` channels now, cursor's height at the last."""

    rounds: int = 0
    disagreeing: int = 0
    height: int | None = None


class _Suspect:
    """A channel about which node and log disagree, and how far the search for the spender has come."""

    def __init__(self, channel: Channel, first: int) -> None:
        self.outpoint = channel.params.funding_outpoint
        self.candidates: Iterator[list[Transaction]] | None = slices(possible_spends(channel), CANDIDATES)
        self.asking: list[Transaction] | None = None
        self.next_height = first


class Audit:
    """Rounds over all funding outputs, and the search for what is missing. Called from the pass thread only."""

    def __init__(self, needs: Needs, follower: Follower) -> None:
        self._node = needs.node
        self._store = needs.store
        self._channels = needs.channels
        self._models = needs.models
        self._follower = follower
        self._conditions = needs.conditions
        self._clock = needs.clock
        self._failpoint = needs.failpoint
        self._asked_to: OutPoint | None = OutPoint(b"")
        self._round_clean = True
        self._begun_at: BlockRef | None = None
        self._agreed: BlockRef | None = None
        self._rounds = 0
        self._height: int | None = None
        self._suspects: dict[str, _Suspect] = {}

    @property
    def report(self) -> AuditReport:
        """Where the audit stands."""
        return AuditReport(self._rounds, len(self._suspects), self._height)

    @property
    def pending(self) -> bool:
        """True while a round or a search has steps left: another pass should follow soon."""
        return self._asked_to is not None or any(self._is_searching(s) for s in self._suspects.values())

    @property
    def in_round(self) -> bool:
        """True while a round has slices left."""
        return self._asked_to is not None

    def suspect(self, channel: Channel) -> None:
        """Search for the spend of this channel's funding output, which somebody else found missing."""
        if channel.stream not in self._suspects:
            first = channel.funding_block.height if channel.funding_block else channel.registered_at
            self._suspects[channel.stream] = _Suspect(channel, first)

    def request(self) -> None:
        """Begin a round: at the start, and after anything that cast doubt on what was read."""
        self._asked_to = OutPoint(b"")
        self._round_clean = True
        self._begun_at = None

    def step(self, size: int | None = None) -> bool:
        """One slice of the round, one step of each search; False if the node's tip is not our cursor.

        `size` is that of the slice, `SLICE` if it is not given.
        Raises `NodeError`. What a search finds is in the log when this returns; the next pass answers it.
        """
        cursor = self._follower.cursor
        if self._asked_to is None and (self._height is None or abs(cursor.height - self._height) >= EVERY):
            self.request()
        if not self.pending and not self._suspects:
            return True
        if self._node.best_hash() != cursor.hash:
            return False
        if not self._ask_suspects(cursor.hash):
            return False
        if self._asked_to is not None and not self._ask_slice(cursor.tip, size or SLICE):
            return False
        searching = (stream for stream, suspect in self._suspects.items() if self._is_searching(suspect))
        for stream in list(islice(searching, SEARCHES)):
            self._search(stream)
        return True

    # --- comparing ------------------------------------------------------------------------------------------------

    def _answers(self, outpoints: Sequence[OutPoint], tip: bytes) -> list[Utxo | None] | None:
        """The node's answers, or None if they are not about our cursor's tip."""
        self._failpoint("audit_query:before")
        answers = self._node.utxos(outpoints, include_mempool=False)
        self._failpoint("audit_query:after")
        return answers if self._node.best_hash() == tip else None

    def _ask_suspects(self, tip: bytes) -> bool:
        """Those that agree again are no suspects any more."""
        if not self._suspects:
            return True
        streams = list(self._suspects)
        answers = self._answers([self._suspects[stream].outpoint for stream in streams], tip)
        if answers is None:
            return False
        for stream, utxo in zip(streams, answers, strict=True):
            if not _disagrees(self._channels.load(stream), utxo):
                del self._suspects[stream]
        return True

    def _ask_slice(self, tip: BlockRef, size: int) -> bool:
        assert self._asked_to is not None
        outpoints = self._models.funding_outpoints(self._asked_to, size)
        answers = self._answers(outpoints, tip.hash) if outpoints else []
        if answers is None:
            return False
        self._begun_at = self._begun_at or tip
        contested = set(self._models.contested())
        for outpoint, utxo in zip(outpoints, answers, strict=True):
            for stream in self._models.streams_of(outpoint):
                # What is there and should be there needs no look at the channel.
                if utxo is None or stream in contested:
                    self._judge(stream, utxo, tip)
        self._asked_to = outpoints[-1] if len(outpoints) == size else None
        if self._asked_to is None:
            self._rounds += 1
            self._height = tip.height
            if self._round_clean:
                self._agreed = self._begun_at
        return True

    def _judge(self, stream: str, utxo: Utxo | None, tip: BlockRef) -> None:
        channel = self._channels.load(stream)
        if not _disagrees(channel, utxo):
            return
        self._round_clean = False
        known = self._suspects.get(stream)
        if known is not None and self._is_searching(known):
            return
        first = channel.funding_block.height if channel.funding_block else channel.registered_at
        self._suspects[stream] = _Suspect(channel, max(first, self._not_compared()))
        if known is None:
            self._note(channel, utxo, tip)

    def _not_compared(self) -> int:
        """The lowest height that no clean round has seen; 0 if a reorg has replaced what it saw."""
        agreed = self._agreed
        if agreed is None or agreed.height > self._follower.cursor.height or self._block_at(agreed.height) != agreed:
            return 0
        return agreed.height + 1

    def _note(self, channel: Channel, utxo: Utxo | None, tip: BlockRef) -> None:
        mismatch = AuditMismatch(
            recorded_at=self._clock.wall_microseconds(),
            outpoint=channel.params.funding_outpoint,
            expected=UNSPENT if utxo is None else SPENT,
            found=SPENT if utxo is None else UNSPENT,
            block=tip,
        )
        self._failpoint("audit_commit:before")
        self._follower.note(envelopes("chain", self._follower.cursor.version, [mismatch]))
        self._failpoint("audit_commit:after")

    # --- searching ------------------------------------------------------------------------------------------------

    def _is_searching(self, suspect: _Suspect) -> bool:
        return suspect.candidates is not None or suspect.next_height <= self._follower.cursor.height

    def _search(self, stream: str) -> None:
        """Computed commitments first: they are cheap and need no block. Then blocks, as the node reads them."""
        suspect = self._suspects[stream]
        if suspect.candidates is not None:
            some = suspect.asking = suspect.asking or next(suspect.candidates, None)
            if some is None:
                suspect.candidates = None
                return
            found = self._find_among(stream, some)  # without an answer the same ones are asked for in the next step
            if found is not None:
                suspect.asking = None
            if found:
                suspect.candidates, suspect.next_height = None, self._follower.cursor.height + 1
            return
        for height in range(suspect.next_height, min(suspect.next_height + BLOCKS, self._follower.cursor.height + 1)):
            self._read_again(height)
            suspect.next_height = height + 1

    def _find_among(self, stream: str, txs: Sequence[Transaction]) -> bool | None:
        """Whether one of them is in a block; None if the node's tip is not our cursor."""
        cursor = self._follower.cursor
        answers = self._answers([make_outpoint(tx.txid, 0) for tx in txs], cursor.hash)
        if answers is None:
            return None
        for tx, utxo in zip(txs, answers, strict=True):
            if utxo is not None and utxo.confirmations > 0:
                block = self._block_at(cursor.height - utxo.confirmations + 1)
                self._record(partial(self._spend, stream, tx, block))
                return True
        return False

    def _spend(self, stream: str, tx: Transaction, block: BlockRef) -> Facts:
        facts = Facts(self._channels)
        record_spend(self._channels, facts, stream, tx, block, self._clock.wall_microseconds())
        return facts

    def _read_again(self, height: int) -> None:
        """All facts of a block anew; those that are known already are none."""
        block = self._block_at(height)
        scan = BlockScan(self._channels, self._models, self._conditions, self._clock.wall_microseconds())
        try:
            decoded = self._node.decoded_block(block.hash)
            self._record(lambda: scan.facts_decoded(decoded, block, Source.AUDIT)[1])
        except NodeUnavailable:
            raise
        except (NodeError, MalformedInput):
            return  # pruned or unreadable: the search goes on above it, and the channel stays a suspect

    def _block_at(self, height: int) -> BlockRef:
        """The block of our own walk at a height, below its memory that of the node."""
        trail = self._follower.cursor.trail
        bottom = trail[0].block.height
        if height >= bottom:
            return trail[height - bottom].block
        block_hash = self._node.hash_at(height)
        if block_hash is None:
            raise NodeError("the chain became shorter during an audit; try again")
        return BlockRef(height, block_hash)

    def _record(self, work: Callable[[], Facts]) -> None:
        while True:
            facts = work()
            job: list[Envelope] = facts.job
            if not job:
                return
            points = ("audit_commit", *commit_points(job))
            self._pass_points(points, "before")
            try:
                self._store.append(job, chain=True)
            except StoreConflict as conflict:
                self._channels.forget(conflict.stream)
                continue
            self._pass_points(points, "after")
            self._models.catch_up()
            self._conditions.note(facts.streams)
            return

    def _pass_points(self, names: Sequence[str], when: str) -> None:
        for name in names:
            self._failpoint(f"{name}:{when}")


def _disagrees(channel: Channel, utxo: Utxo | None) -> bool:
    """The log says that the funding output is there and the node does not find it, or the other way round."""
    if utxo is not None:
        return channel.confirmed_spend is not None
    if channel.confirmed_spend is not None or channel.double_spend is not None or channel.resolved is not None:
        return False
    # Registered as an output that existed already (then without its transaction) counts as confirmed.
    return channel.funding_block is not None or (channel.funding_tx is None and not channel.funding_seen)
