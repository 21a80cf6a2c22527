"""HTLC outputs on a node: claims with the preimage and after the expiry, their weights and their limits."""

from __future__ import annotations

from hashlib import sha256

import msgspec
import pytest

from domain.chain import make_outpoint
from domain.contract import htlc as claims
from domain.contract.conditions import Condition
from domain.contract.form import form_of
from domain.contract.htlc import ClaimPath
from domain.contract.primitives import HtlcTerms
from domain.errors import InvalidSecret
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.contract_stage import AUX, enter, mine_to, open_channel, publish, weight_of
from tests.support.parties import Pair, htlc, preimage_of
from watchtower.devnode.regtest import RegtestNode
from watchtower.node.transport import RpcRefused

AMOUNT = 20_000


def _settled(node: RegtestNode, *conditions: Condition, confirmed: bool = True) -> Pair:
    """A channel whose state 1 has these conditions, closed by A with the settlement on its way or mined."""
    pair = open_channel(node, challenge_period=1)
    pair.with_htlcs(*conditions)
    publish(node, pair.commitment(Side.A, 1))
    node.send_raw(pair.settlement(Side.A, 1))
    node.mine(int(confirmed))
    return pair


def _success(pair: Pair, condition: Condition, preimage: bytes, fee: int = 500) -> bytes:
    receiver = pair.parties[condition.offerer.other]
    return receiver.claim_success(pair.channel_id, 1, Side.A, condition.key, preimage, fee)


def _timeout(pair: Pair, condition: Condition, fee: int = 500) -> bytes:
    return pair.parties[condition.offerer].claim_timeout(pair.channel_id, 1, Side.A, condition.key, fee)


@pytest.mark.parametrize("offerer", list(Side))
def test_htlc_success_is_mined(node: RegtestNode, offerer: Side) -> None:
    """The receiver takes the amount with the preimage, long before the expiry, with 605 WU."""
    condition = htlc(offerer, 1, AMOUNT, 400)
    pair = _settled(node, condition)
    claim = _success(pair, condition, preimage_of(1))
    assert enter(node, claim) == 605
    paid = Transaction.parse(claim).outputs[0]
    assert (AMOUNT - 500, pair.params.keys(offerer.other).payout) == (paid.value, paid.spk)


@pytest.mark.parametrize("offerer", list(Side))
def test_scenario_C06_htlc_timeout_height(node: RegtestNode, offerer: Side) -> None:
    """The refund is refused at tip E - 1, accepted at tip E, and mined in block E + 1 with 549 WU."""
    expiry = node.height() + 40
    condition = htlc(offerer, 1, AMOUNT, expiry)
    pair = _settled(node, condition)
    refund = _timeout(pair, condition)
    mine_to(node, expiry - 1)
    assert node.test_accept(refund) == "non-final"
    with pytest.raises(RpcRefused, match="bad-txns-nonfinal"):
        node.generate_block([refund])
    node.mine(1)
    assert node.test_accept(refund) == ""
    assert enter(node, refund) == 549
    assert node.height() == expiry + 1
    assert pair.params.keys(offerer).payout == Transaction.parse(refund).outputs[0].spk


def test_htlc_timeout_of_a_mainnet_height(node: RegtestNode) -> None:
    """From height 32768 on the refund has 550 WU, and a node far below that height refuses it."""
    condition = htlc(Side.A, 1, AMOUNT, 32_768)
    pair = _settled(node, condition)
    refund = _timeout(pair, condition)
    assert weight_of(node, refund) == 550
    assert node.test_accept(refund) == "non-final"


def test_scenario_C04_settle_child_is_htlc_success(node: RegtestNode) -> None:
    """Below the minimum feerate a settlement gets in with the HTLC claim as its one child."""
    condition = htlc(Side.A, 1, AMOUNT, 400)
    pair = open_channel(node, challenge_period=1)
    pair.with_htlcs(condition)
    publish(node, pair.commitment(Side.A, 1))
    node.restart(["-minrelaytxfee=0.00005"])
    settlement, claim = pair.settlement(Side.A, 1), _success(pair, condition, preimage_of(1), fee=3_000)
    assert node.test_accept(settlement) == "min relay fee not met"
    node.submit_package([settlement, claim])
    node.mine(1)
    assert node.mempool() == set()
    assert node.confirmation(Transaction.parse(claim).txid) is not None


def test_htlc_refund_is_a_child_of_the_settlement(node: RegtestNode) -> None:
    """After the expiry the refund too may be the child of an unconfirmed settlement; both are mined together."""
    condition = htlc(Side.B, 1, AMOUNT, node.height())
    pair = _settled(node, condition, confirmed=False)
    refund = _timeout(pair, condition)
    height = publish(node, refund)
    place = node.confirmation(pair.state(1).content.read_header().settle_txid(Side.A))
    assert height == (None if place is None else place.height)


def test_claim_of_version_2_waits_for_the_settlement(node: RegtestNode) -> None:
    """While the settlement is unconfirmed a claim must be version 3; afterwards version 2 is mined as well."""
    condition = htlc(Side.A, 1, AMOUNT, 400)
    pair = _settled(node, condition, confirmed=False)
    claim = _success_by_hand(pair, condition, version=2)
    assert "truc" in node.test_accept(claim).lower()
    node.mine(1)
    assert enter(node, claim) == 605


@pytest.mark.parametrize("length", [31, 33])
def test_scenario_C08_htlc_wrong_preimage_length(node: RegtestNode, length: int) -> None:
    """A preimage of 31 or 33 bytes fails in the script although its hash fits, and the builder refuses it."""
    preimage = b"\x07" * length
    condition = htlc(Side.A, 1, AMOUNT, 400, preimage)
    pair = _settled(node, condition)
    with pytest.raises(InvalidSecret, match="preimage"):
        _success(pair, condition, preimage)
    claim = _success_by_hand(pair, condition, preimage=preimage)
    assert condition.hash == sha256(preimage).digest()
    assert "OP_EQUALVERIFY" in node.test_accept(claim)
    with pytest.raises(RpcRefused, match="OP_EQUALVERIFY"):
        node.generate_block([claim])


def test_wrong_preimage_of_right_length_is_refused(node: RegtestNode) -> None:
    """32 bytes that hash to something else fail in the script."""
    condition = htlc(Side.A, 1, AMOUNT, 400)
    pair = _settled(node, condition)
    assert "OP_EQUALVERIFY" in node.test_accept(_success_by_hand(pair, condition, preimage=preimage_of(2)))
    assert node.test_accept(_success_by_hand(pair, condition, preimage=preimage_of(1))) == ""


def test_offerer_cannot_claim_by_success(node: RegtestNode) -> None:
    """The preimage alone is worth nothing to the offerer: the script wants the receiver's key."""
    condition = htlc(Side.A, 1, AMOUNT, 400)
    pair = _settled(node, condition)
    claim = _success_by_hand(pair, condition, signer=Side.A)
    assert "Invalid Schnorr signature" in node.test_accept(claim)


def test_refund_lock_cannot_be_lowered(node: RegtestNode) -> None:
    """A refund with a lock time below the expiry fails in the script, also when its signature is good."""
    expiry = node.height() + 100
    condition = htlc(Side.A, 1, AMOUNT, expiry)
    pair = _settled(node, condition)
    txid = pair.state(1).content.read_header().settle_txid(Side.A)
    payout = pair.params.keys_a.payout
    built = claims.build_htlc_timeout(pair.params, condition, txid, 2, 500, payout)
    early = msgspec.structs.replace(built, lock_time=node.height())
    secret = pair.secrets(Side.A).htlc
    signature = claims.sign_htlc_claim(pair.params, condition, early, ClaimPath.TIMEOUT, secret, AUX)
    raw = claims.complete_htlc_timeout(pair.params, condition, early, signature).serialize()
    assert "Locktime requirement not satisfied" in node.test_accept(raw)


def test_preimage_is_read_from_the_mempool(node: RegtestNode) -> None:
    """The witness of a waiting success claim reveals the preimage to everybody."""
    condition = htlc(Side.A, 1, AMOUNT, 400)
    pair = _settled(node, condition)
    txid = node.send_raw(_success(pair, condition, preimage_of(1)))
    seen = Transaction.parse(node.transaction(txid) or b"")
    assert claims.extract_preimage(seen.inputs[0].witness, condition.hash) == preimage_of(1)


def test_both_claims_of_one_output_compete(node: RegtestNode) -> None:
    """After the expiry success and refund spend the same output; the better fee wins in the mempool."""
    condition = htlc(Side.A, 1, AMOUNT, node.height())
    pair = _settled(node, condition)
    outpoint = make_outpoint(pair.state(1).content.read_header().settle_txid(Side.A), 2)
    refund = node.send_raw(_timeout(pair, condition, fee=400))
    assert node.spender(outpoint) == refund
    claim = node.send_raw(_success(pair, condition, preimage_of(1), fee=1_000))
    assert node.spender(outpoint) == claim


def _success_by_hand(
    pair: Pair,
    condition: Condition,
    *,
    preimage: bytes | None = None,
    signer: Side | None = None,
    version: int = 3,
) -> bytes:
    """A success claim with any preimage, signer and version, as no builder of the program makes it."""
    txid = pair.state(1).content.read_header().settle_txid(Side.A)
    owner = condition.offerer.other if signer is None else signer
    payout = pair.params.keys(owner).payout
    tx = claims.build_htlc_success(pair.params, condition, txid, 2, 500, payout, version)
    secret = pair.secrets(owner).htlc
    signature = claims.sign_htlc_claim(pair.params, condition, tx, ClaimPath.SUCCESS, secret, AUX)
    shown = preimage_of(condition.id) if preimage is None else preimage
    terms = HtlcTerms(condition.offerer, condition.hash, condition.expiry)
    witness = form_of(pair.params).claim_witness(pair.params, terms, ClaimPath.SUCCESS, signature, shown)
    return tx.with_witness(0, witness).serialize()
