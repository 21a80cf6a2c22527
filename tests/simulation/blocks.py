"""Real blocks for the model chain: 80-byte headers, a coinbase, a merkle root - only the work behind them is missing.

Every block is different (its nonce counts), so that two empty blocks on one parent have two hashes. Times are the
height times ten minutes; nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache

from domain.chain import BlockHash, Txid, double_sha256, work_of_bits
from domain.transaction import Transaction, compact_size

REGTEST_BITS = 0x207FFFFF
BLOCK_WORK = work_of_bits(REGTEST_BITS)
BLOCK_SECONDS = 600
FIRST_TIME = 1_700_000_000
"""Unix time from which heights count."""

GENESIS_RAW = bytes.fromhex(
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f61"
    "7fc81bc3888a51323a9fb8aa4b1e5e4adae5494dffff7f20020000000101000000010000000000000000000000000000000000000000"
    "000000000000000000000000ffffffff4d04ffff001d0104455468652054696d65732030332f4a616e2f32303039204368616e63656c"
    "6c6f72206f6e206272696e6b206f66207365636f6e64206261696c6f757420666f722062616e6b73ffffffff0100f2052a0100000043"
    "4104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7"
    "ba0b8d578a4c702b6bf11d5fac00000000"
)
"""The regtest genesis block, byte for byte."""

_COINBASE_HEAD = bytes.fromhex("02000000" + "01" + "00" * 32 + "ffffffff" + "05" + "04")
_COINBASE_TAIL = bytes.fromhex("ffffffff" + "01") + bytes(8) + b"\x01\x6a" + bytes(4)


@lru_cache(maxsize=1 << 15)
def parse(raw: bytes) -> Transaction:
    """A transaction of its bytes, parsed once: schedules meet the same bytes again and again."""
    return Transaction.parse(raw)


@lru_cache(maxsize=1 << 15)
def serialized(tx: Transaction) -> bytes:
    """Its bytes with witnesses, made once."""
    return tx.serialize()


class Block:
    """A block of the tree. `transactions` are those behind the coinbase; `arrival` counts all blocks ever made.

    `work` is the sum of all blocks up to this one, `txids` are in the order of the block, without the coinbase.
    """

    __slots__ = ("__dict__", "arrival", "hash", "header", "height", "prev", "transactions", "txids", "work")

    def __init__(self, parent: Block | None, transactions: Sequence[Transaction], arrival: int) -> None:
        """The child of a block; without a parent the genesis block."""
        self.arrival = arrival
        self.transactions = tuple(transactions)
        self.txids: tuple[Txid, ...] = tuple(tx.txid for tx in self.transactions)
        self.height = 0 if parent is None else parent.height + 1
        self.prev = BlockHash(bytes(32) if parent is None else parent.hash)
        self.work = BLOCK_WORK if parent is None else parent.work + BLOCK_WORK
        self.header = GENESIS_RAW[:80] if parent is None else self._header()
        self.hash = BlockHash(double_sha256(self.header))

    def _header(self) -> bytes:
        root = merkle_root([double_sha256(self.coinbase), *self.txids])
        when = (FIRST_TIME + self.height * BLOCK_SECONDS).to_bytes(4, "little")
        tail = when + REGTEST_BITS.to_bytes(4, "little") + self.arrival.to_bytes(4, "little")
        return b"\x00\x00\x00\x20" + self.prev + root + tail

    @property
    def coinbase(self) -> bytes:
        """Its coinbase: commits to the height, pays nobody nothing."""
        return _COINBASE_HEAD + self.height.to_bytes(4, "little") + _COINBASE_TAIL

    @cached_property
    def raw(self) -> bytes:
        """The serialized block."""
        if self.height == 0:
            return GENESIS_RAW
        count = compact_size(1 + len(self.transactions))
        return b"".join([self.header, count, self.coinbase, *map(serialized, self.transactions)])

    def __repr__(self) -> str:
        return f"Block({self.height}, {self.hash[::-1].hex()[:8]}, {len(self.transactions)} txs)"


def merkle_root(txids: Sequence[bytes]) -> bytes:
    """Merkle root of a block, internal byte order."""
    level = list(txids)
    while len(level) > 1:
        if len(level) % 2:
            level.append(level[-1])
        level = [double_sha256(level[i] + level[i + 1]) for i in range(0, len(level), 2)]
    return level[0]


@lru_cache(maxsize=8)
def first_blocks(height: int) -> tuple[Block, ...]:
    """Genesis and `height` empty blocks, shared by all model chains: blocks never change."""
    blocks = [Block(None, (), 0)]
    for number in range(1, height + 1):
        blocks.append(Block(blocks[-1], (), number))
    return tuple(blocks)
