"""Why the anchor holds 240 sat: after a reorg a clean penalty must still get in (protocol 3.3)."""

from __future__ import annotations

import msgspec

from domain.chain import make_outpoint
from domain.contract import keys
from domain.contract.commitment import build_commitment, commitment_sighash, complete_commitment
from domain.contract.params import P2A_SPK
from domain.contract.revocation import revocation_secret
from domain.contract.sighash import taproot_sighash
from domain.contract.taproot_scripts import contest_output
from domain.transaction import Transaction, TxIn, TxOut
from domain.units import Side
from tests.regtest.contract_stage import AUX, open_channel, penalty, sweep_of
from tests.support.parties import Pair
from watchtower.devnode.regtest import RegtestNode


def _mined_with_child_then_disconnected(node: RegtestNode, commitment: bytes, anchor_sat: int) -> bytes:
    """Commitment and anchor child go into a block that is taken back; the child's txid."""
    txid = Transaction.parse(commitment).txid
    child = node.anchor_child(txid, fee=2_000, value=anchor_sat)
    node.submit_package([commitment, child])
    (block,) = node.mine(1)
    node.invalidate(block)
    return Transaction.parse(child).txid


def test_scenario_R10_anchor0_reorg_pin(node: RegtestNode) -> None:
    """Back in the mempool with its child, a commitment with an anchor of 0 sat shuts out the clean penalty."""
    pair = open_channel(node)
    commitment = _commitment_with_empty_anchor(pair)
    child = _mined_with_child_then_disconnected(node, commitment, anchor_sat=0)
    assert node.mempool() == {Transaction.parse(commitment).txid, child}
    assert node.test_accept(_penalty_of_empty_anchor(pair, commitment, 5_000)) == "missing-ephemeral-spends"


def test_scenario_R10_anchor240_after_reorg(node: RegtestNode) -> None:
    """With 240 sat the same penalty is accepted and the child of the attacker goes."""
    pair = open_channel(node)
    pair.update()
    _mined_with_child_then_disconnected(node, pair.commitment(Side.A, 0), anchor_sat=240)
    accepted = node.send_raw(penalty(pair, Side.A, 0, 5_000))
    assert node.mempool() == {pair.commitment_txid(Side.A, 0), accepted}


def _commitment_with_empty_anchor(pair: Pair) -> bytes:
    """A's commitment of state 0 as it would be with ephemeral dust: no fee, everything in the contest output."""
    built = build_commitment(pair.params, Side.A, 0, pair.point(Side.A, 0))
    outputs = (TxOut(pair.params.capacity, built.outputs[0].spk), TxOut(0, P2A_SPK))
    tx = msgspec.structs.replace(built, outputs=outputs)
    message = commitment_sighash(pair.params, tx)
    by_a, by_b = (keys.sign_schnorr(pair.secrets(side).fund, message, AUX) for side in Side)
    return complete_commitment(pair.params, tx, by_a, by_b).serialize()


def _penalty_of_empty_anchor(pair: Pair, commitment: bytes, fee: int) -> bytes:
    """The clean penalty for it: key path of the contest output, no anchor input."""
    stale = Transaction.parse(commitment)
    output = contest_output(pair.params, pair.contest_key(Side.A, 0))
    contest = TxIn(make_outpoint(stale.txid, 0), 0xFFFFFFFD)
    tx = Transaction(3, (contest,), (TxOut(stale.outputs[0].value - fee, sweep_of(pair, Side.B)),), 0)
    secret = revocation_secret(pair.secrets(Side.B).rev, pair.secret(Side.A, 0))
    message = taproot_sighash(tx, 0, (stale.outputs[0],))
    signature = keys.sign_schnorr(keys.tweak_secret(secret, output.merkle_root), message, AUX)
    return tx.with_witness(0, (signature,)).serialize()
