"""HTLCs of stale states, in reorganizations, after power cuts, without taproot, and the last claim of a channel."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.contract.params import SEGWIT
from domain.events import (
    AlertKind,
    ClaimBroadcast,
    ClaimDisconnected,
    ClaimPrepared,
    PreimageLearned,
    SettleConfirmed,
)
from domain.units import Side
from tests.regtest.conditions import (
    T,
    assert_replays,
    claim_of,
    close,
    events,
    give,
    holding,
    incoming,
    mine,
    mine_to,
    outgoing,
    place,
    settle,
    taken,
)
from tests.regtest.conftest import MakeWorld
from tests.regtest.fuses import Fuse, PowerCut
from tests.regtest.world import World
from tests.support.parties import preimage_of
from watchtower.devnode.regtest import RegtestNode


def test_scenario_B20_settle_confirmed_stale(world: World) -> None:
    """The tower slept through the window. LOST, and the HTLCs of the stale state are still claimed and refunded."""
    height = world.node.height()
    into, out = incoming(1, height + 300), outgoing(2, height + 30)
    pair = holding(world, into, out)
    give(world, pair, preimage_of(1))
    for _ in range(3):
        world.upload(pair, pair.update((500_000, 500_000)))
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.node.mine(T - 1)
    world.node.generate_block([pair.settlement(Side.A, 1)])
    world.look()
    lost, alerts = world.status(pair), world.channel(pair).alerts
    mine(world)
    mine_to(world, height + 30)
    mine(world)

    assert "LOST" == lost
    assert {AlertKind.FUNDS_LOST, AlertKind.OUTPUT_CLAIMED_BY_COUNTERPARTY} == alerts
    assert [(30_000, True), (40_000, True)] == taken(world, pair)
    assert [True] == [event.revoked for event in events(world, pair, SettleConfirmed)]
    assert_replays(world)


def test_scenario_B20_stale_settlement_and_claim_in_one_block(world: World) -> None:
    """The counterparty takes its HTLC of the stale state together with the settlement: who took it is known."""
    height = world.node.height()
    out = outgoing(2, height + 300)
    pair = holding(world, out)
    claim = pair.a.claim_success(pair.channel_id, 1, Side.A, out.key, preimage_of(2), 500)
    for _ in range(3):
        world.upload(pair, pair.update((500_000, 500_000)))
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.node.mine(T - 1)
    world.node.generate_block([pair.settlement(Side.A, 1), claim])
    world.look()

    assert "LOST" == world.status(pair)
    assert [(40_000, False)] == taken(world, pair)
    assert [preimage_of(2)] == [event.preimage for event in events(world, pair, PreimageLearned)]


@pytest.mark.slow
def test_scenario_B22_two_hundred_htlcs_in_the_stale_state(world: World) -> None:
    """200 HTLCs in the stale state: one penalty of 111 vB takes every conditional amount."""
    height = world.node.height()
    heavy = [incoming(n, height + 300, amount=2_000) for n in range(1, 101)]
    heavy += [outgoing(n, height + 300, amount=2_000) for n in range(101, 201)]
    pair = holding(world, *heavy)
    world.upload(pair, pair.update((500_000, 500_000)))
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    penalty = world.penalty_of(pair, 1)
    mine(world)

    assert penalty is not None
    assert (111, 3) == (penalty.vsize, penalty.version)
    bid = world.channel(pair).bids[-1]
    assert pair.params.contest_value - bid.fee == penalty.outputs[0].value
    assert "PUNISHED" == world.status(pair)
    assert [] == world.events(pair, ClaimPrepared)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_claim_survives_a_reorganization(world: World, depth: int) -> None:
    """The block with the claim, or the one with the settlement too, leaves the chain: all of it is mined again."""
    condition = incoming(1, world.node.height() + 200)
    pair = holding(world, condition)
    settle(world, pair)
    give(world, pair, preimage_of(1))
    world.look()
    mine(world)
    before = taken(world, pair)
    world.node.reorg(depth, [[]] * (depth + 1))
    world.look()
    undone = len(events(world, pair, ClaimDisconnected))
    mine(world, 2)

    assert [(30_000, True)] == before
    assert 1 == undone
    assert 1 == len(world.channel(pair).claim_ends)
    assert 1 == len(events(world, pair, ClaimPrepared))
    assert "SETTLED" == world.status(pair)
    assert_replays(world)


def test_claims_of_the_other_commitment_after_a_reorganization(world: World) -> None:
    """B's commitment wins the second time: its settlement has other outputs, and the claim is made for those."""
    condition = incoming(1, world.node.height() + 200)
    pair = holding(world, condition)
    settle(world, pair)
    give(world, pair, preimage_of(1))
    world.look()
    mine(world)
    world.node.reorg(T + 2, [[pair.commitment(Side.B, 1)], *([[]] * (T + 2))])
    world.look()
    mine(world, 2)

    assert world.mempool_spender(place(pair, condition, Side.B)) is None
    assert [True] == [end.ours for end in world.channel(pair).claim_ends]
    assert {place(pair, condition, Side.B)[:32]} == {end.settle_txid for end in world.channel(pair).claim_ends}
    assert_replays(world)


@pytest.mark.parametrize(
    "point",
    [
        "claim_commit:before",
        "claim_commit:after",
        "broadcast:before",
        "broadcast:after",
        "claim_result_commit:before",
        "claim_result_commit:after",
    ],
)
def test_a_power_cut_at_any_step_of_a_claim(make_world: MakeWorld, point: str) -> None:
    """What was durable before the cut goes out again with the same bytes; one claim, one acceptance."""
    fuse = Fuse()
    world = make_world(failpoint=fuse)
    condition = incoming(1, world.node.height() + 200)
    pair = holding(world, condition)
    settle(world, pair)
    give(world, pair, preimage_of(1))
    fuse.armed = point
    with pytest.raises(PowerCut):
        world.look()
    world.restart()
    world.look()
    claim = claim_of(world, pair, condition)

    assert claim is not None
    assert [claim.txid] == [event.txid for event in events(world, pair, ClaimPrepared)]
    assert [claim.txid] == [event.txid for event in events(world, pair, ClaimBroadcast)]
    mine(world)
    assert [(30_000, True)] == taken(world, pair)
    assert_replays(world)


def test_an_evicted_claim_is_sent_again(world: World) -> None:
    """The mempool forgot it; the next pass sends the same bytes."""
    condition = incoming(1, world.node.height() + 200)
    pair = holding(world, condition)
    settle(world, pair)
    give(world, pair, preimage_of(1))
    world.look()
    first = claim_of(world, pair, condition)
    world.node.restart(["-persistmempool=0"])
    gone = claim_of(world, pair, condition)
    world.look()

    assert first is not None
    assert gone is None
    assert first == claim_of(world, pair, condition)
    assert 1 == len(events(world, pair, ClaimPrepared))


def test_claims_of_a_channel_without_taproot(node: RegtestNode, tmp_path: Path) -> None:
    """Profile 1: success and refund by its scripts, the counterparty's success told from its refund."""
    world = World(node, tmp_path / "segwit", profile=SEGWIT)
    height = world.node.height()
    into, out, theirs = incoming(1, height + 300), outgoing(2, height + 10), outgoing(3, height + 300, 50_000)
    pair = holding(world, into, out, theirs)
    give(world, pair, preimage_of(1))
    close(world, pair)
    child = claim_of(world, pair, into)
    mine(world)
    world.node.send_raw(pair.a.claim_success(pair.channel_id, 1, Side.A, theirs.key, preimage_of(3), 500))
    mine_to(world, height + 10)
    mine(world)

    assert child is not None
    assert [(30_000, True), (40_000, True), (50_000, False)] == sorted(taken(world, pair))
    assert [preimage_of(1), preimage_of(3)] == [event.preimage for event in events(world, pair, PreimageLearned)]
    assert frozenset() == world.channel(pair).alerts
    assert_replays(world)
    world.close()


def test_a_channel_is_resolved_behind_its_last_claim(world: World) -> None:
    """The settlement is final long before the refund is possible: the tower goes on watching until that is final."""
    expiry = world.node.height() + 150
    pair = holding(world, outgoing(1, expiry))
    settle(world, pair)
    mine_to(world, expiry)
    open_still = world.status(pair)
    mine(world)
    world.node.mine(98)
    world.look()
    before = world.status(pair)
    mine(world)

    assert ("SETTLED", "SETTLED", "RESOLVED") == (open_still, before, world.status(pair))
    assert 0 == world.models.watched_count
    assert_replays(world)
