"""One schedule's world: the model chain, the real tower on ports in memory, and everything that happens to both.

    world = SimWorld(seed=17)
    world.look()                 # one pass of the tower with the faults that are set; None if it ended in an error
    world.clean_pass()           # faults off, node in order: passes until nothing is left to do
    world.mine(1)                # blocks as the miners of the moment make them

A crash throws all objects of the tower away and builds new ones from the store; the views survive at an older
position, or not at all. `build_tower` is the one place where the tower is made: planted bugs replace it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import msgspec
import structlog

from domain.chain import chain_hash
from domain.contract.params import ParamsPolicy
from domain.events import CHAIN_STREAM, Envelope
from projections.catalog import PROJECTIONS
from projections.projector import Projector
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.rows import MemoryRows
from tests.simulation.case import PLAYED, Case, parsed
from tests.simulation.chain import ModelChain
from tests.simulation.clients import Clients
from tests.simulation.clock import BLOCK_SECONDS, FakeClock, fake_random
from tests.simulation.desk import Desk
from tests.simulation.disk import Disk, FileDisk, Log, MemoryDisk
from tests.simulation.faults import CALM, BusyLoop, Crash, Faults
from tests.simulation.judge import Judge, Violation
from tests.simulation.miners import Miners
from tests.simulation.pool import POOL, prepared
from tests.simulation.port import SimNode
from tests.simulation.store import ModelStore
from watchtower.channels.context import ChannelPolicy, Context
from watchtower.models import LiveModels
from watchtower.ports import EventStore, NodeError, StoreBroken, StoreError, WrongChain
from watchtower.repository import Channels
from watchtower.responder.runs import Unserved
from watchtower.responder.signing import BidAboveLimit
from watchtower.store.overflow import OverflowStore
from watchtower.store.views import SqliteRows
from watchtower.tower import Hints, PassReport, Tower, TowerSettings

NETWORK = "regtest"
SWEEP = Hints(full_sweep=True)
PATIENCE = 8
"""Passes that a tower in order may need until it asks for no further one."""

DESK_EVERY = 10
"""One schedule in so many runs its passes as the pass thread does, with the real readiness board."""

OVERFLOW_EVERY = 4
"""One schedule in so many keeps in memory what a full disk does not take, as the service does."""

CAPTURED: list[str] = []
"""Log lines since the last `SimWorld` was made."""


def _capture(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    CAPTURED.append(repr(event))
    raise structlog.DropEvent


def build_tower(world: SimWorld) -> Tower:
    """The real tower on the ports of a world."""
    return Tower(
        node=world.node,
        store=world.log,
        models=world.models,
        channels=world.channels,
        keystore=world.keystore,
        clock=world.clock,
        rng=fake_random,
        failpoint=world.faults.failpoint,
        settings=TowerSettings(NETWORK),
        observe=world.passed,
    )


class Parts(msgspec.Struct, frozen=True):
    """What a planted bug may replace: how the tower is made, and the store."""

    tower: Callable[[SimWorld], Tower] = build_tower
    store: type[ModelStore] = ModelStore


class SimWorld:
    """Everything of one schedule. `bounded` schedules stay within the promise; the others need not.

    With `real_files` log and views are SQLite files.
    """

    def __init__(
        self, seed: int, *, bounded: bool = True, real_files: bool = False, parts: Parts | None = None
    ) -> None:
        structlog.configure(processors=[_capture], cache_logger_on_first_use=False)
        CAPTURED.clear()
        self.has_desk = seed % DESK_EVERY == 0
        self.seed, self.bounded, self.parts = seed, bounded, Parts() if parts is None else parts
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.told: list[str] = []
        self.chain = ModelChain()
        self.clock, self.faults, self.keystore = FakeClock(), Faults(), MemoryKeystore()
        by_stream: dict[str, Case] = {}
        self.has_overflow = seed % OVERFLOW_EVERY == 1
        self.judge = Judge(by_stream, is_full=self.holds_events, height=lambda: self.chain.height)
        self.disk = self._new_disk(real_files)
        self.cases = self._cases()
        by_stream.update({case.stream: case for case in self.cases})
        self.node = SimNode(self.chain, self.faults, self.judge)
        self.miners = Miners(self)
        self.clients = Clients()
        self.report: PassReport | None = None
        self.error: BaseException | None = None
        self.events_in_pass = 0
        self.looked_at = b""
        self.full_until = self.bottom = 0
        self._open()

    @property
    def captured(self) -> list[str]:
        """Log lines and errors so far."""
        return CAPTURED

    @property
    def store(self) -> Log:
        """The event log."""
        return self.disk.store

    @property
    def rows(self) -> MemoryRows | SqliteRows:
        """The views."""
        return self.disk.rows

    def _new_disk(self, real_files: bool) -> Disk:
        hooks = chain_hash(NETWORK), self.faults.failpoint, self._observe
        return FileDisk(*hooks) if real_files else MemoryDisk(self.parts.store(*hooks))

    def _cases(self) -> list[Case]:
        first = self.random.randrange(POOL)
        cases = []
        for number in range(PLAYED):
            channel = prepared((first + number) % POOL)
            self.chain.give_coin(parsed(channel.funding).inputs[0].outpoint, channel.coin.value, channel.coin.spk)
            cases.append(Case(channel, self.store.stream_id("c", channel.proposal_id)))
        return cases

    def _observe(self, event: Envelope) -> None:
        self.events_in_pass += 1
        if event.stream != CHAIN_STREAM:
            self.judge.observe(event)

    # ── the tower ────────────────────────────────────────────────────────────────────────────────────────

    def _open(self) -> None:
        """The objects of a new process, from what is durable."""
        self.started = False
        self.log: EventStore = OverflowStore(self.store) if self.has_overflow else self.store
        self.channels = Channels(self.log)
        self.models = LiveModels(Projector(self.log, self.rows, PROJECTIONS), self.rows, self.channels)
        self.tower = self.parts.tower(self)
        self.desk = Desk(self) if self.has_desk else None
        self.context = Context(
            store=self.log,
            node=self.node,
            keystore=self.keystore,
            clock=self.clock,
            channels=self.channels,
            views=self.rows,
            policy=ChannelPolicy(ParamsPolicy(chain_hash(NETWORK), max_capacity=10_000_000_000), confirmations=1),
            tip_height=lambda: self.tower.follower.cursor.height,
        )

    def passed(self, _report: PassReport) -> None:
        """What the service does after each pass."""
        if isinstance(self.log, OverflowStore):
            self.log.flush()

    def holds_events(self) -> bool:
        """Whether the log takes nothing now, or has not taken all yet."""
        return self.store.full or (isinstance(self.log, OverflowStore) and self.log.held > 0)

    def crash(self) -> None:
        """The process dies and a new one begins. Views may be those of an earlier moment, or gone."""
        self.counts["crashes"] += 1
        views = self.disk.restart(self.faults.random.random())
        if views:
            self.counts[views] += 1
        self._open()

    def guarded(self, work: Callable[[], object]) -> bool:
        """Run something of the tower's process; False if the process died on it."""
        try:
            work()
        except (Crash, StoreBroken) as death:
            self.tell(f"crash at {death}")
            self.crash()
            return False
        return True

    def look(self, hints: Hints = SWEEP) -> PassReport | None:
        """One pass, or the start of the tower; what a supervisor would see of its end is kept in `error`."""
        self.faults.begin_pass()
        # Those that waited in memory for space are written in this pass, and belong to earlier ones.
        self.events_in_pass = -self.log.held if isinstance(self.log, OverflowStore) else 0
        self.report = self.error = None
        self.guarded(lambda: self._pass(hints))
        self._check_for_mistakes()
        return self.report

    def _check_for_mistakes(self) -> None:
        """Whatever fails around it, the program itself makes none; the tower notes them for one channel and goes on."""
        if self.report is None:
            return
        for trouble in self.report.respond.troubles:
            if isinstance(trouble.error, Unserved | BidAboveLimit):
                raise Violation("O7", f"a mistake in the program: {trouble.error}")

    def _pass(self, hints: Hints) -> None:
        try:
            if self.desk is not None:
                self.desk.turn(hints)
                return
            if self.started:
                self.report = self.tower.run_pass(hints)
            else:
                self.report = self.tower.start()
                self.started = True
        except StoreBroken:
            raise
        except (NodeError, WrongChain, StoreError) as error:
            self.error = error
            CAPTURED.append(f"{type(error).__name__} {error}")
        except BusyLoop as error:
            raise Violation("O8", str(error)) from None

    def clean_pass(self, *, blocks: bool = True) -> None:
        """Faults off, node and disk in order, and passes until nothing is left to do.

        Without `blocks` those that cannot be parsed stay so.
        """
        self.faults.off()
        self.node.heal(blocks=blocks)
        self.store.full = False
        for _ in range(PATIENCE):
            report = self.look()
            if report is not None and report.error is None and not report.again and not report.respond.troubles:
                break
            if self.node.is_dark:
                break
        self.looked_at = self.chain.tip.hash

    # ── the chain ────────────────────────────────────────────────────────────────────────────────────────

    def mine(self, count: int = 1) -> None:
        """So many blocks."""
        for _ in range(count):
            self.clock.forward(BLOCK_SECONDS)
            self.miners.mine()
            self.counts["blocks"] += 1

    def tell(self, text: str) -> None:
        """A line of the trace."""
        self.told.append(f"{self.chain.height:4d}  {text}")

    def calm(self) -> bool:
        """Whether no fault is set."""
        return self.faults.rates is CALM
