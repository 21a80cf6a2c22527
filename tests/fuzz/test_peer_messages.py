"""Messages between parties: changed in any byte, and old ones at every later moment."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import DomainError, MalformedInput
from domain.units import Side
from tests.fuzz.mutations import changed, near, read_or_none
from tests.support.faults import Disks, Witness, opened
from tests.support.parties import Pair, preimage_of
from watchtower.client.party import exchange
from watchtower.client.party.party import Change, NewHtlc
from watchtower.client.payments.routing import Hop, decode_note, encode_note
from watchtower.client.peers.messages import decode, encode
from watchtower.client.protocol.consent import never_lose
from watchtower.client.protocol.messages import AnyMessage, decode_message, encode_message

SECRET = preimage_of(1)


class Moment:
    """Both disks before a message was delivered, and who is about to receive it."""

    def __init__(self, disks: Disks, receiver: Side, message: AnyMessage) -> None:
        self.disks, self.receiver, self.message = disks, receiver, message


@cache
def life(profile: int = 0) -> tuple[Pair, list[Moment]]:
    """Every moment of: an HTLC, its fulfilment, a payment in turn and one out of turn, a reconnection, a close."""
    disks = Disks(never_lose, profile)
    pair = opened(disks, 1)
    sides = {id(pair.a): Side.A, id(pair.b): Side.B}
    moments: list[Moment] = []

    def record(sender: Any, message: Any) -> list[AnyMessage]:
        arrived = decode_message(encode_message(message))
        moments.append(Moment(disks.copy(), sides[id(sender)].other, arrived))
        return [arrived]

    new = NewHtlc(10_000, sha256(SECRET).digest(), 100_000, b"note")
    exchange.change(pair.a, pair.b, pair.channel_id, Change(add=(new,)), record)
    exchange.change(pair.b, pair.a, pair.channel_id, Change(fulfil=(((0, 0), SECRET),)), record)
    exchange.change(pair.a, pair.b, pair.channel_id, Change(pay=500), record)
    exchange.reconnect(pair.a, pair.b, pair.channel_id, record)
    balances = pair.balances
    exchange.run(pair.a, pair.b, pair.a.propose_close(pair.channel_id, balances, 700), record)
    return pair, moments


def twins(moment: Moment) -> Pair:
    """Both parties at a moment, from copies of their disks."""
    return moment.disks.copy().restart(life(moment.disks.profile)[0])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("profile", [0, 1], ids=["taproot", "segwit"])
def test_every_message_again_at_every_later_moment(profile: int) -> None:
    """Each recorded message comes to its receiver again at each later moment: no rule breaks, and the genuine message
    of that moment is still taken.
    """
    _, moments = life(profile)
    stuck = []
    for now, moment in enumerate(moments):
        pair, witness = twins(moment), Witness()
        party = pair.parties[moment.receiver]
        before = party.channel(pair.channel_id)
        for old in moments[:now]:
            if old.receiver is not moment.receiver:
                continue
            with suppress(DomainError):
                for answer in party.receive(old.message):
                    witness.sees(party, moment.receiver, answer)
        after = party.channel(pair.channel_id)
        stuck += [now] * ((before.state, before.own_released) != (after.state, after.own_released))
        for answer in party.receive(moment.message):
            witness.sees(party, moment.receiver, answer)

    assert [] == stuck


RAWS = [encode_message(moment.message) for moment in life()[1]]


@given(near(*RAWS))
def test_changed_messages_are_read_or_refused(foreign: bytes) -> None:
    """Both readers agree; what is read is written and read again without a change."""
    found, linked = read_or_none(decode_message, foreign), read_or_none(decode, foreign)
    assert found is None or (found, found) == (linked, decode(encode(found)))


@given(place=st.integers(0, 10_000), data=st.data())
def test_changed_messages_break_no_rule(place: int, data: st.DataObject) -> None:
    """A message that differs in some bytes, at its own moment: refused or answered by the rules."""
    _, moments = life()
    moment = moments[place % len(moments)]
    foreign = data.draw(changed([encode_message(moment.message)]))
    pair, witness = twins(moment), Witness()
    party = pair.parties[moment.receiver]

    with suppress(DomainError):
        for answer in party.receive(decode_message(foreign)):
            witness.sees(party, moment.receiver, answer)

    channel = party.channel(pair.channel_id)
    assert channel.own_released <= channel.sequence - 1


NOTE = encode_note([Hop(bytes(32), 1_000, 700), Hop(b"\x01" * 32, 990, 600)]) or b""


@given(near(NOTE))
def test_notes_are_read_or_refused(foreign: bytes) -> None:
    """The rest of a route reads back to itself."""
    found = read_or_none(decode_note, foreign, (MalformedInput,))
    assert found is None or found == decode_note(encode_note(found) or b"")
