"""A party that closes, over a made-up mempool, with a wallet that makes fee children."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from msgspec.structs import replace

from domain.chain import OutPoint, make_outpoint
from domain.contract.params import ANCHOR_SAT
from domain.fees import Market
from domain.transaction import Transaction, TxIn, TxOut
from tests.support.parties import Pair, make_party, open_pair, settings_of
from tests.support.sdk import Fuse
from watchtower.client.errors import TowerUnreachable
from watchtower.client.fee_children import FeeChildren
from watchtower.client.party.party import ChannelParty
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


def opened_from(stage: Stage, coin: bytes) -> None:
    """Another channel of the party, whose funding the wallet has prepared from this coin."""
    raw = Transaction(2, (TxIn(OutPoint(coin), 0),), (TxOut(9_000, SPK),), 0).serialize()
    known = stage.party.channel(stage.name)
    other = replace(known, stream="other", published=frozenset(), fee_children=(), prepared_tx=raw)
    stage.party._channels["other"] = other
