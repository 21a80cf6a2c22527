"""Taproot outputs with their script trees (BIP-341): the building stone of profile 0."""

from __future__ import annotations

from functools import lru_cache

from domain.contract import keys
from domain.contract.hashes import tagged_hash
from domain.contract.primitives import Output
from domain.transaction import compact_size

LEAF_VERSION = 0xC0


class TaprootOutput(Output, frozen=True):
    """A taproot output with its script tree.

    `spk` 34 bytes, `internal` and `merkle_root` 32 bytes, `parity` of the output key, and per leaf its script
    and control block, in the order in which the contract names the leaves.
    """

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


@lru_cache(maxsize=4096)
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
