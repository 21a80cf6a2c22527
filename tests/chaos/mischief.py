"""What the counterparty does: publishes what it must not, where the tower sees it late, or closes honestly."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

from domain.units import Side
from tests.chaos.ledger import named
from tests.chaos.stage import Stage
from tests.support.parties import Pair
from watchtower.devnode.regtest import RpcRefused

Act = Callable[[Stage, random.Random], None]


def _open_pair(stage: Stage, rng: random.Random) -> Pair | None:
    """A channel whose funding output no block spends."""
    stage.ledger.refresh()
    free = [pair for pair in stage.pairs if stage.ledger.spender(pair.params.funding_outpoint) is None]
    return rng.choice(free) if free else None


def _published(stage: Stage, pair: Pair, how: str) -> None:
    stage.counts["breaches"] += 1
    stage.tell(f"breach of {named(pair.channel_id)} {how}")


def block_breach(stage: Stage, rng: random.Random) -> None:
    """A stale commitment is in a block before anybody saw it."""
    pair = _open_pair(stage, rng)
    if pair is None or stage.slack(1) <= 0:
        return
    with suppress(RpcRefused):
        stage.nodes.network.generate_block([stage.stale(pair, rng)])
        _published(stage, pair, "in a block")
        stage.nodes.settle()


def mempool_breach(stage: Stage, rng: random.Random) -> None:
    """A stale commitment waits in everybody's mempool."""
    pair = _open_pair(stage, rng)
    if pair is not None and stage.send(stage.stale(pair, rng)):
        stage.miner.holds_commitments = rng.random() < 0.5
        _published(stage, pair, "in the mempool")
        stage.nodes.settle()


def hidden_breach(stage: Stage, rng: random.Random) -> None:
    """The tower's node has one stale commitment in its mempool, the next block holds another one."""
    pair = _open_pair(stage, rng)
    if pair is None or not stage.nodes.up or stage.slack(1) <= 0:
        return
    with suppress(RpcRefused):
        stage.nodes.own.send_raw(stage.stale(pair, rng))
        stage.look()
        stage.nodes.network.generate_block([stage.stale(pair, rng)])
        _published(stage, pair, "in a block, another one in the mempool")
        stage.nodes.settle()


def package_breach(stage: Stage, rng: random.Random) -> None:
    """A stale commitment with a child that pays well and keeps the only place for descendants."""
    pair = _open_pair(stage, rng)
    if pair is None:
        return
    number = rng.randrange(stage.newest(pair))
    stale, network = pair.commitment(Side.A, number), stage.nodes.network
    child = network.anchor_child(pair.commitment_txid(Side.A, number), fee=rng.choice([2_000, 10_000, 60_000]))
    with suppress(ValueError, RpcRefused):
        network.submit_package([stale, child])
        stage.miner.holds_commitments = rng.random() < 0.5
        _published(stage, pair, "as a package")
        stage.nodes.settle()


def swap_in_mempool(stage: Stage, rng: random.Random) -> None:
    """One stale commitment replaces another one in the mempool, as a package that pays more."""
    pair = _open_pair(stage, rng)
    if pair is None or not stage.send(stage.stale(pair, rng)):
        return
    _published(stage, pair, "in the mempool, to be swapped")
    stage.nodes.settle()
    stage.look()
    stage.nodes.settle()
    number = rng.randrange(stage.newest(pair))
    network = stage.nodes.network
    child = network.anchor_child(pair.commitment_txid(Side.A, number), fee=100_000)
    with suppress(ValueError, RpcRefused):
        network.submit_package([pair.commitment(Side.A, number), child])
        stage.counts["swaps"] += 1
        stage.tell(f"swapped for state {number}")
        stage.nodes.settle()


def honest_close(stage: Stage, rng: random.Random) -> None:
    """The newest commitment of a side, or the cooperative close, in the mempool or straight in a block."""
    pair = _open_pair(stage, rng)
    if pair is None:
        return
    raw = stage.joint_close(pair) if rng.random() < 0.5 else pair.commitment(Side.A, stage.newest(pair))
    if raw is not None and pair.sequence == stage.newest(pair) and stage.send(raw):
        stage.counts["honest closes"] += 1
        stage.tell(f"honest close of {named(pair.channel_id)}")
        stage.nodes.settle()


ACTS: dict[str, Act] = {
    act.__name__: act
    for act in (block_breach, mempool_breach, hidden_breach, package_breach, swap_in_mempool, honest_close)
}
