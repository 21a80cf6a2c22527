"""Is this the block that its hash names? For blocks from somebody who is not believed: a left-out transaction shows.

The hash is that of the header, and the header has the Merkle root of all txids. Witnesses are not covered: signatures
and preimages are checked where they are used.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from domain.chain import BlockHeader, double_sha256, work_of_bits
from domain.errors import MalformedInput
from domain.transaction import Transaction
from watchtower.node.blocks import HEADER_BYTES, BlockUnparseable, scan_block
from watchtower.ports import DecodedBlock

_ROOT = slice(36, 68)
_NO_OUTPUT = bytes(32) + b"\xff\xff\xff\xff"
"""What the first transaction of a block spends; no inner node of a Merkle tree looks like that."""


class _Everything(Container[bytes]):
    """Contains whatever is asked for."""

    def __contains__(self, item: object) -> bool:
        return True


def is_proved(raw: bytes, block_hash: bytes) -> bool:
    """True if these bytes are the whole block with this hash."""
    try:
        found = scan_block(raw, _Everything(), follow=lambda _hit: ())
    except BlockUnparseable:
        return False
    begins = bool(found.hits) and found.hits[0].outpoints == (_NO_OUTPUT,)
    return begins and _fits(raw[:HEADER_BYTES], block_hash, [hit.txid for hit in found.hits])


def is_proved_decoded(block: DecodedBlock, block_hash: bytes) -> bool:
    """The same of a block that a node has read: what it says of each transaction must be in the transaction's bytes."""
    try:
        read = [Transaction.parse(each.raw) for each in block.transactions]
    except MalformedInput:
        return False
    for tx, told in zip(read, block.transactions, strict=True):
        spends = {source.outpoint for source in tx.inputs} - {_NO_OUTPUT}
        if (tx.txid, spends, tx.outputs) != (told.txid, set(told.spends) - {_NO_OUTPUT}, told.outputs):
            return False
    begins = bool(read) and tuple(source.outpoint for source in read[0].inputs) == (_NO_OUTPUT,)
    return begins and _fits(block.header, block_hash, [tx.txid for tx in read])


def has_work(header: BlockHeader, least: int) -> bool:
    """True if the header's hash shows the work that it claims, and that is `least` hashes or more."""
    work = work_of_bits(header.bits)
    return work >= max(least, 1) and int.from_bytes(header.hash, "little") * work < 1 << 256


def _fits(header: bytes, block_hash: bytes, txids: Sequence[bytes]) -> bool:
    try:
        named = BlockHeader.parse(header).hash == block_hash
    except MalformedInput:
        return False
    return named and header[_ROOT] == _merkle_root(txids)


def _merkle_root(txids: Sequence[bytes]) -> bytes:
    level = list(txids)
    while len(level) > 1:
        level += level[-1:] * (len(level) % 2)
        level = [double_sha256(left + right) for left, right in zip(level[::2], level[1::2], strict=True)]
    return level[0]
