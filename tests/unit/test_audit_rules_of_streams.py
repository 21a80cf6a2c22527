"""Events that are missing, doubled or changed in single bits: the rules find them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.events import (
    ChannelErased,
    ChannelProposed,
    ChannelRegistered,
    Envelope,
    PenaltyBroadcast,
    PenaltyPrepared,
    Recorded,
    SoftFinal,
    SpendConfirmed,
    StateRevoked,
    StateUpdated,
)
from tests.support.audited import (
    cut_short,
    forged,
    of_party,
    payload_of,
    place_of,
    punished,
    ruled,
    settled,
    updated,
    without,
)
from tests.support.examples import examples
from tests.support.lies import RULE, SIGNATURE, elsewhere
from watchtower.audit.findings import ExitCode

pytestmark = pytest.mark.slow


def test_a_spend_that_only_unspent_outputs_proved_has_no_bytes() -> None:
    """Nobody could hand over its block, so the tower never saw them; its place is still checked."""
    events = settled()
    place = place_of(events, SpendConfirmed, 0)

    assert [] == ruled(forged(events, place, raw=None))
    lied = ruled(forged(events, place, raw=None, **elsewhere(events[place].envelope.payload)))
    assert (ExitCode.RULE, place + 1) in [(finding.code, finding.position) for finding in lied]


def test_an_effect_without_its_intent_is_named() -> None:
    """The broadcast of a penalty whose bytes no event before it holds."""
    events = without(punished(), place_of(punished(), PenaltyPrepared))

    assert (RULE, PenaltyBroadcast.TOPIC) in [(each.code, each.topic) for each in ruled(events)]


@pytest.mark.parametrize("number", [1, 2])
def test_a_missing_state_is_named(number: int) -> None:
    """Numbers of states rise by one, and each names the one before."""
    events = without(updated(), place_of(updated(), StateUpdated, number))

    assert {RULE} <= {each.code for each in ruled(events)}


def test_an_event_behind_the_erasure_is_named() -> None:
    """Nothing happens in a channel whose keys are gone."""
    events = punished()
    place = place_of(events, ChannelErased)
    stream, version = events[place].envelope.stream, events[place].envelope.version
    late = Envelope(stream, version + 1, SoftFinal.TOPIC, payload_of(events, SoftFinal))

    found = ruled([*events, Recorded(len(events) + 1, late)])

    assert any("nothing may follow" in each.sentence for each in found)


def test_a_stream_that_begins_with_another_event_is_named() -> None:
    """A channel begins with its proposal."""
    events = without(updated(), place_of(updated(), ChannelProposed))
    events = without(events, place_of(events, ChannelRegistered))

    assert (RULE, 1) == (ruled(events)[0].code, ruled(events)[0].position)


def test_a_stream_whose_beginning_is_elsewhere_is_left_alone() -> None:
    """A part of a log: what came before is not there to compare with."""
    assert [] == ruled(updated()[3:])


def test_the_secret_of_a_late_revocation_is_checked() -> None:
    """A revocation by itself in the log of a party, by the counterparty and as an own number."""
    events = of_party()
    own, theirs = (
        next(
            place
            for place, each in enumerate(events)
            if isinstance(each.envelope.payload, StateRevoked) and (each.envelope.payload.secret is None) is is_own
        )
        for is_own in (True, False)
    )
    secret = payload_of(events[theirs:], StateRevoked).secret

    changed = ruled(forged(events, theirs, secret=bytes(31) + b"\x01"))
    shown = ruled(forged(events, own, secret=secret))

    assert (SIGNATURE, theirs + 1) in [(each.code, each.position) for each in changed]
    assert ["an own secret stands in the log"] == [each.sentence.split(": ")[1] for each in shown]


@given(st.integers(0, 2), st.sampled_from(("sigs_a", "sigs_b")), st.integers(0, 3), st.integers(0, 511))
@settings(max_examples=examples(60), deadline=None)
def test_any_changed_bit_of_any_signature_is_found(number: int, side: str, which: int, bit: int) -> None:
    """Whatever bit of the eight signatures of a state is turned, the event is named with exit code 31."""
    events = updated()
    place = place_of(events, StateUpdated, number)
    given_set = getattr(events[place].envelope.payload, side)
    name = given_set.__struct_fields__[which]
    turned = bytearray(getattr(given_set, name))
    turned[bit // 8] ^= 1 << bit % 8

    found = ruled(forged(events, place, **{side: msgspec.structs.replace(given_set, **{name: bytes(turned)})}))

    assert [(SIGNATURE, place + 1)] == [(each.code, each.position) for each in found]


def test_a_missing_signature_is_found_where_it_must_not_be_missing() -> None:
    """Of a state that nobody had published, and of the owner's own set."""
    events, short = updated(), cut_short()
    place, last = place_of(events, StateUpdated, 1), place_of(short, StateUpdated, 2)

    for log, at, side in ((events, place, "sigs_b"), (short, last, "sigs_a")):
        lacking = msgspec.structs.replace(getattr(log[at].envelope.payload, side), commit_peer=bytes(64))
        found = ruled(forged(log, at, **{side: lacking}))
        assert [(SIGNATURE, at + 1)] == [(each.code, each.position) for each in found]


@given(st.integers(0, 31), st.integers(0, 7), st.sampled_from((1, 2)))
@settings(max_examples=examples(30), deadline=None)
def test_any_changed_bit_of_a_secret_is_found(byte: int, bit: int, number: int) -> None:
    """A revealed secret with one other bit is not that of the announced point."""
    events = updated()
    place = place_of(events, StateUpdated, number)
    secret = bytearray(events[place].envelope.payload.revoked_secret)
    secret[byte] ^= 1 << bit

    found = ruled(forged(events, place, revoked_secret=bytes(secret)))

    assert (SIGNATURE, place + 1) in [(each.code, each.position) for each in found]
