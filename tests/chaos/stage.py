"""Everything that a schedule plays with: two nodes, a proxy between tower and node, the tower, the counterparty.

The tower runs pass by pass in this process. What kills it (`Cut`) discards the object; the next one is opened from
its files.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from domain.chain import make_outpoint
from domain.contract.conditions import Condition
from domain.errors import DomainError
from domain.units import Side
from tests.chaos.ledger import Breach, Ledger, least_remaining
from tests.chaos.miner import Miner
from tests.chaos.pair import NodePair
from tests.chaos.plan import CHALLENGE_PERIOD, ChannelPlan
from tests.regtest.stories import Cut, PowerCuts
from tests.regtest.world import SWEEP, World
from tests.support.parties import STEP_SAT, Pair, htlc
from tests.support.rpc_proxy import RpcProxy
from watchtower.devnode.regtest import RpcRefused
from watchtower.node.rpc import BitcoindNode
from watchtower.ports import NodeError, StoreBroken, StoreError
from watchtower.tower import Hints, PassReport

SAFE = 6
"""Blocks before a deadline in which tower and node must work: the promise."""

CALL_SECONDS, SHORT_CALL_SECONDS = 10.0, 0.25
"""Time limits of the tower's calls: as in production, and while one hangs, so that it costs little."""

DEPTH_BELOW = 13
"""Blocks between the fundings and the first step: the deepest reorg leaves the fundings alone."""

CLEAN_PASSES = 4
HTLC_SAT, HTLC_BLOCKS = 30_000, 40
"""Amount of the HTLC that B offers, and blocks from the start to its expiry: refunds become due in most schedules."""


class SkewedClock:
    """A clock that moves with the passes; its wall time is wrong by `skew` microseconds."""

    def __init__(self) -> None:
        self.skew = 0
        self._seconds = 0.0

    def wall_microseconds(self) -> int:
        """Unix time in microseconds."""
        return 1_700_000_000_000_000 + int(self._seconds * 1e6) + self.skew

    def monotonic(self) -> float:
        """Seconds; moves on with every pass."""
        return self._seconds

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self._seconds += seconds


class Violation(AssertionError):
    """The tower did what it must not do."""


class Stage:
    """One schedule's world. `told` is what happened, in words; `counts` is the same in numbers."""

    def __init__(self, nodes: NodePair, directory: Path, seed: int) -> None:
        self.nodes = nodes
        self.seed = seed
        self.told: list[str] = []
        self.counts: Counter[str] = Counter()
        self.cuts = PowerCuts()
        self.clock = SkewedClock()
        self._patience = CALL_SECONDS
        self.proxy = RpcProxy(nodes.own.rpc_url, seed=seed)
        self.miner = Miner(nodes.network)
        self.pairs: list[Pair] = []
        self.acknowledged: dict[bytes, int] = {}
        self.is_away = False
        self.is_started = True
        self.is_disk_full = False
        self._closes: dict[bytes, bytes] = {}
        self._conditions: dict[bytes, tuple[Condition, ...]] = {}
        self.world = self._make_world(directory)
        self.world_base = nodes.network.height()
        self.ledger = Ledger(nodes.network, self.world_base)

    def _make_world(self, directory: Path) -> World:
        return World(
            self.nodes.network,
            directory / "tower",
            node_port=lambda _adapter: self._adapter(),
            failpoint=self.cuts,
            clock=self.clock,
        )

    def _adapter(self) -> BitcoindNode:
        self._port = BitcoindNode(
            self.proxy.url,
            cookie_path=self.nodes.own.cookie_path,
            rest_url=self.proxy.rest_url,
            seconds=self._patience,
        )
        return self._port

    def be_patient(self, seconds: float) -> None:
        """The time limit of the tower's calls from now on."""
        self._patience = self._port._seconds = seconds

    def close(self) -> None:
        """End the tower and the proxy; the nodes belong to the caller."""
        if not self.is_away:
            self.world.close()
        self.proxy.close()

    def tell(self, text: str) -> None:
        """Add a line to what happened."""
        self.told.append(f"[{self.ledger.height}] {text}")

    # ── channels ──────────────────────────────────────────────────────────────────────────────────────────

    def open_channels(self, plans: Sequence[ChannelPlan]) -> None:
        """Register, fund and update the channels; then blocks until a reorg of 12 leaves the fundings alone."""
        for plan in plans:
            half = plan.capacity // 2
            self.pairs.append(self.world.open(balances=(half, half), challenge_period=CHALLENGE_PERIOD, confirm=False))
        self.nodes.network.mine(1)
        self.nodes.settle()
        self.clean_pass()
        self.world_base = self.nodes.network.height()
        for pair, plan in zip(self.pairs, plans, strict=True):
            self.world.update(pair, plan.updates)
            if plan.htlcs:
                self._conditions[pair.channel_id] = (htlc(Side.B, 1, HTLC_SAT, self.world_base + HTLC_BLOCKS),)
                self.world.upload(pair, pair.with_htlcs(*self._conditions[pair.channel_id]))
            self.acknowledge(pair)
        self.nodes.network.mine(DEPTH_BELOW)
        self.nodes.settle()
        self.clean_pass()

    def acknowledge(self, pair: Pair) -> None:
        """The tower answered that it has the newest state."""
        self.acknowledged[pair.channel_id] = pair.sequence
        self.miner.contests |= {
            make_outpoint(pair.commitment_txid(Side.A, number), 0): pair for number in range(pair.sequence)
        }

    def next_state(self, pair: Pair) -> int:
        """The parties pay once more and keep what is open between them; the new state's number."""
        paying, paid = pair.balances
        return pair.update((paying - STEP_SAT, paid + STEP_SAT), self._conditions.get(pair.channel_id, ()))

    def newest(self, pair: Pair) -> int:
        """The newest state that the tower acknowledged."""
        return self.acknowledged.get(pair.channel_id, 0)

    def stale(self, pair: Pair, rng: random.Random) -> bytes:
        """One of A's revoked commitments."""
        return pair.commitment(Side.A, rng.randrange(self.newest(pair)))

    def joint_close(self, pair: Pair) -> bytes | None:
        """The cooperative close of a channel; None where HTLCs are open."""
        if pair.channel_id not in self._closes:
            with suppress(DomainError):
                self._closes[pair.channel_id] = pair.close(Side.A)
        return self._closes.get(pair.channel_id)

    def is_closing(self, pair: Pair) -> bool:
        """Whether a cooperative close was signed: no more updates then."""
        return pair.channel_id in self._closes

    # ── the truth ─────────────────────────────────────────────────────────────────────────────────────────

    def breaches(self) -> list[Breach]:
        """Stale commitments on the network's chain now."""
        self.ledger.refresh()
        found = (self.ledger.breach_of(pair, self.newest(pair)) for pair in self.pairs)
        return [each for each in found if each is not None]

    def slack(self, blocks: int = 0, fork: int | None = None) -> int:
        """How many blocks more may pass without the tower; below 1 only clean blocks may follow."""
        breaches = self.breaches()
        return least_remaining(breaches, self.ledger.height + blocks, fork) - SAFE

    def cursor_hash(self) -> bytes:
        """Hash of the block where the tower stands; empty while it is away or has not reached its node yet."""
        return b"" if self.is_away or not self.is_started else self.world.tower.follower.cursor.hash

    def said(self) -> list[str]:
        """Everything that was said aloud."""
        return self.told

    def break_bells(self, choice: int) -> None:
        """Nobody rings in this process: passes are ordered."""

    # ── passes ────────────────────────────────────────────────────────────────────────────────────────────

    def look(self, hints: Hints = SWEEP) -> None:
        """One pass amid whatever is broken; what a service survives is survived, what ends it ends the tower."""
        if self.is_away:
            return
        self.clock.forward(1.0)
        self.counts["passes"] += 1
        try:
            report = self._turn(hints)
        except Cut as cut:
            self.died(str(cut))
        except StoreBroken as broken:
            self.died(f"the store: {broken}")
        except (NodeError, StoreError) as error:
            self.counts["failed passes"] += 1
            self.tell(f"pass failed: {type(error).__name__}")
        else:
            for trouble in [report.error, *(each.error for each in report.respond.troubles)]:
                if trouble is not None:
                    self.tell(f"trouble: {type(trouble).__name__}: {str(trouble)[:90]}")
            self.counts["failed passes"] += report.error is not None
            if report.error is None and not self.nodes.up:
                raise Violation("a pass without a node reported no trouble")

    def clean_pass(self) -> None:
        """With nothing broken: passes until nothing is left to do. Any trouble is a violation."""
        for _ in range(CLEAN_PASSES):
            self.clock.forward(1.0)
            self.counts["passes"] += 1
            report = self._turn(SWEEP)
            troubles = [report.error, *(each.error for each in report.respond.troubles)]
            if any(troubles):
                raise Violation(f"trouble although nothing is broken: {[repr(each) for each in troubles if each]}")
            if not report.again:
                return
        raise Violation("the tower asks for another pass again and again")

    def _turn(self, hints: Hints) -> PassReport:
        if self.is_started:
            return self.world.tower.run_pass(hints)
        report = self.world.tower.start()
        self.is_started = True
        return report

    def died(self, reason: str) -> None:
        """The process ended here; the next one starts from the files."""
        self.counts["crashes"] += 1
        self.tell(f"tower died: {reason}")
        self.cuts.left = None
        self.restart_tower()

    def restart_tower(self) -> None:
        """Discard the tower and open it from its files; its first contact may have to wait."""
        self.world.stop()
        self.reopen_tower()

    def reopen_tower(self) -> None:
        """Open the tower from its files."""
        self.is_started = False
        try:
            self.world.wake()
            self.is_started = True
        except (NodeError, StoreError, Cut) as error:
            self.tell(f"first contact failed: {type(error).__name__}")
        if self.is_disk_full:
            self.fill_disk()

    # ── the disk ──────────────────────────────────────────────────────────────────────────────────────────

    def fill_disk(self) -> None:
        """From now on the log cannot grow."""
        self.is_disk_full = True
        with self.world.store._datastore.raw(commit=True) as writer:
            pages = writer.execute("PRAGMA page_count").fetchone()[0]
            writer.execute(f"PRAGMA max_page_count = {pages}")

    def free_disk(self) -> None:
        """There is space again."""
        self.is_disk_full = False
        with self.world.store._datastore.raw(commit=True) as writer:
            writer.execute("PRAGMA max_page_count = 1073741823")

    # ── repair ────────────────────────────────────────────────────────────────────────────────────────────

    def repair(self) -> None:
        """Everything works again: node, connection, proxy, disk, tower; miners take what pays."""
        self.proxy.before_call = None
        self.proxy.heal()
        self.be_patient(CALL_SECONDS)
        self.cuts.left = None
        self.miner.be_fair()
        self.nodes.launch_own()
        self.nodes.link()
        if self.is_away:
            self.is_away = self.is_disk_full = False
            self.reopen_tower()
        if self.is_disk_full:
            self.free_disk()
        self.nodes.settle()

    def mine(self) -> None:
        """One block of the network, known to own if they are connected."""
        self.miner.mine(self.breaches())
        self.counts["blocks"] += 1
        self.nodes.settle()
        self.ledger.refresh()

    def send(self, raw: bytes) -> bool:
        """Put a transaction into the network's mempool; False if it does not fit there."""
        try:
            self.nodes.network.send_raw(raw)
        except RpcRefused:
            return False
        return True
