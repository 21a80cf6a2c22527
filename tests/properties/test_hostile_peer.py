"""A peer that says anything: old messages, wrong order, half and giant messages, changed fields.

Whatever arrives, the party raises a refusal of the domain or answers by the rules; it signs one content per number,
releases no secret early, and its own newest state stays publishable.
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import DomainError, MalformedInput, SelfBreach
from domain.transaction import Transaction
from domain.units import Side
from tests.support.faults import Disks, Witness, opened
from tests.support.parties import Pair, preimage_of
from watchtower.client.party import exchange
from watchtower.client.party.party import Change, NewHtlc
from watchtower.client.protocol.consent import never_lose
from watchtower.client.protocol.messages import MAX_MESSAGE, AnyMessage, decode_message, encode_message

SECRET = preimage_of(1)


@cache
def life() -> tuple[Disks, Pair, tuple[tuple[Side, AnyMessage], ...]]:
    """A channel at state 2, and everything that was said until state 6: (receiver, message)."""
    disks = Disks(never_lose)
    pair = opened(disks, 2)
    early = disks.copy()
    said: list[tuple[Side, AnyMessage]] = []
    sides = {id(pair.a): Side.A, id(pair.b): Side.B}

    def record(sender: Any, message: Any) -> list[AnyMessage]:
        arrived = decode_message(encode_message(message))
        said.append((sides[id(sender)].other, arrived))
        return [arrived]

    new = NewHtlc(10_000, sha256(SECRET).digest(), 100_000, b"note")
    exchange.change(pair.a, pair.b, pair.channel_id, Change(add=(new,)), record)
    exchange.change(pair.b, pair.a, pair.channel_id, Change(fulfil=(((0, 0), SECRET),)), record)
    exchange.change(pair.a, pair.b, pair.channel_id, Change(pay=500), record)
    exchange.change(pair.a, pair.b, pair.channel_id, Change(pay=100), record)
    exchange.reconnect(pair.a, pair.b, pair.channel_id, record)
    return early, pair, tuple(said)


MESSAGES = st.integers(0, 10_000).map(lambda number: life()[2][number % len(life()[2])][1])


def at_state_2() -> Pair:
    """The channel before all that."""
    disks, pair, _ = life()
    twin = disks.copy()
    return twin.restart(pair)


def tell(pair: Pair, side: Side, message: AnyMessage, witness: Witness) -> None:
    """Give a message to a party; refusals are fine, anything else is not; what it answers is held to the rules."""
    party = pair.parties[side]
    with suppress(DomainError):
        for answer in party.receive(message):
            witness.sees(party, side, answer)


def assert_publishable(pair: Pair, side: Side) -> None:
    """The newest state can be published unless the channel froze, its predecessor never."""
    party = pair.parties[side]
    channel = party.channel(pair.channel_id)
    with pytest.raises((SelfBreach, DomainError)):
        party.sign_commitment(pair.channel_id, channel.sequence - 1)
    if channel.frozen is None:
        assert Transaction.parse(party.sign_commitment(pair.channel_id, channel.sequence)).weight == 664


def test_everything_that_was_said_may_be_said_again() -> None:
    """A complete replay, in order, to both sides: no new state, no new event about states, nobody frozen."""
    _, pair, said = life()
    before = [party.channel(pair.channel_id) for party in pair.parties]

    for receiver, message in said:
        tell(pair, receiver, message, Witness())

    after = [party.channel(pair.channel_id) for party in pair.parties]
    assert [each.state for each in after] == [each.state for each in before]
    assert [each.frozen for each in after] == [None, None]
    assert [each.own_released for each in after] == [each.own_released for each in before]


@pytest.mark.timeout(900)  # 5,000 examples of the large profile
@given(messages=st.lists(MESSAGES, max_size=25), side=st.sampled_from(list(Side)))
def test_messages_in_any_order_break_no_rule(messages: list[AnyMessage], side: Side) -> None:
    """Genuine messages of both directions in a random order, with repetitions, to a party at state 2."""
    pair, witness = at_state_2(), Witness()

    for message in messages:
        tell(pair, side, message, witness)

    channel = pair.parties[side].channel(pair.channel_id)
    assert channel.own_released <= channel.sequence - 1
    assert_publishable(pair, side)


def changed(value: Any, choice: int) -> Any:
    """A JSON value with one thing changed."""
    match value:
        case bool() | None:
            return not value
        case int():
            return (value + 1, value - 1, 2**64, -1, 0)[choice % 5]
        case str() if value:
            place = choice % len(value)
            return (value[:place] + ("0" if value[place] != "0" else "1") + value[place + 1 :], value[:-2], "")[
                choice % 3
            ]
        case list() if value:
            place = choice % len(value)
            return [*value[:place], changed(value[place], choice), *value[place + 1 :]]
        case dict() if value:
            name = sorted(value)[choice % len(value)]
            return {**value, name: changed(value[name], choice)}
    return 0


@pytest.mark.timeout(900)  # 5,000 examples of the large profile
@given(message=MESSAGES, choice=st.integers(0, 2**32), side=st.sampled_from(list(Side)))
def test_a_changed_field_is_refused_or_harmless(message: AnyMessage, choice: int, side: Side) -> None:
    """One digit, number or field of a genuine message is changed: no rule breaks, nothing but refusals is raised."""
    pair = at_state_2()
    fields = json.loads(encode_message(message))
    names = sorted(set(fields) - {"type", "channel_id"}) or ["type"]
    name = names[choice % len(names)]
    raw = json.dumps({**fields, name: changed(fields[name], choice // 7)}).encode()

    with suppress(MalformedInput):
        tell(pair, side, decode_message(raw), Witness())

    assert_publishable(pair, side)


@given(message=MESSAGES, cut=st.floats(0, 1, exclude_max=True))
def test_half_messages_are_malformed(message: AnyMessage, cut: float) -> None:
    """A message that ends early is refused before any decision."""
    raw = encode_message(message)

    with pytest.raises(MalformedInput):
        decode_message(raw[: int(len(raw) * cut)])


def test_giant_messages_are_malformed() -> None:
    """Above the limit nothing is parsed; below it, deep nesting and long lists are refused as well."""
    _, pair, said = life()
    name = pair.channel_id.hex()
    offer = next(
        json.loads(encode_message(message)) for _, message in said if b'"update_offer"' in encode_message(message)
    )
    record = {"type": 0, "id": 0, "expiry": 9, "amount": 1, "hash": "00" * 32}
    giants = [
        b" " * (MAX_MESSAGE + 1),
        b"[" * 100_000,
        json.dumps(
            {"type": "htlc_note", "channel_id": name, "payment_hash": "00" * 32, "payload": "00" * 4_097}
        ).encode(),
        json.dumps({**offer, "conditions": [record] * 1_001}).encode(),
        json.dumps({**offer, "state_data": "00" * 65_537}).encode(),
        json.dumps({"type": "update_reject", "channel_id": name, "seq": 1, "reason": "x" * 401}).encode(),
    ]

    for giant in giants:
        with pytest.raises(MalformedInput):
            decode_message(giant)


@given(raw=st.binary(max_size=400))
def test_noise_is_malformed(raw: bytes) -> None:
    """Random bytes never raise anything but `MalformedInput`."""
    with pytest.raises(MalformedInput):
        decode_message(raw)
