"""Reorganizations on a real node: what was found in a block is undone with the block, and found again elsewhere."""

from __future__ import annotations

import pytest

from domain.events import (
    BlockDisconnected,
    BreachDetected,
    FundingConfirmed,
    FundingDisconnected,
    PenaltyDisconnected,
    SettleConfirmed,
    SettleDisconnected,
    SettlePrepared,
    SpendConfirmed,
    SpendDisconnected,
    SpendSeen,
)
from domain.fees import Market
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.reorgs import mempool_penalty, mined_penalty, named, present, punished
from tests.regtest.replaying import live_and_replayed
from tests.regtest.world import World


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
