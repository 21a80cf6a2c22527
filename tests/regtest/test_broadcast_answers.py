"""What a real node answers to broadcasts, and that each answer gets its meaning."""

from __future__ import annotations

import pytest

from domain.chain import make_outpoint
from domain.events import BroadcastOutcome
from domain.transaction import Transaction, TxIn, TxOut
from watchtower.devnode.regtest import ANCHOR_SAT, ANCHOR_SPK, Coin, RegtestNode
from watchtower.node.rpc import BitcoindNode

SPK = b"\x51\x20" + b"\x22" * 32


@pytest.fixture
def ours(node: RegtestNode) -> BitcoindNode:
    """The adapter to the test's node."""
    return BitcoindNode(node.rpc_url, cookie_path=node.cookie_path)


def spend(node: RegtestNode, coin: Coin, fee: int, sequence: int = 0xFFFFFFFD, lock_time: int = 0) -> bytes:
    """A signed transaction that spends the coin."""
    return node.sign(Transaction(2, (TxIn(coin.outpoint, sequence),), (TxOut(coin.value - fee, SPK),), lock_time))


def commitment(node: RegtestNode, coin: Coin, fee: int) -> Transaction:
    """A version-3 transaction with a P2A output, as a channel's commitment."""
    outputs = (TxOut(coin.value - fee - ANCHOR_SAT, SPK), TxOut(ANCHOR_SAT, ANCHOR_SPK))
    return Transaction.parse(node.sign(Transaction(3, (TxIn(coin.outpoint, 0xFFFFFFFD),), outputs, 0)))


def test_new_and_repeated_transactions_are_accepted(node: RegtestNode, ours: BitcoindNode) -> None:
    """Sending the same bytes again is no fault."""
    raw = spend(node, node.wallet_coin(), 1_000)

    assert [BroadcastOutcome.ACCEPTED] * 2 == [ours.broadcast(raw).outcome for _ in range(2)]


def test_a_refusal_among_many_stops_none_of_the_others(node: RegtestNode, ours: BitcoindNode) -> None:
    """One answer per transaction, in order, also behind one that is refused."""
    coin = node.wallet_coin()
    raws = [spend(node, coin, 2_000), spend(node, coin, 1_000), spend(node, node.wallet_coin(), 1_000), b"\x00garbage"]

    outcomes = [answer.outcome for answer in ours.broadcast_many(raws)]

    expected = [BroadcastOutcome.ACCEPTED, BroadcastOutcome.INSUFFICIENT_FEE, BroadcastOutcome.ACCEPTED]
    assert [*expected, BroadcastOutcome.REJECTED] == outcomes
    assert () == ours.broadcast_many([])


def test_replacement_has_to_pay_more(node: RegtestNode, ours: BitcoindNode) -> None:
    """A lower bid and one that is too little higher are both outbid; a sufficient one is accepted."""
    coin = node.wallet_coin()
    ours.broadcast(spend(node, coin, 1_000))

    lower, hardly, higher = (ours.broadcast(spend(node, coin, fee)).outcome for fee in (900, 1_001, 2_000))

    assert BroadcastOutcome.INSUFFICIENT_FEE is lower is hardly
    assert BroadcastOutcome.ACCEPTED is higher


def test_absurd_fee_is_accepted(node: RegtestNode, ours: BitcoindNode) -> None:
    """The node's own limit on feerates is switched off: a late bid may be very high."""
    assert ours.broadcast(spend(node, node.wallet_coin(), 100_000_000)).in_mempool


def test_confirmed_conflicting_and_respent_transactions(node: RegtestNode, ours: BitcoindNode) -> None:
    """Confirmed and unspent is known; a conflict and *confirmed and spent again* look the same, as missing inputs."""
    coin = node.wallet_coin()
    loser = spend(node, coin, 1_000)
    winner = node.sign(Transaction(2, (TxIn(coin.outpoint, 0),), (TxOut(coin.value - 2_000, node.wallet_spk()),), 0))
    ours.broadcast(winner)
    node.mine()

    assert BroadcastOutcome.ALREADY_KNOWN is ours.broadcast(winner).outcome
    assert BroadcastOutcome.MISSING_INPUTS is ours.broadcast(loser).outcome

    output = make_outpoint(Transaction.parse(winner).txid, 0)
    ours.broadcast(node.sign(Transaction(2, (TxIn(output, 0),), (TxOut(1_000, SPK),), 0)))
    node.mine()
    assert (BroadcastOutcome.MISSING_INPUTS, -25) == (ours.broadcast(winner).outcome, ours.broadcast(winner).code)


def test_locks_are_not_yet_final(node: RegtestNode, ours: BitcoindNode) -> None:
    """A lock time and a relative lock are refused until their block, then accepted."""
    early, relative = node.wallet_coin(), node.wallet_coin()
    by_height = spend(node, early, 1_000, lock_time=node.height() + 1)
    by_age = spend(node, relative, 1_000, sequence=2)

    assert [BroadcastOutcome.NOT_YET_FINAL] * 2 == [ours.broadcast(raw).outcome for raw in (by_height, by_age)]
    node.mine()
    assert [BroadcastOutcome.ACCEPTED] * 2 == [ours.broadcast(raw).outcome for raw in (by_height, by_age)]


def test_too_low_a_fee_is_below_the_minimum(node: RegtestNode, ours: BitcoindNode) -> None:
    """A transaction without fee does not relay."""
    assert BroadcastOutcome.BELOW_MINIMUM is ours.broadcast(spend(node, node.wallet_coin(), 0)).outcome


def test_bad_signature_dust_and_garbage_are_rejected(node: RegtestNode, ours: BitcoindNode) -> None:
    """What no later block can make good is for a person to see."""
    coin = node.wallet_coin()
    signed = Transaction.parse(spend(node, coin, 1_000))
    damaged = signed.with_witness(0, (signed.inputs[0].witness[0][:-9] + bytes(9), signed.inputs[0].witness[1]))
    dust = node.sign(Transaction(2, (TxIn(coin.outpoint, 0),), (TxOut(100, SPK),), 0))

    outcomes = [ours.broadcast(raw).outcome for raw in (damaged.serialize(), dust, b"\x00garbage")]

    assert [BroadcastOutcome.REJECTED] * 3 == outcomes


def test_unknown_parent_is_missing_inputs(node: RegtestNode, ours: BitcoindNode) -> None:
    """The node cannot tell an unknown parent from a spent input."""
    orphan = Transaction(2, (TxIn(make_outpoint(b"\x01" * 32, 0), 0),), (TxOut(1_000, SPK),), 0)

    assert BroadcastOutcome.MISSING_INPUTS is ours.broadcast(orphan.serialize()).outcome


def test_package_carries_a_parent_without_fee(node: RegtestNode, ours: BitcoindNode) -> None:
    """The child alone lacks its parent, the parent alone lacks a fee, together both are accepted, then known."""
    parent = commitment(node, node.wallet_coin(), fee=0)
    raws = [parent.serialize(), node.anchor_child(parent.txid)]

    assert BroadcastOutcome.BELOW_MINIMUM is ours.broadcast(raws[0]).outcome
    assert BroadcastOutcome.MISSING_INPUTS is ours.broadcast(raws[1]).outcome
    assert [BroadcastOutcome.ACCEPTED] * 2 == [answer.outcome for answer in ours.submit_package(raws)]
    assert [BroadcastOutcome.ALREADY_KNOWN] * 2 == [answer.outcome for answer in ours.submit_package(raws)]


def test_outbid_package_names_parent_and_child(node: RegtestNode, ours: BitcoindNode) -> None:
    """The parent is outbid, therefore the child lacks its parent."""
    coin = node.wallet_coin()
    first, second = commitment(node, coin, 300), commitment(node, coin, 301)
    ours.submit_package([first.serialize(), node.anchor_child(first.txid)])

    answers = ours.submit_package([second.serialize(), node.anchor_child(second.txid, fee=100)])

    assert [BroadcastOutcome.INSUFFICIENT_FEE, BroadcastOutcome.PARENT_MISSING] == [each.outcome for each in answers]


def test_package_with_a_confirmed_parent(node: RegtestNode, ours: BitcoindNode) -> None:
    """The confirmed parent is known and the child accepted; when both are confirmed, nothing is concluded."""
    parent = commitment(node, node.wallet_coin(), fee=300)
    raws = [parent.serialize(), node.anchor_child(parent.txid)]
    node.generate_block([raws[0]])

    one_confirmed = [answer.outcome for answer in ours.submit_package(raws)]
    node.mine()
    both_confirmed = [answer.outcome for answer in ours.submit_package(raws)]

    assert [BroadcastOutcome.ALREADY_KNOWN, BroadcastOutcome.ACCEPTED] == one_confirmed
    assert [BroadcastOutcome.UNKNOWN] * 2 == both_confirmed


def test_garbage_in_a_package_is_rejected(ours: BitcoindNode) -> None:
    """Bytes that are no transaction are our own fault."""
    assert [BroadcastOutcome.REJECTED] * 2 == [each.outcome for each in ours.submit_package([b"\x00", b"\x01"])]


def test_knots_own_policy_refuses_the_parent_without_fee_even_in_a_package(knots_default_node: RegtestNode) -> None:
    """N15: there the commitment needs its static fee; with it parent and child are accepted."""
    node = knots_default_node
    ours = BitcoindNode(node.rpc_url, cookie_path=node.cookie_path)
    free, paying = (commitment(node, node.wallet_coin(), fee) for fee in (0, 400))

    refused = ours.submit_package([free.serialize(), node.anchor_child(free.txid)])
    accepted = ours.submit_package([paying.serialize(), node.anchor_child(paying.txid)])

    assert [BroadcastOutcome.BELOW_MINIMUM, BroadcastOutcome.PARENT_MISSING] == [each.outcome for each in refused]
    assert [BroadcastOutcome.ACCEPTED] * 2 == [each.outcome for each in accepted]
