"""Reorganizations on a real node: what was found in a block is undone with the block, and found again elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from domain.channel import Spend
from domain.events import (
    BlockDisconnected,
    BreachDetected,
    ChannelErased,
    ChannelResolved,
    FundingConfirmed,
    FundingDisconnected,
    Payload,
    PenaltyConfirmed,
    PenaltyDisconnected,
    ResolvedAs,
    SettleConfirmed,
    SettleDisconnected,
    SettlePrepared,
    SoftFinal,
    SpendConfirmed,
    SpendDisconnected,
    SpendKind,
    SpendSeen,
)
from domain.fees import Market
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.replaying import live_and_replayed
from tests.regtest.world import World
from tests.support.parties import Pair
from watchtower.chain.follow import NodeBehind
from watchtower.devnode.regtest import RegtestNode
from watchtower.node.zmq import Bell, BellKind, ZmqDoorbell
from watchtower.tower import Hints


def present(world: World, pair: Pair) -> Spend:
    """The spend of the funding output that counts now."""
    spend = world.channel(pair).present_spend
    assert spend is not None
    return spend


def named(world: World, pair: Pair, *kinds: type[Payload]) -> list[str]:
    """Names of the channel's events of these types, in order."""
    return [type(event).__name__ for event in world.events(pair) if isinstance(event, kinds)]


def mempool_penalty(world: World, pair: Pair, sequence: int) -> Transaction:
    """Our penalty in the mempool; it pays the owner's sweep script."""
    spender = world.mempool_spender(world.contest(pair, sequence))
    assert spender is not None
    assert [output.spk for output in spender.outputs] == [bytes(pair.registration(Side.B).sweep_spk)]
    return spender


def punished(world: World, pair: Pair, sequence: int) -> Transaction:
    """A stale commitment in a block and its penalty in the next one."""
    world.node.generate_block([pair.commitment(Side.A, sequence)])
    world.look()
    world.node.mine(1)
    world.look()
    penalty = world.penalty_of(pair, sequence)
    assert penalty is not None
    assert world.status(pair) == "PUNISHED"
    return penalty


def test_scenario_R01_breach_block_disconnected_commit_returns_to_mempool(world: World) -> None:
    """Commitment, cheater's child and penalty return together, and the penalty can still be raised."""
    pair = world.open(updates=4)
    commit = pair.commitment(Side.A, 2)
    child = world.node.anchor_child(Transaction.parse(commit).txid, fee=3_000)
    world.node.generate_block([commit, child])
    world.look()
    first = mempool_penalty(world, pair, 2)
    world.node.reorg(1)
    assert world.node.mempool() == {Transaction.parse(commit).txid, Transaction.parse(child).txid, first.txid}
    world.look()
    assert present(world, pair).in_mempool

    dear = Market(1.0, 1.0, 1.0, ((1, 40.0), (2, 40.0), (3, 40.0), (6, 40.0)))
    world.port.fee_market = lambda targets: dear  # type: ignore[method-assign]
    world.look()

    raised = mempool_penalty(world, pair, 2)
    assert raised.outputs[0].value < first.outputs[0].value
    assert first.txid not in world.node.mempool()
    world.node.mine(1)
    world.look()
    assert world.status(pair) == "PUNISHED"


def test_scenario_R02_breach_and_penalty_both_disconnected(world: World) -> None:
    """Both return to the mempool: PUNISHED becomes UNILATERAL without a block, and PUNISHED again when mined."""
    pair = world.open(updates=4)
    penalty = punished(world, pair, 2)

    world.node.reorg(2)
    world.look()

    assert world.status(pair) == "UNILATERAL"
    assert (True, None) == (present(world, pair).in_mempool, present(world, pair).block)
    undone = named(world, pair, PenaltyDisconnected, SpendDisconnected, SpendSeen)
    assert undone == ["PenaltyDisconnected", "SpendDisconnected", "SpendSeen"]
    assert mempool_penalty(world, pair, 2).txid == penalty.txid
    world.node.mine(1)
    world.look()
    assert world.status(pair) == "PUNISHED"
    assert world.height_of(penalty.txid) == world.node.height()


def test_scenario_R03_reorg_then_different_stale_state(world: World) -> None:
    """State 5 is punished, a reorg brings state 9 instead: the penalty for 9 confirms, that for 5 is forgotten."""
    pair = world.open(updates=11)
    old = punished(world, pair, 5)

    world.node.reorg(2, [[pair.commitment(Side.A, 9)], [], []])
    world.look()
    world.node.mine(1)
    world.look()

    penalty = world.penalty_of(pair, 9)
    assert penalty is not None
    assert world.height_of(penalty.txid) == world.node.height()
    assert world.height_of(old.txid) is None
    assert world.status(pair) == "PUNISHED"
    end = world.channel(pair).contest_spends
    assert [(pair.commitment_txid(Side.A, 9), penalty.txid)] == [(e.commit_txid, e.txid) for e in end]


def test_scenario_R03_with_a_restart_before_every_pass(world: World) -> None:
    """The same story ends the same way when the tower starts anew at each step."""
    pair = world.open(updates=7)
    punished(world, pair, 3)

    world.node.reorg(2, [[pair.commitment(Side.A, 5)], [], []])
    world.restart()
    world.restart()
    world.node.mine(1)
    world.restart()

    assert world.status(pair) == "PUNISHED"
    assert world.height_of(mined_penalty(world, pair, 5).txid) == world.node.height()


def mined_penalty(world: World, pair: Pair, sequence: int) -> Transaction:
    """Our penalty on the chain."""
    penalty = world.penalty_of(pair, sequence)
    assert penalty is not None
    return penalty


def test_scenario_R04_reorg_then_honest_close(world: World) -> None:
    """The newest state replaces a stale one in a reorg: no penalty is sent, the close is settled after T."""
    pair = world.open(updates=4, challenge_period=10)
    world.node.generate_block([pair.commitment(Side.A, 2)])
    world.look()

    world.node.reorg(1, [[pair.commitment(Side.A, 4)], []])
    closed_at = world.node.height() - 1
    world.look()
    sent = world.node.mempool()
    world.node.mine(8)
    world.look()
    world.node.mine(1)
    world.look()

    assert sent == set()
    settled = world.node.spender(world.contest(pair, 4))
    assert settled == Transaction.parse(pair.settlement(Side.A, 4)).txid
    assert world.height_of(settled) == closed_at + 10
    assert world.status(pair) == "SETTLED"


def test_scenario_R05_reorg_changes_h_c(world: World) -> None:
    """The commitment is mined again two blocks later: deadline and first block of the settlement move with it."""
    pair = world.open(updates=4, challenge_period=10)
    close = pair.commitment(Side.A, 4)
    world.node.generate_block([close])
    closed_at = world.node.height()
    world.node.mine(9)
    world.look()
    first = world.events(pair, SettlePrepared)[-1]

    world.node.reorg(10, [[], [], [close], *[[]] * 8])
    world.look()
    early = world.node.mempool()
    world.node.mine(1)
    world.look()
    world.node.mine(1)
    world.look()

    assert early == set()
    second = world.events(pair, SettlePrepared)[-1]
    assert isinstance(first, SettlePrepared)
    assert isinstance(second, SettlePrepared)
    assert (closed_at + 10, closed_at + 12) == (first.valid_from, second.valid_from)
    assert world.height_of(second.txid) == closed_at + 12
    assert world.status(pair) == "SETTLED"


def test_scenario_R05_breach_mined_again_later_has_a_later_deadline(world: World) -> None:
    """`BreachDetected` of the new block carries the new deadline, and the bid is not lowered."""
    pair = world.open(updates=4, challenge_period=20)
    breach = pair.commitment(Side.A, 1)
    world.node.generate_block([breach])
    world.look()
    before = mempool_penalty(world, pair, 1)

    world.node.reorg(1, [[], [], [breach]])
    world.look()

    last = world.events(pair, BreachDetected)[-1]
    assert isinstance(last, BreachDetected)
    assert last.deadline == world.node.height() + 20 - 1
    assert mempool_penalty(world, pair, 1).outputs[0].value <= before.outputs[0].value


def test_scenario_R06_reorg_deeper_than_T_window_part(world: World) -> None:
    """A reorg makes the confirmed settlement invalid again; the channel is UNILATERAL until it confirms anew."""
    pair = world.open(updates=3, challenge_period=5)
    close = pair.commitment(Side.A, 3)
    world.node.generate_block([close])
    world.node.mine(4)
    world.look()
    world.node.mine(1)
    world.look()
    assert world.status(pair) == "SETTLED"

    world.node.reorg(6, [[], [], [], [], [], [close], []])
    world.look()
    reopened, waiting = world.status(pair), world.node.mempool()
    world.node.mine(3)
    world.look()
    world.node.mine(1)
    world.look()

    assert ("UNILATERAL", set()) == (reopened, waiting)
    assert world.status(pair) == "SETTLED"
    names = named(world, pair, SettleConfirmed, SettleDisconnected, SpendConfirmed, SpendDisconnected)
    assert names == [
        "SpendConfirmed",
        "SettleConfirmed",
        "SettleDisconnected",
        "SpendDisconnected",
        "SpendConfirmed",
        "SettleConfirmed",
    ]


@pytest.mark.parametrize("together", [True, False])
def test_scenario_R07_reorg_funding_and_close_same_blocks(world: World, together: bool) -> None:
    """Funding and close leave newest first and return oldest first, in one block or in two."""
    pair = world.open(updates=3)
    close = pair.commitment(Side.A, 3)
    world.node.generate_block([close])
    world.look()

    branch = [[pair.funding.raw, close], [], []] if together else [[], [pair.funding.raw], [close]]
    world.node.reorg(2, branch)
    world.look()

    names = named(world, pair, FundingConfirmed, FundingDisconnected, SpendConfirmed, SpendDisconnected)
    down, up = ["SpendDisconnected", "FundingDisconnected"], ["FundingConfirmed", "SpendConfirmed"]
    assert names == up + down + up
    assert world.status(pair) == "UNILATERAL"
    block = present(world, pair).block
    assert block is not None
    assert block.hash == world.node.hash_at(block.height)


def test_scenario_R07_funding_breach_and_penalty_meet_in_one_block(world: World) -> None:
    """After a reorg funding, stale commitment and penalty share a block: one batch ends in PUNISHED."""
    pair = world.open(updates=3)
    penalty = punished(world, pair, 1)

    world.node.reorg(3, [[], [], [pair.funding.raw, pair.commitment(Side.A, 1), penalty.serialize()], []])
    world.look()

    assert world.status(pair) == "PUNISHED"
    assert world.node.mempool() == set()
    assert live_and_replayed(world)[0] == live_and_replayed(world)[1]


def test_scenario_R08_reorg_while_tower_down(world: World) -> None:
    """The stored tip is not on the chain any more: the start rewinds to the fork point and replays."""
    pair = world.open(updates=4)
    world.node.generate_block([pair.commitment(Side.A, 2)])
    world.node.mine(3)
    world.look()
    fork = world.node.height() - 4

    world.node.reorg(4, [[pair.commitment(Side.A, 3)], *[[]] * 5])
    world.restart()

    assert world.tower.follower.cursor.hash == world.node.tip()
    steps = [e.payload for e in world.store.read_stream("chain")]
    undone = [s for s in steps if isinstance(s, BlockDisconnected)]
    assert [fork + 4, fork + 3, fork + 2, fork + 1] == [step.block.height for step in undone]
    assert mempool_penalty(world, pair, 3).txid in world.node.mempool()


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
    """All frames that the node publishes during a story, in order."""
    bell: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
    with bell:
        bell.setsockopt(zmq.SUBSCRIBE, b"")
        bell.connect(node.zmq_endpoint)
        while not bell.poll(100):  # a subscription reaches the node some time after `connect`
            node.mine(1)
        story()
        frames = []
        while bell.poll(300):
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
