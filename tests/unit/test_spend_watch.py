"""Rule U6 through the client: the tower tells of a spend, the party signs nothing from there, nobody calls anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from domain.chain import BlockRef
from domain.contract.params import FLAG_RESCUE_LEAF
from domain.errors import ChannelClosed
from domain.events import envelopes
from domain.spending import disconnected
from domain.transaction import Transaction
from domain.units import Side
from tests.support.parties import Pair, htlc, open_pair
from tests.support.serving import served
from tests.support.towers import TIP, TOKEN, TOWER_ID, Bench
from watchtower.client import PartyAuth, StateChannelClient, StateChannelConfig
from watchtower.client.party import exchange
from watchtower.client.payments.forwarding import must_close
from watchtower.client.protocol.channel import PartyChannel
from watchtower.client.protocol.messages import UpdateOffer, UpdateReject
from watchtower.client.tower import spend_watch
from watchtower.client.types import FundingStatus

pytestmark = pytest.mark.slow

REGTEST = StateChannelConfig(network="regtest")
BLOCK = BlockRef(TIP - 1, sha256(b"later block").digest())
"""Where `Bench.publish` puts a commitment."""


class Listening(StateChannelClient):
    """Says when the tower was asked for a funding output."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.asked = asyncio.Semaphore(0)

    async def get_funding_status(self, channel_id: str) -> FundingStatus:
        """As always."""
        found = await super().get_funding_status(channel_id)
        self.asked.release()
        return found

    async def heard(self) -> None:
        """Wait until it asked once more."""
        async with asyncio.timeout(30):
            await self.asked.acquire()


class Town:
    """B, its tower on a real socket, and a channel with one update."""

    def __init__(self, directory: Path, **options: int) -> None:
        self.tower = Bench(directory)
        self.pair: Pair = open_pair(**options)
        self.tower.registered(self.pair)
        self.pair.updates(1)
        self.channel_id = self.pair.channel_id

    @property
    def own(self) -> PartyChannel:
        """B's channel."""
        return self.pair.b.channel(self.channel_id)

    @asynccontextmanager
    async def client(self, *, signed: bool = False) -> AsyncIterator[Listening]:
        """Connected, when it has asked where its output stands; `signed`: the tower knows it by its channels' keys."""
        auth = PartyAuth(self.pair.b, TOWER_ID, now=lambda: self.tower.clock.wall_microseconds() / 1e6)
        async with (
            served(self.tower.app) as clients,
            Listening(
                REGTEST,
                url=clients.url,
                token="" if signed else TOKEN,
                party=self.pair.b,
                auth=auth if signed else None,
            ) as client,
        ):
            await client.heard()
            yield client

    def publish(self) -> Transaction:
        """A's commitment of state 1 is in a block, as the tower's log says."""
        commitment = Transaction.parse(self.pair.commitment(Side.A, 1))
        self.tower.publish(self.pair, commitment)
        return commitment

    def undo(self) -> None:
        """Its block is not in the chain any more, and no mempool has it."""
        stream = self.tower.context.channels.stream_of(self.pair.params.proposal_id)
        channel = self.tower.context.channels.load(stream)
        self.tower.store.append(envelopes(stream, channel.version, disconnected(channel, BLOCK, 0)))
        self.tower.catch_up()


@pytest.fixture
def town(tmp_path: Path) -> Town:
    """Not connected yet."""
    return Town(tmp_path)


@pytest.mark.asyncio
@pytest.mark.parametrize("signed", [False, True])
async def test_F16_a_party_signs_nothing_once_its_tower_saw_a_spend(town: Town, signed: bool) -> None:
    """The event stream tells: an own offer is refused, one of the peer is answered with the reason."""
    async with town.client(signed=signed) as client:
        commitment = town.publish()
        await client.heard()

    assert (commitment.txid, BLOCK) == town.own.confirmed
    with pytest.raises(ChannelClosed, match="U6"):
        town.pair.b.offer(town.channel_id, (400_000, 600_000), (), b"")
    offer = next(
        m for m in town.pair.a.offer(town.channel_id, (400_000, 600_000), (), b"") if isinstance(m, UpdateOffer)
    )
    (answer,) = town.pair.b.receive(offer)
    assert isinstance(answer, UpdateReject)
    assert "U6" in answer.reason


@pytest.mark.asyncio
async def test_F16_a_party_with_many_channels_leaves_connections_for_calls(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys belong to channels, streams do so too: beyond the limit the tower is asked now and then."""
    monkeypatch.setattr(spend_watch, "MOST_STREAMS", 0)
    monkeypatch.setattr(spend_watch, "LOOK_SECONDS", 0.05)
    async with town.client(signed=True) as client:
        commitment = town.publish()
        await client.heard()
        await client.heard()

    assert (commitment.txid, BLOCK) == town.own.confirmed


@pytest.mark.asyncio
async def test_F16_a_spend_while_nobody_was_connected_is_found(town: Town) -> None:
    """The stream of a new connection begins where the tower stands now; what came before is asked for."""
    town.publish()

    async with town.client():
        is_closing = town.own.is_closing

    assert is_closing


@pytest.mark.asyncio
async def test_F16_updates_ask_the_tower_nothing(town: Town) -> None:
    """One question at the connection; states are made and uploaded without another one."""
    async with town.client() as client:
        for _ in range(3):
            town.pair.updates(1)
            await client.synchronize(town.channel_id)
        asked = not client.asked.locked()

    assert not asked


@pytest.mark.asyncio
async def test_F16_a_spend_that_a_reorganization_undid_opens_nothing(town: Town) -> None:
    """The block and the mempool lost it: it may come back, so that no state is made; the output counts as unspent."""
    async with town.client() as client:
        town.publish()
        await client.heard()
        was_spent = town.own.spend_seen
        town.undo()
        await client.heard()

    assert (True, False, None) == (was_spent, town.own.spend_seen, town.own.confirmed)
    with pytest.raises(ChannelClosed, match="U6"):
        town.pair.b.offer(town.channel_id, (400_000, 600_000), (), b"")


@pytest.mark.asyncio
async def test_F16_the_same_word_again_is_stored_once(town: Town) -> None:
    """Whoever asks gets an answer; the log of the party grows by what is new."""
    town.publish()
    async with town.client() as client:
        before = town.own.version
        await client.get_funding_status(town.channel_id.hex())
        await client.get_channel_info(town.channel_id.hex())

    assert before == town.own.version


@pytest.mark.asyncio
async def test_C13_both_sides_settle_together_by_what_their_towers_said(tmp_path: Path) -> None:
    """Nobody tells a party of the commitment in the block: its tower does, and both sign the split at once."""
    town = Town(tmp_path, flags=FLAG_RESCUE_LEAF)
    async with town.client() as client:
        commitment = town.publish()
        await client.heard()
    town.pair.a.note_funding_spend(town.channel_id, commitment.txid, BLOCK)

    exchange.run(town.pair.b, town.pair.a, town.pair.b.propose_rescue(town.channel_id, (497_800, 501_000)))

    assert town.pair.a.rescue_transaction(town.channel_id) is not None


def test_an_htlc_closes_a_channel_whose_spend_is_gone() -> None:
    """A commitment that was seen and evicted protects nothing: at the deadline the own one goes out all the same."""
    pair = open_pair()
    due = htlc(Side.B, 1, 50_000, expiry=400)
    pair.with_htlcs(due)
    commitment = Transaction.parse(pair.commitment(Side.A, 1))
    pair.b.note_funding_spend(pair.channel_id, commitment.txid)
    while_spent = must_close(pair.b.channel(pair.channel_id), Side.B, set(), 500)
    pair.b.note_funding_spend(pair.channel_id, None)

    after = must_close(pair.b.channel(pair.channel_id), Side.B, set(), 500)

    assert (False, True) == (while_spent, after)


def test_C11_a_close_in_the_mempool_can_be_replaced() -> None:
    """The tower sees the first close of both; a version with a higher fee is signed all the same."""
    pair = open_pair()
    balances = pair.b.channel(pair.channel_id).balances
    first = exchange.close(pair.a, pair.b, pair.channel_id, balances, 300)
    for party in pair.parties:
        party.note_funding_spend(pair.channel_id, Transaction.parse(first).txid)

    second = exchange.close(pair.a, pair.b, pair.channel_id, balances, 900)

    assert Transaction.parse(first).txid != Transaction.parse(second).txid
