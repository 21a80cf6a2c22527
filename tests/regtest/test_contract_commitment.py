"""Commitments on a node: how a state is published, with which fee, and what happens if both sides do it."""

from __future__ import annotations

import pytest

from domain.chain import make_outpoint
from domain.contract import keys
from domain.contract.closing import complete_close_by_key_path, key_path_sighash
from domain.contract.musig import MusigSession
from domain.contract.taproot_scripts import funding_output
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.contract_stage import enter, fee_of, open_channel, publish
from tests.support.parties import Pair
from watchtower.devnode.regtest import RegtestNode
from watchtower.node.transport import RpcRefused

HIGHER_MINIMUM = "-minrelaytxfee=0.00005"
"""5 sat/vB, above the static 2 sat/vB of commitments and settlements."""


@pytest.mark.parametrize("side", list(Side))
def test_scenario_C01_unilateral_static_fee_only(node: RegtestNode, side: Side) -> None:
    """A commitment alone enters the mempool with its static fee of 332 sat and is mined with 664 WU."""
    pair = open_channel(node)
    raw = pair.parties[side].sign_commitment(pair.channel_id, 0)
    assert fee_of(node, raw) == 332
    assert enter(node, raw) == 664
    assert node.is_unspent(make_outpoint(pair.commitment_txid(side, 0), 0))


def test_scenario_C02_unilateral_zero_mempool_space(node: RegtestNode) -> None:
    """A commitment below the node's minimum feerate gets in together with a child on its P2A anchor."""
    pair = open_channel(node)
    commitment = pair.commitment(Side.A, 0)
    node.restart([HIGHER_MINIMUM])
    child = node.anchor_child(pair.commitment_txid(Side.A, 0), fee=3_000)
    assert node.test_accept(commitment) == "min relay fee not met"
    node.submit_package([commitment, child])
    node.mine(1)
    assert node.mempool() == set()
    assert node.confirmation(pair.commitment_txid(Side.A, 0)) is not None
    assert node.confirmation(Transaction.parse(child).txid) is not None


@pytest.mark.parametrize("winner", list(Side))
def test_scenario_C10_both_parties_publish_their_commit(node: RegtestNode, winner: Side) -> None:
    """The second commitment is refused while the first waits; whichever is mined settles, the other never can."""
    pair = open_channel(node, challenge_period=2)
    pair.update()
    first, second = pair.commitment(winner.other, 1), pair.commitment(winner, 1)
    node.send_raw(first)
    assert "insufficient fee" in node.test_accept(second)
    node.generate_block([second])
    assert node.mempool() == set()
    assert node.test_accept(first) == "missing-inputs"
    node.mine(1)
    assert node.test_accept(pair.settlement(winner.other, 1)) == "missing-inputs"
    assert enter(node, pair.settlement(winner, 1)) == 838


def test_commitment_is_not_bound_to_a_path(node: RegtestNode) -> None:
    """Signed by MuSig2 key path the commitment has 496 WU and the same txid, so its settlement still fits."""
    pair = open_channel(node, challenge_period=1)
    raw = _by_key_path(pair, Transaction.parse(pair.commitment(Side.A, 0)))
    assert pair.commitment_txid(Side.A, 0) == Transaction.parse(raw).txid
    assert enter(node, raw) == 496
    assert enter(node, pair.settlement(Side.A, 0)) == 838


def test_signatures_in_the_wrong_order_are_refused(node: RegtestNode) -> None:
    """The witness order of the protocol is the only one that the script takes."""
    pair = open_channel(node)
    signed = Transaction.parse(pair.commitment(Side.A, 0))
    high, low, leaf, control = signed.inputs[0].witness
    swapped = signed.with_witness(0, (low, high, leaf, control)).serialize()
    assert "Invalid Schnorr signature" in node.test_accept(swapped)
    with pytest.raises(RpcRefused, match="Invalid Schnorr signature"):
        node.generate_block([swapped])


def test_anchor_can_be_spent_by_anybody(node: RegtestNode) -> None:
    """A child that owns no key of the channel pays for a commitment through its anchor."""
    pair = open_channel(node)
    height = publish(node, pair.commitment(Side.A, 0))
    child = node.anchor_child(pair.commitment_txid(Side.A, 0), fee=1_000)
    assert publish(node, child) == height + 1
    assert not node.is_unspent(make_outpoint(pair.commitment_txid(Side.A, 0), 1))


def _by_key_path(pair: Pair, tx: Transaction) -> bytes:
    output = funding_output(pair.params)
    publics = (pair.params.keys_a.fund, pair.params.keys_b.fund)
    message = key_path_sighash(pair.params, tx)
    first, second = (
        MusigSession(pair.secrets(side).fund, publics, bytes((side + 1,)) * 32, output.merkle_root, message)
        for side in Side
    )
    nonces = (first.public_nonce, second.public_nonce)
    partials = (first.partial_sign(nonces), second.partial_sign(nonces))
    signature = first.aggregate(partials)
    assert keys.verify_schnorr(output.output_key, message, signature)
    return complete_close_by_key_path(tx, signature).serialize()
