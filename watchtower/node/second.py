"""A second node beside the own one: blocks that the own one lost, broadcasts on two ways, a look at another tip.

The cursor follows the own node alone. The second one is optional help: it is asked with a short limit, and after a
failure left alone for a while, so that it can never hold up a pass for long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import msgspec
import structlog

from domain.chain import BlockHash, BlockHeader, OutPoint, Txid, work_of_bits
from domain.errors import MalformedInput
from domain.fees import Market
from watchtower.node.checks import require_network
from watchtower.node.proof import has_work, is_proved, is_proved_decoded
from watchtower.ports import (
    Answer,
    BlockNotAvailable,
    ChainInfo,
    DecodedBlock,
    HeaderInfo,
    MempoolEntry,
    Node,
    NodeError,
    Utxo,
    WrongChain,
)

_log = structlog.get_logger(__name__)

Result = TypeVar("Result")

SECONDS = 3.0
"""Limit of one call to the second node."""

REST = 30.0
"""Seconds without a call after a failure."""

TIP_AGE = 10.0
"""Seconds for which an answer about the tip is used again."""


LONGEST_LEAD = 2016
"""Headers that are followed back from the second node's tip to a block that the own node knows."""

EASIER = 4
"""So much easier may a block be than one that is at most `LONGEST_LEAD` below it (mainnet's rule of the difficulty)."""


class SecondTip(msgspec.Struct, frozen=True):
    """What the second node says that it follows: its tip, with height and cumulative work."""

    hash: BlockHash
    height: int
    chainwork: int


class SecondNode:
    """A node that may be asked and need not answer. Never raises for what the node does."""

    def __init__(self, node: Node, network: str, monotonic: Callable[[], float]) -> None:
        self._node = node
        self._network = network
        self._monotonic = monotonic
        self._is_right = False
        self._silent_until = float("-inf")
        self._tip: SecondTip | None = None
        self._tip_until = float("-inf")

    @property
    def is_up(self) -> bool:
        """False from a failure until the next call that works."""
        return self._is_right

    def ask(self, question: Callable[[Node], Result]) -> Result | None:
        """The node's answer, or None if it gives none, follows another chain, or failed a moment ago."""
        if self._monotonic() < self._silent_until:
            return None
        try:
            if not self._is_right:
                require_network(self._node, self._network)
                self._is_right = True
            return question(self._node)
        except BlockNotAvailable:
            return None
        except (NodeError, WrongChain) as error:
            _log.warning("second_node_lost", endpoint="second", reason=f"{error.slug}: {error}")
            self._is_right, self._tip = False, None
            self._silent_until = self._monotonic() + REST
            return None

    def tip(self) -> SecondTip | None:
        """Where the second node stands, at most 10 s old; None while it does not answer."""
        if self._monotonic() >= self._tip_until:
            self._tip = self.ask(_tip_of)
            self._tip_until = self._monotonic() + TIP_AGE
        return self._tip


def _tip_of(node: Node) -> SecondTip | None:
    info = node.chain_info()
    header = node.header(info.best_hash)
    return None if header is None else SecondTip(info.best_hash, header.height, header.chainwork)


def _header_of(node: Node, block_hash: BlockHash) -> BlockHeader | None:
    """The header with this hash; None if the node has no such header, or other bytes."""
    found = node.header(block_hash)
    if found is None:
        return None
    try:
        header = BlockHeader.parse(found.raw)
    except MalformedInput:
        return None
    return header if header.hash == block_hash else None


class TwoNodes:
    """The `Node` port over the own node, with the second one where it helps."""

    def __init__(self, own: Node, second: SecondNode) -> None:
        self._own = own
        self._second = second
        self._proved: tuple[bytes, int] = (b"", 0)

    def chain_info(self) -> ChainInfo:
        """Of the own node, with the height of the second one's tip if that is higher: deadlines count from there.

        It counts by its headers, not by the second node's word: near a deadline everything may be spent on fees.
        """
        info, tip = self._own.chain_info(), self._second.tip()
        if tip is None or tip.height <= info.headers:
            return info
        return msgspec.structs.replace(info, headers=max(info.headers, self._proved_height(tip.hash)))

    def _proved_height(self, tip: BlockHash) -> int:
        """Height of the second node's tip by the headers down to a block of our own node; 0 if one of them is wrong."""
        if tip != self._proved[0]:
            height = self._height_by_headers(tip)
            if not self._second.is_up:
                return 0  # it gave no answer, which proves nothing
            self._proved = tip, height
        return self._proved[1]

    def _height_by_headers(self, tip: BlockHash) -> int:
        headers: list[BlockHeader] = []
        wanted = tip
        while (known := self._own.header(wanted)) is None:
            header = self._second.ask(partial(_header_of, block_hash=wanted))
            if header is None or len(headers) == LONGEST_LEAD:
                return 0
            headers.append(header)
            wanted = header.prev
        least = work_of_bits(BlockHeader.parse(known.raw).bits) // EASIER
        return known.height + len(headers) if all(has_work(header, least) for header in headers) else 0

    def best_hash(self) -> BlockHash:
        """Of the own node."""
        return self._own.best_hash()

    def header(self, block_hash: bytes) -> HeaderInfo | None:
        """Of the own node."""
        return self._own.header(block_hash)

    def hash_at(self, height: int) -> BlockHash | None:
        """Of the own node."""
        return self._own.hash_at(height)

    def block(self, block_hash: bytes) -> bytes:
        """Of the own node; what that has no longer comes from the second one, if it is the whole block of this hash."""
        try:
            return self._own.block(block_hash)
        except BlockNotAvailable:
            found = self._second.ask(lambda node: node.block(block_hash))
            if found is None or not is_proved(found, block_hash):
                raise
            return found

    def decoded_block(self, block_hash: bytes) -> DecodedBlock:
        """As `block`."""
        try:
            return self._own.decoded_block(block_hash)
        except BlockNotAvailable:
            found = self._second.ask(lambda node: node.decoded_block(block_hash))
            if found is None or not is_proved_decoded(found, block_hash):
                raise
            return found

    def fetch_from_peers(self, block_hash: bytes) -> None:
        """To the own node."""
        self._own.fetch_from_peers(block_hash)

    def utxos(self, outpoints: Sequence[OutPoint], include_mempool: bool) -> list[Utxo | None]:
        """Of the own node."""
        return self._own.utxos(outpoints, include_mempool)

    def mempool_spenders(self, outpoints: Sequence[OutPoint]) -> dict[OutPoint, Txid]:
        """Of the own node."""
        return self._own.mempool_spenders(outpoints)

    def mempool_transaction(self, txid: bytes) -> bytes | None:
        """Of the own node."""
        return self._own.mempool_transaction(txid)

    def transaction(self, txid: bytes) -> bytes | None:
        """Of the own node."""
        return self._own.transaction(txid)

    def test_accept(self, raw: bytes) -> Answer:
        """Of the own node."""
        return self._own.test_accept(raw)

    def mempool_entry(self, txid: bytes) -> MempoolEntry | None:
        """Of the own node."""
        return self._own.mempool_entry(txid)

    def fee_market(self, targets: Sequence[int]) -> Market:
        """Of the own node."""
        return self._own.fee_market(targets)

    def broadcast(self, raw: bytes) -> Answer:
        """To both; the own node's answer counts."""
        try:
            return self._own.broadcast(raw)
        finally:
            self._second.ask(lambda node: node.broadcast(raw))

    def broadcast_many(self, raws: Sequence[bytes]) -> tuple[Answer, ...]:
        """To both; the own node's answers count."""
        try:
            return self._own.broadcast_many(raws)
        finally:
            self._second.ask(lambda node: node.broadcast_many(raws))

    def submit_package(self, raws: Sequence[bytes]) -> tuple[Answer, ...]:
        """To both; the own node's answers count."""
        try:
            return self._own.submit_package(raws)
        finally:
            self._second.ask(lambda node: node.submit_package(raws))
