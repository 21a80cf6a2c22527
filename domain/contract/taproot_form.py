"""Profile 0, SCT-P: BIP-340 signatures, key path for the penalty, leaves for everything else (protocol chapter 3)."""

# ruff: noqa: ARG002 (both profiles answer the same questions, and not every answer needs every argument)
from __future__ import annotations

from collections.abc import Sequence

from domain.contract import keys
from domain.contract import taproot_scripts as scripts
from domain.contract.params import ChannelParams
from domain.contract.primitives import ClaimPath, HtlcTerms, witness_weight
from domain.contract.sighash import SIGHASH_DEFAULT, taproot_sighash
from domain.contract.signatures import PenaltySignature
from domain.contract.taproot_tree import TaprootOutput, tap_leaf_hash
from domain.errors import MalformedInput
from domain.transaction import Transaction, TxOut

RESCUE_PATH_WEIGHT = 32
"""What a second leaf adds to the control block."""

_SIGNATURE, _CONTROL = 64, 33


class TaprootForm:
    """The form of channels with `profile` 0."""

    plain_hash_type = SIGHASH_DEFAULT
    ladder_hash_types = frozenset((0x00, 0x01, 0x81))
    single_hash_types = frozenset((0x83,))
    program = b"\x51\x20"

    def funding_output(self, params: ChannelParams) -> TaprootOutput:
        """See `taproot_scripts`."""
        return scripts.funding_output(params)

    def funding_descriptor(self, params: ChannelParams, musig: bool) -> str:
        """See `taproot_scripts`."""
        return scripts.funding_descriptor(params, musig)

    def contest_output(self, params: ChannelParams, revocation_key: bytes) -> TaprootOutput:
        """See `taproot_scripts`."""
        return scripts.contest_output(params, revocation_key)

    def contest_descriptor(self, params: ChannelParams, revocation_key: bytes) -> str:
        """See `taproot_scripts`."""
        return scripts.contest_descriptor(params, revocation_key)

    def htlc_output(self, params: ChannelParams, terms: HtlcTerms) -> TaprootOutput:
        """See `taproot_scripts`."""
        return scripts.htlc_output(params, terms)

    def htlc_descriptor(self, params: ChannelParams, terms: HtlcTerms) -> str:
        """See `taproot_scripts`."""
        return scripts.htlc_descriptor(params, terms)

    def sign(self, secret: bytes, message: bytes, aux: bytes) -> bytes:
        """BIP-340."""
        return keys.sign_schnorr(secret, message, aux)

    def sign_settle(self, secret: bytes, message: bytes, aux: bytes) -> bytes:
        """BIP-340, which takes either parity."""
        return keys.sign_schnorr(secret, message, aux)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        """BIP-340 under the x coordinate."""
        return keys.verify_schnorr(public[1:], message, signature)

    def verify_settle(self, settle: bytes, message: bytes, signature: bytes) -> bool:
        """BIP-340."""
        return keys.verify_schnorr(settle, message, signature)

    def funding_message(self, params: ChannelParams, tx: Transaction) -> bytes:
        """By leaf_F."""
        output = scripts.funding_output(params)
        return _by_leaf(tx, TxOut(params.capacity, output.spk), output.leaf)

    def funding_witness(self, params: ChannelParams, sig_a: bytes, sig_b: bytes) -> tuple[bytes, ...]:
        """The signature of the higher key first, since the script takes from the top."""
        output = scripts.funding_output(params)
        pair = _descending(params.keys_a.fund[1:], params.keys_b.fund[1:], sig_a, sig_b)
        return (*pair, output.leaf, output.control_block)

    def funding_witness_weight(self) -> int:
        """leaf_F has 68 bytes."""
        return witness_weight(_SIGNATURE, _SIGNATURE, 68, _CONTROL)

    def settle_message(self, params: ChannelParams, tx: Transaction, revocation_key: bytes) -> bytes:
        """By leaf_S."""
        output = scripts.contest_output(params, revocation_key)
        return _by_leaf(tx, TxOut(params.contest_value, output.spk), output.leaf)

    def settle_witness(
        self, params: ChannelParams, revocation_key: bytes, sig_a: bytes, sig_b: bytes
    ) -> tuple[bytes, ...]:
        """By leaf_S."""
        output = scripts.contest_output(params, revocation_key)
        return (*order_by_settle_key(params, sig_a, sig_b), output.leaf, output.control_block)

    def settle_witness_weight(self, params: ChannelParams) -> int:
        """A second leaf makes the control block longer."""
        leaf = scripts.contest_leaves(params)[0]
        rescue = RESCUE_PATH_WEIGHT if params.has_rescue_leaf else 0
        return witness_weight(_SIGNATURE, _SIGNATURE, len(leaf), _CONTROL) + rescue

    def penalty_message(
        self, params: ChannelParams, tx: Transaction, contest_spk: bytes, revocation_key: bytes | None, hash_type: int
    ) -> bytes:
        """By key path: R is not needed."""
        return taproot_sighash(tx, 0, (TxOut(params.contest_value, contest_spk),), hash_type)

    def sign_penalty(
        self, params: ChannelParams, revocation_key: bytes, revocation_secret: bytes, message: bytes, aux: bytes
    ) -> bytes:
        """By the tweaked secret of the output key."""
        root = scripts.contest_output(params, revocation_key).merkle_root
        return keys.sign_schnorr(keys.tweak_secret(revocation_secret, root), message, aux)

    def verify_penalty(
        self, contest_spk: bytes, revocation_key: bytes | None, message: bytes, signature: bytes
    ) -> bool:
        """Under the output key that the contest script names."""
        return keys.verify_schnorr(contest_spk[2:], message, signature)

    def penalty_witness(
        self, params: ChannelParams, revocation_key: bytes | None, signature: bytes, hash_type: int
    ) -> tuple[bytes, ...]:
        """One item; the default type is left out."""
        return (signature if hash_type == SIGHASH_DEFAULT else signature + bytes((hash_type,)),)

    def read_penalty(
        self, params: ChannelParams, witness: tuple[bytes, ...], contest_spk: bytes
    ) -> PenaltySignature | None:
        """One item of 64 or 65 bytes; a written type must not be the default one (BIP-341)."""
        if len(witness) != 1 or len(contest_spk) != 34 or not 64 <= len(witness[0]) <= 65:
            return None
        hash_type = witness[0][64] if len(witness[0]) == 65 else SIGHASH_DEFAULT
        if hash_type not in self.ladder_hash_types or witness[0][64:] == b"\x00":
            return None
        return PenaltySignature(witness[0][:64], hash_type)

    def is_penalty_witness(self, witness: Sequence[bytes]) -> bool:
        """A key-path witness is one signature, perhaps with an annex; by leaf it has at least four items (BIP-341)."""
        return len(witness) <= 2

    def penalty_witness_weight(self, params: ChannelParams) -> int:
        """With a 64-byte signature."""
        return witness_weight(_SIGNATURE)

    def claim_message(
        self, params: ChannelParams, terms: HtlcTerms, amount: int, tx: Transaction, path: ClaimPath
    ) -> bytes:
        """By the leaf of the path."""
        output = scripts.htlc_output(params, terms)
        return _by_leaf(tx, TxOut(amount, output.spk), output.leaves[path])

    def claim_witness(
        self, params: ChannelParams, terms: HtlcTerms, path: ClaimPath, signature: bytes, preimage: bytes | None
    ) -> tuple[bytes, ...]:
        """By the leaf of the path."""
        if (preimage is None) != (path is ClaimPath.TIMEOUT):
            raise MalformedInput("a preimage belongs to a success claim, and to no other")
        output = scripts.htlc_output(params, terms)
        shown = () if preimage is None else (preimage,)
        return (signature, *shown, output.leaves[path], output.control_blocks[path])

    def claim_witness_weight(self, params: ChannelParams, terms: HtlcTerms, path: ClaimPath) -> int:
        """Both leaves stand at depth 1."""
        leaf = len(scripts.htlc_output(params, terms).leaves[path])
        shown = (32,) if path is ClaimPath.SUCCESS else ()
        return witness_weight(_SIGNATURE, *shown, leaf, _CONTROL + 32)


def order_by_settle_key(params: ChannelParams, sig_a: bytes, sig_b: bytes) -> tuple[bytes, bytes]:
    """Signatures in witness order of leaf_S and leaf_R."""
    return _descending(params.keys_a.settle, params.keys_b.settle, sig_a, sig_b)


def _descending(key_a: bytes, key_b: bytes, sig_a: bytes, sig_b: bytes) -> tuple[bytes, bytes]:
    return (sig_b, sig_a) if key_a < key_b else (sig_a, sig_b)


def _by_leaf(tx: Transaction, spent: TxOut, leaf: bytes) -> bytes:
    return taproot_sighash(tx, 0, (spent,), leaf_hash=tap_leaf_hash(leaf))
