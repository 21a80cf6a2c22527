"""A tower on the model chain, driven pass by pass: as fast as a unit test, with real blocks and a real mempool policy.

world = SmallWorld(undo_limit=5)
world.open()                      # channel 0 of the pool: funded, states 0 to 3 revoked, state 4 the newest
world.cheat(2)                    # the block with a stale commitment
world.look()
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from domain.chain import OutPoint, chain_hash
from domain.channel import Channel
from domain.contract.params import ParamsPolicy
from domain.events import Payload
from domain.transaction import Transaction
from projections.catalog import PROJECTIONS
from projections.projector import Projector
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.rows import MemoryRows
from tests.simulation.chain import ModelChain
from tests.simulation.clock import FakeClock
from tests.simulation.node import ModelNode
from tests.simulation.pool import prepared
from tests.simulation.store import ModelStore
from watchtower.channels.accept_state import accept_state
from watchtower.channels.context import ChannelPolicy, Context
from watchtower.channels.register import register
from watchtower.models import LiveModels
from watchtower.ports import Node
from watchtower.repository import Channels
from watchtower.tower import Hints, PassReport, Tower, TowerSettings

SWEEP = Hints(full_sweep=True)
HISTORY = 110
"""Blocks below the tower's first day."""


class SmallWorld:
    """Chain, node, tower and one channel. `points` are the failpoints that were passed."""

    def __init__(
        self,
        *,
        undo_limit: int = 2016,
        blocks_per_pass: int = 2016,
        wrap: Callable[[ModelNode], Any] = lambda node: node,
    ) -> None:
        self.chain = ModelChain()
        self.chain.mine_many(HISTORY)
        self.node = ModelNode(self.chain)
        self.port: Node = wrap(self.node)
        self.undo_limit, self.blocks_per_pass = undo_limit, blocks_per_pass
        self.points: list[str] = []
        self.store = ModelStore(chain_hash("regtest"))
        self.keystore = MemoryKeystore()
        self.clock = FakeClock()
        self.pool = prepared(0)
        self.stream = self.store.stream_id("c", self.pool.proposal_id)
        self.chain.give_coin(Transaction.parse(self.pool.funding).inputs[0].outpoint, self.pool.coin.value)
        self.restart()

    def restart(self) -> PassReport:
        """A new process on the same log."""
        self.channels = Channels(self.store)
        rows = MemoryRows()
        self.models = LiveModels(Projector(self.store, rows, PROJECTIONS), rows, self.channels)
        self.tower = Tower(
            node=self.port,
            store=self.store,
            models=self.models,
            channels=self.channels,
            keystore=self.keystore,
            clock=self.clock,
            rng=bytes,
            failpoint=self.points.append,
            settings=TowerSettings("regtest", undo_limit=self.undo_limit, blocks_per_pass=self.blocks_per_pass),
        )
        self.context = Context(
            store=self.store,
            node=self.port,
            keystore=self.keystore,
            clock=self.clock,
            channels=self.channels,
            views=rows,
            policy=ChannelPolicy(ParamsPolicy(chain_hash("regtest"), max_capacity=10_000_000_000), confirmations=1),
            tip_height=lambda: self.tower.follower.cursor.height,
        )
        return self.tower.start()

    def look(self) -> PassReport:
        """One pass; the error of the follower is raised."""
        report = self.tower.run_pass(SWEEP)
        if report.error is not None:
            raise report.error
        return report

    def open(self) -> None:
        """Register, fund, confirm, upload all states."""
        register(self.context, self.pool.registration)
        self.chain.mine([self.pool.funding])
        self.look()
        for upload in self.pool.uploads:
            accept_state(self.context, self.stream, upload)
        self.look()

    def cheat(self, sequence: int) -> None:
        """A block with a stale commitment."""
        self.chain.mine([self.pool.commitments[sequence]])

    @property
    def channel(self) -> Channel:
        """What the log says."""
        return self.channels.load(self.stream)

    @property
    def status(self) -> str:
        """The channel's status."""
        return str(self.channel.status)

    @property
    def is_at_tip(self) -> bool:
        """The cursor is the chain's tip, by hash."""
        return self.tower.follower.cursor.hash == self.chain.tip.hash

    def penalty(self, sequence: int) -> Transaction | None:
        """Our answer to a commitment, in the mempool or on the chain."""
        contest = OutPoint(Transaction.parse(self.pool.commitments[sequence]).txid + bytes(4))
        txid = self.chain.spender(contest)
        found = None if txid is None else self.chain.transaction(txid)
        return found if found is not None and found.outputs[0].spk == self.pool.sweep else None

    def events(self, kind: type[Payload], stream: str | None = None) -> list[Any]:
        """Events of the channel, or of another stream, of one type."""
        found = self.store.read_stream(self.stream if stream is None else stream)
        return [event.payload for event in found if isinstance(event.payload, kind)]
