"""Claims on HTLC outputs of a settlement: success with the preimage, timeout after the expiry (protocol 3.5)."""

from __future__ import annotations

from collections.abc import Sequence

from domain.chain import make_outpoint
from domain.contract.conditions import Condition
from domain.contract.form import form_of
from domain.contract.hashes import sha256
from domain.contract.params import ChannelParams
from domain.contract.penalty import RBF_SEQUENCE
from domain.contract.primitives import ClaimPath, HtlcTerms, Output, dust_limit
from domain.errors import InvalidSecret, InvalidState
from domain.transaction import Transaction, TxIn, TxOut
from domain.units import Side

__all__ = [
    "ClaimPath",
    "build_htlc_success",
    "build_htlc_timeout",
    "claim_output",
    "claim_sighash",
    "claim_weight",
    "claimant",
    "complete_htlc_success",
    "complete_htlc_timeout",
    "extract_preimage",
    "sign_htlc_claim",
]


def claim_output(params: ChannelParams, condition: Condition) -> Output:
    """The HTLC output of a condition; `InvalidState` for descriptor conditions, which have no claim here."""
    return form_of(params).htlc_output(params, _terms(condition))


def claim_weight(params: ChannelParams, condition: Condition, path: ClaimPath, dest_spk: bytes) -> int:
    """Most that a claim with one input and one output weighs, in WU.

    To P2TR 605 by success and 550 by timeout (39-byte leaf); in profile 1 591 and 559 (105-byte script).
    """
    witness = form_of(params).claim_witness_weight(params, _terms(condition), path)
    return 4 * (60 + len(dest_spk)) + 2 + witness


def claimant(condition: Condition, path: ClaimPath) -> Side:
    """Who may claim: the receiver by success, the offerer by timeout."""
    return condition.offerer.other if path is ClaimPath.SUCCESS else condition.offerer


def build_htlc_success(
    params: ChannelParams,
    condition: Condition,
    settle_txid: bytes,
    vout: int,
    fee: int,
    dest_spk: bytes,
    version: int = 3,
) -> Transaction:
    """Claim with the preimage, without witness. Version 3 is required while the settlement is unconfirmed."""
    return _build_claim(params, condition, settle_txid, vout, fee, dest_spk, version, lock_time=0)


def build_htlc_timeout(
    params: ChannelParams,
    condition: Condition,
    settle_txid: bytes,
    vout: int,
    fee: int,
    dest_spk: bytes,
    version: int = 3,
) -> Transaction:
    """Refund to the offerer, without witness; valid in blocks above the expiry height."""
    lock_time = condition.expiry
    return _build_claim(params, condition, settle_txid, vout, fee, dest_spk, version, lock_time)


def claim_sighash(params: ChannelParams, condition: Condition, tx: Transaction, path: ClaimPath) -> bytes:
    """What the claimant's HTLC key signs."""
    return form_of(params).claim_message(params, _terms(condition), condition.amount, tx, path)


def sign_htlc_claim(
    params: ChannelParams,
    condition: Condition,
    tx: Transaction,
    path: ClaimPath,
    htlc_secret: bytes,
    aux: bytes,
) -> bytes:
    """Signature (64 bytes) of the claimant on a claim."""
    return form_of(params).sign(htlc_secret, claim_sighash(params, condition, tx, path), aux)


def complete_htlc_success(
    params: ChannelParams, condition: Condition, tx: Transaction, signature: bytes, preimage: bytes
) -> Transaction:
    """The success claim with its witness; `InvalidSecret` unless the preimage fits the payment hash."""
    if len(preimage) != 32 or sha256(preimage) != condition.hash:
        raise InvalidSecret("the preimage does not hash to the condition's payment hash")
    terms, form = _terms(condition), form_of(params)
    return tx.with_witness(0, form.claim_witness(params, terms, ClaimPath.SUCCESS, signature, preimage))


def complete_htlc_timeout(
    params: ChannelParams, condition: Condition, tx: Transaction, signature: bytes
) -> Transaction:
    """The timeout claim with its witness."""
    terms, form = _terms(condition), form_of(params)
    return tx.with_witness(0, form.claim_witness(params, terms, ClaimPath.TIMEOUT, signature, None))


def extract_preimage(witness: Sequence[bytes], payment_hash: bytes) -> bytes | None:
    """The preimage of a payment hash if a witness reveals it, else None."""
    for item in witness:
        if len(item) == 32 and sha256(item) == payment_hash:
            return item
    return None


def _terms(condition: Condition) -> HtlcTerms:
    if not condition.is_htlc:
        raise InvalidState("only HTLC conditions are claimed by this program; spend the descriptor yourself")
    return HtlcTerms(condition.offerer, condition.hash, condition.expiry)


def _build_claim(
    params: ChannelParams,
    condition: Condition,
    settle_txid: bytes,
    vout: int,
    fee: int,
    dest_spk: bytes,
    version: int,
    lock_time: int,
) -> Transaction:
    claim_output(params, condition)
    value = condition.amount - fee
    if fee < 0 or value < dust_limit(dest_spk):
        most = condition.amount - dust_limit(dest_spk)
        raise InvalidState(f"a claim fee of {fee} sat is outside 0 … {most} sat for this HTLC")
    claimed = TxIn(make_outpoint(settle_txid, vout), RBF_SEQUENCE)
    return Transaction(version, (claimed,), (TxOut(value, dest_spk),), lock_time)
