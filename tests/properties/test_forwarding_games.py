"""A forwarder between two hostile hops on a slow chain never loses, whatever they do and whenever they do it.

Both hops collude against the forwarder: they know the preimage from the start, show it when it hurts, stay silent,
refuse, close when they like, and delay every transaction of the forwarder by as much as the deadlines of protocol 3.5
allow. The forwarder has only the decisions under test, and is away for a block or two now and then.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.contract.conditions import Condition
from domain.events import PaymentKind
from domain.expiry import CONFIRM_BLOCKS, GRACE_BLOCKS, REORG_BLOCKS, closing_blocks, must_go_on_chain
from domain.units import Side
from tests.support.examples import examples
from watchtower.client.party.payment_log import Leg, Payment
from watchtower.client.payments.forwarding import End, Expire, Fail, Fulfil, Offer, Sight, next_step
from watchtower.client.payments.routing import least_delta, least_expiry
from watchtower.client.tower.legs import LegState, LegView

T = 3
IN_AMOUNT, OUT_AMOUNT = 1_010, 1_000
HASH = b"\x11" * 32


class Channel:
    """One HTLC in one channel. `receiver_has` the preimage, `offerer` and receiver act through the game."""

    def __init__(self, offerer: Side, amount: int, expiry: int) -> None:
        self.htlc = Condition(int(offerer), 0, expiry, amount, HASH)
        self.state = LegState.ABSENT
        self.settles_at: int | None = None
        self.due: tuple[int, LegState] | None = None
        self.taken_at = 0
        self.paid = False

    def close(self, confirmed_in: int, height: int) -> None:
        """A commitment is published; its settlement follows T blocks after its confirmation."""
        if self.settles_at is None:
            self.settles_at = height + confirmed_in + T
            self.state = LegState.ON_CHAIN if self.state is not LegState.ABSENT else self.state

    def claim(self, height: int, delay: int, taker: LegState) -> None:
        """Somebody's transaction takes the output; the earlier one wins."""
        if self.settles_at is None or height < self.settles_at or self.state is not LegState.ON_CHAIN:
            return
        if self.due is None or self.due[0] > height + delay:
            self.due = (height + delay, taker)

    def tick(self, height: int) -> LegState | None:
        """A block; returns who took the output in it."""
        if self.due is None or height < self.due[0]:
            return None
        taker, self.due, self.taken_at = self.due[1], None, height
        return taker

    @property
    def is_closed(self) -> bool:
        """Whether a commitment was published."""
        return self.settles_at is not None


class Game:
    """`gain` is what the forwarder won (positive) or lost, chain fees left out."""

    def __init__(self, seed: int, *, delta: int | None = None) -> None:
        self.random = random.Random(seed)
        self.height, self.away = 1_000, 0
        near = least_expiry(self.height, T)
        far = near + (least_delta(T, T) if delta is None else delta)
        self.into = Channel(Side.A, IN_AMOUNT, far)
        self.out = Channel(Side.B, OUT_AMOUNT, near)
        legs = Leg(b"i" * 32, IN_AMOUNT, far), Leg(b"o" * 32, OUT_AMOUNT, near)
        self.payment = Payment(HASH, PaymentKind.FORWARD, 1, incoming=legs[0], outgoing=legs[1])
        self.known, self.ended, self.gain = False, False, 0
        self.cruelty = self.random.choice([0.02, 0.1, 0.5])
        self.is_patient = self.random.random() < 0.3
        """Silent hops with the slowest chain: nothing moves until the last block in which it still hurts."""

    def play(self) -> int:
        """Until everything is over; the gain."""
        self.into.state = LegState.HELD
        last = self.into.htlc.expiry + 6 * CONFIRM_BLOCKS + closing_blocks(T)
        while self.height < last and not self.ended:
            self._block()
            self._enemies()
            if self.away > 0:
                self.away -= 1
            else:
                self._forwarder()
        return self.gain

    # ── the chain ────────────────────────────────────────────────────────────────────────────────────────

    def _block(self) -> None:
        self.height += 1
        for channel in (self.into, self.out):
            taker = channel.tick(self.height)
            if taker is None:
                continue
            receiver_took = (taker is LegState.OURS) == (channel is self.into)
            self.known |= receiver_took  # the witness of a success claim holds the preimage
            channel.state = taker
            self._settle(channel, taker)

    def _settle(self, channel: Channel, taker: LegState) -> None:
        if channel is self.into and taker is LegState.OURS:
            self.gain += IN_AMOUNT
        if channel is self.out and taker is LegState.THEIRS:
            self.gain -= OUT_AMOUNT

    # ── the two hops ─────────────────────────────────────────────────────────────────────────────────────

    def _enemies(self) -> None:
        dice = self.random
        if dice.random() < 0.05:
            self.away = dice.randint(1, GRACE_BLOCKS)
        if self.out.state is LegState.MOVING and not self.out.is_closed:
            self.out.state = dice.choice([LegState.HELD, LegState.HELD, LegState.ABSENT, LegState.MOVING])
        if self.height >= self.into.htlc.expiry and (self.is_patient or dice.random() < 0.5):
            self.into.claim(self.height, 1, LegState.THEIRS)
        if self.is_patient and self.out.due is not None and self.out.due[0] == self.height + 1:
            self.out.due = (self.height + 1, LegState.THEIRS)
        if self.is_patient or dice.random() > self.cruelty:
            return
        move = dice.choice(["show", "take", "fail", "close in", "close out", "claim out"])
        if move == "show" and self.out.state is LegState.HELD:
            self.known = True
        if move == "take" and self.out.state is LegState.HELD and self.known and not self.out.is_closed:
            self.out.state, self.gain = LegState.ABSENT, self.gain - OUT_AMOUNT
        if move == "fail" and self.out.state is LegState.HELD and not self.out.is_closed:
            self.out.state = LegState.ABSENT
        if move == "close in":
            self.into.close(dice.randint(1, CONFIRM_BLOCKS), self.height)
        if move == "close out":
            self.out.close(dice.randint(1, CONFIRM_BLOCKS), self.height)
        if move == "claim out":
            self.out.claim(self.height, 1, LegState.THEIRS)

    # ── the forwarder ────────────────────────────────────────────────────────────────────────────────────

    def _forwarder(self) -> None:
        self._go_on_chain()
        self._claim()
        step = next_step(self.payment, Sight(self._view(self.into), self._view(self.out), self.known, self.height))
        match step:
            case Offer() if not self.out.is_closed:
                self.payment = _offered(self.payment)
                self.out.state = LegState.MOVING
            case Offer():
                self.payment = _offered(self.payment)
            case Fulfil() if not self.is_patient and self.random.random() > self.cruelty:
                self.into.state, self.gain = LegState.ABSENT, self.gain + IN_AMOUNT
            case Fail():
                self.into.state = LegState.ABSENT
            case Expire() if not self.is_patient and self.random.random() < 0.2:
                self.out.state = LegState.ABSENT
            case End():
                self.ended = True

    def _go_on_chain(self) -> None:
        for channel in (self.into, self.out):
            known = {HASH} if self.known else set()
            present = channel.state in (LegState.HELD, LegState.MOVING)
            if present and must_go_on_chain(self.height, [channel.htlc], Side.B, known, T):
                channel.close(self._delay(), self.height)

    def _delay(self) -> int:
        """Blocks until a transaction of the forwarder confirms."""
        return CONFIRM_BLOCKS if self.is_patient else self.random.randint(1, CONFIRM_BLOCKS)

    def _claim(self) -> None:
        delay = self._delay()
        if self.known:
            self.into.claim(self.height, delay, LegState.OURS)
        if self.height >= self.out.htlc.expiry:
            self.out.claim(self.height, delay, LegState.OURS)

    def _view(self, channel: Channel) -> LegView:
        shallow = self.height - channel.taken_at + 1 <= REORG_BLOCKS
        state = LegState.ON_CHAIN if channel.state is LegState.OURS and shallow else channel.state
        return LegView(state, (channel.htlc,), T)


def _offered(payment: Payment) -> Payment:
    return Payment(
        payment.payment_hash, payment.kind, 2, incoming=payment.incoming, outgoing=payment.outgoing, offered=True
    )


@settings(max_examples=examples(1_500), deadline=None)
@given(st.integers(0, 2**32))
def test_a_forwarder_never_loses(seed: int) -> None:
    """Nothing, or the fee, or both amounts from a hop that was careless: never less than nothing."""
    gain = Game(seed).play()

    assert gain in (0, IN_AMOUNT - OUT_AMOUNT, IN_AMOUNT)


def test_every_end_of_the_game_is_played() -> None:
    """The games are not won by doing nothing: payments go through, come back, and end on chain."""
    games = [Game(seed) for seed in range(400)]
    gains = {game.play() for game in games}

    assert {0, IN_AMOUNT - OUT_AMOUNT} <= gains
    assert any(game.into.is_closed and game.out.is_closed for game in games)
    assert all(game.ended for game in games)


@pytest.mark.parametrize("missing", [40])
def test_with_a_short_delta_the_hops_win(missing: int) -> None:
    """The same games against a forwarder that takes too short a delta: there the attack works, so the game bites."""
    gains = {Game(seed, delta=least_delta(T, T) - missing).play() for seed in range(3_000)}

    assert min(gains) < 0
