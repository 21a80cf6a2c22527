"""Passes a block that nobody can hand over any more, if the set of unspent outputs proves what happened in it.

An output that is unspent at the node's tip was spent in no block below it. One that is gone must be explained: by a
transaction that can be computed and whose output still stands, which names the block; or by a later block that can be
read. What stays unexplained may have been spent in the missing block: then the cursor does not move
(docs/adr/0016-missing-blocks.md). Shares nothing with the scanner of raw blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

import msgspec

from domain.chain import BlockHash, BlockRef, OutPoint, display, make_outpoint
from domain.channel import Channel
from domain.classifier import classify, encoded_number, possible_spends
from domain.events import Source
from domain.spending import contest_confirmed, funding_confirmed, spend_confirmed
from domain.transaction import Transaction
from watchtower.chain.decoded import spent_in
from watchtower.chain.facts import Facts
from watchtower.chain.scan import BlockScan
from watchtower.ports import BlockNotAvailable, Node, NodeError, ReadModels, Utxo
from watchtower.repository import Channels

Item = TypeVar("Item")

SLICE = 1_000
LATER_BLOCKS = 10
"""Blocks above the gap that one pass reads in search of a spend; a full one costs the node a second."""

LATER_QUESTIONS = 25
"""Blocks above the gap that one pass asks for: a node that lacks one block may lack thousands above it."""


class Finding(msgspec.Struct, frozen=True):
    """What an unspent output proves about a channel: `tx` is in the block with this hash, or its funding is (None)."""

    stream: str
    tx: Transaction | None
    block_hash: bytes


class Proof(msgspec.Struct, frozen=True):
    """Findings by the tip that the answers are about; `open` are outputs whose spender is not known."""

    tip: bytes
    height: int
    findings: tuple[Finding, ...]
    open: frozenset[OutPoint]


class Gap:
    """Facts about blocks that cannot be read. Called from the pass thread only."""

    def __init__(self, node: Node, channels: Channels, models: ReadModels, conditions: Mapping[bytes, str]) -> None:
        self._node = node
        self._channels = channels
        self._models = models
        self._conditions = conditions
        self._proof: Proof | None = None
        self._later: dict[bytes, frozenset[OutPoint]] = {}
        self._witnesses: dict[OutPoint, tuple[int, bytes]] = {}
        self._wanted: frozenset[OutPoint] = frozenset()

    def facts(self, block: BlockRef, now: int) -> Facts:
        """The events of the missing block above our cursor; raises `BlockNotAvailable` if anything is unexplained."""
        proof = self._prove()
        if proof.open:
            self._explain_later(proof, block)
        facts = Facts(self._channels)
        for finding in proof.findings:
            if finding.block_hash == block.hash:
                self._add(facts, finding, block, now)
        BlockScan(self._channels, self._models, self._conditions, now).mature(facts, block)
        return facts

    # --- the questions --------------------------------------------------------------------------------------------

    def _prove(self) -> Proof:
        tip = self._node.best_hash()
        if self._proof is not None and self._proof.tip == tip:
            return self._proof
        header = self._node.header(tip)
        if header is None:
            raise NodeError("the node does not know its own tip; try again")
        findings: list[Finding] = []
        unexplained: set[OutPoint] = set()
        self._ask_fundings(header.height, findings, unexplained)
        self._ask_contests(header.height, findings, unexplained)
        conditions = sorted(OutPoint(point) for point in self._conditions)
        unexplained.update(point for point, utxo in self._ask(conditions) if utxo is None)
        if self._node.best_hash() != tip:
            raise NodeError("the chain moved while outputs were asked for; try again")
        self._proof = Proof(tip, header.height, tuple(findings), frozenset(unexplained))
        return self._proof

    def _ask(self, outpoints: Iterable[OutPoint]) -> Iterator[tuple[OutPoint, Utxo | None]]:
        for some in slices(outpoints, SLICE):
            yield from zip(some, self._node.utxos(some, include_mempool=False), strict=True)

    def _ask_fundings(self, tip_height: int, findings: list[Finding], unexplained: set[OutPoint]) -> None:
        pending = {p.stream for p in self._models.pending_funding() if not p.void}
        for outpoint, utxo in self._ask(self._fundings()):
            for stream in self._models.streams_of(outpoint):
                if utxo is not None and stream in pending:
                    findings.append(Finding(stream, None, self._block_of(utxo, tip_height)))
                elif utxo is None:
                    unexplained |= self._explain(self._channels.load(stream), tip_height, findings)

    def _fundings(self) -> Iterator[OutPoint]:
        after = OutPoint(b"")
        while page := self._models.funding_outpoints(after, SLICE):
            yield from page
            after = page[-1]

    def _explain(self, channel: Channel, tip_height: int, findings: list[Finding]) -> set[OutPoint]:
        """Why an absent funding output is absent; what has to be explained by later blocks instead."""
        if channel.confirmed_spend is not None or channel.double_spend is not None or channel.resolved is not None:
            return set()
        taken = self._taken_coins(channel)
        if taken is not None and not taken:
            return set()  # a funding transaction whose coins are all there is in no block
        found = self._find_output(possible_spends(channel), tip_height)
        if found is None:
            return {channel.params.funding_outpoint} if taken is None else taken
        findings.append(Finding(channel.stream, *found))
        return set()

    def _taken_coins(self, channel: Channel) -> set[OutPoint] | None:
        """Coins of an unconfirmed funding transaction that are gone; None if it is confirmed, or was never seen."""
        if channel.funding_block is not None or channel.funding_tx is None:
            return None
        coins = [source.outpoint for source in Transaction.parse(channel.funding_tx).inputs]
        return {coin for coin, utxo in self._ask(coins) if utxo is None}

    def _ask_contests(self, tip_height: int, findings: list[Finding], unexplained: set[OutPoint]) -> None:
        """Contest outputs of commitments in blocks: what spent them is our latest penalty or unknown."""
        for stream in self._models.contested():
            channel = self._channels.load(stream)
            spend = channel.confirmed_spend
            if spend is None or channel.contest_spend(spend.txid) is not None:
                continue
            ((_, utxo),) = self._ask([spend.contest])
            if utxo is not None:
                continue
            bids = (Transaction.parse(bid.raw) for bid in reversed(channel.bids_on(spend.txid)))
            found = self._find_output(bids, tip_height)
            if found is None:
                unexplained.add(spend.contest)
            else:
                findings.append(Finding(stream, *found))

    def _find_output(self, txs: Iterable[Transaction], tip_height: int) -> tuple[Transaction, bytes] | None:
        """The first of these transactions whose output 0 stands, and the block that it is in."""
        for some in slices(txs, SLICE):
            answers = self._node.utxos([make_outpoint(tx.txid, 0) for tx in some], include_mempool=False)
            for tx, utxo in zip(some, answers, strict=True):
                if utxo is not None:
                    return tx, self._block_of(utxo, tip_height)
        return None

    def _block_of(self, utxo: Utxo, tip_height: int) -> BlockHash:
        found = self._node.hash_at(tip_height - utxo.confirmations + 1)
        if found is None:
            raise NodeError("the chain became shorter while outputs were asked for; try again")
        return found

    # --- spends in later blocks -------------------------------------------------------------------------------------

    def _explain_later(self, proof: Proof, block: BlockRef) -> None:
        """Look for the open spends in blocks above that can be read; raises `BlockNotAvailable` while one is open."""
        if not proof.open <= self._wanted:
            self._later, self._witnesses, self._wanted = {}, {}, proof.open
        left = self._unwitnessed(proof.open, block)
        if left:
            left = self._search(left, range(block.height + 1, proof.height + 1))
        if left:
            raise BlockNotAvailable(
                f"block {display(block.hash)} at height {block.height} cannot be had, and {len(left)} watched outputs "
                "are gone without a known spender; give the node the block back, or set second_node.rpc_url"
            )

    def _unwitnessed(self, outpoints: frozenset[OutPoint], block: BlockRef) -> set[OutPoint]:
        """Those without a known spend in a block above that is still in the chain.

        Asked for each missing block: one question for each block that answered before, however long the gap is.
        """
        claimed = {self._witnesses[point] for point in outpoints if point in self._witnesses}
        holds = {
            (height, seen)
            for height, seen in claimed
            if height > block.height and self._node.hash_at(height) == seen  # None above a tip that is lower now
        }
        return {point for point in outpoints if self._witnesses.get(point) not in holds}

    def _search(self, left: set[OutPoint], heights: range) -> set[OutPoint]:
        """Read blocks upwards until all spends are found, or this pass has asked enough; returns what is not found."""
        read, asked = 0, 0
        for height in heights:
            block_hash = self._at(height)
            if block_hash not in self._later:
                if read == LATER_BLOCKS or asked == LATER_QUESTIONS:
                    break
                asked += 1
                read += self._read(block_hash)
            found = left & self._later[block_hash]
            self._witnesses.update(dict.fromkeys(found, (height, block_hash)))
            left = left - found
            if not left:
                break
        return left

    def _at(self, height: int) -> BlockHash:
        found = self._node.hash_at(height)
        if found is None:
            raise NodeError("the chain became shorter during a search; try again")
        return found

    def _read(self, block_hash: bytes) -> int:
        """Note what a block spends; returns 1 if it could be read."""
        try:
            block = self._node.decoded_block(block_hash)
        except BlockNotAvailable:
            self._later[block_hash] = frozenset()
            return 0
        self._later[block_hash] = frozenset(spent_in(block, self._wanted))
        return 1

    # --- the events -------------------------------------------------------------------------------------------------

    def _add(self, facts: Facts, finding: Finding, block: BlockRef, now: int) -> None:
        channel, tx = facts.channel(finding.stream), finding.tx
        if tx is None:
            facts.add(finding.stream, funding_confirmed(channel, block, now))
            return
        commitment = channel.confirmed_spend
        if commitment is not None and commitment.contest in {source.outpoint for source in tx.inputs}:
            facts.add(finding.stream, contest_confirmed(channel, commitment, tx, block, now))
            return
        record_spend(self._channels, facts, finding.stream, tx, block, now)


def record_spend(channels: Channels, facts: Facts, stream: str, tx: Transaction, block: BlockRef, now: int) -> None:
    """A computed transaction is in a block: the spend of the funding output, and before it the funding if need be."""
    channel = facts.channel(stream)
    if channel.funding_block is None:
        facts.add(stream, funding_confirmed(channel, block, now))
        channel = facts.channel(stream)
    own = channels.own_commitment_txid(channel, encoded_number(channel.params, tx))
    # Bytes without signatures are of no use to anybody who wants to send them again.
    raw = tx.serialize() if any(source.witness for source in tx.inputs) else None
    verdict = classify(channel, tx, own)
    facts.add(stream, spend_confirmed(channel, tx, raw, verdict, block, Source.AUDIT, now))


def slices(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of at most `size` items, in order."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
