"""From a block to events: which watched outpoints it spends and which funding outputs it creates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from domain.chain import BlockHeader, BlockRef, OutPoint, make_outpoint, outpoint_txid
from domain.channel import Channel
from domain.classifier import classify, encoded_number
from domain.events import Source
from domain.settling import condition_outpoints, preimages_learned
from domain.spending import (
    contest_confirmed,
    funding_confirmed,
    funding_double_spent,
    matured,
    spend_confirmed,
)
from domain.transaction import Transaction
from watchtower.chain.facts import Facts
from watchtower.node.blocks import Hit, scan_block
from watchtower.ports import ReadModels
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
        facts = Facts(self._channels)
        pending = {p.spk: p.stream for p in self._models.pending_funding()}
        watched = self if self._conditions else self._models.watched
        scan = scan_block(raw, watched, find_outputs=tuple(pending), follow=self._follow)
        for created in scan.created:
            stream = pending[created.spk]
            if facts.channel(stream).params.funding_outpoint == created.outpoint:
                facts.add(stream, funding_confirmed(facts.channel(stream), block, self._now))
        for hit in scan.hits:
            tx = Transaction.parse(hit.raw)
            for outpoint in hit.outpoints:
                for stream in self._streams(outpoint):
                    self._spent(facts, stream, tx, hit.raw, outpoint, block, source)
        for stream in self._models.contested():
            facts.add(stream, matured(facts.channel(stream), block.height, self._now))
        self._mature_void_channels(facts, block)
        return scan.header, facts, scan.tx_count

    def __contains__(self, outpoint: object) -> bool:
        return outpoint in self._models.watched or outpoint in self._conditions

    def _follow(self, hit: Hit) -> Iterable[bytes]:
        """A spend of a funding outpoint makes its output 0 interesting for the rest of the same block."""
        followed = []
        for outpoint in hit.outpoints:
            stream = self._stream(outpoint)
            if stream is not None:
                contest = make_outpoint(hit.txid, 0)
                self._in_block[contest] = stream
                followed.append(contest)
        return followed

    def _stream(self, outpoint: bytes) -> str | None:
        return (
            self._models.stream_of_outpoint(outpoint) or self._in_block.get(outpoint) or self._conditions.get(outpoint)
        )

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
        elif outpoint in condition_outpoints(channel):
            facts.add(stream, preimages_learned(channel, tx, source, self._now))
        elif tx.txid != channel.params.funding_txid:
            facts.add(stream, funding_double_spent(channel, tx.txid, block, self._now))

    def _own_txid(self, channel: Channel, tx: Transaction) -> bytes | None:
        return self._channels.own_commitment_txid(channel, encoded_number(channel.params, tx))

    def _mature_void_channels(self, facts: Facts, block: BlockRef) -> None:
        for stream in (p.stream for p in self._models.pending_funding() if p.void):
            facts.add(stream, matured(facts.channel(stream), block.height, self._now))
