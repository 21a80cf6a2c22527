"""From a block to events: which watched outpoints it spends and which funding outputs it creates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from domain.chain import BlockHeader, BlockRef, OutPoint, make_outpoint, outpoint_txid
from domain.channel import Channel
from domain.classifier import classify, encoded_number
from domain.conditional import ConditionalOutput, conditional_outputs, keeps_open, output_taken, preimages_learned
from domain.events import Source
from domain.spending import (
    contest_confirmed,
    funding_confirmed,
    funding_double_spent,
    matured,
    spend_confirmed,
)
from domain.transaction import Transaction
from watchtower.chain.decoded import scan_decoded
from watchtower.chain.facts import Facts
from watchtower.node.blocks import BlockScan as Found
from watchtower.node.blocks import Hit, scan_block
from watchtower.ports import DecodedBlock, ReadModels
from watchtower.repository import Channels


class BlockScan:
    """Works out all channel events of one block in memory; nothing is written here."""

    def __init__(self, channels: Channels, models: ReadModels, conditions: Mapping[bytes, str], now: int) -> None:
        self._channels = channels
        self._models = models
        self._conditions = conditions
        self._now = now
        self._in_block: dict[bytes, tuple[str, ...]] = {}

    def facts(self, raw: bytes, block: BlockRef, source: Source) -> tuple[BlockHeader, Facts, int]:
        """Header, collected events and number of transactions of a serialized block."""
        scripts = self._funding_scripts()
        scan = scan_block(raw, self._models.watched, scripts, self._follow, self._conditions, self._models.sieve)
        return scan.header, self._facts(scan, block, source), scan.tx_count

    def facts_decoded(self, decoded: DecodedBlock, block: BlockRef, source: Source) -> tuple[BlockHeader, Facts, int]:
        """The same of a block that the node has read for us."""
        scan = scan_decoded(decoded, self._models.watched, self._funding_scripts(), self._follow, self._conditions)
        return scan.header, self._facts(scan, block, source), scan.tx_count

    def _funding_scripts(self) -> tuple[bytes, ...]:
        return tuple(dict.fromkeys(p.spk for p in self._models.pending_funding()))

    def _facts(self, scan: Found, block: BlockRef, source: Source) -> Facts:
        facts = Facts(self._channels)
        for created in scan.created:
            for stream in self._models.streams_of(created.outpoint):
                facts.add(stream, funding_confirmed(facts.channel(stream), block, self._now))
        for hit in scan.hits:
            tx = Transaction.parse(hit.raw)
            for outpoint in hit.outpoints:
                for stream in self._streams(outpoint):
                    self._spent(facts, stream, tx, hit.raw, outpoint, block, source)
        self.mature(facts, block)
        return facts

    def mature(self, facts: Facts, block: BlockRef) -> None:
        """What becomes final because of the block's height alone."""
        for stream in self._models.contested():
            channel = facts.channel(stream)
            facts.add(stream, matured(channel, block.height, self._now, partial(self._keeps_open, channel, block)))
        self._mature_void_channels(facts, block)

    def _follow(self, hit: Hit) -> Iterable[bytes]:
        """The outputs of a hit are interesting for the rest of the same block.

        Output 0 of a commitment is its contest output; those of a settlement are the conditional outputs.
        """
        streams = tuple(dict.fromkeys(stream for outpoint in hit.outpoints for stream in self._streams(outpoint)))
        followed = [make_outpoint(hit.txid, vout) for vout in range(hit.output_count)] if streams else []
        self._in_block.update(dict.fromkeys(followed, streams))
        return followed

    def _streams(self, outpoint: bytes) -> tuple[str, ...]:
        condition = self._conditions.get(outpoint)
        known = self._models.streams_of(outpoint) or self._in_block.get(outpoint, ())
        return known if condition is None or condition in known else (*known, condition)

    def _spent(
        self,
        facts: Facts,
        stream: str,
        tx: Transaction,
        raw: bytes,
        outpoint: OutPoint,
        block: BlockRef,
        source: Source,
    ) -> None:
        channel = facts.channel(stream)
        commitment = channel.spend(outpoint_txid(outpoint))
        if outpoint == channel.params.funding_outpoint:
            verdict = classify(channel, tx, self._own_txid(channel, tx))
            facts.add(stream, spend_confirmed(channel, tx, raw, verdict, block, source, self._now))
        elif commitment is not None and outpoint == commitment.contest:
            facts.add(stream, contest_confirmed(channel, commitment, tx, block, self._now))
        elif (taken := self._outputs(channel).get(outpoint)) is not None:
            facts.add(stream, preimages_learned(channel, (taken,), tx, source, self._now))
            known = self._models.preimage
            facts.add(stream, output_taken(facts.channel(stream), taken, tx, block, known, self._now))
        elif tx.txid != channel.params.funding_txid and _is_funding_input(channel, outpoint):
            facts.add(stream, funding_double_spent(channel, tx.txid, block, self._now))

    def _outputs(self, channel: Channel) -> dict[OutPoint, ConditionalOutput]:
        found = conditional_outputs(channel, self._channels.closing_state(channel))
        return {output.outpoint: output for output in found}

    def _keeps_open(self, channel: Channel, block: BlockRef) -> bool:
        return keeps_open(channel, list(self._outputs(channel).values()), self._models.preimage, block.height)

    def _own_txid(self, channel: Channel, tx: Transaction) -> bytes | None:
        return self._channels.own_commitment_txid(channel, encoded_number(channel.params, tx))

    def _mature_void_channels(self, facts: Facts, block: BlockRef) -> None:
        for stream in (p.stream for p in self._models.pending_funding() if p.void):
            facts.add(stream, matured(facts.channel(stream), block.height, self._now))


def _is_funding_input(channel: Channel, outpoint: OutPoint) -> bool:
    if channel.funding_tx is None:
        return False
    return any(source.outpoint == outpoint for source in Transaction.parse(channel.funding_tx).inputs)
