"""Preimages between a party and its tower: what one of them knows, the other one gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.events import PreimageLearned, Source, envelopes
from domain.units import Side
from tests.support.parties import Pair, htlc, open_pair, preimage_of
from tests.support.towers import TOKEN, Bench
from watchtower.client import StateChannelClient, StateChannelConfig
from watchtower.client.errors import TowerProblem

EXPIRY = 10_000
INCOMING, OUTGOING = htlc(Side.A, 1, 20_000, EXPIRY), htlc(Side.B, 2, 30_000, EXPIRY)


@pytest.fixture
def tower(tmp_path: Path) -> Bench:
    """B's tower."""
    return Bench(tmp_path)


def client_of(tower: Bench, pair: Pair) -> StateChannelClient:
    """B's client."""
    config = StateChannelConfig(network="regtest")
    return StateChannelClient(config, url="http://tower", token=TOKEN, party=pair.b, transport=tower.transport())


def pending(tower: Bench) -> Pair:
    """The newest state holds one HTLC in each direction; the tower knows the registration only."""
    pair = open_pair()
    tower.registered(pair)
    pair.with_htlcs(INCOMING, OUTGOING)
    return pair


def seen_on_chain(tower: Bench, pair: Pair, preimage: bytes, payment_hash: bytes) -> None:
    """The tower took a preimage from a transaction."""
    stream = tower.context.channels.stream_of(pair.params.proposal_id)
    learned = PreimageLearned(
        recorded_at=0, payment_hash=payment_hash, preimage=preimage, source=Source.BLOCK, txid=bytes(32)
    )
    version = tower.context.channels.load(stream).version
    tower.store.append(envelopes(stream, version, [learned]))
    tower.catch_up()


@pytest.mark.asyncio
async def test_synchronize_brings_learned_preimages_to_the_party(tower: Bench) -> None:
    """The peer took our HTLC on chain while we were away: its preimage pays us upstream."""
    pair = pending(tower)
    async with client_of(tower, pair) as client:
        await client.synchronize(pair.channel_id)
        before = pair.b.preimage(OUTGOING.hash)
        seen_on_chain(tower, pair, preimage_of(2), OUTGOING.hash)
        await client.synchronize(pair.channel_id)
        await client.synchronize(pair.channel_id)

    assert (None, preimage_of(2)) == (before, pair.b.preimage(OUTGOING.hash))


@pytest.mark.asyncio
async def test_synchronize_hands_over_what_the_tower_needs(tower: Bench) -> None:
    """The party knows the preimage of the incoming HTLC: the tower can claim when the peer goes silent."""
    pair = pending(tower)
    pair.b.learn_preimage(pair.channel_id, preimage_of(1))
    async with client_of(tower, pair) as client:
        await client.synchronize(pair.channel_id)
        held = await client.get_preimages(pair.channel_id.hex())

    assert [(INCOMING.hash.hex(), preimage_of(1).hex(), False)] == [
        (each.payment_hash, each.preimage, each.public) for each in held.preimages
    ]
    assert [] == held.missing


@pytest.mark.asyncio
async def test_a_closed_channel_exchanges_preimages_too(tower: Bench) -> None:
    """After the close is when they matter."""
    pair = pending(tower)
    async with client_of(tower, pair) as client:
        await client.synchronize(pair.channel_id)
        seen_on_chain(tower, pair, preimage_of(2), OUTGOING.hash)
        pair.b.learn_preimage(pair.channel_id, preimage_of(1))
        await client.exchange_preimages(pair.channel_id)
        held = await client.get_preimages(pair.channel_id.hex())

    assert {preimage_of(1).hex(), preimage_of(2).hex()} == {each.preimage for each in held.preimages}
    assert preimage_of(2) == pair.b.preimage(OUTGOING.hash)


@pytest.mark.asyncio
async def test_add_preimage_by_hand(tower: Bench) -> None:
    """The second time is a duplicate; bytes that open nothing are a typed error."""
    pair = pending(tower)
    async with client_of(tower, pair) as client:
        await client.synchronize(pair.channel_id)
        first = await client.add_preimage(pair.channel_id.hex(), preimage_of(1))
        again = await client.add_preimage(pair.channel_id.hex(), preimage_of(1))
        with pytest.raises(TowerProblem, match="opens no HTLC"):
            await client.add_preimage(pair.channel_id.hex(), b"\x01" * 32)

    assert (INCOMING.hash.hex(), False, True) == (first.payment_hash, first.duplicate, again.duplicate)


@pytest.mark.asyncio
async def test_known_preimages_hide_from_repr(tower: Bench) -> None:
    """A log line of the application must not pay somebody else."""
    pair = pending(tower)
    async with client_of(tower, pair) as client:
        await client.synchronize(pair.channel_id)
        await client.add_preimage(pair.channel_id.hex(), preimage_of(1))
        held = await client.get_preimages(pair.channel_id.hex())

    assert preimage_of(1).hex() not in repr(held)
