"""Settlement transactions: how the contest output is split T blocks later (protocol 3.4).

Amounts follow the exact algorithm of the protocol: A, the opener, pays all overhead; outputs below dust are
left out and their value becomes fee.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from domain.chain import make_outpoint
from domain.contract.conditions import Condition, ConditionKey, condition_spk, in_order
from domain.contract.form import form_of
from domain.contract.params import ChannelParams
from domain.contract.scripts import ANCHOR, dust_limit
from domain.errors import InvalidState
from domain.transaction import Transaction, TxIn, TxOut, compact_size
from domain.units import Side, ceil_div, vsize

MAX_VSIZE = 10_000
"""Largest version-3 transaction that nodes relay (BIP-431), in vB."""


class SettlementPlan(msgspec.Struct, frozen=True):
    """Outputs of a settlement, its nominal fee F_s in satoshi and size in vB, and who is where.

    `condition_vouts` maps (type, id) to the output number; trimmed conditions are absent. `trimmed_sat` is the
    sum of the trimmed conditions.
    """

    outputs: tuple[TxOut, ...]
    fee: int
    vsize: int
    condition_vouts: dict[ConditionKey, int]
    trimmed_sat: int


def plan_settlement(
    params: ChannelParams,
    balance_a: int,
    balance_b: int,
    conditions: Sequence[Condition] = (),
    onchain_hash: bytes | None = None,
) -> SettlementPlan:
    """Split of the contest output; `InvalidState` if A cannot pay the overhead.

    `onchain_hash` (32 bytes) is required by the flag onchain_state and forbidden without it.
    """
    return _plan(params, balance_a, balance_b, tuple(conditions), onchain_hash)


@lru_cache(maxsize=256)
def _plan(
    params: ChannelParams, balance_a: int, balance_b: int, conditions: tuple[Condition, ...], onchain_hash: bytes | None
) -> SettlementPlan:
    """The rules ask for it first, then the transactions of the same state are built from it."""
    if (onchain_hash is not None) != params.has_onchain_state:
        raise InvalidState("a settlement carries a state hash exactly if the flag onchain_state is set")
    priced = [(condition, condition_spk(params, condition)) for condition in in_order(conditions)]
    live = [(condition, spk) for condition, spk in priced if condition.amount >= dust_limit(spk)]
    payout_a, payout_b = params.keys_a.payout, params.keys_b.payout
    keep_b = balance_b >= dust_limit(payout_b)
    note = [] if onchain_hash is None else [TxOut(0, b"\x6a\x20" + onchain_hash)]
    # A's output is counted even if it is trimmed below: its amount depends on the fee computed here.
    spks = [payout_a, *([payout_b] if keep_b else []), *(spk for _, spk in live), *(out.spk for out in note)]
    size = vsize(_weight(params, spks))
    fee = ceil_div(params.static_feerate * size, 1000)
    remainder_a = balance_a - overhead(params, fee)
    if remainder_a < 0:
        raise InvalidState(
            f"balance A of {balance_a} sat does not cover the overhead of {overhead(params, fee)} sat; "
            "leave A more or drop conditions"
        )
    balances = [TxOut(remainder_a, payout_a)] if remainder_a >= dust_limit(payout_a) else []
    balances += [TxOut(balance_b, payout_b)] if keep_b else []
    conditional = [TxOut(condition.amount, spk) for condition, spk in live]
    vouts = {condition.key: len(balances) + place for place, (condition, _) in enumerate(live)}
    trimmed = sum(condition.amount for condition in conditions) - sum(out.value for out in conditional)
    return SettlementPlan((*balances, *conditional, *note, ANCHOR), fee, size, vouts, trimmed)


def overhead(params: ChannelParams, settle_fee: int) -> int:
    """What A pays beside its balance: two anchors and two fees, in satoshi."""
    return 2 * ANCHOR.value + params.commitment_fee + settle_fee


def settle_outputs(
    params: ChannelParams,
    balance_a: int,
    balance_b: int,
    conditions: Sequence[Condition] = (),
    onchain_hash: bytes | None = None,
) -> list[TxOut]:
    """Outputs of the settlement of a state, in order."""
    return list(plan_settlement(params, balance_a, balance_b, conditions, onchain_hash).outputs)


def settlement_fee(
    params: ChannelParams,
    balance_a: int,
    balance_b: int,
    conditions: Sequence[Condition] = (),
    onchain_hash: bytes | None = None,
) -> int:
    """F_s in satoshi; trimmed amounts come on top of it."""
    return plan_settlement(params, balance_a, balance_b, conditions, onchain_hash).fee


def condition_vouts(
    params: ChannelParams,
    balance_a: int,
    balance_b: int,
    conditions: Sequence[Condition] = (),
    onchain_hash: bytes | None = None,
) -> dict[ConditionKey, int]:
    """Output number of each untrimmed condition by (type, id)."""
    return dict(plan_settlement(params, balance_a, balance_b, conditions, onchain_hash).condition_vouts)


def build_settlement(params: ChannelParams, commit_txid: bytes, outputs: Sequence[TxOut]) -> Transaction:
    """Settlement of the commitment with this txid (internal order), without witness."""
    contest = TxIn(make_outpoint(commit_txid, 0), params.challenge_period)
    return Transaction(version=3, inputs=(contest,), outputs=tuple(outputs), lock_time=0)


def settlement_sighash(params: ChannelParams, tx: Transaction, revocation_key: bytes) -> bytes:
    """What both settle keys sign, by leaf_S or for W_C; R (33 bytes) is that of the spent commitment."""
    return form_of(params).settle_message(params, tx, revocation_key)


def sign_settlement(
    params: ChannelParams, tx: Transaction, revocation_key: bytes, settle_secret: bytes, aux: bytes
) -> bytes:
    """Signature (64 bytes) of one party; `aux` 32 bytes of randomness."""
    return form_of(params).sign_settle(settle_secret, settlement_sighash(params, tx, revocation_key), aux)


def verify_settlement(
    params: ChannelParams, tx: Transaction, revocation_key: bytes, side: Side, signature: bytes
) -> bool:
    """Whether `side` signed this settlement."""
    message = settlement_sighash(params, tx, revocation_key)
    return form_of(params).verify_settle(params.keys(side).settle, message, signature)


def complete_settlement(
    params: ChannelParams, tx: Transaction, revocation_key: bytes, sig_a: bytes, sig_b: bytes
) -> Transaction:
    """The settlement with its witness by leaf_S or W_C; signatures of A and B, 64 bytes each."""
    return tx.with_witness(0, form_of(params).settle_witness(params, revocation_key, sig_a, sig_b))


def _weight(params: ChannelParams, spks: list[bytes]) -> int:
    """W_s in WU for these output scripts and the anchor."""
    stripped = 50 + len(compact_size(len(spks) + 1)) + sum(9 + len(spk) for spk in spks) + 13
    # Two WU are the marker and flag of a transaction with witnesses.
    return 4 * stripped + 2 + form_of(params).settle_witness_weight(params)
