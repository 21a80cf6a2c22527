"""Foreign bytes at a link: whatever comes is a message of the protocol or a typed refusal, and read the same twice."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import MalformedInput
from tests.support.examples import examples
from tests.support.linking import ALICE, BOB, new_parties
from watchtower.client.peer_errors import TransportClosed
from watchtower.client.peers.link import PeerLink
from watchtower.client.peers.messages import Refused, decode, encode
from watchtower.client.protocol.messages import Message
from watchtower.client.transport.memory import memory_pair
from watchtower.wire.hexes import Hex32

TYPES = sorted(str(kind.__struct_config__.tag) for kind in (*Message.__subclasses__(),))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
NEAR = st.builds(
    lambda kind, fields: json.dumps({**fields, "type": kind, "channel_id": "00" * 32}).encode(),
    st.sampled_from(TYPES),
    st.dictionaries(
        st.sampled_from(
            ["seq", "reason", "state_hash", "secret", "header", "conditions", "fee", "points", "key_block"]
        ),
        PLAIN | st.just("00" * 32) | st.just("00" * 33),
        max_size=6,
    ),
)
ANYTHING = st.binary(max_size=300) | PLAIN.map(lambda value: json.dumps(value).encode()) | NEAR


def outcome(raw: bytes) -> Message | None:
    """The message, or None for a typed refusal; anything else is a bug."""
    try:
        return decode(raw)
    except MalformedInput:
        return None


@settings(max_examples=examples(400), deadline=None)
@given(raw=ANYTHING)
def test_every_byte_string_is_read_or_refused(raw: bytes) -> None:
    """No exception but `MalformedInput`; what is read is written and read again without a change."""
    message = outcome(raw)

    assert message == (None if message is None else decode(encode(message)))


@settings(max_examples=examples(60), deadline=None)
@given(raws=st.lists(ANYTHING, min_size=1, max_size=5))
def test_a_link_survives_any_bytes_of_its_peer(raws: list[bytes]) -> None:
    """Messages are answered with refusals, others end the connection; the party stores nothing of either."""

    async def story() -> int:
        near, far = memory_pair(ALICE, BOB)
        ends, books = new_parties()
        async with PeerLink(ends[0], near, books[0]) as link:
            for raw in raws:
                await _send(far, raw)
            await link.stop()
        return len(ends[0].channels())

    assert 0 == asyncio.run(story())


async def _send(far: object, raw: bytes) -> None:
    try:
        await far.send(raw)  # type: ignore[attr-defined]
    except TransportClosed:
        return


@pytest.mark.parametrize("text", ["", "a" * 400])
def test_a_refusal_has_one_form(text: str) -> None:
    """The link's own message goes through the same reader."""
    message = Refused(channel_id=Hex32(bytes(32)), about="update-offer", slug="refused", reason=text)

    assert message == decode(encode(message))
