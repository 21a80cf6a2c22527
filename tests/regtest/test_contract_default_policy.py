"""The contract under Knots' own relay policy, which has no version-3 rules and wants 1 sat/vB."""

from __future__ import annotations

import pytest

from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.contract_stage import enter, mine_to, open_channel, penalty, publish
from tests.support.parties import htlc, preimage_of
from watchtower.devnode.regtest import RegtestNode


def test_commitment_and_settlement_enter_alone(knots_default_node: RegtestNode) -> None:
    """The static fees are enough for both, and the lock is enforced at the same heights."""
    node = knots_default_node
    pair = open_channel(node, challenge_period=128)
    assert enter(node, pair.commitment(Side.A, 0)) == 664
    closed_at = node.height()
    mine_to(node, closed_at + 126)
    assert node.test_accept(pair.settlement(Side.A, 0)) == "non-BIP68-final"
    node.mine(1)
    assert enter(node, pair.settlement(Side.A, 0)) == 840


def test_settlement_with_onchain_state_enters(knots_default_node: RegtestNode) -> None:
    """The OP_RETURN of 34 bytes is within the limit for data."""
    pair = open_channel(knots_default_node, challenge_period=1, flags=2)
    publish(knots_default_node, pair.commitment(Side.B, 0))
    assert enter(knots_default_node, pair.settlement(Side.B, 0)) == 838 + 172


def test_penalty_stands_beside_the_cheaters_child(knots_default_node: RegtestNode) -> None:
    """Penalty and child of one waiting commitment do not compete; all three are mined in one block."""
    node = knots_default_node
    pair = open_channel(node)
    pair.update()
    stale = pair.commitment(Side.A, 0)
    child = node.anchor_child(pair.commitment_txid(Side.A, 0), fee=2_000)
    node.submit_package([stale, child])
    txid = node.send_raw(penalty(pair, Side.A, 0, 1_110))
    assert node.mempool() == {pair.commitment_txid(Side.A, 0), Transaction.parse(child).txid, txid}
    node.mine(1)
    assert node.mempool() == set()


def test_penalty_of_a_confirmed_commitment_is_replaced_by_a_better_one(knots_default_node: RegtestNode) -> None:
    """A new bid needs 1 sat/vB more than the old one, which is the step of the bidding rules."""
    node = knots_default_node
    pair = open_channel(node)
    pair.update()
    publish(node, pair.commitment(Side.A, 0))
    node.send_raw(penalty(pair, Side.A, 0, 1_110))
    assert "insufficient fee" in node.test_accept(penalty(pair, Side.A, 0, 1_110 + 110))
    assert enter(node, penalty(pair, Side.A, 0, 1_110 + 111)) == 444


def test_htlc_claims_enter(knots_default_node: RegtestNode) -> None:
    """Success and refund are taken with the weights of the protocol."""
    node = knots_default_node
    pair = open_channel(node, challenge_period=1)
    incoming, outgoing = htlc(Side.A, 1, 20_000, 400), htlc(Side.B, 2, 20_000, node.height() + 40)
    pair.with_htlcs(incoming, outgoing)
    publish(node, pair.commitment(Side.A, 1))
    publish(node, pair.settlement(Side.A, 1))
    claim = pair.b.claim_success(pair.channel_id, 1, Side.A, incoming.key, preimage_of(1), 500)
    assert enter(node, claim) == 605
    mine_to(node, outgoing.expiry)
    refund = pair.b.claim_timeout(pair.channel_id, 1, Side.A, outgoing.key, 500)
    assert enter(node, refund) == 549


@pytest.mark.parametrize(("musig", "weight"), [(False, 784), (True, 616)], ids=["leaf", "key path"])
def test_cooperative_close_enters(knots_default_node: RegtestNode, musig: bool, weight: int) -> None:
    """Both forms of the close are standard here as well."""
    pair = open_channel(knots_default_node)
    assert enter(knots_default_node, pair.close(Side.A, musig=musig)) == weight
