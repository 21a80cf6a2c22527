"""Commitment transactions: how one side publishes a state (protocol 2.4, 3.2).

Rule D1: a commitment depends on the channel constants, the state number and one secret only. All states with
the same number therefore share their commitments.
"""

from __future__ import annotations

from domain.contract.form import form_of
from domain.contract.params import ChannelParams
from domain.contract.revocation import revocation_public
from domain.contract.scripts import ANCHOR, contest_output
from domain.errors import MalformedInput
from domain.transaction import Transaction, TxIn, TxOut
from domain.units import MAX_SEQUENCE, Side

_SEQUENCE_BASE = 0x80000000
"""Bit 31 switches BIP-68 off; with a zero byte below it the value signals replaceability."""

_LOCK_TIME_BASE = 0x20000000
"""A time in 1987: always in the past, so the low bits are free."""


def obscure(params: ChannelParams, sequence: int) -> tuple[int, int]:
    """(nSequence, nLockTime) that carry the hidden state number."""
    if not 0 <= sequence <= MAX_SEQUENCE:
        raise MalformedInput(f"a state number lies between 0 and 2^48-2, got {sequence}")
    hidden = sequence ^ params.mask48
    return _SEQUENCE_BASE | hidden >> 24, _LOCK_TIME_BASE | hidden & 0xFFFFFF


def decode_number(params: ChannelParams, sequence: int, lock_time: int) -> int:
    """Number n' read from nSequence and nLockTime. Any transaction gives some number: check the txid as well."""
    return ((sequence & 0xFFFFFF) << 24 | lock_time & 0xFFFFFF) ^ params.mask48


def commitment_number(params: ChannelParams, tx: Transaction) -> int:
    """Number n' of a transaction's first input and lock time."""
    return decode_number(params, tx.inputs[0].sequence, tx.lock_time)


def contest_key(params: ChannelParams, side: Side, point: bytes) -> bytes:
    """R (33 bytes) of the commitment of `side` whose per-commitment point is `point`."""
    return revocation_public(params.keys(side.other).rev, point)


def contest_txout(params: ChannelParams, revocation_key: bytes) -> TxOut:
    """Output 0 of the commitment whose revocation key is R."""
    return TxOut(params.contest_value, contest_output(params, revocation_key).spk)


def build_commitment(params: ChannelParams, side: Side, sequence: int, point: bytes) -> Transaction:
    """Commitment of `side` for a state, without witness; `point` is that side's P of the state."""
    return build_commitment_to(params, sequence, contest_txout(params, contest_key(params, side, point)).spk)


def build_commitment_to(params: ChannelParams, sequence: int, contest_spk: bytes) -> Transaction:
    """Commitment with a given contest script, for those who know it but not the secret behind it."""
    n_sequence, lock_time = obscure(params, sequence)
    return Transaction(
        version=3,
        inputs=(TxIn(params.funding_outpoint, n_sequence),),
        outputs=(TxOut(params.contest_value, contest_spk), ANCHOR),
        lock_time=lock_time,
    )


def is_commitment_template(tx: Transaction, params: ChannelParams) -> bool:
    """Whether this is a commitment of the channel for some number and some contest key."""
    if tx.version != 3 or len(tx.inputs) != 1 or len(tx.outputs) != 2:
        return False
    txin, contest, anchor = tx.inputs[0], *tx.outputs
    if txin.outpoint != params.funding_outpoint or txin.script_sig:
        return False
    if txin.sequence >> 24 != 0x80 or tx.lock_time >> 24 != 0x20:
        return False
    if contest.value != params.contest_value or len(contest.spk) != 34 or contest.spk[:2] != form_of(params).program:
        return False
    return anchor == ANCHOR and commitment_number(params, tx) <= MAX_SEQUENCE


def funding_sighash(params: ChannelParams, tx: Transaction) -> bytes:
    """What both funding keys sign to spend the funding output: by leaf_F, or for W_F in profile 1."""
    return form_of(params).funding_message(params, tx)


def sign_funding(params: ChannelParams, tx: Transaction, fund_secret: bytes, aux: bytes) -> bytes:
    """Signature (64 bytes) of one party on a commitment or cooperative close; `aux` 32 bytes of randomness."""
    return form_of(params).sign(fund_secret, funding_sighash(params, tx), aux)


def verify_funding(params: ChannelParams, tx: Transaction, side: Side, signature: bytes) -> bool:
    """Whether `side` signed this spend of the funding output."""
    return form_of(params).verify(params.keys(side).fund, funding_sighash(params, tx), signature)


def commitment_sighash(params: ChannelParams, tx: Transaction) -> bytes:
    """What both funding keys sign on a commitment."""
    return funding_sighash(params, tx)


def complete_by_leaf(params: ChannelParams, tx: Transaction, sig_a: bytes, sig_b: bytes) -> Transaction:
    """A spend of the funding output with its witness by leaf_F or W_F; signatures of A and B, 64 bytes each."""
    return tx.with_witness(0, form_of(params).funding_witness(params, sig_a, sig_b))


def complete_commitment(params: ChannelParams, tx: Transaction, sig_a: bytes, sig_b: bytes) -> Transaction:
    """The commitment with its witness, ready for broadcast."""
    return complete_by_leaf(params, tx, sig_a, sig_b)
