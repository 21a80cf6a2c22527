"""The arithmetic of HTLC timing against the numbers of protocol 3.5."""

from __future__ import annotations

import pytest

from domain.expiry import claim_margin, closing_blocks, forwarding_delta, last_claim_height, must_go_on_chain
from domain.units import Side
from tests.support.parties import htlc

INCOMING, OUTGOING = htlc(Side.B, 1, 10_000, 1_000), htlc(Side.A, 1, 10_000, 1_000)


def test_numbers_of_the_protocol_for_the_default_period() -> None:
    """168, 184, 370 and 202 blocks for T = 144."""
    assert closing_blocks(144) == 168
    assert claim_margin(144) == 184
    assert forwarding_delta(144) == 370
    assert forwarding_delta(144, preemptive=True) == 202


@pytest.mark.parametrize("period", [1, 36, 144, 2016])
def test_margins_grow_with_the_challenge_period(period: int) -> None:
    """Every margin contains the whole challenge period once, the careful delta twice."""
    assert last_claim_height(INCOMING, period) == 1_000 - period - 40
    assert forwarding_delta(period) - forwarding_delta(1) == 2 * (period - 1)


@pytest.mark.parametrize(("height", "urgent"), [(815, ()), (816, (INCOMING,)), (2_000, (INCOMING,))])
def test_an_incoming_htlc_with_its_preimage_is_claimed_in_time(height: int, urgent: tuple[object, ...]) -> None:
    """At E - 184 the receiver closes; before, the peer may still pay off chain."""
    assert must_go_on_chain(height, [INCOMING], Side.A, {INCOMING.hash}, 144) == urgent


@pytest.mark.parametrize(("height", "urgent"), [(1_001, ()), (1_002, (OUTGOING,))])
def test_an_outgoing_htlc_is_taken_back_after_its_expiry(height: int, urgent: tuple[object, ...]) -> None:
    """Two blocks of grace after E the offerer closes."""
    assert must_go_on_chain(height, [OUTGOING], Side.A, (), 144) == urgent


def test_without_the_preimage_nothing_is_urgent_for_the_receiver() -> None:
    """An incoming HTLC whose preimage is unknown cannot be claimed on chain either."""
    assert must_go_on_chain(5_000, [INCOMING], Side.A, (), 144) == ()
