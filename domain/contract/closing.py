"""Cooperative close: both parties spend the funding output to the agreed payouts (protocol 3.7)."""

from __future__ import annotations

from domain.contract import keys
from domain.contract.commitment import complete_by_leaf, funding_sighash, sign_funding, verify_funding
from domain.contract.form import form_of
from domain.contract.musig import MusigSession
from domain.contract.params import TAPROOT, ChannelParams
from domain.contract.penalty import RBF_SEQUENCE
from domain.contract.scripts import MAX_EXPIRY, dust_limit, funding_txout
from domain.contract.sighash import taproot_sighash
from domain.contract.taproot_scripts import funding_output
from domain.contract.taproot_tree import TaprootOutput
from domain.errors import InvalidParams, InvalidState
from domain.transaction import Transaction, TxIn, TxOut
from domain.units import Side

KEY_PATH_WEIGHT = 616
"""Weight in WU of a close by key path with two P2TR payouts."""


def build_cooperative_close(
    params: ChannelParams, final_balances: tuple[int, int], closer: Side, fee: int, lock_time: int = 0
) -> Transaction:
    """Close with final balances of A and B in satoshi; the closer pays the fee. `lock_time` is a height or 0.

    Raises `InvalidState` if the balances do not add up to the capacity or the closer cannot pay.
    """
    if min(final_balances) < 0 or sum(final_balances) != params.capacity:
        raise InvalidState(
            f"final balances of {final_balances[0]} and {final_balances[1]} sat do not add up to the capacity of "
            f"{params.capacity} sat"
        )
    if not 0 <= fee <= final_balances[closer]:
        raise InvalidState(f"a closing fee of {fee} sat is outside 0 … {final_balances[closer]} sat of the closer")
    if not 0 <= lock_time < MAX_EXPIRY:
        raise InvalidState(f"the lock time of a close is a block height or 0, got {lock_time}")
    outputs = []
    for side in Side:
        value = final_balances[side] - (fee if side is closer else 0)
        payout = params.keys(side).payout
        if value >= dust_limit(payout):
            outputs.append(TxOut(value, payout))
    if not outputs:
        raise InvalidState("a close without outputs is impossible: both balances are below dust")
    return Transaction(2, (TxIn(params.funding_outpoint, RBF_SEQUENCE),), tuple(outputs), lock_time)


def leaf_sighash(params: ChannelParams, tx: Transaction) -> bytes:
    """What both funding keys sign for the form by leaf_F (W_F in profile 1)."""
    return funding_sighash(params, tx)


def sign_close(params: ChannelParams, tx: Transaction, fund_secret: bytes, aux: bytes) -> bytes:
    """Signature (64 bytes) of one party for that form; `aux` 32 bytes of randomness."""
    return sign_funding(params, tx, fund_secret, aux)


def verify_close(params: ChannelParams, tx: Transaction, side: Side, signature: bytes) -> bool:
    """Whether `side` signed the close for that form."""
    return verify_funding(params, tx, side, signature)


def close_weight(params: ChannelParams, tx: Transaction) -> int:
    """Most that this close weighs in that form, in WU: 784 with two P2TR payouts, 770 in profile 1."""
    return 4 * len(tx.serialize(witness=False)) + 2 + form_of(params).funding_witness_weight()


def key_path_sighash(params: ChannelParams, tx: Transaction) -> bytes:
    """What a MuSig2 session of the funding keys signs for the key path; `InvalidParams` in profile 1."""
    _key_path(params)
    return taproot_sighash(tx, 0, (funding_txout(params),))


def key_path_session(
    params: ChannelParams, tx: Transaction, fund_secret: bytes, session_secrand: bytes
) -> MusigSession:
    """One attempt of one party to sign the close by key path; 32 fresh random bytes. `InvalidParams` in profile 1."""
    publics = (params.keys_a.fund, params.keys_b.fund)
    root = _key_path(params).merkle_root
    return MusigSession(fund_secret, publics, session_secrand, root, key_path_sighash(params, tx))


def verify_key_path(params: ChannelParams, tx: Transaction, signature: bytes) -> bool:
    """Whether this is the joined signature (64 bytes) of both parties on the close; `InvalidParams` in profile 1."""
    return keys.verify_schnorr(_key_path(params).output_key, key_path_sighash(params, tx), signature)


def complete_close_by_leaf(params: ChannelParams, tx: Transaction, sig_a: bytes, sig_b: bytes) -> Transaction:
    """The close with its witness by leaf_F or W_F; signatures of A and B, 64 bytes each."""
    return complete_by_leaf(params, tx, sig_a, sig_b)


def complete_close_by_key_path(tx: Transaction, signature: bytes) -> Transaction:
    """The close with the aggregate signature (64 bytes) as its witness."""
    return tx.with_witness(0, (signature,))


def _key_path(params: ChannelParams) -> TaprootOutput:
    if params.profile != TAPROOT:
        raise InvalidParams("profile 1 has no key path; close with a signature of each party instead of MuSig2")
    return funding_output(params)


def is_cooperative_close(tx: Transaction, params: ChannelParams) -> bool:
    """Template rule of protocol 7.2: version 2, spends the funding output, pays the two payouts only.

    This is safe: a commitment has version 3, and a party signs no other version-2 spend of the funding output.
    """
    if tx.version != 2 or all(txin.outpoint != params.funding_outpoint for txin in tx.inputs):
        return False
    payouts = (params.keys_a.payout, params.keys_b.payout)
    return all(txout.spk in payouts for txout in tx.outputs)
