"""What differs between the profiles of a channel, behind one face (docs/adr/0011).

The contract modules build the same transactions for every channel and ask the channel's form for scripts, for the
message of a signature, for the signature itself and for the witness. Signatures are 64 bytes here and in every
record; only a witness has another encoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from domain.contract.params import ChannelParams
from domain.contract.primitives import ClaimPath, HtlcTerms, Output
from domain.contract.segwit_form import SegwitForm
from domain.contract.signatures import PenaltySignature
from domain.contract.taproot_form import TaprootForm
from domain.errors import InvalidParams
from domain.transaction import Transaction

Witness = tuple[bytes, ...]


class Form(Protocol):
    """One profile. R is the revocation key of a commitment, 33 bytes; amounts are satoshi, weights WU."""

    plain_hash_type: int
    """Signs everything: the type of all signatures but the highest rung of a ladder."""

    ladder_hash_types: frozenset[int]
    """What a pre-signed penalty may carry."""

    single_hash_types: frozenset[int]
    """What it may carry in addition where a policy admits SINGLE|ANYONECANPAY."""

    program: bytes
    """First two bytes of every script (scriptPubKey) of the profile."""

    def funding_output(self, params: ChannelParams) -> Output:
        """The 2-of-2 output that holds the capacity."""

    def funding_descriptor(self, params: ChannelParams, musig: bool) -> str:
        """Descriptor of it, without checksum."""

    def contest_output(self, params: ChannelParams, revocation_key: bytes) -> Output:
        """Output 0 of a commitment."""

    def contest_descriptor(self, params: ChannelParams, revocation_key: bytes) -> str:
        """Descriptor of it, without checksum."""

    def htlc_output(self, params: ChannelParams, terms: HtlcTerms) -> Output:
        """Conditional output of a settlement."""

    def htlc_descriptor(self, params: ChannelParams, terms: HtlcTerms) -> str:
        """Descriptor of it, without checksum."""

    def sign(self, secret: bytes, message: bytes, aux: bytes) -> bytes:
        """Signature by a funding or HTLC secret."""

    def sign_settle(self, secret: bytes, message: bytes, aux: bytes) -> bytes:
        """Signature by a settle secret, whose key is known by its x coordinate only."""

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        """Whether a signature is by this funding or HTLC key (33 bytes)."""

    def verify_settle(self, settle: bytes, message: bytes, signature: bytes) -> bool:
        """Whether a signature is by this settle key (32 bytes)."""

    def funding_message(self, params: ChannelParams, tx: Transaction) -> bytes:
        """What both funding keys sign on a commitment or a cooperative close."""

    def funding_witness(self, params: ChannelParams, sig_a: bytes, sig_b: bytes) -> Witness:
        """Witness of a spend of the funding output by both signatures."""

    def funding_witness_weight(self) -> int:
        """Most that this witness weighs."""

    def settle_message(self, params: ChannelParams, tx: Transaction, revocation_key: bytes) -> bytes:
        """What both settle keys sign on a settlement."""

    def settle_witness(self, params: ChannelParams, revocation_key: bytes, sig_a: bytes, sig_b: bytes) -> Witness:
        """Witness of a settlement."""

    def settle_witness_weight(self, params: ChannelParams) -> int:
        """Most that this witness weighs; the fee of a settlement is computed with it."""

    def penalty_message(
        self, params: ChannelParams, tx: Transaction, contest_spk: bytes, revocation_key: bytes | None, hash_type: int
    ) -> bytes:
        """What the revocation secret signs on a penalty; `MalformedInput` if the profile needs R and has none."""

    def sign_penalty(
        self, params: ChannelParams, revocation_key: bytes, revocation_secret: bytes, message: bytes, aux: bytes
    ) -> bytes:
        """Signature of a penalty by the secret r of R."""

    def verify_penalty(
        self, contest_spk: bytes, revocation_key: bytes | None, message: bytes, signature: bytes
    ) -> bool:
        """Whether a signature by r fits this message."""

    def penalty_witness(
        self, params: ChannelParams, revocation_key: bytes | None, signature: bytes, hash_type: int
    ) -> Witness:
        """Witness of a penalty; `MalformedInput` if the profile needs R and has none."""

    def read_penalty(self, params: ChannelParams, witness: Witness, contest_spk: bytes) -> PenaltySignature | None:
        """What the witness of a penalty for this contest script holds, or None if it is none."""

    def is_penalty_witness(self, witness: Sequence[bytes]) -> bool:
        """Whether a spend of a contest output took the way of the revocation key, by its witness alone."""

    def penalty_witness_weight(self, params: ChannelParams) -> int:
        """Most that the witness of a penalty weighs."""

    def claim_message(
        self, params: ChannelParams, terms: HtlcTerms, amount: int, tx: Transaction, path: ClaimPath
    ) -> bytes:
        """What the claimant of an HTLC signs."""

    def claim_witness(
        self, params: ChannelParams, terms: HtlcTerms, path: ClaimPath, signature: bytes, preimage: bytes | None
    ) -> Witness:
        """Witness of a claim; the preimage (32 bytes) for the success path only."""

    def claim_witness_weight(self, params: ChannelParams, terms: HtlcTerms, path: ClaimPath) -> int:
        """Most that the witness of a claim weighs."""


_FORMS: tuple[Form, ...] = (TaprootForm(), SegwitForm())


def form_of(params: ChannelParams) -> Form:
    """The form of a channel; `InvalidParams` for a profile that does not exist."""
    if not 0 <= params.profile < len(_FORMS):
        raise InvalidParams(f"profile {params.profile} is unknown; use profile 0 (taproot) or 1 (segwit v0)")
    return _FORMS[params.profile]
