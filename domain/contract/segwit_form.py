"""Profile 1, SCT-P/v0: ECDSA over BIP-143 messages and P2WSH scripts (protocol annex C).

Records hold r ‖ s; DER with the hash type exists in witnesses only. Weights count every signature with 72 bytes,
which a low-s signature and its hash type never exceed; fees must not depend on the size of a real signature.
"""

# ruff: noqa: ARG002 (both profiles answer the same questions, and not every answer needs every argument)
from __future__ import annotations

from collections.abc import Sequence

from domain.contract import keys
from domain.contract import segwit_scripts as scripts
from domain.contract.params import ChannelParams
from domain.contract.primitives import ClaimPath, HtlcTerms, witness_weight
from domain.contract.segwit_scripts import ScriptOutput
from domain.contract.sighash import SIGHASH_ALL, segwit_sighash
from domain.contract.signatures import PenaltySignature
from domain.errors import MalformedInput
from domain.transaction import Transaction

_SIGNATURE = 72
_FUNDING_SCRIPT = 71


class SegwitForm:
    """The form of channels with `profile` 1."""

    plain_hash_type = SIGHASH_ALL
    ladder_hash_types = frozenset((0x01, 0x81))
    single_hash_types: frozenset[int] = frozenset()
    program = b"\x00\x20"

    def funding_output(self, params: ChannelParams) -> ScriptOutput:
        """See `segwit_scripts`."""
        return scripts.funding_output(params)

    def funding_descriptor(self, params: ChannelParams, musig: bool) -> str:
        """See `segwit_scripts`; there is no second form."""
        return scripts.funding_descriptor(params)

    def contest_output(self, params: ChannelParams, revocation_key: bytes) -> ScriptOutput:
        """See `segwit_scripts`."""
        return scripts.contest_output(params, revocation_key)

    def contest_descriptor(self, params: ChannelParams, revocation_key: bytes) -> str:
        """See `segwit_scripts`."""
        return scripts.contest_descriptor(params, revocation_key)

    def htlc_output(self, params: ChannelParams, terms: HtlcTerms) -> ScriptOutput:
        """See `segwit_scripts`."""
        return scripts.htlc_output(params, terms)

    def htlc_descriptor(self, params: ChannelParams, terms: HtlcTerms) -> str:
        """See `segwit_scripts`."""
        return scripts.htlc_descriptor(params, terms)

    def sign(self, secret: bytes, message: bytes, aux: bytes) -> bytes:
        """ECDSA; its nonce is that of RFC 6979 and takes no randomness."""
        return keys.sign_ecdsa(secret, message)

    def sign_settle(self, secret: bytes, message: bytes, aux: bytes) -> bytes:
        """ECDSA by the secret with even y, negated if need be: the script names 02 ‖ x."""
        return keys.sign_ecdsa(keys.even_secret(secret), message)

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        """ECDSA with low s."""
        return keys.verify_ecdsa(public, message, signature)

    def verify_settle(self, settle: bytes, message: bytes, signature: bytes) -> bool:
        """ECDSA under 02 ‖ x."""
        return keys.verify_ecdsa(scripts.settle_point(settle), message, signature)

    def funding_message(self, params: ChannelParams, tx: Transaction) -> bytes:
        """For W_F."""
        return segwit_sighash(tx, 0, scripts.funding_output(params).script, params.capacity)

    def funding_witness(self, params: ChannelParams, sig_a: bytes, sig_b: bytes) -> tuple[bytes, ...]:
        """Signatures in the order of the keys; the empty item is the one that OP_CHECKMULTISIG takes in excess."""
        pair = _ascending(params.keys_a.fund, params.keys_b.fund, sig_a, sig_b)
        return (b"", *pair, scripts.funding_output(params).script)

    def funding_witness_weight(self) -> int:
        """W_F has 71 bytes."""
        return witness_weight(0, _SIGNATURE, _SIGNATURE, _FUNDING_SCRIPT)

    def settle_message(self, params: ChannelParams, tx: Transaction, revocation_key: bytes) -> bytes:
        """For W_C."""
        return segwit_sighash(tx, 0, scripts.contest_output(params, revocation_key).script, params.contest_value)

    def settle_witness(
        self, params: ChannelParams, revocation_key: bytes, sig_a: bytes, sig_b: bytes
    ) -> tuple[bytes, ...]:
        """The last empty item stands for the signature by R that nobody has."""
        pair = _ascending(params.keys_a.settle, params.keys_b.settle, sig_a, sig_b)
        return (b"", *pair, b"", scripts.contest_output(params, revocation_key).script)

    def settle_witness_weight(self, params: ChannelParams) -> int:
        """With the length of W_C, which depends on T alone."""
        return witness_weight(0, _SIGNATURE, _SIGNATURE, 0, _contest_size(params))

    def penalty_message(
        self, params: ChannelParams, tx: Transaction, contest_spk: bytes, revocation_key: bytes | None, hash_type: int
    ) -> bytes:
        """For the W_C of R, which must be the script that `contest_spk` names."""
        if hash_type not in self.ladder_hash_types:
            raise MalformedInput(f"hash type {hash_type:#04x} is not allowed in a penalty of profile 1; use 0x01")
        output = scripts.contest_output(params, _given(revocation_key))
        if output.spk != contest_spk:
            raise MalformedInput("the contest script is not that of the revocation key R")
        return segwit_sighash(tx, 0, output.script, params.contest_value, hash_type)

    def sign_penalty(
        self, params: ChannelParams, revocation_key: bytes, revocation_secret: bytes, message: bytes, aux: bytes
    ) -> bytes:
        """By r itself: no parity rule and no tweak."""
        return keys.sign_ecdsa(revocation_secret, message)

    def verify_penalty(
        self, contest_spk: bytes, revocation_key: bytes | None, message: bytes, signature: bytes
    ) -> bool:
        """Under R."""
        return revocation_key is not None and keys.verify_ecdsa(revocation_key, message, signature)

    def penalty_witness(
        self, params: ChannelParams, revocation_key: bytes | None, signature: bytes, hash_type: int
    ) -> tuple[bytes, ...]:
        """A signature by R ends W_C; nothing has to choose the branch."""
        output = scripts.contest_output(params, _given(revocation_key))
        return (_on_chain(signature, hash_type), output.script)

    def read_penalty(
        self, params: ChannelParams, witness: tuple[bytes, ...], contest_spk: bytes
    ) -> PenaltySignature | None:
        """The revealed script tells R; it must be exactly the W_C of this channel for that R."""
        if len(witness) != 2 or len(witness[1]) != _contest_size(params):
            return None
        revocation_key = scripts.contest_key_of(witness[1])
        output = scripts.contest_output(params, revocation_key)
        signature = keys.from_der(witness[0][:-1])
        if signature is None or output.script != witness[1] or output.spk != contest_spk:
            return None
        hash_type = witness[0][-1]
        return PenaltySignature(signature, hash_type, revocation_key) if hash_type in self.ladder_hash_types else None

    def is_penalty_witness(self, witness: Sequence[bytes]) -> bool:
        """Signature and script; the settlement has five items."""
        return len(witness) == 2

    def penalty_witness_weight(self, params: ChannelParams) -> int:
        """With the length of W_C, which depends on T alone."""
        return witness_weight(_SIGNATURE, _contest_size(params))

    def claim_message(
        self, params: ChannelParams, terms: HtlcTerms, amount: int, tx: Transaction, path: ClaimPath
    ) -> bytes:
        """For W_H, which both paths share."""
        return segwit_sighash(tx, 0, scripts.htlc_output(params, terms).script, amount)

    def claim_witness(
        self, params: ChannelParams, terms: HtlcTerms, path: ClaimPath, signature: bytes, preimage: bytes | None
    ) -> tuple[bytes, ...]:
        """The top item is the receiver's signature, or empty for a refund."""
        script, signed = scripts.htlc_output(params, terms).script, _on_chain(signature, SIGHASH_ALL)
        if (preimage is None) != (path is ClaimPath.TIMEOUT):
            raise MalformedInput("a preimage belongs to a success claim, and to no other")
        return (signed, b"", script) if preimage is None else (preimage, signed, script)

    def claim_witness_weight(self, params: ChannelParams, terms: HtlcTerms, path: ClaimPath) -> int:
        """With the length of W_H, which depends on the expiry."""
        shown = 32 if path is ClaimPath.SUCCESS else 0
        return witness_weight(_SIGNATURE, shown, len(scripts.htlc_output(params, terms).script))


def _given(revocation_key: bytes | None) -> bytes:
    if revocation_key is None:
        raise MalformedInput(
            "a penalty signature of profile 1 is read with the revocation key R; none is known here: show the "
            "secret of the state instead (proof kind 0)"
        )
    return revocation_key


def _contest_size(params: ChannelParams) -> int:
    """Length of W_C, 111 … 114 bytes; any R gives the same."""
    return len(scripts.contest_output(params, bytes(33)).script)


def _ascending(key_a: bytes, key_b: bytes, sig_a: bytes, sig_b: bytes) -> tuple[bytes, bytes]:
    low, high = (sig_a, sig_b) if key_a < key_b else (sig_b, sig_a)
    return _on_chain(low, SIGHASH_ALL), _on_chain(high, SIGHASH_ALL)


def _on_chain(signature: bytes, hash_type: int) -> bytes:
    return keys.to_der(signature) + bytes((hash_type,))
