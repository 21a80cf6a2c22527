"""Half-way: power cuts at every step, a log without space, a log that is an older copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence

import pytest

from domain.events import (
    Envelope,
    PenaltyBroadcast,
    PenaltyPrepared,
    SettleBroadcast,
    SettlePrepared,
)
from domain.transaction import Transaction
from domain.units import Side
from tests.regtest.breaches import only
from tests.regtest.conftest import MakeWorld
from tests.regtest.fuses import Fuse, PowerCut
from tests.regtest.world import SWEEP, World
from tests.support.parties import Pair
from watchtower.ports import StoreBroken, StoreError, StoreFull

# ── power cuts ───────────────────────────────────────────────────────────────────────────────────────────

STEPS = (
    "block_fetch:before",
    "block_fetch:after",
    "connect:before",
    "connect:after",
    "prepare_commit:before",
    "prepare_commit:after",
    "broadcast:before",
    "broadcast:after",
    "broadcast_result_commit:before",
    "broadcast_result_commit:after",
)


@pytest.mark.parametrize("step", STEPS)
def test_scenario_B01_power_cut_on_the_way_to_the_penalty(make_world: MakeWorld, step: str) -> None:
    """Cut anywhere between block and penalty: the restart leaves one intent, one record of the answer, one penalty."""
    fuse = Fuse()
    world = make_world(failpoint=fuse)
    pair = world.open(updates=3)
    world.node.generate_block([pair.commitment(Side.A, 1)])

    fuse.armed = step
    with pytest.raises(PowerCut):
        world.look()
    world.restart()

    penalty = world.mempool_spender(world.contest(pair, 1))
    prepared, sent = only(world, pair, PenaltyPrepared), only(world, pair, PenaltyBroadcast)
    assert penalty is not None
    assert (penalty.txid, penalty.txid) == (prepared.txid, sent.txid)
    world.node.mine(1)
    world.look()
    assert world.node.height() == world.height_of(penalty.txid)
    assert world.status(pair) == "PUNISHED"


@pytest.mark.parametrize("step", ["broadcast:after", "package:before", "package:after"])
def test_scenario_B27_power_cut_while_the_package_is_sent_again(make_world: MakeWorld, step: str) -> None:
    """The commitment and the penalty were evicted; a cut on the way of the package loses neither."""
    fuse = Fuse()
    world = make_world(failpoint=fuse)
    pair = world.open(updates=3)
    world.node.send_raw(pair.commitment(Side.A, 1))
    fuse.armed = "prepare_commit:after"
    with pytest.raises(PowerCut):
        world.look()
    world.stop()
    world.node.restart(["-persistmempool=0"])

    fuse.armed = step
    with pytest.raises(PowerCut):
        world.wake()
    world.restart()

    penalty = world.mempool_spender(world.contest(pair, 1))
    assert penalty is not None
    assert (penalty.txid, penalty.txid) == (
        only(world, pair, PenaltyPrepared).txid,
        only(world, pair, PenaltyBroadcast).txid,
    )
    assert {pair.commitment_txid(Side.A, 1), penalty.txid} == world.node.mempool()


@pytest.mark.parametrize("step", ["broadcast:before", "broadcast:after"])
def test_scenario_C03_power_cut_while_settling(make_world: MakeWorld, step: str) -> None:
    """A cut around the broadcast of a settlement: after the restart it stands in the mempool and in the log, once."""
    fuse = Fuse()
    world = make_world(failpoint=fuse)
    pair = world.open(updates=3, challenge_period=3)
    world.node.generate_block([pair.commitment(Side.A, 3)])
    world.node.mine(1)
    world.look()
    world.node.mine(1)

    fuse.armed = step
    with pytest.raises(PowerCut):
        world.look()
    world.restart()

    settlement = world.mempool_spender(world.contest(pair, 3))
    assert settlement is not None
    assert Transaction.parse(pair.settlement(Side.A, 3)).txid == settlement.txid
    assert (settlement.txid, settlement.txid) == (
        only(world, pair, SettlePrepared).txid,
        only(world, pair, SettleBroadcast).txid,
    )


# ── the log ──────────────────────────────────────────────────────────────────────────────────────────────


def refuse_with(error: StoreError) -> Callable[..., int]:
    """An `append` that always fails."""

    def append(_job: Sequence[Envelope], *, chain: bool = False) -> int:
        del chain
        raise error

    return append


def stale_block(world: World, fuse: Fuse) -> Pair:
    """A breach that is in the log, not answered yet."""
    pair = world.open(updates=3)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    fuse.armed = "prepare_commit:before"
    with pytest.raises(PowerCut):
        world.look()
    return pair


def test_a_full_log_does_not_save_the_cheater(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The penalty goes out from memory, once; when there is space again it is found and recorded."""
    fuse = Fuse()
    world = make_world(failpoint=fuse)
    pair = stale_block(world, fuse)
    with monkeypatch.context() as disk:
        disk.setattr(world.store, "append", refuse_with(StoreFull("no space left")))
        reports = [world.tower.run_pass(SWEEP) for _ in range(3)]
    penalty = world.mempool_spender(world.contest(pair, 1))
    assert penalty is not None
    assert [1, 0, 0] == [report.respond.sent for report in reports]
    assert [StoreFull] * 3 == [type(report.respond.troubles[0].error) for report in reports]
    assert [] == world.events(pair, PenaltyPrepared)

    world.look()

    assert (penalty.txid, penalty.txid) == (
        only(world, pair, PenaltyPrepared).txid,
        only(world, pair, PenaltyBroadcast).txid,
    )
    world.node.mine(1)
    world.look()
    assert world.status(pair) == "PUNISHED"


def test_full_views_do_not_save_the_cheater(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The breach just fitted into the log, the read models did not: the penalty goes out, and all is told later."""
    world = make_world()
    pair = world.open(updates=3)
    world.look()
    world.node.generate_block([pair.commitment(Side.A, 1)])
    full = refuse_with(StoreFull("no space left"))
    with monkeypatch.context() as disk:
        disk.setattr(world.rows, "batch", lambda: full([]))
        reports = [world.tower.run_pass(SWEEP) for _ in range(3)]
        penalty = world.mempool_spender(world.contest(pair, 1))
    assert penalty is not None
    assert [StoreFull] * 3 == [type(report.error) for report in reports]
    assert [1, 0, 0] == [report.respond.sent for report in reports]

    world.node.mine(1)
    world.look()

    assert penalty.txid == only(world, pair, PenaltyBroadcast).txid
    assert world.status(pair) == "PUNISHED"


def test_a_full_log_stops_the_cursor_but_not_the_bids(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks come and cannot be recorded: the pass says so, and the bid still rises with the deadline."""
    world = make_world()
    pair = world.open(updates=3, challenge_period=20)
    world.node.generate_block([pair.commitment(Side.A, 1)])
    world.look()
    first = world.mempool_spender(world.contest(pair, 1))
    monkeypatch.setattr(world.store, "append", refuse_with(StoreFull("no space left")))
    for _ in range(17):
        world.node.generate_block()

    report = world.tower.run_pass(SWEEP)

    last = world.mempool_spender(world.contest(pair, 1))
    assert isinstance(report.error, StoreFull)
    assert first is not None
    assert last is not None
    assert first.outputs[0].value // 2 > last.outputs[0].value


def test_a_broken_log_ends_the_pass(make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed sync nobody knows what is durable: the error is not collected with the others."""
    fuse = Fuse()
    world = make_world(failpoint=fuse)
    stale_block(world, fuse)
    monkeypatch.setattr(world.store, "append", refuse_with(StoreBroken("failed sync")))

    with pytest.raises(StoreBroken):
        world.tower.run_pass(SWEEP)


def test_an_older_copy_of_the_log_adopts_the_higher_bid(make_world: MakeWorld) -> None:
    """Restored from a copy that knows no bid, the tower takes over its own penalty in the mempool."""
    fuse = Fuse()
    world = make_world(failpoint=fuse)
    pair = stale_block(world, fuse)
    world.stop()
    shutil.copytree(world.directory, world.directory.with_name("copy"))
    world.wake()
    for _ in range(12):
        world.node.generate_block()
        world.look()
    high = world.mempool_spender(world.contest(pair, 1))
    world.stop()
    shutil.rmtree(world.directory)
    world.directory.with_name("copy").rename(world.directory)

    world.wake()

    assert high is not None
    assert high == world.mempool_spender(world.contest(pair, 1))
    assert high.txid == only(world, pair, PenaltyPrepared).txid
