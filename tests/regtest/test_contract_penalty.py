"""Penalties on a node: one input, one output, the whole contest output, before and after the challenge period."""

from __future__ import annotations

from functools import cache

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.chain import display, make_outpoint
from domain.contract.params import P2A_SPK, ChannelParams
from domain.contract.penalty import build_penalty, max_penalty_fee, verify_penalty
from domain.contract.scripts import contest_output
from domain.errors import InvalidState
from domain.transaction import Transaction, TxIn
from domain.units import Side, vsize
from tests.regtest.contract_stage import (
    build_unsigned_penalty,
    enter,
    fee_of,
    mine_to,
    open_channel,
    penalty,
    publish,
    punish,
    sweep_of,
    weight_of,
)
from tests.support.parties import htlc, open_pair
from watchtower.devnode.regtest import RegtestNode
from watchtower.node.transport import RpcRefused

CHALLENGE_PERIOD = 6


@pytest.mark.parametrize("cheater", list(Side))
def test_penalty_takes_the_whole_contest_output(node: RegtestNode, cheater: Side) -> None:
    """The block after a stale commitment holds the penalty: 444 WU, everything but the fee to the victim."""
    pair = open_channel(node)
    pair.updates(2)
    closed_at = publish(node, pair.commitment(cheater, 0))
    raw = penalty(pair, cheater, 0, 1_110)
    assert enter(node, raw) == 444
    assert node.height() == closed_at + 1
    (paid,) = Transaction.parse(raw).outputs
    assert (1_000_000 - 240 - 332 - 1_110, sweep_of(pair, cheater.other)) == (paid.value, paid.spk)


def test_penalty_to_p2wpkh(node: RegtestNode) -> None:
    """A P2WPKH sweep makes it 396 WU."""
    pair = open_channel(node)
    pair.update()
    publish(node, pair.commitment(Side.A, 0))
    assert enter(node, penalty(pair, Side.A, 0, 1_000, node.wallet_spk())) == 396


@pytest.mark.parametrize("hash_type", [0x01, 0x81])
def test_penalty_with_a_longer_signature(node: RegtestNode, hash_type: int) -> None:
    """ALL, with and without ANYONECANPAY, are valid with one byte more."""
    pair = open_channel(node)
    pair.update()
    publish(node, pair.commitment(Side.A, 0))
    tx = build_unsigned_penalty(pair, Side.A, 0, 1_000)
    assert enter(node, punish(pair, Side.A, 0, tx, hash_type)) == 445


def test_penalty_has_the_same_size_with_many_htlcs(node: RegtestNode) -> None:
    """200 HTLCs in the stale state change nothing: 111 vB take all their value as well."""
    pair = open_channel(node)
    pair.with_htlcs(*(htlc(Side.A, number, 1_000, 400) for number in range(200)))
    pair.update((500_000, 500_000))
    publish(node, pair.commitment(Side.A, 1))
    raw = penalty(pair, Side.A, 1, 1_110)
    assert vsize(enter(node, raw)) == 111
    assert Transaction.parse(raw).outputs[0].value == pair.params.contest_value - 1_110


def test_penalty_and_stale_commitment_share_a_block(node: RegtestNode) -> None:
    """While the commitment waits the penalty may already be sent; both are mined together."""
    pair = open_channel(node)
    pair.update()
    node.send_raw(pair.commitment(Side.A, 0))
    height = publish(node, penalty(pair, Side.A, 0, 1_110))
    place = node.confirmation(pair.commitment_txid(Side.A, 0))
    assert height == (None if place is None else place.height)


def test_penalty_evicts_the_cheaters_child(node: RegtestNode) -> None:
    """A better-paying penalty takes the place of the one child that a waiting commitment may have."""
    pair = open_channel(node)
    pair.update()
    stale = pair.commitment(Side.A, 0)
    child = node.anchor_child(pair.commitment_txid(Side.A, 0), fee=2_000)
    node.submit_package([stale, child])
    assert "insufficient fee" in node.test_accept(penalty(pair, Side.A, 0, 1_500))
    accepted = node.send_raw(penalty(pair, Side.A, 0, 2_500))
    assert node.mempool() == {pair.commitment_txid(Side.A, 0), accepted}


@pytest.mark.parametrize("late", [0, 1], ids=["last safe block", "first block of the settlement"])
def test_scenario_B21_deadline_boundary(node: RegtestNode, late: int) -> None:
    """Without a settlement in the way the penalty is mined in block h_c + T - 1 and in block h_c + T."""
    pair = open_channel(node, challenge_period=CHALLENGE_PERIOD)
    pair.update()
    closed_at = publish(node, pair.commitment(Side.A, 0))
    mine_to(node, closed_at + CHALLENGE_PERIOD - 2 + late)
    assert publish(node, penalty(pair, Side.A, 0, 1_110)) == closed_at + CHALLENGE_PERIOD - 1 + late
    assert node.test_accept(pair.settlement(Side.A, 0)) == "missing-inputs"


def test_penalty_replaces_a_waiting_settlement(node: RegtestNode) -> None:
    """After the deadline a penalty with a better fee and feerate still beats the cheater's settlement."""
    pair = open_channel(node, challenge_period=CHALLENGE_PERIOD)
    pair.update()
    closed_at = publish(node, pair.commitment(Side.A, 0))
    mine_to(node, closed_at + CHALLENGE_PERIOD - 1)
    node.send_raw(pair.settlement(Side.A, 0))
    assert "insufficient fee" in node.test_accept(penalty(pair, Side.A, 0, 400))
    height = publish(node, penalty(pair, Side.A, 0, 700))
    assert height == closed_at + CHALLENGE_PERIOD
    assert node.test_accept(pair.settlement(Side.A, 0)) == "missing-inputs"


def test_penalty_of_the_newest_state_cannot_be_made(node: RegtestNode) -> None:
    """Without the newest secret the victim's key is another one, and the node refuses its signature."""
    pair = open_channel(node)
    pair.update()
    publish(node, pair.commitment(Side.A, 1))
    wrong = Transaction.parse(penalty(pair, Side.A, 0, 1_110)).inputs[0].witness
    tx = build_unsigned_penalty(pair, Side.A, 1, 1_110)
    assert "Invalid Schnorr signature" in node.test_accept(tx.with_witness(0, wrong).serialize())


def test_scenario_B28_v2_penalty_rejected(node: RegtestNode) -> None:
    """A version-2 penalty is refused while the commitment waits; the builder's version 3 is accepted."""
    pair = open_channel(node)
    pair.update()
    node.send_raw(pair.commitment(Side.A, 0))
    built = build_unsigned_penalty(pair, Side.A, 0, 1_110)
    version_2 = punish(pair, Side.A, 0, msgspec.structs.replace(built, version=2))
    assert built.version == 3
    assert "truc" in node.test_accept(version_2).lower()
    assert node.test_accept(penalty(pair, Side.A, 0, 1_110)) == ""


def test_scenario_B28_v2_penalty_rejected_after_reorg(node: RegtestNode) -> None:
    """A confirmed commitment lets version 2 in, and a reorg throws that penalty out again; version 3 stays."""
    pair = open_channel(node)
    pair.update()
    publish(node, pair.commitment(Side.A, 0))
    built = build_unsigned_penalty(pair, Side.A, 0, 1_110)
    version_2 = punish(pair, Side.A, 0, msgspec.structs.replace(built, version=2))
    assert node.test_accept(version_2) == ""
    node.invalidate(node.tip())
    assert node.mempool() == {pair.commitment_txid(Side.A, 0)}
    assert "truc" in node.test_accept(version_2).lower()
    assert node.test_accept(penalty(pair, Side.A, 0, 1_110)) == ""


@cache
def _made_up_params() -> ChannelParams:
    return open_pair().params


@given(
    fee=st.integers(0, 999_000),
    commit_txid=st.binary(min_size=32, max_size=32),
    program=st.sampled_from([b"\x51\x20" + b"\x07" * 32, b"\x00\x14" + b"\x07" * 20, b"\x00\x20" + b"\x07" * 32]),
)
def test_scenario_B29_keyless_input_never_added_after_confirm(fee: int, commit_txid: bytes, program: bytes) -> None:
    """Whatever the fee and the sweep, the builder spends the contest output and nothing else."""
    params = _made_up_params()
    tx = build_penalty(params, commit_txid, fee, program)
    assert (TxIn(make_outpoint(commit_txid, 0), 0xFFFFFFFD),) == tx.inputs
    assert (3, 0, 1) == (tx.version, tx.lock_time, len(tx.outputs))
    assert params.contest_value - fee == tx.outputs[0].value


def test_scenario_B29_keyless_input_breaks_the_signature(node: RegtestNode) -> None:
    """Nobody can add the anchor to a penalty: its signature covers all inputs."""
    pair = open_channel(node)
    pair.update()
    publish(node, pair.commitment(Side.A, 0))
    clean = Transaction.parse(penalty(pair, Side.A, 0, 1_110))
    anchor = TxIn(make_outpoint(pair.commitment_txid(Side.A, 0), 1), 0xFFFFFFFD)
    with_anchor = msgspec.structs.replace(clean, inputs=(*clean.inputs, anchor))
    assert "Invalid Schnorr signature" in node.test_accept(with_anchor.serialize())
    with pytest.raises(InvalidState, match="sweep script"):
        build_unsigned_penalty(pair, Side.A, 0, 1_110, P2A_SPK)


def test_scenario_B30_maxfeerate_guard(node: RegtestNode) -> None:
    """A bid above 0.1 BTC/kvB is stopped by the node's guard and goes through with maxfeerate 0."""
    pair = open_channel(node, balances=(5_000_000, 5_000_000))
    pair.update()
    publish(node, pair.commitment(Side.A, 0))
    raw = penalty(pair, Side.A, 0, 10_001 * 111)
    with pytest.raises(RpcRefused, match="maxfeerate"):
        node.rpc("sendrawtransaction", raw.hex())
    assert enter(node, raw) == 444


def test_penalty_may_pay_everything_but_dust(node: RegtestNode) -> None:
    """The highest fee leaves 330 sat, which the node still relays; one satoshi more is refused by the builder."""
    pair = open_channel(node, balances=(10_000, 10_000))
    pair.update()
    publish(node, pair.commitment(Side.A, 0))
    most = max_penalty_fee(pair.params, sweep_of(pair, Side.B))
    raw = penalty(pair, Side.A, 0, most)
    assert fee_of(node, raw) == 20_000 - 240 - 332 - 330
    assert weight_of(node, raw) == 444
    with pytest.raises(InvalidState, match="penalty fee"):
        penalty(pair, Side.A, 0, most + 1)


def test_penalty_from_the_chain_verifies(node: RegtestNode) -> None:
    """The verifier takes what the node took, read back from the block."""
    pair = open_channel(node)
    pair.update()
    publish(node, pair.commitment(Side.A, 0))
    txid = node.send_raw(penalty(pair, Side.A, 0, 1_110))
    (block,) = node.mine(1)
    mined = bytes.fromhex(node.rpc("getrawtransaction", display(txid), 0, display(block)))
    spk = contest_output(pair.params, pair.contest_key(Side.A, 0)).spk
    assert verify_penalty(Transaction.parse(mined), pair.params, spk)
