"""What always holds for claims: fees stay within their bounds, outputs are taken once, every fact can be undone."""

from __future__ import annotations

from copy import copy
from functools import cache

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from domain.channel_fold import fold
from domain.claiming import (
    Parent,
    build_claim,
    claim_fee,
    claim_prepared,
    claim_script,
    sign_claim,
    wanted_claims,
)
from domain.conditional import ConditionalOutput, output_taken
from domain.contract.conditions import Condition
from domain.events import AlertKind
from domain.fees import CLAIM_SHARE, Market
from domain.punishing import Rival
from domain.spending import disconnected
from domain.transaction import Transaction
from domain.units import Side
from projections.facts import ChannelFacts
from projections.folding import evolve
from tests.support.htlcs import (
    BACK,
    BACK_PREIMAGE,
    CLOSED_AT,
    EXPIRY,
    HTLC,
    PREIMAGE,
    SETTLED_AT,
    TWIN,
    outputs,
    refund,
    settled,
    success,
)
from tests.support.scenes import AUX, NOW, STREAM, Scene, block, secrets_of

CONDITIONS = (HTLC, TWIN, BACK)
RATES = st.floats(1.0, 300.0)
MARKETS = st.builds(
    Market,
    minimum=RATES,
    relay=st.just(1.0),
    increment=st.just(1.0),
    estimates=st.tuples(*(st.tuples(st.just(target), RATES) for target in (1, 2, 3, 6))),
)
PARENTS = st.none() | st.builds(
    Parent, fee=st.integers(0, 5_000), vsize=st.integers(200, 9_000), is_standing=st.booleans()
)
RIVALS = st.none() | st.builds(Rival, fee=st.integers(0, 30_000), vsize=st.integers(100, 1_000))


def all_known(payment_hash: bytes) -> bytes | None:
    """Every preimage is known."""
    return {HTLC.hash: PREIMAGE, BACK.hash: BACK_PREIMAGE}.get(payment_hash)


@cache
def base(own: Side, updates: int = 2) -> Scene:
    """A settled channel with three conditional outputs; with 3 updates the settled state is stale."""
    return settled(own, updates=updates)


def fresh(own: Side, updates: int = 2) -> Scene:
    """A copy that can be continued."""
    scene = copy(base(own, updates))
    scene.events = list(scene.events)
    return scene


@given(
    st.sampled_from(list(Side)),
    st.integers(0, 2),
    st.integers(-300, 400),
    MARKETS,
    RIVALS,
    PARENTS,
    st.floats(0.01, 1.0),
)
def test_a_claim_never_costs_more_than_its_share(
    own: Side, choice: int, late: int, market: Market, rival: Rival | None, parent: Parent | None, spendable: float
) -> None:
    """Whatever market, rival, parent and time: the fee relays, leaves more than dust, and keeps the owner's limit."""
    scene, tip = base(own), EXPIRY + late
    found = wanted_claims(scene.channel, outputs(scene), all_known, max(tip, TWIN.expiry))
    wanted = found[choice % len(found)]
    amount = wanted.output.condition.amount

    fee = claim_fee(scene.channel, wanted, tip=tip, market=market, rival=rival, parent=parent, spendable=spendable)

    assert fee is None or market.relay_floor * 137 <= fee <= amount * min(CLAIM_SHARE, spendable) - 329


@given(st.lists(st.tuples(st.integers(0, 300), MARKETS, PARENTS), min_size=1, max_size=6))
def test_fees_of_one_output_only_rise(rounds: list[tuple[int, Market, Parent | None]]) -> None:
    """Blocks pass, markets rise and fall, the settlement goes and comes: each claim pays at least the one before."""
    scene, paid, tip = fresh(Side.B), [0], SETTLED_AT
    for blocks, market, parent in rounds:
        tip += blocks
        wanted = wanted_claims(scene.channel, outputs(scene), all_known, tip)[0]
        fee = claim_fee(scene.channel, wanted, tip=tip, market=market, rival=None, parent=parent, spendable=1.0)
        paid.append(paid[-1] if fee is None else fee)
        if fee is not None and fee > paid[-2]:
            unsigned = build_claim(scene.params, wanted, fee, claim_script(scene.channel))
            tx = sign_claim(scene.params, wanted, unsigned, secrets_of(Side.B).htlc, AUX)
            scene.then(claim_prepared(wanted, tx, fee, NOW))

    assert sorted(paid) == paid
    assert paid[-1] == max([0, *(claim.fee for claim in scene.channel.claims)])


class Walk:
    """Blocks above a settled channel that take conditional outputs, and reorganizations."""

    def __init__(self, own: Side, updates: int) -> None:
        self.scene = fresh(own, updates)
        self.places = outputs(self.scene)
        self.height, self.branch = SETTLED_AT, 0

    def take(self, choice: int) -> None:
        """A block with a claim or a refund of an output that is not taken; stating it twice is no news."""
        place = self.places[choice % len(self.places)]
        if self.scene.channel.claim_end(place.settle_txid, place.condition.key) is not None:
            return
        self.height += 1 + choice % 7 * 40
        self.branch += 1
        where, tx = block(self.height, self.branch), self.claim(place, choice)
        for expected in (True, False):
            events = self.scene.then(output_taken(self.scene.channel, place, tx, where, all_known, NOW))
            assert expected is bool(events)

    def claim(self, place: ConditionalOutput, choice: int) -> Transaction:
        """By its receiver or by its offerer."""
        if choice % 2:
            return refund(self.scene, place)
        return success(self.scene, place, preimage=all_known(place.condition.hash) or b"")

    def back(self) -> None:
        """The newest block with a taken output leaves the chain; twice is no news."""
        ends = self.scene.channel.claim_ends
        if not ends:
            return
        gone = ends[-1].block
        self.scene.then(disconnected(self.scene.channel, gone, NOW))
        assert [] == disconnected(self.scene.channel, gone, NOW)
        self.height = gone.height - 1


@given(st.sampled_from(list(Side)), st.sampled_from([2, 3]), st.lists(st.integers(0, 60), max_size=12))
def test_taken_outputs_and_alerts_follow_the_chain(own: Side, updates: int, steps: list[int]) -> None:
    """One end per output; the alert stands exactly while something that was ours is with the counterparty."""
    walk = Walk(own, updates)
    for step in steps:
        walk.back() if step % 5 == 0 else walk.take(step)

    channel = walk.scene.channel
    missed = any(end.missed for end in channel.claim_ends)
    lost = any(end.revoked for end in channel.contest_spends)
    keys = [end.key for end in channel.claim_ends]
    assert len(set(keys)) == len(keys)
    assert (missed or lost) is (AlertKind.OUTPUT_CLAIMED_BY_COUNTERPARTY in channel.alerts)
    taken_conditions = {c.key for c in taken(walk)}
    found = wanted_claims(channel, walk.places, all_known, TWIN.expiry)
    assert {c.key for c in CONDITIONS} == {w.output.condition.key for w in found} | taken_conditions


def taken(walk: Walk) -> list[Condition]:
    """Conditions whose output is taken."""
    channel = walk.scene.channel
    return [p.condition for p in walk.places if channel.claim_end(p.settle_txid, p.condition.key) is not None]


@given(st.sampled_from(list(Side)), st.lists(st.integers(0, 60), max_size=12))
def test_views_and_aggregate_agree_about_taken_outputs(own: Side, steps: list[int]) -> None:
    """The compact fold of the views knows the same ends in the same blocks, also through its encoding."""
    walk = Walk(own, 2)
    for step in steps:
        walk.back() if step % 5 == 0 else walk.take(step)

    facts: ChannelFacts | None = None
    for number, event in enumerate(walk.scene.events, start=1):
        facts = evolve(facts, event, number)
    channel = fold(None, walk.scene.events)
    assert facts is not None
    assert channel is not None
    assert [(e.key, e.txid, e.block, e.ours, e.value) for e in channel.claim_ends] == [
        (c.key, c.txid, c.block, c.ours, c.value) for c in facts.claims
    ]
    assert facts == msgspec.msgpack.decode(msgspec.msgpack.encode(facts), type=ChannelFacts)


def test_the_whole_close_can_be_undone() -> None:
    """Claims, settlement and close leave the chain: the channel is open again."""
    walk = Walk(Side.B, 2)
    for choice in (2, 4, 3):
        walk.take(choice)
    while walk.scene.channel.claim_ends:
        walk.back()
    for height in (SETTLED_AT, CLOSED_AT):
        walk.scene.then(disconnected(walk.scene.channel, block(height), NOW))

    assert STREAM == walk.scene.channel.stream
    assert (None, (), ()) == (
        walk.scene.channel.present_spend,
        walk.scene.channel.contest_spends,
        walk.scene.channel.claim_ends,
    )
