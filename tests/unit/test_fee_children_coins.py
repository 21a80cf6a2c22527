"""Coins of fee children: locked while a child may be sent, never those of an opening, and given back on every path."""

from __future__ import annotations

import pytest

from tests.support.fee_stage import Stage, opened_from
from tests.support.parties import open_pair


def test_a_better_child_takes_the_coin_and_the_change_of_the_first() -> None:
    """The market rises: one coin, one lock, one child in the mempool."""
    stage = Stage()
    first = stage.look()
    stage.pool.rate = 40.0
    second = stage.look(101)

    assert first is not None
    assert second is not None
    assert (first.coin, first.tx.outputs[0].spk) == (second.coin, second.tx.outputs[0].spk)
    assert first.fee < second.fee
    assert {second.parent_txid, second.tx.txid} == set(stage.pool.raws)
    assert {second.coin} == stage.pool.locked


def test_a_coin_that_is_gone_is_replaced() -> None:
    """Evicted, and the coin was spent elsewhere meanwhile: the same fee from another coin, the lock is given back."""
    stage = Stage()
    first = stage.look()
    assert first is not None
    del stage.pool.raws[first.tx.txid]
    stage.pool.chain.discard(first.coin)
    second = stage.look(101)

    assert second is not None
    assert (first.fee, True) == (second.fee, first.coin != second.coin)
    assert {second.coin} == stage.pool.locked


def test_a_coin_is_free_once_the_parent_is_mined_without_its_child() -> None:
    """Mined alone: the lock goes, and not before; nothing more is sent."""
    stage = Stage()
    child = stage.look()
    assert child is not None
    del stage.pool.raws[child.tx.txid]
    locked = set(stage.pool.locked)
    stage.pool.chain.discard(stage.pair.params.funding_outpoint)
    stage.look(101)

    assert ({child.coin}, set()) == (locked, stage.pool.locked)
    assert child.tx.txid not in stage.pool.raws


def test_a_mined_child_keeps_what_it_spent() -> None:
    """Its coin is spent: there is nothing to unlock, nothing to send, and nothing to complain about."""
    stage = Stage()
    child = stage.look()
    assert child is not None
    stage.pool.raws.clear()
    stage.pool.parents.clear()
    stage.pool.chain -= {stage.pair.params.funding_outpoint, child.coin}
    again = stage.look(101)

    assert (child, {}, None) == (again, stage.pool.raws, stage.trouble)


def test_a_lock_that_the_node_forgot_is_made_again() -> None:
    """A restarted node would give the coin of a child that waits to an opening."""
    stage = Stage()
    child = stage.look()
    assert child is not None
    stage.pool.locked.clear()
    stage.look(101)

    assert {child.coin} == stage.pool.locked


def test_a_coin_that_funds_a_channel_by_now_pays_for_no_child() -> None:
    """The child never got in, its coin was given to an opening: another one pays, and the opening keeps its lock."""
    stage = Stage()
    first = stage.look()
    assert first is not None
    del stage.pool.raws[first.tx.txid]
    opened_from(stage, first.coin)
    again = stage.look(101)

    assert again is not None
    assert (True, first.fee) == (first.coin != again.coin, again.fee)
    assert {first.coin, again.coin} == stage.pool.locked


def test_the_lock_of_an_opening_outlives_the_child_that_had_the_coin_before() -> None:
    """Mined without its child, then the coin went to an opening: a restart of the party must not unlock it."""
    stage = Stage()
    child = stage.look()
    assert child is not None
    del stage.pool.raws[child.tx.txid]
    stage.pool.chain.discard(stage.pair.params.funding_outpoint)
    opened_from(stage, child.coin)
    opening = stage.party._channels["other"]
    stage.revive()
    stage.party._channels["other"] = opening
    stage.look(101)

    assert {child.coin} == stage.pool.locked


def test_a_coin_that_a_reorganization_unconfirmed_pays_for_no_child() -> None:
    """A version-3 child has one unconfirmed parent: the coin of the child that was lost would be a second one."""
    stage = Stage()
    first = stage.look()
    assert first is not None
    del stage.pool.raws[first.tx.txid]
    stage.pool.chain.discard(first.coin)
    stage.pool.unconfirmed.add(first.coin)
    second = stage.look(101)

    assert second is not None
    assert (True, first.fee) == (first.coin != second.coin, second.fee)


@pytest.mark.parametrize("coins", [1, 2])
def test_a_coin_that_is_too_small_for_the_larger_child_is_given_back(coins: int) -> None:
    """Made once more for its size, from another coin or from none: the first lock would else stay for good."""
    stage = Stage()
    stage.pool.witness = (bytes(72),) * 3 + (bytes(105),)
    del stage.pool.coins[coins:]
    small, large = stage.pool.coins[0], stage.pool.coins[1:]
    stage.pool.limits[small] = 6_100
    child = stage.look()

    assert set(large) == stage.pool.locked
    assert len(large) == (child is not None)
    assert (stage.trouble is None) == (child is not None)


def test_a_parent_that_cannot_be_made_locks_no_coin() -> None:
    """The log turns out to be an old copy between two looks: nothing is signed, stored or locked."""
    stage = Stage()
    parents = stage.party.fee_parents(100)
    stage.party.note_restored()
    stage.fees.look(stage.pool, parents, 100)

    assert "old copy" in (stage.trouble or "")
    assert ((), set(), {}) == (stage.party.fee_children(), stage.pool.locked, stage.pool.raws)


def test_after_a_reorganization_a_child_leaves_its_coin_to_whoever_has_it_now() -> None:
    """Its coin was free and pays for another close: that keeps it, and this one gets a child from another coin."""
    stage = Stage()
    second = open_pair(parties=stage.pair.parties, challenge_period=6)
    second.update()
    funding = stage.pair.params.funding_outpoint
    first = stage.look()
    assert first is not None
    del stage.pool.raws[first.tx.txid]
    stage.pool.chain.discard(funding)
    stage.look(101)
    stage.party.sign_commitment(second.channel_id, 1)
    stage.pool.chain.add(second.params.funding_outpoint)
    other = stage.look(101)
    assert other is not None
    del stage.pool.raws[other.tx.txid]
    stage.pool.chain.add(funding)
    stage.look(102)
    coins = {each.parent_txid: each.coin for each in stage.party.fee_children()}

    assert (first.coin, first.coin) == (other.coin, coins[other.parent_txid])
    assert 2 == len(set(coins.values()))
    assert set(coins.values()) == stage.pool.locked


def test_a_child_that_is_sent_again_after_a_reorganization_locks_its_coin_again() -> None:
    """Free while the parent was in a block, locked while it waits, and free again behind the next block."""
    stage = Stage()
    funding = stage.pair.params.funding_outpoint
    child = stage.look()
    assert child is not None
    del stage.pool.raws[child.tx.txid]
    locked = []
    for height, mined in ((101, True), (101, False), (102, True)):
        (stage.pool.chain.discard if mined else stage.pool.chain.add)(funding)
        stage.look(height)
        locked.append(set(stage.pool.locked))
        stage.pool.raws.pop(child.tx.txid, None)

    assert [set(), {child.coin}, set()] == locked
