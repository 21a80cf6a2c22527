"""Scripts and taproot outputs of a channel: funding, contest, HTLC; their descriptors (protocol chapter 3)."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from domain.contract import keys
from domain.contract.hashes import ripemd160, tagged_hash
from domain.contract.params import ANCHOR_SAT, P2A_SPK, ChannelParams
from domain.errors import InvalidState, MalformedInput
from domain.transaction import TxOut, compact_size
from domain.units import Side

LEAF_VERSION = 0xC0
ANCHOR = TxOut(ANCHOR_SAT, P2A_SPK)
MAX_EXPIRY = 500_000_000
"""Locktimes from here on are times, not heights."""

_CHECKSIG, _CHECKSIGVERIFY = b"\xac", b"\xad"
_CLTV, _CSV = b"\xb1", b"\xb2"
_KEY_PUSH = b"\x20"


class TaprootOutput(msgspec.Struct, frozen=True):
    """A taproot output with its script tree.

    `spk` 34 bytes, `internal` and `merkle_root` 32 bytes, `parity` of the output key, and per leaf its script
    and control block, in the order in which the contract names the leaves.
    """

    spk: bytes
    internal: bytes
    merkle_root: bytes
    parity: int
    leaves: tuple[bytes, ...]
    control_blocks: tuple[bytes, ...]

    @property
    def output_key(self) -> bytes:
        """The x coordinate of the output key, 32 bytes."""
        return self.spk[2:]

    @property
    def leaf(self) -> bytes:
        """Script of the first leaf (leaf_F, leaf_S, success)."""
        return self.leaves[0]

    @property
    def control_block(self) -> bytes:
        """Control block of the first leaf."""
        return self.control_blocks[0]


def dust_limit(spk: bytes) -> int:
    """Smallest value in satoshi that an output of this witness program may have; never taken from a node."""
    return 3 * (9 + len(spk) + 67)


def push_number(number: int) -> bytes:
    """Minimal push of a non-negative number: OP_0 … OP_16, else a minimal CScriptNum."""
    if number < 0:
        raise MalformedInput("scripts of this contract push non-negative numbers only")
    if number == 0:
        return b"\x00"
    if number <= 16:
        return bytes((0x50 + number,))
    # One more bit than the number needs: the highest bit is the sign.
    size = number.bit_length() // 8 + 1
    return bytes((size,)) + number.to_bytes(size, "little")


def tap_leaf_hash(script: bytes) -> bytes:
    """Hash of a tapscript leaf (version 0xc0), 32 bytes."""
    return tagged_hash("TapLeaf", bytes((LEAF_VERSION,)) + compact_size(len(script)) + script)


def tap_branch_hash(first: bytes, second: bytes) -> bytes:
    """Hash of two nodes of a script tree, 32 bytes."""
    return tagged_hash("TapBranch", min(first, second) + max(first, second))


def p2tr(output_key: bytes) -> bytes:
    """Script (scriptPubKey) of an output key (32 bytes)."""
    return b"\x51\x20" + output_key


def taproot_output(internal: bytes, leaves: tuple[bytes, ...]) -> TaprootOutput:
    """Output with an internal key (32 bytes) and one leaf, or two leaves at depth 1."""
    return _build_output(internal, leaves, *_tree(leaves))


@lru_cache(maxsize=1024)
def _tree(leaves: tuple[bytes, ...]) -> tuple[bytes, tuple[bytes, ...]]:
    """Merkle root and, per leaf, its Merkle path. Contest trees are the same in all states of a channel."""
    hashes = [tap_leaf_hash(leaf) for leaf in leaves]
    if len(hashes) == 1:
        return hashes[0], (b"",)
    return tap_branch_hash(hashes[0], hashes[1]), (hashes[1], hashes[0])


def _build_output(internal: bytes, leaves: tuple[bytes, ...], root: bytes, paths: tuple[bytes, ...]) -> TaprootOutput:
    output_key, parity = keys.tweak_xonly(internal, keys.taproot_tweak(internal, root))
    first = bytes((LEAF_VERSION | parity,)) + internal
    return TaprootOutput(p2tr(output_key), internal, root, parity, leaves, tuple(first + path for path in paths))


# ── funding ──────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=1024)
def funding_output(params: ChannelParams) -> TaprootOutput:
    """The 2-of-2 output that holds the capacity; `leaf` is leaf_F (protocol 3.1)."""
    publics = (params.keys_a.fund, params.keys_b.fund)
    low, high = sorted(public[1:] for public in publics)
    leaf = _KEY_PUSH + low + _CHECKSIGVERIFY + _KEY_PUSH + high + _CHECKSIG
    return taproot_output(keys.key_agg(publics)[1:], (leaf,))


def funding_txout(params: ChannelParams) -> TxOut:
    """The funding output with its value."""
    return TxOut(params.capacity, funding_output(params).spk)


def funding_descriptor(params: ChannelParams, musig: bool = True) -> str:
    """Descriptor without checksum; `musig=False` gives the form for nodes that do not parse `musig()`."""
    publics = [params.keys_a.fund, params.keys_b.fund]
    low, high = sorted(public[1:].hex() for public in publics)
    internal = f"musig({','.join(public.hex() for public in publics)})"
    if not musig:
        internal = funding_output(params).internal.hex()
    return f"tr({internal},and_v(v:pk({low}),pk({high})))"


# ── contest ──────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=1024)
def contest_leaves(params: ChannelParams) -> tuple[bytes, ...]:
    """leaf_S and, with flag rescue_leaf, leaf_R (protocol 3.2); the same in all states."""
    low, high = sorted((params.keys_a.settle, params.keys_b.settle))
    both = _KEY_PUSH + low + _CHECKSIGVERIFY + _KEY_PUSH + high
    leaf_s = both + _CHECKSIGVERIFY + push_number(params.challenge_period) + _CSV
    return (leaf_s, both + _CHECKSIG) if params.has_rescue_leaf else (leaf_s,)


@lru_cache(maxsize=4096)
def contest_output(params: ChannelParams, revocation_key: bytes) -> TaprootOutput:
    """Output 0 of a commitment whose revocation key is R (33 bytes); leaves are leaf_S and perhaps leaf_R."""
    return taproot_output(keys.xonly(revocation_key), contest_leaves(params))


def contest_descriptor(params: ChannelParams, revocation_key: bytes) -> str:
    """Descriptor of the contest output, without checksum."""
    low, high = sorted((params.keys_a.settle.hex(), params.keys_b.settle.hex()))
    leaf_s = f"and_v(and_v(v:pk({low}),v:pk({high})),older({params.challenge_period}))"
    leaf_r = f"and_v(v:pk({low}),pk({high}))"
    tree = f"{{{leaf_s},{leaf_r}}}" if params.has_rescue_leaf else leaf_s
    return f"tr({keys.xonly(revocation_key).hex()},{tree})"


# ── HTLC ─────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=1024)
def _htlc_internal(params: ChannelParams) -> bytes:
    return keys.key_agg((params.keys_a.htlc, params.keys_b.htlc))[1:]


@lru_cache(maxsize=1024)
def htlc_output(params: ChannelParams, offerer: Side, payment_hash: bytes, expiry: int) -> TaprootOutput:
    """Conditional output of an HTLC; leaves are success and timeout (protocol 3.5). `expiry` is a height."""
    if len(payment_hash) != 32:
        raise MalformedInput("a payment hash has 32 bytes")
    if not 1 <= expiry < MAX_EXPIRY:
        raise InvalidState(f"an HTLC expires at a height from 1 to {MAX_EXPIRY - 1}, got {expiry}")
    receiver_key, offerer_key = params.keys(offerer.other).htlc[1:], params.keys(offerer).htlc[1:]
    # OP_SIZE 32 OP_EQUALVERIFY OP_HASH160 <20 bytes> OP_EQUALVERIFY <receiver> OP_CHECKSIG
    preimage_check = b"\x82\x01\x20\x88\xa9\x14" + ripemd160(payment_hash) + b"\x88"
    success = preimage_check + _KEY_PUSH + receiver_key + _CHECKSIG
    timeout = _KEY_PUSH + offerer_key + _CHECKSIGVERIFY + push_number(expiry) + _CLTV
    return taproot_output(_htlc_internal(params), (success, timeout))


def htlc_descriptor(params: ChannelParams, offerer: Side, payment_hash: bytes, expiry: int) -> str:
    """Descriptor of an HTLC output with the aggregate key written out, without checksum."""
    receiver, sender = params.keys(offerer.other).htlc[1:].hex(), params.keys(offerer).htlc[1:].hex()
    success = f"and_v(v:hash160({ripemd160(payment_hash).hex()}),pk({receiver}))"
    timeout = f"and_v(v:pk({sender}),after({expiry}))"
    return f"tr({_htlc_internal(params).hex()},{{{success},{timeout}}})"
