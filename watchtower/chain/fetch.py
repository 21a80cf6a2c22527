"""Gets one block and what happened in it, by every way there is; never an empty answer for a block that was not read.

The ways: the node's bytes and our scanner; for bytes that the scanner does not understand, the block as the node reads
it; for a block that the node has no longer, its peers (a second node, if there is one, was asked by the node port).
"""

from __future__ import annotations

from contextlib import suppress

from domain.chain import BlockHeader, BlockRef, display
from domain.errors import MalformedInput
from domain.events import Source
from watchtower.chain.facts import Facts
from watchtower.chain.scan import BlockScan
from watchtower.node.blocks import HEADER_BYTES, BlockUnparseable
from watchtower.ports import BlockNotAvailable, Failpoint, Node, NodeError, NodeUnavailable

PATIENCE = 4
"""Tries until a block counts as gone. The first ones ask peers, and the waits between passes give them seconds."""

PEER_WINDOW = 16
"""Blocks that peers are asked for at once."""


class Fetch:
    """Blocks for the follower. Remembers how often the last missing block was asked for."""

    def __init__(self, node: Node, failpoint: Failpoint) -> None:
        self._node = node
        self._failpoint = failpoint
        self._missing: BlockRef | None = None
        self._tries = 0

    def raw(self, block: BlockRef) -> bytes:
        """The serialized block of this hash; raises `BlockNotAvailable`, after asking peers for it."""
        self._failpoint("block_fetch:before")
        try:
            raw = self._node.block(block.hash)
        except BlockNotAvailable:
            self._miss(block)
            raise
        self._failpoint("block_fetch:after")
        if _hash_of(raw) != block.hash:
            raise NodeError(f"the node handed over another block than {display(block.hash)}; try again")
        return raw

    def is_gone(self, block: BlockRef) -> bool:
        """True if the block was asked for so often that it will not come."""
        return self._missing == block and self._tries >= PATIENCE

    def give_up_next(self, block: BlockRef) -> None:
        """The block below was gone as well: this one is asked for once."""
        self._missing, self._tries = block, PATIENCE - 1

    def read(self, scan: BlockScan, raw: bytes, block: BlockRef, source: Source) -> tuple[BlockHeader, Facts, int]:
        """Header, events and number of transactions of a block.

        Raises `BlockUnparseable` only if the node cannot read it either.
        """
        self._failpoint("block_parse:before")
        try:
            header, facts, transactions = scan.facts(raw, block, source)
        except (BlockUnparseable, MalformedInput) as error:
            header, facts, transactions = self._read_decoded(scan, block, source, error)
        self._failpoint("block_parse:after")
        return header, facts, transactions

    def _read_decoded(
        self, scan: BlockScan, block: BlockRef, source: Source, error: Exception
    ) -> tuple[BlockHeader, Facts, int]:
        try:
            return scan.facts_decoded(self._node.decoded_block(block.hash), block, source)
        except NodeUnavailable:
            raise
        except (NodeError, MalformedInput) as second:
            text = (
                f"block {display(block.hash)} at height {block.height} cannot be read: {error}; by the node: {second}"
            )
            raise BlockUnparseable(text) from error

    def _miss(self, block: BlockRef) -> None:
        self._tries = self._tries + 1 if self._missing == block else 1
        self._missing = block
        # Again now and then: the node may have found peers by now, and a block behind many others was not asked for.
        if self._tries % PATIENCE == 1:
            # Whatever becomes of the request: the block arrives, or the next tries find it missing again.
            with suppress(NodeError):
                self._ask_peers(block)

    def _ask_peers(self, block: BlockRef) -> None:
        """For this one and the next ones, which are probably gone as well: waiting for each would take too long."""
        self._node.fetch_from_peers(block.hash)
        for height in range(block.height + 1, block.height + PEER_WINDOW):
            block_hash = self._node.hash_at(height)
            if block_hash is None:
                return
            self._node.fetch_from_peers(block_hash)


def _hash_of(raw: bytes) -> bytes | None:
    try:
        return BlockHeader.parse(raw[:HEADER_BYTES]).hash
    except MalformedInput:
        return None
