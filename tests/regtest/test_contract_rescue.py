"""The rescue leaf on a node: both parties split the contest output at once, or wait as always."""

from __future__ import annotations

import pytest

from domain.chain import from_display
from domain.contract import keys
from domain.contract.params import FLAG_RESCUE_LEAF
from domain.contract.rescue import build_rescue, complete_rescue, rescue_sighash
from domain.errors import InvalidParams
from domain.transaction import Transaction, TxOut
from domain.units import Side
from tests.regtest.contract_stage import AUX, enter, mine_to, open_channel, penalty, publish
from tests.support.parties import Pair
from watchtower.client.party import exchange
from watchtower.devnode.regtest import RegtestNode


def _rescue(pair: Pair, balances: tuple[int, int], signers: tuple[Side, Side] = (Side.A, Side.B)) -> bytes:
    """The joint settlement of A's commitment of state 0."""
    payouts = (pair.params.keys_a.payout, pair.params.keys_b.payout)
    outputs = [TxOut(value, spk) for value, spk in zip(balances, payouts, strict=True)]
    tx = build_rescue(pair.params, pair.commitment_txid(Side.A, 0), outputs)
    key = pair.contest_key(Side.A, 0)
    message = rescue_sighash(pair.params, tx, key)
    by_a, by_b = (keys.sign_schnorr(pair.secrets(signer).settle, message, AUX) for signer in signers)
    return complete_rescue(pair.params, tx, key, by_a, by_b).serialize()


def test_scenario_C13_rescue_leaf(node: RegtestNode) -> None:
    """With both signatures the contest output is split in the block after the commitment, with 816 WU."""
    pair = open_channel(node, flags=FLAG_RESCUE_LEAF)
    closed_at = publish(node, pair.commitment(Side.A, 0))
    joint = _rescue(pair, (400_000, 598_000))
    assert node.test_accept(pair.settlement(Side.A, 0)) == "non-BIP68-final"
    assert enter(node, joint) == 816
    assert node.height() == closed_at + 1
    assert [400_000, 598_000] == [output.value for output in Transaction.parse(joint).outputs]


def test_rescue_leaf_needs_both_parties(node: RegtestNode) -> None:
    """One party with two signatures of its own gets nothing out before the challenge period ends."""
    pair = open_channel(node, flags=FLAG_RESCUE_LEAF)
    publish(node, pair.commitment(Side.A, 0))
    assert "Invalid Schnorr signature" in node.test_accept(_rescue(pair, (900_000, 1_000), (Side.A, Side.A)))
    assert node.test_accept(_rescue(pair, (900_000, 1_000))) == ""


def test_settlement_beside_a_rescue_leaf(node: RegtestNode) -> None:
    """The settlement has 32 WU more for the longer control block and its lock is the same."""
    pair = open_channel(node, flags=FLAG_RESCUE_LEAF, challenge_period=128)
    closed_at = publish(node, pair.commitment(Side.A, 0))
    mine_to(node, closed_at + 126)
    assert node.test_accept(pair.settlement(Side.A, 0)) == "non-BIP68-final"
    node.mine(1)
    assert enter(node, pair.settlement(Side.A, 0)) == 840 + 32
    assert node.height() == closed_at + 128


def test_penalty_beside_a_rescue_leaf(node: RegtestNode) -> None:
    """The penalty has its 444 WU also when the contest output has two leaves."""
    pair = open_channel(node, flags=FLAG_RESCUE_LEAF)
    pair.update()
    publish(node, pair.commitment(Side.A, 0))
    assert enter(node, penalty(pair, Side.A, 0, 1_110)) == 444


def test_channel_without_the_leaf_refuses_a_rescue(node: RegtestNode) -> None:
    """Without the flag there is no such transaction to sign."""
    pair = open_channel(node)
    with pytest.raises(InvalidParams, match="no rescue leaf"):
        _rescue(pair, (400_000, 500_000))


def test_parties_settle_together(node: RegtestNode) -> None:
    """Two parties exchange two messages about a confirmed commitment; the node takes what they made at once."""
    pair = open_channel(node, flags=FLAG_RESCUE_LEAF)
    pair.update()
    raw = pair.b.sign_commitment(pair.channel_id, 1)
    closed_at = publish(node, raw)
    block_hash = from_display(node.rpc("getblockhash", closed_at))
    for party in pair.parties:
        party.note_spend(pair.channel_id, raw, closed_at, block_hash)

    exchange.run(pair.a, pair.b, pair.a.propose_rescue(pair.channel_id, (497_800, 501_000)))

    joint = pair.b.rescue_transaction(pair.channel_id)
    assert joint is not None
    assert enter(node, joint) == 816
    assert node.height() == closed_at + 1
