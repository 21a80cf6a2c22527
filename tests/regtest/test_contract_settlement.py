"""Settlements on a node: when they are valid, what they weigh, and what they pay."""

from __future__ import annotations

import pytest

from domain.chain import make_outpoint
from domain.contract import keys
from domain.contract.conditions import Condition, ConditionType, descriptor_hash
from domain.contract.params import FLAG_ONCHAIN_STATE
from domain.contract.scripts import ANCHOR
from domain.contract.settlement import MAX_VSIZE, plan_settlement
from domain.contract.sighash import taproot_sighash
from domain.contract.state import onchain_state_hash
from domain.transaction import Transaction, TxIn, TxOut
from domain.units import Side, vsize
from tests.regtest.contract_stage import (
    AUX,
    derived_spk,
    enter,
    fee_of,
    mine_to,
    open_channel,
    publish,
    sign_freely,
    weight_of,
)
from tests.support.parties import Pair, htlc, make_party
from watchtower.client.party.party import PartySettings
from watchtower.devnode.regtest import RegtestNode
from watchtower.node.transport import RpcRefused

TOO_EARLY = "non-BIP68-final"
WEIGHTS = {1: 838, 16: 838, 17: 839, 127: 839, 128: 840, 144: 840}
"""WU of a settlement with two P2TR balances by challenge period."""


@pytest.mark.parametrize("period", list(WEIGHTS))
def test_scenario_F14_T_encodings(node: RegtestNode, period: int) -> None:
    """A settlement is refused at tip h_c + T - 2, accepted at h_c + T - 1, and mined in block h_c + T."""
    pair = open_channel(node, challenge_period=period)
    closed_at = node.height() + 1
    node.send_raw(pair.commitment(Side.A, 0))
    settlement = pair.settlement(Side.A, 0)
    mine_to(node, closed_at + period - 2)
    assert node.test_accept(settlement) == TOO_EARLY
    node.mine(1)
    assert fee_of(node, settlement) == 420
    assert enter(node, settlement) == WEIGHTS[period]
    assert node.height() == closed_at + period


@pytest.mark.parametrize("period", [32_768, 65_535])
def test_scenario_F14_T_encodings_long_lock(node: RegtestNode, period: int) -> None:
    """A lock with bit 15 set is a number of blocks, not a negative number and not switched off."""
    pair = open_channel(node, challenge_period=period)
    publish(node, pair.commitment(Side.A, 0))
    node.mine(200)
    settlement = pair.settlement(Side.A, 0)
    assert weight_of(node, settlement) == 841
    assert node.test_accept(settlement) == TOO_EARLY


@pytest.mark.parametrize("side", list(Side))
def test_scenario_C03_settle_too_early(node: RegtestNode, side: Side) -> None:
    """No block below h_c + T may hold the settlement, and that block pays both balances to both payouts."""
    pair = open_channel(node, challenge_period=5)
    pair.update()
    closed_at = publish(node, pair.commitment(side, 1))
    settlement = pair.settlement(side, 1)
    mine_to(node, closed_at + 3)
    with pytest.raises(RpcRefused, match="bad-txns-nonfinal"):
        node.generate_block([settlement])
    node.mine(1)
    assert publish(node, settlement) == closed_at + 5
    to_a, to_b = TxOut(499_000 - 1_232, pair.params.keys_a.payout), TxOut(501_000, pair.params.keys_b.payout)
    assert (to_a, to_b, ANCHOR) == Transaction.parse(settlement).outputs


def test_scenario_C05_settle_child_is_own_balance(node: RegtestNode) -> None:
    """Below the minimum feerate a settlement gets in with a child that spends its publisher's own balance."""
    pair = open_channel(node, challenge_period=1)
    publish(node, pair.commitment(Side.B, 0))
    node.restart(["-minrelaytxfee=0.00005"])
    settlement = pair.settlement(Side.B, 0)
    assert node.test_accept(settlement) == "min relay fee not met"
    node.submit_package([settlement, _spend_balance(pair, settlement, fee=3_000)])
    node.mine(1)
    assert node.mempool() == set()
    assert node.confirmation(Transaction.parse(settlement).txid) is not None


def test_settlement_with_p2wpkh_payouts_is_lighter(node: RegtestNode) -> None:
    """Each P2WPKH payout takes 48 WU off the settlement, and its fee follows."""
    settings = PartySettings(network="regtest", payout_spk=node.wallet_spk())
    parties = (make_party("alice", settings=settings), make_party("bob", settings=settings))
    pair = open_channel(node, parties=parties, challenge_period=128)
    closed_at = publish(node, pair.commitment(Side.A, 0))
    mine_to(node, closed_at + 127)
    assert fee_of(node, pair.settlement(Side.A, 0)) == 2 * (840 - 96) // 4
    assert enter(node, pair.settlement(Side.A, 0)) == 840 - 96


def test_settlement_with_onchain_state(node: RegtestNode) -> None:
    """With the flag an OP_RETURN of 43 vB carries the hash of the state."""
    pair = open_channel(node, challenge_period=128, flags=FLAG_ONCHAIN_STATE)
    pair.update(state_data=b"on the record")
    closed_at = publish(node, pair.commitment(Side.A, 1))
    mine_to(node, closed_at + 127)
    settlement = pair.settlement(Side.A, 1)
    header = pair.state(1).content.read_header()
    assert enter(node, settlement) == 1_012
    assert Transaction.parse(settlement).outputs[-2] == TxOut(0, b"\x6a\x20" + onchain_state_hash(header))


def test_scenario_C09_trimmed_htlc(node: RegtestNode) -> None:
    """An HTLC of 329 sat has no output and is fee to the satoshi; one of 330 sat has one."""
    pair = open_channel(node, challenge_period=1)
    dust, live = htlc(Side.A, 1, 329, 400), htlc(Side.A, 2, 330, 400)
    pair.with_htlcs(dust, live)
    publish(node, pair.commitment(Side.A, 1))
    settlement = pair.settlement(Side.A, 1)
    assert [500_000 - 659 - 2 * 240 - 332 - 506, 500_000, 330, 240] == [
        output.value for output in Transaction.parse(settlement).outputs
    ]
    assert fee_of(node, settlement) == 506 + 329
    assert enter(node, settlement) == 838 + 172


def test_trimmed_balance_is_fee(node: RegtestNode) -> None:
    """A balance of B below dust has no output; the settlement stays valid and the amount is fee."""
    pair = open_channel(node, challenge_period=1, balances=(999_671, 329))
    publish(node, pair.commitment(Side.B, 0))
    settlement = pair.settlement(Side.B, 0)
    fee = 2 * 167  # vB without B's output, rounded up
    assert fee_of(node, settlement) == fee + 329
    assert enter(node, settlement) == 838 - 172
    assert len(Transaction.parse(settlement).outputs) == 2


def test_settlement_pays_a_descriptor(node: RegtestNode) -> None:
    """A condition of type 2 pays the script that a descriptor engine derived, and spends like any wallet coin."""
    pair = open_channel(node, challenge_period=1)
    descriptor = node.rpc("getaddressinfo", node.wallet_address())["desc"].split("#")[0]
    condition = Condition(
        ConditionType.DESCRIPTOR, 0, 0, 70_000, descriptor_hash(descriptor), descriptor, derived_spk(node, descriptor)
    )
    state = sign_freely(pair, 1, (430_000, 500_000), [condition])
    publish(node, state.commits[Side.A])
    assert enter(node, state.settlements[Side.A]) == 838 + 172 - 48
    received = node.rpc("listunspent", 1, 1, [], True, {"minimumAmount": "0.0007", "maximumAmount": "0.0007"})
    assert [condition.spk] == [bytes.fromhex(coin["scriptPubKey"]) for coin in received]


def test_largest_settlement_is_relayed(node: RegtestNode) -> None:
    """227 HTLCs make 9,971 vB, which a node relays as version 3; one more is refused before anybody signs."""
    pair = open_channel(node, challenge_period=128)
    conditions = [htlc(Side.A, number, 1_000, 400) for number in range(228)]
    state = sign_freely(pair, 1, (500_000 - 227_000, 500_000), conditions[:227])
    closed_at = publish(node, state.commits[Side.A])
    mine_to(node, closed_at + 127)
    assert vsize(enter(node, state.settlements[Side.A])) == 9_971
    assert plan_settlement(pair.params, 272_000, 500_000, conditions).vsize > MAX_VSIZE


def test_settlements_of_both_commitments_pay_the_same(node: RegtestNode) -> None:
    """Whoever publishes, the outputs are equal and only the spent commitment differs."""
    pair = open_channel(node)
    pair.with_htlcs(htlc(Side.B, 1, 10_000, 400))
    of_a, of_b = (Transaction.parse(pair.settlement(side, 1)) for side in Side)
    assert of_a.outputs == of_b.outputs
    assert [make_outpoint(pair.commitment_txid(side, 1), 0) for side in Side] == [
        tx.inputs[0].outpoint for tx in (of_a, of_b)
    ]


def test_older_settlement_does_not_fit_the_newest_commitment(node: RegtestNode) -> None:
    """The settlement of one state spends its own commitment only; no other state's balances can be claimed."""
    pair = open_channel(node, challenge_period=1)
    pair.update()
    publish(node, pair.commitment(Side.A, 1))
    assert node.test_accept(pair.settlement(Side.A, 0)) == "missing-inputs"
    assert node.test_accept(pair.settlement(Side.A, 1)) == ""


def _spend_balance(pair: Pair, settlement: bytes, fee: int) -> bytes:
    """B's balance from output 1 to B's payout again, as version 3."""
    parent = Transaction.parse(settlement)
    balance = parent.outputs[1]
    spend = TxIn(make_outpoint(parent.txid, 1), 0xFFFFFFFD)
    tx = Transaction(3, (spend,), (TxOut(balance.value - fee, balance.spk),), 0)
    secret = keys.tweak_secret(pair.secrets(Side.B).payout, b"")
    signature = keys.sign_schnorr(secret, taproot_sighash(tx, 0, (balance,)), AUX)
    return tx.with_witness(0, (signature,)).serialize()
