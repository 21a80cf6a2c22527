"""A tower without node and process: use cases over a memory log, real views, a node that knows coins only.

tower = Bench(tmp_path)                       # tower.context for use cases, tower.services for the HTTP app
tower.node.add_coin(pair.funding, pair.params)    # the funding output exists, unspent
tower.confirm(pair)                               # … and is confirmed: updates are taken
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import httpx
from msgspec.structs import replace
from starlette.applications import Starlette

from domain.chain import BlockRef, OutPoint, chain_hash
from domain.classifier import classify
from domain.contract.params import ParamsPolicy
from domain.contract.scripts import funding_output
from domain.events import BroadcastOutcome, Source, envelopes
from domain.fees import Market
from domain.spending import funding_confirmed, spend_confirmed
from domain.transaction import Transaction
from projections.catalog import PROJECTIONS
from projections.channel_info import TABLE as CHANNEL_INFO
from projections.projector import Projector
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.store import LOG_ID, MemoryEventStore
from tests.support.clocks import FixedClock
from tests.support.parties import Pair
from watchtower.access import AccessFile
from watchtower.applications import Applications
from watchtower.channels.context import ChannelPolicy, Context
from watchtower.http.app import create_app
from watchtower.http.auth import Gate
from watchtower.http.routes import Limits
from watchtower.http.services import Services, Standing, bind
from watchtower.ports import Answer, NodeUnavailable, Utxo
from watchtower.receipts.signer import ReceiptSigner
from watchtower.receipts.tower_key import TowerKey
from watchtower.repository import Channels
from watchtower.store.views import SqliteRows, new_views_file

TOKEN = "wt_test"
TOWER_KEY = TowerKey(sha256(b"tower").digest())
TOWER_ID = TOWER_KEY.tower_id
TIP = 200


class CoinNode:
    """The part of `ports.Node` that use cases ask: outputs, spenders in the mempool, and its answer to a send."""

    def __init__(self) -> None:
        self.coins: dict[OutPoint, Utxo] = {}
        self.spenders: dict[OutPoint, bytes] = {}
        self.is_down = False
        self.transactions: dict[bytes, bytes] = {}
        self.answer = Answer(BroadcastOutcome.ACCEPTED)
        self.sent: list[bytes] = []
        self.market = Market(1.0, 1.0, 1.0, ((1, 9.0), (6, 4.0), (144, 1.5)))

    def fee_market(self, targets: Sequence[int]) -> Market:
        """The market, with the estimates that were asked for."""
        self._answer()
        known = tuple((target, feerate) for target, feerate in self.market.estimates if target in targets)
        return replace(self.market, estimates=known)

    def utxos(self, outpoints: Sequence[OutPoint], include_mempool: bool) -> list[Utxo | None]:
        """Coins; those with a spender in the mempool only without the mempool."""
        self._answer()
        hidden = set(self.spenders) if include_mempool else set()
        return [None if point in hidden else self.coins.get(point) for point in outpoints]

    def mempool_spenders(self, outpoints: Sequence[OutPoint]) -> dict[OutPoint, bytes]:
        """Known spenders."""
        self._answer()
        return {point: self.spenders[point] for point in outpoints if point in self.spenders}

    def mempool_transaction(self, txid: bytes) -> bytes | None:
        """Bytes of a known transaction."""
        self._answer()
        return self.transactions.get(txid)

    transaction = mempool_transaction

    def broadcast(self, raw: bytes) -> Answer:
        """Notes the bytes and answers as set."""
        self._answer()
        self.sent.append(raw)
        return self.answer

    def broadcast_many(self, raws: Sequence[bytes]) -> tuple[Answer, ...]:
        """One after the other."""
        return tuple(self.broadcast(raw) for raw in raws)

    def test_accept(self, raw: bytes) -> Answer:
        """Answers as set."""
        del raw
        self._answer()
        return self.answer

    def add_spend(self, outpoint: OutPoint, raw: bytes) -> None:
        """A transaction in the mempool that spends an outpoint."""
        txid = Transaction.parse(raw).txid
        self.spenders[outpoint], self.transactions[txid] = txid, raw

    def add_coin(self, outpoint: OutPoint, value: int, spk: bytes, confirmations: int = 6) -> None:
        """An unspent output."""
        self.coins[outpoint] = Utxo(value, spk, confirmations, bytes(32))

    def _answer(self) -> None:
        if self.is_down:
            raise NodeUnavailable("connection refused")


class Bench:
    """One tower's use cases with everything that a test may want to look at or break."""

    def __init__(
        self,
        directory: Path,
        *,
        confirmations: int = 1,
        store: MemoryEventStore | None = None,
        applications: Applications | None = None,
    ) -> None:
        self.store = MemoryEventStore(chain_hash("regtest")) if store is None else store
        self.node = CoinNode()
        self.keystore = MemoryKeystore()
        self.clock = FixedClock()
        self.rows: SqliteRows = new_views_file(directory / "views.db", bytes(16), PROJECTIONS)
        self.projector = Projector(self.store, self.rows, PROJECTIONS)
        self.announced: list[str] = []
        self.may_sign = True
        self.tip = TIP
        self.standing = Standing(operational=True, watching=True, phase="watching", height=TIP, tip_hash=bytes(32))
        policy = ChannelPolicy(ParamsPolicy(chain_hash("regtest")), confirmations, warn_below_challenge_period=144)
        self.context = Context(
            store=self.store,
            node=self.node,  # type: ignore[arg-type]
            keystore=self.keystore,
            clock=self.clock,
            channels=Channels(self.store),
            views=self.rows,
            policy=policy,
            tip_height=lambda: self.tip,
            announce=self._announced,
            may_register=lambda key: self.access.allows(key),
            applications=Applications() if applications is None else applications,
            receipts=ReceiptSigner(TOWER_KEY, LOG_ID, self.store, may_sign=lambda: self.may_sign),
        )
        self.access = AccessFile(directory / "access.json")
        self.gate = Gate(
            sha256(TOKEN.encode()).digest(),
            self.access,
            tower_key=TOWER_ID,
            is_owner=lambda key: bool(self.rows.find(CHANNEL_INFO, "owner_key", key)),
            now=lambda: self.clock.wall_microseconds() / 1e6,
            monotonic=self.clock.monotonic,
        )
        self.limits = Limits()
        self.services: Services = bind(
            self.context, lambda: self.standing, version="1.2.3", network="regtest", tower_id=TOWER_ID
        )

    @property
    def app(self) -> Starlette:
        """The client API."""
        return create_app(self.services, gate=self.gate, limits=self.limits)

    def http(self) -> httpx.AsyncClient:
        """A client of the API in this process, with a valid token."""
        return httpx.AsyncClient(
            transport=self.transport(), base_url="http://tower", headers={"Authorization": f"Bearer {TOKEN}"}
        )

    def transport(self) -> httpx.ASGITransport:
        """For `StateChannelClient(transport=…)`."""
        return httpx.ASGITransport(self.app, raise_app_exceptions=False)

    def fund(self, pair: Pair, confirmations: int = 6) -> None:
        """The pair's funding output exists at the node."""
        self.node.add_coin(
            pair.params.funding_outpoint, pair.params.capacity, funding_output(pair.params).spk, confirmations
        )

    def confirm(self, pair: Pair, height: int = TIP - 5) -> None:
        """The log says that the pair's funding is in a block, as the chain task would write it."""
        stream = self.context.channels.stream_of(pair.params.proposal_id)
        channel = self.context.channels.load(stream)
        block = BlockRef(height, sha256(b"block").digest())
        self.store.append(envelopes(stream, channel.version, funding_confirmed(channel, block, 0)))
        self.catch_up()

    def publish(self, pair: Pair, commitment: Transaction, height: int = TIP - 1) -> None:
        """The log says that a commitment of the counterparty is in a block, as the chain task would write it."""
        stream = self.context.channels.stream_of(pair.params.proposal_id)
        channel = self.context.channels.load(stream)
        block, verdict = BlockRef(height, sha256(b"later block").digest()), classify(channel, commitment, None)
        raw = commitment.serialize()
        spent = spend_confirmed(channel, commitment, raw, verdict, block, Source.BLOCK, 0)
        self.store.append(envelopes(stream, channel.version, spent))
        self.catch_up()

    def registered(self, pair: Pair) -> str:
        """B's tower watches the pair, the funding is confirmed; returns the channel id as text."""
        from domain.units import Side

        self.fund(pair)
        self.services.register(pair.registration(Side.B))
        self.confirm(pair)
        return pair.channel_id.hex()

    def catch_up(self) -> None:
        """Bring the views to the end of the log."""
        for _ in self.projector.catch_up():
            pass

    def _announced(self, stream: str) -> None:
        self.announced.append(stream)
