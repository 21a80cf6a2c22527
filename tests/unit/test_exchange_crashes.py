"""The update exchange at every crash and every lost message: nothing is lost, no secret leaves early."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from domain.errors import ChannelNotReady, InvalidSecret, SelfBreach, SequenceGap
from domain.events import FreezeReason
from domain.transaction import Transaction
from domain.units import Side
from tests.support.exchanging import (
    EXCHANGE,
    assert_revoked_only_when_safe,
    copy_of,
    decoded,
    died_during,
    events_of,
    finish_update,
    lose,
    next_balances,
    resume_opening,
)
from tests.support.faults import Disks, opened
from tests.support.parties import htlc, open_pair
from tests.support.receipts import acknowledge
from watchtower.client.party import exchange
from watchtower.client.party.exchange import deliver
from watchtower.client.party.party import ChannelParty
from watchtower.client.protocol.messages import (
    AnyMessage,
    Message,
    Reestablish,
)
from watchtower.client.protocol.opening import Terms
from watchtower.wire.hexes import SecretHex

STEPS_OF_AN_UPDATE = 12
"""More store and send points than either side passes in one update."""


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("step", range(STEPS_OF_AN_UPDATE))
def test_crash_at_every_step_loses_nothing(side: Side, step: int, conditional: bool) -> None:
    """U1 to U3: whoever dies wherever, both restart, reconnect, and finish or begin again with the same content."""
    disks = Disks()
    pair = opened(disks, 2)
    conditions = (htlc(Side.A, 1, 20_000, 900_000),) if conditional else ()
    balances = (pair.balances[0] - 20_000 * conditional - 500, pair.balances[1] + 500)
    disks.points[side].left = step
    died = died_during(lambda: exchange.update(pair.a, pair.b, pair.channel_id, balances, conditions, b"next"))

    after = disks.restart(pair)
    exchange.reconnect(after.a, after.b, pair.channel_id)
    finish_update(after, balances, conditions, b"next")

    assert after.sequence == 3
    assert after.a.channel(pair.channel_id).state == after.b.channel(pair.channel_id).state
    assert after.balances == balances
    assert died or step > 3
    for each in Side:
        channel = after.parties[each].channel(pair.channel_id)
        assert (channel.own_released, channel.peer_revoked, channel.pending) == (2, 2, None)
        assert_revoked_only_when_safe(events_of(after, each), each)
    assert after.update(balances, conditions) == 4


@pytest.mark.parametrize("place", range(len(EXCHANGE) + 1))
def test_lost_messages_are_repeated_with_identical_bytes(place: int) -> None:
    """The connection breaks after any message; after `reestablish` the update ends, and no byte was signed twice."""
    disks = Disks()
    pair = opened(disks, 2)
    balances = next_balances(pair)
    first = exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, balances), carry=lose(place))

    again: list[AnyMessage] = []

    def record(sender: ChannelParty, message: Message) -> Sequence[AnyMessage]:
        arrived = deliver(sender, message)
        again.extend(arrived)
        return arrived

    exchange.reconnect(pair.a, pair.b, pair.channel_id, carry=record)
    finish_update(pair, balances)

    assert pair.sequence == 3
    for earlier in first:
        repeated = [each for each in again if type(each) is type(earlier)]
        assert all(each == earlier for each in repeated)


STEPS_OF_AN_OPENING = 13
"""Store and send points that either side passes until state 0 is complete."""


def test_no_step_of_an_opening_is_left_out() -> None:
    """The crashes below are at every one of them."""
    disks = Disks()
    a, b = disks.start(Side.A), disks.start(Side.B)
    for point in disks.points:
        point.left = 100

    exchange.open_channel(a, b, Terms(balances=(500_000, 500_000)), lambda _spk, _sat: (b"\x11" * 32, 1))

    assert [100 - STEPS_OF_AN_OPENING] * 2 == [point.left for point in disks.points]


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("step", range(STEPS_OF_AN_OPENING))
def test_crash_during_the_opening(side: Side, step: int) -> None:
    """An opening that was cut ends with state 0 complete on both sides, or it is begun anew with fresh keys."""
    disks = Disks()
    a, b = disks.start(Side.A), disks.start(Side.B)
    terms = Terms(balances=(500_000, 500_000))
    funding = (b"\x11" * 32, 1)
    disks.points[side].left = step
    died_during(lambda: exchange.open_channel(a, b, terms, lambda _spk, _sat: funding))

    a, b = disks.start(Side.A), disks.start(Side.B)
    resume_opening(a, b, funding)
    if not a.channels() or a.channels()[0].sequence < 0:
        exchange.open_channel(a, b, terms, lambda _spk, _sat: funding)

    complete = [channel for channel in a.channels() if channel.sequence == 0]
    assert len(complete) == 1
    assert b.channel(complete[0].channel_id).sequence == 0
    indexes = [channel.channel_index for channel in b.channels()]
    assert len(indexes) == len(set(indexes))


def test_f11_crash_between_messages_2_and_3() -> None:
    """Both states are publishable for the proposer, the old one for the acceptor, and no secret was released."""
    disks = Disks()
    pair = opened(disks)
    exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, next_balances(pair)), carry=lose(3))
    disks.points[Side.B].left = 2  # message 2 is stored, then the process dies before message 3 is
    (reply,) = pair.a.reconnect(pair.channel_id)
    died = died_during(lambda: exchange.run(pair.a, pair.b, [reply]))

    after = disks.restart(pair)
    channel = after.b.channel(pair.channel_id)

    assert died
    assert channel.pending is not None
    assert channel.pending.acceptance is not None
    assert [party.channel(pair.channel_id).own_released for party in after.parties] == [-1, -1]
    with pytest.raises(SequenceGap, match="no complete state 1"):
        after.a.sign_commitment(pair.channel_id, 1)
    newer = Transaction.parse(after.b.sign_commitment(pair.channel_id, 1))
    older = [Transaction.parse(party.sign_commitment(pair.channel_id, 0)) for party in after.parties]
    assert [tx.weight for tx in (newer, *older)] == [664, 664, 664]


def test_f11_the_update_is_finished_after_the_crash() -> None:
    """Nobody closes: both restart between messages 2 and 3, reconnect, and message 3 follows with the same bytes."""
    disks = Disks()
    pair = opened(disks)
    exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, next_balances(pair)), carry=lose(3))
    disks.points[Side.B].left = 2
    died_during(lambda: exchange.reconnect(pair.a, pair.b, pair.channel_id))

    after = disks.restart(pair)
    exchange.reconnect(after.a, after.b, pair.channel_id)

    assert after.sequence == 1
    assert after.a.channel(pair.channel_id).state == after.b.channel(pair.channel_id).state


@pytest.mark.parametrize("side", list(Side))
def test_f12_final_only_after_the_towers_answer(side: Side) -> None:
    """U4: the peer's revocation alone does not make a state final; the tower's acknowledgement does."""
    disks = Disks()
    pair = opened(disks)
    acknowledge(pair.parties[side], pair.channel_id, 0)
    pair.update()

    party = disks.restart(pair).parties[side]
    assert party.channel(pair.channel_id).final_sequence == 0
    upload = party.update_body(pair.channel_id)
    assert upload == pair.parties[side].update_body(pair.channel_id)
    acknowledge(party, pair.channel_id, 1)

    assert party.channel(pair.channel_id).final_sequence == 1


@pytest.mark.parametrize("side", list(Side))
def test_f12_crash_after_the_release_of_the_own_secret(side: Side) -> None:
    """The secret may be out, the tower knows nothing: the old state is never signed again, the new one is uploaded.

    As long as the peer's own secret is missing, the upload goes without it and the state is not final.
    """
    disks = Disks()
    pair = opened(disks)
    acknowledge(pair.parties[side], pair.channel_id, 0)
    disks.points[side].left = {Side.B: 10, Side.A: 8}[side]  # all is stored, message 3 or 4 does not leave
    died = died_during(pair.update)

    party = disks.restart(pair).parties[side]
    channel = party.channel(pair.channel_id)

    assert died
    assert (channel.sequence, channel.own_released, channel.final_sequence) == (1, 0, 0)
    assert (party.update_body(pair.channel_id).revoked_secret is None) == (side is Side.B)
    with pytest.raises(SelfBreach):
        party.sign_commitment(pair.channel_id, 0)
    acknowledge(party, pair.channel_id, 1)
    assert party.channel(pair.channel_id).final_sequence == (0 if side is Side.B else 1)


def test_an_old_backup_is_frozen_at_the_first_contact() -> None:
    """The peer shows a secret that the old copy does not know it released: nothing may be published from it."""
    pair = open_pair()
    pair.update()
    backup = copy_of(pair)
    pair.updates(2)
    (message,) = pair.b.reconnect(pair.channel_id)

    with pytest.raises(ChannelNotReady, match="old copy"):
        backup.a.receive(decoded([message]))

    assert backup.a.channel(pair.channel_id).frozen is FreezeReason.DATA_LOSS
    with pytest.raises(ChannelNotReady, match="frozen"):
        backup.a.sign_commitment(pair.channel_id, 1)


def test_a_made_up_secret_freezes_nobody() -> None:
    """A peer that shows a secret which is not ours is refused; the channel goes on."""
    pair = open_pair()
    pair.update()
    (message,) = pair.b.reconnect(pair.channel_id)
    assert isinstance(message, Reestablish)
    forged = msgspec.structs.replace(message, last_peer_secret=SecretHex(b"\x05" * 32))

    with pytest.raises(InvalidSecret, match="not ours"):
        pair.a.receive(forged)

    assert pair.update() == 2
