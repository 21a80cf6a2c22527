"""Random histories of one channel on a chain that grows and shrinks: what always holds."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from domain.chain import BlockRef
from domain.channel import Channel
from domain.channel_fold import fold
from domain.events import AlertKind, Envelope, Payload, decode_payload, encode_payload
from domain.spending import ALERT_OF_KIND, disconnected, matured, spend_gone
from domain.status import COMMITMENT_KINDS
from domain.transaction import Transaction
from domain.units import Side
from domain.updating import decide_revoke, decide_update
from tests.support.scenes import NOW, Scene, block

BASE = Scene().opened(3)
BASE.then(decide_update(BASE.channel, BASE.update_in_flight(4)))
"""States 0 … 2 are revoked, 3 and 4 are publishable."""

PUBLISHED: dict[bytes, tuple[Side, int]] = {
    BASE.commitment(side, number).txid: (side, number) for side in Side for number in (0, 2, 3, 4, 7)
}
SPENDS = [
    *(BASE.commitment(*PUBLISHED[txid]) for txid in PUBLISHED),
    BASE.coop_close(400),
    BASE.coop_close(800),
    BASE.stranger(0),
    BASE.stranger(4),
]
LOSSES = {AlertKind.FUNDS_LOST, AlertKind.OUTPUT_CLAIMED_BY_COUNTERPARTY}


def fresh() -> Scene:
    """A copy of the base scene that can be continued."""
    scene = copy(BASE)
    scene.events = list(BASE.events)
    return scene


class Walk:
    """Applies random steps to a scene as a chain and a mempool would."""

    def __init__(self) -> None:
        self.scene = fresh()
        self.chain = [block(200)]
        self._branch = 0

    def run(self, steps: list[tuple[int, int]]) -> Walk:
        """Take every step once and, where it is a fact, a second time, which must be no news."""
        moves = (self.seen, self.evicted, self.mined, self.mined, self.back, self.final, self.uploaded)
        for kind, choice in steps:
            moves[kind % len(moves)](choice)
        return self

    @property
    def tip(self) -> BlockRef:
        """The newest block."""
        return self.chain[-1]

    def grow(self) -> BlockRef:
        """A new block with a hash of its own."""
        self._branch += 1
        self.chain.append(block(self.tip.height + 1, self._branch))
        return self.tip

    def seen(self, choice: int) -> None:
        """A spend enters the mempool, if none is confirmed."""
        tx = SPENDS[choice % len(SPENDS)]
        self.scene.seen(tx, self.tip.height)
        assert [] == self.scene.seen(tx, self.tip.height)

    def evicted(self, _: int) -> None:
        """The spend in the mempool drops out."""
        spend = self.scene.channel.mempool_spend
        txid = spend.txid if spend else b"\x01" * 32
        self.scene.then(spend_gone(self.scene.channel, txid, None, self.tip.height, NOW))
        assert [] == spend_gone(self.scene.channel, txid, None, self.tip.height, NOW)

    def mined(self, choice: int) -> None:
        """A block with a spend of the funding output, or with one of an open contest output."""
        where, confirmed = self.grow(), self.scene.channel.confirmed_spend
        if confirmed is None:
            self.add(self.scene.mined, SPENDS[choice % len(SPENDS)], where)
        elif confirmed.kind in COMMITMENT_KINDS and self.scene.channel.contest_spend(confirmed.txid) is None:
            make = (self.scene.settlement, self.scene.penalty)[choice % 2]
            answer = make(*PUBLISHED[confirmed.txid])
            commit = self.scene.commitment(*PUBLISHED[confirmed.txid])
            self.add(lambda tx, at: self.scene.ended(commit, tx, at), answer, where)

    def add(self, fact: Callable[[Transaction, BlockRef], list[Payload]], tx: Transaction, at: BlockRef) -> None:
        """State a fact twice."""
        assert fact(tx, at)
        assert [] == fact(tx, at)

    def back(self, _: int) -> None:
        """The newest block leaves the chain."""
        self.scene.then(disconnected(self.scene.channel, self.tip, NOW))
        assert [] == disconnected(self.scene.channel, self.tip, NOW)
        self.chain = self.chain[:-1] or [block(200)]

    def final(self, _: int) -> None:
        """Six blocks pass."""
        for _ in range(6):
            self.grow()
        self.scene.then(matured(self.scene.channel, self.tip.height, NOW))
        assert [] == matured(self.scene.channel, self.tip.height, NOW)

    def uploaded(self, _: int) -> None:
        """The missing secret of state 3 arrives."""
        self.scene.then(decide_revoke(self.scene.channel, self.scene.revocation(3)))
        assert [] == decide_revoke(self.scene.channel, self.scene.revocation(3))


STEPS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 200)), max_size=14)


def without_mempool(channel: Channel) -> Channel:
    """What the chain says: no version, and of the spends only what is in a block."""
    standing = tuple(spend for spend in channel.spends if spend.block is not None)
    return msgspec.structs.replace(channel, version=0, spends=standing, alerts=channel.alerts & LOSSES)


@given(STEPS)
def test_alerts_say_what_stands_now(steps: list[tuple[int, int]]) -> None:
    """An alert about a spend stands exactly while such a spend is in the mempool or on the chain."""
    channel = Walk().run(steps).scene.channel

    present = {
        ALERT_OF_KIND[spend.kind] for spend in channel.spends if spend.is_present and spend.kind in ALERT_OF_KIND
    }
    lost = any(end.revoked and not end.is_penalty for end in channel.contest_spends)

    assert present | (LOSSES if lost else set()) == channel.alerts


@given(STEPS)
def test_at_most_one_spend_counts(steps: list[tuple[int, int]]) -> None:
    """One output is spent once: in one block, or by one transaction in the mempool."""
    channel = Walk().run(steps).scene.channel

    assert sum(spend.is_present for spend in channel.spends) <= 1
    assert len(channel.contest_spends) <= 1
    assert len({spend.txid for spend in channel.spends}) == len(channel.spends)


@given(STEPS, st.integers(0, 200), st.booleans(), st.integers(0, 200))
def test_disconnecting_what_was_connected_restores_the_channel(
    steps: list[tuple[int, int]], spend: int, with_answer: bool, answer: int
) -> None:
    """Whatever a block brought, its mirror takes away, apart from the mempool, which nobody knows then."""
    walk = Walk().run(steps)
    before, height = without_mempool(walk.scene.channel), len(walk.chain)
    walk.mined(spend)
    walk.mined(answer * with_answer)

    while len(walk.chain) > height:
        walk.back(0)

    assert before == without_mempool(walk.scene.channel)


@given(STEPS)
def test_going_back_to_the_start_leaves_no_fact_of_the_chain(steps: list[tuple[int, int]]) -> None:
    """All blocks of a history undone: nothing is confirmed, announced or lost any more."""
    walk = Walk().run(steps)
    while len(walk.chain) > 1:
        walk.back(0)

    channel = walk.scene.channel

    assert (None, (), None) == (channel.confirmed_spend, channel.contest_spends, channel.soft_final)
    assert frozenset() == channel.alerts & LOSSES
    assert block(100) == channel.funding_block


@given(STEPS, st.integers(0, 60))
def test_a_history_can_be_folded_in_two_parts_from_its_stored_bytes(steps: list[tuple[int, int]], split: int) -> None:
    """A fold that is fast-forwarded from the log equals the fold of everything."""
    events = Walk().run(steps).scene.events
    stored = [
        Envelope(e.stream, e.version, e.topic, decode_payload(e.topic, encode_payload(e.payload))) for e in events
    ]

    known = fold(None, stored[:split])

    assert fold(None, events) == fold(known, stored[split:])
    assert known == fold(None, events[:split])


def read_back(event: Envelope) -> Envelope:
    """The event as the log gives it back."""
    return msgspec.structs.replace(event, payload=decode_payload(event.topic, encode_payload(event.payload)))


@given(STEPS)
def test_versions_have_no_gaps(steps: list[tuple[int, int]]) -> None:
    """The fold's version is the number of its events."""
    scene = Walk().run(steps).scene

    assert list(range(1, len(scene.events) + 1)) == [event.version for event in scene.events]
    assert len(scene.events) == scene.channel.version
