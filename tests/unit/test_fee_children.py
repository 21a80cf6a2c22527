"""Fee children over a made-up mempool: what is stored first, what fails and goes on, when it is looked at."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from domain.fees import Market
from tests.support.fee_stage import Away, Pool, Stage, There
from tests.support.parties import open_pair
from tests.support.sdk import Killed, MemoryWallet
from tests.support.towers import CoinNode
from watchtower.client.errors import ConfigurationError
from watchtower.client.fee_children import FeeChildPolicy, FeeChildren


@pytest.mark.parametrize("left", [1, 2])
def test_a_crash_at_the_store_sends_nothing_that_is_not_durable(left: int) -> None:
    """Before the write nothing is known, sent or locked; behind it the same bytes are sent after the restart."""
    stage = Stage()
    stage.fuse.left = left

    with pytest.raises(Killed):
        stage.look()
    sent, locked = dict(stage.pool.raws), set(stage.pool.locked)
    stage.revive()
    stored = stage.party.fee_children()
    child = stage.look()

    assert ({}, {each.coin for each in stored}, left - 1) == (sent, locked, len(stored))
    assert child is not None
    assert stored in ((), (child,))
    assert child.tx.txid in stage.pool.raws


def test_a_pair_enters_together_and_stays() -> None:
    """The package is sent once; while it stands and is dear enough, nothing is made, sent or locked."""
    stage = Stage()
    made = [stage.look(height) for height in (100, 101, 102)]

    assert made[0] is not None
    assert made[:1] * 3 == made
    assert 2 == len(stage.pool.raws)
    assert {made[0].coin} == stage.pool.locked
    assert pytest.approx(20, abs=0.1) == made[0].feerate_kvb / 1000


def test_a_refused_child_pays_a_step_more_next_time() -> None:
    """Too low, says the node, and nobody is seen who pays more: the next block raises the bid, once."""
    stage = Stage()
    stage.pool.refuses = 1
    first = stage.look()
    trouble = stage.trouble
    stage.pool.refuses = 2
    same = [stage.look(), stage.look()]
    second = stage.look(101)

    assert first is not None
    assert second is not None
    assert ("insufficient fee", None, [first, first]) == (trouble, stage.trouble, same)
    assert first.fee + first.fee // 10 <= second.fee <= first.fee + first.fee // 10 + 1
    assert second.tx.txid in stage.pool.raws


def test_an_answer_that_is_lost_changes_nothing() -> None:
    """The node took the pair and nobody heard it: the next look finds it there, and makes nothing new."""
    stage = Stage()
    stage.pool.loses = 1
    first = stage.look()
    trouble = stage.trouble
    second = stage.look()

    assert first is not None
    assert ("lost", None, first) == (trouble, stage.trouble, second)
    assert {first.parent_txid, first.tx.txid} == set(stage.pool.raws)


def test_a_mistake_about_one_close_does_not_keep_the_others() -> None:
    """It is raised where the task logs it, behind those that can be paid for."""
    stage = Stage()
    (good,) = stage.party.fee_parents(100)
    bad = replace(good, channel_id=bytes(32), txid=bytes(32))
    stage.pool.broken.add(bad.txid)

    with pytest.raises(ZeroDivisionError):
        stage.fees.look(stage.pool, (bad, good), 100)
    assert 2 == len(stage.pool.raws)
    assert "ZeroDivisionError" == stage.fees.trouble[bad.channel_id]


def test_the_limit_is_told() -> None:
    """Nothing above `max_fee` is signed; what is bid at the limit goes out, and the owner reads why it is no more."""
    stage = Stage()
    stage.fees = FeeChildren(Away(), stage.party, lambda: stage.pool, FeeChildPolicy(max_fee=3_000))
    child = stage.look()

    assert child is not None
    assert 3_000 == child.fee
    assert "would need more than 3000 sat" in (stage.trouble or "")
    with pytest.raises(ConfigurationError, match="at least 0 sat"):
        FeeChildPolicy(max_fee=-1)


def test_a_larger_child_pays_for_its_size() -> None:
    """A coin with a longer witness: the child is made once more, so that the pair pays the estimate all the same."""
    stage = Stage()
    stage.pool.witness = (bytes(72),) * 3 + (bytes(105),)
    child = stage.look()

    assert child is not None
    assert child.tx.vsize > 190
    assert pytest.approx(20, abs=0.1) == child.feerate_kvb / 1000


@pytest.mark.asyncio
async def test_the_tower_has_the_state_before_a_mempool_has_its_commitment() -> None:
    """A height is looked at once, trouble again; and what is unseen is brought to the tower first."""
    stage = Stage()
    tower = There(100, stage.pool)
    fees = FeeChildren(tower, stage.party, lambda: stage.pool)
    stage.pool.refuses = 1
    for _ in range(4):
        await fees.turn()
    tower.height = 101
    await fees.turn()

    assert ["state", "0 sent", "state", "0 sent", "state", "state", "state", "2 sent"] == tower.asked
    assert 2 == len(stage.pool.raws)


@pytest.mark.asyncio
async def test_a_tower_that_takes_nothing_keeps_no_child_back() -> None:
    """It told the height and refuses the state: the close is in the mempool soon, and must not wait for that."""
    stage = Stage()
    tower = There(100, stage.pool)
    tower.synchronize = Away().synchronize  # type: ignore[method-assign]
    await FeeChildren(tower, stage.party, lambda: stage.pool).turn()

    assert 2 == len(stage.pool.raws)


@pytest.mark.asyncio
async def test_a_limit_that_is_reached_waits_for_the_next_block() -> None:
    """It is no failure: asking again after five seconds changes nothing, and costs every close some requests."""
    stage = Stage()
    tower = There(100, stage.pool)
    fees = FeeChildren(tower, stage.party, lambda: stage.pool, FeeChildPolicy(max_fee=10))
    for _ in range(3):
        await fees.turn()
    tower.height = 101
    await fees.turn()

    assert ["state", "0 sent", "state", "state", "state", "0 sent"] == tower.asked
    assert "more than 10 sat" in (fees.told(stage.name).trouble or "")


@pytest.mark.asyncio
async def test_a_look_ends_with_its_session() -> None:
    """Cancelled while the wallet is slow to answer about the first of two closes: nothing is sent for the second."""
    stage, asked, answer = Stage(), threading.Event(), threading.Event()
    second = open_pair(parties=stage.pair.parties, challenge_period=6)
    second.update()
    stage.party.sign_commitment(second.channel_id, 1)
    stage.pool.chain.add(second.params.funding_outpoint)
    market = stage.pool.market

    def slow(targets: Sequence[int]) -> Market:
        asked.set()
        answer.wait(30)
        return market(targets)

    stage.pool.market = slow  # type: ignore[method-assign]
    fees = FeeChildren(There(100, stage.pool), stage.party, lambda: stage.pool, retry_seconds=0)
    running = asyncio.create_task(fees.run())
    await asyncio.to_thread(asked.wait, 30)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    answer.set()
    with fees._looking:
        sent = len(stage.pool.raws)

    assert (2, 2) == (sent, len(stage.party.fee_parents(100)))


@pytest.mark.parametrize("wallet", [None, MemoryWallet(CoinNode())], ids=["none", "without a market"])
@pytest.mark.asyncio
async def test_without_a_wallet_that_knows_the_market_nothing_is_asked(wallet: MemoryWallet | None) -> None:
    """Nobody asks the tower, and nothing is logged: it is as if there were no fee children."""
    stage, tower = Stage(), Away()
    await FeeChildren(tower, stage.party, lambda: wallet).turn()

    assert [] == tower.asked


@pytest.mark.asyncio
async def test_the_task_ends_at_once_if_nothing_is_to_be_attached() -> None:
    """Switched off by its owner."""
    stage, tower = Stage(), Away()
    await FeeChildren(tower, stage.party, lambda: stage.pool, FeeChildPolicy(attach=False)).run()

    assert [] == tower.asked


@pytest.mark.asyncio
async def test_a_mistake_in_one_look_does_not_end_the_task(caplog: pytest.LogCaptureFixture) -> None:
    """Logged as an error with its trace, and the next look is made as if nothing had been."""
    stage = Stage()
    sent = asyncio.Event()

    def wallet() -> Pool:
        if not caplog.records:
            raise ZeroDivisionError
        if stage.pool.raws:
            sent.set()
        return stage.pool

    fees = FeeChildren(There(100, stage.pool), stage.party, wallet, retry_seconds=0)
    running = asyncio.create_task(fees.run())
    await asyncio.wait_for(sent.wait(), 30)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert ["fee_child_failed about=all reason=ZeroDivisionError"] == [
        record.getMessage() for record in caplog.records if record.levelname == "ERROR"
    ]
    assert 2 == len(stage.pool.raws)
