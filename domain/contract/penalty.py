"""Penalty transactions: the other side takes the whole contest output of a revoked commitment (protocol 3.6).

Always version 3, one input, one output, key path. A penalty signed with SIGHASH_DEFAULT stands as it is:
nothing can be added to it and nothing but another penalty conflicts with it before the challenge period ends.
"""

from __future__ import annotations

from domain.chain import make_outpoint
from domain.contract import keys
from domain.contract.params import P2A_SPK, ChannelParams, is_witness_program
from domain.contract.scripts import contest_output, dust_limit
from domain.contract.sighash import SIGHASH_DEFAULT, taproot_sighash
from domain.errors import InvalidSecret, InvalidState
from domain.transaction import Transaction, TxIn, TxOut
from domain.units import vsize

RBF_SEQUENCE = 0xFFFFFFFD
"""Replaceable, no relative lock."""


def penalty_weight(sweep_spk: bytes) -> int:
    """Weight in WU with a 64-byte signature: 444 for a P2TR sweep, 396 for P2WPKH."""
    return 4 * (60 + len(sweep_spk)) + 68


def penalty_vsize(params: ChannelParams, sweep_spk: bytes) -> int:
    """Size in vB: 111 for a P2TR sweep, 99 for P2WPKH, whatever the revoked state held."""
    del params  # the same for every channel of this profile
    return vsize(penalty_weight(sweep_spk))


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
    params: ChannelParams, tx: Transaction, contest_spk: bytes, hash_type: int = SIGHASH_DEFAULT
) -> bytes:
    """What the revocation key signs; `contest_spk` is output 0 of the punished commitment."""
    return taproot_sighash(tx, 0, (TxOut(params.contest_value, contest_spk),), hash_type)


def sign_penalty(
    params: ChannelParams,
    tx: Transaction,
    revocation_key: bytes,
    revocation_secret: bytes,
    aux: bytes,
    hash_type: int = SIGHASH_DEFAULT,
) -> Transaction:
    """The penalty with its witness; R (33 bytes) and its secret r (32), `aux` 32 bytes of randomness."""
    if keys.public_key(revocation_secret) != revocation_key:
        raise InvalidSecret("the revocation secret does not belong to the commitment's revocation key")
    output = contest_output(params, revocation_key)
    message = penalty_sighash(params, tx, output.spk, hash_type)
    signature = keys.sign_schnorr(keys.tweak_secret(revocation_secret, output.merkle_root), message, aux)
    suffix = b"" if hash_type == SIGHASH_DEFAULT else bytes((hash_type,))
    return tx.with_witness(0, (signature + suffix,))


def verify_penalty(tx: Transaction, params: ChannelParams, contest_spk: bytes) -> bool:
    """Whether this is a penalty of the form above with a valid signature for the contest output."""
    if tx.version != 3 or tx.lock_time != 0 or len(tx.inputs) != 1 or len(tx.outputs) != 1:
        return False
    witness = tx.inputs[0].witness
    if len(witness) != 1 or len(contest_spk) != 34 or not 64 <= len(witness[0]) <= 65:
        return False
    signature, suffix = witness[0][:64], witness[0][64:]
    if suffix not in (b"", b"\x01", b"\x81"):
        return False
    hash_type = suffix[0] if suffix else SIGHASH_DEFAULT
    message = penalty_sighash(params, tx, contest_spk, hash_type)
    return keys.verify_schnorr(contest_spk[2:], message, signature)
