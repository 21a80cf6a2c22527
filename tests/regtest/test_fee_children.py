"""Closes that pay too little for the market, and children that are attached by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from domain.chain import make_outpoint, outpoint_txid
from domain.contract.params import SEGWIT, TAPROOT
from domain.fees import Market
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.clients import client_of
from tests.regtest.conftest import MakeWorld, StartNode
from tests.regtest.payment_stage import Play, stage
from tests.regtest.test_payments import PAID, PREIMAGE, claim_on_chain
from tests.regtest.test_scenarios_full_mempool import FILLER_FEERATE, SMALLEST, fill
from tests.regtest.world import World
from tests.support.parties import Pair, htlc, make_party, preimage_of, settings_of
from watchtower.client import BitcoindWallet, StateChannelClient
from watchtower.client.fee_children import FeeChildPolicy, FeeChildren
from watchtower.client.protocol.fee_log import FeeChild
from watchtower.client.wallet import WalletError
from watchtower.devnode.provision import Found
from watchtower.devnode.regtest import RegtestNode
from watchtower.node.transport import RpcTransport

pytestmark = pytest.mark.asyncio

DEAR = ["-minrelaytxfee=0.0001"]
"""10 sat/vB, five times what a commitment pays."""


class Purse(BitcoindWallet):
    """The node's wallet. `estimate` is a made-up feerate for every target; `cut` fails the next broadcast."""

    def __init__(self, node: RegtestNode) -> None:
        super().__init__(RpcTransport(f"{node.rpc_url}/wallet/purse", cookie_path=node.cookie_path))
        self.estimate: float | None = None
        self.cut = False

    def market(self, targets: Sequence[int]) -> Market:
        """That of the node, with the made-up estimate."""
        found = super().market(targets)
        made_up = () if self.estimate is None else tuple((each, self.estimate) for each in targets)
        return Market(found.minimum, found.relay, found.increment, made_up)

    def broadcast_package(self, parent: bytes, child: bytes) -> None:
        """Never reaches the node while it is cut."""
        if self.cut:
            raise WalletError("cut")
        super().broadcast_package(parent, child)


class Close:
    """B's channel that closes, B's client, and the children of B's closes, looked at by `look`."""

    def __init__(self, world: World, pair: Pair, client: StateChannelClient, policy: FeeChildPolicy) -> None:
        self.world, self.pair, self.client, self._policy = world, pair, client, policy
        self.purse = Purse(world.node)
        self.begin()

    def begin(self) -> None:
        """The party as it is after a restart, and nothing that was in memory."""
        settings = settings_of(self.pair.params.profile)
        party = make_party(self.pair.names[1], store=self.pair.b._store, settings=settings)
        self.pair.parties = (self.pair.a, party)
        self.client.party = party
        self.fees = FeeChildren(self.client, party, lambda: self.purse, self._policy)

    async def publish(self) -> bytes:
        """B's newest commitment; its txid."""
        closed = await self.client.close_channel_unilateral(self.pair.channel_id.hex(), self.pair.sequence)
        return Transaction.parse(bytes.fromhex(closed.transaction)).txid

    async def look(self) -> FeeChild | None:
        """The tower looks, the party hears of it and attaches what it must; the newest child of all."""
        self.world.look(2)
        await self.client.get_funding_status(self.pair.channel_id.hex())
        await self.fees.turn()
        return next(iter(reversed(self.pair.b.fee_children())), None)

    def trouble(self) -> str | None:
        """What keeps a child from being sent."""
        return self.fees.told(self.pair.channel_id).trouble


@asynccontextmanager
async def closing(world: World, pair: Pair, policy: FeeChildPolicy | None = None) -> AsyncIterator[Close]:
    """A connected client whose own task leaves children alone, as it has no wallet."""
    async with client_of(world, pair) as client:
        yield Close(world, pair, client, policy or FeeChildPolicy())


@pytest.mark.parametrize("profile", [TAPROOT, SEGWIT], ids=["taproot", "segwit"])
async def test_scenario_C02_a_close_is_paid_for_by_itself(make_world: MakeWorld, profile: int) -> None:
    """Commitment and settlement below the relay minimum are mined in the next block, each with one child."""
    world = make_world(profile=profile)
    pair = world.open(updates=1, challenge_period=2)
    world.node.restart(DEAR)
    async with closing(world, pair) as close:
        commit = await close.publish()
        first = await close.look()
        entered = world.node.mempool()
        world.node.mine(1)
        early = await close.look()
        world.node.mine(1)
        settlement = Transaction.parse(pair.settlement(Side.B, 1)).txid
        second = await close.look()
        world.node.mine(1)
        await close.look()
        made = close.fees.told(pair.channel_id)

    assert first is not None
    assert second is not None
    assert {commit, first.tx.txid} == entered
    assert first == early
    assert settlement == second.parent_txid
    assert [world.node.height(), "SETTLED"] == [world.height_of(settlement), world.status(pair)]
    assert (2, None) == (len(made.children), made.trouble)
    assert [] == world.node.rpc("listlockunspent")


async def test_a_close_is_paid_for_under_the_default_policy_of_knots(
    knots_default_node: RegtestNode, tmp_path: Path
) -> None:
    """Where version-3 rules do not hold, a child gives way to a better one all the same."""
    world = World(knots_default_node, tmp_path / "tower")
    pair = world.open(updates=1)
    async with closing(world, pair) as close:
        close.purse.estimate = 20.0
        commit = await close.publish()
        first = await close.look()
        entered = world.node.mempool()
        world.node.generate_block([])
        close.purse.estimate = 40.0
        better = await close.look()
    standing = world.node.mempool()
    world.close()

    assert first is not None
    assert better is not None
    assert {commit, first.tx.txid} == entered
    assert {commit, better.tx.txid} == standing
    assert first.fee < better.fee


@pytest.mark.timeout(120)
async def test_scenario_C02_a_full_mempool_is_entered_by_itself(
    start_node: StartNode, bitcoind_path: Found, tmp_path: Path
) -> None:
    """Transactions that pay more fill it to the last byte: the pair is next in line, also without version-3 rules."""
    node = start_node(extra_args=[SMALLEST], knots_default_policy="Knots" in bitcoind_path.version)
    world = World(node, tmp_path / "tower")
    pair = world.open(updates=1)
    fill(node, wanted=FILLER_FEERATE)
    async with closing(world, pair) as close:
        commit = await close.publish()
        alone = commit in node.mempool()
        child = await close.look()
        node.mine(1)
        await close.look()
    mined = world.height_of(commit)
    world.close()

    assert child is not None
    assert (False, node.height()) == (alone, mined)


async def test_without_a_dear_market_nothing_is_attached(world: World) -> None:
    """The fixed fee is enough for this node: commitment and settlement go alone, and no coin is touched."""
    pair = world.open(updates=1, challenge_period=2)
    async with closing(world, pair) as close:
        commit = await close.publish()
        made = [await close.look()]
        alone = world.node.mempool()
        for _ in range(3):
            world.node.mine(1)
            made.append(await close.look())

    assert {commit} == alone
    assert ([None] * 4, "SETTLED") == (made, world.status(pair))
    assert [] == world.node.rpc("listlockunspent")


async def test_a_better_child_replaces_the_first_one_also_after_a_restart(make_world: MakeWorld) -> None:
    """Miners pass it over while the market rises: the bid rises with it, never falls, and outlives the process."""
    world = make_world()
    pair = world.open(updates=1)
    async with closing(world, pair) as close:
        commit = await close.publish()
        bids = []
        for estimate in (20.0, 60.0, 30.0, 61.0, 90.0):
            close.purse.estimate = estimate
            bids.append(await close.look())
            world.node.generate_block([])
            close.begin()
        standing = world.node.mempool()
        world.node.mine(1)
        await close.look()

    first, better, same, close_by, best = bids
    assert best is not None
    assert {commit, best.tx.txid} == standing
    assert first is not None
    assert better is not None
    assert first.fee < better.fee < best.fee
    assert (better, better) == (same, close_by)
    assert pytest.approx(90, abs=0.5) == best.feerate_kvb / 1000
    assert first.coin == best.coin
    assert world.node.height() == world.height_of(best.tx.txid)


async def test_a_crash_between_intent_and_broadcast_sends_the_same_child(make_world: MakeWorld) -> None:
    """The child is in the log and reached no mempool: after a restart it is sent as it is, and pays its parent in."""
    world = make_world()
    pair = world.open(updates=1)
    world.node.restart(DEAR)
    async with closing(world, pair) as close:
        commit = await close.publish()
        close.purse.cut = True
        intent = await close.look()
        lost, trouble = world.node.mempool(), close.trouble()
        close.begin()
        close.purse.cut = False
        sent = await close.look()

    assert intent is not None
    assert (set(), "cut") == (lost, trouble)
    assert intent == sent
    assert {commit, intent.tx.txid} == world.node.mempool()


async def test_a_wallet_without_coins_warns_and_stops_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """No coin: the trouble is told and logged once; as soon as the wallet has a coin, the child goes out."""
    pair = world.open(updates=1)
    node = world.node
    node.restart(DEAR)
    async with closing(world, pair) as close:
        commit = await close.publish()
        coins = [{"txid": each["txid"], "vout": each["vout"]} for each in node.rpc("listunspent")]
        node.rpc("lockunspent", False, coins)
        for _ in range(2):
            await close.look()
        poor, trouble = node.mempool(), close.trouble()
        node.rpc("lockunspent", True, coins)
        child = await close.look()

    assert (set(), True) == (poor, "no confirmed segwit coin" in (trouble or ""))
    assert 1 == sum("fee_child_failed" in record.getMessage() for record in caplog.records)
    assert child is not None
    assert ({commit, child.tx.txid}, None) == (node.mempool(), close.trouble())


async def test_a_cheap_child_of_a_stranger_is_outbid(world: World) -> None:
    """Anybody may spend the anchor: a child that pays too little is replaced by one that pays more than it."""
    pair = world.open(updates=1)
    async with closing(world, pair) as close:
        commit = await close.publish()
        cheap = world.node.send_raw(world.node.anchor_child(commit, fee=400))
        close.purse.estimate = 25.0
        child = await close.look()
        standing = world.node.mempool()

    assert child is not None
    assert ({commit, child.tx.txid}, 400) == (standing - {cheap}, min(400, child.fee))
    assert cheap not in standing


async def test_an_htlc_deadline_raises_the_bid_without_any_estimate(make_world: MakeWorld) -> None:
    """No block takes the commitment: the bid rises to its cap until the last block that the HTLC leaves, not above."""
    world = make_world()
    pair = world.open(updates=0, challenge_period=4)
    amount, node = 200_000, world.node
    expiry = node.height() + 4 + 3 * 12 + 4
    world.upload(pair, pair.with_htlcs(htlc(Side.A, 1, amount, expiry)))
    pair.b.learn_preimage(pair.channel_id, preimage_of(1))
    bids: list[int] = []
    async with closing(world, pair) as close:
        commit = await close.publish()
        while len(bids) < 14:
            child = await close.look()
            bids.append(0 if child is None else child.fee)
            node.generate_block([])
        trouble = close.trouble()
        node.mine(1)
        await close.look()

    assert bids == sorted(bids)
    assert (0, 100_000) == (bids[0], bids[12])
    assert bids[12:] == [100_000] * 2
    assert node.height() == world.height_of(commit)
    assert trouble is None


async def test_a_forwarder_meets_its_deadline_in_a_dear_market(node: RegtestNode, tmp_path: Path) -> None:
    """Both hops are silent, the market is dear: bob's close is paid for by itself, and he claims before the expiry."""
    async with stage(node, tmp_path / "tower") as play:
        row = play.row
        name = (await play.pending(PREIMAGE)).payment_hash
        expiry = play.expiry(row.bob, row.first, name)
        await play.silence(row.first)
        await claim_on_chain(play, name)
        await play.seen()
        await play.mine_to(expiry - 47)
        node.restart(DEAR)
        fees = FeeChildren(play.client, row.bob.party, lambda: Purse(node))
        await play.mine_to(expiry - 46)
        closed = row.bob.party.state(row.first, 1).content.read_header().commit_txid(Side.B)
        alone = closed in node.mempool()
        await paid_in(play, fees, closed)
        await play.mine_to(node.height() + row.period - 1)
        for _ in range(4):
            await play.client.get_funding_status(row.first.hex())
            await fees.turn()
            await play.mine()
        claim = play.spender(play.htlc_output(row.bob, row.first, 1, Side.B, name))
        taken = play.world.height_of(claim.txid) if claim else None
        await play.mine_until(lambda: play.outcome(name) is not None, 10)

    assert (False, PAID) == (alone, play.outcome(name))
    assert taken is not None
    assert taken < expiry


async def paid_in(play: Play, fees: FeeChildren, txid: bytes) -> None:
    """A child is attached, and the next block has both."""
    await fees.turn()
    assert txid in play.node.mempool()
    await play.mine()
    assert play.node.height() == play.world.height_of(txid)


async def test_the_task_of_a_client_attaches_a_child(world: World) -> None:
    """With a wallet a connected client needs no call: the package stands in the mempool by itself."""
    pair = world.open(updates=1)
    world.node.restart(DEAR)
    async with client_of(world, pair) as client:
        client.wallet = Purse(world.node)
        closed = await client.close_channel_unilateral(pair.channel_id.hex(), 1)
        txid = Transaction.parse(bytes.fromhex(closed.transaction)).txid
        spender = await asyncio.to_thread(world.node.wait_spender, make_outpoint(txid, 1), 90)
        made = (await client.get_fee_children(pair.channel_id.hex())).children

    assert "FEE_CHILD_NEEDED" == closed.outcome
    assert [spender[::-1].hex()] == [each.txid for each in made]
    assert outpoint_txid(Transaction.parse(world.node.transaction(spender) or b"").inputs[0].outpoint) == txid
