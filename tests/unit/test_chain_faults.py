"""Steps of the chain between which something happens: failpoints, uploads, lost answers, spends."""

from __future__ import annotations

from typing import Any

import pytest

from domain.events import (
    AuditMismatch,
    SpendReplaced,
)
from tests.support.chain_faults import faults, is_walk, opened, passes
from watchtower.ports import StoreConflict, StoreError


def test_the_failpoints_of_the_chain_are_passed() -> None:
    """Every named point around fetching, parsing, committing and auditing is reached in one story."""
    world = opened()
    world.tower.audit.request()
    world.look()
    world.cheat(1)
    world.look()
    world.chain.mine()
    world.look()
    world.chain.reorg(1)
    world.look()
    world.chain.mine_many(110)
    world.look()
    world.look()

    names = ("block_fetch", "block_parse", "connect", "disconnect", "breach_commit", "confirm_commit", "resolve_commit")
    wanted = {f"{name}:{when}" for name in (*names, "audit_query") for when in ("before", "after")}
    assert set() == wanted - set(world.points)


def test_an_upload_during_the_check_of_a_funding_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The channel moved on while its lost funding was undone: it waits for the next check, and the pass goes on."""
    world = opened()
    arming = world.tower.arming

    def conflict(_channel: Any) -> bool:
        raise StoreConflict(world.stream, 3, 4)

    monkeypatch.setattr(arming, "_funding_block_stands", conflict)
    faults(world)["utxos"] = lambda outpoints, include_mempool: [None] * len(outpoints)
    arming.check([world.stream])
    still_waiting = arming.pending
    faults(world).clear()
    arming.check([])

    assert (True, False) == (still_waiting, arming.pending)


def test_a_commit_whose_answer_was_lost_is_found_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block is stored and nobody was told: the next pass stands where the log says."""
    world = opened()
    append, failures = world.store.append, iter([True])

    def stored_and_lost(job: Any, *, chain: bool = False) -> int:
        last_id = append(job, chain=chain)
        if next(failures, False):
            raise StoreError("the answer was lost")
        return last_id

    monkeypatch.setattr(world.store, "append", stored_and_lost)
    world.cheat(1)
    errors = passes(world, 1)
    world.clock.forward(1.0)
    errors += passes(world, 1)

    assert [StoreError, type(None)] == [type(error) for error in errors]
    assert is_walk(world)
    assert world.penalty(1) is not None


def test_a_spend_that_is_mined_while_the_mempool_is_asked_is_not_gone() -> None:
    """It left the mempool for a block that the cursor has not seen: absence is news only at our own tip."""
    world = opened()
    assert world.chain.send(world.pool.commitments[1]) is None
    world.look()

    def mined(outpoints: Any) -> Any:
        del faults(world)["mempool_spenders"]
        world.chain.mine()
        return world.node.mempool_spenders(outpoints)

    faults(world)["mempool_spenders"] = mined
    world.look()
    world.look()

    assert [] == world.events(SpendReplaced)
    assert world.channel.confirmed_spend is not None


def test_a_funding_that_is_spent_during_its_check_is_no_mismatch() -> None:
    """The answer is about a tip that the cursor has not seen: the channel waits, and the follower finds the spend."""
    world = opened()

    def spent(outpoints: Any, include_mempool: bool) -> Any:
        del faults(world)["utxos"]
        world.cheat(1)
        return world.node.utxos(outpoints, include_mempool)

    faults(world)["utxos"] = spent
    world.tower.arming.check([world.stream])

    assert world.tower.arming.pending
    assert [] == world.events(AuditMismatch, "chain")
    world.look()
    assert not world.tower.arming.pending
    assert [] == world.events(AuditMismatch, "chain")
