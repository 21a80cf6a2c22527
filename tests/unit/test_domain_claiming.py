"""Our claims: which outputs, by which path, from when, at what fee; their transactions and records."""

from __future__ import annotations

import msgspec
import pytest

from domain.channel import Claim
from domain.claiming import (
    Parent,
    WantedClaim,
    build_claim,
    claim_answered,
    claim_armed,
    claim_fee,
    claim_found,
    claim_prepared,
    claim_script,
    claim_unarmed,
    htlc_key_name,
    sign_claim,
    wanted_claims,
)
from domain.conditional import output_taken
from domain.contract.conditions import Condition
from domain.contract.htlc import ClaimPath, claim_sighash
from domain.contract.keys import public_key, verify_schnorr
from domain.errors import InvalidSecret
from domain.events import AlertKind, BroadcastOutcome, ClaimBroadcast, ClaimPrepared
from domain.events import ClaimPath as Path
from domain.fees import CLAIM_SHARE, Market
from domain.punishing import Rival
from domain.transaction import Transaction
from domain.units import Side
from tests.support.htlcs import (
    BACK,
    BACK_PREIMAGE,
    EXPIRY,
    HTLC,
    PREIMAGE,
    TWIN,
    at,
    nothing,
    output,
    outputs,
    refund,
    settled,
    success,
)
from tests.support.scenes import AUX, NOW, Scene, payout, secrets_of

CALM = Market(minimum=1.0, relay=1.0, increment=1.0)
SUCCESS_VSIZE, TIMEOUT_VSIZE = 152, 138
"""Sizes of claims to P2TR, in vB (protocol 3.5)."""


def all_known(payment_hash: bytes) -> bytes | None:
    """Both preimages were learned in other channels."""
    return {HTLC.hash: PREIMAGE, BACK.hash: BACK_PREIMAGE}.get(payment_hash)


def wanted(scene: Scene, condition: Condition, tip: int = EXPIRY) -> WantedClaim:
    """The claim of one condition, which must be wanted."""
    found = wanted_claims(scene.channel, outputs(scene), all_known, tip)
    return next(each for each in found if each.output.condition == condition)


def fee(
    scene: Scene,
    claim: WantedClaim,
    *,
    tip: int = 400,
    market: Market = CALM,
    rival: Rival | None = None,
    parent: Parent | None = None,
    spendable: float = 1.0,
) -> int | None:
    """What a claim should pay."""
    return claim_fee(scene.channel, claim, tip=tip, market=market, rival=rival, parent=parent, spendable=spendable)


def prepared(scene: Scene, claim: WantedClaim, amount: int) -> Transaction:
    """A signed claim that is in the log."""
    unsigned = build_claim(scene.params, claim, amount, claim_script(scene.channel))
    tx = sign_claim(scene.params, claim, unsigned, secrets_of(scene.own).htlc, AUX)
    scene.then(claim_prepared(claim, tx, amount, NOW))
    return tx


# ── what is wanted ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("tip", "expected"), [(EXPIRY - 1, []), (EXPIRY, [HTLC]), (TWIN.expiry, [HTLC, TWIN])])
def test_C06_refunds_are_wanted_from_the_expiry(tip: int, expected: list[Condition]) -> None:
    """nLockTime E is final in block E + 1: mempools accept it at tip E."""
    scene = settled(Side.A)

    found = wanted_claims(scene.channel, outputs(scene), nothing, tip)

    assert [(c, Path.TIMEOUT, None) for c in expected] == [(w.output.condition, w.path, w.preimage) for w in found]


def test_success_is_wanted_as_soon_as_the_preimage_is_known() -> None:
    """From this channel or another; the nearest expiry first, then the larger amount."""
    scene = settled(Side.B)

    early = wanted_claims(scene.channel, outputs(scene), nothing, 1)
    found = wanted_claims(scene.channel, outputs(scene), all_known, 1)

    assert [] == early
    assert [(HTLC, PREIMAGE), (TWIN, PREIMAGE)] == [(w.output.condition, w.preimage) for w in found]
    assert {Path.SUCCESS} == {w.path for w in found}


def test_success_comes_before_refunds() -> None:
    """A refund can wait, a success claim has a competitor from its expiry on."""
    scene = settled(Side.A)

    found = wanted_claims(scene.channel, outputs(scene), all_known, TWIN.expiry)

    assert [BACK, HTLC, TWIN] == [w.output.condition for w in found]


def test_what_is_taken_is_not_wanted() -> None:
    """By us or by the counterparty."""
    scene = settled(Side.A)
    place = output(scene, HTLC)
    scene.then(output_taken(scene.channel, place, refund(scene, place), at(501), nothing, NOW))

    found = wanted_claims(scene.channel, outputs(scene), nothing, TWIN.expiry)

    assert [TWIN] == [w.output.condition for w in found]


def test_a_wanted_claim_does_not_show_its_preimage() -> None:
    """In logs and errors only the condition is named."""
    shown = repr(wanted(settled(Side.B), HTLC))

    assert "<WantedClaim SUCCESS of condition (0, 1)>" == shown


# ── transactions ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("own", "condition", "path", "lock_time", "weight"),
    [(Side.B, HTLC, ClaimPath.SUCCESS, 0, 605), (Side.A, HTLC, ClaimPath.TIMEOUT, EXPIRY, 549)],
)
def test_claims_are_signed_for_the_owners_payout(
    own: Side, condition: Condition, path: ClaimPath, lock_time: int, weight: int
) -> None:
    """Version 3, one input, one output to the owner, the size of protocol 3.5."""
    scene = settled(own)

    tx = prepared(scene, wanted(scene, condition), 700)

    assert (3, lock_time, weight) == (tx.version, tx.lock_time, tx.weight)
    assert [(condition.amount - 700, payout(own))] == [(out.value, out.spk) for out in tx.outputs]
    message = claim_sighash(scene.params, condition, tx, path)
    assert verify_schnorr(public_key(secrets_of(own).htlc)[1:], message, tx.inputs[0].witness[0])


def test_a_wrong_preimage_is_never_signed_for() -> None:
    """A view that names another preimage is damaged."""
    scene = settled(Side.B)
    claim = msgspec.structs.replace(wanted(scene, HTLC), preimage=b"\x01" * 32)
    unsigned = build_claim(scene.params, claim, 500, payout(Side.B))

    with pytest.raises(InvalidSecret):
        sign_claim(scene.params, claim, unsigned, secrets_of(Side.B).htlc, AUX)


def test_the_htlc_key_has_a_name_of_its_own() -> None:
    """Beside the revocation key, which stands under the proposal id."""
    names = {htlc_key_name(bytes([n]) * 32) for n in range(3)} | {bytes([n]) * 32 for n in range(3)}

    assert 6 == len(names)


# ── fees ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_claim_far_from_its_expiry_pays_the_relay_floor() -> None:
    """Nothing is urgent, and nobody estimates anything."""
    assert 168 == fee(settled(Side.B), wanted(settled(Side.B), HTLC), tip=EXPIRY - 1000)


def test_a_success_claim_gets_urgent_before_its_expiry() -> None:
    """Behind it the offerer may take the output; the fee never exceeds the share."""
    scene = settled(Side.B)
    claim = wanted(scene, HTLC)

    fees = [fee(scene, claim, tip=EXPIRY - left) or 0 for left in (144, 72, 18, 6, 0, -10)]

    assert sorted(fees) == fees
    assert 168 == fees[0]
    assert CLAIM_SHARE * HTLC.amount - 400 < fees[-1] < CLAIM_SHARE * HTLC.amount


def test_a_refund_stays_patient() -> None:
    """It may pay a twentieth of its value at most, however long it waits."""
    scene = settled(Side.A)
    market = msgspec.structs.replace(CALM, estimates=((3, 50.0), (6, 50.0)))

    fees = [fee(scene, wanted(scene, HTLC), tip=EXPIRY + waited, market=market) or 0 for waited in (0, 30, 71, 5_000)]

    assert sorted(fees) == fees
    assert HTLC.amount / 25 < fees[-1] < HTLC.amount / 20


def test_an_estimate_is_followed_within_the_ceiling() -> None:
    """Two percent of the cap on the first day."""
    scene = settled(Side.A)
    claim = wanted(scene, BACK, tip=1)
    cap = (BACK.amount * CLAIM_SHARE - 330) / SUCCESS_VSIZE
    cheap, dear = (msgspec.structs.replace(CALM, estimates=((6, rate),)) for rate in (2.0, 1_000.0))

    assert 2 * SUCCESS_VSIZE == fee(scene, claim, tip=1, market=cheap)
    assert int(0.02 * cap * SUCCESS_VSIZE) <= (fee(scene, claim, tip=1, market=dear) or 0) <= 0.021 * BACK.amount


def test_an_output_that_does_not_pay_its_claim_is_left() -> None:
    """Half of 20,000 sat buys 63 sat/vB; the mempool wants more, or the owner allows less."""
    scene = settled(Side.B)
    claim = wanted(scene, HTLC)

    assert fee(scene, claim, market=Market(minimum=80.0, relay=1.0, increment=1.0)) is None
    assert fee(scene, claim, spendable=0.01) is None


def test_fees_never_fall_below_the_last_claim() -> None:
    """A restart or a lying estimator cannot bring them down."""
    scene = settled(Side.B)
    claim = wanted(scene, HTLC)
    prepared(scene, claim, 1_500)

    assert 1_500 == fee(scene, claim, tip=1)


def test_a_rival_is_outbid_as_far_as_the_phase_allows() -> None:
    """The offerer's refund stands in the mempool behind the expiry: more in fee and in feerate."""
    scene = settled(Side.B)
    claim = wanted(scene, HTLC)
    beaten = fee(scene, claim, tip=EXPIRY + 1, rival=Rival(9_000, TIMEOUT_VSIZE))

    assert beaten is not None
    assert beaten >= 9_000 + SUCCESS_VSIZE


@pytest.mark.parametrize(
    ("parent", "expected"),
    [
        (Parent(420, 210, is_standing=True), 168),
        (Parent(420, 210, is_standing=False), 168),
        (Parent(100, 210, is_standing=False), 299),
    ],
)
def test_C04_a_child_pays_for_its_settlement(parent: Parent, expected: int) -> None:
    """The pair reaches the floor of 1.1 sat/vB: 362 vB cost 399 sat, less what the settlement pays itself."""
    scene = settled(Side.B)

    assert expected == fee(scene, wanted(scene, HTLC), parent=parent)


def test_C04_paying_for_the_settlement_does_not_raise_itself() -> None:
    """The claim's fee covers both; asked again in the same market it stays."""
    scene = settled(Side.B)
    claim, parent = wanted(scene, HTLC), Parent(100, 210, is_standing=True)
    first = fee(scene, claim, parent=parent)
    assert first is not None
    prepared(scene, claim, first)
    dearer = Market(minimum=2.0, relay=1.0, increment=1.0)

    assert first == fee(scene, claim, parent=parent)
    assert (fee(scene, claim, parent=parent, market=dearer) or 0) >= 1.1 * first


def test_C04_a_settlement_that_costs_too_much_is_not_paid_for() -> None:
    """One that stands in the mempool needs no help: there the claim pays what it can."""
    scene = settled(Side.B)
    claim, market = wanted(scene, HTLC), Market(minimum=40.0, relay=1.0, increment=1.0)

    missing = fee(scene, claim, market=market, parent=Parent(420, 210, is_standing=False))
    standing = fee(scene, claim, market=market, parent=Parent(420, 210, is_standing=True))

    assert missing is None
    assert standing is not None
    assert standing <= CLAIM_SHARE * HTLC.amount


# ── records ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_intent_holds_everything_to_send_it_again() -> None:
    """Bytes, fee, place; the fold knows it as the last claim."""
    scene = settled(Side.B)
    claim = wanted(scene, HTLC)

    tx = prepared(scene, claim, 700)

    event = scene.events[-1].payload
    assert isinstance(event, ClaimPrepared)
    assert (tx.txid, tx.serialize(), 700, 0, 2) == (event.txid, event.raw, event.fee, event.lock_time, event.vout)
    last = scene.channel.last_claim(claim.output.settle_txid, HTLC.key)
    assert Claim(claim.output.settle_txid, HTLC.key, Path.SUCCESS, tx.txid, tx.serialize(), 700) == last


def test_acceptance_is_recorded_once() -> None:
    """A refusal is no record: the next pass tries again."""
    scene = settled(Side.B)
    tx = prepared(scene, wanted(scene, HTLC), 700)
    (claim,) = scene.channel.claims

    refused = [claim_answered(claim, outcome, 400, NOW) for outcome in BroadcastOutcome if outcome not in (1, 2)]
    first = scene.then(claim_answered(claim, BroadcastOutcome.ACCEPTED, 400, NOW))

    assert [[]] * 7 == refused
    assert [ClaimBroadcast] == [type(event) for event in first]
    assert (tx.txid, True) == (scene.channel.claims[0].txid, scene.channel.claims[0].accepted)
    assert [] == claim_answered(scene.channel.claims[0], BroadcastOutcome.ALREADY_KNOWN, 401, NOW)


def test_an_own_claim_that_the_log_does_not_know_is_adopted() -> None:
    """It pays our script; a cheaper one is not worth it, a foreign one is not ours."""
    scene = settled(Side.B)
    claim = wanted(scene, HTLC)
    found = success(scene, claim.output)

    adopted = claim_found(scene.channel, claim, found.serialize(), NOW)
    foreign = claim_found(scene.channel, claim, refund(scene, claim.output).serialize(), NOW)
    prepared(scene, claim, 700)

    assert [(found.txid, 500)] == [(e.txid, e.fee) for e in adopted if isinstance(e, ClaimPrepared)]
    assert [] == foreign == claim_found(scene.channel, claim, found.serialize(), NOW)


def test_a_missing_key_is_an_alert_until_it_is_there() -> None:
    """The owner's party must claim; once, and its end once."""
    scene = settled(Side.B)
    claims = [wanted(scene, HTLC)]

    scene.then(claim_unarmed(scene.channel, claims, 400, NOW))
    raised = scene.channel.alerts
    again = claim_unarmed(scene.channel, claims, 401, NOW)
    scene.then(claim_armed(scene.channel, 402, NOW))

    assert frozenset({AlertKind.UNARMED_CLAIM}) == raised
    assert [] == again == claim_armed(scene.channel, 403, NOW)
