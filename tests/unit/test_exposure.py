"""Limits that a party sets itself: number and sum of channels, and the sum with one peer."""

from __future__ import annotations

import msgspec
import pytest

from tests.fakes.keystore import MemoryKeystore
from tests.support.linking import linked
from tests.support.parties import made_up_funding, make_party, open_pair
from watchtower.client import PartySettings, Terms
from watchtower.client.party import exchange
from watchtower.client.party.exposure import ExposureExceeded, check_peer, check_total, counts
from watchtower.client.party.party import ChannelParty
from watchtower.client.party.peer_book import PeerBook
from watchtower.client.peer_errors import PeerRefused

TERMS = Terms(balances=(500_000, 500_000))
LIMITS = [{"max_channels": 1}, {"max_total_capacity": 1_999_999}]


def limited(name: str, **limits: int) -> ChannelParty:
    """A party that limits itself."""
    return make_party(name, settings=PartySettings(network="regtest", **limits))


def with_channel(party: ChannelParty, *, as_opener: bool) -> None:
    """A channel of 1,000,000 sat with another party."""
    pair = (party, make_party("peer")) if as_opener else (make_party("peer"), party)

    def fund(spk: bytes, amount: int) -> tuple[bytes, int]:
        return made_up_funding(spk, amount).txid, 0

    exchange.open_channel(*pair, TERMS, fund)


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("as_opener", [True, False])
def test_a_party_opens_and_accepts_within_its_limits(limits: dict[str, int], as_opener: bool) -> None:
    """The first channel fits; the second is refused on either side, and no key is used for it."""
    party, other = limited("alice", **limits), make_party("bob")
    with_channel(party, as_opener=as_opener)
    request = other.open(TERMS)

    with pytest.raises(ExposureExceeded, match="limit is"):
        party.open(TERMS)
    with pytest.raises(ExposureExceeded, match="limit is"):
        party.receive(request)

    assert 1 == len(party.channels())


def test_exactly_the_limit_fits() -> None:
    """Two channels of 1,000,000 under a sum of 2,000,000."""
    party = limited("alice", max_channels=2, max_total_capacity=2_000_000)
    for as_opener in (True, False):
        with_channel(party, as_opener=as_opener)

    assert 2 == len(party.channels())


def test_what_is_over_does_not_count() -> None:
    """A channel whose funding output is spent holds nothing any more."""
    pair = open_pair()
    settings = PartySettings(network="regtest", max_channels=1)
    channel = pair.a.channel(pair.channel_id)
    with pytest.raises(ExposureExceeded):
        check_total(settings, [channel], 1)

    over = msgspec.structs.replace(channel, had_spend=True, spend=bytes(32))

    assert (True, False) == (counts(channel), counts(over))
    check_total(settings, [over, msgspec.structs.replace(channel, abandoned=True)], 1)


def test_limits_are_off_by_default() -> None:
    """Zero is no limit."""
    channel = open_pair().a.channels()[0]
    check_total(PartySettings(), [channel] * 1_000, 10**12)
    check_peer(PartySettings(), [channel] * 1_000, 10**12)


@pytest.mark.asyncio
async def test_one_peer_is_limited_for_itself() -> None:
    """Bob takes 1,500,000 sat of channels with Alice: the second channel is refused with the reason."""
    keystores = (MemoryKeystore(), MemoryKeystore())
    settings = PartySettings(network="regtest", max_peer_capacity=1_500_000)
    parties = (make_party("alice", keystore=keystores[0]), make_party("bob", keystore=keystores[1], settings=settings))
    async with linked(parties=parties, books=(PeerBook(keystores[0]), PeerBook(keystores[1]))) as two:
        await two.open()

        with pytest.raises(PeerRefused, match="with this peer would hold 2000000 sat"):
            await two.open()
        with pytest.raises(ExposureExceeded, match="with this peer"):
            await two.b.propose_channel(TERMS)

    assert 1 == len(parties[1].channels())
