"""Contract of profile 1 on a node: scripts as its descriptor engine derives them, sizes within the annex's table."""

from __future__ import annotations

import msgspec
import pytest

from domain.chain import make_outpoint
from domain.contract import htlc as claims
from domain.contract.closing import close_weight
from domain.contract.conditions import Condition
from domain.contract.form import form_of
from domain.contract.htlc import ClaimPath
from domain.contract.params import SEGWIT
from domain.contract.penalty import penalty_weight
from domain.contract.primitives import HtlcTerms
from domain.contract.scripts import (
    contest_descriptor,
    contest_output,
    funding_descriptor,
    funding_output,
    htlc_descriptor,
    htlc_output,
)
from domain.errors import InvalidParams, InvalidSecret
from domain.transaction import Transaction, TxIn
from domain.units import Side, vsize
from tests.regtest.contract_stage import (
    AUX,
    build_unsigned_penalty,
    derived_spk,
    enter,
    fee_of,
    mine_to,
    open_channel,
    penalty,
    publish,
    punish,
    sign_commitment,
    sweep_of,
    weight_of,
)
from tests.support.parties import Pair, htlc, open_pair, preimage_of
from watchtower.devnode.regtest import RegtestNode

AMOUNT = 20_000
EXPIRIES = (1, 16, 17, 127, 128, 32_767, 32_768, 2**23 - 1, 2**23, 499_999_999)
SETTLE_WEIGHTS = {1: 863, 16: 863, 17: 864, 127: 864, 128: 865, 144: 865, 32_767: 865, 32_768: 866, 65_535: 866}
"""Most WU of a settlement with two P2TR balances by challenge period."""

SHORTER_SIGNATURE = 3
"""How many WU a signature may be below its maximum in these tests: r and s with a few leading zeros are rare."""


def _open(node: RegtestNode, **terms: object) -> Pair:
    return open_channel(node, profile=SEGWIT, **terms)


def _settled(node: RegtestNode, condition: Condition) -> Pair:
    """A channel whose state 1 has this condition, closed by A and settled."""
    pair = _open(node, challenge_period=1)
    pair.with_htlcs(condition)
    publish(node, pair.commitment(Side.A, 1))
    publish(node, pair.settlement(Side.A, 1))
    return pair


def _assert_close_below(most: int, weight: int, signatures: int) -> None:
    assert most - SHORTER_SIGNATURE * signatures <= weight <= most


# ── scripts ──────────────────────────────────────────────────────────────────────────────────────────────


def test_funding_script_is_what_the_node_derives(node: RegtestNode) -> None:
    """Every node parses sortedmulti: the funding script is that of its descriptor, and so is the mined output."""
    pair = _open(node)
    expected = derived_spk(node, funding_descriptor(pair.params))
    funding = Transaction.parse(pair.funding.raw)
    assert expected == funding_output(pair.params).spk == funding.outputs[pair.funding.vout].spk


@pytest.mark.parametrize("period", list(SETTLE_WEIGHTS))
def test_contest_scripts_are_what_the_node_derives(node: RegtestNode, period: int) -> None:
    """The node reads the contest descriptor as sane miniscript and derives the same script, for all widths of T."""
    pair = open_pair(profile=SEGWIT, challenge_period=period)
    keys = [pair.contest_key(side, 0) for side in Side]
    derived = [derived_spk(node, contest_descriptor(pair.params, key)) for key in keys]
    assert derived == [contest_output(pair.params, key).spk for key in keys]


def test_htlc_scripts_are_what_the_node_derives(node: RegtestNode) -> None:
    """HTLC scripts of both directions and all widths of the expiry are those of their descriptors."""
    params, hashed = open_pair(profile=SEGWIT).params, preimage_of(1)
    kinds = [(side, expiry) for side in Side for expiry in EXPIRIES]
    derived = [derived_spk(node, htlc_descriptor(params, side, hashed, expiry)) for side, expiry in kinds]
    assert derived == [htlc_output(params, side, hashed, expiry).spk for side, expiry in kinds]


# ── commitment and settlement ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("side", list(Side))
def test_commitment_is_mined_with_its_static_fee(node: RegtestNode, side: Side) -> None:
    """A commitment alone enters the mempool with 326 sat, and weighs at most 650 WU, 163 vB."""
    pair = _open(node)
    raw = pair.parties[side].sign_commitment(pair.channel_id, 0)
    assert fee_of(node, raw) == 326
    weight = enter(node, raw)
    _assert_close_below(650, weight, 2)
    assert vsize(weight) <= pair.params.commitment_vsize


@pytest.mark.parametrize("sequence", [0, 1, 2**24 - 1, 2**24, 2**48 - 2])
def test_commitments_of_boundary_numbers_are_accepted(node: RegtestNode, sequence: int) -> None:
    """F13: the hidden number never makes a commitment invalid or too early."""
    pair = _open(node)
    assert node.test_accept(sign_commitment(pair, Side.A, sequence)) == ""


@pytest.mark.parametrize("period", [1, 16, 17, 127, 128, 144])
def test_settlement_is_mined_at_exactly_the_end_of_the_period(node: RegtestNode, period: int) -> None:
    """Refused at tip h_c + T - 2, accepted at h_c + T - 1, mined in block h_c + T with at most the planned weight."""
    pair = _open(node, challenge_period=period)
    closed_at = node.height() + 1
    node.send_raw(pair.commitment(Side.A, 0))
    settlement = pair.settlement(Side.A, 0)
    mine_to(node, closed_at + period - 2)
    assert node.test_accept(settlement) == "non-BIP68-final"
    node.mine(1)
    assert fee_of(node, settlement) == 2 * vsize(SETTLE_WEIGHTS[period])
    _assert_close_below(SETTLE_WEIGHTS[period], enter(node, settlement), 2)
    assert node.height() == closed_at + period


@pytest.mark.parametrize("period", [32_768, 65_535])
def test_long_locks_are_numbers_of_blocks(node: RegtestNode, period: int) -> None:
    """A lock with bit 15 set is not a negative number and not switched off."""
    pair = _open(node, challenge_period=period)
    publish(node, pair.commitment(Side.A, 0))
    node.mine(100)
    settlement = pair.settlement(Side.A, 0)
    _assert_close_below(SETTLE_WEIGHTS[period], weight_of(node, settlement), 2)
    assert node.test_accept(settlement) == "non-BIP68-final"


def test_settlement_with_conditions_and_a_state_hash(node: RegtestNode) -> None:
    """Two HTLCs and the hash of flag onchain_state cost 43 vB each; the planned fee covers the mined size."""
    pair = _open(node, challenge_period=1, flags=2)
    pair.with_htlcs(htlc(Side.A, 1, AMOUNT, 400), htlc(Side.B, 2, AMOUNT, 400))
    publish(node, pair.commitment(Side.A, 1))
    settlement = pair.settlement(Side.A, 1)
    planned = SETTLE_WEIGHTS[1] + 3 * 172
    assert fee_of(node, settlement) == 2 * vsize(planned)
    _assert_close_below(planned, enter(node, settlement), 2)


def test_one_signature_twice_moves_nothing(node: RegtestNode) -> None:
    """The node refuses a commitment that carries one party's signature twice."""
    pair = _open(node)
    signed = Transaction.parse(pair.commitment(Side.A, 0))
    empty, low, _, script = signed.inputs[0].witness
    assert "script-verify-flag-failed" in node.test_accept(
        signed.with_witness(0, (empty, low, low, script)).serialize()
    )
    assert node.is_unspent(make_outpoint(pair.funding.txid, pair.funding.vout))


# ── penalty ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("cheater", list(Side))
def test_penalty_takes_the_whole_contest_output(node: RegtestNode, cheater: Side) -> None:
    """One input, one output, at most 566 WU; everything but the fee goes to the victim."""
    pair = _open(node)
    pair.updates(2)
    publish(node, pair.commitment(cheater, 0))
    raw = penalty(pair, cheater, 0, 1_420)
    _assert_close_below(566, enter(node, raw), 1)
    (paid,) = Transaction.parse(raw).outputs
    assert (1_000_000 - 240 - 326 - 1_420, sweep_of(pair, cheater.other)) == (paid.value, paid.spk)


def test_penalty_to_p2wpkh(node: RegtestNode) -> None:
    """A P2WPKH sweep makes it at most 518 WU."""
    pair = _open(node)
    pair.update()
    publish(node, pair.commitment(Side.A, 0))
    _assert_close_below(518, enter(node, penalty(pair, Side.A, 0, 1_300, node.wallet_spk())), 1)


@pytest.mark.parametrize("number", [0, 60, 200])
def test_penalty_weight_is_known_before(node: RegtestNode, number: int) -> None:
    """Whatever HTLCs the stale state has, the node's weight is the one that the fee was computed with, or less."""
    pair = _open(node)
    pair.with_htlcs(*(htlc(Side.A, each, 1_000, 400) for each in range(number)))
    pair.update((500_000, 500_000))
    raw = penalty(pair, Side.A, 1, 1_420)
    _assert_close_below(penalty_weight(pair.params, sweep_of(pair, Side.B)), weight_of(node, raw), 1)


def test_penalty_with_a_further_coin(node: RegtestNode) -> None:
    """ALL|ANYONECANPAY takes a coin of the tower for the fee, and its signature stays valid."""
    pair = _open(node)
    pair.update()
    publish(node, pair.commitment(Side.A, 0))
    signed = Transaction.parse(punish(pair, Side.A, 0, build_unsigned_penalty(pair, Side.A, 0, 1_000), 0x81))
    coin = node.wallet_coin()
    topped = msgspec.structs.replace(signed, inputs=(*signed.inputs, TxIn(coin.outpoint, 0xFFFFFFFD)))
    contest = Transaction.parse(pair.commitment(Side.A, 0)).outputs[0]
    complete = node.rpc(
        "signrawtransactionwithwallet",
        topped.serialize().hex(),
        [
            {
                "txid": pair.commitment_txid(Side.A, 0)[::-1].hex(),
                "vout": 0,
                "scriptPubKey": contest.spk.hex(),
                "witnessScript": signed.inputs[0].witness[1].hex(),
                "amount": contest.value / 100_000_000,
            }
        ],
    )["hex"]
    with_coin = Transaction.parse(bytes.fromhex(complete))
    raw = with_coin.with_witness(0, signed.inputs[0].witness).serialize()
    assert node.test_accept(raw) == ""
    assert fee_of(node, raw) == 1_000 + coin.value


def test_keyless_input_breaks_a_plain_penalty(node: RegtestNode) -> None:
    """B29: nobody can add the anchor to a penalty that signs all inputs."""
    pair = _open(node)
    pair.update()
    publish(node, pair.commitment(Side.A, 0))
    clean = Transaction.parse(penalty(pair, Side.A, 0, 1_420))
    anchor = TxIn(make_outpoint(pair.commitment_txid(Side.A, 0), 1), 0xFFFFFFFD)
    assert node.test_accept(clean.serialize()) == ""
    with_anchor = msgspec.structs.replace(clean, inputs=(*clean.inputs, anchor))
    assert "script-verify-flag-failed" in node.test_accept(with_anchor.serialize())


# ── HTLCs ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("offerer", list(Side))
def test_htlc_success_is_mined(node: RegtestNode, offerer: Side) -> None:
    """The receiver takes the amount with the preimage; at most 590 WU below height 32768."""
    condition = htlc(offerer, 1, AMOUNT, 400)
    pair = _settled(node, condition)
    receiver = pair.parties[offerer.other]
    claim = receiver.claim_success(pair.channel_id, 1, Side.A, condition.key, preimage_of(1), 500)
    paid = Transaction.parse(claim).outputs[0]
    most = claims.claim_weight(pair.params, condition, ClaimPath.SUCCESS, paid.spk)
    assert most == 590
    _assert_close_below(most, enter(node, claim), 1)
    assert (AMOUNT - 500, pair.params.keys(offerer.other).payout) == (paid.value, paid.spk)


@pytest.mark.parametrize("offerer", list(Side))
def test_htlc_timeout_is_mined_after_the_expiry(node: RegtestNode, offerer: Side) -> None:
    """C06: the refund is refused at tip E - 1 and mined in block E + 1, with at most 558 WU."""
    expiry = node.height() + 20
    condition = htlc(offerer, 1, AMOUNT, expiry)
    pair = _settled(node, condition)
    refund = pair.parties[offerer].claim_timeout(pair.channel_id, 1, Side.A, condition.key, 500)
    mine_to(node, expiry - 1)
    assert node.test_accept(refund) == "non-final"
    node.mine(1)
    _assert_close_below(558, enter(node, refund), 1)
    assert node.height() == expiry + 1
    assert pair.params.keys(offerer).payout == Transaction.parse(refund).outputs[0].spk


@pytest.mark.parametrize(
    ("preimage", "complaint"),
    [(b"\x07" * 31, "OP_EQUALVERIFY"), (b"\x07" * 33, "OP_EQUALVERIFY"), (preimage_of(2), "false/empty")],
    ids=["short", "long", "other"],
)
def test_wrong_preimages_fail_in_the_script(node: RegtestNode, preimage: bytes, complaint: str) -> None:
    """C08: a preimage of another length fails although its hash fits, one with another hash fails too."""
    condition = htlc(Side.A, 1, AMOUNT, 400, None if len(preimage) == 32 else preimage)
    pair = _settled(node, condition)
    settled = pair.state(1).content.read_header().settle_txid(Side.A)
    tx = claims.build_htlc_success(pair.params, condition, settled, 2, 500, pair.params.keys_b.payout)
    secret = pair.secrets(Side.B).htlc
    signature = claims.sign_htlc_claim(pair.params, condition, tx, ClaimPath.SUCCESS, secret, AUX)
    terms = HtlcTerms(condition.offerer, condition.hash, condition.expiry)
    witness = form_of(pair.params).claim_witness(pair.params, terms, ClaimPath.SUCCESS, signature, preimage)
    assert complaint in node.test_accept(tx.with_witness(0, witness).serialize())
    with pytest.raises(InvalidSecret, match="preimage"):
        claims.complete_htlc_success(pair.params, condition, tx, signature, preimage)


def test_refund_needs_the_offerers_key(node: RegtestNode) -> None:
    """Neither the receiver nor anybody else takes the refund path."""
    expiry = node.height()
    condition = htlc(Side.A, 1, AMOUNT, expiry)
    pair = _settled(node, condition)
    settled = pair.state(1).content.read_header().settle_txid(Side.A)
    tx = claims.build_htlc_timeout(pair.params, condition, settled, 2, 500, pair.params.keys_b.payout)
    signature = claims.sign_htlc_claim(pair.params, condition, tx, ClaimPath.TIMEOUT, pair.secrets(Side.B).htlc, AUX)
    foreign = claims.complete_htlc_timeout(pair.params, condition, tx, signature).serialize()
    own = pair.parties[Side.A].claim_timeout(pair.channel_id, 1, Side.A, condition.key, 500)
    assert "script-verify-flag-failed" in node.test_accept(foreign)
    assert node.test_accept(own) == ""


# ── cooperative close ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("closer", list(Side))
def test_cooperative_close_is_mined(node: RegtestNode, closer: Side) -> None:
    """Both signatures close the channel at once with at most 770 WU; the closer pays the fee."""
    pair = _open(node)
    pair.updates(3)
    raw = pair.close(closer, fee=900)
    assert fee_of(node, raw) == 900
    assert close_weight(pair.params, Transaction.parse(raw)) == 770
    _assert_close_below(770, enter(node, raw), 2)


def test_close_by_musig_is_refused(node: RegtestNode) -> None:
    """There is no key path; the refusal names the form that works, and that form still works."""
    pair = _open(node)
    with pytest.raises(InvalidParams, match="signature of each party"):
        pair.close(Side.A, musig=True)
    assert node.test_accept(pair.close(Side.A)) == ""
