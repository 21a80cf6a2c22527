"""Looks through a block as the node reads it: the same answers as the scanner of raw blocks, from none of its code.

Slower by far, because the node has to write every transaction down as text. It serves where the scanner cannot: for
a block whose bytes it does not understand, and for the audit, which must not repeat the scanner's mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence

from domain.chain import BlockHeader, OutPoint
from domain.errors import MalformedInput
from watchtower.node.blocks import BlockScan, BlockUnparseable, Created, Hit
from watchtower.ports import DecodedBlock


def scan_decoded(
    block: DecodedBlock,
    watched: Container[bytes],
    find_outputs: Sequence[bytes],
    follow: Callable[[Hit], Iterable[bytes]],
    also_watched: Iterable[bytes],
) -> BlockScan:
    """Hits and created outputs; arguments and result as of `watchtower.node.blocks.scan_block`."""
    overlay, wanted = set(also_watched), frozenset(find_outputs)
    hits: list[Hit] = []
    created: list[Created] = []
    for index, tx in enumerate(block.transactions):
        matched = tuple(point for point in tx.spends if point in watched or point in overlay)
        if matched:
            hits.append(hit := Hit(index, tx.txid, tx.raw, matched, len(tx.outputs)))
            overlay.update(follow(hit))
        created += [
            Created(index, tx.txid, vout, output.value, output.spk, tx.raw)
            for vout, output in enumerate(tx.outputs)
            if output.spk in wanted
        ]
    inputs = sum(len(tx.spends) for tx in block.transactions)
    return BlockScan(_header(block), tuple(hits), tuple(created), len(block.transactions), inputs)


def spent_in(block: DecodedBlock, outpoints: Container[OutPoint]) -> set[OutPoint]:
    """Which of these outpoints the block spends."""
    return {point for tx in block.transactions for point in tx.spends if point in outpoints}


def _header(block: DecodedBlock) -> BlockHeader:
    try:
        return BlockHeader.parse(block.header)
    except MalformedInput as error:
        raise BlockUnparseable(f"the node's header of a block cannot be read: {error}") from error
