"""Names of things on a block chain: hashes, outpoints, blocks, networks.

Hashes are 32 bytes in internal byte order everywhere inside the program; the reversed hexadecimal form that
people and bitcoind use is made by `display` and read by `from_display` at the edges only.
"""

from __future__ import annotations

from hashlib import sha256
from typing import NewType

import msgspec

from domain.errors import MalformedInput

Txid = NewType("Txid", bytes)
"""Transaction id, 32 bytes, internal byte order."""

BlockHash = NewType("BlockHash", bytes)
"""Block hash, 32 bytes, internal byte order."""

OutPoint = NewType("OutPoint", bytes)
"""36 bytes as in a serialized input: txid (internal order) and output number (u32 little-endian)."""

NULL_TXID = Txid(bytes(32))


class BlockRef(msgspec.Struct, frozen=True, array_like=True):
    """A block by height and hash (32 bytes, internal order). The hash decides; the height is for people."""

    height: int
    hash: bytes


class BlockHeader(msgspec.Struct, frozen=True):
    """The fields of an 80-byte block header that the tower reads."""

    hash: BlockHash
    prev: BlockHash
    time: int
    bits: int
    raw: bytes

    @classmethod
    def parse(cls, raw: bytes) -> BlockHeader:
        """Read a header; raises `MalformedInput` unless it has exactly 80 bytes."""
        if len(raw) != 80:
            raise MalformedInput(f"a block header has 80 bytes, got {len(raw)}")
        return cls(
            hash=BlockHash(double_sha256(raw)),
            prev=BlockHash(raw[4:36]),
            time=int.from_bytes(raw[68:72], "little"),
            bits=int.from_bytes(raw[72:76], "little"),
            raw=raw,
        )


GENESIS_DISPLAY = {
    "mainnet": "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
    "testnet": "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943",
    "testnet4": "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043",
    "signet": "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6",
    "regtest": "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
}
"""Genesis block hash in display order per network (protocol 2.2); it names the chain in `ChannelParams`."""


def double_sha256(data: bytes) -> bytes:
    """SHA-256 applied twice: the hash of transactions and block headers."""
    return sha256(sha256(data).digest()).digest()


def display(hash32: bytes) -> str:
    """Reversed hexadecimal form of a hash, as bitcoind prints it."""
    return hash32[::-1].hex()


def from_display(text: str) -> bytes:
    """Internal bytes of a reversed hexadecimal hash; raises `MalformedInput` unless it has 64 digits."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raise MalformedInput("a transaction id or block hash has 64 hexadecimal digits") from None
    if len(raw) != 32 or len(text) != 64:
        raise MalformedInput(f"a transaction id or block hash has 64 hexadecimal digits, got {len(text)}")
    return raw[::-1]


def make_outpoint(txid: bytes, vout: int) -> OutPoint:
    """Outpoint of output `vout` of a transaction (txid in internal order)."""
    if len(txid) != 32 or not 0 <= vout <= 0xFFFFFFFF:
        raise MalformedInput("an outpoint is a 32-byte txid and an output number below 2^32")
    return OutPoint(txid + vout.to_bytes(4, "little"))


def outpoint_txid(outpoint: bytes) -> Txid:
    """The txid part of an outpoint."""
    return Txid(outpoint[:32])


def outpoint_vout(outpoint: bytes) -> int:
    """The output number of an outpoint."""
    return int.from_bytes(outpoint[32:36], "little")


def display_outpoint(outpoint: bytes) -> str:
    """`txid:vout` with the txid in display order."""
    return f"{display(outpoint[:32])}:{outpoint_vout(outpoint)}"


def parse_outpoint(text: str) -> OutPoint:
    """Read `txid:vout` (display order); raises `MalformedInput`."""
    txid, _, vout = text.partition(":")
    if not vout.isascii() or not vout.isdigit() or len(vout) > 10:
        raise MalformedInput(f"an outpoint is written txid:vout, got {text[:80]!r}")
    return make_outpoint(from_display(txid), int(vout))


def chain_hash(network: str) -> bytes:
    """Genesis hash (internal order) of a network; raises `MalformedInput` with the known names."""
    try:
        return from_display(GENESIS_DISPLAY[network])
    except KeyError:
        known = ", ".join(GENESIS_DISPLAY)
        raise MalformedInput(f"unknown network {network!r}; use one of {known}") from None


def work_of_bits(bits: int) -> int:
    """Expected number of hashes for a block with this compact target (as in Bitcoin Core's `GetBlockProof`)."""
    exponent, mantissa = bits >> 24, bits & 0x007FFFFF
    target = mantissa << (8 * (exponent - 3)) if exponent > 3 else mantissa >> (8 * (3 - exponent))
    return 0 if target == 0 else (1 << 256) // (target + 1)
