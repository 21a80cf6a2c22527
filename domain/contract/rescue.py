"""Joint settlement before the challenge period ends, by leaf_R (flag rescue_leaf, protocol 3.2).

Both parties must follow three rules that no transaction can enforce: sign only after the commitment is
confirmed, never for a revoked commitment, and at most one set of amounts ever.
"""

from __future__ import annotations

from collections.abc import Sequence

from domain.chain import make_outpoint
from domain.contract.commitment import contest_txout
from domain.contract.params import ChannelParams
from domain.contract.penalty import RBF_SEQUENCE
from domain.contract.primitives import dust_limit
from domain.contract.sighash import taproot_sighash
from domain.contract.taproot_form import order_by_settle_key
from domain.contract.taproot_scripts import contest_leaves, contest_output
from domain.contract.taproot_tree import tap_leaf_hash
from domain.errors import InvalidParams, InvalidState
from domain.transaction import Transaction, TxIn, TxOut

RESCUE_WEIGHT = 816
"""Weight in WU with two P2TR outputs."""


def build_rescue(params: ChannelParams, commit_txid: bytes, outputs: Sequence[TxOut]) -> Transaction:
    """Spend of the contest output to agreed outputs at once, without witness; what they leave of V is the fee.

    Raises `InvalidParams` without the flag and `InvalidState` for outputs that are dust or exceed V.
    """
    _need_flag(params)
    if not outputs or any(output.value < dust_limit(output.spk) for output in outputs):
        raise InvalidState("a joint settlement needs outputs, none of them below dust")
    if sum(output.value for output in outputs) > params.contest_value:
        raise InvalidState(f"the outputs exceed the contest output of {params.contest_value} sat")
    contest = TxIn(make_outpoint(commit_txid, 0), RBF_SEQUENCE)
    return Transaction(version=3, inputs=(contest,), outputs=tuple(outputs), lock_time=0)


def rescue_sighash(params: ChannelParams, tx: Transaction, revocation_key: bytes) -> bytes:
    """What both settle keys sign by leaf_R; R (33 bytes) is that of the spent commitment."""
    _need_flag(params)
    leaf_hash = tap_leaf_hash(contest_leaves(params)[1])
    return taproot_sighash(tx, 0, (contest_txout(params, revocation_key),), leaf_hash=leaf_hash)


def complete_rescue(
    params: ChannelParams, tx: Transaction, revocation_key: bytes, sig_a: bytes, sig_b: bytes
) -> Transaction:
    """The joint settlement with its witness; signatures of A and B, 64 bytes each."""
    _need_flag(params)
    output = contest_output(params, revocation_key)
    signatures = order_by_settle_key(params, sig_a, sig_b)
    return tx.with_witness(0, (*signatures, output.leaves[1], output.control_blocks[1]))


def _need_flag(params: ChannelParams) -> None:
    if not params.has_rescue_leaf:
        raise InvalidParams("this channel has no rescue leaf; wait for the end of the challenge period")
