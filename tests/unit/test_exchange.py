"""The update exchange from the opening to the revocation, its messages, and what may be published of it."""

from __future__ import annotations

import msgspec
import pytest

from domain.errors import ChannelNotReady, Equivocation, InvalidParams, MalformedInput, SelfBreach, SequenceGap
from domain.transaction import Transaction
from domain.units import Side
from tests.support.exchanging import EXCHANGE, next_balances
from tests.support.faults import Disks, opened
from tests.support.parties import make_party, open_pair
from watchtower.client.party import exchange
from watchtower.client.protocol.messages import (
    decode_message,
    encode_message,
)
from watchtower.client.protocol.opening import Terms


def test_both_parties_end_in_the_same_state() -> None:
    """Ten updates with application data leave both logs with the same newest state and revocations up to it."""
    pair = open_pair()

    pair.updates(10)

    assert pair.sequence == 10
    assert pair.balances == (490_000, 510_000)
    for party in pair.parties:
        channel = party.channel(pair.channel_id)
        assert channel.state == pair.state(10)
        assert (channel.own_released, channel.peer_revoked) == (9, 9)
        assert channel.pending is None
    assert pair.state(10).content.state_data == b"payment_10"


def test_messages_travel_in_the_order_of_the_protocol() -> None:
    """An update has six messages, and the proposer alternates: B proposes odd states, A even ones (U3)."""
    pair = open_pair()
    odd = exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, next_balances(pair)))
    even = exchange.run(pair.a, pair.b, pair.a.offer(pair.channel_id, next_balances(pair)))

    assert [type(message) for message in odd] == list(EXCHANGE)
    assert [type(message) for message in even] == list(EXCHANGE)


def test_state_zero_is_complete_before_the_funding_may_be_signed() -> None:
    """The funding transaction cannot be recorded as sent before state 0 has all signatures."""
    a, b = make_party("alice"), make_party("bob")
    exchange.run(a, b, [a.open(Terms(balances=(500_000, 500_000)))])
    (channel,) = a.channels()
    messages = a.fix_funding(channel.channel_id, b"\x01" * 32, 0)

    with pytest.raises(ChannelNotReady, match="state 0"):
        a.note_funding_sent(channel.channel_id, b"")

    exchange.run(a, b, messages)
    assert [party.channels()[0].sequence for party in (a, b)] == [0, 0]


def test_every_message_survives_its_json_form() -> None:
    """Encoding is lossless and hexadecimal; decoding gives equal messages."""
    pair = open_pair()
    seen = exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, next_balances(pair), (), b"\x00\xff"))

    assert [decode_message(encode_message(message)) for message in seen] == seen
    assert b'"type":"update_offer"' in encode_message(seen[0])


def test_secrets_are_not_shown_in_texts() -> None:
    """Neither messages 3 and 4 nor the registration show their secret in a repr."""
    pair = open_pair()
    seen = exchange.run(pair.b, pair.a, pair.b.offer(pair.channel_id, next_balances(pair)))
    shown = repr(seen) + repr(pair.registration(Side.B)) + repr(pair.parties)

    for side in Side:
        assert repr(pair.secret(side, 0))[2:-1] not in shown
        assert repr(pair.secrets(side).rev)[2:-1] not in shown


def test_a_revoked_state_is_never_signed_for_broadcast() -> None:
    """The self-breach guard reads the log before every signature."""
    pair = open_pair()
    pair.updates(3)

    for stale in range(3):
        with pytest.raises(SelfBreach):
            pair.a.sign_commitment(pair.channel_id, stale)
    with pytest.raises(SequenceGap):
        pair.a.sign_commitment(pair.channel_id, 4)

    raw = pair.a.sign_commitment(pair.channel_id, 3)
    assert Transaction.parse(raw).txid == pair.commitment_txid(Side.A, 3)


def test_the_guard_knows_releases_that_another_process_recorded() -> None:
    """A party whose memory is older than the log still refuses."""
    disks = Disks()
    pair = opened(disks, 1)
    old_memory = make_party("alice", store=disks.stores[0], keystore=disks.keystores[0])
    pair.update()

    assert old_memory.channel(pair.channel_id).sequence == 1
    with pytest.raises(SelfBreach):
        old_memory.sign_commitment(pair.channel_id, 1)


def test_an_opening_with_bad_constants_is_refused_by_the_acceptor() -> None:
    """Capacity below the threshold, another network, a balance below the reserve: nothing is stored."""
    a, b = make_party("alice"), make_party("bob")
    good = a.open(Terms(balances=(500_000, 500_000)))
    bad = [
        msgspec.structs.replace(good, capacity=9_999, balances=(9_999, 0)),
        msgspec.structs.replace(good, chain_hash=type(good.chain_hash)(bytes(32))),
        msgspec.structs.replace(good, balances=(500_000, 500_001)),
        msgspec.structs.replace(good, flags=4),
    ]

    for message in bad:
        with pytest.raises(InvalidParams):
            b.receive(message)
    assert b.channels() == ()


def test_the_funding_outpoint_is_fixed_once() -> None:
    """Neither side takes a second outpoint for a channel."""
    pair = open_pair()

    with pytest.raises(Equivocation, match="outpoint"):
        pair.a.fix_funding(pair.channel_id, b"\x22" * 32, 0)
    with pytest.raises(ChannelNotReady, match="only the opener"):
        pair.b.fix_funding(pair.channel_id, b"\x22" * 32, 0)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b'{"type":"update_yield"}',
        b'{"type":"update_offer_ok","channel_id":"00","state_hash":"00"}',
        b'{"type":"update_offer_ok","channel_id":"' + b"0" * 64 + b'","state_hash":"' + b"G" * 64 + b'"}',
        b'{"type":"update_offer_ok","channel_id":"' + b"0" * 64 + b'","state_hash":"' + b"0" * 64 + b'","x":1}',
        b'{"type":' * 5_000,
        b" " * 500_000,
    ],
)
def test_garbage_is_a_typed_refusal(raw: bytes) -> None:
    """Whatever arrives, the decoder raises `MalformedInput` and nothing else."""
    with pytest.raises(MalformedInput):
        decode_message(raw)
