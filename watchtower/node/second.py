"""A second node beside the own one: blocks that the own one lost, broadcasts on two ways, a look at another tip.

The cursor follows the own node alone. The second one is optional help: it is asked with a short limit, and after a
failure left alone for a while, so that it can never hold up a pass for long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import structlog

from domain.chain import BlockHash, OutPoint, Txid
from domain.fees import Market
from watchtower.node.checks import require_network
from watchtower.node.proof import is_proved, is_proved_decoded
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


class SecondTip(msgspec.Struct, frozen=True):
    """What the second node follows: height of its tip and of its best header, cumulative work of its tip."""

    height: int
    headers: int
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
    return None if header is None else SecondTip(header.height, info.headers, header.chainwork)


class TwoNodes:
    """The `Node` port over the own node, with the second one where it helps."""

    def __init__(self, own: Node, second: SecondNode) -> None:
        self._own = own
        self._second = second

    def chain_info(self) -> ChainInfo:
        """Of the own node, with the highest header height that either knows: deadlines count from there."""
        info, tip = self._own.chain_info(), self._second.tip()
        return info if tip is None else msgspec.structs.replace(info, headers=max(info.headers, tip.headers))

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
