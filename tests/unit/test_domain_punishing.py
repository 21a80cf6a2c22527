"""Bids: which fee a penalty carries, that it never falls, and what is recorded about it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.chain import make_outpoint
from domain.channel import Bid, Channel, Spend
from domain.contract.penalty import max_penalty_fee
from domain.events import (
    BidMethod,
    BroadcastOutcome,
    Payload,
    PenaltyBroadcast,
    PenaltyPrepared,
    PenaltyRefused,
    SpendKind,
    Via,
)
from domain.fees import Limits, Market, phase_estimate
from domain.punishing import Price, Rival, penalty_answered, penalty_found, penalty_prepared, price
from domain.spending import disconnected
from domain.transaction import Transaction
from domain.units import Side
from tests.support.scenes import CAPACITY, NOW, Scene, block, funded, unfunded_params

T, H_C = 144, 200
VSIZE = 111
TENTH = Limits(0, 99_942)
"""Before the block no penalty is signed that costs more than a tenth of the value."""

CALM = Market(minimum=1.0, relay=1.0, increment=1.0)
BUSY = Market(1.0, 1.0, 1.0, ((1, 40.0), (2, 30.0), (3, 20.0), (6, 10.0)))


def mined_breach() -> tuple[Scene, Spend]:
    """B's stale state 1 in block 200."""
    scene = Scene().opened(3)
    scene.mined(scene.commitment(Side.B, 1), block(H_C))
    return scene, spend_of(scene)


def seen_breach() -> tuple[Scene, Spend]:
    """B's stale state 1 in the mempool."""
    scene = Scene().opened(3)
    scene.seen(scene.commitment(Side.B, 1))
    return scene, spend_of(scene)


def spend_of(scene: Scene) -> Spend:
    """The spend that counts now."""
    spend = scene.channel.present_spend
    assert spend is not None
    return spend


def asked(scene: Scene, tip: int, market: Market = CALM, rival: Rival | None = None, spendable: float = 1.0) -> Price:
    """The price at a tip."""
    return price(scene.channel, spend_of(scene), tip=tip, market=market, rival=rival, spendable=spendable)


def prepare(scene: Scene, fee: int, left: int | None = None) -> list[Payload]:
    """Make a bid durable."""
    spend = spend_of(scene)
    tx = scene.penalty(Side.B, 1, fee)
    return scene.then(
        penalty_prepared(scene.channel, spend, txid=tx.txid, raw=tx.serialize(), fee=fee, left=left, now=NOW)
    )


# ── confirmed breaches ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("tip", "market", "fee", "left"),
    [
        (H_C, CALM, 123, 143),
        (H_C, BUSY, 1_110, 143),
        (H_C + 71, BUSY, 31_222, 72),
        (H_C + 136, CALM, 409_271, 7),
        (H_C + 137, CALM, 499_549, 6),
        (H_C + 143, CALM, 999_098, 0),
        (H_C + 200, CALM, 999_098, -57),
    ],
)
def test_the_bid_rises_towards_the_deadline(tip: int, market: Market, fee: int, left: int) -> None:
    """First bids along the window of T = 144; the whole value from the deadline on, and after it."""
    scene, _ = mined_breach()

    wanted = asked(scene, tip, market)

    assert (fee, left) == (wanted.fee, wanted.remaining)


def test_the_estimate_follows_the_phase() -> None:
    """Six blocks when green, three when amber, one and a quarter when red, twice when critical."""
    expected = [10.0, 20.0, 50.0, 80.0, 80.0]

    assert expected == [phase_estimate(left, T, BUSY) for left in (73, 72, 18, 6, -5)]


@pytest.mark.parametrize("target", [1, 2, 3, 6])
def test_a_missing_estimate_stops_nothing(target: int) -> None:
    """The node may have no estimate for any target."""
    assert CALM.estimate(target) is None
    assert phase_estimate(target, T, CALM) is None


def test_the_same_tip_asks_for_the_same_bid_again() -> None:
    """Asked twice in one block, the second answer is what was bid."""
    scene, _ = mined_breach()
    fee = asked(scene, H_C + 80, BUSY).fee
    assert fee is not None
    prepare(scene, fee)

    assert fee == asked(scene, H_C + 80, BUSY).fee


def test_R05_a_reorg_that_moves_the_deadline_does_not_lower_the_bid() -> None:
    """The window began anew, the bid stands."""
    scene, _ = mined_breach()
    prepare(scene, 300_000)
    stale = scene.commitment(Side.B, 1)
    scene.then(disconnected(scene.channel, block(H_C), NOW))
    scene.mined(stale, block(H_C + 120, branch=1))

    wanted = asked(scene, H_C + 120)

    assert (300_000, 143) == (wanted.fee, wanted.remaining)


def test_another_breach_starts_its_own_bids() -> None:
    """Bids are kept per commitment: R03 does not inherit the fee of the other branch."""
    scene, _ = mined_breach()
    prepare(scene, 300_000)
    scene.then(disconnected(scene.channel, block(H_C), NOW))
    scene.mined(scene.commitment(Side.B, 2), block(H_C, branch=1))

    assert 123 == asked(scene, H_C).fee


def test_an_owner_may_spend_less_than_everything() -> None:
    """Three quarters of the value at most, also at the deadline."""
    scene, _ = mined_breach()
    cap = (scene.params.contest_value * 0.75 - 330) / VSIZE

    fee = asked(scene, H_C + 143, spendable=0.75).fee

    assert fee == pytest.approx(cap * VSIZE, abs=1)


@pytest.mark.parametrize(("rival", "fee"), [(Rival(90_000, 210), 90_111), (Rival(90_000, 100), 100_011)])
def test_B19_a_rival_spend_is_outbid_in_fee_and_in_feerate(rival: Rival, fee: int) -> None:
    """One step above whichever is harder to beat; an earlier bid of ours changes nothing."""
    scene, _ = mined_breach()
    prepare(scene, 5_000)

    assert fee == asked(scene, H_C + 71, rival=rival).fee


def test_B23_a_small_channel_at_a_high_feerate_keeps_its_dust() -> None:
    """20,000 sat at 300 sat/vB: the output stays above dust, and in the end everything else is spent."""
    scene = Scene(params=funded(msgspec.structs.replace(unfunded_params(), capacity=20_000, reserve_sat=1_660)))
    breach = Spend(b"\x05" * 32, SpendKind.BREACH, Side.B, 0, b"", in_mempool=False, block=block(H_C))
    market = Market(1.0, 1.0, 1.0, ((1, 300.0), (2, 300.0), (3, 300.0), (6, 300.0)))
    channel = Channel("c", 1, scene.params, Side.A, sweep_spk=scene.sweep_spk)

    fees = [price(channel, breach, tip=tip, market=market, rival=None, spendable=1.0).fee for tip in (H_C, H_C + 143)]

    most = max_penalty_fee(scene.params, scene.sweep_spk)
    assert [True, True] == [fee is not None and fee <= most for fee in fees]
    assert most == fees[1]


@pytest.mark.parametrize(("minimum", "uneconomical"), [(1.0, False), (8_100.0, False), (8_200.0, True)])
def test_a_value_below_the_relay_floor_is_uneconomical(minimum: float, uneconomical: bool) -> None:
    """The cap of 9,000.88 sat/vB is compared with 1.1 times the node's minimum; the bid goes out all the same."""
    scene, _ = mined_breach()

    wanted = asked(scene, H_C, Market(minimum, 1.0, 1.0))

    assert uneconomical is wanted.uneconomical
    assert wanted.fee is not None


# ── unconfirmed breaches ─────────────────────────────────────────────────────────────────────────────────


def test_an_unconfirmed_breach_pays_for_the_package() -> None:
    """est(2) for commitment and penalty together, minus what the commitment pays itself; no deadline."""
    scene, _ = seen_breach()

    assert Price(30 * (166 + VSIZE) - 332, None, limits=TENTH) == asked(scene, H_C, BUSY)
    assert Price(123, None, limits=TENTH) == asked(scene, H_C, CALM)


def test_B02_the_cheaters_child_is_outbid_by_one_step() -> None:
    """Above its fee by 1 sat/vB times our size, and above its feerate."""
    scene, _ = seen_breach()

    assert 2_000 + VSIZE + 1 == asked(scene, H_C, rival=Rival(2_000, 111)).fee
    assert 100 * VSIZE + 1 == asked(scene, H_C, rival=Rival(10_000, 100)).fee


def test_B05_a_rival_above_a_tenth_of_the_value_is_left_to_the_block() -> None:
    """With or without an earlier bid of ours: wait. When the rival is gone, the earlier bid stands again."""
    scene, _ = seen_breach()
    rich = Rival(99_900, 111)

    assert Price(None, None, limits=TENTH) == asked(scene, H_C, rival=rich)
    prepare(scene, 4_000)
    assert Price(None, None, limits=TENTH) == asked(scene, H_C, rival=rich)
    assert Price(4_000, None, limits=TENTH) == asked(scene, H_C)


def test_R01_a_disconnected_breach_keeps_its_high_bid() -> None:
    """Back in the mempool, the bid of the block phase is above the budget and stays."""
    scene, _ = mined_breach()
    prepare(scene, 300_000)
    scene.then(disconnected(scene.channel, block(H_C), NOW))
    scene.seen(scene.commitment(Side.B, 1))

    assert Price(300_000, None, limits=TENTH) == asked(scene, H_C, BUSY)


# ── from the mempool into a block ────────────────────────────────────────────────────────────────────────


def into_a_block(scene: Scene, fee: int) -> None:
    """A bid on the unconfirmed breach, then the block with the breach and without the bid."""
    prepare(scene, fee)
    scene.mined(scene.commitment(Side.B, 1), block(H_C))


def test_a_bid_from_before_the_block_is_made_anew_once() -> None:
    """One step above it, whatever the curve says; that one stands in the next blocks."""
    scene, _ = seen_breach()
    into_a_block(scene, 4_000)

    renewed = asked(scene, H_C)
    prepare(scene, 4_000 + VSIZE, left=143)

    assert (4_000 + VSIZE, 143) == (renewed.fee, renewed.remaining)
    assert [4_000 + VSIZE] * 3 == [asked(scene, tip).fee for tip in (H_C, H_C + 1, H_C + 20)]


def test_a_bid_from_before_the_block_waits_for_a_ceiling_that_allows_a_step() -> None:
    """A tenth of the value was allowed before the block, 2 % are in the block; half of it from the middle on."""
    scene, _ = seen_breach()
    into_a_block(scene, 99_000)

    assert [99_000, 99_000 + VSIZE] == [asked(scene, tip).fee for tip in (H_C, H_C + 72)]


def test_a_bid_is_made_anew_after_each_return_to_the_mempool() -> None:
    """A reorg put the breach back, it was outbid there, and it is mined again; a bid of a block is not renewed."""
    scene, _ = seen_breach()
    into_a_block(scene, 4_000)
    prepare(scene, 4_111, left=143)
    scene.then(disconnected(scene.channel, block(H_C), NOW))
    scene.mined(scene.commitment(Side.B, 1), block(H_C, branch=1))
    untouched = asked(scene, H_C).fee
    scene.then(disconnected(scene.channel, block(H_C, branch=1), NOW))
    scene.seen(scene.commitment(Side.B, 1))
    into_a_block(scene, 5_000)

    assert (4_111, 5_000 + VSIZE) == (untouched, asked(scene, H_C).fee)


def test_an_adopted_bid_on_a_mined_breach_is_not_made_anew() -> None:
    """Two towers of one owner would raise each other's bids without end."""
    scene, _ = mined_breach()
    scene.then(found(scene, scene.penalty(Side.B, 1, 4_000)))

    assert 4_000 == asked(scene, H_C).fee


# ── monotone ─────────────────────────────────────────────────────────────────────────────────────────────

MARKETS = st.builds(
    Market,
    minimum=st.floats(0, 300),
    relay=st.floats(0, 10),
    increment=st.floats(0, 5),
    estimates=st.lists(
        st.tuples(st.sampled_from([1, 2, 3, 6]), st.floats(0, 1e7)), max_size=4, unique_by=lambda pair: pair[0]
    ).map(tuple),
)
RIVALS = st.none() | st.builds(Rival, st.integers(0, CAPACITY), st.integers(80, 10_000))


@given(steps=st.lists(st.tuples(st.integers(-20, 220), MARKETS, RIVALS, st.booleans()), min_size=1, max_size=8))
def test_bids_never_fall(steps: list[tuple[int, Market, Rival | None, bool]]) -> None:
    """Whatever market, rival, reorg or return to the mempool: no bid below the last, none above the value."""
    scene, mined = mined_breach()
    loose = msgspec.structs.replace(mined, block=None, in_mempool=True)
    channel, most, fees = scene.channel, max_penalty_fee(scene.params, scene.sweep_spk), [0]

    for past, market, rival, is_mined in steps:
        breach = mined if is_mined else loose
        wanted = price(channel, breach, tip=H_C + past, market=market, rival=rival, spendable=1.0)
        fees.append(fees[-1] if wanted.fee is None else wanted.fee)
        bid = Bid(mined.txid, len(fees), bytes((len(fees),)) * 32, b"", fees[-1], 0)
        channel = msgspec.structs.replace(channel, bids=(*channel.bids, bid)) if fees[-1] else channel

    assert sorted(fees) == fees
    assert fees[-1] <= most


@given(past=st.integers(-50, 400), market=MARKETS, rival=RIVALS)
def test_every_price_gives_a_valid_penalty(past: int, market: Market, rival: Rival | None) -> None:
    """A confirmed breach is always answered, with an output above dust."""
    scene, _ = mined_breach()

    fee = asked(scene, H_C + past, market, rival).fee

    assert fee is not None
    assert 0 < fee <= max_penalty_fee(scene.params, scene.sweep_spk)


# ── records ──────────────────────────────────────────────────────────────────────────────────────────────


def test_bids_are_numbered_and_name_what_they_replace() -> None:
    """The intent holds the exact bytes."""
    scene, breach = mined_breach()

    first, second = prepare(scene, 1_000, left=143)[0], prepare(scene, 2_000, left=142)[0]

    tx = scene.penalty(Side.B, 1, 2_000)
    assert isinstance(first, PenaltyPrepared)
    assert isinstance(second, PenaltyPrepared)
    assert (1, None, 9_009) == (first.bid_no, first.replaces, first.feerate_kvb)
    assert (2, first.txid, 142, BidMethod.RESIGN) == (second.bid_no, second.replaces, second.remaining, second.method)
    assert tx == Transaction.parse(second.raw)
    assert [1_000, 2_000] == [bid.fee for bid in scene.channel.bids_on(breach.txid)]


def found(scene: Scene, tx: Transaction) -> list[Payload]:
    """An unknown spend of the contest output is in the mempool."""
    return penalty_found(scene.channel, spend_of(scene), tx.serialize(), NOW)


@pytest.mark.parametrize(("known", "adopted"), [(0, 1), (3_999, 1), (4_000, 0), (4_001, 0)])
def test_a_higher_own_bid_that_the_log_does_not_know_is_adopted(known: int, adopted: int) -> None:
    """An older copy of the log continues from the mempool's bid; a lower one will be replaced."""
    scene, _ = mined_breach()
    prepare(scene, known)
    tx = scene.penalty(Side.B, 1, 4_000)

    assert [(4_000, tx.txid)] * adopted == [(event.fee, event.txid) for event in _prepared(found(scene, tx))]


def test_the_first_bid_can_be_found_in_the_mempool() -> None:
    """The log knows no bid at all."""
    scene, _ = mined_breach()

    assert [1] == [event.bid_no for event in _prepared(found(scene, scene.penalty(Side.B, 1, 4_000)))]


def test_a_spend_that_does_not_pay_us_alone_is_not_adopted() -> None:
    """A settlement, a penalty of two coins, or one with a second output."""
    scene, _ = mined_breach()
    penalty = scene.penalty(Side.B, 1, 4_000)
    coin = msgspec.structs.replace(penalty.inputs[0], outpoint=make_outpoint(b"\x05" * 32, 0))
    two_coins = msgspec.structs.replace(penalty, inputs=(*penalty.inputs, coin))
    two_outputs = msgspec.structs.replace(penalty, outputs=penalty.outputs * 2)

    assert [[], [], []] == [found(scene, tx) for tx in (scene.settlement(Side.B, 1), two_coins, two_outputs)]


def _prepared(events: list[Payload]) -> list[PenaltyPrepared]:
    return [event for event in events if isinstance(event, PenaltyPrepared)]


def answer(scene: Scene, outcome: BroadcastOutcome, text: str = "") -> list[Payload]:
    """Record an answer to the last bid."""
    bid = scene.channel.bids[-1]
    return scene.then(penalty_answered(bid, outcome, Via.RAW, -26, text, H_C, NOW))


def test_an_acceptance_is_recorded_once() -> None:
    """The same penalty is sent every block; that is no news."""
    scene, _ = mined_breach()
    prepare(scene, 1_000)

    assert [PenaltyBroadcast] == [type(e) for e in answer(scene, BroadcastOutcome.ACCEPTED)]
    assert [] == answer(scene, BroadcastOutcome.ACCEPTED)
    assert [] == answer(scene, BroadcastOutcome.ALREADY_KNOWN)


def test_a_refusal_is_recorded_when_its_class_changes() -> None:
    """Twice too low is one event, another reason is the next; the bid stays."""
    scene, _ = mined_breach()
    prepare(scene, 1_000)

    assert [PenaltyRefused] == [type(e) for e in answer(scene, BroadcastOutcome.INSUFFICIENT_FEE)]
    assert [] == answer(scene, BroadcastOutcome.INSUFFICIENT_FEE)
    assert [PenaltyRefused] == [type(e) for e in answer(scene, BroadcastOutcome.MISSING_INPUTS)]
    assert [PenaltyBroadcast] == [type(e) for e in answer(scene, BroadcastOutcome.ACCEPTED)]
    assert 1 == len(scene.channel.bids)


def test_a_long_answer_is_cut() -> None:
    """The event allows 120 characters."""
    scene, _ = mined_breach()
    prepare(scene, 1_000)

    refused = answer(scene, BroadcastOutcome.REJECTED, "x" * 500)[0]

    assert isinstance(refused, PenaltyRefused)
    assert "x" * 120 == refused.text
