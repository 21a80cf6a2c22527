"""Children of closes over a made-up mempool: what is looked at, what is stored first, what fails and goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from hashlib import sha256

import pytest
from msgspec.structs import replace

from domain.chain import OutPoint, make_outpoint
from domain.contract.params import ANCHOR_SAT
from domain.fees import Market
from domain.transaction import Transaction, TxIn, TxOut
from domain.units import Side
from tests.support.parties import Pair, htlc, make_party, open_pair, preimage_of, settings_of
from tests.support.sdk import Fuse, Killed, MemoryWallet
from tests.support.towers import CoinNode
from watchtower.client.errors import ConfigurationError, TowerUnreachable
from watchtower.client.fee_children import FeeChildPolicy, FeeChildren
from watchtower.client.party.party import ChannelParty
from watchtower.client.protocol.channel import Pending, Proposal
from watchtower.client.protocol.fee_log import FeeChild
from watchtower.client.types import ProtocolState
from watchtower.client.wallet import FeeTooLow, Pooled, Prepared, WalletError
from watchtower.ports import NodeError

SPK = b"\x00\x14" + bytes(20)
BLOCK = bytes(32)
COIN = 1_000_000


class Pool:
    """A `FeeWallet` and its node: unspent outputs of the chain, and a mempool that takes whatever is dear enough."""

    def __init__(self, *confirmed: bytes) -> None:
        self.chain = set(confirmed)
        self.raws: dict[bytes, bytes] = {}
        self.rate, self.refuses, self.loses = 20.0, 0, 0
        self.coins = [make_outpoint(sha256(bytes((number,))).digest(), 0) for number in range(3)]
        self.chain.update(self.coins)
        self.locked: set[bytes] = set()
        self.unconfirmed: set[bytes] = set()
        self.limits: dict[bytes, int] = {}
        self.broken: set[bytes] = set()
        self.parents: dict[bytes, tuple[int, int]] = {}
        self.witness: tuple[bytes, ...] = (bytes(72), bytes(33))

    def market(self, targets: Sequence[int]) -> Market:
        """One estimate for all."""
        return Market(1.0, 1.0, 1.0, tuple((each, self.rate) for each in targets))

    def pooled(self, txid: bytes) -> Pooled | None:
        """A parent with its children; a `broken` one shows a mistake of this program."""
        if txid in self.broken:
            raise ZeroDivisionError
        if txid not in self.parents:
            return None
        fee, vsize = self.parents[txid]
        txs = [tx for tx in map(Transaction.parse, self.raws.values()) if tx.inputs[0].outpoint[:32] == txid]
        children = tuple((tx.txid, COIN + ANCHOR_SAT - tx.outputs[0].value, tx.vsize) for tx in txs)
        return Pooled(fee + sum(paid for _, paid, _ in children), vsize + sum(size for *_, size in children), children)

    def is_unspent(self, outpoint: bytes, *, mempool: bool) -> bool:
        """Of the chain, and of the mempool if asked."""
        taken = {spent.outpoint for raw in self.raws.values() for spent in Transaction.parse(raw).inputs}
        known = self.chain | self.unconfirmed if mempool else self.chain
        return outpoint in known and not (mempool and outpoint in taken)

    def make_child(self, anchor: bytes, fee: int, room: int, before: Transaction | None = None) -> bytes:
        """From the coin of the child before while it is there, else from the first free one that pays so much."""
        del room
        free = [coin for coin in self.coins if coin in self.chain and coin not in self.locked]
        old = [] if before is None else [before.inputs[1].outpoint]
        coin = next((each for each in [*old, *free] if each in self.chain and fee <= self.limits.get(each, fee)), None)
        if coin is None:
            raise WalletError("no coin")
        self.locked.add(coin)
        inputs = (TxIn(OutPoint(anchor), 0), TxIn(OutPoint(coin), 0, witness=self.witness))
        return Transaction(3, inputs, (TxOut(COIN + ANCHOR_SAT - fee, SPK),), 0).serialize()

    def lock(self, coin: bytes) -> None:
        """As a child that waits needs it."""
        self.locked.add(coin)

    def unlock(self, coin: bytes) -> None:
        """Free again."""
        self.locked.discard(coin)

    def broadcast(self, raw: bytes) -> None:
        """Taken, instead of whatever spends the same."""
        if self.refuses:
            self.refuses -= 1
            raise FeeTooLow("insufficient fee")
        tx = Transaction.parse(raw)
        spent = {each.outpoint for each in tx.inputs}
        for txid, other in tuple(self.raws.items()):
            if spent & {each.outpoint for each in Transaction.parse(other).inputs}:
                del self.raws[txid]
        self.raws[tx.txid] = raw

    def broadcast_package(self, parent: bytes, child: bytes) -> None:
        """Both."""
        self.broadcast(parent)
        self.stand(parent)
        self.broadcast(child)
        if self.loses:
            self.loses -= 1
            raise NodeError("lost")

    def stand(self, parent: bytes) -> None:
        """A parent is in the mempool, with its fixed fee."""
        tx = Transaction.parse(parent)
        self.raws[tx.txid] = parent
        self.parents[tx.txid] = (2 * tx.vsize, tx.vsize)

    def prepare(self, spk: bytes, value: int, feerate: float | None = None) -> Prepared:
        """Not here."""
        raise WalletError("this wallet funds nothing")

    def sign(self, prepared: Prepared) -> bytes:
        """Not here."""
        raise WalletError("this wallet funds nothing")

    def release(self, prepared: Prepared) -> None:
        """Nothing is prepared."""

    def attach_child(self, parent: bytes, parent_fee: int, feerate: float) -> bytes:
        """Not here."""
        raise WalletError("by hand nothing is attached here")


class Away:
    """A tower that is not there. `asked` are the calls."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def get_state(self) -> ProtocolState:
        """Nobody answers."""
        self.asked.append("state")
        raise TowerUnreachable("away")

    async def synchronize(self, channel_id: bytes) -> object:
        """Nobody answers."""
        self.asked.append(channel_id.hex())
        raise TowerUnreachable("away")


class There(Away):
    """A tower at a height, which is brought what it lacks. `pool` is looked at when it is."""

    def __init__(self, height: int, pool: Pool) -> None:
        super().__init__()
        self.height, self._pool = height, pool

    async def get_state(self) -> ProtocolState:
        """The height."""
        self.asked.append("state")
        return ProtocolState(
            version="1", network="regtest", operational=True, watching=True, phase="watching", height=self.height,
            tip_hash=None, channels=1, capacity=1, lag=0, tower_id="", protocol_version=1, chain_hash="", profiles=(0,),
        )  # fmt: skip

    async def synchronize(self, channel_id: bytes) -> object:
        """Taken; how many transactions were out by then."""
        self.asked.append(f"{len(self._pool.raws)} sent")
        return None


class Stage:
    """B's party, which has signed its commitment of state 1, and a pool that has the funding."""

    def __init__(self, *, published: bool = True) -> None:
        self.fuse = Fuse()
        settings = settings_of(0)
        parties = (make_party("alice", settings=settings), make_party("bob", settings=settings, failpoint=self.fuse))
        self.pair: Pair = open_pair(parties=parties, challenge_period=6)
        self.pair.update()
        self.party: ChannelParty = self.pair.b
        self.name = self.pair.channel_id
        self.pool = Pool(self.pair.params.funding_outpoint)
        self.fees = self.make_fees()
        if published:
            self.party.sign_commitment(self.name, 1)

    def make_fees(self) -> FeeChildren:
        """What a process keeps in memory."""
        return FeeChildren(Away(), self.party, lambda: self.pool)

    def revive(self) -> None:
        """The party and the process after a crash."""
        self.fuse.left = None
        self.party = make_party("bob", store=self.party._store, settings=settings_of(0), failpoint=self.fuse)
        self.fees = self.make_fees()

    def look(self, height: int = 100) -> FeeChild | None:
        """One look; the newest child."""
        self.fees.look(self.pool, self.party.fee_parents(height), height)
        return next(iter(reversed(self.party.fee_children())), None)

    @property
    def trouble(self) -> str | None:
        """What is told of the channel."""
        return self.fees.told(self.name).trouble


@pytest.mark.parametrize("left", [1, 2])
def test_a_crash_at_the_store_sends_nothing_that_is_not_durable(left: int) -> None:
    """Before the write nothing is known, sent or locked; behind it the same bytes are sent after the restart."""
    stage = Stage()
    stage.fuse.left = left

    with pytest.raises(Killed):
        stage.look()
    sent, locked = dict(stage.pool.raws), set(stage.pool.locked)
    stage.revive()
    stored = stage.party.fee_children()
    child = stage.look()

    assert ({}, {each.coin for each in stored}, left - 1) == (sent, locked, len(stored))
    assert child is not None
    assert stored in ((), (child,))
    assert child.tx.txid in stage.pool.raws


def test_a_pair_enters_together_and_stays() -> None:
    """The package is sent once; while it stands and is dear enough, nothing is made, sent or locked."""
    stage = Stage()
    made = [stage.look(height) for height in (100, 101, 102)]

    assert made[0] is not None
    assert made[:1] * 3 == made
    assert 2 == len(stage.pool.raws)
    assert {made[0].coin} == stage.pool.locked
    assert pytest.approx(20, abs=0.1) == made[0].feerate_kvb / 1000


def test_a_better_child_takes_the_coin_and_the_change_of_the_first() -> None:
    """The market rises: one coin, one lock, one child in the mempool."""
    stage = Stage()
    first = stage.look()
    stage.pool.rate = 40.0
    second = stage.look(101)

    assert first is not None
    assert second is not None
    assert (first.coin, first.tx.outputs[0].spk) == (second.coin, second.tx.outputs[0].spk)
    assert first.fee < second.fee
    assert {second.parent_txid, second.tx.txid} == set(stage.pool.raws)
    assert {second.coin} == stage.pool.locked


def test_a_coin_that_is_gone_is_replaced() -> None:
    """Evicted, and the coin was spent elsewhere meanwhile: the same fee from another coin, the lock is given back."""
    stage = Stage()
    first = stage.look()
    assert first is not None
    del stage.pool.raws[first.tx.txid]
    stage.pool.chain.discard(first.coin)
    second = stage.look(101)

    assert second is not None
    assert (first.fee, True) == (second.fee, first.coin != second.coin)
    assert {second.coin} == stage.pool.locked


def test_a_refused_child_pays_a_step_more_next_time() -> None:
    """Too low, says the node, and nobody is seen who pays more: the next block raises the bid, once."""
    stage = Stage()
    stage.pool.refuses = 1
    first = stage.look()
    trouble = stage.trouble
    stage.pool.refuses = 2
    same = [stage.look(), stage.look()]
    second = stage.look(101)

    assert first is not None
    assert second is not None
    assert ("insufficient fee", None, [first, first]) == (trouble, stage.trouble, same)
    assert first.fee + first.fee // 10 <= second.fee <= first.fee + first.fee // 10 + 1
    assert second.tx.txid in stage.pool.raws


def test_an_answer_that_is_lost_changes_nothing() -> None:
    """The node took the pair and nobody heard it: the next look finds it there, and makes nothing new."""
    stage = Stage()
    stage.pool.loses = 1
    first = stage.look()
    trouble = stage.trouble
    second = stage.look()

    assert first is not None
    assert ("lost", None, first) == (trouble, stage.trouble, second)
    assert {first.parent_txid, first.tx.txid} == set(stage.pool.raws)


def test_a_coin_is_free_once_the_parent_is_mined_without_its_child() -> None:
    """Mined alone: the lock goes, and not before; nothing more is sent."""
    stage = Stage()
    child = stage.look()
    assert child is not None
    del stage.pool.raws[child.tx.txid]
    locked = set(stage.pool.locked)
    stage.pool.chain.discard(stage.pair.params.funding_outpoint)
    stage.look(101)

    assert ({child.coin}, set()) == (locked, stage.pool.locked)
    assert child.tx.txid not in stage.pool.raws


def test_a_mined_child_keeps_what_it_spent() -> None:
    """Its coin is spent: there is nothing to unlock, nothing to send, and nothing to complain about."""
    stage = Stage()
    child = stage.look()
    assert child is not None
    stage.pool.raws.clear()
    stage.pool.parents.clear()
    stage.pool.chain -= {stage.pair.params.funding_outpoint, child.coin}
    again = stage.look(101)

    assert (child, {}, None) == (again, stage.pool.raws, stage.trouble)


def opened_from(stage: Stage, coin: bytes) -> None:
    """Another channel of the party, whose funding the wallet has prepared from this coin."""
    raw = Transaction(2, (TxIn(OutPoint(coin), 0),), (TxOut(9_000, SPK),), 0).serialize()
    known = stage.party.channel(stage.name)
    other = replace(known, stream="other", published=frozenset(), fee_children=(), prepared_tx=raw)
    stage.party._channels["other"] = other


def test_a_lock_that_the_node_forgot_is_made_again() -> None:
    """A restarted node would give the coin of a child that waits to an opening."""
    stage = Stage()
    child = stage.look()
    assert child is not None
    stage.pool.locked.clear()
    stage.look(101)

    assert {child.coin} == stage.pool.locked


def test_a_coin_that_funds_a_channel_by_now_pays_for_no_child() -> None:
    """The child never got in, its coin was given to an opening: another one pays, and the opening keeps its lock."""
    stage = Stage()
    first = stage.look()
    assert first is not None
    del stage.pool.raws[first.tx.txid]
    opened_from(stage, first.coin)
    again = stage.look(101)

    assert again is not None
    assert (True, first.fee) == (first.coin != again.coin, again.fee)
    assert {first.coin, again.coin} == stage.pool.locked


def test_the_lock_of_an_opening_outlives_the_child_that_had_the_coin_before() -> None:
    """Mined without its child, then the coin went to an opening: a restart of the party must not unlock it."""
    stage = Stage()
    child = stage.look()
    assert child is not None
    del stage.pool.raws[child.tx.txid]
    stage.pool.chain.discard(stage.pair.params.funding_outpoint)
    opened_from(stage, child.coin)
    opening = stage.party._channels["other"]
    stage.revive()
    stage.party._channels["other"] = opening
    stage.look(101)

    assert {child.coin} == stage.pool.locked


def test_a_coin_that_a_reorganization_unconfirmed_pays_for_no_child() -> None:
    """A version-3 child has one unconfirmed parent: the coin of the child that was lost would be a second one."""
    stage = Stage()
    first = stage.look()
    assert first is not None
    del stage.pool.raws[first.tx.txid]
    stage.pool.chain.discard(first.coin)
    stage.pool.unconfirmed.add(first.coin)
    second = stage.look(101)

    assert second is not None
    assert (True, first.fee) == (first.coin != second.coin, second.fee)


@pytest.mark.parametrize("coins", [1, 2])
def test_a_coin_that_is_too_small_for_the_larger_child_is_given_back(coins: int) -> None:
    """Made once more for its size, from another coin or from none: the first lock would else stay for good."""
    stage = Stage()
    stage.pool.witness = (bytes(72),) * 3 + (bytes(105),)
    del stage.pool.coins[coins:]
    small, large = stage.pool.coins[0], stage.pool.coins[1:]
    stage.pool.limits[small] = 6_100
    child = stage.look()

    assert set(large) == stage.pool.locked
    assert len(large) == (child is not None)
    assert (stage.trouble is None) == (child is not None)


def test_a_parent_that_cannot_be_made_locks_no_coin() -> None:
    """The log turns out to be an old copy between two looks: nothing is signed, stored or locked."""
    stage = Stage()
    parents = stage.party.fee_parents(100)
    stage.party.note_restored()
    stage.fees.look(stage.pool, parents, 100)

    assert "old copy" in (stage.trouble or "")
    assert ((), set(), {}) == (stage.party.fee_children(), stage.pool.locked, stage.pool.raws)


def test_a_mistake_about_one_close_does_not_keep_the_others() -> None:
    """It is raised where the task logs it, behind those that can be paid for."""
    stage = Stage()
    (good,) = stage.party.fee_parents(100)
    bad = replace(good, channel_id=bytes(32), txid=bytes(32))
    stage.pool.broken.add(bad.txid)

    with pytest.raises(ZeroDivisionError):
        stage.fees.look(stage.pool, (bad, good), 100)
    assert 2 == len(stage.pool.raws)
    assert "ZeroDivisionError" == stage.fees.trouble[bad.channel_id]


def test_a_commitment_of_the_peer_gets_a_child_for_the_sake_of_htlcs() -> None:
    """It keeps the own one out of the mempool, so it is paid for once the preimage is known: the child alone."""
    stage = Stage(published=False)
    raw = stage.pair.commitment(Side.A, stage.pair.with_htlcs(htlc(Side.A, 1, 100_000, 140)))
    stage.pool.stand(raw)
    stage.party.note_spend(stage.name, raw, 100)
    before = stage.look()
    stage.party.learn_preimage(stage.name, preimage_of(1))
    child = stage.look(101)

    assert before is None
    assert child is not None
    assert child.fee <= 50_000
    assert {Transaction.parse(raw).txid, child.tx.txid} == set(stage.pool.raws)


def test_a_commitment_of_the_peer_is_not_paid_for_while_its_htlcs_have_time() -> None:
    """It may wait until a day before they need it: a peer that closes earlier, on a dear day, pays for that itself."""
    stage = Stage(published=False)
    expiry = 1_000
    raw = stage.pair.commitment(Side.A, stage.pair.with_htlcs(htlc(Side.B, 1, 100_000, expiry)))
    stage.pool.stand(raw)
    stage.party.note_spend(stage.name, raw, 100)
    needed = expiry + 14
    early, late = stage.look(needed - 145), stage.look(needed - 144)

    assert early is None
    assert late is not None
    assert {Transaction.parse(raw).txid, late.tx.txid} == set(stage.pool.raws)


def test_nothing_is_paid_for_a_revoked_commitment() -> None:
    """Neither one of the peer, which the tower punishes, nor, with an old copy of the log, any at all."""
    stage = Stage(published=False)
    raw = stage.pair.commitment(Side.A, 0)
    stage.pool.stand(raw)
    stage.party.note_spend(stage.name, raw, 100)
    revoked = stage.look()
    old = Stage()
    old.party.note_restored()
    late = Stage(published=False)
    late.party.note_spend(late.name, late.pair.commitment(Side.A, 1), 100, BLOCK)
    settled = len(late.party.fee_parents(105))
    known = late.party.channel(late.name)
    late.party._channels[known.stream] = replace(known, peer_revoked=1)

    assert (None, None) == (revoked, old.look())
    assert (1, 0) == (settled, len(late.party.fee_parents(105)))
    assert {Transaction.parse(raw).txid} == set(stage.pool.raws)


def test_an_old_copy_pays_for_no_settlement_either() -> None:
    """What looks like the newest state may have been revoked later."""
    stage = Stage(published=False)
    stage.party.note_spend(stage.name, stage.pair.commitment(Side.A, 1), 100, BLOCK)
    before = len(stage.party.fee_parents(105))
    stage.party.note_restored()

    assert (1, ()) == (before, stage.party.fee_parents(105))


def test_nothing_is_paid_for_an_own_commitment_whose_secret_was_released() -> None:
    """It punishes its owner, whoever put it into the mempool."""
    stage = Stage()
    before = len(stage.party.fee_parents(100))
    known = stage.party.channel(stage.name)
    stage.party._channels[known.stream] = replace(known, own_released=1)

    assert (1, ()) == (before, stage.party.fee_parents(100))


def test_an_own_commitment_that_was_never_published_is_not_paid_for() -> None:
    """The peer's left the mempool again: that is no reason to close with the own one."""
    stage = Stage(published=False)
    raw = stage.pair.commitment(Side.A, 1)
    stage.party.note_spend(stage.name, raw, 100)
    stage.party.note_funding_spend(stage.name, None)
    gone = stage.party.fee_parents(100)
    known = stage.party.channel(stage.name)
    stage.party._channels[known.stream] = replace(known, published=frozenset({0}))

    assert ((), ()) == (gone, stage.party.fee_parents(100))


def test_the_settlement_of_each_state_that_the_peer_may_publish_is_paid_for() -> None:
    """The one before the newest, whose secret it owes, and one in flight that is signed."""
    stage = Stage(published=False)
    stage.party.note_spend(stage.name, stage.pair.commitment(Side.A, 1), 100, BLOCK)
    known = stage.party.channel(stage.name)
    assert known.state is not None
    content = known.state.content
    in_flight = Pending(content, Side.A, Proposal(bytes(64), bytes(64), bytes(64)))
    found = []
    for state in (
        replace(known, settled=content, state=None),
        replace(known, pending=in_flight, state=None, settled=None),
    ):
        stage.party._channels[known.stream] = state
        found += [each.sequence for each in stage.party.fee_parents(105)]

    assert [1, 1] == found


def test_a_commitment_of_the_peer_that_left_the_mempool_is_left_alone() -> None:
    """Its witness is not known here: nothing can be sent, and no coin is locked for it."""
    stage = Stage(published=False)
    raw = stage.pair.commitment(Side.A, stage.pair.with_htlcs(htlc(Side.B, 1, 100_000, 140)))
    stage.party.note_spend(stage.name, raw, 100)

    assert (1, None, None) == (len(stage.party.fee_parents(100)), stage.look(), stage.trouble)
    assert set() == stage.pool.locked


def test_time_runs_from_the_first_bid_also_after_a_restart() -> None:
    """Near the deadline in a calm market: no block has passed the pair over at 100; at 101 and 110 blocks have."""
    stage = Stage(published=False)
    number = stage.pair.with_htlcs(htlc(Side.B, 1, 100_000, 91))
    stage.party.sign_commitment(stage.name, number)
    stage.pool.rate = 1.0
    (parent,) = stage.party.fee_parents(100)
    calm, first = stage.look(100), stage.look(101)
    stage.revive()
    later = stage.look(104)

    assert 91 + 14 == parent.stake.confirm_by
    assert calm is None
    assert first is not None
    assert later is not None
    assert first.fee < later.fee


def test_a_settlement_has_its_own_deadline_and_is_followed_once_paid_for() -> None:
    """T and another twelve blocks behind the commitment; with a child it is looked after for good."""
    stage = Stage(published=False)
    raw = stage.pair.commitment(Side.A, stage.pair.with_htlcs(htlc(Side.B, 1, 100_000, 91)))
    stage.pool.chain.add(make_outpoint(Transaction.parse(raw).txid, 0))
    stage.party.note_spend(stage.name, raw, 100, BLOCK)
    (parent,) = stage.party.fee_parents(105)
    child = stage.look(105)

    assert 91 + 14 + 6 + 12 == parent.stake.confirm_by
    assert child is not None
    assert [parent.txid] == [each.txid for each in stage.party.fee_parents(9_000)]


def test_commitment_and_settlement_have_a_child_each() -> None:
    """The second does not take the place of the first in what is known and told."""
    stage = Stage()
    first = stage.look()
    raw = stage.pair.commitment(Side.B, 1)
    stage.pool.chain.add(make_outpoint(Transaction.parse(raw).txid, 0))
    stage.pool.chain.discard(stage.pair.params.funding_outpoint)
    stage.party.note_spend(stage.name, raw, 100, BLOCK)
    second = stage.look(105)

    assert first != second
    assert (first, second) == stage.party.fee_children()


def test_after_a_reorganization_a_child_leaves_its_coin_to_whoever_has_it_now() -> None:
    """Its coin was free and pays for another close: that keeps it, and this one gets a child from another coin."""
    stage = Stage()
    second = open_pair(parties=stage.pair.parties, challenge_period=6)
    second.update()
    funding = stage.pair.params.funding_outpoint
    first = stage.look()
    assert first is not None
    del stage.pool.raws[first.tx.txid]
    stage.pool.chain.discard(funding)
    stage.look(101)
    stage.party.sign_commitment(second.channel_id, 1)
    stage.pool.chain.add(second.params.funding_outpoint)
    other = stage.look(101)
    assert other is not None
    del stage.pool.raws[other.tx.txid]
    stage.pool.chain.add(funding)
    stage.look(102)
    coins = {each.parent_txid: each.coin for each in stage.party.fee_children()}

    assert (first.coin, first.coin) == (other.coin, coins[other.parent_txid])
    assert 2 == len(set(coins.values()))
    assert set(coins.values()) == stage.pool.locked


def test_a_child_that_is_sent_again_after_a_reorganization_locks_its_coin_again() -> None:
    """Free while the parent was in a block, locked while it waits, and free again behind the next block."""
    stage = Stage()
    funding = stage.pair.params.funding_outpoint
    child = stage.look()
    assert child is not None
    del stage.pool.raws[child.tx.txid]
    locked = []
    for height, mined in ((101, True), (101, False), (102, True)):
        (stage.pool.chain.discard if mined else stage.pool.chain.add)(funding)
        stage.look(height)
        locked.append(set(stage.pool.locked))
        stage.pool.raws.pop(child.tx.txid, None)

    assert [set(), {child.coin}, set()] == locked


def test_a_peer_that_closes_on_a_dear_day_pays_for_it() -> None:
    """Without an HTLC that presses, nothing is paid for its commitment."""
    stage = Stage(published=False)
    raw = stage.pair.commitment(Side.A, 1)
    stage.pool.stand(raw)
    stage.party.note_spend(stage.name, raw, 100)

    assert (None, None) == (stage.look(), stage.trouble)
    assert () == stage.party.fee_parents(100)


def test_the_own_commitment_waits_behind_one_of_the_peer() -> None:
    """Another spend stands in the mempool and the tower has not told which: nothing is sent against it."""
    stage = Stage()
    stage.pool.stand(stage.pair.commitment(Side.A, 1))

    assert (None, None) == (stage.look(), stage.trouble)


def test_a_settlement_is_looked_at_from_its_height_and_after_a_reorganization() -> None:
    """From h_c + T - 1 on; when the commitment leaves the chain it is the one that needs a child again."""
    stage = Stage()
    raw = stage.pair.commitment(Side.B, 1)
    txid, settlement = Transaction.parse(raw).txid, Transaction.parse(stage.pair.settlement(Side.B, 1))
    stage.party.note_spend(stage.name, raw, 100, BLOCK)
    heights = {height: [each.txid for each in stage.party.fee_parents(height)] for height in (104, 105, 2_122, 2_123)}
    (parent,) = stage.party.fee_parents(105)
    stage.party.note_disconnected(stage.name, txid, 100, BLOCK)

    assert {104: [], 105: [settlement.txid], 2_122: [settlement.txid], 2_123: []} == heights
    assert settlement.vsize == parent.size.vsize
    assert settlement.outputs[parent.vout].value == ANCHOR_SAT
    assert settlement.serialize() == stage.party.fee_parent_raw(parent)
    assert [txid] == [each.txid for each in stage.party.fee_parents(105)]


def test_the_limit_is_told() -> None:
    """Nothing above `max_fee` is signed; what is bid at the limit goes out, and the owner reads why it is no more."""
    stage = Stage()
    stage.fees = FeeChildren(Away(), stage.party, lambda: stage.pool, FeeChildPolicy(max_fee=3_000))
    child = stage.look()

    assert child is not None
    assert 3_000 == child.fee
    assert "would need more than 3000 sat" in (stage.trouble or "")
    with pytest.raises(ConfigurationError, match="at least 0 sat"):
        FeeChildPolicy(max_fee=-1)


def test_a_larger_child_pays_for_its_size() -> None:
    """A coin with a longer witness: the child is made once more, so that the pair pays the estimate all the same."""
    stage = Stage()
    stage.pool.witness = (bytes(72),) * 3 + (bytes(105),)
    child = stage.look()

    assert child is not None
    assert child.tx.vsize > 190
    assert pytest.approx(20, abs=0.1) == child.feerate_kvb / 1000


@pytest.mark.asyncio
async def test_the_tower_has_the_state_before_a_mempool_has_its_commitment() -> None:
    """A height is looked at once, trouble again; and what is unseen is brought to the tower first."""
    stage = Stage()
    tower = There(100, stage.pool)
    fees = FeeChildren(tower, stage.party, lambda: stage.pool)
    stage.pool.refuses = 1
    for _ in range(4):
        await fees.turn()
    tower.height = 101
    await fees.turn()

    assert ["state", "0 sent", "state", "0 sent", "state", "state", "state", "2 sent"] == tower.asked
    assert 2 == len(stage.pool.raws)


@pytest.mark.asyncio
async def test_a_tower_that_takes_nothing_keeps_no_child_back() -> None:
    """It told the height and refuses the state: the close is in the mempool soon, and must not wait for that."""
    stage = Stage()
    tower = There(100, stage.pool)
    tower.synchronize = Away().synchronize  # type: ignore[method-assign]
    await FeeChildren(tower, stage.party, lambda: stage.pool).turn()

    assert 2 == len(stage.pool.raws)


@pytest.mark.asyncio
async def test_a_limit_that_is_reached_waits_for_the_next_block() -> None:
    """It is no failure: asking again after five seconds changes nothing, and costs every close some requests."""
    stage = Stage()
    tower = There(100, stage.pool)
    fees = FeeChildren(tower, stage.party, lambda: stage.pool, FeeChildPolicy(max_fee=10))
    for _ in range(3):
        await fees.turn()
    tower.height = 101
    await fees.turn()

    assert ["state", "0 sent", "state", "state", "state", "0 sent"] == tower.asked
    assert "more than 10 sat" in (fees.told(stage.name).trouble or "")


@pytest.mark.asyncio
async def test_a_look_ends_with_its_session() -> None:
    """Cancelled while the wallet is slow to answer about the first of two closes: nothing is sent for the second."""
    stage, asked, answer = Stage(), threading.Event(), threading.Event()
    second = open_pair(parties=stage.pair.parties, challenge_period=6)
    second.update()
    stage.party.sign_commitment(second.channel_id, 1)
    stage.pool.chain.add(second.params.funding_outpoint)
    market = stage.pool.market

    def slow(targets: Sequence[int]) -> Market:
        asked.set()
        answer.wait(30)
        return market(targets)

    stage.pool.market = slow  # type: ignore[method-assign]
    fees = FeeChildren(There(100, stage.pool), stage.party, lambda: stage.pool, retry_seconds=0)
    running = asyncio.create_task(fees.run())
    await asyncio.to_thread(asked.wait, 30)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    answer.set()
    with fees._looking:
        sent = len(stage.pool.raws)

    assert (2, 2) == (sent, len(stage.party.fee_parents(100)))


@pytest.mark.parametrize("wallet", [None, MemoryWallet(CoinNode())], ids=["none", "without a market"])
@pytest.mark.asyncio
async def test_without_a_wallet_that_knows_the_market_nothing_is_asked(wallet: MemoryWallet | None) -> None:
    """Nobody asks the tower, and nothing is logged: it is as if there were no fee children."""
    stage, tower = Stage(), Away()
    await FeeChildren(tower, stage.party, lambda: wallet).turn()

    assert [] == tower.asked


@pytest.mark.asyncio
async def test_the_task_ends_at_once_if_nothing_is_to_be_attached() -> None:
    """Switched off by its owner."""
    stage, tower = Stage(), Away()
    await FeeChildren(tower, stage.party, lambda: stage.pool, FeeChildPolicy(attach=False)).run()

    assert [] == tower.asked


@pytest.mark.asyncio
async def test_a_mistake_in_one_look_does_not_end_the_task(caplog: pytest.LogCaptureFixture) -> None:
    """Logged as an error with its trace, and the next look is made as if nothing had been."""
    stage = Stage()
    sent = asyncio.Event()

    def wallet() -> Pool:
        if not caplog.records:
            raise ZeroDivisionError
        if stage.pool.raws:
            sent.set()
        return stage.pool

    fees = FeeChildren(There(100, stage.pool), stage.party, wallet, retry_seconds=0)
    running = asyncio.create_task(fees.run())
    await asyncio.wait_for(sent.wait(), 30)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert ["fee_child_failed about=all reason=ZeroDivisionError"] == [
        record.getMessage() for record in caplog.records if record.levelname == "ERROR"
    ]
    assert 2 == len(stage.pool.raws)
