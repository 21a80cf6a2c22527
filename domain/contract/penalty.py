"""Penalty transactions: the other side takes the whole contest output of a revoked commitment (protocol 3.6).

Always version 3, one input, one output, signed by the revocation secret alone. A penalty that signs everything
stands as it is: nothing can be added to it and nothing but another penalty conflicts with it before the challenge
period ends.
"""

from __future__ import annotations

from domain.chain import OutPoint, make_outpoint
from domain.contract import keys
from domain.contract.form import form_of
from domain.contract.params import P2A_SPK, ChannelParams, is_witness_program
from domain.contract.scripts import contest_output, dust_limit
from domain.errors import InvalidSecret, InvalidState
from domain.transaction import Transaction, TxIn, TxOut
from domain.units import vsize

RBF_SEQUENCE = 0xFFFFFFFD
"""Replaceable, no relative lock."""


def penalty_weight(params: ChannelParams, sweep_spk: bytes) -> int:
    """Most that a penalty weighs, in WU: 444 for a P2TR sweep and 396 for P2WPKH; 566 and 518 in profile 1."""
    return 4 * (60 + len(sweep_spk)) + 2 + form_of(params).penalty_witness_weight(params)


def penalty_vsize(params: ChannelParams, sweep_spk: bytes) -> int:
    """Size in vB: 111 for a P2TR sweep, 99 for P2WPKH, whatever the revoked state held; 142 and 130 in profile 1."""
    return vsize(penalty_weight(params, sweep_spk))


def max_penalty_fee(params: ChannelParams, sweep_spk: bytes) -> int:
    """Highest fee in satoshi that leaves the sweep output above dust."""
    return params.contest_value - dust_limit(sweep_spk)


def build_penalty(params: ChannelParams, commit_txid: bytes, fee: int, sweep_spk: bytes) -> Transaction:
    """Penalty of the commitment with this txid (internal order), without witness; `fee` in satoshi.

    Raises `InvalidState` if the fee is negative or leaves less than dust, or if the sweep script is not a
    witness program.
    """
    if not is_witness_program(sweep_spk) or sweep_spk == P2A_SPK:
        raise InvalidState("a sweep script must be a witness program: use a P2TR or P2WPKH address")
    if not 0 <= fee <= max_penalty_fee(params, sweep_spk):
        raise InvalidState(
            f"a penalty fee of {fee} sat is outside 0 … {max_penalty_fee(params, sweep_spk)} sat for this channel"
        )
    contest = TxIn(make_outpoint(commit_txid, 0), RBF_SEQUENCE)
    sweep = TxOut(params.contest_value - fee, sweep_spk)
    return Transaction(version=3, inputs=(contest,), outputs=(sweep,), lock_time=0)


def penalty_sighash(
    params: ChannelParams,
    tx: Transaction,
    contest_spk: bytes,
    hash_type: int | None = None,
    revocation_key: bytes | None = None,
) -> bytes:
    """What the revocation key signs; `contest_spk` is output 0 of the punished commitment.

    Without `hash_type` the profile's plain one. Profile 1 needs R (33 bytes), profile 0 does not look at it.
    """
    form = form_of(params)
    kind = form.plain_hash_type if hash_type is None else hash_type
    return form.penalty_message(params, tx, contest_spk, revocation_key, kind)


def sign_penalty(
    params: ChannelParams,
    tx: Transaction,
    revocation_key: bytes,
    revocation_secret: bytes,
    aux: bytes,
    hash_type: int | None = None,
) -> Transaction:
    """The penalty with its witness; R (33 bytes) and its secret r (32), `aux` 32 bytes of randomness.

    Without `hash_type` the profile's plain one, which signs everything.
    """
    if keys.public_key(revocation_secret) != revocation_key:
        raise InvalidSecret("the revocation secret does not belong to the commitment's revocation key")
    form = form_of(params)
    kind = form.plain_hash_type if hash_type is None else hash_type
    message = form.penalty_message(params, tx, contest_output(params, revocation_key).spk, revocation_key, kind)
    signature = form.sign_penalty(params, revocation_key, revocation_secret, message, aux)
    return complete_penalty(params, tx, signature, kind, revocation_key)


def complete_penalty(
    params: ChannelParams, tx: Transaction, signature: bytes, hash_type: int, revocation_key: bytes | None = None
) -> Transaction:
    """The penalty with the witness for a signature (64 bytes) made before; profile 1 needs R (33 bytes)."""
    return tx.with_witness(0, form_of(params).penalty_witness(params, revocation_key, signature, hash_type))


def verify_penalty(tx: Transaction, params: ChannelParams, contest_spk: bytes) -> bool:
    """Whether this is a penalty of the form above with a valid signature for the contest output."""
    if tx.version != 3 or tx.lock_time != 0 or len(tx.inputs) != 1 or len(tx.outputs) != 1:
        return False
    form = form_of(params)
    found = form.read_penalty(params, tx.inputs[0].witness, contest_spk)
    if found is None:
        return False
    message = form.penalty_message(params, tx, contest_spk, found.revocation_key, found.hash_type)
    return form.verify_penalty(contest_spk, found.revocation_key, message, found.signature)


def takes_by_revocation(params: ChannelParams, tx: Transaction, contest: OutPoint) -> bool:
    """Whether a confirmed transaction spends this contest output with the revocation key, by its witness alone."""
    form = form_of(params)
    return any(form.is_penalty_witness(txin.witness) for txin in tx.inputs if txin.outpoint == contest)
