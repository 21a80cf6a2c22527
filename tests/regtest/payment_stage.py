"""Three parties with real money and bob's own tower: alice – bob – carol, both channels confirmed on the node.

    async with stage(node, directory) as play:
        await play.pay(50_000)
        play.silence(play.row.second)          # carol does not answer any more
        await play.mine(10)                    # blocks, passes of the tower, and everybody's look at them

Bob's payments talk to the tower over its HTTP API. Alice and carol have no tower: what they do on chain, a test does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from pathlib import Path

import httpx

from domain.chain import make_outpoint
from domain.channel import Channel
from domain.contract.params import TAPROOT
from domain.contract.settlement import plan_settlement
from domain.events import PaymentOutcome
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.world import World
from tests.support.cheater import unsafe_commitment
from tests.support.hops import POLICY, End, Row
from tests.support.parties import seed_of
from tests.support.towers import TOWER_KEY
from watchtower.access import AccessFile
from watchtower.channels.register import register
from watchtower.client.client import StateChannelClient
from watchtower.client.config import StateChannelConfig
from watchtower.client.payments import Invoice
from watchtower.devnode.regtest import RegtestNode
from watchtower.host.system import SystemClock
from watchtower.http.app import create_app
from watchtower.http.auth import Gate
from watchtower.http.routes import Limits
from watchtower.http.services import Standing, bind

T = 6
AMOUNT = 50_000
FEE = POLICY.fee(AMOUNT)
TOKEN = "wt_test"


class Play:
    """The running row. `client` is bob's, to his own tower."""

    def __init__(self, node: RegtestNode, world: World, row: Row, client: StateChannelClient) -> None:
        self.node, self.world, self.row, self.client = node, world, row, client
        self._links: dict[bytes, AsyncExitStack] = {}

    # ── talking ──────────────────────────────────────────────────────────────────────────────────────────

    async def connect(self, channel_id: bytes) -> None:
        """The two owners of a channel talk to each other."""
        self._links[channel_id] = AsyncExitStack()
        await self._links[channel_id].enter_async_context(self.row.linked(channel_id))

    async def silence(self, channel_id: bytes) -> None:
        """They stop."""
        await self._links.pop(channel_id).aclose()

    async def stop(self) -> None:
        """All of them."""
        for channel_id in tuple(self._links):
            await self.silence(channel_id)

    # ── paying ───────────────────────────────────────────────────────────────────────────────────────────

    def held(self, preimage: bytes, amount: int = AMOUNT) -> Invoice:
        """An invoice of carol for a hash that somebody else made: the HTLC waits for `show`."""
        made = self.row.carol.payments.invoice(amount, self.node.height() + 2_000, sha256(preimage).digest())
        return Invoice(made.payment_hash, made.amount)

    def show(self, preimage: bytes) -> None:
        """Carol gets the preimage."""
        self.row.carol.party.learn_preimage(self.row.second, preimage)
        self.row.carol.payments.wake()

    async def pending(self, preimage: bytes) -> Invoice:
        """A payment by alice that has reached carol and waits there; all states are at the tower."""
        invoice = self.held(preimage)
        self.row.alice.payments.begin(self.row.route(AMOUNT, self.node.height()), invoice)
        await self.row.until(lambda: bool(self.row.carol.party.find_htlcs(self.row.second, invoice.payment_hash)))
        await self.row.bob.links[self.row.second].wait_for(self.row.second, lambda channel: channel.firm is not None)
        await self.client.synchronize(self.row.second)
        return invoice

    def expiry(self, end: End, channel_id: bytes, payment_hash: bytes) -> int:
        """Expiry of the HTLC in a channel."""
        (condition,) = end.party.find_htlcs(channel_id, payment_hash)
        return condition.expiry

    # ── the chain ────────────────────────────────────────────────────────────────────────────────────────

    async def mine(self, blocks: int = 1) -> None:
        """Blocks one by one: each time the tower looks, and all parties hear the height."""
        for _ in range(blocks):
            self.node.mine(1)
            await self.seen()

    async def mine_to(self, height: int) -> None:
        """Many blocks at once, then one look."""
        missing = height - self.node.height()
        if missing > 0:
            self.node.mine(missing)
        await self.seen()

    async def settle(self, channel_id: bytes) -> None:
        """A commitment is in the mempool: confirm it, wait for T, confirm its settlement."""
        await self.mine()
        await self.mine_to(self.node.height() + self.row.period - 1)
        await self.mine_until(lambda: self.channel(channel_id).status == "SETTLED", 5)

    async def seen(self) -> None:
        """The tower looks twice: what the first look brings into the mempool, the second one sees."""
        await asyncio.to_thread(self.world.look, 2)
        self.row.tell_height(self.node.height())
        await self.row.bob.payments.look()
        await self.row.bob.payments.rest()

    async def mine_until(self, reached: Callable[[], bool], blocks: int = 60) -> None:
        """Block after block until an effect is there; fails after `blocks`."""
        for _ in range(blocks):
            if reached():
                return
            await self.mine()
        assert reached(), f"not within {blocks} blocks"

    def outcome(self, payment_hash: bytes) -> PaymentOutcome | None:
        """How bob's payment ended, None while it has not."""
        known = self.row.bob.party.payment(payment_hash)
        return None if known is None else known.outcome

    def channel(self, channel_id: bytes) -> Channel:
        """A channel as the tower knows it."""
        name = self.row.bob.party.channel(channel_id).params.proposal_id
        return self.world.channels.load(self.world.channels.stream_of(name))

    def stale(self, end: End, channel_id: bytes, sequence: int) -> bytes:
        """The fully signed commitment of a party for any state, revoked or not."""
        return unsafe_commitment(seed_of(end.name), end.party, channel_id, sequence).serialize()

    def htlc_output(self, end: End, channel_id: bytes, sequence: int, side: Side, payment_hash: bytes) -> bytes:
        """Outpoint of an HTLC in the settlement of a side's commitment."""
        channel, content = end.party.channel(channel_id), end.party.state(channel_id, sequence).content
        (condition,) = (c for c in content.read_conditions() if c.hash == payment_hash)
        plan = plan_settlement(channel.params, *content.balances, content.read_conditions())
        settlement = Transaction.parse(end.party.settlement(channel_id, sequence, side))
        return make_outpoint(settlement.txid, plan.condition_vouts[condition.key])

    def spender(self, outpoint: bytes) -> Transaction | None:
        """What spends an outpoint in the mempool or on the chain."""
        txid = self.node.spender(outpoint)
        raw = None if txid is None else self.node.transaction(txid)
        return None if raw is None else Transaction.parse(raw)


def _app(world: World, directory: Path) -> httpx.ASGITransport:
    """The tower's API in this process."""
    tower_id = TOWER_KEY.tower_id

    def standing() -> Standing:
        cursor = world.tower.follower.cursor
        return Standing(True, True, "watching", height=cursor.height, tip_hash=bytes(32))

    services = bind(world.context, standing, version="1.0.0", network="regtest", tower_id=tower_id)
    clock = SystemClock()
    gate = Gate(
        sha256(TOKEN.encode()).digest(),
        AccessFile(directory / "access.json"),
        tower_key=tower_id,
        now=lambda: clock.wall_microseconds() / 1e6,
        monotonic=clock.monotonic,
    )
    # Payments with a silent peer look again at once and again: on a fast machine more often than a party may.
    limits = Limits(per_address=10_000, per_key=10_000)
    return httpx.ASGITransport(create_app(services, gate=gate, limits=limits), raise_app_exceptions=True)


@asynccontextmanager
async def stage(node: RegtestNode, directory: Path, *, profile: int = TAPROOT, period: int = T) -> AsyncIterator[Play]:
    """Open both channels, register them at bob's tower, confirm them, start everybody's payments."""
    world = World(node, directory, profile=profile)
    row = Row(profile, fund=world.fund, period=period)
    for channel_id, funding in zip((row.first, row.second), row.fundings, strict=True):
        register(world.context, row.bob.party.registration(channel_id, funding.raw))
        node.send_raw(funding.raw)
    node.mine(1)
    world.look()
    config = StateChannelConfig(network="regtest", taproot_enabled=profile == TAPROOT)
    client = StateChannelClient(config, token=TOKEN, party=row.bob.party, transport=_app(world, directory))
    async with AsyncExitStack() as stack:
        stack.callback(world.close)
        await stack.enter_async_context(client)
        for channel_id in (row.first, row.second):
            await client.synchronize(channel_id)
        await stack.enter_async_context(row.alice.start())
        await stack.enter_async_context(row.bob.start(POLICY, client))
        await stack.enter_async_context(row.carol.start())
        row.tell_height(node.height())
        play = Play(node, world, row, client)
        stack.push_async_callback(play.stop)
        for channel_id in (row.first, row.second):
            await play.connect(channel_id)
        yield play
