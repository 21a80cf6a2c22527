"""A small world for chain stories: one node, two parties, and a real tower for one of them, driven pass by pass.

The tower runs in this process without threads: `world.look()` is one pass, so a story is deterministic. Store,
views, keystore and node are the real ones; `world.restart()` closes the tower and opens it again from its files.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

from domain.chain import chain_hash, make_outpoint, outpoint_txid
from domain.channel import Channel
from domain.contract.params import TAPROOT, ParamsPolicy
from domain.events import Payload
from domain.transaction import Transaction
from domain.units import Side
from projections.catalog import PROJECTIONS
from projections.projector import Projector
from tests.support.audited import ruled
from tests.support.parties import Pair, make_party, open_pair, settings_of
from tests.support.towers import TOWER_KEY
from watchtower.channels.accept_state import accept_state
from watchtower.channels.context import ChannelPolicy, Context
from watchtower.channels.register import register
from watchtower.channels.revoke import revoke
from watchtower.continuity.heads import standing_of
from watchtower.descriptors import resolve
from watchtower.devnode.regtest import Funding, RegtestNode
from watchtower.host.system import SystemClock, system_random
from watchtower.keystore import FileKeystore
from watchtower.models import LiveModels
from watchtower.node.rpc import BitcoindNode
from watchtower.outbox import Outbox
from watchtower.ports import Clock, EventStore, Failpoint, Node
from watchtower.receipts.signer import Epochs, ReceiptSigner
from watchtower.repository import Channels
from watchtower.store.create import create_store, open_store
from watchtower.store.event_store import SqliteEventStore
from watchtower.store.rebuild import open_views
from watchtower.tower import Hints, PassReport, Tower, TowerSettings
from watchtower.wire.api import RevocationRequest, UpdateRequest
from watchtower.wire.hexes import Hex33, SecretHex

SWEEP = Hints(full_sweep=True)
PASSPHRASE = b"test passphrase"


def no_failpoint(name: str) -> None:
    """Pass every point."""
    del name


class World:
    """Node, tower and channels of one story. The tower belongs to B unless a channel says otherwise.

    The tower takes both profiles; `profile` is that of the channels that the story opens.
    """

    def __init__(
        self,
        node: RegtestNode,
        directory: Path,
        *,
        node_port: Callable[[BitcoindNode], Node] = lambda adapter: adapter,
        store_port: Callable[[SqliteEventStore], EventStore] = lambda store: store,
        failpoint: Failpoint = no_failpoint,
        views_failpoint: Failpoint = no_failpoint,
        spendable: float = 1.0,
        profile: int = TAPROOT,
        clock: Clock | None = None,
    ) -> None:
        self.node = node
        self.directory = directory
        self._node_port = node_port
        self._store_port = store_port
        self._failpoint = failpoint
        self._views_failpoint = views_failpoint
        self._clock = SystemClock() if clock is None else clock
        self._spendable = spendable
        self._profile = profile
        self._pairs = 0
        self.blocks_per_pass = 2016
        directory.mkdir(parents=True, exist_ok=True)
        create_store(
            directory / "events.db",
            origin="test/tower",
            chain_hash=chain_hash("regtest"),
            log_id=secrets.token_bytes(16),
            stream_key=secrets.token_bytes(32),
            recorded_at=time.time_ns() // 1000,
        )
        FileKeystore.create(directory / "keystore", PASSPHRASE, cost=2).close()
        self._open()
        try:
            self.tower.start()
        except BaseException:
            self.stop()
            raise

    def _open(self) -> None:
        clock = self._clock
        adapter = BitcoindNode(self.node.rpc_url, cookie_path=self.node.cookie_path, rest_url=self.node.rest_url)
        self.port = self._node_port(adapter)
        self.store = open_store(self.directory / "events.db")
        self.keystore = FileKeystore.open(self.directory / "keystore", PASSPHRASE)
        self.rows = open_views(self.directory / "views.db", self.store, failpoint=self._views_failpoint)
        self.log = self._store_port(self.store)
        self.channels = Channels(self.log)
        self.outbox = Outbox()
        self.models = LiveModels(
            Projector(self.log, self.rows, PROJECTIONS), self.rows, self.channels, damaged=self.store.damaged
        )
        self.tower = Tower(
            node=self.port,
            store=self.log,
            models=self.models,
            channels=self.channels,
            keystore=self.keystore,
            clock=clock,
            rng=system_random,
            failpoint=self._failpoint,
            outbox=self.outbox,
            settings=TowerSettings("regtest", spendable=self._spendable, blocks_per_pass=self.blocks_per_pass),
        )
        self.context = Context(
            store=self.log,
            node=self.port,
            keystore=self.keystore,
            clock=clock,
            channels=self.channels,
            views=self.rows,
            policy=ChannelPolicy(
                params=ParamsPolicy(chain_hash("regtest"), max_capacity=10_000_000_000), confirmations=1
            ),
            tip_height=lambda: self.tower.follower.cursor.height,
            outbox=self.outbox,
            failpoint=self._failpoint,
            receipts=ReceiptSigner(
                TOWER_KEY,
                self.store.meta.log_id,
                self.store,
                epoch_at=Epochs(self.store, lambda: standing_of(self.store, self.rows).epoch),
            ),
        )

    # ── the tower ─────────────────────────────────────────────────────────────────────────────────────────

    def look(self, passes: int = 1) -> PassReport:
        """Run passes that ask for everything; returns the last report. A follower error is raised."""
        report = self.tower.run_pass(SWEEP)
        for _ in range(passes - 1):
            report = self.tower.run_pass(SWEEP)
        if report.error is not None:
            raise report.error
        for trouble in report.respond.troubles:
            raise trouble.error
        return report

    def stop(self) -> None:
        """Close the tower's files; nothing is flushed that was not durable already."""
        self.store.close()
        self.rows.close()
        self.keystore.close()

    def wake(self) -> PassReport:
        """After `stop`: open the tower from its files and run the start-up order."""
        self._open()
        return self.tower.start()

    def restart(self) -> PassReport:
        """`stop` and `wake`."""
        self.stop()
        return self.wake()

    def close(self) -> None:
        """End of the story: whatever happened in it, an audit finds nothing wrong with what was recorded."""
        recorded = self.store.read_log(0, 1_000_000)
        self.stop()
        found = ruled(recorded)
        assert [] == found, found

    # ── channels ──────────────────────────────────────────────────────────────────────────────────────────

    def open(
        self,
        *,
        updates: int = 0,
        balances: tuple[int, int] = (500_000, 500_000),
        challenge_period: int = 24,
        owner: Side = Side.B,
        confirm: bool = True,
        static_feerate: int = 2000,
        reserve_sat: int | None = None,
        flags: int = 0,
    ) -> Pair:
        """A channel that the tower watches for `owner`: registered, funded, confirmed, with that many updates."""
        self._pairs += 1
        names = (f"alice{self._pairs}", f"bob{self._pairs}")
        settings = settings_of(self._profile)
        first, second = (make_party(name, settings=settings, resolve=resolve) for name in names)
        pair = open_pair(
            self.fund,
            balances=balances,
            names=names,
            parties=(first, second),
            challenge_period=challenge_period,
            static_feerate=static_feerate,
            reserve_sat=reserve_sat,
            flags=flags,
            profile=self._profile,
        )
        register(self.context, pair.registration(owner))
        self.node.send_raw(pair.funding.raw)
        if confirm:
            self.node.mine(1)
            self.look()
            self.update(pair, updates, owner)
        return pair

    def fund(self, spk: bytes, amount: int) -> Funding:
        """A funding transaction of the node's wallet, not sent."""
        return self.node.fund(spk, amount, broadcast=False)

    def update(self, pair: Pair, count: int, owner: Side = Side.B) -> None:
        """Default updates, each uploaded to the tower with the counterparty's revocation."""
        for _ in range(count):
            self.upload(pair, pair.update(), owner)

    def upload(self, pair: Pair, sequence: int, owner: Side = Side.B) -> None:
        """Give the tower a state that the parties finished."""
        accept_state(self.context, self.stream(pair), pair.update_request(owner, sequence))

    def upload_in_flight(self, pair: Pair, sequence: int, owner: Side = Side.B) -> None:
        """Give the tower a state whose predecessor is not revoked yet: between messages 2 and 4 of an update."""
        complete = pair.update_request(owner, sequence)
        accept_state(self.context, self.stream(pair), UpdateRequest(state=complete.state))

    def reveal(self, pair: Pair, sequence: int, owner: Side = Side.B) -> None:
        """Give the tower the counterparty's secret of a state, late or without the state after it."""
        other = owner.other
        request = RevocationRequest(
            party="A" if other is Side.A else "B",
            sequence=sequence,
            secret=SecretHex(pair.secret(other, sequence)),
            next_point=Hex33(pair.point(other, sequence + 2)),
        )
        revoke(self.context, self.stream(pair), request)

    def release(self, pair: Pair, sequence: int, owner: Side = Side.B) -> None:
        """Tell the tower that its owner released the own secret of a state."""
        revoke(self.context, self.stream(pair), pair.release_request(owner, sequence))

    def stream(self, pair: Pair) -> str:
        """The channel's stream in the tower's log."""
        return self.channels.stream_of(pair.params.proposal_id)

    def channel(self, pair: Pair) -> Channel:
        """The tower's aggregate of a channel, folded from its log."""
        return self.channels.load(self.stream(pair))

    def status(self, pair: Pair) -> str:
        """The channel's status as the tower knows it."""
        return str(self.channel(pair).status)

    def events(self, pair: Pair, kind: type[Payload] | None = None) -> list[Payload]:
        """All events of a channel, or those of one type."""
        payloads = [e.payload for e in self.store.read_stream(self.stream(pair))]
        return payloads if kind is None else [p for p in payloads if isinstance(p, kind)]

    # ── the chain ─────────────────────────────────────────────────────────────────────────────────────────

    def contest(self, pair: Pair, sequence: int, side: Side = Side.A) -> bytes:
        """Contest outpoint of a commitment."""
        return make_outpoint(pair.commitment_txid(side, sequence), 0)

    def mempool_spender(self, outpoint: bytes) -> Transaction | None:
        """The transaction in the mempool that spends an outpoint."""
        txid = self.node.spender(outpoint)
        raw = self.node.transaction(txid) if txid is not None and txid in self.node.mempool() else None
        return None if raw is None else Transaction.parse(raw)

    def height_of(self, txid: bytes) -> int | None:
        """Height of a transaction on the node's active chain."""
        place = self.node.confirmation(txid)
        return None if place is None else place.height

    def penalty_of(self, pair: Pair, sequence: int, side: Side = Side.A) -> Transaction | None:
        """Our penalty of a commitment, in the mempool or on the chain: pays the owner's sweep script."""
        txid = self.node.spender(self.contest(pair, sequence, side))
        raw = self.node.transaction(txid) if txid is not None else None
        if raw is None:
            return None
        tx = Transaction.parse(raw)
        sweep = bytes(pair.registration(side.other).sweep_spk)
        return tx if len(tx.outputs) == 1 and tx.outputs[0].spk == sweep else None


def parent_txid(tx: Transaction) -> bytes:
    """What the first input spends."""
    return outpoint_txid(tx.inputs[0].outpoint)
