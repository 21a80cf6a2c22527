"""The audit of outpoints against the model chain: what a scanner missed, lies of a node, searches that take long."""

from __future__ import annotations

from typing import Any

import pytest

from domain.chain import BlockHash, OutPoint
from domain.events import (
    AuditMismatch,
    BreachDetected,
)
from tests.support.chain_faults import faults, opened, passes
from tests.support.small_world import SWEEP, SmallWorld
from watchtower.chain import audit
from watchtower.ports import NodeError, NodeUnavailable
from watchtower.tower import Hints


def scan_over(world: SmallWorld, height: int) -> None:
    """A scanner that sees nothing in the block at this height: it is connected, what is in it is lost."""
    fetch = world.tower.follower._fetch
    read = fetch.read

    def reads_nothing(scan: Any, raw: bytes, block: Any, source: Any) -> Any:
        header, facts, seen = read(scan, raw, block, source)
        if block.height == height:
            facts._new.clear()
        return header, facts, seen

    fetch.read = reads_nothing  # type: ignore[method-assign]


def test_the_audit_finds_what_the_scanner_missed() -> None:
    """A breach that was scanned over is found within six blocks, by its computed commitment, and punished."""
    world = opened()
    world.cheat(2)
    breach = world.chain.height
    scan_over(world, breach)
    world.look()
    assert world.channel.confirmed_spend is None
    for _ in range(6):
        world.chain.mine(empty=True)
        world.look()
    world.look()

    (mismatch,) = world.events(AuditMismatch, "chain")
    assert OutPoint(world.pool.params.funding_outpoint) == mismatch.outpoint
    (found,) = world.events(BreachDetected)
    assert breach == found.block.height
    assert found.deadline == breach + world.pool.period - 1
    assert world.penalty(2) is not None
    world.look()
    assert 0 == world.tower.audit.report.disagreeing


def test_the_audit_reads_blocks_for_what_cannot_be_computed() -> None:
    """A cooperative close that was scanned over: no computed txid fits, the node's own reading of the blocks does."""
    world = opened()
    world.chain.mine([world.pool.coop])
    missed = world.chain.height
    scan_over(world, missed)
    world.look()
    for _ in range(6):
        world.chain.mine(empty=True)
        world.look()
    for _ in range(6):
        world.look()

    spend = world.channel.confirmed_spend
    assert spend is not None
    assert spend.block is not None
    assert missed == spend.block.height
    assert 0 == world.tower.audit.report.disagreeing
    assert not world.tower.audit.pending


def test_a_search_in_unreadable_blocks_stops_nothing() -> None:
    """The missed close cannot be read again: the channel stays a suspect, passes go on without an error."""
    world = opened()
    world.chain.mine([world.pool.coop])
    scan_over(world, world.chain.height)
    world.look()

    def unreadable(_block_hash: bytes) -> Any:
        raise NodeError("getblock: the reply cannot be read")

    faults(world)["decoded_block"] = unreadable
    for _ in range(6):
        world.chain.mine(empty=True)
        world.look()
    assert [None] * 8 == passes(world, 8)

    assert 1 == world.tower.audit.report.disagreeing
    assert not world.tower.audit.pending


def test_a_reorg_makes_old_agreement_worthless() -> None:
    """Everything was compared at a block that was replaced: what its successor hides is searched for there too."""
    world = opened()
    world.chain.mine(empty=True)
    world.look()
    world.tower.audit.request()
    world.look()
    height = world.chain.height
    scan_over(world, height)

    world.chain.reorg(1, [[world.pool.coop], []])
    for _ in range(6):
        world.look()
        world.chain.mine(empty=True)
    for _ in range(6):
        world.look()

    spend = world.channel.confirmed_spend
    assert spend is not None
    assert spend.block is not None
    assert height == spend.block.height


def test_a_search_that_got_no_answer_asks_the_same_again() -> None:
    """The node fails when the computed commitments are asked for, and cannot read blocks: they are asked for again."""
    world = opened()
    world.cheat(2)
    scan_over(world, world.chain.height)
    world.look()

    def unreadable(_block_hash: bytes) -> Any:
        raise NodeError("getblock: the reply cannot be read")

    def refuse_candidates(outpoints: Any, include_mempool: bool) -> Any:
        if OutPoint(world.pool.params.funding_outpoint) not in outpoints:
            raise NodeUnavailable("gettxout: no answer")
        return world.node.utxos(outpoints, include_mempool)

    faults(world).update(decoded_block=unreadable, utxos=refuse_candidates)
    world.tower.audit.request()
    passes(world, 3)
    assert [] == world.events(BreachDetected)
    del faults(world)["utxos"]
    passes(world, 3)

    assert 1 == len(world.events(BreachDetected))


def test_many_suspects_do_not_make_a_pass_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step carries on a few searches, and every search has its turn."""
    world = opened()
    audited, searched = world.tower.audit, list[str]()
    names = [f"c{number}" for number in range(3 * audit.SEARCHES)]
    for name in names:
        audited._suspects[name] = audit._Suspect(world.channel, world.chain.height)

    def search(stream: str) -> None:
        searched.append(stream)
        del audited._suspects[stream]

    monkeypatch.setattr(audited, "_ask_suspects", lambda _tip: True)
    monkeypatch.setattr(audited, "_search", search)
    counts = []
    while audited._suspects:
        audited.step()
        counts.append(len(searched))

    assert [audit.SEARCHES, 2 * audit.SEARCHES, 3 * audit.SEARCHES] == counts
    assert names == searched


def test_a_sweep_that_failed_is_made_up_for() -> None:
    """A gap was heard while the node was away: the pass after it sweeps although nothing rang for that any more."""
    world = opened()
    assert world.chain.send(world.pool.commitments[1]) is None

    def away() -> BlockHash:
        raise NodeUnavailable("connection refused")

    faults(world)["best_hash"] = away
    world.tower.run_pass(SWEEP)
    faults(world).clear()
    world.tower.run_pass(Hints())

    assert world.channel.mempool_spend is not None


def test_a_quiet_tower_audits_every_six_blocks_and_writes_nothing() -> None:
    """Agreement leaves no event; a round is due after six blocks, not before."""
    world = opened()
    rounds = world.tower.audit.report.rounds
    for _ in range(12):
        world.chain.mine()
        world.look()

    assert 2 == world.tower.audit.report.rounds - rounds
    assert [] == world.events(AuditMismatch, "chain")


def test_an_answer_about_another_tip_counts_for_nothing() -> None:
    """The chain moves during the audit's question: it is asked again, nobody is suspected."""
    world = opened()
    world.tower.audit.request()

    def moving(outpoints: Any, include_mempool: bool) -> Any:
        world.chain.mine(empty=True)
        return [None] * len(outpoints)

    faults(world)["utxos"] = moving
    assert not world.tower.audit.step()
    faults(world).clear()
    world.look()

    assert 0 == world.tower.audit.report.disagreeing
    assert [] == world.events(AuditMismatch, "chain")


def test_a_node_that_lies_for_a_while_is_a_reason_that_ends() -> None:
    """An output that seems gone and cannot be explained is a mismatch once; it ends when the node agrees again."""
    world = opened()
    world.tower.audit.request()
    faults(world)["utxos"] = lambda outpoints, include_mempool: [None] * len(outpoints)
    for _ in range(8):
        world.look()
    assert 1 == world.tower.audit.report.disagreeing
    assert 1 == len(world.events(AuditMismatch, "chain"))
    assert not world.tower.audit.pending

    faults(world).clear()
    world.look()
    assert 0 == world.tower.audit.report.disagreeing
    assert 1 == len(world.events(AuditMismatch, "chain"))


def test_the_pass_that_catches_up_after_a_start_compares_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many blocks were missed: nobody is told that the tower watches before the whole round."""
    monkeypatch.setattr(audit, "SLICE", 1)
    world = opened(blocks_per_pass=10)
    world.chain.mine_many(15)

    behind = world.restart()
    caught_up = world.look()

    assert (0, 1) == (behind.audit.rounds, caught_up.audit.rounds)
    assert (True, False) == (behind.follow.moved_again, caught_up.follow.moved_again)


def test_a_start_at_a_moving_tip_compares_everything_in_the_next_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block arrives while the first round is asked for: nothing was compared, so the start is not over."""
    monkeypatch.setattr(audit, "SLICE", 1)
    world = opened()

    def moving(outpoints: Any, include_mempool: bool) -> Any:
        del faults(world)["utxos"]
        world.chain.mine(empty=True)
        return world.node.utxos(outpoints, include_mempool)

    faults(world)["utxos"] = moving
    moved = world.restart()
    settled = world.look()

    assert (0, 1) == (moved.audit.rounds, settled.audit.rounds)
