"""Scripts of the contract, as a node's own descriptor engine derives them, and the funding output."""

from __future__ import annotations

import msgspec
import pytest

from domain.chain import make_outpoint
from domain.contract.commitment import build_commitment, commitment_number
from domain.contract.descriptors import descriptor_checksum
from domain.contract.params import FLAG_RESCUE_LEAF
from domain.contract.scripts import (
    contest_descriptor,
    contest_output,
    funding_descriptor,
    funding_output,
    funding_txout,
    htlc_descriptor,
    htlc_output,
)
from domain.contract.taproot_scripts import contest_leaves
from domain.errors import MalformedInput
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.contract_stage import derived_spk, open_channel, sign_commitment, weight_of
from tests.support.parties import open_pair
from watchtower.devnode.regtest import RegtestNode

SEQUENCES = (0, 1, 2**24 - 1, 2**24, 2**48 - 2)
EXPIRIES = (1, 16, 17, 127, 128, 32_767, 32_768, 2**23 - 1, 2**23, 499_999_999)
LEAF_SIZES = {1: 70, 16: 70, 17: 71, 127: 71, 128: 72, 144: 72, 32_767: 72, 32_768: 73, 65_535: 73}
"""Bytes of the settlement leaf by challenge period."""


def test_funding_script_is_what_the_node_derives(node: RegtestNode) -> None:
    """The funding output on chain has the script of its descriptor."""
    pair = open_channel(node)
    expected = derived_spk(node, funding_descriptor(pair.params, musig=False))
    assert expected == funding_output(pair.params).spk
    assert expected == Transaction.parse(pair.funding.raw).outputs[pair.funding.vout].spk


def test_descriptor_checksum_is_the_nodes(node: RegtestNode) -> None:
    """The checksum that goes with the funding descriptor is the one that the node computes."""
    descriptor = funding_descriptor(open_pair().params, musig=False)
    assert node.rpc("getdescriptorinfo", descriptor)["checksum"] == descriptor_checksum(descriptor)


def test_contest_scripts_are_what_the_node_derives(node: RegtestNode) -> None:
    """The contest output has the script of its descriptor, with and without the rescue leaf."""
    pairs = [open_pair(flags=flags) for flags in (0, FLAG_RESCUE_LEAF)]
    outputs = [(pair.params, pair.contest_key(Side.A, 0)) for pair in pairs]
    expected = [derived_spk(node, contest_descriptor(params, key)) for params, key in outputs]
    assert expected == [contest_output(params, key).spk for params, key in outputs]


def test_htlc_scripts_are_what_the_node_derives(node: RegtestNode) -> None:
    """HTLC outputs of both directions have the scripts of their descriptors at every length of the expiry."""
    params, payment_hash = open_pair().params, bytes(range(32))
    kinds = [(side, expiry) for side in Side for expiry in EXPIRIES]
    expected = [derived_spk(node, htlc_descriptor(params, side, payment_hash, expiry)) for side, expiry in kinds]
    assert expected == [htlc_output(params, side, payment_hash, expiry).spk for side, expiry in kinds]


def test_scenario_F05_unsorted_keys(node: RegtestNode) -> None:
    """Swapping the roles changes the channel id but no script, and the node's wallet pays to the same output."""
    pair = open_channel(node)
    params = pair.params
    swapped = msgspec.structs.replace(params, keys_a=params.keys_b, keys_b=params.keys_a)
    key = pair.contest_key(Side.A, 0)
    assert params.channel_id != swapped.channel_id
    assert funding_output(params).spk == funding_output(swapped).spk
    assert contest_output(params, key).spk == contest_output(swapped, key).spk
    assert derived_spk(node, funding_descriptor(swapped, musig=False)) == funding_output(params).spk


def test_scenario_F13_max_seq(node: RegtestNode) -> None:
    """Commitments of the boundary numbers are mined and give their number back; the one above is refused."""
    pair = open_pair()
    funding = node.fund_many([funding_txout(pair.params)] * len(SEQUENCES))
    node.mine(1)
    places = [pair.params.with_funding(funding.txid, vout) for vout in range(len(SEQUENCES))]
    published = [
        sign_commitment(pair, Side.A, number, params) for number, params in zip(SEQUENCES, places, strict=True)
    ]
    txids = [node.send_raw(raw) for raw in published]
    node.mine(1)
    mined = [Transaction.parse(node.transaction(txid) or b"") for txid in txids]
    assert node.mempool() == set()
    assert list(SEQUENCES) == [commitment_number(params, tx) for params, tx in zip(places, mined, strict=True)]
    assert [664] * len(SEQUENCES) == [weight_of(node, raw) for raw in published]
    with pytest.raises(MalformedInput, match="state number"):
        build_commitment(pair.params, Side.A, 2**48 - 1, pair.point(Side.A, 0))


def test_scenario_F14_T_encodings_leaf_sizes(node: RegtestNode) -> None:
    """The settlement leaf has the length of its number's encoding, and the node derives the same script."""
    pairs = [open_pair(challenge_period=period) for period in LEAF_SIZES]
    outputs = [(pair.params, pair.contest_key(Side.A, 0)) for pair in pairs]
    derived = [derived_spk(node, contest_descriptor(params, key)) for params, key in outputs]
    assert list(LEAF_SIZES.values()) == [len(contest_leaves(pair.params)[0]) for pair in pairs]
    assert derived == [contest_output(params, key).spk for params, key in outputs]


def test_one_signature_twice_moves_nothing(node: RegtestNode) -> None:
    """One signature alone moves nothing: the node refuses a commitment that carries it twice."""
    pair = open_channel(node)
    signed = Transaction.parse(pair.commitment(Side.A, 0))
    _, low, leaf, control = signed.inputs[0].witness
    twice_low = signed.with_witness(0, (low, low, leaf, control)).serialize()
    assert "script-verify-flag-failed" in node.test_accept(twice_low)
    assert node.is_unspent(make_outpoint(pair.funding.txid, pair.funding.vout))
