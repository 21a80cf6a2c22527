"""Atomic swaps between two channels with real money: bob takes from alice and gives to carol under one hash.

Cooperative in both orders, with a counterparty that is silent, and with a breach in the middle. Either both legs happen
or none; who breaks the contract loses a channel instead.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.contract.params import SEGWIT, TAPROOT
from domain.events import PaymentOutcome
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.payment_stage import Play, stage
from watchtower.client.payments import (
    Invoice,
    Leg,
    PaymentFailed,
    RouteChannel,
    least_delta,
    least_expiry,
    plan_route,
)
from watchtower.devnode.regtest import RegtestNode

pytestmark = pytest.mark.asyncio
PREIMAGE = bytes(31) + b"\x2b"
GIVEN, TAKEN = 40_000, 41_000


def legs(play: Play, *, longer: str) -> tuple[Leg, Leg]:
    """What bob gives carol and what he takes from alice."""
    near = least_expiry(play.node.height(), play.row.period) + 10
    far = near + least_delta(play.row.period, play.row.period)
    give = Leg(play.row.second, GIVEN, far if longer == "give" else near)
    return give, Leg(play.row.first, TAKEN, far if longer == "take" else near)


def offer(play: Play, leg: Leg, payment_hash: bytes) -> None:
    """Alice offers what she gives."""
    channels = [RouteChannel(leg.channel_id, play.row.period)]
    route = plan_route(channels, leg.amount, play.node.height(), final_expiry=leg.expiry)
    play.row.alice.payments.begin(route, Invoice(payment_hash, leg.amount))


async def both_legs(play: Play) -> bytes:
    """A swap whose preimage carol will make: both legs are there, and all states at the tower."""
    row = play.row
    name = play.held(PREIMAGE, GIVEN).payment_hash
    give, take = legs(play, longer="take")
    row.bob.payments.begin_swap(give, take, name)
    offer(play, take, name)
    await row.until(lambda: bool(row.carol.party.find_htlcs(row.second, name)))
    await row.bob.links[row.second].wait_for(row.second, lambda channel: channel.firm is not None)
    await play.client.synchronize(row.second)
    return name


def bob_has(play: Play) -> tuple[int, int]:
    """Bob's balances with alice and with carol."""
    return play.row.bob.balance(play.row.first), play.row.bob.balance(play.row.second)


async def test_a_swap_with_an_own_preimage(node: RegtestNode, tmp_path: Path) -> None:
    """Bob gives first and longer; alice learns the preimage when he takes, and carol uses it."""
    async with stage(node, tmp_path / "tower") as play:
        row = play.row
        give, take = legs(play, longer="give")
        name = row.bob.payments.begin_swap(give, take)
        row.carol.payments.invoice(GIVEN, node.height() + 1_000, name)
        await row.until(lambda: bool(row.carol.party.find_htlcs(row.second, name)))
        offer(play, take, name)
        play.show(await row.alice.payments.proof(name))
        await row.bob.payments.proof(name)
        await row.until(lambda: not row.carol.party.find_htlcs(row.second, name))

    assert (500_000 + TAKEN, 500_000 - GIVEN) == bob_has(play)


async def test_a_swap_with_a_preimage_of_the_other_side(node: RegtestNode, tmp_path: Path) -> None:
    """Bob gives only once his tower holds what he takes; carol's preimage brings it in."""
    async with stage(node, tmp_path / "tower") as play:
        row = play.row
        name = await both_legs(play)
        play.show(PREIMAGE)
        await row.bob.payments.proof(name)

    assert (500_000 + TAKEN, 500_000 - GIVEN) == bob_has(play)


async def test_a_silent_taker_claims_on_chain_and_so_does_bob(node: RegtestNode, tmp_path: Path) -> None:
    """Carol takes her leg on chain, alice is silent: bob's tower reads the preimage and takes his leg there, too."""
    async with stage(node, tmp_path / "tower") as play:
        row = play.row
        name = await both_legs(play)
        expiry = play.expiry(row.bob, row.first, name)
        await play.stop()
        node.send_raw(row.carol.party.sign_commitment(row.second, 1))
        await play.settle(row.second)
        (condition,) = row.carol.party.find_htlcs(row.second, name)
        node.send_raw(row.carol.party.claim_success(row.second, 1, Side.B, condition.key, PREIMAGE, 1_000))
        await play.seen()
        await play.mine_to(expiry - 46)
        await play.settle(row.first)
        await play.mine_until(lambda: play.outcome(name) is not None, 10)
        claim = play.spender(play.htlc_output(row.bob, row.first, 1, Side.B, name))

    assert PaymentOutcome.PAID is play.outcome(name)
    assert claim is not None
    assert row.bob.party.channel(row.first).params.keys(Side.B).payout == claim.outputs[0].spk


async def test_neither_leg_if_the_taker_stays_silent(node: RegtestNode, tmp_path: Path) -> None:
    """Carol never shows the preimage: bob takes his leg back on chain, then gives alice hers."""
    async with stage(node, tmp_path / "tower") as play:
        row = play.row
        name = await both_legs(play)
        near = play.expiry(row.bob, row.second, name)
        await play.silence(row.second)
        await play.mine_to(near + 2)
        await play.settle(row.second)
        await play.mine_until(lambda: not row.alice.party.find_htlcs(row.first, name), 10)
        with pytest.raises(PaymentFailed):
            await row.alice.payments.proof(name)
        refund = play.spender(play.htlc_output(row.bob, row.second, 1, Side.A, name))

    assert refund is not None
    assert (500_000, 500_000) == (row.alice.balance(row.first), row.bob.balance(row.first))


@pytest.mark.parametrize("profile", [TAPROOT, SEGWIT])
async def test_a_breach_in_the_middle_of_a_swap(node: RegtestNode, tmp_path: Path, profile: int) -> None:
    """Carol publishes a revoked state that holds the leg: one penalty takes everything, alice gets her leg back."""
    async with stage(node, tmp_path / "tower", profile=profile, period=72) as play:
        row = play.row
        name = await both_legs(play)
        seat = row.bob.party.channel(row.second)
        balances = (seat.balances[0] + 1_000, seat.balances[1] - 1_000)
        await row.carol.links[row.second].update(row.second, balances, seat.conditions)
        await play.client.synchronize(row.second)
        await play.silence(row.second)
        stale = play.stale(row.carol, row.second, 1)
        node.generate_block([stale])
        await play.mine_until(lambda: play.outcome(name) is not None, 10)
        penalty = play.spender(Transaction.parse(stale).txid + bytes(4))
        with pytest.raises(PaymentFailed):
            await row.alice.payments.proof(name)

    assert penalty is not None
    assert (1, 1) == (len(penalty.inputs), len(penalty.outputs))
    assert 0.9 * seat.params.contest_value < penalty.outputs[0].value
    assert (PaymentOutcome.FAILED, 500_000) == (play.outcome(name), row.alice.balance(row.first))
