"""Fees and mempools that work against the tower, on a real node: M rows of the fault catalogue, and storms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from domain.channel import Channel
from domain.events import AlertCleared, AlertKind, AlertRaised, PenaltyPrepared
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.fuses import Fuse, PowerCut
from tests.regtest.test_scenarios_breach_mempool import alerts, bids, elsewhere, publish
from tests.regtest.world import SWEEP, World
from tests.support.parties import Pair
from tests.support.storms import funded_pairs
from watchtower.channels.register import register
from watchtower.devnode.regtest import RegtestNode
from watchtower.node.rpc import BitcoindNode
from watchtower.ports import Answer

VSIZE, DUST = 111, 330
STALE = 0


@pytest.fixture
def world(node: RegtestNode, tmp_path: Path) -> Iterator[World]:
    """A tower for B."""
    made = World(node, tmp_path / "tower")
    yield made
    made.close()


def mined_breach(world: World, challenge_period: int) -> Pair:
    """A's stale commitment in the tip, answered in the mempool."""
    pair = world.open(updates=2, challenge_period=challenge_period)
    world.node.generate_block([pair.commitment(Side.A, STALE)])
    world.look()
    return pair


def penalty(world: World, pair: Pair) -> Transaction:
    """Ours, in the mempool."""
    found = world.mempool_spender(world.contest(pair, STALE))
    assert found is not None
    return found


def feerate(pair: Pair, tx: Transaction) -> float:
    """sat/vB of a penalty."""
    return (pair.params.contest_value - tx.outputs[0].value) / VSIZE


def deadline(world: World, pair: Pair) -> int:
    """The last height without a competitor."""
    closed_at = world.height_of(pair.commitment_txid(Side.A, STALE))
    assert closed_at is not None
    return closed_at + pair.params.challenge_period - 1


# ── fees ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_fault_M1_an_evicted_penalty_goes_out_again(world: World) -> None:
    """The node comes back without a mempool: the very same bytes are sent in the next pass."""
    pair = mined_breach(world, 24)
    before = penalty(world, pair)
    world.node.restart(["-persistmempool=0"])
    assert set() == world.node.mempool()

    world.look()

    assert before == penalty(world, pair)
    assert 1 == len(bids(world, pair))


def test_fault_M2_the_minimum_rises_above_our_bid(world: World) -> None:
    """The new bid relays at the node's new minimum in the same pass, and leaves room for a little more."""
    pair = mined_breach(world, 144)
    low = feerate(pair, penalty(world, pair))
    world.node.restart(["-persistmempool=0", "-minrelaytxfee=0.0001"])

    world.look()

    assert 10 > low
    assert 11 <= feerate(pair, penalty(world, pair)) < 12


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_fault_M3_a_fee_spike_until_after_the_deadline(world: World, share: float) -> None:
    """Blocks take nothing below that share of the whole value, and never come down: the penalty is mined in time."""
    pair = mined_breach(world, 12)
    asked, last = share * (pair.params.contest_value - DUST) / VSIZE, deadline(world, pair)

    for _ in range(pair.params.challenge_period - 1):
        bid = penalty(world, pair)
        if feerate(pair, bid) >= asked:
            world.node.generate_block([bid.serialize()])
            break
        world.node.generate_block()
        world.look()
    world.look()

    mined = world.penalty_of(pair, STALE)
    assert mined is not None
    assert last >= (world.height_of(mined.txid) or last + 1)
    assert "PUNISHED" == world.status(pair)
    assert sorted(bids(world, pair)) == bids(world, pair)


def test_attack_A5_replacement_cycling(world: World) -> None:
    """The cheater's child takes the penalty's place and leaves, again and again; ours is back each time."""
    pair = world.open(updates=2)
    publish(world, pair, STALE, fee=1_000)
    world.look()

    for _ in range(4):
        fee = 5_000 + 2 * (pair.params.contest_value - penalty(world, pair).outputs[0].value)
        child = Transaction.parse(world.node.anchor_child(pair.commitment_txid(Side.A, STALE), fee=fee))
        world.node.send_raw(child.serialize())
        evicted = world.mempool_spender(world.contest(pair, STALE))
        world.node.send_raw(elsewhere(world.node, child, fee=2 * fee))
        world.look()
        assert evicted is None
        assert [world.channel(pair).sweep_spk] == [out.spk for out in penalty(world, pair).outputs]
    ours = penalty(world, pair)
    world.node.mine(1)
    world.look()

    assert world.node.height() == world.height_of(ours.txid)
    assert "PUNISHED" == world.status(pair)


def test_fault_M9_an_older_bid_is_mined(world: World) -> None:
    """Five bids are in the log; the first one is in a block: that is the answer, and no more is bid."""
    pair = mined_breach(world, 12)
    first = penalty(world, pair)
    while len(bids(world, pair)) < 5:
        world.node.generate_block()
        world.look()

    world.node.generate_block([first.serialize()])
    world.look(2)

    assert "PUNISHED" == world.status(pair)
    assert (5, set()) == (len(bids(world, pair)), world.node.mempool())


def test_fault_M10_a_miner_censors_until_three_blocks_before_the_deadline(world: World) -> None:
    """Bids rise, a person is told after six skipped blocks, the first honest block has the penalty."""
    pair = mined_breach(world, 24)
    last = deadline(world, pair)
    while world.node.height() < last - 3:
        world.node.generate_block()
        world.look()
    told = alerts(world, pair)

    world.node.mine(1)
    world.look()

    assert [(AlertRaised.__name__, AlertKind.PENALTY_SKIPPED)] == told
    assert (AlertCleared.__name__, AlertKind.PENALTY_SKIPPED) == alerts(world, pair)[-1]
    assert "PUNISHED" == world.status(pair)
    fees = bids(world, pair)
    assert fees[-1] >= 0.75 * (pair.params.contest_value - DUST)
    assert sorted(set(fees)) == fees


def test_fault_M11_a_missing_parent_is_sent_with_the_penalty(world: World) -> None:
    """Two blocks go and the mempool forgets all: -25 leads to the package, and both are there again."""
    pair = mined_breach(world, 24)
    commitment = pair.commitment_txid(Side.A, STALE)
    world.node.invalidate(world.node.tip())
    world.node.restart(["-persistmempool=0"])
    world.node.generate_block()
    world.node.generate_block()
    assert set() == world.node.mempool()

    world.look()

    assert {commitment, penalty(world, pair).txid} == world.node.mempool()


# ── storms ───────────────────────────────────────────────────────────────────────────────────────────────


class Recording:
    """The real node; notes what it was asked to broadcast, in order."""

    def __init__(self, adapter: BitcoindNode) -> None:
        self._adapter = adapter
        self.sent: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def broadcast_many(self, raws: Sequence[bytes]) -> tuple[Answer, ...]:
        """As the node."""
        self.sent += raws
        return self._adapter.broadcast_many(raws)


def watch_all(world: World, pairs: Sequence[Pair]) -> None:
    """Registered, funded in the tip, in state 1."""
    for pair in pairs:
        register(world.context, pair.registration(Side.B))
    world.look(2)
    for pair in pairs:
        world.upload(pair, 1)


def storm(world: World, pairs: Sequence[Pair]) -> set[bytes]:
    """Everybody publishes the revoked state in one block; the contest outputs."""
    world.node.generate_block([pair.commitment(Side.A, STALE) for pair in pairs])
    return {world.contest(pair, STALE) for pair in pairs}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_scenario_B25_500_breaches_one_block(node: RegtestNode, tmp_path: Path) -> None:
    """One pass puts five hundred penalties into the mempool, the near deadlines before the far ones."""
    world = World(node, tmp_path / "tower", node_port=Recording)  # type: ignore[arg-type]
    far, near = funded_pairs(node, 250), funded_pairs(node, 250, challenge_period=24, name="near")
    watch_all(world, [*far, *near])
    contests = storm(world, [*far, *near])

    report = world.look()

    assert (500, 500) == (report.respond.sent, report.respond.accepted)
    assert contests == set(world.port.mempool_spenders(sorted(contests)))  # type: ignore[type-var]
    order = [Transaction.parse(raw).inputs[0].outpoint for raw in world.port.sent]  # type: ignore[attr-defined]
    assert {world.contest(pair, STALE) for pair in near} == set(order[:250])
    node.mine(1)
    world.look()
    assert {"PUNISHED"} == {world.status(pair) for pair in [*far, *near]}
    world.close()


def test_fault_C10_the_power_fails_in_the_middle_of_a_storm(node: RegtestNode, tmp_path: Path) -> None:
    """The process dies behind its first group: after the restart every penalty is there, none was bid twice."""
    fuse = Fuse()
    world = World(node, tmp_path / "tower", failpoint=fuse)
    pairs = funded_pairs(node, 70)
    watch_all(world, pairs)
    contests = storm(world, pairs)
    fuse.armed = "broadcast_result_commit:before"
    with pytest.raises(PowerCut):
        world.tower.run_pass(SWEEP)
    held = len(world.port.mempool_spenders(sorted(contests)))  # type: ignore[type-var]

    world.restart()

    assert 64 == held
    assert contests == set(world.port.mempool_spenders(sorted(contests)))  # type: ignore[type-var]
    channels: list[Channel] = [world.channel(pair) for pair in pairs]
    assert {1} == {len(channel.bids) for channel in channels}
    assert {1} == {len(world.events(pair, PenaltyPrepared)) for pair in pairs}
    world.close()
