"""Payments over two channels with real money: cooperative, silent hops, expiry on chain, breaches in the middle.

Bob forwards for alice and carol. In every story he ends with at least what he had, less the fees of the chain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from domain.chain import make_outpoint
from domain.contract.params import SEGWIT, TAPROOT
from domain.events import PaymentOutcome
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.payment_stage import AMOUNT, FEE, Play, stage
from tests.support.hops import End
from watchtower.client.party import exchange
from watchtower.client.party.party import ChannelParty
from watchtower.client.payments import PaymentFailed
from watchtower.client.protocol.htlcs import Change
from watchtower.client.protocol.messages import AnyMessage, Message, UpdateCommit
from watchtower.devnode.regtest import RegtestNode

pytestmark = pytest.mark.asyncio
PREIMAGE = bytes(31) + b"\x2a"
PAID, FAILED = PaymentOutcome.PAID, PaymentOutcome.FAILED


def own_close(play: Play, end: End, channel_id: bytes, sequence: int) -> None:
    """A party publishes its newest commitment."""
    play.node.send_raw(end.party.sign_commitment(channel_id, sequence))


def gone(play: Play, payment_hash: bytes) -> Callable[[], bool]:
    """Whether alice's HTLC is out of her channel."""
    return lambda: not play.row.alice.party.find_htlcs(play.row.first, payment_hash)


@pytest.mark.parametrize("profile", [TAPROOT, SEGWIT])
async def test_a_payment_over_two_channels(node: RegtestNode, tmp_path: Path, profile: int) -> None:
    """Paid, proven, final at the tower; afterwards both channels close with the new balances on the chain."""
    async with stage(node, tmp_path / "tower", profile=profile) as play:
        row = play.row
        invoice = row.carol.payments.invoice(AMOUNT, node.height() + 100)
        await row.alice.payments.pay(row.route(AMOUNT, node.height()), invoice)
        ended = await row.bob.payments.ended(invoice.payment_hash)
        await row.carol.payments.ended(invoice.payment_hash)
        closes = [
            Transaction.parse(await link.close_channel(name, row.bob.party.channel(name).balances, 1_000))
            for name, link in tuple(row.bob.links.items())
        ]
        for close in closes:
            node.send_raw(close.serialize())
        await play.mine()

    assert PaymentOutcome.PAID is ended.outcome
    paid = [sorted(output.value for output in close.outputs) for close in closes]
    assert [500_000 - AMOUNT - FEE, 500_000 + AMOUNT + FEE - 1_000] == paid[0]
    assert [500_000 - AMOUNT - 1_000, 500_000 + AMOUNT] == paid[1]
    assert [node.height()] * 2 == [play.world.height_of(close.txid) for close in closes]


@pytest.mark.parametrize("period", [6, 144])
async def test_a_hop_silent_before_the_preimage(node: RegtestNode, tmp_path: Path, period: int) -> None:
    """Carol never answers again: bob closes behind the expiry, takes the HTLC back, and only then alice gets hers."""
    async with stage(node, tmp_path / "tower", period=period) as play:
        row = play.row
        name = (await play.pending(PREIMAGE)).payment_hash
        expiry, upstream = play.expiry(row.bob, row.second, name), play.expiry(row.bob, row.first, name)
        await play.silence(row.second)
        await play.mine_to(expiry + 1)
        waiting = play.channel(row.second).status
        await play.mine_to(expiry + 2)
        await play.settle(row.second)
        still_held = len(row.bob.party.find_htlcs(row.first, name))
        await play.mine_until(gone(play, name), 10)
        with pytest.raises(PaymentFailed):
            await row.alice.payments.proof(name)
        refund = play.spender(play.htlc_output(row.bob, row.second, 1, Side.A, name))

    assert ("ACTIVE", 1) == (waiting, still_held)
    assert refund is not None
    assert expiry == refund.lock_time
    assert 500_000 == row.alice.balance(row.first)
    assert node.height() < upstream


async def claim_on_chain(play: Play, name: bytes) -> Transaction:
    """Carol goes silent, closes, and takes her HTLC from the settlement: the preimage is in the mempool only."""
    row = play.row
    await play.silence(row.second)
    own_close(play, row.carol, row.second, 1)
    await play.settle(row.second)
    (condition,) = row.carol.party.find_htlcs(row.second, name)
    raw = row.carol.party.claim_success(row.second, 1, Side.B, condition.key, PREIMAGE, 1_000)
    play.node.send_raw(raw)
    return Transaction.parse(raw)


@pytest.mark.parametrize("profile", [TAPROOT, SEGWIT])
async def test_a_hop_silent_behind_the_preimage(node: RegtestNode, tmp_path: Path, profile: int) -> None:
    """Carol claims on chain: bob's tower reads the preimage in the mempool, and alice pays bob off chain."""
    async with stage(node, tmp_path / "tower", profile=profile) as play:
        row = play.row
        name = (await play.pending(PREIMAGE)).payment_hash
        claim = await claim_on_chain(play, name)
        unconfirmed = claim.txid in node.mempool()
        await play.seen()
        preimage = await row.alice.payments.proof(name)
        await row.until(gone(play, name))
        await play.mine_until(lambda: play.outcome(name) is not None, 10)

    assert (True, PREIMAGE) == (unconfirmed, preimage)
    assert PAID is play.outcome(name)
    assert 500_000 + AMOUNT + FEE == row.bob.balance(row.first)


async def test_both_hops_silent_behind_the_preimage(node: RegtestNode, tmp_path: Path) -> None:
    """Alice does not pay although bob has the preimage: 46 blocks before her expiry (T = 6) bob closes and claims."""
    async with stage(node, tmp_path / "tower") as play:
        row = play.row
        name = (await play.pending(PREIMAGE)).payment_hash
        expiry = play.expiry(row.bob, row.first, name)
        await play.silence(row.first)
        await claim_on_chain(play, name)
        await play.seen()
        await play.mine_to(expiry - 47)
        before = play.channel(row.first).status
        await play.mine_to(expiry - 46)
        await play.settle(row.first)
        await play.mine_until(lambda: play.outcome(name) is not None, 10)
        claim = play.spender(play.htlc_output(row.bob, row.first, 1, Side.B, name))
        taken = node.height()

    assert ("ACTIVE", PAID) == (before, play.outcome(name))
    assert claim is not None
    assert row.bob.party.channel(row.first).params.keys(Side.B).payout == claim.outputs[0].spk
    assert taken < expiry


async def test_an_unpaid_htlc_expires_on_chain_on_both_hops(node: RegtestNode, tmp_path: Path) -> None:
    """Carol and alice are silent: bob takes his HTLC back on chain, and alice hers, at their heights."""
    async with stage(node, tmp_path / "tower") as play:
        row = play.row
        name = (await play.pending(PREIMAGE)).payment_hash
        near, far = play.expiry(row.bob, row.second, name), play.expiry(row.bob, row.first, name)
        await play.stop()
        await play.mine_to(near + 2)
        await play.settle(row.second)
        await play.mine_to(far)
        own_close(play, row.alice, row.first, 1)
        await play.settle(row.first)
        (condition,) = row.alice.party.find_htlcs(row.first, name)
        refund = row.alice.party.claim_timeout(row.first, 1, Side.A, condition.key, 1_000)
        node.send_raw(refund)
        await play.mine_until(lambda: play.outcome(name) is not None, 10)
        own = play.spender(play.htlc_output(row.bob, row.second, 1, Side.A, name))

    assert FAILED is play.outcome(name)
    assert own is not None
    assert row.bob.party.channel(row.second).params.keys(Side.A).payout == own.outputs[0].spk
    assert play.world.height_of(Transaction.parse(refund).txid) is not None


def cut_short(play: Play) -> int:
    """Alice proposes a gift, gets bob's signatures, and keeps hers: only she can publish that state. Its number."""
    alice, bob = play.row.alice.party, play.row.bob.party

    def carry(sender: ChannelParty, message: Message) -> Sequence[AnyMessage]:
        return () if isinstance(message, UpdateCommit) else exchange.deliver(sender, message)

    exchange.run(alice, bob, alice.change(play.row.first, Change(pay=1_000)), carry)
    return bob.channel(play.row.first).sequence + 1


@pytest.mark.parametrize("profile", [TAPROOT, SEGWIT])
async def test_the_hop_before_publishes_what_it_did_not_complete(
    node: RegtestNode, tmp_path: Path, profile: int
) -> None:
    """Alice leaves the settlement to nobody: bob's tower has it from bob (rule U1), and takes the HTLC from it."""
    async with stage(node, tmp_path / "tower", profile=profile) as play:
        row = play.row
        name = (await play.pending(PREIMAGE)).payment_hash
        await play.silence(row.first)
        published = cut_short(play)
        own_close(play, row.alice, row.first, published)
        play.show(PREIMAGE)
        await row.until(lambda: not row.bob.party.find_htlcs(row.second, name))
        await play.settle(row.first)
        await play.mine_until(lambda: play.outcome(name) is not None, 10)
        claim = play.spender(play.htlc_output(row.alice, row.first, published, Side.A, name))
        again = await play.client.synchronize(row.first)

    assert (2, 2) == (published, again.sequence)
    assert ("SETTLED", PAID) == (play.channel(row.first).status, play.outcome(name))
    assert claim is not None
    assert row.bob.party.channel(row.first).params.keys(Side.B).payout == claim.outputs[0].spk


async def breach(play: Play, end: End, channel_id: bytes) -> Transaction:
    """Another update with the HTLC still pending, then the party publishes the state before; bob's penalty."""
    bob, seat = play.row.bob, play.row.bob.party.channel(channel_id)
    balances = list(seat.balances)
    balances[seat.own_side] += 1_000
    balances[seat.peer] -= 1_000
    await end.links[channel_id].update(channel_id, (balances[0], balances[1]), seat.conditions)
    await play.client.synchronize(channel_id)
    await play.silence(channel_id)
    stale = play.stale(end, channel_id, 1)
    play.node.generate_block([stale])
    await play.seen()
    penalty = play.spender(make_outpoint(Transaction.parse(stale).txid, 0))
    assert penalty is not None
    assert bytes(bob.party.registration(channel_id).sweep_spk) == penalty.outputs[0].spk
    return penalty


@pytest.mark.parametrize("profile", [TAPROOT, SEGWIT])
async def test_the_next_hop_breaches_in_the_middle_of_a_payment(
    node: RegtestNode, tmp_path: Path, profile: int
) -> None:
    """One penalty takes carol's whole channel with the HTLC in it; alice gets hers back, bob has lost nothing."""
    async with stage(node, tmp_path / "tower", profile=profile, period=72) as play:
        row = play.row
        name = (await play.pending(PREIMAGE)).payment_hash
        penalty = await breach(play, row.carol, row.second)
        await play.mine_until(gone(play, name), 10)
        with pytest.raises(PaymentFailed):
            await row.alice.payments.proof(name)
        await play.mine_until(lambda: play.outcome(name) is not None, 5)
        value = row.bob.party.channel(row.second).params.contest_value

    assert (1, 1) == (len(penalty.inputs), len(penalty.outputs))
    assert 0.9 * value < penalty.outputs[0].value <= value
    assert ("PUNISHED", FAILED) == (play.channel(row.second).status, play.outcome(name))
    assert [500_000] * 2 == [row.alice.balance(row.first), row.bob.balance(row.first)]


async def test_the_hop_before_breaches_in_the_middle_of_a_payment(node: RegtestNode, tmp_path: Path) -> None:
    """One penalty takes alice's whole channel, HTLC included; carol is paid as agreed, and bob keeps far more."""
    async with stage(node, tmp_path / "tower", period=72) as play:
        row = play.row
        name = (await play.pending(PREIMAGE)).payment_hash
        penalty = await breach(play, row.alice, row.first)
        play.show(PREIMAGE)
        await row.until(lambda: not row.bob.party.find_htlcs(row.second, name))
        await play.mine_until(lambda: play.outcome(name) is not None, 10)
        value = row.bob.party.channel(row.first).params.contest_value

    assert 0.9 * value < penalty.outputs[0].value <= value
    assert ("PUNISHED", PAID) == (play.channel(row.first).status, play.outcome(name))
    assert 500_000 + AMOUNT == row.carol.balance(row.second)
    assert play.row.bob.balance(row.second) + penalty.outputs[0].value > 1_000_000
