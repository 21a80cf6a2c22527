"""Closing costs against the transactions themselves, and what a static feerate buys."""

from __future__ import annotations

import msgspec
import pytest

from domain.contract.conditions import Condition
from domain.contract.params import ChannelParams
from domain.contract.primitives import ClaimPath
from domain.economics import (
    ClosingCost,
    Way,
    claim_costs,
    closing_costs,
    recommended_static_feerate,
    what_it_buys,
)
from domain.fees import Market
from domain.liquidity import Holdings
from domain.transaction import Transaction
from domain.units import Side
from tests.contract_vectors.load import PARAMS
from tests.contract_vectors.segwit import SEGWIT
from tests.support.parties import open_pair

QUIET = Market(minimum=1.0, relay=1.0, increment=1.0, estimates=((1, 9.0), (6, 4.0), (144, 1.2)))
BUSY = Market(minimum=20.0, relay=1.0, increment=1.0, estimates=((1, 90.0), (6, 60.0), (144, 30.0)))
BALANCES = (600_000, 400_000)


def costs(holdings: Holdings, feerate: float) -> dict[tuple[Way, Side], ClosingCost]:
    """All open ways by name and side."""
    return {(cost.way, cost.by): cost for cost in closing_costs(holdings, feerate)}


@pytest.mark.parametrize(
    ("params", "sizes"),
    [
        (PARAMS, {Way.COOPERATIVE_KEY_PATH: 154, Way.COOPERATIVE: 196, Way.UNILATERAL: 376, Way.PENALTY: 277}),
        (SEGWIT, {Way.COOPERATIVE: 193, Way.UNILATERAL: 380, Way.PENALTY: 305}),
    ],
    ids=["taproot", "segwit v0"],
)
def test_sizes_are_those_of_the_protocol(params: ChannelParams, sizes: dict[Way, int]) -> None:
    """Chapters 3 and C.3: one figure per way, the same for both sides."""
    found = costs(Holdings(params, BALANCES), 2.0)
    assert {(way, side): size for way, size in sizes.items() for side in Side} == {
        key: cost.vsize for key, cost in found.items()
    }


def test_every_satoshi_is_somewhere() -> None:
    """What both sides get and what nobody gets is the capacity, in every way."""
    for cost in closing_costs(Holdings(PARAMS, BALANCES), 7.0):
        assert PARAMS.capacity == sum(cost.nets) + cost.fee


def test_nets_at_the_static_feerate() -> None:
    """A pays the overhead, the closer pays the cooperative fee, the punisher takes all."""
    found = costs(Holdings(PARAMS, BALANCES), 2.0)

    assert (598_768, 400_000) == found[Way.UNILATERAL, Side.B].nets
    assert (600_000, 399_692) == found[Way.COOPERATIVE_KEY_PATH, Side.B].nets
    assert (599_608, 400_000) == found[Way.COOPERATIVE, Side.A].nets
    assert (0, 999_206) == found[Way.PENALTY, Side.B].nets
    assert 0 == found[Way.UNILATERAL, Side.A].extra


def test_a_busy_market_costs_a_fee_child() -> None:
    """Above the static feerate each of both transactions needs a child that pays for two."""
    unilateral = costs(Holdings(PARAMS, BALANCES), 20.0)[Way.UNILATERAL, Side.A]
    assert (20 * (166 + 153) - 332) + (20 * (210 + 153) - 420) == unilateral.extra
    assert 1_232 == unilateral.fee


def test_figures_are_those_of_signed_transactions() -> None:
    """Commitment and settlement of a real channel weigh what the estimate says."""
    pair = open_pair()
    pair.updates(2)
    commitment, settlement = (pair.a.sign_commitment(pair.channel_id, 2), pair.settlement(Side.A, 2))
    estimate = costs(Holdings(pair.params, pair.balances), 1.0)[Way.UNILATERAL, Side.A]

    made = [Transaction.parse(raw) for raw in (commitment, settlement)]
    assert estimate.vsize == sum(tx.vsize for tx in made)
    assert sorted([*estimate.nets, 240]) == sorted(out.value for out in made[1].outputs)


def test_dust_becomes_fee() -> None:
    """A side with less than dust gets nothing, in each way."""
    found = costs(Holdings(PARAMS, (999_671, 329)), 1.0)
    assert [0, 0] == [found[way, Side.A].nets[Side.B] for way in (Way.UNILATERAL, Way.COOPERATIVE)]


def test_a_closer_needs_the_fee() -> None:
    """A side whose balance does not cover the fee cannot be the closer."""
    found = costs(Holdings(PARAMS, (990_000, 10_000)), 100.0)
    assert {Side.A} == {side for way, side in found if way in (Way.COOPERATIVE, Way.COOPERATIVE_KEY_PATH)}


def test_pending_conditions_leave_no_cooperative_close() -> None:
    """HTLCs are on top of what the sides get; each one tells what taking it costs."""
    htlcs = (Condition(0, 1, 900_000, 50_000, bytes(32)), Condition(1, 2, 900_000, 200, bytes(32)))
    holdings = Holdings(PARAMS, (550_000, 399_800), htlcs)

    found, claims = costs(holdings, 2.0), claim_costs(holdings, 2.0)

    assert {Way.UNILATERAL, Way.PENALTY} == {way for way, _ in found}
    unilateral = found[Way.UNILATERAL, Side.A]
    assert PARAMS.capacity == sum(unilateral.nets) + unilateral.fee + 50_000
    assert [(ClaimPath.SUCCESS, Side.B, 304, True), (ClaimPath.TIMEOUT, Side.A, 276, True)] == [
        (claim.path, claim.by, claim.fee, claim.is_worth_it) for claim in claims
    ]


@pytest.mark.parametrize(("amount", "expected"), [(963, False), (964, True)])
def test_a_claim_is_worth_what_the_tower_pays_for_it(amount: int, expected: bool) -> None:
    """152 sat for a success at 1 sat/vB: half of the output, less dust, just covers it or does not."""
    holdings = Holdings(PARAMS, (600_000 - amount, 400_000), (Condition(0, 1, 900_000, amount, bytes(32)),))
    success = next(claim for claim in claim_costs(holdings, 1.0) if claim.path is ClaimPath.SUCCESS)

    assert (152, expected) == (success.fee, success.is_worth_it)


def test_a_claim_that_eats_itself_is_told() -> None:
    """At a high feerate a small HTLC is not worth its claim."""
    holdings = Holdings(PARAMS, (590_000, 400_000), (Condition(0, 1, 900_000, 10_000, bytes(32)),))
    assert {False} == {claim.is_worth_it for claim in claim_costs(holdings, 80.0)}


@pytest.mark.parametrize(
    ("market", "expected"),
    [
        (QUIET, 2_200),
        (BUSY, 44_000),
        (msgspec.structs.replace(BUSY, minimum=40.0), 50_000),
        (msgspec.structs.replace(QUIET, estimates=()), 2_200),
        (msgspec.structs.replace(QUIET, estimates=((144, 7.5),)), 7_500),
    ],
)
def test_recommended_static_feerate(market: Market, expected: int) -> None:
    """Twice what relays, at least the patient estimate, within 1000 and 50000 sat per 1000 vB."""
    assert expected == recommended_static_feerate(market)


def test_what_a_static_feerate_buys() -> None:
    """Quiet: it relays and waits a day. Busy: it stays out without a fee child."""
    quiet, busy = what_it_buys(2_000, QUIET), what_it_buys(2_000, BUSY)
    assert (True, 1_000, 144) == (quiet.relays, quiet.needed, quiet.blocks)
    assert (False, 20_000, None) == (busy.relays, busy.needed, busy.blocks)
    assert 6 == what_it_buys(5_000, QUIET).blocks
