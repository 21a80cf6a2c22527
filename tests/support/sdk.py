"""A client with a party, a peer, a wallet and a tower, all in this process: what an application works with.

    async with desk(tmp_path) as at:
        result = await at.client.create_channel(at.params())
        at.confirm(result.channel_id)

The peer is linked in memory; the tower is made of the real use cases over a node that knows coins only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
from msgspec.structs import replace

from domain.chain import BlockRef, make_outpoint
from domain.contract.params import profile_for
from domain.events import envelopes
from domain.spending import funding_confirmed
from domain.transaction import Transaction
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.store import MemoryEventStore
from tests.support.linking import TIMEOUT_MS, Linked, linked
from tests.support.parties import made_up_funding, make_party
from tests.support.towers import TIP, TOKEN, TOWER_ID, Bench, CoinNode
from watchtower.client import (
    ChannelParams,
    ChannelParticipant,
    ChannelParty,
    PartySettings,
    StateChannelClient,
    StateChannelConfig,
    WalletError,
)
from watchtower.client.party.peer_book import PeerBook
from watchtower.client.wallet import Prepared
from watchtower.http.services import bind

CONFIG = StateChannelConfig(network="regtest", timeout_ms=TIMEOUT_MS)
HALF = 500_000


class MemoryWallet:
    """A `FundingWallet` whose coins exist at a tower's node.

    `broken` names the methods that fail once; without `has_coins` it spends what nobody knows.
    """

    def __init__(self, node: CoinNode) -> None:
        self.node = node
        self.calls: list[str] = []
        self.broken: set[str] = set()
        self.has_coins = True
        self.sent: list[bytes] = []

    def prepare(self, spk: bytes, value: int, feerate: float | None = None) -> Prepared:
        """See `FundingWallet`; one coin, made for this script."""
        del feerate
        self._pass("prepare")
        made = made_up_funding(spk, value)
        if self.has_coins:
            self.node.add_coin(Transaction.parse(made.raw).inputs[0].outpoint, value, b"\x00\x14" + bytes(20))
        return Prepared(made.txid, made.vout, made.raw)

    def sign(self, prepared: Prepared) -> bytes:
        """See `FundingWallet`."""
        self._pass("sign")
        tx = Transaction.parse(prepared.unsigned)
        return replace(tx, inputs=tuple(replace(each, witness=(b"\x01",)) for each in tx.inputs)).serialize()

    def broadcast(self, raw: bytes) -> None:
        """See `FundingWallet`."""
        self._pass("broadcast")
        tx = Transaction.parse(raw)
        self.node.add_coin(make_outpoint(tx.txid, 0), tx.outputs[0].value, tx.outputs[0].spk)
        self.sent.append(raw)

    def release(self, prepared: Prepared) -> None:
        """See `FundingWallet`."""
        del prepared
        self._pass("release")

    def attach_child(self, parent: bytes, parent_fee: int, feerate: float) -> bytes:
        """Not here."""
        raise WalletError("this wallet makes no children")

    def broadcast_package(self, parent: bytes, child: bytes) -> None:
        """Not here."""
        raise WalletError("this wallet sends no packages")

    def _pass(self, name: str) -> None:
        self.calls.append(name)
        if name in self.broken:
            self.broken.discard(name)
            raise WalletError(f"{name} fails once")


class Killed(Exception):
    """The party ends here; what it stored stays."""


class Fuse:
    """A failpoint that kills a party at its n-th passing, and every time after that."""

    def __init__(self) -> None:
        self.left: int | None = None

    def __call__(self, name: str) -> None:
        """Pass, or die."""
        if self.left is None:
            return
        self.left -= 1
        if self.left <= 0:
            raise Killed(name)


class Ends:
    """Both parties' lasting things; `parties` restarts them from their logs."""

    def __init__(self, taproot: bool = True, **options: Any) -> None:
        self._settings = PartySettings(network="regtest", taproot_enabled=taproot)
        self._options = options
        self._keystores = (MemoryKeystore(), MemoryKeystore())
        self._stores = (MemoryEventStore(), MemoryEventStore())
        self.fuses = (Fuse(), Fuse())
        self.books = (PeerBook(self._keystores[0]), PeerBook(self._keystores[1]))

    def parties(self) -> tuple[ChannelParty, ChannelParty]:
        """Alice and Bob as they are after a restart."""
        alice, bob = (
            make_party(name, keystore=keystore, store=store, settings=self._settings, failpoint=fuse, **self._options)
            for name, keystore, store, fuse in zip(
                ("alice", "bob"), self._keystores, self._stores, self.fuses, strict=True
            )
        )
        return alice, bob


class Desk:
    """Alice's client with everything around it."""

    def __init__(self, tower: Bench, wallet: MemoryWallet, two: Linked, client: StateChannelClient) -> None:
        self.tower, self.wallet, self.two, self.client = tower, wallet, two, client
        self.alice, self.bob = two.parties

    def params(self, **changes: Any) -> ChannelParams:
        """What both parties would open next, 500,000 sat each."""
        keys = [party.next_funding_key().hex() for party in (self.alice, self.bob)]
        participants = [ChannelParticipant(key, HALF) for key in keys]
        return ChannelParams(**{"participants": participants, "challenge_period": 144, **changes})

    def confirm(self, channel_id: str) -> None:
        """The funding is in a block, as the tower's chain task would write it."""
        confirm(self.tower, self.alice, channel_id)

    async def open(self) -> str:
        """An active channel, complete on both sides: the last message of an opening is Alice's."""
        channel_id = (await self.client.create_channel(self.params())).channel_id
        await self.two.b.wait_for(bytes.fromhex(channel_id), lambda theirs: theirs.sequence == 0)
        self.confirm(channel_id)
        return channel_id


def confirm(tower: Bench, party: ChannelParty, channel_id: str) -> None:
    """The funding of a party's channel is in a block, as the tower's chain task would write it."""
    channel = party.channel(bytes.fromhex(channel_id))
    stream = tower.context.channels.stream_of(channel.params.proposal_id)
    known = tower.context.channels.load(stream)
    block = BlockRef(TIP - 5, sha256(b"block").digest())
    tower.store.append(envelopes(stream, known.version, funding_confirmed(known, block, 0)))
    tower.catch_up()


def tower_at(directory: Path, taproot: bool = True, confirmations: int = 1) -> Bench:
    """A tower that takes channels of one profile, and updates from so many confirmations on."""
    tower = Bench(directory, confirmations=confirmations)
    params = replace(tower.context.policy.params, profile=profile_for(taproot))
    tower.context = replace(tower.context, policy=replace(tower.context.policy, params=params))
    tower.services = bind(tower.context, lambda: tower.standing, version="1", network="regtest", tower_id=TOWER_ID)
    return tower


@asynccontextmanager
async def desk(
    directory: Path,
    config: StateChannelConfig = CONFIG,
    *,
    ends: Ends | None = None,
    tower: Bench | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    timeout_ms: int = TIMEOUT_MS,
    **options: Any,
) -> AsyncIterator[Desk]:
    """A connected client of Alice with a running link to Bob; what is given is used again."""
    known = ends or Ends(config.taproot_enabled)
    bench = tower or tower_at(directory, config.taproot_enabled)
    wallet = MemoryWallet(bench.node)
    async with linked(None, known.parties(), known.books, timeout_ms=timeout_ms) as two:
        client = StateChannelClient(
            config,
            url="http://tower",
            token=TOKEN,
            party=two.parties[0],
            peer=two.a,
            wallet=wallet,
            transport=transport or bench.transport(),
            **options,
        )
        async with client:
            yield Desk(bench, wallet, two, client)
