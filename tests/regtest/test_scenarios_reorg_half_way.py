"""Reorganizations half-way: power cuts, soft finality, and what a bell says before the chain does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from domain.events import (
    BreachDetected,
    ChannelErased,
    ChannelResolved,
    PenaltyConfirmed,
    ResolvedAs,
    SoftFinal,
    SpendConfirmed,
    SpendKind,
    SpendSeen,
)
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.reorgs import mempool_penalty, mined_penalty, named, present, punished
from tests.regtest.replaying import live_and_replayed
from tests.regtest.world import World
from watchtower.chain.follow import NodeBehind
from watchtower.devnode.regtest import RegtestNode
from watchtower.node.zmq import Bell, BellKind, ZmqDoorbell
from watchtower.tower import Hints


class Cut(BaseException):
    """The power went off here."""


class PowerCut:
    """A failpoint that dies at the n-th passing of one point, once."""

    def __init__(self) -> None:
        self.point, self.left = "", 0

    def at(self, point: str, passing: int) -> None:
        """Arm it."""
        self.point, self.left = point, passing

    def __call__(self, name: str) -> None:
        """Pass, or die."""
        if name == self.point:
            self.left -= 1
            if self.left == 0:
                raise Cut(name)


@pytest.mark.parametrize(
    ("point", "passing"),
    [
        ("disconnect:before", 1),
        ("disconnect:after", 1),
        ("disconnect:after", 3),
        ("block_fetch:after", 1),
        ("connect:before", 2),
        ("connect:after", 2),
        ("prepare_commit:after", 1),
        ("broadcast:before", 1),
        ("broadcast_result_commit:before", 1),
    ],
)
def test_scenario_R08_power_cut_within_a_reorg(node: RegtestNode, tmp_path: Path, point: str, passing: int) -> None:
    """Wherever the process dies inside a three-block reorg, the next start goes on from there to the same end."""
    cut = PowerCut()
    world = World(node, tmp_path / "tower", failpoint=cut)
    pair = world.open(updates=5)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.node.mine(2)
    world.look()
    world.node.reorg(3, [[pair.commitment(Side.A, 3)], [], [], []])

    cut.at(point, passing)
    with pytest.raises(Cut):
        world.look()
    world.restart()
    world.node.mine(1)
    world.look()

    assert world.status(pair) == "PUNISHED"
    assert world.height_of(mined_penalty(world, pair, 3).txid) == world.node.height()
    assert live_and_replayed(world)[0] == live_and_replayed(world)[1]
    world.close()


def test_scenario_R09_penalty_conf_5_then_reorg_6(world: World) -> None:
    """Nothing is announced at five confirmations; after the reorg six new ones are needed, and 100 to resolve."""
    pair = world.open(updates=3)
    punished(world, pair, 1)
    world.node.mine(4)
    world.look()
    at_five = world.events(pair, SoftFinal)

    world.node.reorg(6)  # the stale commitment and its penalty return to the mempool
    world.look()
    reopened = world.status(pair)
    world.node.mine(5)
    world.look()
    at_five_again = world.events(pair, SoftFinal)
    world.node.mine(1)
    world.look()

    assert ([], "UNILATERAL", []) == (at_five, reopened, at_five_again)
    assert len(world.events(pair, SoftFinal)) == 1
    world.node.mine(93)
    world.look()
    assert world.status(pair) == "PUNISHED"
    assert world.keystore.get(pair.params.proposal_id) is not None
    world.node.mine(1)
    world.look()
    resolved = world.events(pair, ChannelResolved)
    assert [ResolvedAs.PUNISHED] == [event.outcome for event in resolved if isinstance(event, ChannelResolved)]
    assert world.status(pair) == "RESOLVED"
    assert (1, None) == (len(world.events(pair, ChannelErased)), world.keystore.get(pair.params.proposal_id))


def test_scenario_R09_soft_final_is_taken_back_and_announced_again(world: World) -> None:
    """A penalty that was six deep and leaves the chain is soft-final only after six confirmations of its new block."""
    pair = world.open(updates=3)
    penalty = punished(world, pair, 1)
    world.node.mine(5)
    world.look()
    assert world.channel(pair).soft_final == penalty.txid

    world.node.reorg(6, [[], [penalty.serialize()], *[[]] * 5])
    world.look()
    at_six = world.channel(pair).soft_final
    world.node.reorg(1)
    world.look()

    assert at_six == penalty.txid
    assert len(world.events(pair, SoftFinal)) == 2
    assert live_and_replayed(world)[0] == live_and_replayed(world)[1]


def heard(node: RegtestNode, story: Callable[[], None]) -> list[list[bytes]]:
    """All frames that the node publishes up to the last block of a story, in order."""
    bell: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
    with bell:
        bell.setsockopt(zmq.SUBSCRIBE, b"")
        bell.connect(node.zmq_endpoint)
        while not bell.poll(100):  # a subscription reaches the node some time after `connect`
            node.mine(1)
        bell.setsockopt(zmq.RCVTIMEO, 30_000)
        story()
        last = [b"hashblock", node.tip()[::-1]]  # the last that is said of a block
        frames: list[list[bytes]] = []
        while not frames or frames[-1][:2] != last:
            frames.append(bell.recv_multipart())
        return frames


def turns(world: World, frames: list[list[bytes]]) -> list[Hints]:
    """What each frame tells a pass, as the door-bell reads it."""
    bells: list[Bell] = []
    doorbell = ZmqDoorbell(
        {"sequence": "tcp://127.0.0.1:1", "rawtx": "tcp://127.0.0.1:1"}, bells.append, world.tower.is_watched
    )
    for frame in frames:
        doorbell.take(frame)
    return [_hints(bell) for bell in bells]


def _hints(bell: Bell) -> Hints:
    captured = {} if bell.txid is None else {bytes(bell.txid): bell.raw}
    return Hints(frozenset(bell.touched), captured if bell.kind is BellKind.TOUCHED else {})


def test_scenario_R11_disconnect_rawtx_before_D(world: World) -> None:
    """`rawtx` of a disconnected block proves nothing: no spend is recorded that is neither in mempool nor chain."""
    pair = world.open(updates=4)
    breach, close = pair.commitment(Side.A, 2), pair.close(Side.A)

    def story() -> None:
        world.node.generate_block([breach])
        world.node.reorg(1, [[close], []])

    hints = turns(world, heard(world.node, story))
    stale = [hint for hint in hints if hint.captured.keys() & {Transaction.parse(breach).txid}]
    assert len(stale) >= 2  # from its block, and again when the block left the chain

    for hint in (*hints, *stale):
        world.tower.run_pass(hint)

    assert ["SpendConfirmed"] == named(world, pair, SpendSeen, SpendConfirmed, BreachDetected)
    assert present(world, pair).kind is SpendKind.COOP
    assert world.status(pair) == "SETTLED"
    assert world.node.mempool() == set()


def test_scenario_R11_pass_while_the_block_is_gone_and_no_new_one_came(world: World) -> None:
    """Between D and the next block the node has less work: the tower undoes nothing and keeps its penalty ready."""
    pair = world.open(updates=4)
    breach = pair.commitment(Side.A, 2)
    world.node.generate_block([breach])
    world.look()
    confirmed = present(world, pair)

    world.node.invalidate(world.node.tip())
    hints = Hints(frozenset({pair.params.funding_outpoint}), {Transaction.parse(breach).txid: breach})
    report = world.tower.run_pass(hints)

    assert isinstance(report.error, NodeBehind)
    assert confirmed == present(world, pair)
    assert world.mempool_spender(world.contest(pair, 2)) is not None


def test_scenario_R12_same_tx_in_both_branches(world: World) -> None:
    """The same commitment and penalty in both branches are recorded once per block, and the views agree."""
    pair = world.open(updates=4)
    penalty = punished(world, pair, 2)

    world.node.reorg(2, [[pair.commitment(Side.A, 2)], [penalty.serialize()], []])
    world.look(passes=3)

    assert ["SpendConfirmed"] * 2 == named(world, pair, SpendConfirmed)
    assert ["PenaltyConfirmed"] * 2 == named(world, pair, PenaltyConfirmed)
    assert [penalty.txid] == [end.txid for end in world.channel(pair).contest_spends]
    assert world.status(pair) == "PUNISHED"
    live, replayed = live_and_replayed(world)
    assert live == replayed


def test_scenario_R12_chain_flips_to_and_fro(world: World) -> None:
    """Two branches of equal length take turns; after every flip the tower agrees with the node."""
    pair = world.open(updates=6)
    first = world.node.generate_block([pair.commitment(Side.A, 2)])
    world.look()
    (second,) = world.node.reorg(1, [[pair.commitment(Side.A, 4)]])
    world.look()

    seen = []
    for shown, hidden in [(first, second), (second, first)] * 4:
        world.node.reconsider(shown)
        world.node.invalidate(hidden)
        world.look()
        seen.append(present(world, pair).sequence)

    assert [2, 4] * 4 == seen
    assert world.tower.follower.cursor.hash == second
    mempool_penalty(world, pair, 4)
    assert live_and_replayed(world)[0] == live_and_replayed(world)[1]


def test_reorg_below_the_first_block_of_a_new_tower(node: RegtestNode, tmp_path: Path) -> None:
    """A tower that was started a moment ago follows a reorg of blocks from before its time."""
    node.mine(5)
    world = World(node, tmp_path / "tower")
    pair = world.open(updates=2)

    node.reorg(4, [[], [pair.funding.raw], [pair.commitment(Side.A, 0)], [], []])
    world.look()

    assert world.tower.follower.cursor.hash == node.tip()
    mempool_penalty(world, pair, 0)
    world.close()
