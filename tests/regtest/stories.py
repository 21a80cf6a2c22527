"""Random stories: two channels on a moving chain, a tower that looks now and then and dies now and then.

    story = Story(world, cuts, seed)
    story.play(12)
    story.calm_down()          # blocks until everything that is due has happened

The same seed gives the same choices, so a story that ends badly can be told again.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

from domain.chain import make_outpoint
from domain.units import Side
from tests.regtest.world import World
from tests.support.parties import Pair, htlc
from watchtower.chain.follow import NodeBehind
from watchtower.devnode.regtest import RpcRefused
from watchtower.tower import Hints

CHALLENGE_PERIODS = (4, 8, 12)
CALM_BLOCKS = max(CHALLENGE_PERIODS) + 8


class Cut(BaseException):
    """The power went off here."""


class PowerCuts:
    """A failpoint that dies at the n-th passing of any point, once."""

    def __init__(self) -> None:
        self.left: int | None = None

    def __call__(self, name: str) -> None:
        """Pass, or die."""
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Cut(name)


class Story:
    """Two channels with a few states each; the second one holds HTLCs. `told` lists the moves so far."""

    def __init__(self, world: World, cuts: PowerCuts, seed: int) -> None:
        self.world = world
        self.told: list[str] = []
        self._cuts = cuts
        self._random = random.Random(seed)
        self._coop: bytes | None = None
        self.pairs = self._open_channels()
        self._start = world.node.height()
        self._moves: dict[str, Callable[[], object]] = {
            "block": self._block,
            "mine": lambda: self.world.node.mine(self._random.randint(1, 3)),
            "send": lambda: self.world.node.send_raw(self._spend()),
            "reorg": self._reorg,
            "lose the mempool": lambda: self.world.node.restart(["-persistmempool=0"]),
            "look": self._look,
            "glance": self._look,
            "restart": self.world.restart,
        }
        self._add_moves()

    def _open_channels(self) -> list[Pair]:
        periods = self._random.choices(CHALLENGE_PERIODS, k=2)
        pairs = [self.world.open(updates=self._random.randint(1, 4), challenge_period=t) for t in periods]
        self.world.upload(pairs[1], pairs[1].with_htlcs(htlc(Side.B, 1, 30_000, 5_000)))
        self._coop = pairs[0].close(Side.A)
        return pairs

    def _add_moves(self) -> None:
        """Nothing more; others tell longer stories."""

    def play(self, moves: int) -> None:
        """That many moves; a look follows every second one."""
        for _ in range(moves):
            move = self._random.choice(list(self._moves))
            self.told.append(move)
            with suppress(RpcRefused):  # the choice was not possible at this moment
                self._moves[move]()
            if self._random.random() < 0.5:
                self._look()

    def calm_down(self) -> None:
        """No more mischief: fundings return, then one block and one pass after another."""
        for pair in self.pairs:
            with suppress(RpcRefused):
                self.world.node.send_raw(pair.funding.raw)
        for _ in range(CALM_BLOCKS):
            self.world.node.mine(1)
            with suppress(NodeBehind):  # the story ended while the chain was short
                self.world.look()

    def _spend(self) -> bytes:
        pair = self._random.choice(self.pairs)
        newest = pair.sequence
        honest = [pair.commitment(side, newest) for side in Side]
        joint = [self._coop] if pair is self.pairs[0] and self._coop is not None else []
        stale = pair.commitment(Side.A, self._random.randrange(newest))
        return self._random.choice([stale, stale, stale, *honest, *joint])

    def _block(self) -> None:
        self.world.node.generate_block([self._spend()])

    def _reorg(self) -> None:
        node = self.world.node
        depth = self._random.randint(1, min(self._random.choice([3, 12]), node.height() - self._start + 2))
        node.invalidate(node.hash_at(node.height() - depth + 1))
        if self._random.random() < 0.3:
            self._look()
        for _ in range(depth + self._random.randint(0, 2)):
            blocks: list[Callable[[], object]] = [self._block, self._fund, node.mine, node.generate_block]
            try:
                self._random.choice(blocks)()
            except RpcRefused:
                node.generate_block()

    def _fund(self) -> None:
        self.world.node.generate_block([self._random.choice(self.pairs).funding.raw])

    def _look(self) -> None:
        """A pass that asks for everything or for little; one in seven dies on its way."""
        self._cuts.left = self._random.randint(0, 11) if self._random.random() < 0.15 else None
        touched = frozenset(pair.params.funding_outpoint for pair in self.pairs if self._random.random() < 0.3)
        hints = self._random.choice([Hints(full_sweep=True), Hints(touched=touched)])
        try:
            self.world.tower.run_pass(hints)
        except Cut as cut:
            self.told.append(f"died at {cut}")
            self._cuts.left = None
            self.world.restart()
        self._cuts.left = None


Place = tuple[bytes, bytes]
"""A txid and the hash of its block on the active chain."""


def places_on_chain(world: World, pair: Pair) -> list[Place]:
    """The spend of the funding output and that of the contest output, as far as the node has them in blocks."""
    found: list[Place] = []
    outpoint = pair.params.funding_outpoint
    while len(found) < 2 and (txid := world.node.spender(outpoint)) is not None:
        block = world.node.confirmation(txid)
        if block is None:
            return found
        found.append((txid, block.block_hash))
        outpoint = make_outpoint(txid, 0)
    return found


def places_in_log(world: World, pair: Pair) -> list[Place]:
    """The same, as far as the tower knows."""
    channel = world.channel(pair)
    spend = channel.confirmed_spend
    if spend is None or spend.block is None:
        return []
    end = channel.contest_spend(spend.txid)
    return [(spend.txid, spend.block.hash), *([] if end is None else [(end.txid, end.block.hash)])]


def due_status(world: World, pair: Pair) -> str:
    """What has to be true of a channel when everything that is due has happened."""
    stale = {pair.commitment_txid(Side.A, number) for number in range(pair.sequence)}
    spender = world.node.spender(pair.params.funding_outpoint)
    known = world.channel(pair).spends
    if spender is None:
        # A tower that has the bytes of a stale commitment publishes it again, to punish it.
        return "PUNISHED" if known and known[-1].txid in stale else "ACTIVE"
    return "PUNISHED" if spender in stale else "SETTLED"
